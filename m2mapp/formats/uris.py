"""URIs of resources here and elsewhere: `coap`, `coaps`, `http`, `https`, taken apart and put together (RFC 3986, RFC 7252 section 6).

Responsible for what such a URI may be. Not responsible for whose it is, nor for where its host is found (`clients.names`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote, unquote_to_bytes

from m2mapp.formats.shapes import Wrong, host
from m2mapp.model.errors import Malformed, TooLarge
from m2mapp.model.identifiers import Path

DEFAULT_PORTS = {"coap": 5683, "coaps": 5684, "http": 80, "https": 443}
MAX_URI_BYTES = 1024
MAX_PART_BYTES = 255
"""The longest path segment and query argument: what one CoAP option carries (RFC 7252, section 5.10)."""
MAX_PORT = 65535
SEGMENT_SAFE = "!$&'()*+,;=:@-._~"
QUERY_SAFE = "!$'()*,;:@-._~/?"
"""What stands for itself in a path segment (RFC 3986, section 3.3), and in the name or value of a query argument (section 3.4)."""
_EXPECTED = "a URI such as coap://d1.example.org/temp"
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?")
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[^\]@]+)\]|(?P<name>[^\[\]:@]+))(?::(?P<port>[0-9]{0,5}))?")
_PLAIN = re.compile(r"(coap|http)://([a-z0-9][a-z0-9.-]{0,252})(?::([1-9][0-9]{0,4}))?((?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,16})")
"""What most URIs are: nothing in them needs a second look but the host, and the size of the port and the path."""
_REMEMBERED_HOSTS = 16_384


@dataclass(frozen=True, slots=True)
class Uri:
    """A URI taken apart. `host` is in lower case; an address is in its canonical form, without brackets, with its zone."""

    scheme: str
    host: str
    port: int
    path: Path
    query: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The IP address, where the host is one."""
        # An address ends with a digit or has a colon: most names are told apart without an exception.
        if not self.host[-1:].isdecimal() and ":" not in self.host:
            return None
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Host and port as a URI has them; the scheme's default port is left out."""
        name = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return name if self.port == DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"

    def text(self) -> str:
        """The URI as text."""
        query = "&".join(_pair(name, value) for name, value in self.query)
        return f"{self.scheme}://{self.authority}{path_uri(self.path)}" + (f"?{query}" if query else "")


def parse_uri(text: object, field: str = "uri") -> Uri:
    """A URI from its text. Raises `Malformed` or `TooLarge`, naming `field`.

    Refused are user information, a fragment, and a path that the tree could not have: with an empty segment but the last, with `.` or
    `..`, with a segment that is not printable or has a `/`.
    """
    plain = _PLAIN.fullmatch(text) if isinstance(text, str) else None
    if plain is not None and len(plain[4]) <= MAX_PART_BYTES:
        found = _plain(plain)
        if found is not None:
            return found
    if not isinstance(text, str) or not text.isprintable() or " " in text:
        raise Malformed(field, text, _EXPECTED)
    if len(text) > MAX_URI_BYTES:
        raise TooLarge(field, MAX_URI_BYTES, "characters a URI")
    match = _URI.fullmatch(text)
    scheme = match["scheme"].lower() if match is not None else ""
    if match is None:
        raise Malformed(field, text, f"{_EXPECTED}, without a fragment")
    if scheme not in DEFAULT_PORTS:
        raise Malformed(field, text, f"a URI with one of the schemes {', '.join(DEFAULT_PORTS)}")
    name, port = _authority(match["authority"], field, text)
    query = parse_query(match["query"], field) if match["query"] else ()
    return Uri(scheme, name, port or DEFAULT_PORTS[scheme], _path(match["path"], field, text), query)


def parse_query(text: str, field: str = "query") -> tuple[tuple[str, str], ...]:
    """The decoded pairs of a query in their order. Raises `Malformed`."""
    pairs = []
    for part in text.split("&") if text else ():
        name, _, value = part.partition("=")
        pairs.append((decoded(name, field, part), decoded(value, field, part)))
        if len(part) > MAX_PART_BYTES and len(unquote_to_bytes(part)) > MAX_PART_BYTES:
            raise TooLarge(field, MAX_PART_BYTES, "bytes a query argument")
    return tuple(pairs)


def decoded(text: str, field: str, whole: str) -> str:
    """Text without its percent-encoding. Raises `Malformed`, naming `field` and showing the `whole`, where it is not UTF-8."""
    if "%" not in text:
        return text
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise Malformed(field, whole, "percent-encoded UTF-8") from error


def path_uri(path: Path) -> str:
    """A path percent-encoded as a URI has it; the root is `/`."""
    return "/" + "/".join([segment if segment.isalnum() and segment.isascii() else _quoted(segment) for segment in path])


def address_key(address: str) -> str:
    """An address as text in its one canonical form, to compare addresses by; text that is no address comes back in lower case."""
    try:
        return str(ip_address(address))
    except ValueError:
        return address.lower()


def _plain(match: re.Match[str]) -> Uri | None:
    """The URI of a plain text, or None where it is none after all: then the long way says why."""
    scheme, name, port, path = match.groups()
    number = int(port) if port else DEFAULT_PORTS[scheme]
    try:
        return Uri(scheme, _host(name), number, tuple(path[1:].split("/"))) if number <= MAX_PORT else None
    except ValueError:
        return None


def _authority(text: str, field: str, whole: str) -> tuple[str, int | None]:
    """Host and port; None: the scheme's."""
    match = _AUTHORITY.fullmatch(text)
    port = int(match["port"]) if match is not None and match["port"] else None
    if match is None or (port is not None and not 1 <= port <= MAX_PORT):
        raise Malformed(field, whole, f"{_EXPECTED}: a host, no user, a port from 1 to {MAX_PORT}")
    try:
        # A zone stands behind %25 (RFC 6874); a bare % is what people type.
        return (_ipv6(match["v6"].replace("%25", "%", 1)) if match["v6"] else _host(match["name"])), port
    except ValueError as error:
        raise Malformed(field, whole, f"a URI whose host is a name, or an address (IPv6 in brackets): {error}") from error


def _ipv6(text: str) -> str:
    address = ip_address(text)
    if not isinstance(address, IPv6Address):
        raise ValueError(f"{text} in brackets is not an IPv6 address")
    return str(address)


@lru_cache(_REMEMBERED_HOSTS)
def _host(text: str) -> str:
    """A name in lower case, or an IPv4 address. Raises `ValueError`."""
    try:
        name = host(text)
    except Wrong as wrong:
        raise ValueError(f"{text!r} is not {wrong.expected}") from wrong
    if name.rpartition(".")[2].isdecimal():
        return str(IPv4Address(name))  # What ends with a number is an address (RFC 1123, section 2.1).
    return name


def _path(text: str, field: str, whole: str) -> Path:
    if text in ("", "/"):
        return ()
    segments = text[1:].removesuffix("/").split("/")
    if "%" in text:
        segments = [decoded(segment, field, whole) for segment in segments]
    for segment in segments:
        if segment in ("", ".", "..") or "/" in segment or not segment.isprintable():
            raise Malformed(field, whole, "a URI whose path has no empty segment, '.', '..', '/' within one, or control character")
        if len(segment) > MAX_PART_BYTES // 4 and len(segment.encode()) > MAX_PART_BYTES:
            raise TooLarge(field, MAX_PART_BYTES, "bytes a path segment")
    return tuple(segments)


def _quoted(text: str) -> str:
    return quote(text, safe=SEGMENT_SAFE)


def _pair(name: str, value: str) -> str:
    return quote(name, safe=QUERY_SAFE) + (f"={quote(value, safe=QUERY_SAFE)}" if value else "")
