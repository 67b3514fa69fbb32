"""Whose something is: of an endpoint (address and port), of a host, of a network; and shares of a table for each.

Responsible for telling hosts and networks from an address, and for finding what must go where one owner has its share. A host with
an IPv6 prefix of its own has as many addresses as it likes, and any host has as many ports: limits by endpoint alone would bind nobody.
Not responsible for what is kept, nor for rates (`accounts`).
"""

from __future__ import annotations

import socket
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from m2mapp.coap.addresses import is_ipv6
from m2mapp.net.interfaces import Sockaddr

_NETWORK_BYTES: Final = 8

Host = tuple[str, int]
"""An address as text, and its zone (0: none)."""
Network = tuple[bytes, int]
"""The first eight bytes of an IPv6 address, and its zone."""


def host_of(address: Sockaddr) -> Host:
    """The host, whatever its port."""
    return address[0], address[3] if is_ipv6(address) else 0


def network_of(address: Sockaddr) -> Network | None:
    """The /64 that an IPv6 address is of, which one host may have all of (RFC 7934); None for IPv4."""
    return (socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])[:_NETWORK_BYTES], address[3]) if is_ipv6(address) else None


def of_one_network(most: int) -> int:
    """How much of a table one network may hold: three quarters, so that others find room."""
    return most - most // 4


_Entry = TypeVar("_Entry", bound=Hashable)


class Shares(Generic[_Entry]):
    """Who holds how many entries of one table: at most so many for an endpoint, for a host, and three quarters for a network."""

    def __init__(self, of_endpoint: int, of_host: int, most: int) -> None:
        self._limits = (of_endpoint, of_host, of_one_network(most))
        self._held: dict[Hashable, dict[_Entry, None]] = {}

    def __len__(self) -> int:
        """How many owners hold something."""
        return len(self._held)

    def add(self, entry: _Entry, address: Sockaddr) -> None:
        """The endpoint of that address holds one entry more."""
        for owner in _owners(address):
            self._held.setdefault(owner, {})[entry] = None

    def remove(self, entry: _Entry, address: Sockaddr) -> None:
        """It holds that entry no more."""
        for owner in _owners(address):
            held = self._held[owner]
            del held[entry]
            if not held:
                del self._held[owner]

    def full(self, address: Sockaddr) -> bool:
        """Whether one more would be too many."""
        return any(len(self._held.get(owner, ())) >= most for owner, most in zip(_owners(address), self._limits, strict=False))

    def oldest_in_excess(self, address: Sockaddr) -> _Entry | None:
        """What was added first by an owner of this address that holds too many; None where none does."""
        for owner, most in zip(_owners(address), self._limits, strict=False):
            held = self._held.get(owner)
            if held is not None and len(held) > most:
                return next(iter(held))
        return None


def _owners(address: Sockaddr) -> tuple[Hashable, ...]:
    """Endpoint, host and network; tuples of different lengths and types, so that none is taken for another."""
    network = network_of(address)
    host = ("host", *host_of(address))
    return (address, host) if network is None else (address, host, ("network", *network))
