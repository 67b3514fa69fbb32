"""Where addresses and prefixes come from: which one a client gets. Pure and without memory: who has what is in `binding`.

The same client gets the same value again as long as nobody else has it, also after its binding has ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from itertools import islice
from typing import Final, Protocol

from m2mapp.dhcpv6.binding import Client, Value

_MOST_TRIES: Final = 4096
"""So many values are looked at for a free one: a pool in which so many neighbours are taken counts as full."""
_INTERFACE_IDENTIFIER_BITS: Final = 64
_RESERVED: Final = (range(1), range(0x02005EFFFE000000, 0x02005EFFFF000000), range(0xFDFFFFFFFFFFFF80, 0xFE00000000000000))
"""Interface identifiers that no host may have (RFC 5453): the routers' anycast, IANA's, the subnet anycasts."""

IsFree = Callable[[Value], bool]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds for which a value is preferred, and valid."""

    preferred_s: int
    valid_s: int


class Pool(Protocol):
    """What a server gives values from."""

    def pick(self, client: Client, hint: Value | None, is_free: IsFree) -> Value | None:
        """A value for a client that has none; `hint` is what it asked for. None where the pool is empty."""

    def has(self, value: Value) -> bool:
        """Whether the value is one of this pool: appropriate for the link (RFC 9915, section 4.2)."""

    def lifetimes(self, now: float) -> Lifetimes:
        """What a value given now gets, never more than what it is made of has left. `now`: monotonic seconds."""


@dataclass(frozen=True, slots=True)
class PrefixPool:
    """The prefixes of one length within a larger one, for the delegating server. `reserved`: prefixes that DUIDs always get."""

    within: IPv6Network
    length: int
    given: Lifetimes
    reserved: tuple[tuple[bytes, IPv6Network], ...] = ()

    def pick(self, client: Client, hint: Value | None, is_free: IsFree) -> Value | None:
        """The client's reserved prefix; else the one it asked for; else one chosen by a hash of DUID and IAID, or the next free."""
        kept = {prefix for _, prefix in self.reserved}
        own = [prefix for duid, prefix in self.reserved if duid == client.duid]
        hinted = [hint] if isinstance(hint, IPv6Network) and self.has(hint) and hint not in kept else []
        free = (prefix for prefix in (*own, *hinted) if is_free(prefix))
        others = (prefix for prefix in islice(self._from(client), _MOST_TRIES) if prefix not in kept and is_free(prefix))
        return next(free, None) or next(others, None)

    def has(self, value: Value) -> bool:
        """Whether it is a prefix of the pool, of the pool's length."""
        return isinstance(value, IPv6Network) and value.prefixlen == self.length and value.subnet_of(self.within)

    def lifetimes(self, now: float) -> Lifetimes:
        """The configured ones."""
        return self.given

    def _from(self, client: Client) -> Iterator[IPv6Network]:
        size = 1 << (self.length - self.within.prefixlen)
        first, base = _digest(client, b"") % size, int(self.within.network_address)
        for number in range(size):
            yield IPv6Network((base + ((first + number) % size << (128 - self.length)), self.length))


@dataclass(frozen=True, slots=True)
class AddressPool:
    """The addresses of one /64, for the devices of one link: stable for a client, and not to be guessed (the idea of RFC 7217).

    `secret` is the node's own. `lifetimes_at` gives what is left of the prefix at a monotonic time. `router` is this node's own address.
    """

    prefix: IPv6Network
    secret: bytes
    lifetimes_at: Callable[[float], Lifetimes]
    router: IPv6Address | None = None

    def pick(self, client: Client, hint: Value | None, is_free: IsFree) -> Value | None:
        """The address that follows from prefix, DUID, IAID and secret; where another host has it, the next that does."""
        for counter in range(64):
            digest = _digest(client, self.secret + self.prefix.network_address.packed + bytes([counter]))
            identifier = digest & (1 << _INTERFACE_IDENTIFIER_BITS) - 1
            address = self.prefix[identifier]
            if address != self.router and not any(identifier in reserved for reserved in _RESERVED) and is_free(address):
                return address
        return None

    def has(self, value: Value) -> bool:
        """Whether it is an address of the prefix."""
        return isinstance(value, IPv6Address) and value in self.prefix

    def lifetimes(self, now: float) -> Lifetimes:
        """What is left of the prefix."""
        return self.lifetimes_at(now)


def _digest(client: Client, more: bytes) -> int:
    data = client.duid + client.iaid.to_bytes(4, "big") + more
    return int.from_bytes(hashlib.sha256(data).digest()[:16], "big")
