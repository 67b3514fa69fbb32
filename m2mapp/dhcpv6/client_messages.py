"""What a client's messages hold (RFC 9915, section 18.2), and what of the answers it can use. Pure; when they are sent is in `client`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.binding import Value
from m2mapp.dhcpv6.bootstrap_options import BootstrapCodes
from m2mapp.dhcpv6.numbers import SOL_MAX_RT, MessageType

_ASKS_NOTHING: Final = frozenset({MessageType.CONFIRM, MessageType.RELEASE, MessageType.DECLINE})
"""Messages without the Option Request option (section 21.7)."""
MOST_NAME_SERVERS: Final = 8
_DELEGATED: Final = (IPv6Network("2000::/3"), IPv6Network("fc00::/7"))
"""Global unicast and unique local addresses (RFC 4291, section 2.4; RFC 4193): no other prefix is delegated, least of all ::/0, of which a
router would make a route for everything."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks for: prefixes or an address, under which IAID; `hints` it would like; the option codes of the ORO.

    `reconfigure`: it accepts Reconfigure messages (section 21.20).
    """

    for_prefix: bool
    iaid: int = 1
    hints: tuple[Value, ...] = ()
    codes: BootstrapCodes = field(default_factory=BootstrapCodes)
    more_options: tuple[int, ...] = (SOL_MAX_RT,)
    rapid_commit: bool = True
    reconfigure: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a message is to (the server's DUID; None: whichever hears it), and what it asks for, or is about."""

    server: bytes | None = None
    values: tuple[Value, ...] = ()


def client_options(kind: MessageType, duid: bytes, wish: Wish, named: Named, elapsed_hundredths: int) -> tuple[o.Option, ...]:
    """The options of a client's message."""
    options: list[o.Option] = [o.ClientId(duid)]
    if named.server is not None:
        options.append(o.ServerId(named.server))
    options.append(o.ElapsedTime(elapsed_hundredths))
    if kind not in _ASKS_NOTHING:
        options.append(o.OptionRequest(tuple(dict.fromkeys((*wish.codes.wanted, *wish.more_options)))))
        if wish.reconfigure:
            options.append(o.ReconfigureAccept())
    if kind is MessageType.SOLICIT and wish.rapid_commit:
        options.append(o.RapidCommit())
    inner = tuple(_as_options(named.values))
    options.append(o.IaPd(wish.iaid, 0, 0, inner) if wish.for_prefix else o.IaNa(wish.iaid, 0, 0, inner))
    return tuple(options)


def _as_options(values: Iterable[Value]) -> Iterable[o.Option]:
    """Values as a client names them: lifetimes are the server's business."""
    return (o.IaAddress(value, 0, 0) if isinstance(value, IPv6Address) else o.IaPrefix(value, 0, 0) for value in values)


def is_usable(value: Value) -> bool:
    """Whether it is an address that a host can have, or a prefix that a router can."""
    if isinstance(value, IPv6Network):
        return any(value.subnet_of(one) for one in _DELEGATED)
    return not (value.is_multicast or value.is_link_local or value.is_loopback or value.is_unspecified)


def name_servers_in(options: tuple[o.Option, ...]) -> tuple[IPv6Address, ...]:
    """The recursive name servers that a Reply tells (RFC 3646, section 3), those that a host can ask."""
    told = o.first(options, o.DnsServers)
    return tuple(one for one in (told.addresses if told is not None else ()) if is_usable(one))[:MOST_NAME_SERVERS]
