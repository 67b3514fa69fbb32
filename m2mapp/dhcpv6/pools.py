"""Where addresses and prefixes come from: which one a client gets. Pure and without memory: who has what is in `binding`.

The same client gets the same value again as long as nobody else has it, also after its binding has ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from itertools import islice
from typing import ClassVar, Final, Protocol

from m2mapp.dhcpv6.binding import Client, Value

_MOST_TRIES: Final = 1024
"""So many values are looked at for a free one, which takes some milliseconds: a pool in which so many are taken counts as full."""
_IDENTIFIER: Final = (1 << 64) - 1
"""The bits of an address that are its interface identifier."""
_RESERVED: Final = ((0, 0), (0x02005EFFFE000000, 0x02005EFFFEFFFFFF), (0xFDFFFFFFFFFFFF80, 0xFDFFFFFFFFFFFFFF))
"""The first and last of interface identifiers that no host may have (RFC 5453): the routers' anycast, IANA's, the subnet anycasts."""

_COUNTERS: Final = tuple(bytes((counter,)) for counter in range(64))

IsFree = Callable[[Value], bool]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds for which a value is preferred, and valid."""

    preferred_s: int
    valid_s: int


class Pool(Protocol):
    """What a server gives values from. `empty`: it knows of none, not even of those that it gave before."""

    @property
    def empty(self) -> bool:
        """Whether nothing is known to be of the pool."""

    def pick(self, client: Client, hint: Value | None, is_free: IsFree) -> Value | None:
        """A value for a client that has none; `hint` is what it asked for. None where the pool is empty."""

    def has(self, value: Value) -> bool:
        """Whether the value is one of this pool: appropriate for the link (RFC 9915, section 4.2)."""

    def lifetimes(self, value: Value) -> Lifetimes:
        """What a value gets that is given now, never more than what it is made of has left; 0 for what is not of the pool."""

    def fixed(self, value: Value) -> Value | None:
        """What a client gets for whom an operator reserved that value; None where it cannot be given."""

    def kept(self, client: Client) -> Value | None:
        """What the configuration file keeps for a client, or None."""

    def is_for(self, client: Client, value: Value) -> bool:
        """Whether the configuration file lets a client have a value: it keeps it for nobody else."""


@dataclass(frozen=True, slots=True)
class PrefixPool:
    """The prefixes of one length within a larger one, for the delegating server. `reserved`: prefixes that DUIDs always get."""

    within: IPv6Network
    length: int
    given: Lifetimes
    reserved: tuple[tuple[bytes, IPv6Network], ...] = ()
    empty: ClassVar[bool] = False

    def pick(self, client: Client, hint: Value | None, is_free: IsFree) -> Value | None:
        """The one it asked for; else one that a hash of DUID and IAID says, or the first free one of those that follow from it."""
        kept = {prefix for _, prefix in self.reserved}
        hinted = [hint] if isinstance(hint, IPv6Network) and self.has(hint) else []
        wanted = (*hinted, *islice(self._from(client), _MOST_TRIES))
        return next((prefix for prefix in wanted if prefix not in kept and is_free(prefix)), None)

    def has(self, value: Value) -> bool:
        """Whether it is a prefix of the pool, of the pool's length."""
        return isinstance(value, IPv6Network) and value.prefixlen == self.length and value.subnet_of(self.within)

    def lifetimes(self, value: Value) -> Lifetimes:
        """The configured ones."""
        return self.given if self.has(value) else Lifetimes(0, 0)

    def fixed(self, value: Value) -> Value | None:
        """Itself, where it is of the pool."""
        return value if self.has(value) else None

    def kept(self, client: Client) -> Value | None:
        """The prefix that is always this DUID's."""
        return next((prefix for duid, prefix in self.reserved if duid == client.duid), None)

    def is_for(self, client: Client, value: Value) -> bool:
        """Whether the prefix is not always another DUID's."""
        return all(duid == client.duid for duid, prefix in self.reserved if prefix == value)

    def _from(self, client: Client) -> Iterator[IPv6Network]:
        """All prefixes, in an order of the client's own: with an odd step, since their number is a power of two."""
        size = 1 << (self.length - self.within.prefixlen)
        digest, base = _digest(client, b""), int(self.within.network_address)
        first, step = digest % size, digest >> 64 | 1
        for number in range(size):
            yield IPv6Network((base + ((first + number * step) % size << (128 - self.length)), self.length))


@dataclass(frozen=True, slots=True)
class AddressPool:
    """The addresses of one /64, for the devices of one link: stable for a client, and not to be guessed (the idea of RFC 7217).

    `secret` is the node's own, `given` what is left of the prefix now. `router` is the address of who joins the link to others.
    """

    prefix: IPv6Network
    secret: bytes
    given: Lifetimes
    router: IPv6Address | None = None
    empty: ClassVar[bool] = False
    _first: int = field(init=False, repr=False, compare=False)
    """The prefix as a number, its interface identifier 0."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_first", int(self.prefix.network_address))

    def pick(self, client: Client, hint: Value | None, is_free: IsFree) -> Value | None:
        """The address that follows from prefix, DUID, IAID and secret; where another host has it, the next that does."""
        start = self.secret + self._first.to_bytes(16, "big")
        for counter in _COUNTERS:
            number = self._first | _digest(client, start + counter) & _IDENTIFIER
            if self._is_usable(number) and is_free(address := IPv6Address(number)):
                return address
        return None

    def has(self, value: Value) -> bool:
        """Whether it is an address of the prefix."""
        return isinstance(value, IPv6Address) and int(value) & ~_IDENTIFIER == self._first

    def may_have(self, value: Value) -> bool:
        """Whether a host may have the address: it is of the prefix, not the router's, not one that is for other uses (RFC 5453)."""
        return isinstance(value, IPv6Address) and self.has(value) and self._is_usable(int(value))

    def kept(self, _client: Client) -> Value | None:
        """None: addresses are kept by operators, in the tree (`reservations`)."""
        return None

    def is_for(self, _client: Client, _value: Value) -> bool:
        """Always."""
        return True

    def _is_usable(self, number: int) -> bool:
        """Whether a host may have the address of the prefix that is this number."""
        identifier = number & _IDENTIFIER
        for first, last in _RESERVED:
            if first <= identifier <= last:
                return False
        return self.router is None or number != int(self.router)

    def lifetimes(self, value: Value) -> Lifetimes:
        """What is left of the prefix."""
        return self.given if self.has(value) else Lifetimes(0, 0)

    def fixed(self, value: Value) -> Value | None:
        """Itself, where a host may have it."""
        return value if self.may_have(value) else None


def _digest(client: Client, more: bytes) -> int:
    return _hashed(client.duid + client.iaid.to_bytes(4, "big") + more)


@lru_cache(maxsize=4096)
def _hashed(data: bytes) -> int:
    """A client's Request follows its Solicit."""
    return int.from_bytes(hashlib.sha256(data).digest()[:16], "big")
