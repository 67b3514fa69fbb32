"""`lwm2m.drivers.bootstrapping`: who counts as the bootstrap server, what is kept before it is answered, which registrations there are."""

from __future__ import annotations

from ipaddress import IPv6Address
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.accounts import instances
from m2mapp.lwm2m.client import Phase
from m2mapp.lwm2m.client_page import PAGE, PAGE_TYPE
from m2mapp.lwm2m.device_settings import DeviceSettings, read
from m2mapp.lwm2m.drivers.bootstrapping import Bootstrapping, ClientNode
from m2mapp.lwm2m.objects import TLV, payload
from m2mapp.model.errors import Forbidden, NotAcceptable, PeerFailed, StorageFull
from m2mapp.model.messages import Answer, Method, Multicast, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NODE, Principal
from m2mapp.tree.device_address import DEVICE_ADDRESS
from m2mapp.tree.unit import Remove, Unit, Write
from tests.unit.fakes import RecordingRequester, build_tree
from tests.unit.lwm2m.parts import FakeAskBack, plan

_SERVER = ("fd00::b5", 5683)
_TAKEN = Answer("2.04", source=_SERVER[0], port=_SERVER[1])


class _Back(FakeAskBack):
    """`sessions`: whom this node meant with the session of each peer."""

    sessions: dict[object, tuple[str, bytes | None]]

    def meant(self, peer: object) -> tuple[str, bytes | None] | None:
        return self.sessions.get(peer)


class BootstrappingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.built, self.clock, self.servers, self.back = build_tree([PAGE_TYPE]), Clock(), RecordingRequester(), _Back()
        self.back.sessions = {}
        node = ClientNode(
            self.built.tree,
            self.built.committer,
            self.built.clock,
            self.servers,
            self.back,
            lambda: "</value>",
            (("host", "d1.example.org"),),
            Random(1),
        )
        self.client = Bootstrapping(self.clock, node, DeviceSettings("eth0", "d1"), Metrics())
        self.client.startService()
        self.addCleanup(lambda: self.client.stopService() if self.client.running else None)

    def told(self, uri: str | None = "coap://[fd00::b5]", der: bytes | None = None, address: str = "fd00::d1") -> None:
        """The DHCPv6 client has an address, and was told of this service."""
        attributes = {"address": str(IPv6Address(address)), "bootstrapURI": uri, "der": der}
        self.built.committer.commit(Unit((Write(DEVICE_ADDRESS, "device-address", attributes),)))

    def ask(self, method: Method, *path: str, source: tuple[str, int] = _SERVER, **more: object) -> Response | None:
        """A request comes in; None for one that is not the client's."""
        request = Request(method, path, source=source, **{"principal": Principal("coap:x"), **more})  # type: ignore[arg-type]
        if not self.client.claims(request):
            return None
        answered = self.client.handle(request)
        return answered if isinstance(answered, Response) else self.successResultOf(answered)

    def write(self) -> None:
        """The server writes what the plan says."""
        for one in instances(plan(), {}):
            self.ask(Method.PUT, *one.path.strip("/").split("/"), payload=payload(one, TLV), content_type=TLV)

    def bootstrap(self) -> None:
        """All goes as it should."""
        self.told()
        self.servers.answer(len(self.servers.sent) - 1, _TAKEN)
        self.write()
        self.assertEqual(self.ask(Method.POST, "bs"), Response(Status.CHANGED))

    def register(self) -> None:
        """The server that it was told agrees."""
        self.clock.advance(1)
        self.servers.answer(len(self.servers.sent) - 1, Answer("2.01", location="/rd/1", source="::1"))

    def test_usual(self) -> None:
        """It asks as soon as it is told, is written to, keeps that, and registers with all that it is."""
        self.bootstrap()
        self.assertEqual(self.servers.sent[0].uri, "coap://[fd00::b5]/bs?ep=d1&pct=112")
        self.assertEqual(self.built.tree.get(PAGE).attributes["bootstrapURI"], "coap://[fd00::b5]")
        self.register()
        sent = self.servers.sent[-1]
        self.assertEqual(sent.uri, "coap://[::1]:5783/rd?lwm2m=1.1&ep=d1&b=U&lt=300&host=d1.example.org")
        self.assertEqual(sent.payload, b'</>;rt="oma.lwm2m";ct="11542 110 112",</1/1>,</3/0>,</value>')
        self.assertEqual(list(self.client.servers), ["::1"])

    def test_others(self) -> None:
        """Requests of others, to a group, and after the Finish are not the bootstrap server's."""
        self.told()
        self.assertIsNone(self.ask(Method.DELETE, source=("fd00::bad", 5683)))
        self.assertIsNone(self.ask(Method.DELETE, source=(_SERVER[0], 1)))
        self.assertIsNone(self.ask(Method.DELETE, multicast=Multicast("ff05::fd", 1)))
        self.back.sessions["session"] = ("", None)
        self.assertIsNone(self.ask(Method.DELETE, peer="session"))
        self.assertEqual(self.ask(Method.DELETE), Response(Status.DELETED))
        self.write()
        self.ask(Method.POST, "bs")
        self.assertIsNone(self.ask(Method.DELETE))

    def test_by_its_session(self) -> None:
        """Over coaps the server is who the session was begun with, with that certificate; its address counts for nothing."""
        self.told("coaps://bs.example.org", b"der")
        self.assertEqual(self.servers.sent[0].certificate, b"der")
        self.back.sessions = {"it": ("bs.example.org", b"der"), "other": ("bs.example.org", b"another"), "lwm2m": ("m2m.example.org", None)}
        self.servers.answer(0, _TAKEN)
        for peer in ("other", "lwm2m", "none"):
            self.assertIsNone(self.ask(Method.DELETE, peer=peer))
        self.assertEqual(self.ask(Method.DELETE, peer="it"), Response(Status.DELETED))

    def test_certificate_and_plain(self) -> None:
        """With a certificate plain CoAP is not used: nothing is sent, and it says why."""
        self.told("coap://[fd00::b5]", b"der")
        self.assertEqual((self.servers.sent, self.client.client.phase), ([], Phase.PAUSED))
        self.assertIn("a coaps URI", self.client.client.why)

    def test_full_disk(self) -> None:
        """What was written cannot be kept: the Finish is not agreed to, and nothing is registered."""
        self.told()
        self.servers.answer(0, _TAKEN)
        self.write()
        self.built.committer.fault = StorageFull()
        answered = self.client.handle(Request(Method.POST, ("bs",), source=_SERVER))
        assert not isinstance(answered, Response)
        self.failureResultOf(answered, StorageFull)
        self.clock.advance(2)
        self.assertEqual(len(self.servers.sent), 1)

    def test_makes_no_sense(self) -> None:
        """A Finish of nothing is refused; what the device had before it keeps, and it asks again."""
        self.bootstrap()
        self.register()
        self.told("coap://[fd00::b6]")
        self.assertRaises(NotAcceptable, self.ask, Method.POST, "bs", source=("fd00::b6", 5683))
        self.assertEqual((self.client.client.phase, list(self.client.servers)), (Phase.PAUSED, ["::1"]))
        self.clock.advance(2)
        self.assertEqual(self.servers.sent[-1].uri, "coap://[fd00::b6]/bs?ep=d1&pct=112")

    def test_told_of_another(self) -> None:
        """Told of another service while the first is asked, it asks that one; what the first says is of no account."""
        self.told()
        self.told("coap://[fd00::b6]")
        self.assertEqual(len(self.servers.waiting), 1)
        self.assertIsNone(self.ask(Method.DELETE))
        self.assertEqual(self.ask(Method.DELETE, source=("fd00::b6", 5683)), Response(Status.DELETED))

    def test_silent(self) -> None:
        """A service that is away is asked again and again."""
        self.told()
        for _ in range(3):
            self.servers.answer(len(self.servers.sent) - 1, PeerFailed("silent"))
            self.clock.advance(10)
        self.assertEqual(len(self.servers.sent), 4)

    def test_another_address(self) -> None:
        """Another address with the same service: nobody bootstraps it again, and its servers are told at once."""
        self.bootstrap()
        self.register()
        self.told(address="fd00::d2")
        self.clock.advance(0)
        self.assertEqual(self.servers.sent[-1].uri, "coap://[::1]:5783/rd/1")

    def test_no_address(self) -> None:
        """Without an address nothing is asked; a service that is none is as no service."""
        self.built.committer.commit(Unit((Remove(DEVICE_ADDRESS),)))
        self.told(None)
        self.assertEqual((self.client.client.phase, self.servers.sent), (Phase.IDLE, []))

    def test_objects(self) -> None:
        """Servers read the objects by right, and trigger an update or a bootstrap; others trigger nothing, and nobody reads Security."""
        self.bootstrap()
        self.register()
        found = self.ask(Method.GET, "3", "0", "2", principal=NODE, accept=(TLV,))
        self.assertEqual(found and found.payload, b"\xc2\x02d1")
        self.assertRaises(Forbidden, self.ask, Method.GET, "3", "0")
        self.assertRaises(Forbidden, self.ask, Method.GET, "0", "1", principal=NODE)
        self.assertRaises(Forbidden, self.ask, Method.POST, "1", "1", "8")
        self.assertEqual(self.ask(Method.POST, "1", "1", "8", source=("::1", 5783)), Response(Status.CHANGED))
        self.clock.advance(0)
        self.assertEqual(self.servers.sent[-1].uri, "coap://[::1]:5783/rd/1")
        self.servers.answer(len(self.servers.sent) - 1, Answer("2.04", source="::1"))
        self.ask(Method.POST, "1", "1", "9", source=("::1", 5783))
        self.assertEqual(self.servers.sent[-1].uri, "coap://[fd00::b5]/bs?ep=d1&pct=112")

    def test_stop(self) -> None:
        """At a stop it deregisters; nothing is pending."""
        self.bootstrap()
        self.register()
        stopped = self.client.stopService()
        self.assertEqual(self.servers.sent[-1].method, Method.DELETE)
        self.servers.answer(len(self.servers.sent) - 1, Answer("2.02"))
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SettingsTests(SynchronousTestCase):
    def test_read(self) -> None:
        """The table with all its keys; each fault is told with its key."""
        table = {"interface": "eth0", "endpoint": "d1", "link_local": "fe80::d1", "release": True, "format": "tlv"}
        self.assertEqual(
            read(table, "[device] "), (DeviceSettings("eth0", "d1", IPv6Address("fe80::d1"), release=True, format_number=11542), [])
        )
        bad = {"interface": "no/name", "endpoint": "", "link_local": "fd00::1", "release": 1, "format": "xml", "colour": "red"}
        _, faults = read(bad, "[device] ")
        self.assertEqual(len(faults), len(bad), faults)
        self.assertTrue(all(fault.detail.startswith("[device] ") for fault in faults))
