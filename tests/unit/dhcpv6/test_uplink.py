"""The uplink: what it learns stands in the tree, over restarts and full disks; who builds on it is told."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.packet import build
from m2mapp.dhcpv6.service import dhcpv6_uplink
from m2mapp.dhcpv6.settings import Dhcpv6Settings, UplinkSettings
from m2mapp.dhcpv6.uplink import UPLINK_TYPE
from m2mapp.model.errors import StorageFull
from m2mapp.model.metrics import Metrics
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from tests.unit.dhcpv6.client_parts import ClientNetwork
from tests.unit.fakes import FakeClock, FakeCommitter, FakeHost

_DUID, _SERVER = b"\0\4gateway", o.ServerId(b"\0\4server")
_PREFIX = IPv6Network("2001:db8:5::/56")
_FROM = ("fe80::1", 547, 0, 3)


class _Gateway:
    """A gateway's uplink with the tree that it keeps."""

    def __init__(self, *, release: bool = False) -> None:
        types = Types([UPLINK_TYPE])
        self.tree = Tree(types.derived, lambda error: None)
        self.wall, self.clock, self.network = FakeClock(), Clock(), ClientNetwork()
        self.committer, self.host = FakeCommitter(self.tree, self.wall), FakeHost()
        self.settings = Dhcpv6Settings(uplink=UplinkSettings("eth0", None, release))
        self.told: list[list[str]] = []
        self.start()

    def start(self) -> None:
        node = Dhcpv6Node(self.tree, self.committer, self.wall, self.network, self.host)
        self.uplink = dhcpv6_uplink(self.clock, node, _DUID, self.settings, Random(1), Metrics())
        self.uplink.listen(lambda: self.told.append(self.has()))
        self.uplink.startService()

    def has(self) -> list[str]:
        """The prefixes in use."""
        return [str(item.value) for item in self.uplink.lease.items] if self.uplink.lease else []

    def kept(self) -> dict[str, object]:
        """The prefixes in the tree, with their state, by name."""
        return {one.path[-1]: (one.attributes["prefix"], one.attributes["state"]) for one in self.tree.children(("prefixes",))}

    def answer(self, kind: T, *options: o.Option, interface: int = 3) -> None:
        """A server answers what was sent last."""
        message = Message(kind, self.network.port.sent[-1].transaction_id, (o.ClientId(_DUID), _SERVER, *options))
        self.network.receiver.datagram_received(build(message), _FROM, "fe80::2", interface)

    def bind(self, *more: o.Option) -> None:
        """Get a prefix by Rapid Commit."""
        self.clock.advance(1.0)
        self.answer(T.REPLY, o.RapidCommit(), _ia(), *more)

    def advance(self, seconds: float) -> None:
        """Time passes, on both clocks."""
        self.wall.advance(int(seconds * 1000))
        self.clock.advance(seconds)


def _ia(*items: o.IaPrefix) -> o.IaPd:
    return o.IaPd(1, 0, 0, items or (o.IaPrefix(_PREFIX, 1000, 2000),))


class UplinkTests(SynchronousTestCase):
    def gateway(self, *, release: bool = False) -> _Gateway:
        gateway = _Gateway(release=release)
        self.addCleanup(lambda: gateway.uplink.stopService() if gateway.uplink.running else None)
        return gateway

    def test_learned(self) -> None:
        """A prefix that is given stands in the tree with its times and the service that came with it, and listeners are told."""
        gateway = self.gateway()
        gateway.bind(o.Opaque(65001, b"coaps://bs"), o.Opaque(65002, b"der"))
        self.assertEqual(gateway.network.opened, [("::%eth0", 546)])
        self.assertEqual((gateway.told, gateway.uplink.bootstrap()), ([[str(_PREFIX)]], Bootstrap("coaps://bs", b"der")))
        shown = UPLINK_TYPE.describe(gateway.tree.get(("prefixes", "1")), gateway.tree)
        self.assertEqual((shown["prefix"], shown["from"], shown["state"]), (str(_PREFIX), _SERVER.duid.hex(), "preferred"))
        self.assertEqual((shown["bootstrapURI"], shown["validUntil"]), ("coaps://bs", "2027-01-15T08:33:20.000Z"))
        self.assertNotIn("der", shown)

    def test_restart(self) -> None:
        """After a restart the prefix is in use at once, with what is left of its lifetime and its service, and a Rebind verifies it."""
        gateway = self.gateway()
        gateway.bind(o.Opaque(65001, b"coaps://bs"), o.Opaque(65002, b"der"))
        self.successResultOf(gateway.uplink.stopService())
        self.assertEqual(gateway.clock.getDelayedCalls(), [])
        gateway.advance(600)
        gateway.start()
        lease = gateway.uplink.lease
        assert lease is not None
        self.assertEqual((lease.items[0].valid_s, lease.bootstrap), (1400, Bootstrap("coaps://bs", b"der")))
        self.assertEqual(gateway.network.port.sent[0].type, T.REBIND)

    def test_name_servers(self) -> None:
        """The gateway asks for name servers; those that can be asked are kept with the prefix, over a restart too."""
        gateway = self.gateway()
        usable = IPv6Address("2001:db8::53")
        gateway.bind(o.DnsServers((IPv6Address("::"), usable, IPv6Address("ff02::fb"))))
        asked = o.first(gateway.network.port.sent[0].options, o.OptionRequest)
        assert asked is not None
        self.assertIn(23, asked.codes)
        self.assertEqual(UPLINK_TYPE.describe(gateway.tree.get(("prefixes", "1")), gateway.tree)["nameServers"], [str(usable)])
        self.successResultOf(gateway.uplink.stopService())
        gateway.told.clear()
        gateway.start()
        assert gateway.uplink.lease is not None
        self.assertEqual((gateway.uplink.lease.name_servers, gateway.told), ((usable,), [[str(_PREFIX)]]))

    def test_restart_after_its_time(self) -> None:
        """A prefix whose lifetime was over while the box was off is not used."""
        gateway = self.gateway()
        gateway.bind()
        gateway.uplink.stopService()
        gateway.advance(2001)
        gateway.start()
        self.assertEqual(gateway.has(), [])
        gateway.clock.advance(1.0)
        self.assertEqual(gateway.network.port.sent[0].type, T.SOLICIT)

    def test_clock_without_battery(self) -> None:
        """A box that starts in 1970 uses what it kept with its whole lifetime; when the clock then steps, nothing ends early."""
        gateway = self.gateway()
        gateway.bind()
        gateway.uplink.stopService()
        learned_ms = gateway.wall.at_ms
        gateway.wall.at_ms = 5000
        gateway.start()
        self.assertEqual(gateway.has(), [str(_PREFIX)])
        assert gateway.uplink.lease is not None
        self.assertEqual([(item.preferred_s, item.valid_s) for item in gateway.uplink.lease.items], [(1000, 2000)])
        gateway.wall.at_ms = learned_ms + 10**9
        gateway.clock.advance(1900)
        self.assertEqual(gateway.has(), [str(_PREFIX)])

    def test_renumbered(self) -> None:
        """A new prefix beside an old one without preferred lifetime: both stand, the old one as deprecated; then only the new one."""
        gateway = self.gateway()
        gateway.bind()
        gateway.advance(500)
        gateway.answer(T.REPLY, _ia(o.IaPrefix(IPv6Network("2001:db8:6::/56"), 1000, 2000), o.IaPrefix(_PREFIX, 0, 300)))
        self.assertEqual(gateway.kept(), {"1": ("2001:db8:6::/56", "preferred"), "2": (str(_PREFIX), "deprecated")})
        gateway.advance(500)
        gateway.answer(T.REPLY, _ia(o.IaPrefix(IPv6Network("2001:db8:6::/56"), 1000, 2000)))
        self.assertEqual(gateway.kept(), {"1": ("2001:db8:6::/56", "preferred")})

    def test_lost(self) -> None:
        """When nobody renews it and its time is over, it stands in the tree no more, and listeners are told."""
        gateway = self.gateway()
        gateway.bind()
        for _ in range(200):
            gateway.advance(10)
        self.assertEqual((gateway.kept(), gateway.told), ({}, [[str(_PREFIX)], []]))

    def test_full_disk(self) -> None:
        """A prefix that cannot be kept is used all the same, and kept as soon as there is room."""
        gateway = self.gateway()
        gateway.committer.fault = StorageFull()
        gateway.bind()
        self.assertEqual((gateway.has(), gateway.kept()), ([str(_PREFIX)], {}))
        gateway.committer.fault = None
        gateway.advance(10)
        self.assertEqual(gateway.kept(), {"1": (str(_PREFIX), "preferred")})

    def test_interface_comes_and_goes(self) -> None:
        """Nothing is sent before the interface is there; when it was away, what is had is verified; others' datagrams are not looked at."""
        gateway = self.gateway()
        gateway.uplink.stopService()
        gateway.network.interfaces.clear()
        gateway.start()
        gateway.advance(20)
        self.assertEqual(gateway.network.port.sent, [])
        gateway.network.interfaces["eth0"] = 3
        gateway.advance(5)
        gateway.bind()
        gateway.answer(T.REPLY, _ia(), interface=4)
        del gateway.network.interfaces["eth0"]
        gateway.advance(5)
        gateway.network.interfaces["eth0"] = 3
        gateway.advance(5)
        self.assertEqual((gateway.network.port.sent[-1].type, gateway.has()), (T.REBIND, [str(_PREFIX)]))

    def test_link_was_away(self) -> None:
        """When the cable is in again, what is had is verified: it may be another link. Who had nothing solicits at once."""
        gateway = self.gateway()
        gateway.bind()
        for carrier, sent in ((False, 0), (True, 1), (True, 0)):
            before, gateway.host.carrier = len(gateway.network.port.sent), carrier
            gateway.advance(5)
            self.assertEqual(len(gateway.network.port.sent) - before, sent)
            if sent:
                self.assertEqual(gateway.network.port.sent[-1].type, T.REBIND)
                gateway.answer(T.REPLY, _ia())
        gateway = self.gateway()
        gateway.host.carrier = False
        gateway.clock.pump([10] * 300)
        before, gateway.host.carrier = len(gateway.network.port.sent), True
        gateway.clock.pump([1] * 10)
        self.assertGreaterEqual(len(gateway.network.port.sent) - before, 2)

    def test_link_comes_back_at_the_stop(self) -> None:
        """While what it has is given back nothing else is begun."""
        gateway = self.gateway(release=True)
        gateway.bind()
        gateway.host.carrier = False
        gateway.clock.pump([1] * 8)
        gateway.host.carrier = True
        stopped = gateway.uplink.stopService()
        gateway.advance(2.9)
        self.assertEqual({message.type for message in gateway.network.port.sent[-2:]}, {T.RELEASE})
        gateway.advance(0.2)
        self.successResultOf(stopped)

    def test_interface_comes_back_as_another(self) -> None:
        """Its port is closed and another one opened; while that is taken by another program it is tried again, and told at a start."""
        gateway = self.gateway()
        gateway.bind()
        first, gateway.network.interfaces["eth0"] = gateway.network.port, 4
        gateway.network.fault = OSError(98, "Address already in use")
        gateway.advance(10)
        self.assertEqual((first.stopped, gateway.network.port is first), (True, True))
        gateway.uplink.stopService()
        self.assertRaises(OSError, gateway.start)
        gateway.network.fault, gateway.network.interfaces["eth0"] = None, 3
        gateway.start()
        self.assertEqual((gateway.network.port.sent[-1].type, gateway.has()), (T.REBIND, [str(_PREFIX)]))

    def test_given_back(self) -> None:
        """Where the file says so, a stop gives the prefix back; nobody answers: the stop is not held up for long."""
        for answered in (True, False):
            gateway = self.gateway(release=True)
            gateway.bind()
            port = gateway.network.port
            stopped = gateway.uplink.stopService()
            self.assertEqual((port.sent[-1].type, gateway.kept(), port.stopped), (T.RELEASE, {}, False))
            if answered:
                gateway.answer(T.REPLY, o.StatusCode(0))
            else:
                gateway.clock.advance(3)
            self.successResultOf(stopped)
            self.assertEqual((port.stopped, gateway.clock.getDelayedCalls()), (True, []))

    def test_any_bytes(self) -> None:
        """Garbage, and messages for others, change nothing and raise nothing."""
        gateway = self.gateway()
        gateway.clock.advance(1.0)
        for data in (b"", b"\x07", b"\x0c" + bytes(40), build(Message(T.REPLY, 5, (_SERVER,))), bytes(range(256))):
            gateway.network.receiver.datagram_received(data, _FROM, "fe80::2", 3)
        self.assertEqual((gateway.has(), self.flushLoggedErrors()), ([], []))

    def test_without_end(self) -> None:
        """A prefix without end has no end in the tree, and needs no timer but the one for the interface."""
        gateway = self.gateway()
        gateway.clock.advance(1.0)
        gateway.answer(T.REPLY, o.RapidCommit(), o.IaPd(1, INFINITY, INFINITY, (o.IaPrefix(_PREFIX, INFINITY, INFINITY),)))
        self.assertIsNone(gateway.tree.get(("prefixes", "1")).attributes["validUntil"])
        self.assertEqual(len(gateway.clock.getDelayedCalls()), 1)
