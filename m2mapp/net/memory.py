"""An in-memory network of simulated nodes: the same ports as `net.udp`, on links with faults, in simulated time.

Responsible for addresses, ports, groups and the choice of interface on each node; the faults are `net.medium`'s, the time is
`net.scheduler`'s. There is no routing: a node reaches what is on its own links. Hop limits play no part.

    scheduler = Scheduler(seed)
    network = Network(scheduler)
    gateway = network.attach("gw", {"eth1@lan": ["fd00::1/64", "fe80::1/64"]})
    device = network.attach("d1", {"eth0@lan": ["fd00::d1/64"]})
    network.set_quality(Quality(loss=0.2, delay_s=(0.001, 0.02)))
    port = gateway.open_port("fd00::1", 5683, receiver)
    scheduler.advance(5)
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from random import Random

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.model.metrics import Metrics
from m2mapp.net import sockets
from m2mapp.net.addresses import LOOPBACK_INDEX, HostAddress
from m2mapp.net.counts import Counts
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, IDatagrams, Sockaddr
from m2mapp.net.medium import Event, Medium, Quality, Trace, What
from m2mapp.net.memory_parts import MemoryInterface, Packet, make_interface
from m2mapp.net.scheduler import Scheduler

MAXIMUM_PAYLOAD_BYTES = 65507
FIRST_EPHEMERAL_PORT = 49152
LAST_PORT = 65535
_LOOPBACK_ADDRESSES = ("127.0.0.1/8", "::1/128")
_HEADER_BYTES = {socket.AF_INET6: 48, socket.AF_INET: 28}

_log = Logger()


@dataclass(slots=True)
class _Node:
    """One node: what it has and what it has open."""

    name: str
    counts: Counts
    interfaces: dict[str, MemoryInterface]
    ports: list[MemoryPort] = field(default_factory=list)
    up: bool = True
    next_port: int = FIRST_EPHEMERAL_PORT

    def by_index(self, index: int) -> MemoryInterface:
        """Raises `OSError` (ENODEV)."""
        for interface in self.interfaces.values():
            if interface.index == index:
                return interface
        raise OSError(errno.ENODEV, f"{self.name} has no interface of index {index}")

    def holding(self, address: str) -> MemoryInterface | None:
        """The interface that has this address."""
        for interface in self.interfaces.values():
            if address in interface.hosts:
                return interface
        return None


@implementer(IDatagramPort)
class MemoryPort:
    """A bound port of a simulated node. Made by `MemoryDatagrams.open_port`."""

    def __init__(self, network: Network, node: _Node, bound: tuple[sockets.Family, str, int, int], receiver: IDatagramReceiver) -> None:
        """`bound`: family, address, port, zone."""
        self.family, self.address, self.port, self.zone = bound
        self.groups: dict[tuple[str, int], None] = {}
        self.closed = False
        self._network, self._node, self._receiver = network, node, receiver
        self._packed = socket.inet_pton(self.family.number, self.address)
        self.wildcard = not any(self._packed)

    def waiting(self) -> int:
        """None: this network hands each on by itself."""
        return 0

    def local(self) -> Sockaddr:
        """The bound `Sockaddr`."""
        return self.family.sockaddr(self.address, self.port, self.zone)

    def send(self, data: bytes, to: Sockaddr, source: str | None = None) -> bool:
        """See `net.udp.Port.send`. True also for what is then lost."""
        try:
            self._check(data, to[1])
            sockets.require_unicast(self.family, to, self._packed)
            self._network.unicast(self._node, self, data, to, source)
        except (OSError, ValueError) as error:
            return self._refused(data, to, error)
        self._node.counts.sent.add()
        return True

    def send_to_group(self, data: bytes, group: str, port: int, interface: int) -> bool:
        """See `net.udp.Port.send_to_group`. True also for what is then lost."""
        try:
            self._check(data, port)
            sockets.packed_group(self.family, group, interface)
            self._network.multicast(self._node, self, data, (_canonical(self.family, group), port), interface)
        except (OSError, ValueError) as error:
            return self._refused(data, (group, port), error)
        self._node.counts.sent.add()
        return True

    def _check(self, data: bytes, port: int) -> None:
        if self.closed:
            raise OSError(errno.EBADF, "the port is closed")
        if len(data) > MAXIMUM_PAYLOAD_BYTES:
            raise OSError(errno.EMSGSIZE, "larger than a datagram can be")
        if not 0 < port <= LAST_PORT:
            raise ValueError(f"port: {port} is not within 1 to {LAST_PORT}")

    def _refused(self, data: bytes, to: Sockaddr, error: Exception) -> bool:
        destination = f"[{to[0]}]:{to[1]}"
        self._network.tell(What.REFUSED, 0, self._node.name, (f"[{self.address}]:{self.port}", destination, len(data)), str(error))
        return self._node.counts.not_sent(error)

    def join(self, group: str, interface: int) -> None:
        """Join a group on the interface of that index; again: nothing. Raises `OSError`."""
        sockets.packed_group(self.family, group, interface)
        if self.closed:
            raise OSError(errno.EBADF, "the port is closed")
        self._node.by_index(interface)
        self.groups[_canonical(self.family, group), interface] = None

    def leave(self, group: str, interface: int) -> None:
        """Leave it; a group that was not joined, or is none, is no error."""
        try:
            self.groups.pop((_canonical(self.family, group), interface), None)
        except (OSError, ValueError):
            return

    def stop(self) -> Deferred[None]:
        """Close the port. Nothing is received after this call; the Deferred has fired already."""
        self.closed = True
        self.groups.clear()
        if self in self._node.ports:
            self._node.ports.remove(self)
        return succeed(None)

    def receive(self, packet: Packet, interface: int) -> None:
        """Hand a datagram to the receiver; what that raises is logged and counted, as by the real port."""
        self._node.counts.received.add()
        source = packet.seen_by(interface)
        try:
            self._receiver.datagram_received(packet.data, source, packet.destination[0], interface)
        except Exception:  # noqa: BLE001 - as the real port does
            self._node.counts.raised.add()
            _log.failure("{node}: a datagram from {source} was not handled", failure=Failure(), node=self._node.name, source=source)


@implementer(IDatagrams)
class MemoryDatagrams:
    """Opens ports of one simulated node. Made by `Network.attach`."""

    def __init__(self, network: Network, node: _Node) -> None:
        """The node's side of the network."""
        self._network, self._node = network, node

    def open_port(self, host: str, port: int, receiver: IDatagramReceiver) -> MemoryPort:
        """Bind as `net.udp.SystemDatagrams.open_port` does. Raises `OSError`, also while the node is down."""
        node = self._node
        if not node.up:
            raise OSError(errno.ENETDOWN, f"{node.name} is down")
        family, address, zone = sockets.parse_host(host, self.interface_index)
        address = _canonical(family, address)
        bound = MemoryPort(self._network, node, (family, address, port or self._free_port(), zone), receiver)
        if not bound.wildcard and node.holding(address) is None and not ipaddress.ip_address(address).is_loopback:
            raise OSError(errno.EADDRNOTAVAIL, f"{node.name} does not have the address {address}")
        for other in node.ports:
            overlaps = bound.wildcard or other.wildcard or other.local() == bound.local()
            if (other.family, other.port) == (family, bound.port) and overlaps and (not zone or other.zone in {0, zone}):
                raise OSError(errno.EADDRINUSE, f"{node.name} has [{other.address}]:{other.port} open already")
        node.ports.append(bound)
        return bound

    def _free_port(self) -> int:
        taken = {port.port for port in self._node.ports}
        for number in range(self._node.next_port, LAST_PORT + 1):
            if number not in taken:
                self._node.next_port = number + 1 if number < LAST_PORT else FIRST_EPHEMERAL_PORT
                return number
        raise OSError(errno.EADDRINUSE, f"{self._node.name} has no port left")

    def give(self, interface: int, address: IPv6Interface) -> None:
        """Give the interface of that index an address; one that it has, again: nothing. Raises `OSError` (ENODEV)."""
        self._network.give(self._node, interface, address)

    def take(self, interface: int, address: IPv6Interface) -> None:
        """Take an address from it; one that it has not is no error. Raises `OSError` (ENODEV)."""
        self._network.take(self._node, interface, address)

    def interface_index(self, name: str) -> int:
        """The index of an interface by its name. Raises `OSError` (ENODEV) where there is none."""
        if name not in self._node.interfaces:
            raise OSError(errno.ENODEV, f"there is no interface {name!r}")
        return self._node.interfaces[name].index

    def interface_addresses(self, name: str) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The addresses of an interface. Raises `OSError` (ENODEV) where there is none of that name."""
        return self._node.by_index(self.interface_index(name)).addresses

    def addresses(self) -> tuple[HostAddress, ...]:
        """The addresses of all interfaces of this node."""
        found = self._node.interfaces.values()
        return tuple(HostAddress(interface.index, address, address.network) for interface in found for address in interface.addresses)


class Network:
    """All nodes and links of one simulation."""

    def __init__(self, scheduler: Scheduler, random: Random | None = None) -> None:
        """`random` decides about the faults; by default that of the scheduler's seed."""
        self.trace = Trace()
        self._scheduler = scheduler
        self._medium = Medium(scheduler, random or scheduler.generator("network"))
        self._nodes: dict[str, _Node] = {}
        self._holders: dict[tuple[str, str], tuple[_Node, MemoryInterface]] = {}
        self._next_index = LOOPBACK_INDEX + 1
        self._next_number = 1
        self.set_quality = self._medium.set_quality
        self.heal = self._medium.heal

    def attach(self, name: str, interfaces: Mapping[str, Iterable[str]], metrics: Metrics | None = None) -> MemoryDatagrams:
        """A new node. `interfaces`: "eth0@lan" (interface eth0 on link lan) or "lan" (both named so), with addresses "fd00::1/64".

        Interfaces with the same link see each other. Each node has "lo" too. Indexes differ between all nodes, so that one
        that strays to another node is noticed. Raises `ValueError` for a name taken or an address malformed.
        """
        if name in self._nodes:
            raise ValueError(f"node: {name!r} is attached already")
        made = {"lo": make_interface(LOOPBACK_INDEX, f"lo of {name}", _LOOPBACK_ADDRESSES)}
        for key, addresses in interfaces.items():
            interface, _, link = key.partition("@")
            made[interface] = make_interface(self._next_index, link or interface, addresses)
            self._next_index += 1
        node = _Node(name, Counts(self._scheduler, metrics or Metrics()), made)
        for its in made.values():
            for host in its.hosts:
                holder, _ = self._holders.setdefault((its.link, host), (node, its))
                if holder is not node:
                    raise ValueError(f"address: {host} is that of {holder.name} on link {its.link!r} already")
        self._nodes[name] = node
        return MemoryDatagrams(self, node)

    def give(self, node: _Node, index: int, address: IPv6Interface) -> None:
        """See `MemoryDatagrams.give`. Raises `OSError` (EEXIST) where another node on the link has the address."""
        own = node.by_index(index)
        holder, _ = self._holders.get((own.link, str(address.ip)), (node, own))
        if holder is not node:
            raise OSError(errno.EEXIST, f"{address.ip} is that of {holder.name}")
        self._change(node, own, own.having((*(one for one in own.addresses if one.ip != address.ip), address)))

    def take(self, node: _Node, index: int, address: IPv6Interface) -> None:
        """See `MemoryDatagrams.take`."""
        own = node.by_index(index)
        self._change(node, own, own.having(one for one in own.addresses if one.ip != address.ip))

    def _change(self, node: _Node, own: MemoryInterface, other: MemoryInterface) -> None:
        name = next(name for name, interface in node.interfaces.items() if interface is own)
        node.interfaces[name] = other
        for host in own.hosts:
            del self._holders[own.link, host]
        self._holders |= {(own.link, host): (node, other) for host in other.hosts}

    def partition(self, one: str | Iterable[str], other: str | Iterable[str]) -> None:
        """From now on nothing passes between a node (or nodes) and another (or others), until `heal`."""
        self._medium.partition([one] if isinstance(one, str) else one, [other] if isinstance(other, str) else other)

    def down(self, name: str) -> None:
        """As if the process were killed: the node's ports are gone without a word, what is on its way to it is lost."""
        node = self._nodes[name]
        node.up = False
        for port in tuple(node.ports):
            port.stop()

    def up(self, name: str) -> None:
        """The node can open ports again."""
        self._nodes[name].up = True

    def unicast(self, node: _Node, port: MemoryPort, data: bytes, to: Sockaddr, source: str | None) -> None:
        """Send for a port of a node. Raises `OSError` where there is no way."""
        host = _canonical(port.family, to[0])
        own = node.holding(host)
        if own is not None or ipaddress.ip_address(host).is_loopback:
            packet = self._packet(node, port, data, (source or self._source(port, own, host), (host, to[1])))
            self._scheduler.callLater(0.0, self._arrive, packet, node, LOOPBACK_INDEX)
            return
        interface = self._way(node, host, to[-1] if len(to) == sockets.IPV6_SOCKADDR_ITEMS else 0)
        packet = self._packet(node, port, data, (source or self._source(port, interface, host), (host, to[1])))
        found = self._holders.get((interface.link, host))
        if found is None:
            self._lost(packet, node.name, "nobody has the address")
        else:
            self._carry(packet, interface.link, node, (found[0], found[1].index))

    def multicast(self, node: _Node, port: MemoryPort, data: bytes, to: tuple[str, int], index: int) -> None:
        """Send to a group for a port of a node: one datagram, of which each interface with members gets a copy."""
        interface = node.by_index(index)
        packet = self._packet(node, port, data, (self._source(port, interface, to[0]), to))
        for peer, its in self._on_link(interface.link):
            if not any((to[0], its.index) in member.groups and member.port == to[1] for member in peer.ports):
                continue
            if peer is node:
                self._scheduler.callLater(0.0, self._arrive, packet, node, its.index)
            else:
                self._carry(packet, interface.link, node, (peer, its.index))

    def _packet(self, node: _Node, port: MemoryPort, data: bytes, way: tuple[str, tuple[str, int]]) -> Packet:
        source, destination = way
        packet = Packet(self._next_number, bytes(data), port.family, (source, port.port), destination)
        self._next_number += 1
        self._tell(What.SENT, packet, node.name)
        return packet

    def _way(self, node: _Node, host: str, zone: int) -> MemoryInterface:
        """The interface to a host on one of the node's links: of the zone, or of the longest prefix."""
        if zone:
            return node.by_index(zone)
        address = ipaddress.ip_address(host)
        ways = [(own.network.prefixlen, way) for way in node.interfaces.values() for own in way.addresses if address in own.network]
        if not ways:
            raise OSError(errno.ENETUNREACH, f"{node.name} has no way to {host}")
        return max(ways, key=lambda way: way[0])[1]

    def _source(self, port: MemoryPort, interface: MemoryInterface | None, destination: str) -> str:
        """The address that a datagram leaves from: the bound one, or one of the interface, link-local for link-local."""
        if not port.wildcard:
            return port.address
        family = port.family
        link_scope = family.is_link_scope(socket.inet_pton(family.number, destination))
        own = [
            text
            for text in (interface.hosts if interface is not None else (destination,))
            if (":" in text) == (family.number == socket.AF_INET6)
        ]
        if not own:
            raise OSError(errno.EADDRNOTAVAIL, f"the interface has no address for a datagram to {destination}")
        return min(own, key=lambda text: family.is_link_scope(socket.inet_pton(family.number, text)) != link_scope)

    def _on_link(self, link: str) -> Iterator[tuple[_Node, MemoryInterface]]:
        for node in self._nodes.values():
            for interface in node.interfaces.values():
                if interface.link == link:
                    yield node, interface

    def _carry(self, packet: Packet, link: str, node: _Node, to: tuple[_Node, int]) -> None:
        peer, index = to
        size = len(packet.data) + _HEADER_BYTES[packet.family.number]
        dropped = self._medium.carry((link, node.name, peer.name), size, lambda: self._arrive(packet, peer, index))
        if dropped:
            self._lost(packet, peer.name, dropped)

    def _arrive(self, packet: Packet, node: _Node, index: int) -> None:
        ports = self._listening(packet, node, index)
        if not ports:
            self._lost(packet, node.name, "no port" if node.up else "down")
        for port in ports:
            if not port.closed:
                self._tell(What.DELIVERED, packet, node.name)
                port.receive(packet, index)

    def _listening(self, packet: Packet, node: _Node, index: int) -> list[MemoryPort]:
        """Every member of a group; of the ports for a unicast address the one that is bound to it, else the wildcard one."""
        host, number = packet.destination
        ports = [port for port in node.ports if port.family is packet.family and port.port == number]
        if packet.family.is_multicast(socket.inet_pton(packet.family.number, host)):
            return [port for port in ports if (host, index) in port.groups]
        bound = [port for port in ports if port.address == host and port.zone in {0, index}]
        return bound[:1] or [port for port in ports if port.wildcard and port.zone in {0, index}][:1]

    def _lost(self, packet: Packet, node: str, reason: str) -> None:
        self._tell(What.DROPPED, packet, node, reason)

    def _tell(self, what: What, packet: Packet, node: str, reason: str = "") -> None:
        source, destination = (f"[{host}]:{port}" for host, port in (packet.source, packet.destination))
        self.tell(what, packet.number, node, (source, destination, len(packet.data)), reason)

    def tell(self, what: What, number: int, node: str, about: tuple[str, str, int], reason: str = "") -> None:
        """Write an event to the trace; `about` is the source, the destination and the size."""
        self.trace.add(Event(self._scheduler.seconds(), what, number, node, *about, reason=reason))


def _canonical(family: sockets.Family, address: str) -> str:
    return socket.inet_ntop(family.number, socket.inet_pton(family.number, address))


__all__ = ["MemoryDatagrams", "MemoryPort", "Network", "Quality", "Scheduler"]
