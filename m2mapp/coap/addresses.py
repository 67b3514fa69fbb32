"""Addresses and `coap` URIs: sources as text, and what a URI says about where a request goes and what it asks (RFC 7252, section 6).

Responsible for IP literals. Not responsible for names: whoever looks them up hands over the address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final, TypeGuard
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit

from m2mapp.coap import things
from m2mapp.coap.message import uint
from m2mapp.model.errors import Malformed, PeerFailed
from m2mapp.net.interfaces import Sockaddr

_LARGEST_PORT: Final = 65535
_LONGEST_SEGMENT: Final = 255


def source_text(source: Sockaddr, names: Mapping[int, str]) -> str:
    """The address of a source as text, with its zone where it has one: by the name in `names`, else by its index."""
    if is_ipv6(source) and source[3]:
        return f"{source[0]}%{names.get(source[3], source[3])}"
    return source[0]


def is_ipv6(address: Sockaddr) -> TypeGuard[tuple[str, int, int, int]]:
    """Whether it is an IPv6 address."""
    return len(address) == 4  # noqa: PLR2004 - host, port, flow, interface


def canonical(remote: Sockaddr) -> Sockaddr:
    """The address as the kernel writes it, so that answers from there are recognised. Raises `Malformed` for no IP address."""
    try:
        host = ip_address(remote[0])
    except ValueError:
        raise Malformed("address", remote[0], "an IP address") from None
    if isinstance(host, IPv6Address):
        return str(host), remote[1], 0, remote[3] if is_ipv6(remote) else 0
    return str(host), remote[1]


@dataclass(frozen=True, slots=True)
class Target:
    """What a `coap` URI says: host (an IP literal or a name), zone (empty: none), port, path segments and query arguments as bytes."""

    host: str
    zone: str
    port: int
    path: tuple[bytes, ...]
    query: tuple[bytes, ...]

    @property
    def address(self) -> str | None:
        """The host if it is an IP literal."""
        try:
            return str(ip_address(self.host))
        except ValueError:
            return None

    def options(self, remote: Sockaddr) -> list[tuple[int, bytes]]:
        """Uri-Host for a name, Uri-Port for another port than the request goes to, Uri-Path, Uri-Query (RFC 7252, section 6.4)."""
        options: list[tuple[int, bytes]] = []
        if self.address is None:
            options.append((things.URI_HOST, self.host.encode()))
        if self.port != remote[1]:
            options.append((things.URI_PORT, uint(self.port)))
        options += [(things.URI_PATH, segment) for segment in self.path]
        options += [(things.URI_QUERY, argument) for argument in self.query]
        return options


def parse_uri(uri: str) -> Target:
    """Take a `coap` URI apart (RFC 7252, section 6.4; RFC 6874 for zones). Raises `Malformed`, naming what is wrong."""
    try:
        parts = urlsplit(uri)
        port = things.COAP_PORT if parts.port is None else parts.port
        host = unquote(parts.hostname or "", errors="strict")
    except ValueError as error:
        raise Malformed("uri", uri, f"a coap URI ({error})") from None
    _check_parts(uri, parts, host)
    host, _, zone = host.partition("%")
    if not 0 < port <= _LARGEST_PORT:
        raise Malformed("uri", uri, "a coap URI with a port from 1 to 65535")
    path = parts.path[1:].split("/") if parts.path not in ("", "/") else []
    query = parts.query.split("&") if parts.query else []
    target = Target(host, zone, port, tuple(map(unquote_to_bytes, path)), tuple(map(unquote_to_bytes, query)))
    if max(map(len, (*target.path, *target.query, host.encode())), default=0) > _LONGEST_SEGMENT:
        raise Malformed("uri", uri, "a coap URI whose parts have at most 255 bytes each")
    return target


def _check_parts(uri: str, parts: SplitResult, host: str) -> None:
    if parts.scheme != "coap":
        raise Malformed("uri", uri, "a URI of the scheme coap")
    if not host or parts.username is not None or parts.fragment:
        raise Malformed("uri", uri, "a coap URI with a host, without user and fragment")


def remote_of(target: Target, interface_index: Callable[[str], int]) -> Sockaddr:
    """Where a request to a URI with an IP literal goes. Raises `Malformed` for a name, `PeerFailed` for a zone that is not there."""
    if target.address is None:
        raise Malformed("uri", target.host, "an IP address: names are looked up before")
    host = ip_address(target.address)
    if not isinstance(host, IPv6Address):
        return str(host), target.port
    if not target.zone:
        return str(host), target.port, 0, 0
    try:
        index = int(target.zone) if target.zone.isascii() and target.zone.isdecimal() else interface_index(target.zone)
    except OSError as error:
        raise PeerFailed(f"{host}: there is no interface {target.zone} ({error})") from error
    return str(host), target.port, 0, index


def location_text(path: tuple[bytes, ...], query: tuple[bytes, ...]) -> str | None:
    """Location-Path and Location-Query as a relative URI (RFC 7252, section 5.10.7); None where there are none."""
    if not path and not query:
        return None
    text = "/" + "/".join(quote(segment, safe="") for segment in path)
    return text + ("?" + "&".join(quote(argument, safe="=") for argument in query) if query else "")
