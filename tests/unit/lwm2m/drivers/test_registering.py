"""`lwm2m.drivers.registering`: a client is kept registered, in simulated time, with a server that answers as the test says."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.drivers.registering import Registering
from m2mapp.lwm2m.registering import GATHER_S
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Answer, Method
from tests.unit.fakes import RecordingRequester
from tests.unit.lwm2m.test_registering import ACCOUNT, CHANGED, CREATED


class RegisteringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.server, self.links = Clock(), RecordingRequester(), "</3/0>"
        self.agreed: list[Answer] = []
        self.client = Registering(self.clock, self.server, ACCOUNT, lambda: self.links, Random(8), self.agreed.append)

    def register(self) -> None:
        """Start, and let the server agree."""
        self.client.startService()
        self.clock.advance(1.0)
        self.server.answer(len(self.server.sent) - 1, CREATED)

    def test_life(self) -> None:
        """It registers, updates before its lifetime ends, and deregisters when it stops; nothing is left pending; then again."""
        for _ in range(2):
            self.register()
            self.assertTrue(self.client.registered)
            self.clock.advance(400 * 0.75)
            self.server.answer(len(self.server.sent) - 1, CHANGED)
            stopped = self.client.stopService()
            self.assertEqual([sent.method for sent in self.server.sent[-3:]], [Method.POST, Method.POST, Method.DELETE])
            self.assertNoResult(stopped)
            self.server.answer(len(self.server.sent) - 1, Answer("2.02"))
            self.successResultOf(stopped)
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.agreed, [CREATED, CHANGED] * 2)

    def test_changed(self) -> None:
        """New objects are told within a second, without waiting for the lifetime."""
        self.register()
        self.links = "</3/0>,</33050/0>"
        self.client.changed()
        self.clock.advance(GATHER_S)
        self.assertEqual(self.server.sent[-1].payload, self.links.encode())

    def test_silent_server(self) -> None:
        """A server that is away is asked again and again; a farewell that it does not hear is given up."""
        self.client.startService()
        self.clock.advance(1.0)
        for _ in range(3):
            self.server.answer(len(self.server.sent) - 1, PeerFailed("silent"))
            self.clock.advance(5.0)
        self.assertEqual(len(self.server.sent), 4)
        self.server.answer(3, CREATED)
        stopped = self.client.stopService()
        self.server.answer(4, PeerFailed("silent"))
        self.successResultOf(stopped)

    def test_stop_while_asking(self) -> None:
        """A stop while the server is asked cancels that; its answer would come to nobody."""
        self.client.startService()
        self.clock.advance(1.0)
        self.successResultOf(self.client.stopService())
        self.assertEqual((self.server.waiting, self.clock.getDelayedCalls()), ([], []))

    def test_failing_observer(self) -> None:
        """What is told of an agreement and raises is logged; the client stays registered and goes on."""
        self.client = Registering(self.clock, self.server, ACCOUNT, lambda: self.links, Random(8), lambda _: 1 / 0)
        self.register()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(400 * 0.75)
        self.assertEqual(len(self.server.sent), 2)
