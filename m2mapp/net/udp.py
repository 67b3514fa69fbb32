"""The real UDP ports: a datagram comes with its destination, interface and zone, and groups are joined by interface.

Responsible for sending, joining, and for counting all that goes wrong there. Not responsible for reading (`net.reading`), nor for what is
in a datagram. There is no queue of datagrams to send: one that the system does not take is counted and gone, as UDP promises no more.

A port is exclusive: a second bind to the same address and port fails, in this program or another, for whichever of two programs
shares a unicast address gets its datagrams is chance. Several nodes on one host bind an address each ("fd00::d1", "127.0.1.7").
A group is another matter: each that joined gets a copy. A socket bound to a unicast address gets no multicast from the kernel, so
`join` then uses a socket more, bound to the group on the same port and shared (SO_REUSEADDR), whose datagrams go to the same
receiver, and to those of the other nodes of this process (`group_sockets`). A wildcard port joins on its own socket, and with sockets of
that kind beyond the kernel's limit for one socket.
"""

from __future__ import annotations

import errno
import socket
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface
from typing import NamedTuple
from weakref import WeakSet

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from m2mapp.model.metrics import Metrics
from m2mapp.net import sockets
from m2mapp.net.addresses import HostAddress, read_addresses
from m2mapp.net.counts import Counts
from m2mapp.net.group_sockets import GroupSockets, Key, Membership
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, IDatagrams, Sockaddr
from m2mapp.net.reading import Reactor, Reader

DEFAULT_HOP_LIMIT = 8
LINK_HOP_LIMIT = 1
MAXIMUM_HOP_LIMIT = 255
KNOWN_HOSTS = 4096
"""So many hosts a port sends to without looking twice, and leaves from so many of its own."""

_SOCKET_IS_FULL = frozenset({errno.ENOBUFS, errno.ENOMEM})

_log = Logger()


class Shared(NamedTuple):
    """What ports share: the reactor, and the sockets that are bound to groups."""

    reactor: Reactor
    groups: GroupSockets


@implementer(IDatagramPort)
class Port:
    """A UDP port: its own socket, and one for each group that this socket cannot hold. Made by `SystemDatagrams.open_port`."""

    def __init__(
        self, bound: tuple[sockets.Family, Sockaddr, int], receiver: IDatagramReceiver, shared: Shared, counts: Counts, hop_limit: int
    ) -> None:
        """Binds to an address, and to the interface of that index (0: all). Raises `OSError`: EADDRINUSE, EADDRNOTAVAIL, EACCES."""
        self._family, address, device = bound
        self._receiver, self._shared, self._counts, self._hop_limit = receiver, shared, counts, hop_limit
        sock = sockets.open_socket(self._family, address, False, device)
        self._main = Reader(sock, self._family, receiver, shared.reactor, counts)
        self._local: Sockaddr = self._main.sock.getsockname()
        self._source = socket.inet_pton(self._family.number, self._local[0])
        self._wildcard = not any(self._source)
        self._groups: dict[tuple[bytes, int], Reader | Membership] = {}
        # Hosts that may be sent to: by their address, or with their zone where that counts.
        self._unicast: set[str | tuple[str, object]] = set()
        self._leaving: dict[str, sockets.Ancillary] = {}

    def local(self) -> Sockaddr:
        """The bound `Sockaddr`, with the port that the system chose where 0 was asked for."""
        return self._local

    def waiting(self) -> int:
        """How many datagrams of the port's own socket wait to be handed on."""
        return len(self._main.taken)

    def readers(self) -> list[Reader]:
        """Every open socket of this port, those that it shares too."""
        groups = (group.reader if isinstance(group, Membership) else group for group in self._groups.values())
        return [] if self._main.closed else list(dict.fromkeys([self._main, *groups]))

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
        key = (self._family.number, packed, interface, self._local[1])
        self._groups[packed, interface] = self._shared.groups.join(key, self._receiver, self._counts, partial(self._beside, key))

    def _beside(self, key: Key, receiver: IDatagramReceiver, counts: Counts) -> Reader:
        """A reader of the socket that is bound to a group. Raises `OSError`."""
        _, packed, interface, port = key
        with sockets.beside(self._main.sock):
            group = self._family.sockaddr(socket.inet_ntop(self._family.number, packed), port, interface)
            sock = sockets.open_socket(self._family, group, True)
        reader = Reader(sock, self._family, receiver, self._shared.reactor, counts)
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
        """Close the port's sockets, but those that others have too. Nothing is received after this call; the Deferred has fired already."""
        for reader in (self._main, *self._groups.values()):
            reader.close()
        self._groups.clear()
        return succeed(None)


@implementer(IDatagrams)
class SystemDatagrams:
    """Opens ports on the system's network. `groups` are the sockets that nodes of one process share; by default it has its own."""

    def __init__(self, reactor: Reactor, metrics: Metrics, hop_limit: int = DEFAULT_HOP_LIMIT, groups: GroupSockets | None = None) -> None:
        """`hop_limit` (1 to 255) is that of multicast beyond link scope: how many routers it may pass, less one."""
        if not 1 <= hop_limit <= MAXIMUM_HOP_LIMIT:
            raise ValueError(f"hop_limit: {hop_limit} is not within 1 to {MAXIMUM_HOP_LIMIT}")
        self._shared, self._hop_limit = Shared(reactor, groups or GroupSockets(reactor)), hop_limit
        self._counts = Counts(reactor, metrics)
        self._ports: WeakSet[Port] = WeakSet()
        metrics.gauge("m2mapp_net_receive_queue_bytes", "Memory of datagrams that wait to be read.", self._waiting_bytes)
        metrics.gauge("m2mapp_net_receive_buffer_bytes", "The smallest receive buffer of an open socket.", self._smallest_buffer)

    def _readers(self) -> list[Reader]:
        return [reader for port in self._ports for reader in port.readers()]

    def _waiting_bytes(self) -> float:
        return float(sum(sockets.receive_queue(reader.sock) + reader.taken_bytes for reader in self._readers()))

    def _smallest_buffer(self) -> float:
        return float(min((sockets.receive_buffer(reader.sock) for reader in self._readers()), default=0))

    def open_port(self, host: str, port: int, receiver: IDatagramReceiver) -> Port:
        """Bind to an address ("::", "0.0.0.0", "fd00::1", "fe80::1%eth1", "::%eth1") and UDP port (0: any). Raises `OSError`."""
        family, address, zone = sockets.parse_host(host)
        opened = Port((family, family.sockaddr(address, port, zone), zone), receiver, self._shared, self._counts, self._hop_limit)
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
