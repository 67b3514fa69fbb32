"""A device's DHCPv6 client with its interface and its tree: when an address is used, what is kept, and what goes wrong with either."""

from __future__ import annotations

from ipaddress import IPv6Address
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.bootstrap_options import BootstrapCodes
from m2mapp.dhcpv6.device import ADDRESS_TYPE, DeviceLink
from m2mapp.dhcpv6.drivers.holding import LOOK_S, SET_AGAIN_S
from m2mapp.dhcpv6.drivers.linking import LinkNode
from m2mapp.dhcpv6.drivers.uplink import COMMIT_AGAIN_S
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.numbers import Status
from m2mapp.dhcpv6.packet import build
from m2mapp.dhcpv6.service import dhcpv6_device
from m2mapp.model.errors import MethodNotAllowed, StorageFull
from m2mapp.model.messages import Method
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import AddressState
from m2mapp.tree.device_address import DEVICE_ADDRESS, DeviceAddress, device_address_of
from tests.unit.dhcpv6.client_parts import ClientNetwork
from tests.unit.fakes import FakeHost, ask, build_tree

_DUID, _SERVER = b"\0\4device", o.ServerId(b"\0\4server")
_FIRST, _SECOND = IPv6Address("2001:db8:5::d1"), IPv6Address("2001:db8:5::d2")


class _Device:
    """A device, its host and its tree."""

    def __init__(self, link: DeviceLink | None = None) -> None:
        self.built, self.clock, self.host = build_tree([ADDRESS_TYPE]), Clock(), FakeHost()
        self.metrics = Metrics()
        self.link = link or DeviceLink("eth0")
        self.start()

    def start(self) -> None:
        """Start, on what the tree holds."""
        self.network = ClientNetwork()
        node = Dhcpv6Node(self.built.tree, self.built.committer, self.built.clock, self.network, self.host)
        around = LinkNode(self.network, self.host, Random(1))
        self.service = dhcpv6_device(self.clock, node, (_DUID, self.link, BootstrapCodes()), around, self.metrics)
        self.service.startService()

    def answer(self, *options: o.Option) -> None:
        """A server answers what was sent last."""
        message = Message(T.REPLY, self.network.port.sent[-1].transaction_id, (o.ClientId(_DUID), _SERVER, *options))
        self.network.receiver.datagram_received(build(message), ("fe80::1", 547, 0, 3), "fe80::d1", 3)

    def bind(self, address: IPv6Address = _FIRST, uri: bytes = b"coap://bs") -> None:
        """Get an address by Rapid Commit."""
        self.clock.advance(1.0)
        self.answer(o.RapidCommit(), _ia(address), o.Opaque(65001, uri), o.Opaque(65002, b"der"))
        self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Time passes, on both clocks."""
        self.built.clock.advance(int(seconds * 1000))
        self.clock.advance(seconds)

    def has(self) -> list[str]:
        """The addresses of its interface."""
        return [address for _, address in self.host.addresses]

    def learned(self) -> DeviceAddress | None:
        """What its tree says."""
        return device_address_of(self.built.tree.find(DEVICE_ADDRESS))


def _ia(address: IPv6Address = _FIRST, preferred_s: int = 1000, valid_s: int = 2000) -> o.IaNa:
    return o.IaNa(1, 0, 0, (o.IaAddress(address, preferred_s, valid_s),))


class DeviceTests(SynchronousTestCase):
    def device(self, link: DeviceLink | None = None) -> _Device:
        device = _Device(link)
        self.addCleanup(lambda: device.service.stopService() if device.service.running else None)
        return device

    def test_address(self) -> None:
        """The address is on the interface as a /128, with its lifetimes; the tree has it with the service, and no certificate to read."""
        device = self.device()
        device.bind()
        self.assertEqual(device.host.addresses, {(3, f"{_FIRST}/128"): (1000, 2000)})
        self.assertEqual(device.learned(), DeviceAddress(_FIRST, "coap://bs", b"der"))
        shown = device.built.rules.decide(ask(Method.GET, "/node/address"))
        self.assertNotIn(b'"der"', getattr(shown, "payload", b""))
        self.assertRaises(MethodNotAllowed, device.built.rules.decide, ask(Method.PUT, "/node/address", b"{}", "application/json"))

    def test_found_no_duplicate_first(self) -> None:
        """Nothing is said of an address before the system has looked for duplicates."""
        device = self.device()
        device.host.states = [AddressState.TENTATIVE] * 2
        device.bind()
        self.assertIsNone(device.learned())
        device.clock.pump([LOOK_S] * 2)
        self.assertEqual(device.learned(), DeviceAddress(_FIRST, "coap://bs", b"der"))

    def test_duplicate(self) -> None:
        """Another host has the address, so that the system has removed it: it is declined, and nothing is kept of it."""
        device = self.device()
        device.host.states = [AddressState.ABSENT]
        device.bind()
        self.assertEqual((device.network.port.sent[-1].type, device.learned(), device.has()), (T.DECLINE, None, []))
        device.answer(o.StatusCode(Status.SUCCESS))
        device.bind(_SECOND)
        self.assertEqual((device.has(), device.metrics.counter("m2mapp_dhcpv6_client_declined_total", "").value), ([f"{_SECOND}/128"], 1))

    def test_renewed(self) -> None:
        """At T1 it asks on; the lifetimes on the interface are the new ones; another service that it is told then is kept."""
        device = self.device()
        device.bind()
        device.advance(500)
        self.assertEqual(device.network.port.sent[-1].type, T.RENEW)
        device.answer(_ia(), o.Opaque(65001, b"coap://other"))
        device.clock.advance(0)
        self.assertEqual(device.host.addresses, {(3, f"{_FIRST}/128"): (1000, 2000)})
        self.assertEqual(device.learned(), DeviceAddress(_FIRST, "coap://other"))

    def test_another_address(self) -> None:
        """Another address takes the place of the first."""
        device = self.device()
        device.bind()
        device.advance(500)
        device.answer(o.IaNa(1, 0, 0, (o.IaAddress(_FIRST, 0, 0), o.IaAddress(_SECOND, 1000, 2000))))
        device.clock.advance(0)
        self.assertEqual((device.has(), device.learned()), ([f"{_SECOND}/128"], DeviceAddress(_SECOND)))

    def test_over(self) -> None:
        """When its time is over the address is used no more."""
        device = self.device()
        device.bind()
        device.advance(2000)
        self.assertEqual((device.has(), device.learned()), ([], None))

    def test_restart(self) -> None:
        """After a restart the address is on the interface at once, with what is left of its lifetimes, while it is verified."""
        device = self.device()
        device.bind()
        device.service.stopService()
        device.host.addresses.clear()
        device.advance(100)
        device.start()
        device.clock.advance(0)
        self.assertEqual(device.host.addresses, {(3, f"{_FIRST}/128"): (900, 1900)})
        device.clock.advance(1)
        self.assertEqual(device.network.port.sent[-1].type, T.CONFIRM)
        device.answer(o.StatusCode(Status.NOT_ON_LINK))
        self.assertEqual((device.has(), device.learned()), ([], None))

    def test_release(self) -> None:
        """Where it is to give back its address it does so at a stop, and has it no more."""
        device = self.device(DeviceLink("eth0", IPv6Address("fe80::d1"), release=True))
        self.assertEqual(device.network.opened, [("fe80::d1%eth0", 546)])
        device.bind()
        stopped = device.service.stopService()
        self.assertEqual((device.network.port.sent[-1].type, device.has()), (T.RELEASE, []))
        device.answer(o.StatusCode(Status.SUCCESS))
        self.successResultOf(stopped)
        self.assertEqual((device.learned(), device.network.port.stopped, device.clock.getDelayedCalls()), (None, True, []))

    def test_stop(self) -> None:
        """Otherwise it keeps what it has, says nothing, and nothing is pending."""
        device = self.device()
        device.bind()
        sent = len(device.network.port.sent)
        self.successResultOf(device.service.stopService())
        self.assertEqual((len(device.network.port.sent), device.has(), device.clock.getDelayedCalls()), (sent, [f"{_FIRST}/128"], []))
        self.assertIsNotNone(device.learned())

    def test_no_right(self) -> None:
        """Where the system refuses the address nothing is said of it, and it is tried again."""
        device = self.device()
        device.host.fault = OSError(1, "Operation not permitted")
        device.bind()
        self.assertIsNone(device.learned())
        device.host.fault = None
        device.clock.advance(SET_AGAIN_S)
        self.assertEqual(device.learned(), DeviceAddress(_FIRST, "coap://bs", b"der"))

    def test_full_disk(self) -> None:
        """What cannot be kept is not used, and is kept as soon as that is possible."""
        device = self.device()
        device.built.committer.fault = StorageFull()
        device.bind()
        self.assertIsNone(device.learned())
        device.built.committer.fault = None
        device.clock.advance(COMMIT_AGAIN_S)
        self.assertEqual(device.learned(), DeviceAddress(_FIRST, "coap://bs", b"der"))
