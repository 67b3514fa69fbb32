"""`lwm2m.service`: who is bootstrapped and who is refused, how many at a time, what is kept of it, and plans as resources."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.formats.documents import SENML_CBOR
from m2mapp.lwm2m import service
from m2mapp.lwm2m.accounts import Credentials
from m2mapp.lwm2m.plans import PlanShape
from m2mapp.lwm2m.service import plan_changes
from m2mapp.lwm2m.settings import BootstrapSettings
from m2mapp.model.errors import (
    Conflict,
    Fault,
    Forbidden,
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    NotAcceptable,
    Overloaded,
    PeerFailed,
    StorageFull,
    TooManyRequests,
)
from m2mapp.model.interfaces import IAskBack, IHandle
from m2mapp.model.messages import Answer, Method, Request, Response, Status
from m2mapp.model.principal import NODE
from m2mapp.tree.unit import Remove, Unit, Write
from tests.unit.fakes import ask
from tests.unit.lwm2m.parts import FLEET, SERVER, Node

EP = ("ep", "dev-one")
SAFE: dict[str, object] = {"pattern": "dev-*", "identity": "certificate", "servers": [SERVER]}


class Case(SynchronousTestCase):
    settings = BootstrapSettings()

    def setUp(self) -> None:
        self.node = Node(self.settings)
        self.successResultOf(self.node.put("fleet", FLEET))

    def tearDown(self) -> None:
        self.node.service.stopService()
        self.assertEqual(self.node.clock.getDelayedCalls(), [])
        self.assertEqual(self.node.built.errors, [])

    def refused(self, answered: Deferred[Response], *kinds: type[Fault]) -> str:
        """How a request was refused."""
        return str(self.failureResultOf(answered, *kinds).value)


class BootstrapTests(Case):
    def test_interfaces(self) -> None:
        """The service is what the dispatcher calls; the fake is what the CoAP edge gives."""
        self.assertTrue(verifyObject(IHandle, self.node.service))
        self.assertTrue(verifyObject(IAskBack, self.node.back))

    def test_whole(self) -> None:
        """The client is answered when its request is kept, then asked; the record has each step, its time, its code."""
        self.node.built.committer.hold()
        answered = self.node.request(EP, ("pct", "110"))
        self.node.clock.advance(1)
        self.assertNoResult(answered)
        self.node.built.committer.release()
        self.assertEqual(self.successResultOf(answered), Response(Status.CHANGED))
        self.assertEqual((self.node.record("dev-one")["state"], self.node.back.asked), ("bootstrapping", []))
        self.node.clock.advance(0)
        asked = [(peer, outgoing.uri, outgoing.content_type) for peer, outgoing in self.node.back.asked]
        senml = "application/senml+json"
        self.assertEqual(asked, [("peer", "/", None), ("peer", "/0/1", senml), ("peer", "/1/1", senml), ("peer", "/bs", None)])
        record, at = self.node.record("dev-one"), "2027-01-15T08:00:00.000Z"
        self.assertEqual(
            (record["state"], record["bootstrappedAt"], record["plan"], record["address"]), ("bootstrapped", at, "fleet", "fd00::d1")
        )
        steps = record["steps"]
        assert isinstance(steps, list)
        self.assertEqual(steps[0], {"step": "bootstrap requested", "at": at, "pct": "110"})
        self.assertEqual(steps[1:3], [{"step": "DELETE /", "at": at, "code": "2.02"}, {"step": "PUT /0/1", "at": at, "code": "2.04"}])
        self.assertEqual(self.node.count("bootstrapped"), 1)

    def test_fails(self) -> None:
        """A client that refuses, or never answers, leaves a record that says at what; when it was bootstrapped last stays."""
        self.node.request(EP)
        self.node.clock.advance(0)
        for reply, why in (
            (Answer("4.00"), "DELETE /0 was answered with 4.00"),
            (PeerFailed("it did not acknowledge the request"), "DELETE /: it did not acknowledge the request"),
        ):
            self.node.back.reply = lambda _, reply=reply: reply  # type: ignore[misc]
            self.node.request(EP)
            self.node.clock.advance(0)
            record = self.node.record("dev-one")
            self.assertEqual((record["state"], record["why"], "bootstrappedAt" in record), ("failed", why, True))
        self.assertEqual(self.node.count("failed"), 2)

    def test_again(self) -> None:
        """A second request of an endpoint takes the place of its session, also before that has begun; the first is asked nothing more."""
        self.node.back.reply = lambda _: None
        self.node.built.committer.hold()
        self.node.request(EP, peer="first")
        self.node.request(EP, peer="second")
        self.node.built.committer.release()
        self.node.clock.advance(0)
        self.node.request(EP, peer="third")
        self.node.clock.advance(0)
        self.assertEqual([peer for peer, _ in self.node.back.asked], ["second", "third"])
        self.assertEqual((self.node.back.cancelled, self.node.count("replaced")), (1, 2))

    def test_refused(self) -> None:
        """Names that no plan knows or that are none, formats that are no number, and requests not by CoAP: refused, and nothing is kept."""
        for query in ((("ep", "other"),), (), (("ep", "a/b"),), (("ep", "d" * 200),), (EP, ("pct", "tlv"))):
            self.refused(self.node.request(*query), Malformed)
        self.refused(self.node.ask(Request(Method.POST, ("bs",), (EP,), principal=NODE)), Malformed)
        self.assertEqual((self.node.built.tree.children(("devices",)), self.node.count("refused")), ([], 6))

    def test_certificate(self) -> None:
        """Where the plan says so, a client has to show a certificate, and one that names its endpoint."""
        self.successResultOf(self.node.put("fleet", SAFE))
        self.node.back.shown = {"one": ("urn:dev:1", "dev-one"), "two": ("dev-two",)}
        self.assertIn("has to show a certificate", self.refused(self.node.request(EP), Forbidden))
        self.assertIn("dev-two", self.refused(self.node.request(EP, peer="two"), Malformed))
        self.assertEqual(self.successResultOf(self.node.request(EP, peer="one")).status, Status.CHANGED)

    def test_not_kept(self) -> None:
        """A request that cannot be kept is refused, and leaves no session behind."""
        self.node.built.committer.fault = StorageFull()
        self.refused(self.node.request(EP), StorageFull)
        self.assertEqual((len(self.node.service._running), self.node.service._by_host), (0, {}))

    def test_end_not_kept(self) -> None:
        """An end that cannot be kept is logged."""
        self.node.request(EP)
        self.node.built.committer.fault = StorageFull()
        self.node.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(StorageFull)), 1)

    def test_stopped(self) -> None:
        """What goes on when the server stops ends; at the next start its record says so."""
        self.node.back.reply = lambda _: None
        self.node.request(EP)
        self.node.clock.advance(0)
        self.node.service.stopService()
        self.assertEqual(self.node.back.cancelled, 1)
        self.refused(self.node.request(EP), Overloaded)
        self.node.start()
        record = self.node.record("dev-one")
        self.assertEqual((record["state"], record["why"]), ("failed", "the server was started again while it went on"))


class BoundsTests(Case):
    settings = BootstrapSettings(sessions=3, sessions_per_host=2)

    def test_sessions(self) -> None:
        """So many sessions of one address, and in all; one that asks again takes no further place; one that ends leaves its own."""
        self.node.back.reply = lambda _: None
        for name in ("dev-1", "dev-2", "dev-1"):
            self.successResultOf(self.node.request(("ep", name)))
        self.refused(self.node.request(("ep", "dev-3")), TooManyRequests)
        self.successResultOf(self.node.request(("ep", "dev-3"), host="fd00::d3"))
        self.refused(self.node.request(("ep", "dev-4"), host="fd00::d4"), Overloaded)
        self.node.back.reply = lambda _: PeerFailed("gone")
        self.node.clock.advance(0)
        self.successResultOf(self.node.request(("ep", "dev-4")))

    def test_devices(self) -> None:
        """Records are bounded; devices that have one are bootstrapped all the same, and one that is deleted makes room."""
        self.patch(service, "MAX_DEVICES", 1)
        self.node.request(EP)
        self.node.clock.advance(0)
        self.refused(self.node.request(("ep", "dev-two")), Overloaded)
        self.successResultOf(self.node.request(EP))
        self.node.clock.advance(0)
        self.node.built.committer.commit(Unit((Remove(("devices", "dev-one")),)))
        self.successResultOf(self.node.request(("ep", "dev-two")))


class PlanTests(Case):
    def test_resources(self) -> None:
        """Plans are read, listed, changed and deleted; from then on the next device is bootstrapped by them."""
        self.successResultOf(self.node.put("fleet", {**FLEET, "pattern": "x-*"}))
        self.refused(self.node.request(EP), Malformed)
        shown = json.loads(self.successResultOf(self.node.ask(ask(Method.GET, "/bs/fleet"))).payload)
        self.assertEqual((shown["pattern"], shown["servers"][0]["binding"]), ("x-*", "U"))
        self.assertEqual(self.successResultOf(self.node.ask(ask(Method.GET, "/bs"))).status, Status.CONTENT)
        self.successResultOf(self.node.ask(ask(Method.DELETE, "/bs/fleet")))
        self.refused(self.node.request(("ep", "x-1")), Malformed)

    def test_clash(self) -> None:
        """A plan for devices that another plan is for is refused, and nothing changes."""
        self.assertIn("the plan fleet", self.refused(self.node.put("other", FLEET), Conflict))
        self.assertEqual([each.path[-1] for each in self.node.built.tree.children(("bs",))], ["fleet"])
        self.refused(self.node.put("other", {**FLEET, "servers": [SERVER, SERVER]}), Malformed)

    def test_clash_under_way(self) -> None:
        """A plan for devices that another one on its way to the disk is for is refused, too; what was lost on the way is not in the way."""
        self.node.built.committer.hold()
        first = self.node.put("a", {**FLEET, "pattern": "a-*"})
        self.refused(self.node.put("b", {**FLEET, "pattern": "a-*"}), Conflict)
        self.node.built.committer.fail_held(StorageFull())
        self.refused(first, StorageFull)
        self.successResultOf(self.node.put("b", {**FLEET, "pattern": "a-*"}))

    def test_files_before_resources(self) -> None:
        """Where a file comes to have a plan for the same devices it counts, also after a start; the one that was written is not used."""
        document = {**PlanShape(()).check("zz", FLEET), "file": "/etc/zz.toml"}
        self.node.service.stopService()
        self.node.settings = BootstrapSettings({"zz": document})
        for _ in range(2):
            self.node.start()
            self.successResultOf(self.node.request(EP))  # before the plan of the file is in the tree, and after that
            self.node.clock.advance(0)
            self.assertEqual(self.node.record("dev-one")["plan"], "zz")
            self.node.built.committer.commit(Unit(plan_changes(self.node.built.tree, self.node.settings.plans)))
            self.assertEqual(self.successResultOf(self.node.request(("ep", "dev-two"))).status, Status.CHANGED)
            self.node.service.stopService()

    def test_files(self) -> None:
        """The plans of files stand in the tree; they are changed in their files only, follow them at a start, and go with them."""
        document = {**PlanShape(()).check("file", {"endpoint": "x", "servers": [SERVER]}), "file": "/etc/file.toml"}
        node = Node(BootstrapSettings(plans={"file": document}))
        self.refused(node.put("file", FLEET), Conflict)
        self.refused(node.ask(ask(Method.DELETE, "/bs/file")), Conflict)
        self.successResultOf(node.put("fleet", FLEET))
        self.assertEqual(plan_changes(node.built.tree, {"file": document}), ())
        changes = plan_changes(node.built.tree, {"fleet": document})
        self.assertEqual([(type(each), each.path[-1]) for each in changes], [(Remove, "file"), (Write, "fleet")])
        node.service.stopService()

    def test_credentials_gone(self) -> None:
        """A plan whose credentials the configuration does not have any more is not used."""
        server = {"shortId": 1, "uri": "coaps://m", "security": "certificate", "credentials": "x"}
        node = Node(BootstrapSettings(credentials={"x": Credentials(b"", b"", b"")}))
        self.successResultOf(node.put("safe", {"default": True, "identity": "certificate", "servers": [server]}))
        node.service.stopService()
        node.settings = BootstrapSettings()
        node.start()
        self.refused(node.request(EP), Malformed)
        node.service.stopService()

    def test_pack(self) -> None:
        """A Bootstrap-Pack where the plan has one, in the format that is asked for; 4.04 else, as at any other path; no other method."""

        def pack(*accept: str, path: str = "/bspack", method: Method = Method.GET) -> Deferred[Response]:
            return self.node.ask(ask(method, path, query=(EP,), accept=accept))

        self.refused(pack(), NoSuchResource)
        self.successResultOf(self.node.put("fleet", {**FLEET, "pack": True}))
        self.assertEqual(self.successResultOf(pack()).content_type, SENML_CBOR)
        self.assertIn(b'"/0/1/0"', self.successResultOf(pack("application/senml+json")).payload)
        self.refused(pack("text/plain"), NotAcceptable)
        self.refused(pack(path="/bspack/x"), NoSuchResource)
        self.refused(pack(method=Method.PUT), MethodNotAllowed)

    def test_records_are_not_written(self) -> None:
        """Nobody writes a record, or deletes them all; one may be deleted."""
        self.node.request(EP)
        self.node.clock.advance(0)
        for method, path in ((Method.PUT, "/devices/x"), (Method.POST, "/devices"), (Method.DELETE, "/devices")):
            with self.assertRaises(MethodNotAllowed):
                self.node.built.dispatcher.handle(ask(method, path, b"{}", "application/json"))
        self.node.built.dispatcher.handle(ask(Method.DELETE, "/devices/dev-one"))
        self.assertEqual(self.node.built.tree.children(("devices",)), [])
