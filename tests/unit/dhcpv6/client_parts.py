"""What the tests of the DHCPv6 clients share: a network that records what a client sends to all servers."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.packet import parse
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, IDatagrams, Sockaddr
from tests.unit.dhcpv6.interfaces import NamedInterfaces

INTERFACE = 3


@implementer(IDatagramPort)
class ClientPort:
    """Records what is sent to all servers."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.stopped = False

    def send(self, data: bytes, to: Sockaddr, source: str | None = None) -> bool:
        raise AssertionError("a client sends to the multicast address")

    def send_to_group(self, data: bytes, group: str, port: int, interface: int) -> bool:
        assert (group, port, interface) == ("ff02::1:2", 547, INTERFACE)
        message = parse(data)
        assert isinstance(message, Message)
        self.sent.append(message)
        return True

    def join(self, group: str, interface: int) -> None:
        raise AssertionError("a client joins nothing")

    def leave(self, group: str, interface: int) -> None:
        raise AssertionError("a client leaves nothing")

    def waiting(self) -> int:
        return 0

    def local(self) -> Sockaddr:
        return ("::", 546, 0, 0)

    def stop(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)


@implementer(IDatagrams)
class ClientNetwork(NamedInterfaces):
    """The interfaces that are there, and where ports were opened: `port` is the last one, `fault` why the next one cannot be."""

    def __init__(self) -> None:
        self.interfaces = {"eth0": INTERFACE}
        self.opened: list[tuple[str, int]] = []
        self.port = ClientPort()
        self.fault: OSError | None = None

    def open_port(self, host: str, port: int, receiver: IDatagramReceiver) -> ClientPort:
        if self.fault is not None:
            raise self.fault
        self.opened.append((host, port))
        self.receiver, self.port = receiver, ClientPort()
        return self.port
