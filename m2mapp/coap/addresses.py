"""Addresses: sources as text, and what a URI says about where a request goes and which options it has (RFC 7252, section 6).

Responsible for IP literals. Not responsible for taking URIs apart (`formats.uris`), nor for names: whoever looks them up hands over the
address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import TypeGuard
from urllib.parse import quote

from m2mapp.coap import things
from m2mapp.coap.dtls.address import session_of
from m2mapp.coap.message import uint
from m2mapp.formats.uris import Uri
from m2mapp.model.errors import Malformed, PeerFailed
from m2mapp.model.identifiers import Path
from m2mapp.net.interfaces import Sockaddr


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
    if session_of(remote) is not None:
        return remote
    try:
        host = ip_address(remote[0])
    except ValueError:
        raise Malformed("address", remote[0], "an IP address") from None
    if isinstance(host, IPv6Address):
        return str(host), remote[1], 0, remote[3] if is_ipv6(remote) else 0
    return str(host), remote[1]


def uri_options(uri: Uri, remote: Sockaddr) -> list[tuple[int, bytes]]:
    """Uri-Host for a name, Uri-Port for another port than the request goes to, Uri-Path, Uri-Query (RFC 7252, section 6.4)."""
    options: list[tuple[int, bytes]] = []
    if uri.address is None:
        options.append((things.URI_HOST, uri.host.encode()))
    if uri.port != remote[1]:
        options.append((things.URI_PORT, uint(uri.port)))
    return options + target_options(uri.path, uri.query)


def target_options(path: Path, query: Iterable[tuple[str, str]]) -> list[tuple[int, bytes]]:
    """Uri-Path and Uri-Query; a query argument without a value is its name alone."""
    arguments = (f"{name}={value}" if value else name for name, value in query)
    return [
        *((things.URI_PATH, segment.encode()) for segment in path),
        *((things.URI_QUERY, argument.encode()) for argument in arguments),
    ]


def remote_of(uri: Uri, interface_index: Callable[[str], int]) -> Sockaddr:
    """Where a request to a URI with an IP address goes. Raises `Malformed` for a name, `PeerFailed` for a zone that is not there."""
    if uri.address is None:
        raise Malformed("uri", uri.host, "an IP address: names are looked up before")
    host, _, zone = uri.host.partition("%")
    if ":" not in host:
        return host, uri.port
    if not zone:
        return host, uri.port, 0, 0
    try:
        index = int(zone) if zone.isascii() and zone.isdecimal() else interface_index(zone)
    except OSError as error:
        raise PeerFailed(f"{host}: there is no interface {zone} ({error})") from error
    return host, uri.port, 0, index


def location_text(path: tuple[bytes, ...], query: tuple[bytes, ...]) -> str | None:
    """Location-Path and Location-Query as a relative URI (RFC 7252, section 5.10.7); None where there are none."""
    if not path and not query:
        return None
    text = "/" + "/".join(quote(segment, safe="") for segment in path)
    return text + ("?" + "&".join(quote(argument, safe="=") for argument in query) if query else "")
