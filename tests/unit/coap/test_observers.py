"""Observers of this node's resources: registration, notifications, their pace and confirmation, and how observations end."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.blocks import Block
from m2mapp.coap.counters import Counters
from m2mapp.coap.message import Message, build, empty, number_in, parse, uint
from m2mapp.coap.observer import Reason
from m2mapp.coap.parameters import Limits
from m2mapp.model import errors
from m2mapp.model.messages import Request, Response, Status
from m2mapp.model.principal import Right
from m2mapp.net.interfaces import Sockaddr
from tests.unit.coap.fakes import CONTENT, GROUP, OTHER, PEER, Node, get, vectors

REGISTER, DEREGISTER = (things.OBSERVE, b""), (things.OBSERVE, b"\x01")
SETTLED_S = 6.0
LONG_S = 100_000.0


class ObserveCase(SynchronousTestCase):
    limits: Limits | None = None

    def setUp(self) -> None:
        self.node = Node(limits=self.limits)
        self.value = 0
        self.node.handler.answer = self.answer
        self.mid = 1000

    def tearDown(self) -> None:
        self.assertEqual(self.node.stop(), [])
        self.assertEqual(self.node.observable.watches, {})

    def answer(self, request: Request) -> Response:
        """The value as text, with an ETag of its own."""
        return Response(Status.CONTENT, str(self.value).encode(), "text/plain", uint(self.value + 1))

    def ask(
        self, token: bytes = b"tok", source: Sockaddr = PEER, options: Iterable[tuple[int, bytes]] = (REGISTER,), path: str = "temperature"
    ) -> Message:
        """The one answer to a GET."""
        self.mid += 1
        message = get(path, self.mid, options)._replace(token=token)
        answers = self.node.receive(message, source)
        self.assertEqual(len(answers), 1, answers)
        return answers[0]

    def change(self, value: int | None = None, path: str = "temperature") -> None:
        """The value changes."""
        self.value = self.value + 1 if value is None else value
        self.node.observable.change(*path.split("/"))

    def sent(self, after_s: float = 0.0) -> list[Message]:
        """What is sent in the time that follows."""
        self.node.port.take()
        steps = max(1, min(1_000, round(after_s / 0.05)))
        for _ in range(steps):
            self.node.clock.advance(after_s / steps)
            self.node.clock.advance(0)
        return self.node.port.take()

    def acknowledge(self, message: Message, source: Sockaddr = PEER, mtype: int = things.ACK) -> None:
        """The peer acknowledges, or resets."""
        self.assertEqual(self.node.receive(empty(mtype, message.mid), source), [])

    def notified(self, after_s: float = 0.0) -> Message:
        """The one notification of that time."""
        sent = self.sent(after_s)
        self.assertEqual(len(sent), 1, sent)
        return sent[0]

    def settle(self) -> Message:
        """A change after a quiet time, which is told confirmably, and acknowledged: the observer has proved to be there."""
        self.assertEqual(self.sent(SETTLED_S), [])
        self.change()
        message = self.notified(0.2)
        self.assertEqual(message.mtype, things.CON)
        self.acknowledge(message)
        return message

    @property
    def observers(self) -> int:
        """How many there are."""
        return len(self.node.service.server.observers)

    def ended(self, reason: Reason) -> int:
        """How many observations ended for that reason."""
        counters: Counters = self.node.context.counters
        return counters.observations_ended[reason].value


def number(message: Message) -> int | None:
    """The value of Observe."""
    value = message.first(things.OBSERVE)
    return None if value is None else number_in(value)


class RegisteringTests(ObserveCase):
    def test_add_and_notify(self) -> None:
        """Observe 0 is answered with Observe; a change is told with the token, the ETag and the format of a GET, and a higher number."""
        first = self.ask()
        self.assertEqual((first.mtype, first.code, first.payload, number(first)), (things.ACK, things.CONTENT, b"0", 100))
        self.change()
        told = self.notified(1)
        self.assertEqual((told.mtype, told.token, told.payload, number(told)), (things.CON, b"tok", b"1", 101))
        self.assertEqual((told.first(things.ETAG), told.first(things.CONTENT_FORMAT)), (uint(2), b""))
        self.acknowledge(told)
        self.assertEqual(self.observers, 1)
        self.assertEqual([number for number, _ in told.options], sorted(number for number, _ in told.options))

    def test_of_libcoap(self) -> None:
        """The registration of libcoap's client, and its cancellation by Observe 1."""
        first = self.node.receive(vectors()["libcoap-observe"])[0]
        self.assertIsNotNone(number(first))
        asked = parse(vectors()["libcoap-observe"])
        options = tuple((code, b"\x01" if code == things.OBSERVE else value) for code, value in asked.options)
        last = self.node.receive(build(asked._replace(mid=asked.mid ^ 1, options=options)))[0]
        self.assertIsNone(number(last))
        self.assertEqual((self.observers, self.ended(Reason.CANCELLED)), (0, 1))

    def test_non_confirmable(self) -> None:
        """A non-confirmable registration is as good."""
        first = self.node.receive(get(options=[REGISTER], mtype=things.NON))[0]
        self.assertEqual((first.mtype, number(first)), (things.NON, 100))
        self.settle()

    def test_deregister(self) -> None:
        """Observe 1 is answered without Observe, and nothing is told any more; of who does not observe it is an ordinary GET."""
        self.ask()
        self.assertIsNone(number(self.ask(options=[DEREGISTER])))
        self.change()
        self.assertEqual(self.sent(LONG_S), [])
        self.assertEqual(self.ask(options=[DEREGISTER]).code, things.CONTENT)
        self.assertEqual((self.observers, self.ended(Reason.CANCELLED)), (0, 1))

    def test_same_token_replaces(self) -> None:
        """Registering again with the same token is the same observation; its numbers go on (RFC 7641, section 4.1)."""
        self.ask()
        self.change()
        self.acknowledge(self.notified(1))
        again = self.ask()
        self.assertEqual(number(again), 102)
        self.assertEqual((self.observers, len(self.node.observable.watches)), (1, 1))
        self.assertEqual(number(self.settle()), 103)

    def test_same_token_elsewhere(self) -> None:
        """The same token for another resource ends the first observation; with another token or port there are two."""
        self.ask(path="a")
        self.ask(path="b")
        self.assertEqual([path for path, _ in self.node.observable.watches.values()], [("b",)])
        self.ask(b"other", path="b")
        self.ask(source=("fd00::d1", 9999, 0, 0), path="b")
        self.assertEqual((self.observers, len(self.node.observable.watches)), (3, 1))

    def test_token_of_another_request(self) -> None:
        """Who uses the token for a request without Observe does not observe any more; the further blocks of an answer do not count."""
        self.ask()
        self.node.receive(get(mid=7, options=[(things.BLOCK2, Block(1, False, 0).build())]))
        self.assertEqual(self.observers, 1)
        self.ask(options=())
        self.assertEqual((self.observers, self.ended(Reason.CANCELLED)), (0, 1))

    def test_what_cannot_be_observed(self) -> None:
        """Other methods, groups, what never changes, odd values, later blocks: answered as if there were no Observe."""
        self.node.observable.fixed.add(("node",))
        self.assertIsNone(number(self.ask(path="node")))
        self.assertIsNone(number(self.ask(options=[(things.OBSERVE, b"\x02")])))
        self.assertIsNone(number(self.ask(options=[REGISTER, (2 * 129, b"\x10")])))  # No-Response
        put = Message(things.CON, things.PUT, 5, b"t", (REGISTER, (things.URI_PATH, b"x")), b"1")
        self.assertIsNone(number(self.node.receive(put)[0]))
        self.node.receive(get(mid=6, options=[REGISTER], mtype=things.NON), destination=GROUP)
        answers = self.sent(60)
        self.assertEqual([number(answer) for answer in answers], [None])
        self.assertEqual(self.observers, 0)

    def test_error_answer(self) -> None:
        """Who asks for what is not there does not observe it."""
        self.node.handler.answer = errors.NoSuchResource("/x")
        answer = self.ask()
        self.assertEqual((answer.code, number(answer), self.observers), (things.NOT_FOUND, None, 0))

    def test_not_acceptable(self) -> None:
        """A representation that cannot be told in the format asked for is no observation."""
        answer = self.ask(options=[REGISTER, (things.ACCEPT, uint(42))])
        self.assertEqual((answer.code, self.observers), (things.NOT_ACCEPTABLE, 0))

    def test_separate_answer(self) -> None:
        """A change while the first answer is still made is told after it; the separate answer's Reset ends the observation."""
        waiting: Deferred[Response] = Deferred()
        self.node.handler.answer = waiting
        self.node.receive(get(options=[REGISTER]))
        self.change()
        self.assertEqual([message.code for message in self.sent(1)], [things.EMPTY])
        self.node.handler.answer = self.answer
        waiting.callback(Response(Status.CONTENT, b"old", "text/plain", b"old"))
        first = self.node.port.take()[0]
        self.assertEqual((first.mtype, first.payload), (things.CON, b"old"))
        self.acknowledge(first)
        told = self.notified(1)
        self.assertEqual(told.payload, b"1")
        self.assertGreater(number(told) or 0, number(first) or 0)

    def test_reset_of_a_separate_answer(self) -> None:
        """A Reset to the separate first answer ends the observation."""
        waiting: Deferred[Response] = Deferred()
        self.node.handler.answer = waiting
        self.node.receive(get(options=[REGISTER]))
        self.sent(1)
        waiting.callback(CONTENT)
        self.acknowledge(self.node.port.take()[0], mtype=things.RST)
        self.assertEqual((self.observers, self.ended(Reason.RESET)), (0, 1))

    def test_subtree(self) -> None:
        """`?subtree` watches what is below, and tells also what changes nothing of the representation itself."""
        self.ask(options=[REGISTER, (things.URI_QUERY, b"subtree")], path="room")
        self.assertEqual(list(self.node.observable.watches.values()), [(("room",), True)])
        self.node.observable.change("room", "lamp")
        self.acknowledge(self.notified(1))
        self.ask(b"other", options=[REGISTER, (things.URI_QUERY, b"subtree=false")], path="room")
        self.assertEqual(sorted(self.node.observable.watches.values()), [(("room",), False), (("room",), True)])


class NotifyingTests(ObserveCase):
    def test_same_state(self) -> None:
        """What leaves the representation as it was told last (the same ETag) is not told."""
        self.ask()
        self.node.observable.change("temperature")
        self.assertEqual(self.sent(LONG_S / 2), [])

    def test_told_again(self) -> None:
        """Where whoever is observed asks for it, the same is told once more."""
        self.ask()
        for watch in self.node.observable.watches:
            watch.on_change(again=True)
        told = self.sent(LONG_S / 2)[0]
        self.assertEqual((told.code, told.mtype), (things.CONTENT, things.CON))

    def test_one_in_flight(self) -> None:
        """While a confirmable notification is not acknowledged no other goes out; then one does, with the newest of many changes."""
        self.ask()
        self.change()
        first = self.notified(0.2)
        for _ in range(50):
            self.change()
        self.assertEqual(self.sent(1), [])
        self.acknowledge(first)
        self.assertEqual(self.notified(1).payload, b"51")

    def test_burst(self) -> None:
        """In a burst notifications are not confirmable and come at their pace; each twentieth is; its end is told confirmably."""
        self.ask()
        self.settle()
        types: list[int] = []
        payloads: list[bytes] = []
        for _ in range(105):
            self.change()
            self.change()
            for message in self.sent(0.2):
                types.append(message.mtype)
                payloads.append(message.payload)
                if message.mtype == things.CON:
                    self.acknowledge(message)
        self.assertEqual(len(payloads), len(set(payloads)))
        self.assertLessEqual(len(payloads), 105)
        self.assertGreater(types.count(things.NON), 80)
        first = types.index(things.CON)
        self.assertEqual(types[first + 1 : first + 21], [things.NON] * 19 + [things.CON])
        last = self.sent(30)
        self.assertEqual((last[-1].mtype, last[-1].payload), (things.CON, str(self.value).encode()))

    def test_no_more_than_one_a_round_trip(self) -> None:
        """Between two non-confirmable notifications there is a round trip at least (RFC 7641, section 4.5.1)."""
        self.ask()
        self.change()
        message = self.notified(0.2)
        self.node.clock.advance(1.0)
        self.acknowledge(message)
        self.change()
        self.assertEqual(self.notified(0.2).mtype, things.NON)
        self.change()
        self.assertEqual(self.sent(0.8), [])
        self.assertEqual(self.notified(0.4).payload, b"3")

    def test_the_end_of_a_burst(self) -> None:
        """The last non-confirmable notification is sent once more, confirmably; then there is silence."""
        self.ask()
        self.settle()
        self.change()
        lost = self.notified(0.2)
        self.assertEqual(lost.mtype, things.NON)
        again = self.notified(5)
        self.assertEqual((again.mtype, again.payload), (things.CON, lost.payload))
        self.assertGreater(number(again) or 0, number(lost) or 0)
        self.acknowledge(again)
        self.assertEqual(self.sent(3600), [])

    def test_the_end_of_a_burst_that_changes_nothing(self) -> None:
        """Also where the last change left the representation as it was."""
        self.ask()
        self.settle()
        self.change()
        self.assertEqual(self.notified(0.2).mtype, things.NON)
        self.node.observable.change("temperature")
        self.assertEqual(self.notified(SETTLED_S).mtype, things.CON)

    def test_retransmission_has_the_newest_state(self) -> None:
        """A repetition is the state as it is then, with a new number (RFC 7641, section 4.5.2); an acknowledgement ends it."""
        self.ask()
        self.change()
        first = self.notified(0.2)
        self.change()
        second = self.notified(3)
        self.assertEqual((first.payload, second.payload, second.mtype), (b"1", b"2", things.CON))
        self.assertGreater(number(second) or 0, number(first) or 0)
        self.assertNotEqual(first.mid, second.mid)
        third = self.notified(6)
        self.assertEqual(third.payload, b"2")
        self.acknowledge(third)
        self.assertEqual(self.sent(60), [])
        self.assertEqual(self.observers, 1)

    def test_numbers(self) -> None:
        """Numbers are of 24 bits, and go on after the last; a new start goes on with the number of the tree (section 4.4)."""
        self.node.observable.last_number = (1 << 24) - 1
        self.assertEqual(number(self.ask()), (1 << 24) - 1)
        self.assertEqual(number(self.settle()), 0)
        self.assertEqual(number(self.settle()), 1)

    def test_etag_of_the_registration(self) -> None:
        """An observer that names an ETag is told 2.03 when the state is that one (RFC 7641, section 4.3.2)."""
        first = self.ask(options=[REGISTER, (things.ETAG, uint(1))])
        self.assertEqual((first.code, number(first)), (things.VALID, 100))
        self.change(5)
        told = self.notified(1)
        self.assertEqual((told.code, told.payload), (things.CONTENT, b"5"))
        self.acknowledge(told)
        self.change(0)
        told = self.notified(1)
        self.assertEqual((told.code, told.payload), (things.VALID, b""))

    def test_blocks(self) -> None:
        """Of a large state the first block is sent, of the size that was asked for; the others are fetched from that state."""
        size = Block(0, False, 2)
        self.node.handler.answer = lambda _: Response(Status.CONTENT, str(self.value % 10).encode() * 200, "text/plain", uint(self.value))
        self.ask(options=[REGISTER, (things.BLOCK2, size.build())])
        self.change()
        told = self.notified(1)
        self.assertEqual((told.payload, told.first(things.BLOCK2)), (b"1" * 64, Block(0, True, 2).build()))
        self.assertIsNotNone(number(told))
        self.acknowledge(told)
        self.value = 2
        rest = self.node.receive(get(mid=9, options=[(things.BLOCK2, Block(3, False, 2).build())])._replace(token=b"new"))[0]
        self.assertEqual((rest.payload, rest.first(things.ETAG), number(rest)), (b"1" * 8, uint(1), None))

    def test_asked_again_as_before(self) -> None:
        """The handler is asked what the observer asked, with its principal of that time, and without what held for that one request."""
        self.ask(options=[REGISTER, (things.ACCEPT, uint(60)), (things.URI_QUERY, b"a=b"), (65116, b"\x10"), (65052, b"12345678")])
        first = self.node.handler.requests[-1]
        self.change()
        self.sent(1)
        again = self.node.handler.requests[-1]
        self.assertEqual(len(self.node.handler.requests), 2)
        self.assertEqual((again.path, again.query, again.accept, again.trace), (first.path, first.query, first.accept, first.trace))
        self.assertEqual((again.source, again.deadline, again.request_id), (None, None, None))
        self.assertEqual(again.principal.source, "fd00::d1")

    def test_many_observers(self) -> None:
        """A change that hundreds observe is told in many turns of the reactor; a burst gives each one notification at most meanwhile."""
        sources: list[Sockaddr] = [(f"fd00::{host:x}", 5683, 0, 0) for host in range(1, 501)]
        for source in sources:
            self.ask(source=source)
        self.node.clock.advance(0.2)
        for _ in range(100):
            self.change()
        turns: list[list[Message]] = []

        def others_turn() -> None:
            turns.append(self.node.port.take())
            if len(turns) < 50:
                self.node.clock.callLater(0, others_turn)

        self.node.clock.callLater(0, others_turn)
        self.node.port.take()
        self.node.clock.advance(0)
        self.assertLessEqual(max(map(len, turns)), 16)
        self.assertEqual([message.payload for turn in turns for message in turn], [b"100"] * 500)


class EndingTests(ObserveCase):
    def test_reset(self) -> None:
        """A Reset to a notification, confirmable or not, ends the observation; from elsewhere it does not."""
        for confirmable in (True, False):
            self.ask()
            if not confirmable:
                self.settle()
            self.change()
            told = self.notified(0.2)
            self.assertEqual(told.mtype, things.CON if confirmable else things.NON)
            self.acknowledge(told, OTHER, things.RST)
            self.assertEqual(self.observers, 1)
            self.acknowledge(told, mtype=things.RST)
            self.assertEqual(self.observers, 0)
            self.change()
            self.assertEqual(self.sent(60), [])
        self.assertEqual(self.ended(Reason.RESET), 2)

    def test_nobody_there(self) -> None:
        """A notification that is never acknowledged is sent five times; then all that the endpoint observed is over."""
        self.ask()
        self.ask(b"two", path="other")
        self.ask(source=OTHER, path="other")
        self.change()
        sent = self.sent(0.2)
        for _ in range(100):
            sent += self.sent(1)
        self.assertEqual(len(sent), 5)
        self.assertEqual((self.observers, self.ended(Reason.GIVEN_UP)), (1, 2))

    def test_many_of_nobody(self) -> None:
        """Many observations of one endpoint that is gone are over no later than a few minutes after the first was not acknowledged."""
        for index in range(40):
            self.ask(b"%d" % index, path=f"r{index}")
        for index in range(40):
            self.change(path=f"r{index}")
        for _ in range(240):
            self.sent(1)
        self.assertEqual((self.observers, self.ended(Reason.GIVEN_UP)), (0, 40))

    def test_deleted(self) -> None:
        """When the resource is gone, the last notification is 4.04, confirmable, without Observe."""
        self.ask()
        self.node.handler.answer = errors.NoSuchResource("/temperature")
        self.change()
        told = self.notified(1)
        self.assertEqual((told.mtype, told.code, told.token, number(told)), (things.CON, things.NOT_FOUND, b"tok", None))
        self.assertEqual((self.observers, self.ended(Reason.ERROR)), (0, 1))
        self.acknowledge(told)

    def test_deleted_told_again(self) -> None:
        """The last notification is repeated until it is acknowledged."""
        self.ask()
        self.node.handler.answer = errors.NoSuchResource("/temperature")
        self.change()
        self.assertEqual({message.code for message in self.sent(4)}, {things.NOT_FOUND})
        self.assertGreater(len(self.sent(10)), 0)

    def test_right_lost(self) -> None:
        """Who has lost the right to read is told 4.03, and no more."""

        def answer(request: Request) -> Response:
            if Right.READ not in request.principal.rights:
                raise errors.Forbidden
            return self.answer(request)

        self.node.handler.answer = answer
        self.ask()
        self.node.principals.rights = frozenset()
        self.change()
        self.assertEqual(self.notified(1).code, things.FORBIDDEN)
        self.assertEqual(self.observers, 0)

    def test_handler_fails(self) -> None:
        """A handler that fails, at once or later, ends that observation with 5.00; the others are told."""
        self.ask()
        self.ask(source=OTHER)
        waiting: Deferred[Response] = Deferred()

        def answer(request: Request) -> object:
            if request.principal.source == PEER[0]:
                return waiting
            raise ValueError("no")

        self.node.handler.answer = answer
        self.change()
        self.assertEqual(self.notified(1).code, things.INTERNAL_SERVER_ERROR)
        self.node.port.take()
        waiting.errback(ValueError("no"))
        self.assertEqual([message.code for message in self.node.port.take()], [things.INTERNAL_SERVER_ERROR])
        self.assertEqual((self.observers, len(self.flushLoggedErrors(ValueError))), (0, 2))

    def test_cancelled_while_rendered(self) -> None:
        """What the handler says after the observation has ended is not sent."""
        self.ask()
        waiting: Deferred[Response] = Deferred()
        self.node.handler.answer = waiting
        self.change()
        self.assertEqual(self.sent(1), [])
        self.node.handler.answer = self.answer
        self.ask(options=[DEREGISTER])
        self.node.port.take()
        waiting.callback(CONTENT)
        self.assertEqual((self.node.port.take(), self.sent(10)), ([], []))

    def test_silent_resource(self) -> None:
        """After a day without a change the observer is asked whether it is there, confirmably (RFC 7641, section 4.5)."""
        self.ask()
        self.assertEqual(self.sent(86_300), [])
        told = next(message for _ in range(200) for message in self.sent(1))
        self.assertEqual((told.mtype, told.payload), (things.CON, b"0"))
        self.acknowledge(told)
        self.assertEqual((self.observers, self.sent(86_000)), (1, []))

    def test_stop(self) -> None:
        """Stopping the service ends observations, also those that wait for something, and leaves nothing pending."""
        self.ask()
        self.ask(b"two", path="other")
        self.change()
        self.sent(0.2)
        self.change(path="other")
        self.node.service.stopService()
        self.assertEqual((self.observers, self.ended(Reason.STOPPED)), (0, 2))
        self.assertEqual(self.node.clock.getDelayedCalls(), [])
        self.node.service.startService()


class LimitTests(ObserveCase):
    limits = Limits(observers=5, observers_per_host=3, observers_per_resource=2)

    def test_limits(self) -> None:
        """Beyond the limits of a host, a resource, a network and in all a GET is answered without Observe; who leaves makes room."""
        told = [number(self.ask(b"%d" % index, path="abc"[index // 2])) for index in range(4)]
        self.assertEqual([value is not None for value in told], [True, True, True, False])
        self.assertIsNone(number(self.ask(source=OTHER, path="a")))
        self.assertIsNotNone(number(self.ask(source=OTHER, path="b")))
        self.assertIsNone(number(self.ask(source=("fd00::3", 1, 0, 0), path="d")))
        self.assertEqual((self.observers, self.node.count("observers_refused")), (4, 3))
        self.assertIsNone(number(self.ask(b"0", options=[DEREGISTER], path="a")))
        self.assertIsNotNone(number(self.ask(source=("fd00::3", 1, 0, 0), path="d")))
        self.assertIsNotNone(number(self.ask(source=("fd01::1", 1, 0, 0), path="e")))
        self.assertIsNone(number(self.ask(source=("fd02::1", 1, 0, 0), path="f")))

    def test_replacing_at_the_limit(self) -> None:
        """Who observes already may register again where all is taken."""
        for index in range(2):
            self.ask(b"%d" % index)
        self.assertIsNotNone(number(self.ask(b"1")))

    def test_large_registration(self) -> None:
        """What takes much to remember is answered without Observe."""
        query = [(things.URI_QUERY, b"q" * 255)] * 20
        self.assertIsNone(number(self.ask(options=[REGISTER, *query])))
        self.assertEqual(self.observers, 0)


class UnexpectedTests(ObserveCase):
    def test_notification_for_nobody(self) -> None:
        """A notification that nobody here waits for is reset, also a non-confirmable one (RFC 7641, section 3.6)."""
        for mid, mtype in enumerate((things.CON, things.NON)):
            stray = Message(mtype, things.CONTENT, mid, b"gone", ((things.OBSERVE, b"\x05"),), b"1")
            self.assertEqual(self.node.receive(stray), [Message(things.RST, 0, mid)])
        stray = Message(things.NON, things.CONTENT, 9, b"gone", (), b"1")
        self.assertEqual(self.node.receive(stray), [])
