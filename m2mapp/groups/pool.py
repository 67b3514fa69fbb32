"""Multicast addresses for groups: the pools they come from, and which one is given next (spec section 3, "Addresses").

An address is taken while a fan-out set in the tree has it: the tree is the only record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_network

Network = IPv4Network | IPv6Network
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


def next_address(pool: Sequence[Network], version: int, taken: Collection[str]) -> str | None:
    """An address of that IP version which nobody has, or None where the pool is empty.

    The first and the last address of an IPv4 range are left out: some switches treat x.x.x.0 and x.x.x.255 as special.
    """
    for network in pool:
        if network.version != version:
            continue
        for address in _addresses(network):
            if str(address) not in taken:
                return str(address)
    return None


def _addresses(network: Network) -> Iterable[IPv4Address | IPv6Address]:
    if isinstance(network, IPv4Network):
        return network.hosts()
    return iter(network)


def parse_pool(text: str) -> Network:
    """A range of addresses from its text. Raises `ValueError`."""
    return ip_network(text)
