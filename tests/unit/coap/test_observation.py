"""Observing a resource elsewhere: which notifications are news, staying registered, blocks, the end, and sharing among watchers."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.blocks import Block
from m2mapp.coap.message import Message, empty, uint
from m2mapp.coap.observation import Observation, is_newer
from m2mapp.coap.shared import Subscription
from m2mapp.model import errors
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer, Method, Outgoing, Request, Response, Status
from m2mapp.net.medium import Quality
from tests.simulation import Simulation, seeded
from tests.unit.coap.fakes import CONTENT, OTHER, PEER, FakeHandler, FakeObservable, Node
from tests.unit.coap.test_client import URI, start

WISH = Outgoing(Method.GET, URI, accept="text/plain", timeout_s=10.0)


class FreshnessTests(SynchronousTestCase):
    def test_rule(self) -> None:
        """RFC 7641, section 3.4: higher by less than half the range, or lower by more, or 128 s later."""
        for number, at_s, last, newer in (
            (6, 0.0, 5, True),
            (5, 0.0, 5, False),
            (4, 0.0, 5, False),
            ((1 << 23) + 4, 0.0, 5, True),
            ((1 << 23) + 5, 0.0, 5, False),
            (0, 0.0, (1 << 24) - 1, True),
            ((1 << 24) - 1, 0.0, 0, False),
            (4, 128.0, 5, False),
            (4, 128.1, 5, True),
        ):
            self.assertEqual(is_newer(number, at_s, (last, 0.0)), newer, (number, at_s, last))


class ObservationCase(SynchronousTestCase):
    """A node observes a peer whose messages the test makes up."""

    def setUp(self) -> None:
        self.node = Node()
        self.told: list[bytes] = []
        self.ends: list[Fault | Answer] = []
        self.mid = 0
        self.observation = self.observe()

    def tearDown(self) -> None:
        self.assertEqual(self.node.stop(), [])
        self.assertEqual(len(self.node.service.endpoint.tokens), 0)

    def observe(self) -> Observation:
        """Observe, and take the registration off what was sent."""
        found = self.node.service.client.observe(WISH, None, lambda answer: self.told.append(answer.payload), self.ends.append)
        self.registration = self.node.port.take()[0]
        assert isinstance(found, Observation)
        return found

    def receive(self, mtype: int, number: int | None, payload: bytes = b"", code: int = things.CONTENT, more: object = ()) -> list[Message]:
        """A message with the token of the registration; what is sent for it."""
        self.mid += 1
        options = [] if number is None else [(things.OBSERVE, uint(number))]
        assert isinstance(more, tuple)
        mid = self.registration.mid if mtype == things.ACK else self.mid
        message = Message(mtype, code, mid, self.registration.token, tuple(sorted((*options, *more))), payload)
        return self.node.receive(message, PEER)

    def later(self, seconds: float) -> list[Message]:
        """What is sent in that time."""
        self.node.port.take()
        steps = 100
        for _ in range(steps):
            self.node.clock.advance(seconds / steps)
        return self.node.port.take()

    def registered_again(self, within_s: float) -> Message:
        """The registration that goes out within the time."""
        sent = self.later(within_s)
        self.assertGreater(len(sent), 0)
        self.registration = sent[-1]
        return sent[0]


class RegisteringTests(ObservationCase):
    def test_registration(self) -> None:
        """A confirmable GET with Observe 0; the answer and each notification are told, confirmable ones acknowledged."""
        message = self.registration
        self.assertEqual((message.mtype, message.code, message.first(things.OBSERVE)), (things.CON, things.GET, b""))
        self.assertEqual([number for number, _ in message.options], sorted(number for number, _ in message.options))
        self.assertFalse(self.observation.observed)
        self.assertEqual(self.receive(things.ACK, 7, b"a"), [])
        self.assertTrue(self.observation.observed)
        self.assertEqual(self.receive(things.NON, 8, b"b"), [])
        self.assertEqual(self.receive(things.CON, 9, b"c"), [Message(things.ACK, 0, self.mid)])
        self.assertEqual((self.told, self.ends), ([b"a", b"b", b"c"], []))

    def test_reordered(self) -> None:
        """What is older than what came is dropped and counted, and acknowledged all the same; after 128 s it is news."""
        self.receive(things.ACK, 7, b"a")
        self.receive(things.NON, 9, b"c")
        self.assertEqual(self.receive(things.CON, 8, b"b"), [Message(things.ACK, 0, self.mid)])
        self.assertEqual((self.told, self.node.count("reordered")), ([b"a", b"c"], 1))

    def test_from_elsewhere(self) -> None:
        """A notification from another address is reset, and not told."""
        self.receive(things.ACK, 7, b"a")
        stray = Message(things.CON, things.CONTENT, 5, self.registration.token, ((things.OBSERVE, b"\x09"),), b"x")
        self.assertEqual(self.node.receive(stray, OTHER), [Message(things.RST, 0, 5)])
        self.assertEqual(self.told, [b"a"])

    def test_same_state(self) -> None:
        """A state that was told before (the same ETag) is not told again."""
        tag = ((things.ETAG, b"1"),)
        self.receive(things.ACK, 7, b"a", more=tag)
        self.receive(things.CON, 8, b"a", more=tag)
        self.receive(things.CON, 9, b"b", more=((things.ETAG, b"2"),))
        self.assertEqual(self.told, [b"a", b"b"])

    def test_again_after_max_age(self) -> None:
        """5 to 15 s after Max-Age without a notification the interest is registered again, with the same token (section 3.3.1)."""
        self.receive(things.ACK, 7, b"a", more=((things.MAX_AGE, uint(30)),))
        token = self.registration.token
        self.assertEqual(self.later(34), [])
        again = self.registered_again(12)
        self.assertEqual((again.token, again.first(things.OBSERVE)), (token, b""))
        self.receive(things.ACK, 8, b"b")
        self.assertEqual(self.told, [b"a", b"b"])
        self.assertEqual(self.later(64), [])

    def test_server_started_again(self) -> None:
        """The answer to a new registration is news, though the server counts from the beginning; not if newer has come meanwhile."""
        self.receive(things.ACK, 1000, b"a")
        self.registered_again(76)
        self.receive(things.ACK, 3, b"b")
        self.receive(things.NON, 4, b"c")
        self.assertEqual(self.told, [b"a", b"b", b"c"])
        self.registered_again(76)
        self.receive(things.NON, 6, b"e")
        self.receive(things.ACK, 5, b"d")
        self.assertEqual(self.told, [b"a", b"b", b"c", b"e"])
        self.assertTrue(self.observation.observed)

    def test_peer_gone_for_a_while(self) -> None:
        """A peer that is silent, resets, or answers 5.03 after a first answer is asked again, later each time, until it answers."""
        self.receive(things.ACK, 7, b"a")
        self.registered_again(76)
        self.node.receive(empty(things.RST, self.registration.mid), PEER)
        self.assertFalse(self.observation.observed)
        self.registered_again(8)
        self.receive(things.ACK, None, b"", things.SERVICE_UNAVAILABLE)
        self.assertEqual(self.later(9), [])
        sent = self.later(600)
        self.assertGreater(len(sent), 5)
        self.assertEqual({message.token for message in sent}, {self.registration.token})
        self.assertEqual(self.ends, [])
        while self.told == [b"a"] and self.node.clock.seconds() < 2_000:
            for message in self.later(5)[-1:]:
                self.registration = message
                self.receive(things.ACK, 8, b"b")
        self.assertEqual((self.told, self.observation.observed), ([b"a", b"b"], True))

    def test_not_observable(self) -> None:
        """A peer that answers without Observe is asked again after Max-Age: the wish is kept alive by asking."""
        self.receive(things.ACK, None, b"a")
        self.assertFalse(self.observation.observed)
        self.registered_again(76)
        self.receive(things.ACK, None, b"b")
        self.assertEqual((self.told, self.ends), ([b"a", b"b"], []))

    def test_separate_answer(self) -> None:
        """The first answer may come separately."""
        self.node.receive(empty(things.ACK, self.registration.mid), PEER)
        self.assertEqual(self.receive(things.CON, 7, b"a"), [Message(things.ACK, 0, self.mid)])
        self.assertEqual(self.told, [b"a"])


class EndingTests(ObservationCase):
    def test_cancel(self) -> None:
        """Observe 1 with the same token; nothing more is told, and a notification that comes all the same is reset."""
        self.receive(things.ACK, 7, b"a")
        self.observation.cancel()
        self.observation.cancel()
        told = self.node.port.take()
        self.assertEqual([(message.token, message.first(things.OBSERVE)) for message in told], [(self.registration.token, b"\x01")])
        self.assertEqual(self.receive(things.NON, 8, b"b"), [Message(things.RST, 0, self.mid)])
        self.registration = told[0]
        self.assertEqual(self.receive(things.ACK, None, b"c"), [])
        self.assertEqual((self.told, self.ends), ([b"a"], []))
        self.assertEqual(self.later(1000), [])
        self.assertEqual(len(self.node.service.endpoint.tokens), 0)

    def test_cancel_before_the_answer(self) -> None:
        """Also where no answer came yet: the peer may have heard the registration."""
        self.observation.cancel()
        self.assertEqual([message.first(things.OBSERVE) for message in self.node.port.take()], [b"\x01"])

    def test_deleted(self) -> None:
        """4.04 ends the observation, and is told as its end."""
        self.receive(things.ACK, 7, b"a")
        self.assertEqual(self.receive(things.CON, None, b"gone", things.NOT_FOUND), [Message(things.ACK, 0, self.mid)])
        assert isinstance(self.ends[0], Answer)
        self.assertEqual((self.ends[0].code, self.ends[0].payload), ("4.04", b"gone"))
        self.assertEqual(self.receive(things.CON, 8, b"b"), [Message(things.RST, 0, self.mid)])
        self.assertEqual((len(self.ends), self.later(1000)), (1, []))

    def test_no_first_answer(self) -> None:
        """Without any answer the observation ends: by Reset, unacknowledged, not answered in time, or with a code that is no success."""
        self.node.receive(empty(things.RST, self.registration.mid), PEER)
        self.observe()
        self.later(100)
        self.observe()
        self.node.receive(empty(things.ACK, self.registration.mid), PEER)
        self.later(11)
        self.observe()
        self.receive(things.ACK, None, b"", things.SERVICE_UNAVAILABLE)
        kinds = [type(end) for end in self.ends]
        self.assertEqual(kinds, [errors.PeerFailed, errors.DeadlinePassed, errors.DeadlinePassed, Answer])

    def test_critical_option(self) -> None:
        """A notification with a critical option that is not known here is rejected, and ends the observation (RFC 7252, 5.4.1)."""
        self.receive(things.ACK, 7, b"a")
        self.assertEqual(self.receive(things.CON, 8, b"b", more=((9, b""),)), [Message(things.RST, 0, self.mid)])
        self.assertIsInstance(self.ends[0], errors.PeerFailed)

    def test_stopped(self) -> None:
        """When the service stops the observation ends."""
        self.receive(things.ACK, 7, b"a")
        self.node.service.stopService()
        self.assertIsInstance(self.ends[0], errors.PeerFailed)
        self.node.service.startService()

    def test_watcher_fails(self) -> None:
        """What a watcher raises is logged, and the observation goes on."""

        def fail(_: Answer) -> None:
            raise ValueError("no")

        self.receive(things.ACK, 7, b"a")
        self.node.service.client.observe(WISH, None, fail, self.ends.append)
        self.registration = self.node.port.take()[-1]
        self.receive(things.ACK, 7, b"a")
        self.assertEqual((len(self.flushLoggedErrors(ValueError)), self.ends), (1, []))

    def test_what_cannot_be_asked(self) -> None:
        """Another method than GET, and a URI that is none, are refused; nothing is left of it."""
        for wish, error in (
            (Outgoing(Method.PUT, URI), errors.Malformed),
            (Outgoing(Method.GET, "coap://"), errors.Malformed),
            (Outgoing(Method.GET, "coap://192.0.2.1/x"), errors.PeerFailed),
        ):
            with self.assertRaises(error):
                self.node.service.client.observe(wish, None, lambda _: None, lambda _: None)
        self.assertEqual(len(self.node.service.endpoint.tokens), 1)


class BlockTests(ObservationCase):
    def first(self, number: int, letter: bytes) -> list[Message]:
        """A notification that is the first of two blocks of 16 bytes."""
        options = ((things.ETAG, letter), (things.BLOCK2, Block(0, True, 0).build()))
        return self.receive(things.NON if number else things.ACK, number, letter * 16, more=options)

    def rest(self, asked: Message, letter: bytes) -> None:
        """The second block, as the answer to a request for it."""
        options = ((things.ETAG, letter), (things.BLOCK2, Block(1, False, 0).build()))
        self.node.receive(Message(things.ACK, things.CONTENT, asked.mid, asked.token, options, letter), PEER)

    def test_rest_is_fetched(self) -> None:
        """The other blocks are fetched by a GET without Observe and with another token (RFC 7959, section 2.6)."""
        asked = self.first(0, b"a")[0]
        self.assertEqual((asked.code, asked.first(things.OBSERVE), asked.first(things.BLOCK2)), (things.GET, None, b"\x10"))
        self.assertNotEqual(asked.token, self.registration.token)
        self.assertEqual(self.told, [])
        self.rest(asked, b"a")
        self.assertEqual(self.told, [b"a" * 17])

    def test_newer_while_fetching(self) -> None:
        """Of what comes while blocks are fetched only the newest is fetched next; a small one is told at once, and the fetch dropped."""
        asked = self.first(0, b"a")[0]
        self.assertEqual([self.first(1, b"b"), self.first(2, b"c")], [[], []])
        self.node.port.take()
        options = ((things.ETAG, b"a"), (things.BLOCK2, Block(1, False, 0).build()))
        after = self.node.receive(Message(things.ACK, things.CONTENT, asked.mid, asked.token, options, b"a"), PEER)
        self.rest(after[0], b"c")
        self.assertEqual(self.told, [b"a" * 17, b"c" * 17])
        self.first(3, b"d")
        self.receive(things.NON, 4, b"e")
        self.assertEqual(self.told[2:], [b"e"])
        self.assertEqual(self.later(50), [])

    def test_rest_does_not_come(self) -> None:
        """Where the blocks do not come the interest is registered again."""
        self.first(0, b"a")
        sent = self.later(40)
        self.assertIn(b"", [message.first(things.OBSERVE) for message in sent])
        self.assertEqual(self.ends, [])


class SharedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.simulation = Simulation(1)
        self.scheduler = self.simulation.scheduler
        gateway = self.simulation.network.attach("gw", {"lan": ["fd00::1/64"]})
        device = self.simulation.network.attach("d1", {"lan": ["fd00::d1/64"]})
        self.service = start(self.simulation, gateway, "fd00::1", FakeHandler())
        self.handler = FakeHandler()
        self.handler.answer = lambda _: Response(Status.CONTENT, b"%d" % len(self.handler.requests), "text/plain")
        self.observable = FakeObservable()
        self.server = start(self.simulation, device, "fd00::d1", self.handler, seed=2)
        self.server.observe(self.observable)
        self.told: list[tuple[int, bytes]] = []
        self.ends: list[int] = []

    def tearDown(self) -> None:
        for service in (self.service, self.server):
            self.scheduler.run_until_fired(service.stopService())
        self.scheduler.advance(1)
        self.assertEqual((self.scheduler.getDelayedCalls(), self.observable.watches), ([], {}))

    def observe(self, watcher: int, wish: Outgoing = WISH) -> Subscription:
        """One more watcher."""
        return self.service.client.shared.observe(
            wish, None, lambda answer: self.told.append((watcher, answer.payload)), lambda _: self.ends.append(watcher)
        )

    def test_one_upstream(self) -> None:
        """Many watchers of one resource are one observer there; each is told, a late one what is known; the last to go ends it."""
        first = [self.observe(watcher) for watcher in range(3)]
        self.scheduler.advance(1)
        self.assertEqual(self.told, [(0, b"1"), (1, b"1"), (2, b"1")])
        late = self.observe(3)
        self.scheduler.advance(0)
        self.assertEqual(self.told[3:], [(3, b"1")])
        self.observable.change("temperature")
        self.scheduler.advance(1)
        self.assertEqual(self.told[4:], [(watcher, b"2") for watcher in range(4)])
        self.assertEqual((len(self.server.server.observers), len(self.service.client.shared)), (1, 1))
        for subscription in (*first, late):
            subscription.cancel()
            subscription.cancel()
        self.scheduler.advance(1)
        self.assertEqual((len(self.server.server.observers), len(self.service.client.shared), self.ends), (0, 0, []))

    def test_others_upstream(self) -> None:
        """Another media type is another observation."""
        self.observe(0)
        self.observe(1, Outgoing(Method.GET, URI))
        self.scheduler.advance(1)
        self.assertEqual((len(self.server.server.observers), len(self.service.client.shared)), (2, 2))

    def test_end(self) -> None:
        """The end is told to all, once; who asks again begins anew."""
        self.observe(0)
        self.observe(1)
        self.scheduler.advance(1)
        self.handler.answer = errors.NoSuchResource("/temperature")
        self.observable.change("temperature")
        self.scheduler.advance(1)
        self.assertEqual((self.ends, len(self.service.client.shared)), ([0, 1], 0))
        self.handler.answer = CONTENT
        self.observe(2)
        self.scheduler.advance(1)
        self.assertEqual(self.told[-1], (2, b"21.5"))

    def test_watcher_fails(self) -> None:
        """One watcher that fails, or cancels another while it is told, keeps none from its news."""
        subscriptions: list[Subscription] = []

        def fail(_: Answer) -> None:
            subscriptions[1].cancel()
            raise ValueError("no")

        shared = self.service.client.shared
        subscriptions.append(shared.observe(WISH, None, fail, lambda _: None))
        subscriptions.append(self.observe(1))
        self.observe(2)
        self.scheduler.advance(1)
        self.assertEqual((self.told, len(self.flushLoggedErrors(ValueError))), ([(2, b"1")], 1))

    def test_refused(self) -> None:
        """What cannot be observed leaves nothing behind."""
        with self.assertRaises(errors.Malformed):
            self.observe(0, Outgoing(Method.GET, "coap://"))
        self.assertEqual(len(self.service.client.shared), 0)


class LossTests(SynchronousTestCase):
    @seeded(15)
    def test_ends_with_the_newest_state(self, simulation: Simulation) -> None:
        """On a link that loses a third, repeats and reorders, an observer never goes back in time and ends with the newest state."""
        scheduler = simulation.scheduler
        gateway = simulation.network.attach("gw", {"lan": ["fd00::1/64"]})
        device = simulation.network.attach("d1", {"lan": ["fd00::d1/64"]})
        chance = scheduler.generator("changes")
        state = [0]

        def answer(_: Request) -> Response | Deferred[Response]:
            now = Response(Status.CONTENT, b"%d" % state[0] * (1 if state[0] % 3 else 400), "text/plain", uint(state[0] + 1))
            if chance.random() < 0.7:
                return now
            later: Deferred[Response] = Deferred()
            scheduler.callLater(chance.uniform(0, 0.5), later.callback, now)
            return later

        handler, observable = FakeHandler(), FakeObservable()
        handler.answer = answer
        server = start(simulation, device, "fd00::d1", handler, seed=simulation.seed)
        server.observe(observable)
        client = start(simulation, gateway, "fd00::1", FakeHandler(), seed=simulation.seed + 1)
        told: list[int] = []
        ends: list[object] = []

        def on_answer(got: Answer) -> None:
            length = len(got.payload) if len(got.payload) < 400 else len(got.payload) // 400
            told.append(int(got.payload[:length]))

        client.client.observe(WISH, None, on_answer, ends.append)
        scheduler.advance(5)
        simulation.network.set_quality(Quality(loss=0.33, delay_s=(0.001, 0.3), repetition=0.1, reordering=0.3, reordering_s=2.0))
        for _ in range(120):
            state[0] += 1
            observable.change("temperature")
            scheduler.advance(chance.choice((0.0, 0.01, 0.3, 1.0, 8.0)))
        scheduler.advance(400)
        self.assertEqual(told, sorted(told))
        self.assertEqual((told[-1], ends), (120, []))
        self.assertGreater(len(told), 3)
        for service in (client, server):
            scheduler.run_until_fired(service.stopService())
