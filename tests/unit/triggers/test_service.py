"""Operations as a part of a node: their resources by request, what is refused, what runs, start and stop. Tree and store are fakes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.formats.documents import RESOURCE_CBOR, RESOURCE_JSON
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import (
    Conflict,
    Fault,
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    NotSent,
    PeerFailed,
    PreconditionFailed,
    TooLarge,
)
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Answer, Conditions, Method, Outgoing, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import Principal, Right
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.types import ANYWHERE
from m2mapp.tree.unit import Resource
from m2mapp.triggers import edit
from m2mapp.triggers.inline import members
from m2mapp.triggers.operation import MAX_DEPENDENCIES
from m2mapp.triggers.places import OPERATIONS
from m2mapp.triggers.service import TriggerNode, TriggerService
from m2mapp.triggers.settings import TriggerSettings
from m2mapp.triggers.types import operation_types
from tests.unit.fakes import Built, RecordingRequester, answer_of, ask, build_tree

TURN_ON_AC = {"rule": "value > 30", "objectResource": "http://gscl2/airCondition", "method": "update", "input": "ON"}
AT_HOME = {"uri": "http://nscl/hostLocation", "rule": "value == 'at home'"}
PATH = "/temperature/Operations/TurnOnAC"
JSON = "application/json"


@dataclass(slots=True)
class Gateway:
    """The service over a tree in memory. `allowed`: what principals may do now, by name; all that they might at first, if not said."""

    built: Built
    service: TriggerService
    requester: RecordingRequester
    clock: Clock
    allowed: dict[str, frozenset[Right]]

    def do(self, method: Method, path: str, document: object = None, content_type: str = JSON, **more: object) -> Response:
        """The answer to a request; a document goes as JSON, bytes as text."""
        if isinstance(document, bytes):
            return answer_of(self.built, ask(method, path, document, "text/plain", **more))
        payload = b"" if document is None else json.dumps(document).encode()
        return answer_of(self.built, ask(method, path, payload, content_type if payload else None, **more))

    def read(self, path: str, accept: tuple[str, ...] = ()) -> dict[str, object]:
        """The document that a GET gives."""
        found = json.loads(self.do(Method.GET, path, accept=accept).payload)
        assert isinstance(found, dict)
        return found

    def write(self, content: bytes, path: str = "/temperature") -> None:
        """A new content, and what it sets off at once."""
        self.do(Method.PUT, path, content)
        self.clock.advance(0)


@implementer(IHandle)
class Later:
    """Stands for the service in the dispatcher, which is made before it."""

    def __init__(self) -> None:
        self.service: TriggerService | None = None

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The service's answer."""
        assert self.service is not None
        return self.service.handle(request)

    def shown(self, resource: Resource) -> Mapping[str, object]:
        """What the service shows."""
        assert self.service is not None
        return self.service.shown(resource)


def build_gateway(answers: Sequence[Answer | Fault], *, waits: bool) -> Gateway:
    """A gateway with a temperature of 20 degrees, whose requests get these answers and then 2.04; with `waits`, none but the test's."""
    left = list(answers)

    def reply(_: Outgoing) -> Answer | Fault | None:
        if waits:
            return None
        return left.pop(0) if left else Answer("2.04")

    def own(uri: str) -> Path | None:
        found = parse_uri(uri)
        return found.path if found.host == "gscl1" else None

    later = Later()
    built = build_tree(operation_types(later.shown), routes={(ANYWHERE, OPERATIONS): later}, members=members())
    requester, clock = RecordingRequester(reply), Clock()
    allowed: dict[str, frozenset[Right]] = {}

    def current(principal: Principal) -> Principal:
        return Principal(principal.name, allowed.get(principal.name, principal.rights), principal.scopes)

    node = TriggerNode(
        tree=built.tree,
        rules=built.rules,
        committer=built.committer,
        journals=built.committer,
        clock=built.clock,
        requester=requester,
        registrations=Registrations(built.tree),
        touch=lambda _: None,
        node_uri="http://gscl1",
        own=own,
        current=current,
    )
    service = later.service = TriggerService(clock, node, TriggerSettings(), Metrics())
    gateway = Gateway(built, service, requester, clock, allowed)
    service.startService()
    service.restore()
    gateway.do(Method.PUT, "/temperature", b"20")
    return gateway


class ServiceCase(SynchronousTestCase):
    def build(self, *answers: Answer | Fault, waits: bool = False) -> Gateway:
        gateway = build_gateway(answers, waits=waits)
        self.addCleanup(self._stop, gateway)
        return gateway

    def _stop(self, gateway: Gateway) -> None:
        if gateway.service.running:
            self.successResultOf(gateway.service.stopService())
        self.assertEqual((gateway.clock.getDelayedCalls(), gateway.built.errors), ([], []))


class ResourceTests(ServiceCase):
    def test_collection(self) -> None:
        """`Operations` stands below every subject; a POST makes an operation with its Location, named by the request or the server."""
        gateway = self.build()
        self.assertEqual(gateway.read("/temperature/Operations")["children"], [])
        made = gateway.do(Method.POST, "/temperature/Operations", {**TURN_ON_AC, "name": "TurnOnAC"})
        self.assertEqual((made.status, made.location), (Status.CREATED, ("temperature", "Operations", "TurnOnAC")))
        other = gateway.do(Method.POST, "/temperature/Operations", TURN_ON_AC)
        self.assertEqual(other.status, Status.CREATED)
        self.assertEqual(len(gateway.built.tree.children(("temperature", "Operations"))), 2)
        self.assertRaises(Conflict, gateway.do, Method.POST, "/temperature/Operations", {**TURN_ON_AC, "name": "TurnOnAC"})
        gateway.do(Method.DELETE, "/temperature/Operations")
        self.assertEqual(gateway.read("/temperature/Operations")["children"], [])

    def test_operation(self) -> None:
        """PUT creates and replaces, PATCH changes, GET adds what came of it, DELETE removes."""
        gateway = self.build()
        self.assertEqual(gateway.do(Method.PUT, PATH, TURN_ON_AC).status, Status.CREATED)
        shown = gateway.read(PATH)
        added = {"result": None, "runs": 0, "lastEvaluation": None, "writtenBy": "node"}
        self.assertEqual(shown, {"name": "TurnOnAC", "priority": 0, **TURN_ON_AC, **added})
        self.assertEqual(gateway.do(Method.PUT, PATH, {**shown, "priority": 3}).status, Status.CHANGED)
        patch = json.dumps({"input": "OFF", "holdoff": "90s"}).encode()
        answer_of(gateway.built, ask(Method.PATCH, PATH, patch, "application/merge-patch+json"))
        shown = gateway.read(PATH)
        self.assertEqual((shown["priority"], shown["input"], shown["holdoff"]), (3, "OFF", "1m30s"))
        gateway.do(Method.DELETE, PATH)
        self.assertRaises(NoSuchResource, gateway.read, PATH)

    def test_dependencies(self) -> None:
        """In their collection, or inside their operation: those and no others, in the order given."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        self.assertEqual(gateway.read(f"{PATH}/Dependencies")["children"], [])
        gateway.do(Method.POST, f"{PATH}/Dependencies", {**AT_HOME, "name": "MemberAtHome", "logic": "OR"})
        self.assertEqual(gateway.read(f"{PATH}/Dependencies/MemberAtHome"), {"name": "MemberAtHome", **AT_HOME, "logic": "OR"})
        self.assertEqual(gateway.read(PATH)["dependencies"], [{"name": "MemberAtHome", **AT_HOME, "logic": "OR"}])
        gateway.do(Method.PUT, PATH, {**TURN_ON_AC, "dependencies": [{"name": name, **AT_HOME} for name in "ba"]})
        shown = gateway.read(PATH)["dependencies"]
        self.assertEqual(shown, [{"name": name, **AT_HOME, "logic": "AND"} for name in "ba"])
        gateway.do(Method.DELETE, f"{PATH}/Dependencies/b")
        gateway.do(Method.PUT, PATH, TURN_ON_AC)  # Without the member they stay.
        shown = gateway.read(PATH)["dependencies"]
        self.assertEqual(shown, [{"name": "a", **AT_HOME, "logic": "AND"}])
        gateway.do(Method.DELETE, f"{PATH}/Dependencies")
        self.assertNotIn("dependencies", gateway.read(PATH))

    def test_each_request_once(self) -> None:
        """A request with an identifier that comes again makes no second operation."""
        gateway = self.build()
        answers = [gateway.do(Method.POST, "/temperature/Operations", TURN_ON_AC, request_id=b"12345678") for _ in range(2)]
        self.assertEqual(answers[0].location, answers[1].location)
        self.assertEqual(len(gateway.built.tree.children(("temperature", "Operations"))), 1)

    def test_refused(self) -> None:
        """What has no place, no subject or no right shape is refused, and changes nothing."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        gateway.do(Method.PUT, "/folder/x", b"1")
        number = gateway.built.tree.committed_number
        for method, path, document, kind in (
            (Method.PUT, "/nothing/Operations/a", TURN_ON_AC, NoSuchResource),
            (Method.POST, "/nothing/Operations", TURN_ON_AC, NoSuchResource),
            (Method.GET, "/nothing/Operations", None, NoSuchResource),
            (Method.PUT, "/folder/Operations/a", TURN_ON_AC, Conflict),
            (Method.PUT, "/temperature/Operations", TURN_ON_AC, MethodNotAllowed),
            (Method.PUT, f"{PATH}/Dependencies", AT_HOME, MethodNotAllowed),
            (Method.PUT, "/temperature/Operations/none/Dependencies/a", AT_HOME, NoSuchResource),
            (Method.POST, "/temperature/Operations/none/Dependencies", AT_HOME, NoSuchResource),
            (Method.PUT, "/temperature/Operations/none/result", {"at": "", "status": ""}, NoSuchResource),
            (Method.PUT, f"{PATH}/colour", TURN_ON_AC, NoSuchResource),
            (Method.PUT, f"{PATH}/Dependencies/a/b", AT_HOME, NoSuchResource),
            (Method.POST, PATH, TURN_ON_AC, MethodNotAllowed),
            (Method.GET, f"{PATH}/evaluate", None, MethodNotAllowed),
            (Method.POST, "/temperature/Operations/none/evaluate", {"value": "1"}, NoSuchResource),
            (Method.PUT, f"{PATH}/runs", {}, MethodNotAllowed),
            (Method.GET, f"{PATH}/evaluations/1", None, NoSuchResource),
            (Method.GET, f"{PATH}/Operations/a", None, NoSuchResource),
            (Method.PUT, f"{PATH}/Dependencies/a", {**AT_HOME, "rule": "changed"}, Malformed),
            (Method.POST, "/temperature/Operations", {**TURN_ON_AC, "name": "a/b"}, Malformed),
            (Method.PUT, "/temperature/Operations/a", {**TURN_ON_AC, "name": "b"}, Malformed),
            (Method.PUT, "/temperature/Operations/a", {**TURN_ON_AC, "dependencies": [{**AT_HOME, "name": "a/b"}]}, Malformed),
            (Method.PUT, "/temperature/Operations/a", {**TURN_ON_AC, "dependencies": [{**AT_HOME, "name": ".."}]}, Malformed),
        ):
            self.assertRaises(kind, gateway.do, method, path, document)
        self.assertEqual(gateway.built.tree.committed_number, number)

    def test_most(self) -> None:
        """A subject has so many operations, an operation so many dependencies at most."""
        gateway = self.build()
        self.patch(edit, "MAX_OPERATIONS", 2)
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        for number in range(MAX_DEPENDENCIES):
            gateway.do(Method.PUT, f"{PATH}/Dependencies/{number}", AT_HOME)
        gateway.do(Method.POST, "/temperature/Operations", TURN_ON_AC)
        for path, document in (("/temperature/Operations", TURN_ON_AC), (f"{PATH}/Dependencies", AT_HOME)):
            self.assertRaises(TooLarge, gateway.do, Method.POST, path, document)
            self.assertRaises(TooLarge, gateway.do, Method.PUT, f"{path}/more", document)
        gateway.do(Method.PUT, PATH, TURN_ON_AC)

    def test_elsewhere_the_name_means_nothing(self) -> None:
        """`/Operations` at the root is a name like any other."""
        gateway = self.build()
        gateway.do(Method.PUT, "/Operations", b"a text")
        self.assertEqual(gateway.do(Method.GET, "/Operations").payload, b"a text")


class WholeTests(ServiceCase):
    """The whole representation of a subject."""

    def put(self, gateway: Gateway, document: object, **more: object) -> Response:
        return gateway.do(Method.PUT, "/temperature", document, RESOURCE_JSON, **more)

    def test_members(self) -> None:
        """`operations` are what stands in the collection; left out, they stay; `operationURIs` are replaced as attributes are."""
        gateway = self.build()
        inline = {"name": "TurnOnAC", **TURN_ON_AC, "dependencies": [{"name": "a", **AT_HOME}]}
        self.put(gateway, {"content": "20", "operations": [inline], "operationURIs": ["http://g2/ops/x"]})
        shown = gateway.read("/temperature", accept=(RESOURCE_JSON,))
        self.assertEqual(shown["operationURIs"], ["http://g2/ops/x"])
        self.assertNotIn("ties", shown)
        self.assertEqual(gateway.read(PATH)["dependencies"], [{"name": "a", **AT_HOME, "logic": "AND"}])
        gateway.do(Method.PUT, "/temperature", b"21")
        self.assertEqual(gateway.read("/temperature", accept=(RESOURCE_JSON,))["operationURIs"], ["http://g2/ops/x"])
        patch = json.dumps({"attributes": {"rt": "temperature"}}).encode()
        answer_of(gateway.built, ask(Method.PATCH, "/temperature", patch, RESOURCE_JSON))
        shown = gateway.read("/temperature", accept=(RESOURCE_JSON,))
        self.assertEqual((shown["content"], shown["operationURIs"]), ("21", ["http://g2/ops/x"]))
        self.put(gateway, {"content": "22"})
        shown = gateway.read("/temperature", accept=(RESOURCE_JSON,))
        self.assertNotIn("operationURIs", shown)
        self.assertEqual(len(gateway.read("/temperature/Operations")["children"]), 1)  # type: ignore[arg-type] # a list
        self.put(gateway, {"content": "22", "operations": []})
        self.assertNotIn("operations", gateway.read("/temperature", accept=(RESOURCE_JSON,)))

    def test_refused(self) -> None:
        """A fault says in which operation it is; nothing is written."""
        gateway = self.build()
        for operations, field_name in (
            ("x", "operations"),
            (["x"], "operations[0]"),
            ([TURN_ON_AC], "operations[0]"),
            ([{**TURN_ON_AC, "name": "a", "rule": "value ="}], "operations[0].rule"),
            ([{**TURN_ON_AC, "name": "a/b"}], "operations[0].name"),
            ([{**TURN_ON_AC, "name": "a", "dependencies": [{"name": "b"}]}], "operations[0].dependencies[0].uri"),
        ):
            fault = self.assertRaises(Malformed, self.put, gateway, {"content": "99", "operations": operations})
            self.assertEqual(fault.field, field_name)
        self.assertRaises(Malformed, self.put, gateway, {"content": "99", "operationURIs": ["x"]})
        self.assertEqual(gateway.do(Method.GET, "/temperature").payload, b"20")

    def test_etags(self) -> None:
        """The whole representation has another ETag when an operation changes, the content does not; If-Match takes both."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        for accept in (RESOURCE_JSON, RESOURCE_CBOR):
            content = gateway.do(Method.GET, "/temperature").etag or b""
            before = gateway.do(Method.GET, "/temperature", accept=(accept,)).etag or b""
            gateway.do(Method.PUT, PATH, TURN_ON_AC)
            after = gateway.do(Method.GET, "/temperature", accept=(accept,)).etag or b""
            self.assertNotEqual(after, before)
            self.assertEqual(gateway.do(Method.GET, "/temperature").etag, content)
            self.assertRaises(PreconditionFailed, gateway.do, Method.PUT, "/temperature", b"21", conditions=Conditions((before,)))
            gateway.do(Method.PUT, "/temperature", b"21", conditions=Conditions((after,)))
            content = gateway.do(Method.GET, "/temperature").etag or b""
            gateway.do(Method.PUT, "/temperature", b"22", conditions=Conditions((content,)))


class RunTests(ServiceCase):
    def test_runs(self) -> None:
        """A change that selects it sends its request, with the cause, for its writer; the answer is its result."""
        gateway = self.build(Answer("204", b"", None))
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        gateway.write(b"30")
        self.assertEqual(gateway.requester.sent, [])
        gateway.write(b"31")
        sent = gateway.requester.sent[0]
        self.assertEqual((sent.method, sent.uri, sent.payload), (Method.PUT, "http://gscl2/airCondition", b"ON"))
        self.assertEqual((sent.cause, sent.principal.name), (("http://gscl1" + PATH,), "node"))
        self.assertEqual(len(sent.request_id or b""), 8)
        shown = gateway.read(PATH)
        self.assertEqual((shown["result"], shown["runs"]), ({"at": "2027-01-15T08:00:00.000Z", "status": "204", "content": ""}, 1))

    def test_each_request_has_its_own_identifier(self) -> None:
        """Two operations of one change on the same target are two requests."""
        gateway = self.build()
        for name in ("A", "B"):
            gateway.do(Method.PUT, f"/temperature/Operations/{name}", {**TURN_ON_AC, "objectResource": "/groups/g/membersContent"})
        gateway.write(b"31")
        self.assertEqual(len({sent.request_id for sent in gateway.requester.sent}), 2)

    def test_rights_are_looked_up_when_it_runs(self) -> None:
        """A writer who has lost its rights since has its operations run no more; they say so."""
        gateway = self.build()
        writer = Principal("ann", frozenset({Right.READ, Right.WRITE}))
        gateway.do(Method.PUT, PATH, TURN_ON_AC, principal=writer)
        gateway.write(b"31")
        gateway.allowed["ann"] = frozenset({Right.READ})
        gateway.write(b"32")
        self.assertEqual(len(gateway.requester.sent), 1)
        last = gateway.read(PATH)["lastEvaluation"]
        assert isinstance(last, dict)
        self.assertEqual((last["outcome"], last["why"]), ("failed", "ann has no right to write at /temperature/Operations/TurnOnAC"))

    def test_who_writes_a_dependency_writes_the_operation(self) -> None:
        """In whichever way, whatever it is called; who stores a result does not."""
        gateway = self.build()
        ann = Principal("ann", frozenset({Right.READ, Right.WRITE}))
        dependencies = f"{PATH}/Dependencies"
        for method, path, document in (
            (Method.POST, dependencies, {**AT_HOME, "name": "a"}),
            (Method.PUT, f"{dependencies}/a", AT_HOME),
            (Method.PUT, f"{dependencies}/result", AT_HOME),
            (Method.DELETE, f"{dependencies}/a", None),
            (Method.DELETE, dependencies, None),
        ):
            gateway.do(Method.PUT, PATH, {**TURN_ON_AC, "dependencies": [{**AT_HOME, "name": "b"}]})
            if method is Method.DELETE:
                gateway.do(Method.PUT, f"{dependencies}/a", AT_HOME)
            gateway.do(method, path, document, principal=ann)
            self.assertEqual(gateway.read(PATH)["writtenBy"], "ann", path)
            gateway.do(Method.DELETE, PATH)
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        gateway.do(Method.PUT, f"{PATH}/result", {"at": "2027-01-01T00:00:00Z", "status": "200"}, principal=ann)
        self.assertEqual(gateway.read(PATH)["writtenBy"], "node")

    def test_a_result_sets_nothing_off(self) -> None:
        """Writing a result, here or from elsewhere, is no change of a subject; a PUT of the operation keeps it."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, {**TURN_ON_AC, "rule": "value exists"})
        result = {"at": "2027-01-01T00:00:00Z", "status": "200", "content": {"a": 1}}
        gateway.do(Method.PUT, f"{PATH}/result", result)
        self.assertEqual((gateway.requester.sent, gateway.read(PATH)["result"]), ([], result))
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        self.assertEqual(gateway.read(PATH)["result"], result)

    def test_changes_wait_for_each_other(self) -> None:
        """While an operation of one change is under way, the next change of the subject waits; another subject's does not."""
        gateway = self.build(waits=True)
        gateway.do(Method.PUT, "/humidity", b"0")
        gateway.do(Method.PUT, PATH, {**TURN_ON_AC, "input": "a"})
        gateway.do(Method.PUT, "/humidity/Operations/b", {**TURN_ON_AC, "input": "b"})
        gateway.write(b"31")
        gateway.write(b"32")
        gateway.write(b"33", "/humidity")
        self.assertEqual([sent.payload for sent in gateway.requester.sent], [b"a", b"b"])
        gateway.requester.answer(0, Answer("2.04"))
        gateway.clock.advance(0)
        self.assertEqual([sent.payload for sent in gateway.requester.sent], [b"a", b"b", b"a"])
        for place in (1, 2):
            gateway.requester.answer(place, Answer("2.04"))
        gateway.clock.advance(0)

    def test_what_a_sender_raises(self) -> None:
        """A sender that fails in a way that nobody foresaw ends the run and no more; the log has it."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, TURN_ON_AC)

        def send(_: Outgoing) -> Deferred[Answer]:
            raise ZeroDivisionError

        self.patch(gateway.requester, "send", send)
        gateway.write(b"31")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        last = gateway.read(PATH)["lastEvaluation"]
        assert isinstance(last, dict)
        self.assertEqual(last["outcome"], "failed")

    def test_expiry(self) -> None:
        """A run whose turn comes after its expiry is not made, and is told."""
        gateway = self.build(waits=True)
        gateway.do(Method.PUT, PATH, {**TURN_ON_AC, "expiry": "1m"})
        for content in (b"31", b"32"):
            gateway.write(content)
        gateway.built.clock.advance(61_000)
        gateway.requester.answer(0, Answer("2.04"))
        gateway.clock.advance(0)
        self.assertEqual(len(gateway.requester.sent), 1)
        last = gateway.read(PATH)["lastEvaluation"]
        assert isinstance(last, dict)
        self.assertEqual((last["outcome"], last["why"]), ("expired", "its turn came after its expiry"))

    def test_for_that_is_taken_away(self) -> None:
        """An operation that has `for` no more does not run again when that would have been over; another time begins anew."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, {**TURN_ON_AC, "for": "5m"})
        gateway.write(b"31")
        self.assertEqual(gateway.requester.sent, [])
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        gateway.write(b"32")
        self.assertEqual(len(gateway.requester.sent), 1)
        self._pass(gateway, 301)
        self.assertEqual(len(gateway.requester.sent), 1)
        gateway.do(Method.PUT, PATH, {**TURN_ON_AC, "for": "10m"})
        gateway.write(b"33")
        self._pass(gateway, 599)
        self.assertEqual(len(gateway.requester.sent), 1)
        self._pass(gateway, 2)
        self.assertEqual(len(gateway.requester.sent), 2)
        gateway.do(Method.DELETE, PATH)

    def _pass(self, gateway: Gateway, seconds: int) -> None:
        """Time passes, on both clocks."""
        gateway.built.clock.advance(1000 * seconds)
        gateway.clock.advance(seconds)

    def test_stop_and_start_again(self) -> None:
        """After a stop nothing runs; what changed meanwhile is evaluated after the next start."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        self.successResultOf(gateway.service.stopService())
        gateway.write(b"31")
        self.assertEqual(gateway.requester.sent, [])
        gateway.service.startService()
        self.successResultOf(gateway.service.restore())
        gateway.clock.advance(0)
        self.assertEqual(len(gateway.requester.sent), 1)

    def test_stopped_in_the_middle(self) -> None:
        """A run that is cut short by a stop has no outcome, whatever the sender makes of it: it is made again after the next start."""
        gateway = self.build()
        sent: list[Deferred[Answer]] = []

        def send(_: Outgoing) -> Deferred[Answer]:
            sent.append(Deferred(lambda cancelled: cancelled.errback(PeerFailed("cancelled"))))
            return sent[-1]

        self.patch(gateway.requester, "send", send)
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        gateway.write(b"31")
        self.successResultOf(gateway.service.stopService())
        shown = gateway.read(PATH)
        self.assertEqual((len(sent), shown["runs"], shown["lastEvaluation"], shown["result"]), (1, 0, None, None))
        gateway.service.startService()
        self.successResultOf(gateway.service.restore())
        gateway.clock.advance(0)
        self.assertEqual(len(sent), 2)
        sent[1].callback(Answer("2.04"))
        self.assertEqual(gateway.read(PATH)["runs"], 1)

    def test_a_target_that_is_away(self) -> None:
        """A request that did not leave waits; it has no result yet."""
        gateway = self.build(NotSent("nobody knows the host gscl2"))
        gateway.do(Method.PUT, PATH, {**TURN_ON_AC, "method": "create"})
        gateway.write(b"31")
        shown = gateway.read(PATH)
        last = shown["lastEvaluation"]
        assert isinstance(last, dict)
        self.assertEqual((last["outcome"], shown["result"]), ("away", None))
        gateway.clock.advance(10)
        self.assertEqual((len(gateway.requester.sent), gateway.read(PATH)["runs"]), (2, 1))
