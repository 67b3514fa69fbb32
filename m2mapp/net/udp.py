"""The real UDP ports: a datagram comes with its destination, interface and zone, and groups are joined by interface.

Responsible for reading in bounded steps, sending, joining, and for counting all that goes wrong. Not responsible for what is in a
datagram. There is no queue of datagrams to send: one that the system does not take is counted and gone, as UDP promises no more.

A port is exclusive: a second bind to the same address and port fails, in this program or another, for whichever of two programs
shares a unicast address gets its datagrams is chance. Several nodes on one host bind an address each ("fd00::d1", "127.0.1.7").
A group is another matter: each that joined gets a copy. A socket bound to a unicast address gets no multicast from the kernel, so
`join` then opens a socket more, bound to the group on the same port and shared (SO_REUSEADDR), whose datagrams go to the same
receiver. A wildcard port joins on its own socket, and with sockets of that kind beyond the kernel's limit for one socket.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface
from typing import Protocol
from weakref import WeakSet

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.model.metrics import Metrics
from m2mapp.net import sockets
from m2mapp.net.addresses import HostAddress, read_addresses
from m2mapp.net.counts import Counts, Seconds
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, IDatagrams, Sockaddr

MAXIMUM_DATAGRAM_BYTES = 65535
DATAGRAMS_PER_READ = 64
"""After so many the reactor looks at its other work."""
HANDED_AT_ONCE = 16
TAKEN_DATAGRAMS, TAKEN_BYTES = 1024, 1024 * 1024
"""So much is taken from a socket and not handed on yet, at most (and one datagram more)."""

DEFAULT_HOP_LIMIT = 8
LINK_HOP_LIMIT = 1
MAXIMUM_HOP_LIMIT = 255
KNOWN_ARRIVALS = 1024
"""So many destinations a socket knows without looking twice."""
KNOWN_HOSTS = 4096
"""So many hosts a port sends to without looking twice, and leaves from so many of its own."""

_SOCKET_IS_FULL = frozenset({errno.ENOBUFS, errno.ENOMEM})

_log = Logger()


class Reactor(Seconds, Protocol):
    """What is needed of a reactor: to be told that a socket can be read, its clock, and to be called in its next turn."""

    def addReader(self, reader: IReadDescriptor) -> None:  # noqa: N802 - Twisted's name
        """See `IReactorFDSet`."""

    def removeReader(self, reader: IReadDescriptor) -> None:  # noqa: N802 - Twisted's name
        """See `IReactorFDSet`."""

    def callLater(self, delay: float, callable: Callable[[], object]) -> IDelayedCall:
        """See `IReactorTime`."""


@implementer(IReadDescriptor)
class _Reader:
    """One socket in the reactor. Hands datagrams to the port's receiver, those to groups only where they were joined here."""

    def __init__(self, sock: socket.socket, family: sockets.Family, receiver: IDatagramReceiver, reactor: Reactor, counts: Counts) -> None:
        self.sock = sock
        self.closed = False
        self._family, self._receiver, self._reactor, self._counts = family, receiver, reactor, counts
        self._joined: set[tuple[str, int]] = set()
        self._known: dict[bytes, tuple[str, int] | None] = {}
        self._overflows = 0
        self.taken: deque[tuple[bytes, Sockaddr, tuple[str, int]]] = deque()
        self.taken_bytes = 0
        self._next_turn: IDelayedCall | None = None
        reactor.addReader(self)

    def join(self, group: bytes, interface: int) -> None:
        """Join on this socket. Raises `OSError`."""
        self._family.join(self.sock, group, interface)
        self._joined.add((socket.inet_ntop(self._family.number, group), interface))
        self._known.clear()

    def leave(self, group: bytes, interface: int) -> None:
        """Leave on this socket. The kernel has forgotten a membership whose interface is gone: no error."""
        self._joined.discard((socket.inet_ntop(self._family.number, group), interface))
        self._known.clear()
        try:
            self._family.leave(self.sock, group, interface)
        except OSError as error:
            _log.debug("leaving a group on interface {interface}: {error}", interface=interface, error=error)

    def fileno(self) -> int:
        """For the reactor; -1 once closed."""
        return self.sock.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "m2mapp.net"

    def doRead(self) -> None:
        """Take what has arrived, and hand on at most `DATAGRAMS_PER_READ`; the rest in the reactor's next turn. Never raises.

        A group's answers come faster than each can be dealt with, and the receive buffer of a process without rights holds five hundred
        of them. To take one costs a quarter of what dealing with it does, so all that is there is taken before each few are handed on.
        """
        handed = 0
        while handed < DATAGRAMS_PER_READ and not self.closed:
            self._take()
            if not self.taken:
                break
            handed += self._hand_on(min(HANDED_AT_ONCE, DATAGRAMS_PER_READ - handed))
        self._counts.received.value += handed
        if self.taken and self._next_turn is None:
            self._next_turn = self._reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next_turn = None
        self.doRead()

    def _take(self) -> None:
        """Take what the socket has, as far as there is room."""
        receive, taken, known = self.sock.recvmsg, self.taken, self._known
        while len(taken) < TAKEN_DATAGRAMS and self.taken_bytes < TAKEN_BYTES:
            try:
                data, ancillary, _flags, source = receive(MAXIMUM_DATAGRAM_BYTES, sockets.ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._receive_failed(error)
                return
            arrival = known.get(ancillary[0][2]) if len(ancillary) == 1 else None  # nearly always
            arrival = arrival or self._arrival(ancillary)
            if arrival is None:
                self._counts.unwanted.add()
            else:
                taken.append((data, source, arrival))
                self.taken_bytes += len(data)

    def _hand_on(self, most: int) -> int:
        """Hand on so many of those taken; how many were there. A receiver that closes this socket gets no more."""
        handed, taken, receive = 0, self.taken, self._receiver.datagram_received
        while taken and handed < most and not self.closed:
            data, source, (destination, interface) = taken.popleft()
            self.taken_bytes -= len(data)
            handed += 1
            try:
                receive(data, source, destination, interface)
            except Exception:  # noqa: BLE001 - the entry point of all datagrams: whatever it is, the port goes on
                self._receiver_raised(source)
        return handed

    def _arrival(self, ancillary: sockets.Ancillary) -> tuple[str, int] | None:
        """Destination and interface; None for what this socket did not ask for."""
        found = None
        for level, _kind, value in ancillary:
            if level == socket.SOL_SOCKET:
                self._count_overflow(sockets.overflow_count(value))
                continue
            try:
                found = self._known[value]
            except KeyError:
                found = self._learn(value)
        return found

    def _learn(self, info: bytes) -> tuple[str, int] | None:
        # IPv6 gives a socket that joined a group on one interface this group's datagrams of every interface where anyone joined it
        # (inet6_mc_check compares the address only), so the interface is checked here.
        if len(self._known) >= KNOWN_ARRIVALS:
            self._known.clear()
        arrival = self._family.arrival(info)
        where = (arrival.destination, arrival.interface)
        wanted = where in self._joined if arrival.multicast else not arrival.broadcast
        self._known[info] = where if wanted else None
        return self._known[info]

    def _count_overflow(self, overflows: int) -> None:
        lost = (overflows - self._overflows) % 2**32
        self._overflows = overflows
        if lost:
            self._counts.lost.add(lost)
            if self._counts.may_log("overflow"):
                _log.warn("{lost} datagrams were lost: the receive buffer was full (net.core.rmem_max, or CAP_NET_ADMIN)", lost=lost)

    def _receive_failed(self, error: OSError) -> None:
        self._counts.receive_errors.add()
        if self._counts.may_log("receive"):
            _log.warn("a socket reported {error}; it stays open", error=error)

    def _receiver_raised(self, source: object) -> None:
        self._counts.raised.add()
        if self._counts.may_log("receiver"):
            _log.failure("a datagram from {source} was not handled", failure=Failure(), source=source)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw an error condition without data and dropped this reader: take the error, and read on.

        Nothing a network does ends a UDP socket; only `close` does.
        """
        if self.closed:
            return
        pending = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._receive_failed(OSError(pending, reason.getErrorMessage()))
        self._reactor.addReader(self)

    def close(self) -> None:
        """Leave the reactor and close the socket; its memberships end with it."""
        if not self.closed:
            self.closed = True
            self._reactor.removeReader(self)
            if self._next_turn is not None:
                self._next_turn.cancel()
                self._next_turn = None
            self.taken.clear()
            self.taken_bytes = 0
            self.sock.close()


@implementer(IDatagramPort)
class Port:
    """A UDP port: its own socket, and one for each group that this socket cannot hold. Made by `SystemDatagrams.open_port`."""

    def __init__(
        self, bound: tuple[sockets.Family, Sockaddr, int], receiver: IDatagramReceiver, reactor: Reactor, counts: Counts, hop_limit: int
    ) -> None:
        """Binds to an address, and to the interface of that index (0: all). Raises `OSError`: EADDRINUSE, EADDRNOTAVAIL, EACCES."""
        self._family, address, device = bound
        self._receiver, self._reactor, self._counts, self._hop_limit = receiver, reactor, counts, hop_limit
        self._main = self._open(address, shared=False, device=device)
        self._local: Sockaddr = self._main.sock.getsockname()
        self._source = socket.inet_pton(self._family.number, self._local[0])
        self._wildcard = not any(self._source)
        self._groups: dict[tuple[bytes, int], _Reader] = {}
        # Hosts that may be sent to: by their address, or with their zone where that counts.
        self._unicast: set[str | tuple[str, object]] = set()
        self._leaving: dict[str, sockets.Ancillary] = {}

    def _open(self, address: Sockaddr, shared: bool, device: int = 0) -> _Reader:
        sock = sockets.open_socket(self._family, address, shared, device)
        return _Reader(sock, self._family, self._receiver, self._reactor, self._counts)

    def local(self) -> Sockaddr:
        """The bound `Sockaddr`, with the port that the system chose where 0 was asked for."""
        return self._local

    def waiting(self) -> int:
        """How many datagrams of the port's own socket wait to be handed on."""
        return len(self._main.taken)

    def readers(self) -> list[_Reader]:
        """Every open socket of this port."""
        return [] if self._main.closed else list(dict.fromkeys([self._main, *self._groups.values()]))

    def send(self, data: bytes, to: Sockaddr, source: str | None = None) -> bool:
        """Send to a unicast `Sockaddr`; `source` is the address of this host that it leaves from, where the port has several.

        An answer leaves from the address that was asked (RFC 7252, 4.2 matches endpoints). True if the system took the datagram.
        A host that is no numeric address, a multicast address, or a link-local one without its zone: not sent.
        """
        try:
            if to[0] not in self._unicast and (to[0], to[-1]) not in self._unicast:
                self._learn_unicast(to)
            if source is None:
                self._main.sock.sendto(data, to)
            else:
                how = self._leaving.get(source) or self._learn_source(source)
                self._main.sock.sendmsg((data,), how, 0, to)
        except (OSError, ValueError, OverflowError) as error:
            return self._counts.not_sent(error)
        self._counts.sent.value += 1
        return True

    def _learn_unicast(self, to: Sockaddr) -> None:
        """See that this is one host, once. Raises as `sockets.require_unicast` does."""
        anywhere = sockets.require_unicast(self._family, to, self._source)
        if len(self._unicast) >= KNOWN_HOSTS:
            self._unicast.clear()
        self._unicast.add(to[0] if anywhere else (to[0], to[-1]))

    def _learn_source(self, source: str) -> sockets.Ancillary:
        """Ancillary data that a datagram leaves with from this address of the host. Raises `OSError` for what is none."""
        if len(self._leaving) >= KNOWN_HOSTS:
            self._leaving.clear()
        how = self._leaving[source] = self._family.from_source(socket.inet_pton(self._family.number, source))
        return how

    def send_to_group(self, data: bytes, group: str, port: int, interface: int) -> bool:
        """Send to a multicast address out of one interface, from the port's address; members on this host get it too.

        The hop limit is 1 for link scope, else the one given to `SystemDatagrams`. True if the system took the datagram.
        """
        try:
            packed = sockets.packed_group(self._family, group, interface)
            hops = LINK_HOP_LIMIT if self._family.is_link_scope(packed) else self._hop_limit
            how = self._family.to_group(self._source, interface, hops)
            self._main.sock.sendmsg([data], how, 0, self._family.sockaddr(group, port, interface))
        except (OSError, ValueError, OverflowError) as error:
            return self._counts.not_sent(error)
        self._counts.sent.add()
        return True

    def join(self, group: str, interface: int) -> None:
        """Join a group on the interface of that index; again: nothing. Raises `OSError` with the reason."""
        packed = sockets.packed_group(self._family, group, interface)
        if self._main.closed:
            raise OSError(errno.EBADF, "the port is closed")
        if (packed, interface) in self._groups:
            return
        if self._wildcard:
            try:
                self._main.join(packed, interface)
            except OSError as error:
                if error.errno not in _SOCKET_IS_FULL:
                    raise
            else:
                self._groups[packed, interface] = self._main
                return
        self._groups[packed, interface] = self._join_beside(packed, interface)

    def _join_beside(self, packed: bytes, interface: int) -> _Reader:
        group = socket.inet_ntop(self._family.number, packed)
        with sockets.beside(self._main.sock):
            reader = self._open(self._family.sockaddr(group, self._local[1], interface), shared=True)
        try:
            reader.join(packed, interface)
        except OSError:
            reader.close()
            raise
        return reader

    def leave(self, group: str, interface: int) -> None:
        """Leave it; a group that was not joined, or is none, is no error."""
        try:
            packed = sockets.packed_group(self._family, group, interface)
        except OSError:
            return
        reader = self._groups.pop((packed, interface), None)
        if reader is self._main:
            reader.leave(packed, interface)
        elif reader is not None:
            reader.close()

    def stop(self) -> Deferred[None]:
        """Close all sockets of the port. Nothing is received after this call; the Deferred has fired already."""
        for reader in self.readers():
            reader.close()
        self._groups.clear()
        return succeed(None)


@implementer(IDatagrams)
class SystemDatagrams:
    """Opens ports on the system's network."""

    def __init__(self, reactor: Reactor, metrics: Metrics, hop_limit: int = DEFAULT_HOP_LIMIT) -> None:
        """`hop_limit` (1 to 255) is that of multicast beyond link scope: how many routers it may pass, less one."""
        if not 1 <= hop_limit <= MAXIMUM_HOP_LIMIT:
            raise ValueError(f"hop_limit: {hop_limit} is not within 1 to {MAXIMUM_HOP_LIMIT}")
        self._reactor, self._hop_limit = reactor, hop_limit
        self._counts = Counts(reactor, metrics)
        self._ports: WeakSet[Port] = WeakSet()
        metrics.gauge("m2mapp_net_receive_queue_bytes", "Memory of datagrams that wait to be read.", self._waiting_bytes)
        metrics.gauge("m2mapp_net_receive_buffer_bytes", "The smallest receive buffer of an open socket.", self._smallest_buffer)

    def _readers(self) -> list[_Reader]:
        return [reader for port in self._ports for reader in port.readers()]

    def _waiting_bytes(self) -> float:
        return float(sum(sockets.receive_queue(reader.sock) + reader.taken_bytes for reader in self._readers()))

    def _smallest_buffer(self) -> float:
        return float(min((sockets.receive_buffer(reader.sock) for reader in self._readers()), default=0))

    def open_port(self, host: str, port: int, receiver: IDatagramReceiver) -> Port:
        """Bind to an address ("::", "0.0.0.0", "fd00::1", "fe80::1%eth1", "::%eth1") and UDP port (0: any). Raises `OSError`."""
        family, address, zone = sockets.parse_host(host)
        opened = Port((family, family.sockaddr(address, port, zone), zone), receiver, self._reactor, self._counts, self._hop_limit)
        self._ports.add(opened)
        return opened

    def interface_index(self, name: str) -> int:
        """The index of an interface by its name. Raises `OSError` (ENODEV) where there is none."""
        return sockets.interface_index(name)

    def interface_addresses(self, name: str) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The usable addresses of an interface. Raises `OSError` (ENODEV) where there is none of that name."""
        index = sockets.interface_index(name)
        return tuple(found.address for found in read_addresses() if found.interface == index)

    def addresses(self) -> tuple[HostAddress, ...]:
        """The usable addresses of all interfaces of this host."""
        return read_addresses()
