"""What a datagram port is to those who use it: the real UDP port (`net.udp`) and the in-memory one (`net.memory`) provide it.

A `Sockaddr` is the kernel's tuple: `(host, port)` for IPv4, `(host, port, flow, interface)` for IPv6, where the interface index is
the zone of a link-local host and 0 otherwise. It is hashable and is used as it is: it names a peer, and answers go back to it.
"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from zope.interface import Interface

Sockaddr = tuple[str, int] | tuple[str, int, int, int]


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

    def stop() -> Any:
        """Close the socket. A Deferred that fires when it is closed."""


class IDatagrams(Interface):
    """Opens ports: on the system's network, or on an in-memory one."""

    def open_port(host: str, port: int, receiver: IDatagramReceiver) -> IDatagramPort:
        """Bind to an address ("::", "0.0.0.0", "fd00::1", "fe80::1%eth1") and UDP port (0: any); an `IDatagramPort`. Raises `OSError`."""

    def interface_index(name: str) -> int:
        """The index of an interface by its name. Raises `OSError` where there is none."""

    def interface_addresses(name: str) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The addresses of an interface: a tuple of `ipaddress.IPv4Interface | IPv6Interface` (address with its prefix length)."""

    def addresses() -> tuple[Any, ...]:
        """All addresses of the host, as a tuple of `net.addresses.HostAddress`. Raises `OSError`."""
