"""`lwm2m.drivers.gateways` and `observing`: what a bootstrap server takes from gateways, and what it shows of each device."""

from __future__ import annotations

import json
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.devices import DeviceObject
from m2mapp.lwm2m.drivers import gateways as service
from m2mapp.lwm2m.drivers import observing
from m2mapp.lwm2m.drivers.observing import FIRST_PAUSE_S, LONGEST_PAUSE_S
from m2mapp.lwm2m.objects import TLV
from m2mapp.lwm2m.record import BOOTSTRAPPED, BOOTSTRAPPING, FAILED, REQUESTED, Record
from m2mapp.model.errors import (
    Conflict,
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    Overloaded,
    PeerFailed,
    PreconditionFailed,
    TooLarge,
    UnsupportedMediaType,
)
from m2mapp.model.messages import ANY_ETAG, Answer, Conditions, Method, Status
from m2mapp.tree.unit import Remove, Write
from tests.unit.fakes import START_MS, ask
from tests.unit.lwm2m.reporting import UNTIL, Observed, Server, duid, lease, registration

_LINKS = [{"href": "/1/0"}, {"href": "/33050/0"}]
_GATEWAY = registration(0, addresses=["fd00::1"], port=5685, links=_LINKS, attributes={"lwm2m": "1.1", "b": "U"})


def report(number: int, **more: object) -> dict[str, object]:
    """The report of a device."""
    leases = [{"iaid": 1, "address": f"fd00::d:{number:x}", "givenAt": "2027-01-15T07:00:00.000Z", "validUntil": UNTIL}]
    return {"leases": leases, "steps": {"address given": "2027-01-15T07:00:00.000Z"}, **more}


def record(number: int, state: str, why: str = "") -> Write:
    """The record of a device's bootstrap, from the address that it was given."""
    kept = Record(f"dev-{number}", f"fd00::d:{number:x}", 5683, "somebody", "fleet")
    kept.add(REQUESTED, START_MS)
    if state == BOOTSTRAPPED:
        kept.add(BOOTSTRAPPED, START_MS + 1000)
    return kept.write(state, why)


class PushedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def test_one(self) -> None:
        """A report makes the device and its gateway; the same again changes nothing; DELETE takes it away."""
        path = f"/gateways/g1/devices/{duid(1)}"
        created = self.successResultOf(self.server.put(path, report(1)))
        self.assertEqual((created.status, created.location), (Status.CREATED, ("gateways", "g1", "devices", duid(1))))
        units = len(self.server.built.committer.units)
        self.assertEqual(self.successResultOf(self.server.put(path, report(1))).status, Status.CHANGED)
        self.assertEqual(len(self.server.built.committer.units), units)
        shown = self.server.read("/gateways/g1")
        self.assertEqual((shown["devices"], shown["registered"], shown["lastReport"]), (1, None, "2027-01-15T08:00:00.000Z"))
        self.assertEqual(self.successResultOf(self.server.send(ask(Method.DELETE, path))).status, Status.DELETED)
        self.assertEqual(self.server.read("/gateways/g1")["devices"], 0)

    def test_conditions(self) -> None:
        """A report is taken only if what is there is what the sender thinks (If-Match, If-None-Match); other places take none."""
        path, tag = f"/gateways/g1/devices/{duid(1)}", Conditions(if_none_match=(ANY_ETAG,))
        for outcome in (Status.CREATED, PreconditionFailed):
            request = ask(Method.PUT, path, json.dumps(report(1)).encode(), "application/json", conditions=tag)
            if isinstance(outcome, Status):
                self.assertEqual(self.successResultOf(self.server.send(request)).status, outcome)
            else:
                self.failureResultOf(self.server.send(request), outcome)
        for wrong in (f"/gateways/g1/things/{duid(1)}", "/gateways/g1", "/gateways", f"{path}/x"):
            self.failureResultOf(self.server.put(wrong, report(1)), MethodNotAllowed, Conflict)

    def test_all_and_some(self) -> None:
        """PUT of all takes away the others; PATCH leaves them; null takes one away; what is no report is told, and keeps no other."""
        self.server.put("/gateways/g1/devices", {duid(1): report(1), duid(2): report(2)})
        self.server.put("/gateways/g1/devices", {duid(3): report(3), duid(1): None}, Method.PATCH)
        self.assertEqual(self.server.known(), [duid(2), duid(3)])
        given = {duid(4): report(4), "xyz": report(5), duid(6): {"leases": []}}
        answer = self.successResultOf(self.server.put("/gateways/g1/devices", given))
        self.assertEqual(self.server.known(), [duid(4)])
        self.assertIn(b'"taken":1,"refused":{"xyz":"duid: xyz is not a DUID', answer.payload)
        self.assertEqual(len(self.server.read("/gateways/g1")["notTaken"]), 2)  # type: ignore[arg-type]

    def test_bad_reports(self) -> None:
        """A report that is none is refused with the field and what would be right; nothing changes, the gateway is not made either."""
        one: dict[str, object] = {"iaid": 1, "address": "fd00::1"}
        cases: list[tuple[object, str]] = [
            ([], "body"),
            ({}, "leases"),
            ({"leases": []}, "leases"),
            ({"leases": [one] * 17}, "leases"),
            ({"leases": [{**one, "address": "192.0.2.1"}]}, "leases[0].address"),
            ({"leases": [{**one, "address": "ff02::1"}]}, "leases[0].address"),
            ({"leases": [{**one, "address": "fe80::1%eth0"}]}, "leases[0].address"),
            ({"leases": [{**one, "iaid": -1}]}, "leases[0].iaid"),
            ({"leases": [{**one, "givenAt": "yesterday"}]}, "leases[0].givenAt"),
            ({"leases": [{**one, "bootstrapURI": "x" * 1025}]}, "leases[0].bootstrapURI"),
            ({"leases": [one], "steps": {"bootstrapped": "2027-01-15T07:00:00Z"}}, "steps"),
            ({"leases": [one], "steps": {"registered": 7}}, "steps"),
            ({"leases": [one], "groups": {str(number): "joined" for number in range(257)}}, "groups"),
            ({"leases": [one], "more": 1}, "more"),
        ]
        for document, field in cases:
            with self.subTest(document=document):
                fault = self.failureResultOf(self.server.put(f"/gateways/g1/devices/{duid(1)}", document), Malformed).value
                self.assertEqual(fault.field, field)
        self.failureResultOf(self.server.put("/gateways/g1/devices/0003FF", report(1)), Malformed)
        for name in ("..", "a/b", "x" * 300):
            request = ask(Method.PUT, "/", b"{}", "application/json")._replace(path=("gateways", name, "devices"))
            self.failureResultOf(self.server.send(request), Malformed, TooLarge)
        self.failureResultOf(self.server.send(ask(Method.PUT, "/gateways/g1/devices", b"x", "text/plain")), UnsupportedMediaType)
        self.assertEqual(self.server.built.tree.children(("gateways",)), [])

    def test_liar(self) -> None:
        """An address that another gateway has given is refused, as long as that lease is valid; a device that moves is at both."""
        self.server.put("/gateways/g1/devices", {duid(1): report(1)})
        lie = self.server.put(f"/gateways/g2/devices/{duid(7)}", report(1))
        self.assertIn("the gateway g1 has given", self.failureResultOf(lie, Conflict).value.detail)
        self.server.put("/gateways/g2/devices", {duid(1): report(2), duid(7): report(1)})
        self.assertEqual(self.server.known("g2"), [duid(1)])
        self.assertEqual(self.server.read(f"/devices/{duid(1)}")["gateway"], "g2")
        self.assertEqual(self.server.read("/devices/fd00::d:1")["gateway"], "g1")
        ended = {"leases": [{"iaid": 1, "address": "fd00::d:1", "validUntil": "2027-01-15T07:30:00Z"}]}
        self.server.put("/gateways/g1/devices", {duid(1): ended})
        self.successResultOf(self.server.put(f"/gateways/g2/devices/{duid(7)}", report(1)))

    def test_bounds(self) -> None:
        """There are so many gateways and devices and no more; what was there can still be changed."""
        self.patch(service, "MAX_GATEWAYS", 1)
        self.patch(service, "MAX_REPORTED", 2)
        answer = self.successResultOf(self.server.put("/gateways/g1/devices", {duid(number): report(number) for number in range(3)}))
        self.assertIn(b'"taken":2', answer.payload)
        self.failureResultOf(self.server.put(f"/gateways/g1/devices/{duid(9)}", report(9)), Overloaded)
        self.failureResultOf(self.server.put("/gateways/g2/devices", {}), Overloaded)
        self.successResultOf(self.server.put(f"/gateways/g1/devices/{duid(1)}", report(1, endpoint="x")))

    def test_started_again(self) -> None:
        """After a start all is as before, since the tree has it; a lie is one then, too."""
        self.server.put("/gateways/g1/devices", {duid(1): report(1)})
        self.server.commit(record(1, BOOTSTRAPPED))
        before = self.server.read("/devices/dev-1")
        self.server.service.stopService()
        self.server.start()
        self.assertEqual(self.server.read("/devices/dev-1"), before)
        self.failureResultOf(self.server.put(f"/gateways/g2/devices/{duid(7)}", report(1)), Conflict)


class JoinedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def missing(self, name: str) -> tuple[object, object, object]:
        """The step that a device misses, since when, and for how many seconds."""
        missing = self.server.read(f"/devices/{name}")["missing"]
        return tuple(missing[key] for key in ("step", "since", "forSeconds")) if isinstance(missing, dict) else (None, None, None)

    def test_chain(self) -> None:
        """Each step of a device comes with its time, and until then it is named, with since when it is awaited and what to do."""
        given = "2027-01-15T07:00:00.000Z"
        self.server.put(f"/gateways/g1/devices/{duid(1)}", report(1))
        self.server.built.clock.advance(60_000)
        self.assertEqual(self.missing(duid(1)), ("bootstrap requested", "2027-01-15T08:00:00.000Z", 60))
        self.server.commit(record(1, BOOTSTRAPPING))
        self.assertEqual(self.missing("dev-1"), ("bootstrapped", "2027-01-15T08:00:00.000Z", 60))
        self.server.commit(record(1, FAILED, "PUT /0/1 was answered with 4.05"))
        shown = self.server.read("/devices/dev-1")
        self.assertEqual((shown["why"], shown["state"]), ("PUT /0/1 was answered with 4.05", FAILED))
        self.server.commit(record(1, BOOTSTRAPPED))
        self.assertEqual(self.missing("dev-1"), ("registered", "2027-01-15T08:00:01.000Z", 59))
        steps = {"address given": given, "registered": "2027-01-15T08:00:30.000Z"}
        self.server.put(f"/gateways/g1/devices/{duid(1)}", report(1, steps=steps, groups={"/groups/lamps": "pending"}))
        self.assertEqual(self.missing("dev-1"), ("in groups", "2027-01-15T08:00:30.000Z", 30))
        steps["in groups"] = "2027-01-15T08:00:31.000Z"
        self.server.put(f"/gateways/g1/devices/{duid(1)}", report(1, steps=steps, groups={"/groups/lamps": "joined"}))
        shown = self.server.read("/devices/dev-1")
        self.assertIsNone(shown["missing"])
        at = (given, "2027-01-15T08:00:00.000Z", "2027-01-15T08:00:00.000Z", "2027-01-15T08:00:01.000Z", *list(steps.values())[1:])
        self.assertEqual([link["at"] for link in shown["chain"]], list(at))  # type: ignore[attr-defined]
        self.assertEqual((shown["gateway"], shown["duid"], shown["groups"]), ("g1", duid(1), {"/groups/lamps": "joined"}))

    def test_finish_lost(self) -> None:
        """A device that registers after a Finish without an answer was bootstrapped; not one that refused, or registered before."""
        kept = Record("dev-1", "fd00::d:1", 5683, "somebody", "fleet")
        kept.add(REQUESTED, START_MS)
        cases: tuple[tuple[str, dict[str, object], str], ...] = (
            ("2027-01-15T08:00:30.000Z", {}, BOOTSTRAPPED),
            ("2027-01-15T07:59:59.000Z", {}, FAILED),
            ("2027-01-15T08:00:30.000Z", {"code": "4.06"}, FAILED),
        )
        for registered, code, state in cases:
            steps = {"address given": "2027-01-15T07:00:00.000Z", "registered": registered}
            self.server.put(f"/gateways/g1/devices/{duid(1)}", report(1, steps=steps))
            ended = replace(kept, steps=[*kept.steps])
            ended.add("POST /bs", START_MS + 9000, **code)
            self.server.commit(ended.write(FAILED, "POST /bs: nobody answered"))
            shown = self.server.read("/devices/dev-1")
            self.assertEqual(shown["state"], state)
            at = registered if state == BOOTSTRAPPED else None
            self.assertEqual(shown["chain"][3], {"step": "bootstrapped", "at": at})  # type: ignore[index]
            self.assertEqual(shown["missing"] is None, state == BOOTSTRAPPED)

    def test_ended(self) -> None:
        """A step that held and does not any more is missing again, and the chain says until when it held."""
        steps, ended = {"address given": "2027-01-15T07:00:00.000Z"}, {"registered": "2027-01-15T07:30:00.000Z"}
        self.server.commit(record(1, BOOTSTRAPPED))
        self.server.put(f"/gateways/g1/devices/{duid(1)}", report(1, steps=steps, ended=ended))
        self.assertEqual(self.missing("dev-1")[0], "registered")
        chain = self.server.read("/devices/dev-1")["chain"]
        self.assertEqual(chain[4], {"step": "registered", "at": None, "ended": "2027-01-15T07:30:00.000Z"})  # type: ignore[index]

    def test_without_gateways(self) -> None:
        """Where no gateway reports, what gateways tell is not missed; a device registered at this node is registered."""
        self.server.commit(record(1, BOOTSTRAPPED))
        self.assertEqual(self.missing("dev-1")[0], "registered")
        self.server.commit(registration(1))
        self.assertEqual(self.missing("dev-1"), (None, None, None))
        self.server.put(f"/gateways/g1/devices/{duid(2)}", report(2))
        self.assertEqual(self.missing("dev-1")[0], "address given")

    def test_names(self) -> None:
        """A device is found by endpoint, DUID and address; one that asked is listed by its endpoint, one that is gone is not there."""
        self.server.put("/gateways/g1/devices", {duid(1): report(1), duid(2): report(2)})
        self.assertEqual(self.listed(), [duid(1), duid(2)])
        self.server.commit(record(1, BOOTSTRAPPED))
        self.assertEqual(self.listed(), [duid(2), "dev-1"])
        found = [self.server.read(f"/devices/{name}") for name in ("dev-1", duid(1), "fd00::d:1")]
        self.assertEqual(found, [found[0]] * 3)
        self.server.commit(Remove(("devices", "dev-1")))
        self.assertEqual(self.listed(), [duid(1), duid(2)])
        self.server.commit(record(1, BOOTSTRAPPED), Remove(("gateways", "g1")))
        self.assertEqual(self.listed(), ["dev-1"])
        for name in (duid(2), "fd00::d:2", "nobody", "dev-1/x"):
            self.assertRaises(NoSuchResource, self.server.read, f"/devices/{name}")
        self.assertEqual(self.server.read("/devices/fd00::d:1")["endpoint"], "dev-1")

    def test_list(self) -> None:
        """Devices are listed in pages, all or those that miss a step, and for how long; a page that finds few goes on behind them."""
        self.server.put("/gateways/g1/devices", {duid(number): report(number) for number in range(6)})
        self.server.commit(*(record(number, BOOTSTRAPPED) for number in (0, 3)))
        page = self.server.read("/devices", ("limit", "4"))
        self.assertEqual(page["next"], duid(5))
        self.assertEqual([child["name"] for child in page["children"]], [duid(number) for number in (1, 2, 4, 5)])  # type: ignore[attr-defined]
        self.assertEqual(self.listed(("after", str(page["next"]))), ["dev-0", "dev-3"])
        self.assertEqual(self.listed(("missing", "registered")), ["dev-0", "dev-3"])
        self.assertEqual(len(self.listed(("missing", ""))), 6)
        self.server.built.clock.advance(31_000)
        self.assertEqual(self.listed(("for", "31")), [duid(number) for number in (1, 2, 4, 5)])
        self.patch(service, "LOOKED_AT", 2)
        page = self.server.read("/devices", ("missing", "registered"))
        self.assertEqual((page["children"], page["next"]), ([], duid(2)))
        for query in (("missing", "x"), ("for", "x"), ("limit", "0")):
            self.assertRaises(Malformed, self.server.read, "/devices", query)

    def listed(self, *query: tuple[str, str]) -> list[object]:
        """The names in a list of devices."""
        children = self.server.read("/devices", *query)["children"]
        return [child["name"] for child in children] if isinstance(children, list) else []


class ObservedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server, self.object = Server(), DeviceObject()
        self.server.commit(_GATEWAY)
        self.server.clock.advance(0)

    @property
    def observed(self) -> Observed:
        """The observation that was begun last."""
        return self.server.observed[-1]

    def tell(self) -> None:
        """The gateway's object is what it is now."""
        self.observed.tell(self.object.read(TLV))
        self.server.clock.pump([0] * 20)

    def put(self, *numbers: int, **more: object) -> None:
        """Leases are instances of the gateway's object."""
        for number in numbers:
            self.object.put(("leases", str(number)), lease(number, **more).attributes)

    def state(self) -> object:
        """How the reading of the object goes."""
        state = self.server.read("/gateways/dev-0")["object"]
        return state["state"] if isinstance(state, dict) else None

    def test_read(self) -> None:
        """A gateway that registers with the object is observed; its devices are those of the object at each time."""
        self.assertEqual((self.observed.outgoing.uri, self.observed.outgoing.accept), ("coap://[fd00::1]:5685/33050", TLV))
        self.put(*range(250))
        self.tell()
        self.assertEqual(len(self.server.known("dev-0")), 250)
        for number in range(1, 250):
            self.object.drop(("leases", str(number)))
        self.put(0, endpoint="lamp", registeredAt="2027-01-15T07:30:00.000Z")
        self.tell()
        self.assertEqual(self.server.known("dev-0"), [duid(0)])
        self.assertEqual(self.server.read(f"/devices/{duid(0)}")["chain"][4]["at"], "2027-01-15T07:30:00.000Z")  # type: ignore[index]
        self.assertEqual(self.server.read("/gateways/dev-0")["registered"]["lwm2m"], "1.1")  # type: ignore[index]

    def test_after_start(self) -> None:
        """What went while nobody read is taken away at the first answer; what the gateway pushed itself is not touched."""
        self.server.put("/gateways/dev-0/devices", {duid(7): report(7)})
        self.put(1, 2)
        self.tell()
        self.server.service.stopService()
        self.assertTrue(self.observed.cancelled)
        self.server.start()
        self.server.clock.advance(0)
        self.object.drop(("leases", "1"))
        self.tell()
        self.assertEqual(self.server.known("dev-0"), [duid(2), duid(7)])

    def test_two_addresses(self) -> None:
        """A device with two leases is one device."""
        self.put(1)
        self.object.put(("leases", "1", "2"), {**lease(1).attributes, "iaid": 2, "address": "fd00::2:1"})
        self.tell()
        self.assertEqual(len(self.server.read(f"/devices/{duid(1)}")["leases"]), 2)  # type: ignore[arg-type]

    def test_garbage(self) -> None:
        """An answer that is no object is told at the gateway, and changes nothing; an instance that is none keeps no other."""
        self.put(1)
        self.tell()
        for payload in (b"\xff", b"\xc1\x00\x01", b"\x08\x00\xff"):
            self.observed.tell(payload)
            self.assertEqual((self.state(), self.server.known("dev-0")), ("not understood", [duid(1)]))
        self.observed.tell(b"\x03\x05\xc1\x01\x07" + self.object.read(TLV))
        state = self.server.read("/gateways/dev-0")["object"]
        self.assertEqual((self.state(), "instance 5" in str(state)), ("observed", True))
        self.assertEqual(self.server.known("dev-0"), [duid(1)])

    def test_liar(self) -> None:
        """A gateway whose object has a device of another gateway is told so; its others are taken."""
        self.server.put("/gateways/g1/devices", {duid(1): report(1)})
        self.put(1, 2)
        self.tell()
        self.assertEqual(self.server.known("dev-0"), [duid(2)])
        self.assertIn("the gateway g1", str(self.server.read("/gateways/dev-0")["notTaken"]))

    def test_ends(self) -> None:
        """An observation that ends is begun again, later each time up to a bound; the state says why."""
        for pause_s in (FIRST_PAUSE_S, 2.0, 4.0):
            count = len(self.server.observed)
            self.observed.end(PeerFailed("silent") if pause_s > 1 else Answer("4.03", b"no"))
            self.assertEqual(self.state(), "not observed")
            self.server.clock.advance(pause_s - 0.1)
            self.assertEqual(len(self.server.observed), count)
            self.server.clock.advance(0.2)
            self.assertEqual(len(self.server.observed), count + 1)
        for _ in range(20):
            self.observed.end(PeerFailed("silent"))
            self.server.clock.advance(LONGEST_PAUSE_S)
        self.assertEqual(len(self.server.observed), 24)

    def test_leaves(self) -> None:
        """A gateway that deregisters is not observed any more; one that moves is, where it is now; other clients are not."""
        self.server.commit(registration(0, addresses=["fd00::2"], links=_LINKS, attributes={"lwm2m": "1.1"}))
        self.server.clock.advance(0)
        self.assertEqual((self.server.observed[0].cancelled, self.observed.outgoing.uri), (True, "coap://[fd00::2]/33050"))
        self.server.commit(Remove(("scls", "dev-0")), registration(1, attributes={"lwm2m": "1.1"}), registration(2, links=_LINKS))
        self.server.clock.advance(0)
        self.assertTrue(self.observed.cancelled)
        self.assertEqual(len(self.server.observed), 2)
        self.server.service.stopService()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_registers_again(self) -> None:
        """A gateway that registers anew, or names other instances, is observed anew, once for all that comes within a second."""
        for lifetime in (60, 61, 62):
            self.server.commit(Write(_GATEWAY.path, "scl", {**_GATEWAY.attributes, "lifetime": lifetime}))
        self.assertTrue(self.server.observed[0].cancelled)
        self.server.clock.advance(1)
        self.server.clock.advance(30)
        self.assertEqual(len(self.server.observed), 2)

    def test_remembers_so_much(self) -> None:
        """Where the answers of all gateways are too large to be remembered, each is read as a whole, and comes to the same."""
        self.patch(observing, "REMEMBERED_BYTES", 100)
        for numbers in (range(5), range(6)):
            self.put(*numbers)
            self.tell()
        self.object.drop(("leases", "5"))
        self.tell()
        self.assertEqual(self.server.known("dev-0"), [duid(number) for number in range(5)])

    def test_busy(self) -> None:
        """While one answer is worked on only the newest of those that come is kept."""
        self.put(*range(250))
        self.observed.tell(self.object.read(TLV))
        for number in (300, 301):
            self.put(number)
            self.observed.tell(self.object.read(TLV))
        self.server.clock.pump([0] * 30)
        self.assertEqual(len(self.server.known("dev-0")), 252)
