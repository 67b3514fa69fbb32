"""Running a fan-out: what is sent, how many at a time, and how it ends."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.drivers.fanout import UNICAST_AT_ONCE, YOUNG_S, Operation, RunningFanOut
from m2mapp.groups.fanout import FanOut, MulticastLeg, Target
from m2mapp.groups.results import GroupResults
from m2mapp.model.errors import NotSupported, PeerFailed
from m2mapp.model.messages import Answer, Method, Outgoing, Request
from m2mapp.model.principal import NODE
from tests.unit.fakes import RecordingGroupSender, RecordingRequester
from tests.unit.groups.parts import answer, uri_at

REQUEST_ID = b"12345678"


class Run:
    """A fan-out on fakes; begins with `start`."""

    def __init__(self, by_multicast: int = 0, alone: int = 0, method: Method = Method.GET, **request: object) -> None:
        self.clock, self.requester, self.sender = Clock(), RecordingRequester(), RecordingGroupSender()
        self.proven: list[str] = []
        targets = tuple(Target(uri_at(number), (f"fd00::d{number}",), 5683) for number in range(1, by_multicast + 1))
        legs = (MulticastLeg("ff35::1", 5683, ("t",), targets, 0.1),) if targets else ()
        rows = tuple(uri_at(number) for number in range(by_multicast + 1, by_multicast + alone + 1))
        self.machine = FanOut(method, legs, rows, self.clock.seconds(), 30.0)
        given: dict[str, object] = {
            "payload": b"on",
            "content_type": "text/plain",
            "query": (("u", "C"),),
            "principal": NODE,
            "trace": "ab" * 16,
        }
        asked = Request(method, ("groups", "g", "membersContent", "x"), **{**given, **request})  # type: ignore[arg-type]
        operation = Operation("g", asked, ("x",), (("u", "C"),), REQUEST_ID)
        self.running = RunningFanOut(self.clock, (self.sender, self.requester), operation, self.machine, self.proven.extend)
        self.done: Deferred[GroupResults] = Deferred()

    def start(self) -> Run:
        """Begin it."""
        self.done = self.running.start()
        return self


class FanOutCase(SynchronousTestCase):
    def results(self, run: Run) -> GroupResults:
        """The results, which have to be there; nothing is pending any more."""
        found: GroupResults = self.successResultOf(run.done)
        self.assertEqual((run.clock.getDelayedCalls(), run.requester.waiting), ([], []))
        self.assertTrue(all(gathering.closed for gathering in run.sender.gatherings))
        return found


class SendingTests(FanOutCase):
    def test_one_datagram(self) -> None:
        """The multicast request has fan-out URI and suffix, query, payload, content type, identifier, and the time until the deadline."""
        run = Run(by_multicast=2, method=Method.PUT).start()
        [gathering] = run.sender.gatherings
        sent = gathering.outgoing
        self.assertEqual((sent.method, sent.address, sent.port, sent.path), (Method.PUT, "ff35::1", 5683, ("t", "x")))
        self.assertEqual((sent.query, sent.payload, sent.content_type), ((("u", "C"),), b"on", "text/plain"))
        self.assertEqual((sent.request_id, sent.lifetime_s), (REQUEST_ID, 30.0))
        for number in (1, 2):
            gathering.answer(answer("2.04", b"", f"fd00::d{number}"))
        results = self.results(run)
        self.assertEqual((results.sent, results.received, results.complete), (1, 2, True))
        self.assertEqual(run.proven, [uri_at(1), uri_at(2)])

    def test_unicast(self) -> None:
        """A member that is asked alone gets its own path and the suffix, for whoever asks, and the time that is left."""
        run = Run(alone=1).start()
        [sent] = run.requester.sent
        self.assertEqual(sent.uri, "coap://d1.example.org/t/x?u=C")
        self.assertEqual((sent.method, sent.payload, sent.content_type), (Method.GET, b"on", "text/plain"))
        self.assertEqual((sent.timeout_s, sent.request_id, sent.principal, sent.trace), (30.0, REQUEST_ID, NODE, "ab" * 16))
        run.requester.answer(0, answer())
        results = self.results(run)
        self.assertEqual((results.members[uri_at(1)].via, results.sent, results.received), ("unicast", 1, 1))

    def test_repair(self) -> None:
        """Who is silent after leisure and grace is asked alone, with the same identifier and the rest of the time."""
        run = Run(by_multicast=2).start()
        run.sender.gatherings[0].answer(answer(source="fd00::d1"))
        run.clock.pump([0.01] * 19)
        self.assertEqual(run.requester.sent, [])
        run.clock.advance(0.02)
        [sent] = run.requester.sent
        self.assertEqual((sent.uri, sent.request_id, round(sent.timeout_s, 1)), ("coap://d2.example.org/t/x?u=C", REQUEST_ID, 29.8))
        self.assertEqual((sent.again, sent.rtt_s), (True, 0.0))
        run.requester.answer(0, answer(source="fd00::d2"))
        results = self.results(run)
        self.assertEqual([result.via for result in results.members.values()], ["multicast", "repair"])
        self.assertEqual((results.sent, results.received), (2, 2))

    def test_the_group_cannot_be_sent_to(self) -> None:
        """Where no interface sends to the group its members are asked one by one at once."""
        run = Run(by_multicast=2, method=Method.POST)
        run.sender.fault = PeerFailed("no interface")
        run.start()
        self.assertEqual(len(run.requester.sent), 2)
        for place in (0, 1):
            run.requester.answer(place, answer("2.04", b""))
        self.assertEqual([result.via for result in self.results(run).members.values()], ["unicast", "unicast"])


class RoomTests(FanOutCase):
    def test_so_many_at_a_time(self) -> None:
        """At most so many questions are young; each answer makes room for one."""
        run = Run(alone=UNICAST_AT_ONCE + 10).start()
        self.assertEqual(len(run.requester.sent), UNICAST_AT_ONCE)
        run.requester.answer(5, answer())
        self.assertEqual(len(run.requester.sent), UNICAST_AT_ONCE + 1)
        while run.requester.waiting:
            run.requester.answer(run.requester.waiting[0], answer())
        self.assertEqual(len(self.results(run).members), UNICAST_AT_ONCE + 10)

    def test_members_that_are_off_do_not_keep_the_others_waiting(self) -> None:
        """A hundred silent members before one that answers: it is asked within a second all the same."""
        run = Run(alone=UNICAST_AT_ONCE * 2 + 1).start()
        for _ in range(3):
            run.clock.advance(YOUNG_S)
        self.assertEqual(len(run.requester.sent), UNICAST_AT_ONCE * 2 + 1)
        run.requester.answer(UNICAST_AT_ONCE * 2, answer())
        run.clock.advance(30.0)
        self.assertEqual(len(self.results(run).silent), UNICAST_AT_ONCE * 2)

    def test_answers_at_once(self) -> None:
        """Thousands that answer, or cannot be asked, within the call: no deep recursion, and it is done when `start` returns."""
        for reply in (answer(), NotSupported("no https")):
            run = Run(alone=3000)
            run.requester._reply = lambda _, reply=reply: reply  # type: ignore[misc]
            run.start()
            if isinstance(reply, Answer):
                self.assertEqual(len(self.results(run).members), 3000)
            else:
                self.assertIs(self.results(run).refused, reply)
            self.assertEqual(run.clock.getDelayedCalls(), [])

    def test_a_deferred_that_waits_for_another(self) -> None:
        """An answer that comes through a second Deferred counts when it is there and not before."""
        run = Run(alone=1)
        inner: Deferred[Answer] = Deferred()

        def send(outgoing: Outgoing) -> Deferred[Answer]:
            self.assertEqual(outgoing.uri, "coap://d1.example.org/t/x?u=C")
            outer: Deferred[None] = Deferred()
            outer.callback(None)
            return outer.addCallback(lambda _: inner)

        run.requester.send = send  # type: ignore[method-assign]
        run.start()
        self.assertNoResult(run.done)
        inner.callback(answer())
        self.assertTrue(self.results(run).complete)


class FailureTests(FanOutCase):
    def test_asked_again(self) -> None:
        """A member that cannot be reached is asked again after a pause, until it answers."""
        run = Run(alone=2).start()
        run.requester.answer(0, answer())
        run.requester.answer(1, PeerFailed("reset"))
        run.clock.advance(0.5)
        self.assertEqual(len(run.requester.sent), 3)
        run.requester.answer(2, PeerFailed("reset"))
        run.clock.advance(1.0)
        run.requester.answer(3, answer())
        results = self.results(run)
        self.assertEqual((results.silent, results.sent), ((), 4))

    def test_a_sender_that_breaks(self) -> None:
        """Whatever a sender raises is logged, costs its member its answer, and nothing else."""
        run = Run(alone=2)

        def send(outgoing: Outgoing) -> Deferred[Answer]:
            if "d1" in outgoing.uri:
                raise ValueError("a bug")
            done: Deferred[Answer] = Deferred()
            done.callback(answer())
            return done

        run.requester.send = send  # type: ignore[method-assign]
        run.start()
        self.assertEqual(self.results(run).silent, (uri_at(1),))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_the_deadline(self) -> None:
        """At the deadline it ends with what came; who was silent is named; what is under way is cancelled without a word."""
        run = Run(by_multicast=2, alone=1).start()
        run.sender.gatherings[0].answer(answer())
        run.clock.pump([1.0] * 30)
        results = self.results(run)
        self.assertEqual((results.silent, results.complete, round(results.ms)), ((uri_at(2), uri_at(3)), False, 30_000))
        run.sender.gatherings[0].answer(answer(source="fd00::d2"))
        self.assertEqual(run.sender.gatherings[0].late, 1)

    def test_nobody_answers(self) -> None:
        """Where nobody answers at all the results say so, and how long was waited."""
        run = Run(by_multicast=2).start()
        run.clock.pump([1.0] * 31)
        results = self.results(run)
        self.assertEqual((results.members, results.silent, results.ms), ({}, (uri_at(1), uri_at(2)), 30_000.0))

    def test_post_names_the_unknown(self) -> None:
        """A silent member of a POST is `unknown`: it may have acted."""
        run = Run(by_multicast=2, method=Method.POST).start()
        run.sender.gatherings[0].answer(answer("2.04", b""))
        run.clock.pump([1.0] * 31)
        results = self.results(run)
        self.assertEqual((results.unknown, results.silent, len(run.requester.sent)), ((uri_at(2),), (uri_at(2),), 0))

    def test_the_caller_goes_away(self) -> None:
        """Cancelling ends it: nothing is sent, taken or pending afterwards."""
        run = Run(by_multicast=2, alone=1).start()
        run.sender.gatherings[0].answer(answer())
        run.done.cancel()
        self.assertEqual(self.results(run).silent, (uri_at(2), uri_at(3)))
        run.running.stop()

    def test_the_caller_goes_away_before_any_answer(self) -> None:
        """The same where nobody has answered yet."""
        run = Run(alone=1).start()
        run.done.cancel()
        self.assertEqual(self.results(run).members, {})
