"""URIs of resources here and elsewhere: `coap`, `coaps`, `http`, `https`, taken apart and put together (RFC 3986, RFC 7252 section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote, unquote_to_bytes, urlsplit

from m2mapp.model.errors import Malformed, TooLarge
from m2mapp.model.identifiers import Path

DEFAULT_PORTS = {"coap": 5683, "coaps": 5684, "http": 80, "https": 443}
MAX_URI_BYTES = 1024
MAX_PORT = 65535
_EXPECTED = "a URI such as coap://d1.example.org/temp"


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
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Host and port as a URI has them; the scheme's default port is left out."""
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def text(self) -> str:
        """The URI as text."""
        query = "&".join(_pair(name, value) for name, value in self.query)
        return f"{self.scheme}://{self.authority}{path_uri(self.path)}" + (f"?{query}" if query else "")


def parse_uri(text: object, field: str = "uri") -> Uri:
    """A URI from its text. Raises `Malformed` or `TooLarge`, naming `field`; a fragment or user information is refused."""
    if not isinstance(text, str) or not text.isprintable() or " " in text:
        raise Malformed(field, text, _EXPECTED)
    if len(text) > MAX_URI_BYTES:
        raise TooLarge(field, MAX_URI_BYTES, "characters a URI")
    try:
        parts = urlsplit(text.replace("%25", "%") if "://[fe80" in text.lower() else text)
        port = parts.port
        host = (parts.hostname or "").lower()
    except ValueError as error:
        raise Malformed(field, text, f"{_EXPECTED} ({error})") from error
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise Malformed(field, text, f"a URI with one of the schemes {', '.join(DEFAULT_PORTS)}")
    if not host or parts.fragment or "@" in parts.netloc or port == 0:
        raise Malformed(field, text, f"{_EXPECTED}: a host, no user, no fragment, a port from 1 to {MAX_PORT}")
    path = tuple(_decoded(segment, field, text) for segment in parts.path.strip("/").split("/")) if parts.path.strip("/") else ()
    if any(segment in ("", ".", "..") for segment in path):
        raise Malformed(field, text, "a URI whose path has no empty segment, '.' or '..'")
    return Uri(scheme, address_key(host), port or DEFAULT_PORTS[scheme], path, parse_query(parts.query, field))


def parse_query(text: str, field: str = "query") -> tuple[tuple[str, str], ...]:
    """The decoded pairs of a query in their order. Raises `Malformed`."""
    pairs = []
    for part in text.split("&") if text else ():
        name, _, value = part.partition("=")
        pairs.append((_decoded(name, field, part), _decoded(value, field, part)))
    return tuple(pairs)


def path_uri(path: Path) -> str:
    """A path percent-encoded as a URI has it; the root is `/`."""
    return "/" + "/".join(quote(segment, safe="!$&'()*+,;=:@-._~") for segment in path)


def address_key(address: str) -> str:
    """An address as text in its one canonical form, to compare addresses by; text that is no address comes back in lower case."""
    try:
        return str(ip_address(address))
    except ValueError:
        return address.lower()


def _decoded(text: str, field: str, whole: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise Malformed(field, whole, "percent-encoded UTF-8") from error


def _pair(name: str, value: str) -> str:
    safe = "!$'()*,;:@-._~/?"
    return quote(name, safe=safe) + (f"={quote(value, safe=safe)}" if value else "")
