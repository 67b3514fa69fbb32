"""Requests of this node to groups, on the in-memory network."""

from __future__ import annotations

import random

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import Block
from m2mapp.coap.gather import Gathering
from m2mapp.coap.message import Message, build, parse, uint
from m2mapp.coap.service import CoapService, make_context
from m2mapp.model import errors
from m2mapp.model.interfaces import IGathering, IGroupSender
from m2mapp.model.messages import Answer, GroupOutgoing, Method, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagramReceiver, Sockaddr
from m2mapp.net.memory import MemoryPort
from tests.simulation import Simulation
from tests.unit.coap.fakes import GROUP, FakeHandler, FakePrincipals, Node

ASK = GroupOutgoing(Method.GET, GROUP, ("lamps", "state"), query=(("unit", "c"), ("max", "")))


@implementer(IDatagramReceiver)
class Recorder:
    """A member that answers nothing by itself."""

    def __init__(self) -> None:
        self.received: list[tuple[Message, Sockaddr]] = []

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        self.received.append((parse(data), source))


class GatherCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.simulation = Simulation(1)
        self.scheduler = self.simulation.scheduler
        gateway = self.simulation.network.attach("gw", {"lan": ["fd00::1/64", "fe80::1/64"], "lan2": ["fd02::1/64"]})
        self.metrics = Metrics()
        self.context = make_context(self.scheduler, self.metrics, random.Random(1))
        self.service = CoapService((("::", 5683),), ("lan", "lan2"), gateway, FakeHandler(), FakePrincipals(), self.context)
        self.service.startService()
        self.answers: list[Answer] = []
        self.handlers: list[FakeHandler] = []

    def tearDown(self) -> None:
        self.service.stopService()

    def member(self, index: int, answer: object, link: str = "lan") -> FakeHandler:
        """A member with this program's server, which joined the group."""
        prefix = "fd00" if link == "lan" else "fd02"
        datagrams = self.simulation.network.attach(f"d{index}", {link: [f"{prefix}::d{index}/64"]})
        handler = FakeHandler()
        handler.answer = answer
        context = make_context(self.scheduler, Metrics(), random.Random(index))
        service = CoapService(((f"{prefix}::d{index}", 5683),), (link,), datagrams, handler, handler.principals, context)
        service.startService()
        service.join(GROUP)
        return handler

    def foreign(self, index: int) -> tuple[Recorder, MemoryPort]:
        """A member that a test speaks for."""
        datagrams = self.simulation.network.attach(f"d{index}", {"lan": [f"fd00::d{index}/64"]})
        recorder = Recorder()
        port = datagrams.open_port(f"fd00::d{index}", 5683, recorder)
        port.join(GROUP, datagrams.interface_index("lan"))
        return recorder, port

    def send(self, outgoing: GroupOutgoing = ASK) -> Gathering:
        """Send, and collect the answers."""
        return self.service.send_to_group(outgoing, self.answers.append)

    def sources(self) -> list[str]:
        """Who answered."""
        return sorted(answer.source for answer in self.answers)


def told(payload: bytes) -> Response:
    """An answer that does not wait."""
    return Response(Status.CONTENT, payload, "text/plain", leisure_s=0.0)


class GatherTests(GatherCase):
    def test_interfaces(self) -> None:
        """The service is a group sender, and what it returns a gathering."""
        self.assertTrue(verifyObject(IGroupSender, self.service))
        self.assertTrue(verifyObject(IGathering, self.send()))

    def test_many_answers(self) -> None:
        """One datagram for each interface; the answers of all members on both, with source, port and time."""
        for index in range(1, 6):
            self.member(index, told(b"%d" % index))
        self.member(6, told(b"6"), "lan2")
        gathering = self.send()
        self.scheduler.advance(1)
        self.assertEqual(gathering.sent, 2)
        self.assertEqual(self.sources(), ["fd00::d1", "fd00::d2", "fd00::d3", "fd00::d4", "fd00::d5", "fd02::d6"])
        self.assertEqual({answer.payload for answer in self.answers}, {b"%d" % index for index in range(1, 7)})
        self.assertEqual({answer.port for answer in self.answers}, {5683})
        self.assertTrue(all(0 < answer.elapsed_s < 0.1 for answer in self.answers))

    def test_what_is_asked(self) -> None:
        """A non-confirmable message with path, query, format, identifier, cause, deadline and an empty No-Response, in their order."""
        recorder, _ = self.foreign(1)
        self.send(
            GroupOutgoing(
                Method.PUT,
                GROUP,
                ("a", "b"),
                query=(("x", "1"), ("y", "")),
                payload=b"{}",
                content_type="application/json",
                accept="application/cbor",
                interfaces=("lan",),
                lifetime_s=5.0,
                tell_deadline=True,
                request_id=b"12345678",
                cause=("/op",),
            )
        )
        self.scheduler.advance(1)
        ((message, _),) = recorder.received
        self.assertEqual((message.mtype, message.code, message.payload, len(message.token)), (things.NON, things.PUT, b"{}", 8))
        self.assertEqual(
            message.options,
            (
                (things.URI_PATH, b"a"),
                (things.URI_PATH, b"b"),
                (things.CONTENT_FORMAT, b"\x32"),
                (things.URI_QUERY, b"x=1"),
                (things.URI_QUERY, b"y"),
                (things.ACCEPT, b"\x3c"),
                (numbers.NO_RESPONSE, b""),
                (numbers.REQUEST_ID, b"12345678"),
                (numbers.CAUSE, b"/op"),
                (numbers.DEADLINE, b"\x13\x88"),
            ),
        )

    def test_errors_and_empty_successes_come(self) -> None:
        """Because of the empty No-Response a member says also that it failed, or that there is nothing to say."""
        self.member(1, Response(Status.CHANGED, leisure_s=0.0))
        self.member(2, errors.NoSuchResource("/x"))
        self.member(3, succeed(None))
        self.send()
        self.scheduler.advance(6)
        self.assertEqual(sorted((answer.source, answer.code) for answer in self.answers), [("fd00::d1", "2.04"), ("fd00::d2", "4.04")])

    def test_repeated_answers(self) -> None:
        """A second answer of the same source is handed on too: who gathers counts it."""
        recorder, port = self.foreign(1)
        self.send()
        self.scheduler.advance(0.1)
        message, source = recorder.received[0]
        for mid in (1, 2):
            port.send(build(Message(things.NON, things.CONTENT, mid, message.token, (), b"x")), source)
        self.scheduler.advance(1)
        self.assertEqual(self.sources(), ["fd00::d1", "fd00::d1"])

    def test_confirmable_answers(self) -> None:
        """A member that answers by a confirmable message is acknowledged, in time and late, and is not reset."""
        recorder, port = self.foreign(1)
        gathering = self.send()
        self.scheduler.advance(0.1)
        message, source = recorder.received.pop()
        port.send(build(Message(things.CON, things.CONTENT, 1, message.token, (), b"x")), source)
        self.scheduler.advance(0.1)
        gathering.close()
        gathering.close()
        self.scheduler.advance(140)
        port.send(build(Message(things.CON, things.CONTENT, 2, message.token, (), b"late")), source)
        self.scheduler.advance(1)
        self.assertEqual([answer for answer, _ in recorder.received], [Message(things.ACK, 0, 1), Message(things.ACK, 0, 2)])
        self.assertEqual([answer.payload for answer in self.answers], [b"x"])
        self.assertEqual(self.context.counters.late.value, 1)

    def test_token_is_given_back(self) -> None:
        """The token stays taken for NON_LIFETIME after the end, then it is free, and a late answer is reset."""
        recorder, port = self.foreign(1)
        self.send(GroupOutgoing(Method.GET, GROUP, ("x",), lifetime_s=2.0))
        self.scheduler.advance(146)
        self.assertEqual(len(self.service.endpoint.tokens), 1)
        self.scheduler.advance(2)
        self.assertEqual(len(self.service.endpoint.tokens), 0)
        message, source = recorder.received.pop()
        port.send(build(Message(things.CON, things.CONTENT, 2, message.token, (), b"late")), source)
        self.scheduler.advance(1)
        self.assertEqual([answer for answer, _ in recorder.received], [Message(things.RST, 0, 2)])

    def test_other_token(self) -> None:
        """An answer with another token is nobody's."""
        recorder, port = self.foreign(1)
        self.send()
        self.scheduler.advance(0.1)
        _, source = recorder.received[0]
        port.send(build(Message(things.NON, things.CONTENT, 1, b"12345678", (), b"x")), source)
        self.scheduler.advance(1)
        self.assertEqual((self.answers, self.context.counters.unexpected.value), ([], 1))

    def test_two_at_once(self) -> None:
        """Two requests to one group at a time are told apart."""
        self.member(1, lambda asked: told(asked.path[0].encode()))
        first: list[Answer] = []
        second: list[Answer] = []
        self.service.send_to_group(GroupOutgoing(Method.GET, GROUP, ("one",)), first.append)
        self.service.send_to_group(GroupOutgoing(Method.GET, GROUP, ("two",)), second.append)
        self.scheduler.advance(1)
        self.assertEqual([[answer.payload for answer in found] for found in (first, second)], [[b"one"], [b"two"]])

    def test_a_consumer_that_raises(self) -> None:
        """What the one who gathers raises is logged; the next answer is handed on."""
        for index in (1, 2):
            self.member(index, told(b"x"))

        def consume(answer: Answer) -> None:
            self.answers.append(answer)
            raise ZeroDivisionError

        self.service.send_to_group(ASK, consume)
        self.scheduler.advance(1)
        self.assertEqual(self.sources(), ["fd00::d1", "fd00::d2"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_zone(self) -> None:
        """A link-local source is told with its zone."""
        datagrams = self.simulation.network.attach("d9", {"lan": ["fe80::d9/64"]})
        recorder = Recorder()
        port = datagrams.open_port("fe80::d9%lan", 5683, recorder)
        port.join("ff02::1234", datagrams.interface_index("lan"))
        self.send(GroupOutgoing(Method.GET, "ff02::1234", ("x",), interfaces=("lan",)))
        self.scheduler.advance(1)
        message, source = recorder.received[0]
        port.send(build(Message(things.NON, things.CONTENT, 1, message.token, (), b"x")), source)
        self.scheduler.advance(1)
        self.assertEqual(self.sources(), ["fe80::d9%lan"])


class BlockTests(GatherCase):
    def test_large_answers(self) -> None:
        """A member's large answer is fetched block by block from that member alone, and handed on whole; it acts once."""
        handlers = [self.member(index, told(b"%d" % index * 5000)) for index in (1, 2)]
        self.member(3, told(b"3"))
        self.send()
        self.scheduler.advance(5)
        sizes = {answer.source: len(answer.payload) for answer in self.answers}
        self.assertEqual(sizes, {"fd00::d1": 5000, "fd00::d2": 5000, "fd00::d3": 1})
        self.assertEqual([len(handler.requests) for handler in handlers], [1, 1])
        self.assertEqual(len(self.service.endpoint.tokens), 1)

    def test_blocks_that_come_late(self) -> None:
        """An answer whose last block comes when the request is closed is counted as late."""
        recorder, port = self.foreign(1)
        gathering = self.send()
        self.scheduler.advance(0.1)
        message, source = recorder.received[0]
        block = Message(things.NON, things.CONTENT, 1, message.token, ((things.BLOCK2, Block(0, True, 0).build()),), b"x" * 16)
        port.send(build(block), source)
        self.scheduler.advance(0.1)
        gathering.close()
        asked = recorder.received[1][0]
        self.assertEqual((asked.mtype, asked.first(things.BLOCK2)), (things.CON, Block(1, False, 0).build()))
        self.assertIsNone(asked.first(numbers.NO_RESPONSE))
        last = Message(things.ACK, things.CONTENT, asked.mid, asked.token, ((things.BLOCK2, Block(1, False, 0).build()),), b"y")
        port.send(build(last), source)
        self.scheduler.advance(0.1)
        self.assertEqual((self.answers, self.context.counters.late.value), ([], 1))

    def test_an_answer_that_is_too_large(self) -> None:
        """A member whose answer has more than is taken is handed on as one that a gateway could not take, once."""
        recorder, port = self.foreign(1)
        self.send()
        self.scheduler.advance(0.1)
        message, source = recorder.received[0]
        options = ((things.BLOCK2, Block(0, True, 6).build()), (things.SIZE2, uint(100 << 20)))
        for mid in (1, 2):
            port.send(build(Message(things.NON, things.CONTENT, mid, message.token, options, b"x" * 1024)), source)
            self.scheduler.advance(0.1)
        found = [(answer.code, answer.source, answer.payload) for answer in self.answers]
        said = b"fd00::d1 answered with more than 1048576 bytes"
        self.assertEqual(found[0], ("5.02", "fd00::d1", said))
        self.assertEqual(len(recorder.received), 1)

    def test_answers_that_are_none(self) -> None:
        """An answer with an unknown critical option or a reserved block size is not handed on, and is reset if it can be."""
        recorder, port = self.foreign(1)
        self.send()
        self.scheduler.advance(0.1)
        message, source = recorder.received.pop()
        for mid, option in enumerate(((9, b""), (things.BLOCK2, b"\x07"))):
            port.send(build(Message(things.CON, things.CONTENT, mid, message.token, (option,), b"x")), source)
        self.scheduler.advance(1)
        self.assertEqual([answer for answer, _ in recorder.received], [Message(things.RST, 0, 0), Message(things.RST, 0, 1)])
        self.assertEqual((self.answers, self.context.counters.unexpected.value), ([], 2))

    def test_blocks_that_do_not_come(self) -> None:
        """A member whose other blocks do not come is not handed on: it counts as silent."""
        recorder, port = self.foreign(1)
        self.send(GroupOutgoing(Method.GET, GROUP, ("x",), lifetime_s=5.0))
        self.scheduler.advance(0.1)
        message, source = recorder.received[0]
        first = Message(things.NON, things.CONTENT, 1, message.token, ((things.BLOCK2, Block(0, True, 0).build()),), b"x" * 16)
        port.send(build(first), source)
        port.send(build(first._replace(mid=2)), source)
        self.scheduler.advance(200)
        self.assertEqual((self.answers, len(self.service.endpoint.tokens)), ([], 0))


class RefusalTests(GatherCase):
    def test_too_large(self) -> None:
        """A payload of several blocks cannot go to a group."""
        self.assertRaises(errors.TooLarge, self.send, GroupOutgoing(Method.PUT, GROUP, ("x",), payload=b"x" * 1025))

    def test_no_interface(self) -> None:
        """Where no interface can send, the sender is told, and no token stays taken."""
        self.assertRaises(errors.PeerFailed, self.send, GroupOutgoing(Method.GET, GROUP, ("x",), interfaces=("eth9",)))
        self.assertRaises(errors.PeerFailed, self.send, GroupOutgoing(Method.GET, "224.0.1.187", ("x",)))
        self.assertEqual(len(self.service.endpoint.tokens), 0)

    def test_one_interface_refuses(self) -> None:
        """One interface that cannot send does not keep the other from it."""
        node = Node()
        node.port.refuses.add(1)
        self.assertEqual(node.service.send_to_group(ASK, self.answers.append).sent, 1)
        self.assertEqual([index for _, _, _, index in node.port.groups], [2])
        self.assertEqual(node.stop(), [])

    def test_media_type_without_a_number(self) -> None:
        """A payload whose media type has no Content-Format is refused, not sent as something else."""
        outgoing = GroupOutgoing(Method.PUT, GROUP, ("x",), payload=b"x", content_type="application/x-own")
        self.assertRaises(errors.NotSupported, self.send, outgoing)

    def test_stopped(self) -> None:
        """Stopping ends the gathering; nothing stays pending."""
        gathering = self.send()
        self.service.stopService()
        gathering.close()
        self.scheduler.advance(1)
        self.assertEqual(self.scheduler.getDelayedCalls(), [])
