"""What the tests of the DHCPv6 servers share: a node's servers on a port that records, and the messages of a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Network

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.binding import BINDING_TYPES
from m2mapp.dhcpv6.message import Message, RelayMessage
from m2mapp.dhcpv6.numbers import ALL_DHCP_RELAY_AGENTS_AND_SERVERS, MessageType
from m2mapp.dhcpv6.packet import build, parse
from m2mapp.dhcpv6.pools import Lifetimes, PrefixPool
from m2mapp.dhcpv6.server import Server, Terms
from m2mapp.dhcpv6.service import Dhcpv6Servers
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, IDatagrams, Sockaddr
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from tests.unit.dhcpv6.interfaces import NamedInterfaces
from tests.unit.fakes import FakeClock, FakeCommitter, FakeHost

OWN = b"\0\4server"
ROUTER = ("fe80::2", 546, 0, 7)
INTERFACE = 7
POOL = PrefixPool(IPv6Network("2001:db8:100::/40"), 56, Lifetimes(3600, 7200))


@implementer(IDatagramPort)
class RecordingPort:
    """A port that records what is sent and joined."""

    def __init__(self) -> None:
        self.sent: list[tuple[Message | RelayMessage, Sockaddr]] = []
        self.joined: list[tuple[str, int]] = []
        self.stopped = False
        self.crowd = 0

    def send(self, data: bytes, to: Sockaddr, source: str | None = None) -> bool:
        self.sent.append((parse(data), to))
        return True

    def send_to_group(self, data: bytes, group: str, port: int, interface: int) -> bool:
        raise AssertionError("a server sends to nobody but who asked")

    def join(self, group: str, interface: int) -> None:
        self.joined.append((group, interface))

    def leave(self, group: str, interface: int) -> None:
        self.joined.remove((group, interface))

    def waiting(self) -> int:
        return self.crowd

    def local(self) -> Sockaddr:
        return ("::", 547, 0, 0)

    def stop(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)


@implementer(IDatagrams)
@dataclass
class RecordingDatagrams(NamedInterfaces):
    """Gives out one recording port; `interfaces` are there by name."""

    interfaces: dict[str, int] = field(default_factory=lambda: {"isp0": INTERFACE})
    port: RecordingPort = field(default_factory=RecordingPort)

    def open_port(self, host: str, port: int, receiver: IDatagramReceiver) -> RecordingPort:
        self.opened = (host, port)
        return self.port


class Site:
    """One node's servers on one interface, with the tree, clocks and committer that they work on."""

    def __init__(self, terms: Terms | None = None) -> None:
        types = Types(BINDING_TYPES)
        self.errors: list[Exception] = []
        self.tree = Tree(types.derived, self.errors.append)
        self.wall, self.clock, self.metrics = FakeClock(), Clock(), Metrics()
        self.committer = FakeCommitter(self.tree, self.wall)
        self.datagrams = RecordingDatagrams()
        self.terms = terms or Terms(prefixes=POOL)
        self.start()

    def start(self) -> None:
        """Start the servers, on what the tree holds."""
        node = Dhcpv6Node(self.tree, self.committer, self.wall, self.datagrams, FakeHost())
        self.service = Dhcpv6Servers(self.clock, node, self.metrics)
        self.bindings = self.service.bindings
        self.service.serve(["isp0"], Server(OWN, self.terms, self.bindings))
        self.service.serving.gather_s = 0.0  # Each by itself, and at once.
        self.service.startService()

    def restart(self) -> None:
        """Stop and start: what was only in memory is lost."""
        self.service.stopService()
        self.start()

    def receive(
        self,
        message: Message | RelayMessage | bytes,
        source: Sockaddr = ROUTER,
        destination: str = ALL_DHCP_RELAY_AGENTS_AND_SERVERS,
        interface: int = INTERFACE,
    ) -> None:
        """A datagram comes in."""
        data = message if isinstance(message, bytes) else build(message)
        self.service.serving.datagram_received(data, source, destination, interface)

    def ask(self, message: Message) -> Message | None:
        """The reply to a message, or None."""
        before = len(self.sent)
        self.receive(message)
        replies = [reply for reply, _ in self.sent[before:]]
        assert len(replies) <= 1
        reply = replies[0] if replies else None
        assert reply is None or isinstance(reply, Message)
        return reply

    @property
    def sent(self) -> list[tuple[Message | RelayMessage, Sockaddr]]:
        """All that was sent, with where to."""
        return self.datagrams.port.sent

    def names(self, place: str = "prefixes") -> list[str]:
        """The names of what stands below a place."""
        return [resource.path[-1] for resource in self.tree.children((place,))]


def client_message(kind: MessageType, *options: o.Option, duid: bytes = b"\0\3\0\1router", server: bytes | None = None) -> Message:
    """A client's message. `server`: whom it is for, where it names one."""
    names: tuple[o.Option, ...] = (o.ClientId(duid),) if server is None else (o.ClientId(duid), o.ServerId(server))
    return Message(kind, 0x010203, (*names, *options))


def prefixes_in(message: Message | None) -> list[tuple[str, int, int]]:
    """The prefixes of a reply, with their lifetimes."""
    ias = o.every(message.options, o.IaPd) if message is not None else ()
    found = [prefix for ia in ias for prefix in o.every(ia.options, o.IaPrefix)]
    return [(str(prefix.prefix), prefix.preferred_s, prefix.valid_s) for prefix in found]


def addresses_in(message: Message | None) -> list[tuple[str, int, int]]:
    """The addresses of a reply, with their lifetimes."""
    ias = o.every(message.options, o.IaNa) if message is not None else ()
    found = [address for ia in ias for address in o.every(ia.options, o.IaAddress)]
    return [(str(address.address), address.preferred_s, address.valid_s) for address in found]


def statuses_in(message: Message | None) -> list[int]:
    """The status codes of a reply: its own first, then those of its IAs."""
    if message is None:
        return []
    own = [int(status.status) for status in o.every(message.options, o.StatusCode)]
    ias = [ia for ia in message.options if isinstance(ia, o.IaNa | o.IaPd)]
    return own + [int(status.status) for ia in ias for status in o.every(ia.options, o.StatusCode)]
