"""What a datagram port is to those who use it: the real UDP port (`net.udp`) and the in-memory one (`net.memory`) provide it.

What a host can do beside (ICMPv6, its own addresses) is `IHost`: the system's is `net.host`.

A `Sockaddr` is the kernel's tuple: `(host, port)` for IPv4, `(host, port, flow, interface)` for IPv6, where the interface index is
the zone of a link-local host and 0 otherwise. It is hashable and is used as it is: it names a peer, and answers go back to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

from zope.interface import Interface

Sockaddr = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Route:
    """A route of this host: to a router on an interface (its index), or, without them, one that says that the prefix cannot be reached."""

    prefix: IPv6Network
    gateway: str = ""
    interface: int = 0


class AddressState(Enum):
    """An address of an interface (RFC 4862, section 5.4).

    `ABSENT`: it is not there. The system removes one that another host was found to have, where it was given for a time.
    """

    READY = "ready"
    TENTATIVE = "tentative"
    DUPLICATE = "duplicate"
    ABSENT = "absent"


class IDatagramReceiver(Interface):
    """Takes what a port received."""

    def datagram_received(data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """One datagram: bytes, the source `Sockaddr`, the destination address (text without zone), the interface index.

        The port catches and counts what this raises.
        """


class IDatagramPort(Interface):
    """One bound UDP socket, or its in-memory likeness."""

    def send(data: bytes, to: Sockaddr, source: str | None = None) -> bool:
        """Send to a unicast `Sockaddr`, from the host's own address `source` where that is given.

        True if the system took it; False (and counted) where it did not: UDP promises no more.
        """

    def send_to_group(data: bytes, group: str, port: int, interface: int) -> bool:
        """Send to a multicast address (text) out of the interface of that index. True if the system took it."""

    def join(group: str, interface: int) -> None:
        """Join a multicast group (text) on the interface of that index. Raises `OSError` with the kernel's reason."""

    def leave(group: str, interface: int) -> None:
        """Leave it; a group that was not joined is no error."""

    def local() -> Sockaddr:
        """The bound `Sockaddr`."""

    def waiting() -> int:
        """How many datagrams were taken from the socket and wait behind the one that is being handed on."""

    def stop() -> Any:
        """Close the socket. A Deferred that fires when it is closed."""


class IDatagrams(Interface):
    """Opens ports: on the system's network, or on an in-memory one."""

    def open_port(host: str, port: int, receiver: IDatagramReceiver) -> IDatagramPort:
        """Bind to an address ("::", "0.0.0.0", "fd00::1", "fe80::1%eth1") and UDP port (0: any); an `IDatagramPort`. Raises `OSError`.

        "::%eth1": all addresses, on that interface only; ports with the same number on several interfaces stand beside each other.
        """

    def interface_index(name: str) -> int:
        """The index of an interface by its name. Raises `OSError` where there is none."""

    def interface_addresses(name: str) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The addresses of an interface: a tuple of `ipaddress.IPv4Interface | IPv6Interface` (address with its prefix length)."""

    def addresses() -> tuple[Any, ...]:
        """All addresses of the host, as a tuple of `net.addresses.HostAddress`. Raises `OSError`."""


class IIcmpv6Port(Interface):
    """One raw ICMPv6 socket. Hop limits are 255 both ways (RFC 4861, 6.1), checksums the kernel's."""

    def join(group: str, interface: int) -> None:
        """Join a multicast group (text) on the interface of that index. Raises `OSError`."""

    def send(data: bytes, to: str, interface: int) -> bool:
        """Send a message (checksum 0) out of an interface, from its link-local address. True if the system took it."""

    def stop() -> None:
        """Close the socket. Nothing is received after this call."""


class IHost(Interface):
    """What a router does with its host."""

    def open_icmpv6(types: tuple[int, ...], receive: Callable[[bytes, str, int], None]) -> IIcmpv6Port:
        """Receive messages of these types: `receive(data, source, interface index)`. Raises `OSError`: EPERM without CAP_NET_RAW."""

    def link_layer_address(name: str) -> bytes:
        """The hardware address of an interface; empty where it has none. Raises `OSError`."""

    def has_carrier(name: str) -> bool:
        """Whether an interface is up and something is at the other end of its link. Raises `OSError` where there is no such interface."""

    def forwards(name: str) -> bool:
        """Whether the host passes IPv6 packets on that come in by this interface."""

    def set_address(interface: int, address: IPv6Interface, preferred_s: int, valid_s: int) -> Any:
        """Give an interface an address, or the address these lifetimes (0xffffffff: without end); the system removes it after them.

        A Deferred that fires when it is done and fails with `OSError`.
        """

    def set_route(route: Route, valid_s: int) -> Any:
        """Make a route, in place of one of the same kind to that prefix. The system ends one to a router after `valid_s`, no other.

        A Deferred that fires when it is done and fails with `OSError`.
        """

    def follows(route: Route) -> Any:
        """Whether packets into the prefix of a route to a router go that way. A Deferred with a bool, that fails with `OSError`."""

    def remove_route(route: Route) -> Any:
        """Take a route that `set_route` made away; one that is not there is no error. A Deferred that fails with `OSError`."""

    def remove_address(interface: int, address: IPv6Interface) -> Any:
        """Take an address from an interface; one that it has not is no error. A Deferred as that of `set_address`."""

    def address_state(interface: int, address: IPv6Address) -> AddressState:
        """What became of an address that an interface was given. Raises `OSError`."""
