"""Router advertisements and solicitations on the wire (RFC 4861, sections 4.1, 4.2 and 4.6; RFC 8106, section 5.1). Pure.

Responsible for the bytes. The checksum is left 0, since the kernel computes it. Not responsible for when they are sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from m2mapp.dhcpv6.message import MalformedMessage

ROUTER_SOLICITATION: Final = 133
ROUTER_ADVERTISEMENT: Final = 134
_MANAGED, _OTHER = 0x80, 0x40
_ON_LINK: Final = 0x80
_SOURCE_LINK_LAYER, _PREFIX, _RDNSS = 1, 3, 25
ADVERTISED: Final = frozenset({1, 2, 3, 4, 5, 7, 8, 24, 25, 26, 31, 37, 38, 138, 144})
"""The option types that have a meaning in router advertisements already (IANA, "IPv6 Neighbor Discovery Option Formats")."""
_UNIT: Final = 8
_HEADER: Final = struct.Struct("!BBHBBHII")
_OPTION: Final = struct.Struct("!BB")
_PREFIX_BODY: Final = struct.Struct("!BBIII16s")
_RDNSS_BODY: Final = struct.Struct("!HI")
_PREFIX_BITS: Final = 128
HOPS: Final = 64
"""The hop limit that hosts are told to send with."""


@dataclass(frozen=True, slots=True)
class PrefixInformation:
    """A prefix that is on the link, and for how many seconds. Addresses of it come from DHCPv6 alone: the A flag is never set."""

    prefix: IPv6Network
    valid_s: int
    preferred_s: int


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a router tells: hosts shall ask by DHCPv6 (M and O are set). `lifetime_s` 0: it is no way to anywhere else.

    `rdnss` are recursive name servers, for as long as `rdnss_s`.
    """

    lifetime_s: int
    prefixes: tuple[PrefixInformation, ...] = ()
    link_layer: bytes = b""
    rdnss: tuple[IPv6Address, ...] = ()
    rdnss_s: int = 0


def build_advertisement(told: Advertisement) -> bytes:
    """The message, with checksum 0."""
    parts = [_HEADER.pack(ROUTER_ADVERTISEMENT, 0, 0, HOPS, _MANAGED | _OTHER, told.lifetime_s, 0, 0)]
    if told.link_layer:
        parts.append(_padded(_SOURCE_LINK_LAYER, told.link_layer))
    for each in told.prefixes:
        network = each.prefix
        body = _PREFIX_BODY.pack(network.prefixlen, _ON_LINK, each.valid_s, each.preferred_s, 0, network.network_address.packed)
        parts.append(_padded(_PREFIX, body))
    if told.rdnss:
        parts.append(_padded(_RDNSS, _RDNSS_BODY.pack(0, told.rdnss_s) + b"".join(address.packed for address in told.rdnss)))
    return b"".join(parts)


def parse_advertisement(data: bytes) -> Advertisement:
    """What a router advertisement tells of these things; other options are passed over. Raises `MalformedMessage`."""
    if len(data) < _HEADER.size or data[0] != ROUTER_ADVERTISEMENT or data[1]:
        raise MalformedMessage("no router advertisement")
    lifetime_s = int.from_bytes(data[6:8], "big")
    link_layer, rdnss_s = b"", 0
    prefixes: list[PrefixInformation] = []
    rdnss: list[IPv6Address] = []
    for kind, body in _options(data, _HEADER.size):
        if kind == _SOURCE_LINK_LAYER:
            link_layer = body
        elif kind == _PREFIX and len(body) == _PREFIX_BODY.size and body[0] <= _PREFIX_BITS:
            length, _, valid_s, preferred_s, _, prefix = _PREFIX_BODY.unpack(body)
            prefixes.append(PrefixInformation(IPv6Network((prefix, length), strict=False), valid_s, preferred_s))
        elif kind == _RDNSS and len(body) >= _RDNSS_BODY.size:
            rdnss_s = _RDNSS_BODY.unpack_from(body)[1]
            rdnss += [IPv6Address(body[at : at + 16]) for at in range(_RDNSS_BODY.size, len(body) - 15, 16)]
    return Advertisement(lifetime_s, tuple(prefixes), link_layer, tuple(rdnss), rdnss_s)


def option_announced(data: bytes, source: str, kind: int) -> tuple[int, bytes | None]:
    """The router lifetime in seconds that an advertisement tells, and the body of its first option of that type, or None.

    Raises `MalformedMessage` where a host must not believe it (RFC 4861, section 6.1.2). Hop limit and checksum are checked before.
    """
    if len(data) < _HEADER.size or data[0] != ROUTER_ADVERTISEMENT or data[1]:
        raise MalformedMessage("no router advertisement")
    if not IPv6Address(source).is_link_local:
        raise MalformedMessage(f"a router advertisement from {source}, which is not link-local")
    found = [body for each, body in _options(data, _HEADER.size) if each == kind]
    return int.from_bytes(data[6:8], "big"), next(iter(found), None)


def build_solicitation() -> bytes:
    """A router solicitation (section 4.1), without a link-layer address and with checksum 0."""
    return bytes((ROUTER_SOLICITATION,)).ljust(_UNIT, b"\0")


def why_solicitation_counts_not(data: bytes, source: str) -> str | None:
    """Why a router solicitation is discarded, or None (RFC 4861, section 6.1.1). Hop limit and checksum are checked before."""
    if len(data) < _UNIT or data[0] != ROUTER_SOLICITATION or data[1]:
        return "no router solicitation"
    try:
        kinds = [kind for kind, _ in _options(data, _UNIT)]
    except MalformedMessage as fault:
        return str(fault)
    if IPv6Address(source).is_unspecified and _SOURCE_LINK_LAYER in kinds:
        return "a link-layer address from nowhere"
    return None


def _options(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Type and body of each option. Raises `MalformedMessage` for one of length 0, or that ends behind the message (section 4.6)."""
    while at < len(data):
        length = data[at + 1] * _UNIT if at + 1 < len(data) else 0
        if not length or at + length > len(data):
            raise MalformedMessage(f"an option of {length} bytes where {len(data) - at} are left")
        yield data[at], data[at + _OPTION.size : at + length]
        at += length


def _padded(kind: int, body: bytes) -> bytes:
    units = -(-(len(body) + _OPTION.size) // _UNIT)
    return (_OPTION.pack(kind, units) + body).ljust(units * _UNIT, b"\0")
