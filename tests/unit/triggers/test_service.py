"""Operations as a part of a node: what runs when, for whom, and over a stop and a start. Tree and store are fakes."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from m2mapp.model.errors import (
    NotSent,
    PeerFailed,
)
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.model.principal import Principal, Right
from tests.unit.triggers.gateway import AT_HOME, PATH, TURN_ON_AC, Gateway, ServiceCase


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
