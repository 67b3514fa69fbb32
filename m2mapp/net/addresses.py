"""The addresses of this host's interfaces, and which sources are on the links of some of them.

Responsible for reading them from the kernel (rtnetlink) and for the question that access by `link` asks (spec section 10). Not
responsible for setting addresses or routes, nor for noticing changes: who needs that calls `refresh` now and then.

One kind of netlink request with three attributes is written out here: the library at hand took 240 ms to import.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Protocol

from m2mapp.net.interfaces import AddressState, Sockaddr
from m2mapp.net.sockets import IPV6_SOCKADDR_ITEMS, is_link_local

LOOPBACK_INDEX = 1
"""Linux gives the loopback interface of each network namespace this index."""

# Of <linux/netlink.h>, <linux/rtnetlink.h> and <linux/if_addr.h>.
_NETLINK_ROUTE = 0
_NLMSG_ERROR, _NLMSG_DONE, _RTM_NEWADDR, _RTM_GETADDR = 2, 3, 20, 22
_NLM_F_REQUEST = 0x001
_NLM_F_REQUEST_DUMP = _NLM_F_REQUEST | 0x300
_NLM_F_DUMP_INTR = 0x10
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_OPTIMISTIC, _IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_PERMANENT = 0x04, 0x08, 0x40, 0x80
_NLMSGHDR = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTATTR = struct.Struct("=HH")
_REPLY_BYTES = 65536
_READ_TIMEOUT_S = 1.0
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class HostAddress:
    """One address of this host: the index of its interface, the address with its prefix length, and the network on that link.

    The network is the address's own, or on a point-to-point link the peer's.
    """

    interface: int
    address: IPv4Interface | IPv6Interface
    network: IPv4Network | IPv6Network


def read_addresses() -> tuple[HostAddress, ...]:
    """All addresses of this host that can be used now (not those still tentative, RFC 4862, 5.4). Raises `OSError`."""
    for _ in range(_ATTEMPTS):
        whole, found = _dump()
        if whole:
            break
    return found


def address_state(interface: int, address: IPv6Address) -> AddressState:
    """What an address is on the interface of that index. Raises `OSError`."""
    body = _asked(interface, address)
    if body is None:
        return AddressState.ABSENT
    flags = _flags(body, _attributes(body[_IFADDRMSG.size :]))
    if flags & _IFA_F_DADFAILED:
        return AddressState.DUPLICATE
    return AddressState.TENTATIVE if parse_address(body) is None else AddressState.READY


def is_permanent(interface: int, address: IPv6Address) -> bool:
    """Whether the interface of that index has the address, and without end. Raises `OSError`."""
    body = _asked(interface, address)
    return body is not None and bool(_flags(body, _attributes(body[_IFADDRMSG.size :])) & _IFA_F_PERMANENT)


def _asked(interface: int, address: IPv6Address) -> bytes | None:
    """The body of the RTM_NEWADDR message for one address; None where the interface has it not. Raises `OSError`."""
    wanted = _IFADDRMSG.pack(socket.AF_INET6, 0, 0, 0, interface) + _RTATTR.pack(_RTATTR.size + 16, _IFA_ADDRESS) + address.packed
    # One address is asked for and not all: a host with a thousand devices has two thousand.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE) as sock:
        sock.settimeout(_READ_TIMEOUT_S)
        sock.sendto(_NLMSGHDR.pack(_NLMSGHDR.size + len(wanted), _RTM_GETADDR, _NLM_F_REQUEST, 1, 0) + wanted, (0, 0))
        kind, _, body = next(_messages(sock.recv(_REPLY_BYTES)))
    if kind == _NLMSG_ERROR:
        code = -struct.unpack_from("=i", body)[0]
        if code == errno.EADDRNOTAVAIL:
            return None
        raise OSError(code, f"the kernel did not say what {address} is")
    found: int = _IFADDRMSG.unpack_from(body)[4]
    return body if found == interface else None  # where there is no such interface the kernel looks at all


def _dump() -> tuple[bool, tuple[HostAddress, ...]]:
    """One dump of the kernel's table; False where the table changed while it was read. The kernel answers within the call."""
    found: list[HostAddress] = []
    whole = True
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE) as sock:
        sock.settimeout(_READ_TIMEOUT_S)
        length = _NLMSGHDR.size + _IFADDRMSG.size
        sock.sendto(_NLMSGHDR.pack(length, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0) + _IFADDRMSG.pack(0, 0, 0, 0, 0), (0, 0))
        while True:
            for kind, flags, body in _messages(sock.recv(_REPLY_BYTES)):
                if kind == _NLMSG_DONE:
                    return whole, tuple(found)
                if kind == _NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", body)[0], "the kernel did not list the addresses")
                whole = whole and not flags & _NLM_F_DUMP_INTR
                address = parse_address(body) if kind == _RTM_NEWADDR else None
                if address is not None:
                    found.append(address)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each netlink message."""
    offset = 0
    while offset + _NLMSGHDR.size <= len(data):
        length, kind, flags, _, _ = _NLMSGHDR.unpack_from(data, offset)
        if length < _NLMSGHDR.size:
            return
        yield kind, flags, data[offset + _NLMSGHDR.size : offset + length]
        offset += (length + 3) & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of one message by type."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _RTATTR.size <= len(data):
        length, kind = _RTATTR.unpack_from(data, offset)
        if length < _RTATTR.size:
            break
        found[kind] = data[offset + _RTATTR.size : offset + length]
        offset += (length + 3) & ~3
    return found


def parse_address(body: bytes) -> HostAddress | None:
    """The address in the body of an RTM_NEWADDR message; None where it cannot be used (yet), or is of another family."""
    family, prefix, _, _, interface = _IFADDRMSG.unpack_from(body)
    attributes = _attributes(body[_IFADDRMSG.size :])
    flags = _flags(body, attributes)
    on_link = attributes.get(_IFA_ADDRESS, b"")
    local = attributes.get(_IFA_LOCAL, on_link)
    tentative = flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC
    if tentative or flags & _IFA_F_DADFAILED or not on_link:
        return None
    if family == socket.AF_INET6:
        return HostAddress(interface, IPv6Interface((local, prefix)), IPv6Network((on_link, prefix), strict=False))
    if family == socket.AF_INET:
        return HostAddress(interface, IPv4Interface((local, prefix)), IPv4Network((on_link, prefix), strict=False))
    return None


def _flags(body: bytes, attributes: dict[int, bytes]) -> int:
    flags: int = struct.unpack("=I", attributes[_IFA_FLAGS])[0] if _IFA_FLAGS in attributes else body[2]
    return flags


class AddressSource(Protocol):
    """Where `OnLink` reads: the system's datagrams, or an in-memory node's."""

    def interface_index(self, name: str) -> int:
        """See `IDatagrams`."""

    def addresses(self) -> tuple[HostAddress, ...]:
        """All addresses of the host."""


_Prefixes = tuple[tuple[int, frozenset[int]], ...]


class OnLink:
    """Which sources are neighbours on the links of the given interfaces. A look-up keeps nothing, so no source can make it grow."""

    def __init__(self, source: AddressSource, interfaces: Iterable[str]) -> None:
        """`interfaces` are names; one that is not there (yet) has no neighbours. Reads at once."""
        self._source = source
        self._names = tuple(interfaces)
        self._indexes: frozenset[int] = frozenset()
        self._arrivals: frozenset[int] = frozenset()
        self._ipv6: _Prefixes = ()
        self._ipv4: _Prefixes = ()
        self._own: frozenset[str] = frozenset()
        self.refresh()

    def refresh(self) -> None:
        """Read the addresses anew: they come late on a box that has just started, and change with a delegated prefix. Raises `OSError`."""
        indexes = set()
        for name in self._names:
            try:
                indexes.add(self._source.interface_index(name))
            except OSError:
                continue
        found = self._source.addresses()
        networks = [address.network for address in found if address.interface in indexes and not _is_ipv6_link_local(address)]
        self._indexes = frozenset(indexes)
        self._arrivals = self._indexes | {LOOPBACK_INDEX}
        self._ipv6 = _prefixes(network for network in networks if isinstance(network, IPv6Network))
        self._ipv4 = _prefixes(network for network in networks if isinstance(network, IPv4Network))
        self._own = frozenset(str(address.address.ip) for address in found)

    def contains(self, source: Sockaddr, interface: int = 0) -> bool:
        """Whether a source is on one of the links. A link-local IPv6 source is, when its zone is one of the interfaces.

        `interface` is the index of the interface that the datagram came in by: a source that claims to be on the link but came
        in by another interface is not. (What this host sends to itself comes in by the loopback.) 0: it is not known.
        """
        if interface and interface not in self._arrivals:
            return False
        ipv6 = len(source) == IPV6_SOCKADDR_ITEMS
        try:
            packed = socket.inet_pton(socket.AF_INET6 if ipv6 else socket.AF_INET, source[0])
        except (OSError, ValueError):
            return False
        if ipv6 and is_link_local(packed):
            return source[-1] in self._indexes
        value = int.from_bytes(packed, "big")
        return any(value >> shift in networks for shift, networks in (self._ipv6 if ipv6 else self._ipv4))

    def own(self, address: str) -> bool:
        """Whether an address (text, with or without zone) is one of this host's, on any interface."""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return parsed.is_loopback or str(parsed) in self._own


def _is_ipv6_link_local(address: HostAddress) -> bool:
    return isinstance(address.address, IPv6Interface) and address.address.ip.is_link_local


def _prefixes(networks: Iterable[IPv4Network | IPv6Network]) -> _Prefixes:
    """Networks by the bits that a host has in them, so that one shift and one look-up answer for all of a length."""
    by_shift: dict[int, set[int]] = {}
    for network in networks:
        shift = network.max_prefixlen - network.prefixlen
        by_shift.setdefault(shift, set()).add(int(network.network_address) >> shift)
    return tuple((shift, frozenset(found)) for shift, found in sorted(by_shift.items()))
