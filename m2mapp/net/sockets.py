"""UDP sockets as this program wants them, once for each IP family: options, membership, ancillary data.

Responsible for the kernel's structures (Linux) and for what an option has to be set to. Not responsible for reading, for who is
told, nor for which socket joins which group: `net.udp`.

Membership and the interface are chosen by index (RFC 3493, 5.2; RFC 3542, 6), the outgoing interface and the hop limit travel
with each datagram, so that no send changes the state of the socket.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from m2mapp.net.interfaces import Sockaddr

# Of <linux/in.h>, <linux/in6.h> and <asm-generic/socket.h>; Python 3.11 does not name them.
_IP_PKTINFO = 8
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_SO_BINDTOIFINDEX = 62
SO_RXQ_OVFL = 40

IPV6_SOCKADDR_ITEMS = 4
"""A `Sockaddr` of so many items is of IPv6."""

_CLASS_D = 0b1110
_LINK_LOCAL_SCOPE = 2
"""Multicast scopes up to this one are of one link or of one interface (RFC 7346, 2)."""

_IN6_PKTINFO = struct.Struct("@16sI")
_IN_PKTINFO = struct.Struct("@I4s4s")
_IPV6_MREQ = struct.Struct("@16sI")
_IP_MREQN = struct.Struct("@4s4sI")
_INT = struct.Struct("@i")
_COUNT = struct.Struct("@I")

BUFFER_BYTES = 4 * 1024 * 1024
ANCILLARY_BYTES = socket.CMSG_SPACE(_IN6_PKTINFO.size) + socket.CMSG_SPACE(_COUNT.size)

Ancillary = list[tuple[int, int, bytes]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a datagram was sent to, and the interface it came in by. `broadcast`: IPv4 only, to everybody on the link."""

    destination: str
    interface: int
    multicast: bool
    broadcast: bool = False


class Family(Protocol):
    """What differs between IPv6 and IPv4. All take and give packed addresses; interfaces are indexes."""

    number: socket.AddressFamily

    def prepare(self, sock: socket.socket) -> None:
        """Set the options of a socket that is not bound yet."""

    def join(self, sock: socket.socket, group: bytes, interface: int) -> None:
        """Join a group on an interface. Raises `OSError`."""

    def leave(self, sock: socket.socket, group: bytes, interface: int) -> None:
        """Leave it. Raises `OSError` where it was not joined."""

    def arrival(self, info: bytes) -> Arrival:
        """Read the packet information that came with a datagram."""

    def from_source(self, source: bytes) -> Ancillary:
        """Ancillary data of a datagram that has to leave from one of this host's addresses."""

    def to_group(self, source: bytes, interface: int, hops: int) -> Ancillary:
        """Ancillary data of a datagram to a group; an unspecified source leaves the choice to the kernel."""

    def is_multicast(self, address: bytes) -> bool:
        """Whether it is a multicast address."""

    def is_link_scope(self, address: bytes) -> bool:
        """Whether the address (unicast or multicast) means something on one link only."""

    def sockaddr(self, host: str, port: int, interface: int) -> Sockaddr:
        """What `bind` and `sendto` take; the interface is the zone of a link-scope address."""


class Inet6:
    """IPv6: RFC 3493 and RFC 3542."""

    number = socket.AF_INET6

    def prepare(self, sock: socket.socket) -> None:
        """V6ONLY, so that 0.0.0.0 can be bound beside "::"; packet information; only what this socket joined (`MULTICAST_ALL`)."""
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)

    def join(self, sock: socket.socket, group: bytes, interface: int) -> None:
        """Join a group on an interface (RFC 3493, 5.2). Raises `OSError`."""
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _IPV6_MREQ.pack(group, interface))

    def leave(self, sock: socket.socket, group: bytes, interface: int) -> None:
        """Leave it. Raises `OSError` where it was not joined."""
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, _IPV6_MREQ.pack(group, interface))

    def arrival(self, info: bytes) -> Arrival:
        """Read a struct in6_pktinfo (RFC 3542, 6.2)."""
        address, interface = _IN6_PKTINFO.unpack(info)
        return Arrival(socket.inet_ntop(self.number, address), interface, self.is_multicast(address))

    def from_source(self, source: bytes) -> Ancillary:
        """The source address, and the kernel's choice of interface (RFC 3542, 6.2)."""
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(source, 0))]

    def to_group(self, source: bytes, interface: int, hops: int) -> Ancillary:
        """Source, interface and hop limit (RFC 3542, 6.2 and 6.3)."""
        return [
            (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(source, interface)),
            (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, _INT.pack(hops)),
        ]

    def is_multicast(self, address: bytes) -> bool:
        """ff00::/8 (RFC 4291, 2.7)."""
        return address.startswith(b"\xff")

    def is_link_scope(self, address: bytes) -> bool:
        """fe80::/10, and multicast of interface-local or link-local scope (RFC 4291, 2.5.6 and 2.7)."""
        if self.is_multicast(address):
            return (address[1] & 0x0F) <= _LINK_LOCAL_SCOPE
        return is_link_local(address)

    def sockaddr(self, host: str, port: int, interface: int) -> Sockaddr:
        """With the zone, which the kernel looks at for link-scope addresses only."""
        return (host, port, 0, interface)


class Inet4:
    """IPv4: ip(7)."""

    number = socket.AF_INET

    def prepare(self, sock: socket.socket) -> None:
        """Packet information; only what this socket joined (`MULTICAST_ALL`), on the interface where it joined."""
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)

    def join(self, sock: socket.socket, group: bytes, interface: int) -> None:
        """Join a group on an interface. Raises `OSError`: ENOBUFS at net.ipv4.igmp_max_memberships (20) of one socket."""
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _IP_MREQN.pack(group, bytes(4), interface))

    def leave(self, sock: socket.socket, group: bytes, interface: int) -> None:
        """Leave it. Raises `OSError` where it was not joined."""
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, _IP_MREQN.pack(group, bytes(4), interface))

    def arrival(self, info: bytes) -> Arrival:
        """Read a struct in_pktinfo. The local address differs from the header's one for multicast and broadcast only."""
        interface, local, address = _IN_PKTINFO.unpack(info)
        multicast = self.is_multicast(address)
        return Arrival(socket.inet_ntop(self.number, address), interface, multicast, not multicast and local != address)

    def from_source(self, source: bytes) -> Ancillary:
        """The source address, and the kernel's choice of interface."""
        return [(socket.IPPROTO_IP, _IP_PKTINFO, _IN_PKTINFO.pack(0, source, bytes(4)))]

    def to_group(self, source: bytes, interface: int, hops: int) -> Ancillary:
        """Source, interface and time to live."""
        return [
            (socket.IPPROTO_IP, _IP_PKTINFO, _IN_PKTINFO.pack(interface, source, bytes(4))),
            (socket.IPPROTO_IP, socket.IP_TTL, _INT.pack(hops)),
        ]

    def is_multicast(self, address: bytes) -> bool:
        """224.0.0.0/4 (RFC 5771)."""
        return address[0] >> 4 == _CLASS_D

    def is_link_scope(self, address: bytes) -> bool:
        """224.0.0.0/24, the local network control block (RFC 5771, 4). Unicast 169.254.0.0/16 has no zone in IPv4."""
        return address.startswith(b"\xe0\x00\x00")

    def sockaddr(self, host: str, port: int, interface: int) -> Sockaddr:
        """IPv4 addresses have no zone."""
        return (host, port)


def is_link_local(address: bytes) -> bool:
    """Whether a packed IPv6 address is in fe80::/10 (RFC 4291, 2.5.6)."""
    return address.startswith(b"\xfe") and address[1] >> 6 == 0b10  # noqa: PLR2004 - the two bits that follow in fe80::/10


INET6 = Inet6()
INET4 = Inet4()


def interface_index(name: str) -> int:
    """The index of an interface by its name. Raises `OSError` (ENODEV) where there is none."""
    try:
        return socket.if_nametoindex(name)
    except (OSError, ValueError):
        raise OSError(errno.ENODEV, f"there is no interface {name!r}") from None


def parse_host(host: str, index_of: Callable[[str], int] = interface_index) -> tuple[Family, str, int]:
    """Read "::", "fd00::1", "fe80::1%eth1", "192.0.2.1": the family, the address without zone, the zone's index or 0.

    Raises `OSError` (EINVAL) for text that is no address, (ENODEV) for a zone that is no interface.
    """
    address, _, zone = host.partition("%")
    try:
        ipv6 = isinstance(ipaddress.ip_address(address), ipaddress.IPv6Address)
    except ValueError:
        raise OSError(errno.EINVAL, f"host: {host!r} is not an IP address such as '::', '192.0.2.1' or 'fe80::1%eth1'") from None
    if not zone:
        return (INET6 if ipv6 else INET4), address, 0
    if not ipv6:
        raise OSError(errno.EINVAL, f"host: {host!r}: an IPv4 address has no zone")
    return INET6, address, int(zone) if zone.isdecimal() else index_of(zone)


def packed_group(family: Family, group: str, interface: int) -> bytes:
    """The group's packed address.

    Raises `OSError` (EINVAL) where it is no multicast address of the family, (ENODEV) where no interface is named.
    """
    try:
        packed = socket.inet_pton(family.number, group)
    except (OSError, ValueError):
        packed = b""
    if not packed or not family.is_multicast(packed):
        version = 6 if family.number == socket.AF_INET6 else 4
        raise OSError(errno.EINVAL, f"group: {group!r} is not an IPv{version} multicast address")
    if interface <= 0:
        raise OSError(errno.ENODEV, f"group {group}: {interface} is not the index of an interface")
    return packed


def require_unicast(family: Family, to: Sockaddr, source: bytes) -> bool:
    """Raises `OSError` or `ValueError` for a `Sockaddr` that would not go to the one host that it names.

    True where the same will hold of this host with any port and zone, so that it need not be asked again.

    That is a name (the socket module would look it up, and wait), a multicast address (it would go to many), and a link-local
    address without its zone from a source that has none either (it would go out of any interface).
    """
    packed = socket.inet_pton(family.number, to[0])
    if family.is_multicast(packed):
        raise OSError(errno.EINVAL, f"{to[0]} is a multicast address")
    if not family.is_link_scope(packed):
        return True
    zoned = len(to) == IPV6_SOCKADDR_ITEMS and to[-1] != 0
    if not zoned and not family.is_link_scope(source):
        raise OSError(errno.EINVAL, f"{to[0]} is link-local and its zone is not given")
    return False


def open_socket(family: Family, address: Sockaddr, shared: bool, device: int = 0) -> socket.socket:
    """A bound, non-blocking socket with the options of its family and buffers as large as allowed. Raises `OSError`.

    `shared` allows others of this kind beside it on the same address and port: right for a socket bound to a group, of which
    each gets a copy, wrong for a unicast address, where one of them would get everything and the other nothing. `device` is the
    index of the one interface that it receives from and sends on (0: all): sockets of different interfaces may share a port.
    """
    sock = socket.socket(family.number, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        family.prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        _enlarge(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF)
        _enlarge(sock, _SO_SNDBUFFORCE, socket.SO_SNDBUF)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if device:
            sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, device)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def beside(sock: socket.socket) -> Iterator[None]:
    """While this lasts, sockets that are `shared` can be bound to groups on the port of a wildcard socket.

    The kernel looks at SO_REUSEADDR of both only in `bind`; so it is set for that moment, and at any other time no program
    that sets it can take the port's datagrams away unseen.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        yield
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _enlarge(sock: socket.socket, force: int, ask: int) -> None:
    """Ask for `BUFFER_BYTES`: beyond the system's limit where the process may (CAP_NET_ADMIN), else as far as it goes."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, ask, BUFFER_BYTES)


def receive_buffer(sock: socket.socket) -> int:
    """Bytes that the kernel granted for what was not read yet; half of what it reports, which allows for its own overhead."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def receive_queue(sock: socket.socket) -> int:
    """Bytes, with the kernel's overhead, that wait to be read."""
    return int(_COUNT.unpack_from(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64))[0])


def overflow_count(value: bytes) -> int:
    """The `SO_RXQ_OVFL` ancillary data: datagrams that this socket lost since it was opened, modulo 2**32."""
    return int(_COUNT.unpack(value)[0])
