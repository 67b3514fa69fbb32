"""What the tests of the downlink share: a node with its servers and links, prefixes that the test exchanges, and a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from random import Random

from twisted.internet.task import Clock

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.advert import Advertisement, parse_advertisement
from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.binding import BINDING_TYPES
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.downlink import Upstream
from m2mapp.dhcpv6.drivers.linking import LinkNode
from m2mapp.dhcpv6.drivers.reserving import Reserving
from m2mapp.dhcpv6.links import Delegation
from m2mapp.dhcpv6.message import Message, RelayMessage
from m2mapp.dhcpv6.numbers import ALL_DHCP_RELAY_AGENTS_AND_SERVERS, MessageType
from m2mapp.dhcpv6.packet import build
from m2mapp.dhcpv6.service import Identity, dhcpv6_downlink, dhcpv6_servers
from m2mapp.dhcpv6.settings import Dhcpv6Settings, DownlinkSettings
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import Sockaddr
from tests.unit.dhcpv6.parts import OWN, RecordingDatagrams, addresses_in, client_message
from tests.unit.fakes import FakeHost, build_tree

OLD, NEW = IPv6Network("2001:db8:a::/48"), IPv6Network("2001:db8:b::/48")
DEVICE = b"\0\3\0\1device"
DEVICE_ADDRESS: Sockaddr = ("fe80::d1", 546, 0, 7)
BEHIND = IPv6Address("2001:db8:a:77::1")
"""A relay agent's address on a link that is not this node's own."""


@dataclass
class FakePrefixes:
    """Prefixes that the test exchanges."""

    delegations: tuple[Delegation, ...] = (Delegation(OLD),)
    listeners: dict[Callable[[], None], None] = field(default_factory=dict)

    def listen(self, on_change: Callable[[], None]) -> None:
        """Tell of each change."""
        self.listeners[on_change] = None

    def exchange(self, *delegations: Delegation) -> None:
        """These are the prefixes from now on."""
        self.delegations = delegations
        for on_change in list(self.listeners):
            on_change()


class DownlinkSite:
    """A node with a downlink on `lan0` (index 7) and `lan1` (index 8)."""

    def __init__(self, bootstrap: Bootstrap | None = None) -> None:
        self.built = build_tree(BINDING_TYPES)
        self.tree, self.committer = self.built.tree, self.built.committer
        self.clock, self.metrics = Clock(), Metrics()
        self.prefixes, self.host = FakePrefixes(), FakeHost()
        self.bootstrap = bootstrap or Bootstrap("coap://[2001:db8::b5]")
        self.start()

    def start(self) -> None:
        """Start, on what the tree holds."""
        self.datagrams = RecordingDatagrams({"lan0": 7, "lan1": 8})
        settings = Dhcpv6Settings(downlink=DownlinkSettings(("lan0", "lan1"), None, "", "", 7200))
        node = Dhcpv6Node(self.tree, self.committer, self.built.clock, self.datagrams, self.host)
        identity = Identity(OWN, b"secret")
        self.servers = dhcpv6_servers(self.clock, node, identity, settings, self.metrics)
        around = LinkNode(self.datagrams, self.host, Random(1))
        name_servers = (IPv6Address("2001:db8::53"),)
        upstream = Upstream(lambda _: self.prefixes.delegations, lambda: self.bootstrap, lambda: name_servers, self.prefixes.listen)
        linking = dhcpv6_downlink(self.servers, around, identity, settings, upstream)
        assert linking is not None
        self.linking = linking
        self.reserving = Reserving(
            lambda: (self.clock.seconds(), 0), self.committer, self.built.rules, self.servers.bindings, linking.links
        )
        linking.startService()
        self.servers.serving.gather_s = 0.0  # Each by itself, and at once.
        self.servers.startService()

    def stop(self) -> None:
        """Stop; nothing is pending afterwards."""
        self.servers.stopService()
        self.linking.stopService()
        assert self.clock.getDelayedCalls() == []

    def ask(self, message: Message | RelayMessage, source: Sockaddr = DEVICE_ADDRESS) -> Message | RelayMessage | None:
        """The reply to a device's message."""
        before = len(self.datagrams.port.sent)
        self.servers.serving.datagram_received(build(message), source, ALL_DHCP_RELAY_AGENTS_AND_SERVERS, source[-1])
        replies = self.datagrams.port.sent[before:]
        return replies[0][0] if replies else None

    def given(self, kind: MessageType, *options: o.Option, **more: bytes) -> list[tuple[str, int, int]]:
        """The addresses with their lifetimes that the reply to such a message of the device gives."""
        server = None if kind in (MessageType.SOLICIT, MessageType.REBIND) else OWN
        reply = self.ask(client_message(kind, *(options or (o.IaNa(1),)), **{"duid": DEVICE, **more}, server=server))
        assert isinstance(reply, Message)
        return addresses_in(reply)

    def adverts(self) -> list[tuple[int, Advertisement]]:
        """The router advertisements that were sent, with the index of the interface."""
        return [(interface, parse_advertisement(data)) for data, _, interface in self.host.ports[-1].sent]


def holding(*addresses: str) -> o.IaNa:
    """The device's IA with the addresses that it has."""
    return o.IaNa(1, 0, 0, tuple(o.IaAddress(IPv6Address(address), 0, 0) for address in addresses))
