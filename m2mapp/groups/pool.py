"""Multicast addresses for groups: the pools they come from, and which one is given next (spec section 3, "Addresses").

An address is taken while a fan-out set in the tree has it: the tree is the only record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
IPV6 = 6
SITE_LOCAL = 5
"""The scope of derived addresses (RFC 7346)."""
_DYNAMIC_GROUP = 0x80000000
"""Group identifiers from here on are for dynamic assignment (RFC 3307, section 4.3)."""
_SLICE_BITS, _HOST_BITS = 15, 16
_PREFIX_AND_TRANSIENT = 3 << 20
"""The flags P and T of a prefix-based address (RFC 3306, section 4)."""


def derived_pool(node_name: str, prefix: IPv6Interface | None) -> tuple[Network, ...]:
    """The pools of a node that was given none: one for IPv6, one for IPv4.

    `prefix` is the node's own global prefix on the interface: the pool is prefix-based (RFC 3306). Without one it is of transient
    site-local addresses. The slice of 65,536 addresses is chosen by a hash of the node's name, so that two gateways on one link do not
    collide. IPv4 addresses are administratively scoped (RFC 2365, 239.255.0.0/16), in a slice of 256.
    """
    digest = int.from_bytes(hashlib.sha256(node_name.encode()).digest()[:8], "big")
    group = _DYNAMIC_GROUP | (digest % (1 << _SLICE_BITS)) << _HOST_BITS
    if prefix is not None and prefix.network.prefixlen <= 64:  # noqa: PLR2004 - RFC 3306: at most 64 bits of prefix
        network_bits = int(prefix.network.network_address) >> 64
        high = 0xFF000000 | _PREFIX_AND_TRANSIENT | SITE_LOCAL << 16
        base = high << 96 | prefix.network.prefixlen << 96 | network_bits << 32 | group
    else:
        base = int(IPv6Address(f"ff1{SITE_LOCAL}::")) | group
    ipv4 = int(IPv4Address("239.255.0.0")) | (digest >> _SLICE_BITS) % 256 << 8
    return (IPv6Network((base, 128 - _HOST_BITS)), IPv4Network((ipv4, 24)))


def next_address(pool: Sequence[Network], version: int, is_taken: Callable[[str], bool], after: str | None = None) -> str | None:
    """An address of that IP version which nobody has, or None where the pool is empty.

    `after` is the one that was given last: the search goes round from there, so that an address is used again as late as can be, when
    devices that were away have heard that it is not their group's any more. The first and the last address of an IPv4 range are left
    out: some switches treat x.x.x.0 and x.x.x.255 as special.
    """
    make = IPv6Address if version == IPV6 else IPv4Address
    for first, last in _from(after, [_bounds(network) for network in pool if network.version == version]):
        for number in range(first, last + 1):
            address = str(make(number))
            if not is_taken(address):
                return address
    return None


def _bounds(network: Network) -> tuple[int, int]:
    first, last = int(network.network_address), int(network.broadcast_address)
    inner = isinstance(network, IPv4Network) and network.num_addresses > 2  # noqa: PLR2004 - the first and the last
    return (first + 1, last - 1) if inner else (first, last)


def _from(after: str | None, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges in the order in which they are searched: once around, beginning behind the address."""
    last_given = int(ip_address(after)) if after is not None else -1
    for place, (first, last) in enumerate(ranges):
        if first <= last_given <= last:
            return [(last_given + 1, last), *ranges[place + 1 :], *ranges[:place], (first, last_given)]
    return ranges
