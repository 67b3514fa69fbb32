"""One UDP socket in the reactor: what arrives is taken in bounded steps and handed to a receiver, what goes wrong is counted.

Not responsible for which socket is opened or joins what: `net.udp`.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.net import sockets
from m2mapp.net.counts import Counts, Seconds
from m2mapp.net.interfaces import IDatagramReceiver, Sockaddr

MAXIMUM_DATAGRAM_BYTES = 65535
DATAGRAMS_PER_READ = 64
"""After so many the reactor looks at its other work."""
HANDED_AT_ONCE = 16
TAKEN_DATAGRAMS, TAKEN_BYTES = 1024, 1024 * 1024
"""So much is taken from a socket and not handed on yet, at most (and one datagram more)."""
KNOWN_ARRIVALS = 1024
"""So many destinations a socket knows without looking twice."""

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
class Reader:
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
