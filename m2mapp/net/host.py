"""This host as a router's program sees it: ICMPv6, hardware addresses, forwarding, addresses given to interfaces, routes.

Addresses and routes are set by pyroute2 in a thread, so that the reactor waits neither for the kernel nor for the library, which takes
some tenths of a second to import; a node that sets none never imports it. Reading addresses is `net.addresses`.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path
from typing import Final, ParamSpec, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from m2mapp.net.addresses import address_state, is_permanent
from m2mapp.net.icmpv6 import Icmpv6Port, Receive
from m2mapp.net.interfaces import AddressState, IHost, Route
from m2mapp.net.reading import Reactor

_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFHWADDR: Final = 0x8927
_IFF_RUNNING: Final = 0x40
_IFREQ: Final = struct.Struct("@16sH14s8x")
_ETHERNET: Final = 1
_ETHERNET_BYTES: Final = 6
_ROUTE_BY_DHCP: Final = 16
_ROUTE_METRIC: Final = 1024
"""RTPROT_DHCP, and what the system gives to routes that a program adds; an interface's own prefix (256) goes before."""
_ENDLESS: Final = 0xFFFFFFFF
_NOT_THERE: Final = (errno.EADDRNOTAVAIL, errno.ENODEV)
_NO_WAY: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)
"""What a look-up says where there is no route, or one of the kinds unreachable, prohibit, blackhole."""

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


@implementer(IHost)
class SystemHost:
    """The host that this process runs on."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def open_icmpv6(self, types: tuple[int, ...], receive: Receive) -> Icmpv6Port:
        """A raw socket for messages of these types. Raises `OSError`."""
        return Icmpv6Port(types, receive, self._reactor)

    def link_layer_address(self, name: str) -> bytes:
        """The hardware address of an Ethernet-like interface, else nothing. Raises `OSError` where there is no such interface."""
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, _IFREQ.pack(name.encode(), 0, b""))
        _, kind, address = _IFREQ.unpack(answer)
        return bytes(address[:_ETHERNET_BYTES]) if kind == _ETHERNET else b""

    def has_carrier(self, name: str) -> bool:
        """What IFF_RUNNING says: of an interface that has no carrier to speak of, whether it is up. Raises `OSError`."""
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0, b""))
        return bool(_IFREQ.unpack(answer)[1] & _IFF_RUNNING)

    def forwards(self, name: str) -> bool:
        """What sysctl net.ipv6.conf.<name>.forwarding says."""
        try:
            return Path(f"/proc/sys/net/ipv6/conf/{name}/forwarding").read_text().strip() != "0"
        except OSError:
            return False

    def set_address(self, interface: int, address: IPv6Interface, preferred_s: int, valid_s: int) -> Deferred[None]:
        """Set an address and its lifetimes. Fails with `OSError`."""
        return self._in_thread(_set, interface, address, {"preferred": preferred_s, "valid": valid_s})

    def remove_address(self, interface: int, address: IPv6Interface) -> Deferred[None]:
        """Take an address away; one that is not there is no error. Fails with `OSError`."""
        return self._in_thread(_change, "del", interface, address, {})

    def address_state(self, interface: int, address: IPv6Address) -> AddressState:
        """What became of an address that was set. Raises `OSError`."""
        return address_state(interface, address)

    def set_route(self, route: Route, valid_s: int) -> Deferred[None]:
        """Make a route, in place of the one before. Fails with `OSError`."""
        return self._in_thread(_change_route, "replace", route, valid_s)

    def follows(self, route: Route) -> Deferred[bool]:
        """What the kernel would do with a packet to the prefix's first address. Fails with `OSError`."""
        return self._in_thread(_follows, route)

    def remove_route(self, route: Route) -> Deferred[None]:
        """Take a route away. Fails with `OSError`."""
        return self._in_thread(_change_route, "del", route, _ENDLESS)

    def _in_thread(self, call: Callable[_Given, _Found], *given: _Given.args, **more: _Given.kwargs) -> Deferred[_Found]:
        threads = cast("IReactorThreads", self._reactor).getThreadPool()
        return deferToThreadPool(cast("IReactorFromThreads", self._reactor), threads, call, *given, **more)


def _set(interface: int, address: IPv6Interface, lifetimes: dict[str, int]) -> None:
    """Set an address; twice where it stood there without end.

    The kernel (seen with 6.18) then ends the address's on-link route at once: it takes the lifetime for a point in time. What is set
    again is right.
    """
    again = lifetimes["valid"] != _ENDLESS and is_permanent(interface, address.ip)
    _change("replace", interface, address, lifetimes)
    if again:
        _change("replace", interface, address, lifetimes)


def _change(command: str, interface: int, address: IPv6Interface, lifetimes: dict[str, int]) -> None:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as netlink:
            netlink.addr(
                command,
                index=interface,
                family=socket.AF_INET6,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                **lifetimes,
            )
    except NetlinkError as error:
        if command == "del" and error.code in _NOT_THERE:
            return
        raise OSError(error.code, str(error)) from error


def _change_route(command: str, route: Route, valid_s: int) -> None:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    told: dict[str, object] = {"dst": str(route.prefix), "proto": _ROUTE_BY_DHCP, "priority": _ROUTE_METRIC}
    told |= {"gateway": route.gateway, "oif": route.interface} if route.gateway else {"type": "unreachable"}
    if valid_s != _ENDLESS:
        told["expires"] = struct.pack("@I", valid_s)  # RTA_EXPIRES, which the library hands through
    try:
        with IPRoute() as netlink:
            netlink.route(command, **told)
    except NetlinkError as error:
        if command != "del" or error.code != errno.ESRCH:
            raise OSError(error.code, str(error)) from error


def _follows(route: Route) -> bool:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as netlink:
            found = netlink.route("get", dst=str(route.prefix.network_address))
    except NetlinkError as error:
        if error.code in _NO_WAY:
            return False
        raise OSError(error.code, str(error)) from error
    ways = [(one.get_attr("RTA_GATEWAY"), one.get_attr("RTA_OIF")) for one in found]
    return ways == [(route.gateway, route.interface)]
