"""`lwm2m.drivers.session`: one request at a time, a limit for the whole, and silence after `cancel`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.bootstrap import Ask, begin
from m2mapp.lwm2m.drivers.session import Session
from m2mapp.lwm2m.objects import formats
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Answer, Outgoing
from tests.unit.lwm2m.parts import FakeAskBack, Reply, plan, willing


class SessionTests(SynchronousTestCase):
    def begin(self, reply: Reply, limit_s: float = 30.0) -> Session:
        """A session with a client that answers so."""
        self.clock, self.back = Clock(), FakeAskBack(reply)
        self.steps: list[tuple[str, str]] = []
        self.ends: list[str] = []

        def send(ask: Ask, timeout_s: float) -> object:
            return self.back.ask_back("peer", Outgoing(ask.method, ask.path, timeout_s=timeout_s))

        session = Session(
            begin(plan(), {}, formats(None)),
            send,  # type: ignore[arg-type]  # what zope's interface gives is not typed
            self.clock,
            limit_s,
            lambda ask, code: self.steps.append((ask.name, code)),
            self.ends.append,
        )
        session.start()
        return session

    def test_whole(self) -> None:
        """It begins in a later turn, asks all, and tells each step and the end once."""
        self.begin(willing)
        self.assertEqual(self.back.asked, [])
        self.clock.advance(0)
        self.assertEqual(self.steps, [("DELETE /", "2.02"), ("PUT /0/1", "2.04"), ("PUT /1/1", "2.04"), ("POST /bs", "2.04")])
        self.assertEqual((self.ends, self.clock.getDelayedCalls()), ([""], []))

    def test_silent(self) -> None:
        """A client that never answers is asked one thing, for as long as the session may last; its end is told with the step."""
        self.begin(lambda _: PeerFailed("it did not acknowledge the request"))
        self.clock.advance(0)
        self.assertEqual(self.ends, ["DELETE /: it did not acknowledge the request"])
        self.assertEqual([outgoing.timeout_s for _, outgoing in self.back.asked], [30.0])

    def test_limit(self) -> None:
        """A client that takes its time for each answer is given what is left of the whole, and in the end no more."""

        def slow(_: Outgoing) -> Answer:
            self.clock.rightNow += 20
            return Answer("2.04")

        self.begin(slow)
        self.clock.advance(0)
        self.assertEqual([outgoing.timeout_s for _, outgoing in self.back.asked], [30.0, 10.0])
        self.assertEqual(self.ends, ["it was not over after 30 s"])

    def test_cancel(self) -> None:
        """A session that is cancelled asks nothing more and tells nothing, before it begins and while it waits."""
        session = self.begin(lambda _: None)
        session.cancel()
        self.clock.advance(0)
        self.assertEqual((self.back.asked, self.ends, self.clock.getDelayedCalls()), ([], [], []))
        session = self.begin(lambda _: None)
        self.clock.advance(0)
        session.cancel()
        session.cancel()
        self.assertEqual((self.back.cancelled, self.ends), (1, []))

    def test_error(self) -> None:
        """What nobody foresaw ends the session and is logged."""

        def broken(_: Outgoing) -> Answer:
            return Answer("2.04", payload=None)  # type: ignore[arg-type]

        self.begin(broken)
        self.steps = None  # type: ignore[assignment]
        self.clock.advance(0)
        self.assertEqual(self.ends, ["DELETE /: an error of the server"])
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
