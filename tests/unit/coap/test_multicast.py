"""Requests that a group was asked (RFC 7252, section 8; RFC 7967; spec section 5)."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import Block
from m2mapp.coap.message import Message
from m2mapp.coap.parameters import Limits
from m2mapp.model import errors
from m2mapp.model.messages import Multicast, Response, Status
from tests.unit.coap.fakes import GROUP, Node, get, request

AT_ONCE = Response(Status.CONTENT, b"21.5", "text/plain", leisure_s=0.0)
EVERYTHING = (numbers.NO_RESPONSE, b"")


class MulticastTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()
        self.node.handler.answer = AT_ONCE

    def tearDown(self) -> None:
        self.assertEqual(self.node.stop(), [])

    def ask(self, message: Message) -> list[Message]:
        """What is sent at once for a message to the group."""
        return self.node.receive(message, destination=GROUP, interface=7)

    def test_success(self) -> None:
        """A success with payload is answered by a non-confirmable message; the handler knows group and interface."""
        (answer,) = self.ask(get(mtype=things.NON))
        self.assertEqual((answer.mtype, answer.code, answer.token, answer.payload), (things.NON, things.CONTENT, b"tok", b"21.5"))
        self.assertEqual(self.node.handler.requests[0].multicast, Multicast(GROUP, 7))

    def test_confirmable_is_ignored(self) -> None:
        """A confirmable request to a group is not allowed, and not answered in any way (RFC 7252, section 8.1)."""
        self.assertEqual(self.ask(get()), [])
        self.assertEqual(self.node.handler.requests, [])

    def test_errors_and_empty_successes_are_suppressed(self) -> None:
        """No errors, no empty successes, no failures of the handler (RFC 7252, section 8.2)."""
        for mid, answer in enumerate(
            (errors.NoSuchResource("/x"), errors.Forbidden("no"), Response(Status.CHANGED, leisure_s=0.0), RuntimeError("handler"))
        ):
            self.node.handler.answer = answer
            self.assertEqual(self.ask(get(mid=mid, mtype=things.NON)), [], answer)
        self.assertEqual(self.node.count("suppressed"), 4)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.node.clock.getDelayedCalls()[1:], [])

    def test_all_that_is_asked_for(self) -> None:
        """An empty No-Response asks for every kind of answer; 26 for none (RFC 7967, section 2.1)."""
        self.node.handler.answer = Response(Status.CHANGED, leisure_s=0.0)
        self.assertEqual([answer.code for answer in self.ask(request(things.PUT, mid=1, options=[EVERYTHING], mtype=things.NON))], [68])
        self.node.handler.answer = errors.LoopDetected()
        self.assertEqual(self.ask(get(mid=2, options=[EVERYTHING], mtype=things.NON)), [])
        self.node.clock.advance(5)
        self.assertEqual([answer.code for answer in self.node.port.take()], [numbers.HOP_LIMIT_REACHED])
        self.node.handler.answer = AT_ONCE
        self.assertEqual(self.ask(get(mid=3, options=[(numbers.NO_RESPONSE, b"\x1a")], mtype=things.NON)), [])

    def test_silence(self) -> None:
        """A handler that says None, now or later, keeps silent, whatever No-Response says; to this node alone it would be 5.00."""
        for mid, answer in enumerate((None, succeed(None))):
            self.node.handler.answer = answer
            self.assertEqual(self.ask(get(mid=mid, options=[EVERYTHING], mtype=things.NON)), [])
        self.assertEqual(self.node.service.server.under_way, 0)

    def test_bad_requests(self) -> None:
        """No Reset and no error for what is refused before the handler is asked."""
        for mid, options in enumerate(([(9, b"")], [(things.URI_PATH, b"\xff")], [(things.BLOCK1, Block(0, True, 2).build())])):
            self.assertEqual(self.ask(get(mid=mid, options=options, mtype=things.NON)), [], options)
        self.node.clock.advance(10)
        self.assertEqual((self.node.port.take(), self.node.handler.requests), ([], []))

    def test_leisure(self) -> None:
        """Answers wait a random part of the leisure time that the handler names, and of 5 s where it names none."""
        for leisure_s, expected in ((0.5, 0.5), (None, 5.0)):
            times = self._times(Response(Status.CONTENT, b"x", "text/plain", leisure_s=leisure_s))
            self.assertEqual(len(times), 40)
            self.assertLessEqual(max(times), expected + 0.02)
            self.assertGreater(max(times), expected / 2)
            self.assertLess(min(times), expected / 2)

    def _times(self, answer: Response) -> list[float]:
        """When forty nodes, or one asked by forty, answer."""
        node = Node()
        node.handler.answer = answer
        for index in range(40):
            node.receive(get(mtype=things.NON), (f"fd00::{index:x}", 5683, 0, 0), GROUP)
        times: list[float] = []
        while len(times) < 40 and node.clock.seconds() < 6:
            node.clock.advance(0.01)
            times += [node.clock.seconds()] * len(node.port.take())
        self.assertEqual((node.service.server.under_way, node.stop()), (0, []))
        return times

    def test_stop_while_waiting(self) -> None:
        """Answers that wait for their time when the service stops are not sent, and are not counted as under way any more."""
        self.node.handler.answer = Response(Status.CONTENT, b"x", "text/plain", leisure_s=3.0)
        self.ask(get(mtype=things.NON))
        self.assertEqual(self.node.service.server.under_way, 1)
        self.assertEqual(self.node.stop(), [])
        self.node.clock.advance(10)
        self.assertEqual((self.node.service.server.under_way, self.node.port.take()), (0, []))

    def test_waiting_answers_are_bounded(self) -> None:
        """A flood of group requests leaves so many answers waiting and no more; the rest is not answered at all."""
        self.node = Node(limits=Limits(requests=10))
        self.node.handler.answer = Response(Status.CONTENT, b"x", "text/plain", leisure_s=3.0)
        for index in range(100):
            self.ask_from(index)
        self.assertEqual(self.node.service.server.under_way, 10)
        self.node.clock.advance(3)
        self.assertEqual(len(self.node.port.take()), 10)

    def ask_from(self, index: int) -> None:
        """One group request of a source of its own."""
        self.node.port.receiver.datagram_received(
            b"\x50\x01" + index.to_bytes(2, "big") + b"\xb1x", (f"fd00:{index:x}::1", 5683, 0, 0), GROUP, 1
        )

    def test_late_handler(self) -> None:
        """A Deferred is answered when it fires, without any acknowledgement before."""
        result: Deferred[Response] = Deferred()
        self.node.handler.answer = result
        self.assertEqual(self.ask(get(mtype=things.NON)), [])
        self.node.clock.advance(3)
        result.callback(AT_ONCE)
        self.assertEqual([answer.mtype for answer in self.node.port.take()], [things.NON])

    def test_blocks_of_a_group_answer(self) -> None:
        """A large answer begins with block 0; the others are fetched by unicast, and the handler is not asked again (RFC 7959, 2.8)."""
        self.node.handler.answer = Response(Status.CONTENT, b"x" * 1500, "text/plain", leisure_s=0.0)
        (first,) = self.ask(get(mid=1, options=[EVERYTHING], mtype=things.NON))
        self.assertEqual(first.first(things.BLOCK2), Block(0, True, 6).build())
        (second,) = self.node.receive(get(mid=2, options=[(things.BLOCK2, Block(1, False, 6).build())]))
        self.assertEqual((len(second.payload), second.first(things.ETAG)), (476, first.first(things.ETAG)))
        self.assertEqual(len(self.node.handler.requests), 1)

    def test_repeated(self) -> None:
        """The same datagram twice is one request."""
        self.assertEqual(len(self.ask(get(mtype=things.NON))), 1)
        self.assertEqual(self.ask(get(mtype=things.NON)), [])

    def test_ipv4(self) -> None:
        """An IPv4 group is a group."""
        node = Node(listen=(("127.0.0.1", 5683),))
        node.handler.answer = errors.NoSuchResource("/x")
        self.assertEqual(node.receive(get(mtype=things.NON), ("127.0.0.2", 5683), "224.0.1.187"), [])
        self.assertEqual(len(node.receive(get(mid=2, mtype=things.NON), ("127.0.0.2", 5683), "127.0.0.1")), 1)
        node.stop()
