"""A raw ICMPv6 socket, for router advertisements and solicitations.

Responsible for the socket (RFC 3542): which types it takes, hop limit 255 both ways, the interface of each message. Not responsible for
what is in a message.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.net.interfaces import IIcmpv6Port
from m2mapp.net.reading import Reactor

# Of <linux/in6.h> and <linux/icmpv6.h>; Python does not name the last two.
_IPV6_RECVHOPLIMIT: Final = 51
_ICMP6_FILTER: Final = 1
HOP_LIMIT: Final = 255
"""What comes from farther away than the link has less (RFC 4861, sections 6.1.1 and 6.1.2)."""
_MOST_BYTES: Final = 2048
_MESSAGES_PER_READ: Final = 32
_PKTINFO: Final = struct.Struct("@16sI")
_INT: Final = struct.Struct("@i")
_MREQ: Final = struct.Struct("@16sI")
_ANCILLARY: Final = socket.CMSG_SPACE(_PKTINFO.size) + socket.CMSG_SPACE(_INT.size)

Receive = Callable[[bytes, str, int], None]

_log = Logger(namespace="m2mapp.net")


@implementer(IIcmpv6Port, IReadDescriptor)
class Icmpv6Port:
    """One open socket. Raises `OSError` when it is made where the process may not."""

    def __init__(self, types: tuple[int, ...], receive: Receive, reactor: Reactor) -> None:
        self._receive, self._reactor = receive, reactor
        self._sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6)
        try:
            self._prepare(types)
        except BaseException:
            self._sock.close()
            raise
        reactor.addReader(self)

    def _prepare(self, types: tuple[int, ...]) -> None:
        blocked = [0xFFFFFFFF] * 8
        for kind in types:
            blocked[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
        self._sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("@8I", *blocked))
        for option, value in (
            (socket.IPV6_RECVPKTINFO, 1),
            (_IPV6_RECVHOPLIMIT, 1),
            (socket.IPV6_MULTICAST_HOPS, HOP_LIMIT),
            (socket.IPV6_UNICAST_HOPS, HOP_LIMIT),
            (socket.IPV6_MULTICAST_LOOP, 0),
        ):
            self._sock.setsockopt(socket.IPPROTO_IPV6, option, value)

    def join(self, group: str, interface: int) -> None:
        """Join a group on an interface; again: nothing. Raises `OSError`."""
        membership = _MREQ.pack(socket.inet_pton(socket.AF_INET6, group), interface)
        try:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise

    def send(self, data: bytes, to: str, interface: int) -> bool:
        """Send a message out of an interface. The system chooses its link-local address, as the destination is of the link."""
        info = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO.pack(bytes(16), interface))]
        try:
            self._sock.sendmsg([data], info, 0, (to, 0, 0, interface))
        except OSError as error:
            _log.debug("an ICMPv6 message to {to} was not sent: {error}", to=to, error=error)
            return False
        return True

    def stop(self) -> None:
        """Close it."""
        if self._sock.fileno() >= 0:
            self._reactor.removeReader(self)
            self._sock.close()

    def fileno(self) -> int:
        """For the reactor; -1 once closed."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "m2mapp.net"

    def doRead(self) -> None:
        """Take what has arrived, at most `_MESSAGES_PER_READ`. Never raises."""
        for _ in range(_MESSAGES_PER_READ):
            try:
                data, ancillary, _flags, source = self._sock.recvmsg(_MOST_BYTES, _ANCILLARY)
            except OSError:
                return  # Nothing is left, or the interface has gone: either way this socket goes on.
            interface, hops = 0, 0
            for _level, kind, value in ancillary:
                if kind == socket.IPV6_PKTINFO:
                    interface = _PKTINFO.unpack(value)[1]
                elif kind == socket.IPV6_HOPLIMIT:
                    hops = _INT.unpack(value)[0]
            if hops != HOP_LIMIT:
                continue
            try:
                self._receive(data, str(source[0]).partition("%")[0], interface)
            except Exception:  # noqa: BLE001 - the entry point of all messages: whatever it is, the socket goes on
                _log.failure("an ICMPv6 message from {source} was not handled", failure=Failure(), source=source[0])
            if self._sock.fileno() < 0:
                return

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw an error condition without data: take the error, and read on."""
        if self._sock.fileno() >= 0:
            self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._reactor.addReader(self)
