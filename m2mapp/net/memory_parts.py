"""Values of the in-memory network: one interface of a simulated node, and a datagram on its way. What is done with them is in `memory`."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface

from m2mapp.net import sockets
from m2mapp.net.interfaces import Sockaddr


@dataclass(frozen=True, slots=True)
class MemoryInterface:
    """An interface: its index, its link, its addresses; `hosts` are these as text."""

    index: int
    link: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    hosts: tuple[str, ...]

    def having(self, addresses: Iterable[IPv4Interface | IPv6Interface]) -> MemoryInterface:
        """The same with these addresses."""
        whole = tuple(addresses)
        return replace(self, addresses=whole, hosts=tuple(str(address.ip) for address in whole))


@dataclass(frozen=True, slots=True)
class Packet:
    """A datagram on its way. Addresses are text without zone, in their canonical form."""

    number: int
    data: bytes
    family: sockets.Family
    source: tuple[str, int]
    destination: tuple[str, int]

    def seen_by(self, interface: int) -> Sockaddr:
        """The source as the receiver sees it: with the zone where it is link-local."""
        host, port = self.source
        packed = socket.inet_pton(self.family.number, host)
        return self.family.sockaddr(host, port, interface if self.family.is_link_scope(packed) else 0)


def make_interface(index: int, link: str, addresses: Iterable[str]) -> MemoryInterface:
    """An interface with addresses such as "fd00::1/64". Raises `ValueError` for one that is malformed."""
    return MemoryInterface(index, link, (), ()).having(map(ipaddress.ip_interface, addresses))
