"""Which /64 each link of the downlink has of the prefixes that this node may use, and what is left of them. Pure.

Responsible for the choice of subnets, which follows from the interface's name and stays the same, for prefixes that went (their
addresses are deprecated, and told so until their valid lifetime is over), and for the links behind relay agents. Not responsible for
where prefixes come from, nor for who has which address.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from typing import Final

from m2mapp.dhcpv6.binding import Client, Value
from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.dhcpv6.pools import AddressPool, IsFree, Lifetimes

_SUBNET_LENGTH: Final = 64
_LONGEST_AFTER_S: Final = 7200.0
"""A prefix that went without a word is told as deprecated for so long at most (the idea of RFC 9096, section 3.4)."""
MOST_GONE: Final = 8
"""So many prefixes that went are told, the latest: an advertisement has to fit into one packet (RFC 6980)."""
ENDED: Final = Lifetimes(0, 0)


@dataclass(frozen=True, slots=True)
class Delegation:
    """A prefix that this node may use, and until when, in monotonic seconds (`math.inf`: without end)."""

    prefix: IPv6Network
    preferred_until_s: float = math.inf
    valid_until_s: float = math.inf

    def left(self, now: float, most: Lifetimes) -> Lifetimes:
        """What an address of it may be given now: what is left of the prefix, and not more than `most`."""
        return Lifetimes(_left(self.preferred_until_s, now, most.preferred_s), _left(self.valid_until_s, now, most.valid_s))


@dataclass(frozen=True, slots=True)
class Link:
    """The pools of one link at one moment, the one that lasts longest first: a `Pool` of addresses."""

    pools: tuple[AddressPool, ...]

    @property
    def empty(self) -> bool:
        """Whether there is no prefix, so that nothing can be said of anybody's address."""
        return not self.pools

    def pick(self, client: Client, hint: Value | None, is_free: IsFree) -> Value | None:
        """An address of the first prefix that is preferred."""
        for pool in self.pools:
            found = pool.pick(client, hint, is_free) if pool.given.preferred_s else None
            if found is not None:
                return found
        return None

    def has(self, value: Value) -> bool:
        """Whether it is an address of the link."""
        return any(pool.has(value) for pool in self.pools)

    def lifetimes(self, value: Value) -> Lifetimes:
        """What is left of its prefix."""
        for pool in self.pools:
            if pool.has(value):
                return pool.given
        return ENDED

    def fixed(self, value: Value) -> Value | None:
        """A reserved address as it is on this link now: itself, or after renumbering the same interface identifier in the new prefix."""
        usable = [pool for pool in self.pools if pool.given.preferred_s]
        if any(pool.may_have(value) for pool in usable):
            return value
        moved = (pool.prefix[int(value) & (1 << _SUBNET_LENGTH) - 1] for pool in usable if isinstance(value, IPv6Address))
        return next((address for address in moved if any(pool.may_have(address) for pool in usable)), None)

    def kept(self, _client: Client) -> Value | None:
        """None: addresses are kept by operators, in the tree (`reservations`)."""
        return None

    def is_for(self, _client: Client, _value: Value) -> bool:
        """Always."""
        return True

    def own(self) -> tuple[tuple[IPv6Interface, Lifetimes], ...]:
        """This node's own address in each prefix of the link."""
        return tuple((IPv6Interface((pool.router, _SUBNET_LENGTH)), pool.given) for pool in self.pools if pool.router is not None)


class Links:
    """The links of the downlink, by the name of their interface. `most`: what an address is given at most; `secret`: this node's own."""

    def __init__(self, names: Sequence[str], secret: bytes, most: Lifetimes) -> None:
        self.names = tuple(names)
        self._secret, self._most = secret, most
        self._delegations: dict[IPv6Network, Delegation] = {}
        self._subnets: dict[IPv6Network, dict[str, IPv6Network]] = {}
        self._made: dict[str, tuple[float, Link]] = {}
        self._told: set[IPv6Network] = set()

    def renew(self, current: Sequence[Delegation], now: float) -> bool:
        """These are the prefixes from now on; those that went are deprecated.

        True where others are preferred than at the call before, so that devices should hear of it.
        """
        known, self._delegations = self._delegations, {}
        for delegation in current:
            self._delegations[delegation.prefix] = delegation
        # Those that have just gone stand before those that went earlier.
        gone = [one for prefix, one in known.items() if prefix not in self._delegations and one.valid_until_s > now]
        for one in gone[:MOST_GONE]:
            until_s = min(one.valid_until_s, now + _LONGEST_AFTER_S)
            self._delegations[one.prefix] = replace(one, preferred_until_s=min(one.preferred_until_s, now), valid_until_s=until_s)
        self._made.clear()
        self._subnets = {prefix: subnets(prefix, self.names) for prefix in self._delegations}
        before, self._told = self._told, {prefix for prefix, one in self._delegations.items() if one.preferred_until_s > now}
        return self._told != before

    def link(self, name: str, now: float) -> Link:
        """The pools of an interface's link, as they are at the end of the second: one that was made is good for a second."""
        now = math.ceil(now)
        made = self._made.get(name)
        if made is not None and made[0] == now:
            return made[1]
        pools = []
        for prefix, delegation in self._delegations.items():
            subnet = self._subnets[prefix].get(name)
            if subnet is not None and delegation.valid_until_s > now:
                pools.append(self._pool(subnet, delegation, now, router=subnet[1]))
        link = _ordered(pools)
        self._made[name] = (now, link)
        return link

    def behind(self, address: IPv6Address, now: float) -> Link:
        """The pools of the link that a relay agent's link-address names: the /64 that has it, where that is of a prefix of this node."""
        subnet = IPv6Network((address, _SUBNET_LENGTH), strict=False)
        found = [
            delegation for prefix, delegation in self._delegations.items() if subnet.subnet_of(prefix) and delegation.valid_until_s > now
        ]
        return _ordered([self._pool(subnet, delegation, now, router=address) for delegation in found])

    def link_of(self, address: IPv6Address, now: float) -> Link | None:
        """The link of this node's own that an address would be on."""
        return next((link for link in (self.link(name, now) for name in self.names) if link.has(address)), None)

    def _pool(self, subnet: IPv6Network, delegation: Delegation, now: float, router: IPv6Address) -> AddressPool:
        return AddressPool(subnet, self._secret, delegation.left(now, self._most), router)


def subnets(prefix: IPv6Network, names: Sequence[str]) -> dict[str, IPv6Network]:
    """The /64 that each interface has of a prefix: it follows from the name, so that it stays when others come and go.

    Of two names that would get the same the later one gets the next. Interfaces for which there is none left are missing.
    """
    count = 1 << _SUBNET_LENGTH - prefix.prefixlen if prefix.prefixlen <= _SUBNET_LENGTH else 0
    taken: dict[int, str] = {}
    for name in names[:count]:
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count
        while number in taken:
            number = (number + 1) % count
        taken[number] = name
    base = int(prefix.network_address)
    return {name: IPv6Network((base + (number << _SUBNET_LENGTH), _SUBNET_LENGTH)) for number, name in taken.items()}


def _ordered(pools: Sequence[AddressPool]) -> Link:
    return Link(tuple(sorted(pools, key=lambda pool: (-pool.given.preferred_s, pool.prefix))))


def _left(until_s: float, now: float, most_s: int) -> int:
    """Whole seconds until then, rounded down: an address never outlasts its prefix."""
    return most_s if until_s == math.inf else max(0, min(most_s, int(until_s - now), INFINITY))
