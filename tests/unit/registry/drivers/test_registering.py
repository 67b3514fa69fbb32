"""`registry.drivers.registering`: a device keeps itself registered."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.model.errors import DeadlinePassed, Malformed, PeerFailed
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.registry.drivers.registering import LONGEST_PAUSE_S, START_S, Registering, Registrant

RD = "coap://[fd00::1]/rd"
CREATED = Answer("2.01", location="/rd/d1")


class NoSpread(Random):
    """Gives nothing away: times are the latest that they can be."""

    def random(self) -> float:
        return 0.0


@implementer(IRequester)
class FakeRequester:
    """Records what is sent; the test answers."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.waiting: list[Deferred[Answer]] = []

    def send(self, outgoing: Outgoing) -> Deferred[Answer]:
        self.sent.append(outgoing)
        self.waiting.append(Deferred())
        return self.waiting[-1]


class RegisteringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.requester, self.links = Clock(), FakeRequester(), "</temp>"
        registrant = Registrant("d1", 100, lambda: self.links, (("host", "d1.example.org"), ("multicast", "1")))
        self.service = Registering(self.clock, self.requester, RD, registrant, NoSpread())

    def begin(self) -> None:
        """Start, and come to the first registration."""
        self.service.startService()
        self.clock.advance(START_S)

    def start(self, answer: Answer = CREATED) -> None:
        self.begin()
        self.requester.waiting[-1].callback(answer)

    def sent_uris(self) -> list[tuple[Method, str]]:
        return [(outgoing.method, outgoing.uri) for outgoing in self.requester.sent]

    def test_registers(self) -> None:
        """Soon after a start the registration is sent with endpoint, lifetime, further parameters and the links that there are by then."""
        self.service.startService()
        self.assertEqual(self.requester.sent, [])
        self.links = "</temp>,</late>"
        self.clock.advance(START_S)
        self.requester.waiting[-1].callback(CREATED)
        sent = self.requester.sent[0]
        self.assertEqual((sent.method, sent.uri), (Method.POST, RD + "?ep=d1&lt=100&host=d1.example.org&multicast=1"))
        self.assertEqual((sent.payload, sent.content_type), (b"</temp>,</late>", "application/link-format"))
        self.assertTrue(self.service.registered)

    def test_updates_in_time(self) -> None:
        """At three quarters of the lifetime the location is updated, and again and again."""
        self.start()
        self.clock.advance(74.9)
        self.assertEqual(len(self.requester.sent), 1)
        self.clock.advance(0.1)
        self.assertEqual(self.sent_uris()[1:], [(Method.POST, "coap://[fd00::1]/rd/d1?lt=100")])
        self.assertEqual(self.requester.sent[1].payload, b"")
        self.requester.waiting[-1].callback(Answer("2.04"))
        self.clock.advance(75)
        self.assertEqual(len(self.requester.sent), 3)

    def test_spread_makes_it_earlier_only(self) -> None:
        """With a random part the start, and the update at three quarters of the lifetime, come earlier, never later."""
        registrant = Registrant("d1", 100, str)
        for seed in range(20):
            clock, requester = Clock(), FakeRequester()
            Registering(clock, requester, RD, registrant, Random(seed)).startService()
            (call,) = clock.getDelayedCalls()
            self.assertTrue(START_S / 2 <= call.getTime() <= START_S, call.getTime())
            clock.advance(START_S)
            requester.waiting[0].callback(CREATED)
            (call,) = clock.getDelayedCalls()
            self.assertTrue(67.5 <= call.getTime() - clock.seconds() <= 75, call.getTime())

    def test_changed_links_are_registered_anew(self) -> None:
        """When the links have changed the next message is a whole registration."""
        self.start()
        self.links = "</temp>,</mcGroups>;rt=m2m.mcgroups"
        self.clock.advance(75)
        self.assertEqual((self.requester.sent[1].uri.partition("?")[0], self.requester.sent[1].payload), (RD, self.links.encode()))

    def test_lost_registration_is_made_anew_at_once(self) -> None:
        """A registrar that does not know the location any more is registered at again, at once."""
        self.start()
        self.clock.advance(75)
        self.requester.waiting[-1].callback(Answer("4.04"))
        self.clock.advance(0)
        self.assertEqual(self.requester.sent[2].uri.partition("?")[0], RD)
        self.assertFalse(self.service.registered)
        self.requester.waiting[-1].callback(CREATED)
        self.assertTrue(self.service.registered)

    def test_pauses_grow_and_are_bounded(self) -> None:
        """Failures are tried again after pauses that double up to a limit; a success begins anew with the shortest."""
        self.begin()
        pauses = []
        for number in range(12):
            failed = self.requester.waiting[-1]
            if number % 2:
                failed.callback(Answer("5.03"))
            else:
                failed.errback(PeerFailed("away"))
            (call,) = self.clock.getDelayedCalls()
            pauses.append(call.getTime() - self.clock.seconds())
            self.clock.advance(pauses[-1])
        self.assertEqual(pauses[:4], [1, 2, 4, 8])
        self.assertEqual(pauses[-1], LONGEST_PAUSE_S)
        self.requester.waiting[-1].callback(CREATED)
        self.clock.advance(75)
        self.requester.waiting[-1].errback(DeadlinePassed())
        self.clock.advance(0)
        self.requester.waiting[-1].errback(DeadlinePassed())
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime() - self.clock.seconds(), 2)

    def test_answer_without_location_is_no_registration(self) -> None:
        """An answer that names no location is a failure, tried again."""
        for location in (None, "", "/", "ftp://x/rd/1"):
            clock, requester = Clock(), FakeRequester()
            service = Registering(clock, requester, RD, Registrant("d1", 100, str), NoSpread())
            service.startService()
            clock.advance(START_S)
            requester.waiting[0].callback(Answer("2.01", location=location))
            self.assertEqual((service.registered, len(clock.getDelayedCalls())), (False, 1))

    def test_location_as_a_uri(self) -> None:
        """An absolute Location, as HTTP has it, is used as it is."""
        self.start(Answer("201", location="http://g1.example.org:8080/rd/d1"))
        self.clock.advance(75)
        self.assertEqual(self.requester.sent[1].uri, "http://g1.example.org:8080/rd/d1?lt=100")

    def test_stop_takes_the_registration_away(self) -> None:
        """A stop sends a DELETE, waits for its answer, and leaves no delayed call."""
        self.start()
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.assertEqual(self.sent_uris()[-1], (Method.DELETE, "coap://[fd00::1]/rd/d1"))
        self.assertEqual((self.requester.sent[-1].timeout_s, self.clock.getDelayedCalls()), (2.0, []))
        self.requester.waiting[-1].callback(Answer("2.02"))
        self.successResultOf(stopped)

    def test_stop_without_answer(self) -> None:
        """A registrar that is away does not keep the device from stopping."""
        self.start()
        stopped = self.service.stopService()
        self.requester.waiting[-1].errback(DeadlinePassed())
        self.successResultOf(stopped)

    def test_stop_while_registering(self) -> None:
        """A stop while the registration is under way gives that up: a late answer begins nothing, and no call is left."""
        self.begin()
        self.successResultOf(self.service.stopService())
        self.requester.waiting[-1].callback(CREATED)
        self.assertEqual((len(self.requester.sent), self.clock.getDelayedCalls(), self.service.registered), (1, [], False))

    def test_stop_before_anything_was_sent(self) -> None:
        """A stop right after the start sends nothing and leaves no delayed call."""
        self.service.startService()
        self.successResultOf(self.service.stopService())
        self.assertEqual((self.requester.sent, self.clock.getDelayedCalls()), ([], []))

    def test_start_stop_start(self) -> None:
        """A service that was stopped registers again when it is started."""
        self.start()
        stopped = self.service.stopService()
        self.requester.waiting[-1].callback(Answer("2.02"))
        self.successResultOf(stopped)
        self.start()
        self.assertEqual([method for method, _ in self.sent_uris()], [Method.POST, Method.DELETE, Method.POST])
        self.assertTrue(self.service.registered)

    def test_requester_that_raises(self) -> None:
        """What nobody foresaw is logged and tried again like any failure."""

        def send(outgoing: Outgoing) -> Deferred[Answer]:
            raise ZeroDivisionError

        self.requester.send = send  # type: ignore[method-assign]
        self.begin()
        self.assertEqual((len(self.flushLoggedErrors(ZeroDivisionError)), len(self.clock.getDelayedCalls())), (1, 1))

    def test_registrar_that_is_no_uri(self) -> None:
        """A registrar that cannot be asked is refused when the service is made."""
        for registrar in ("", "rd", "ftp://x/rd", "coap://"):
            error = self.assertRaises(Malformed, Registering, self.clock, self.requester, registrar, Registrant("d1", 1, str), Random(1))
            self.assertEqual(error.field, "registrar")
