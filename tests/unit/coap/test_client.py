"""Requests of this node to servers, on the in-memory network: the other side is this program's server, or a port that does as told."""

from __future__ import annotations

import random

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import Block
from m2mapp.coap.message import Message, build, empty, parse, uint
from m2mapp.coap.parameters import Limits
from m2mapp.coap.service import CoapService, make_context
from m2mapp.coap.transmission import Repeats
from m2mapp.model import errors
from m2mapp.model.messages import Answer, Method, Outgoing, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagramReceiver, Sockaddr
from m2mapp.net.medium import Quality
from m2mapp.net.memory import MemoryDatagrams
from tests.simulation import Simulation, seeded
from tests.unit.coap.fakes import CONTENT, FakeHandler, collect

SERVER: Sockaddr = ("fd00::d1", 5683, 0, 0)
URI = "coap://[fd00::d1]/temperature"


def start(
    simulation: Simulation, datagrams: MemoryDatagrams, host: str, handler: FakeHandler, limits: Limits | None = None, seed: int = 1
) -> CoapService:
    """A running CoAP service on a node of the network."""
    context = make_context(simulation.scheduler, Metrics(), random.Random(seed), limits=limits)
    service = CoapService(((host, 5683),), ("lan",), datagrams, handler, handler.principals, context)
    service.startService()
    return service


@implementer(IDatagramReceiver)
class Scripted:
    """A server that answers each message as a function says, from the address of `SERVER`."""

    def __init__(self, simulation: Simulation, datagrams: MemoryDatagrams) -> None:
        self.received: list[Message] = []
        self.answers: list[list[Message]] = []
        self.port = datagrams.open_port("fd00::d1", 5683, self)

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        message = parse(data)
        self.received.append(message)
        if message.code and self.answers:
            for answer in self.answers.pop(0):
                mid = message.mid if answer.mtype in (things.ACK, things.RST) else answer.mid
                token = answer.token or (message.token if answer.code else b"")
                self.port.send(build(answer._replace(mid=mid, token=token)), source)


class ClientCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.simulation = Simulation(1)
        self.build(self.simulation)

    def build(self, simulation: Simulation, limits: Limits | None = None) -> None:
        """A gateway whose client is tested, and a device."""
        self.simulation = simulation
        self.scheduler = simulation.scheduler
        self.gateway = simulation.network.attach("gw", {"lan": ["fd00::1/64", "fe80::1/64"]})
        self.device = simulation.network.attach("d1", {"lan": ["fd00::d1/64", "fe80::d1/64"]})
        self.other = simulation.network.attach("d2", {"lan": ["fd00::bad/64"]})
        self.service = start(simulation, self.gateway, "::", FakeHandler(), limits)
        self.client = self.service.client

    def serve(self, answer: object, host: str = "fd00::d1") -> FakeHandler:
        """Let the device serve."""
        handler = FakeHandler()
        handler.answer = answer
        self.server = start(self.simulation, self.device, host, handler, seed=2)
        return handler

    def ask(self, outgoing: Outgoing, **how: object) -> Answer:
        """The answer to a request."""
        return self.scheduler.run_until_fired(self.client.request(outgoing, **how))  # type: ignore[arg-type]

    def nothing_left(self) -> None:
        """No token, no transmission, no queue is left in the client."""
        self.assertEqual(len(self.service.endpoint.tokens), 0)
        for layer in self.service.endpoint.layers:
            for peer in layer.peers.all():
                self.assertEqual((peer.sending, len(peer.waiting), peer.outstanding), ({}, 0, 0))


class AnswerTests(ClientCase):
    def test_get(self) -> None:
        """The answer has code, content, media type, ETag, source and the time that it took."""
        handler = self.serve(CONTENT)
        answer = self.ask(Outgoing(Method.GET, URI + "?unit=c&max", accept="text/plain"))
        self.assertEqual(answer, Answer("2.05", b"21.5", "text/plain;charset=utf-8", "fd00::d1", 5683, answer.elapsed_s, None, b"\x01\x02"))
        self.assertAlmostEqual(answer.elapsed_s, 0.002)
        asked = handler.requests[0]
        self.assertEqual((asked.method, asked.path, asked.query), (Method.GET, ("temperature",), (("unit", "c"), ("max", ""))))
        self.assertEqual((asked.accept, asked.source), (("text/plain;charset=utf-8",), ("fd00::1", 5683)))
        self.nothing_left()
        self.assertAlmostEqual(self.client.rtt_s(SERVER) or 0.0, 0.002)

    def test_post(self) -> None:
        """Payload, media type, identifier, cause and the time that remains arrive; a location comes back."""
        handler = self.serve(Response(Status.CREATED, location=("rd", "a b")))
        outgoing = Outgoing(
            Method.POST, URI, b"{}", "application/json", timeout_s=4.0, request_id=b"12345678", cause=("/a", "/b"), requester=b"abcdefgh"
        )
        self.assertEqual(self.ask(outgoing).location, "/rd/a%20b")
        asked = handler.requests[0]
        self.assertEqual((asked.method, asked.payload, asked.content_type), (Method.POST, b"{}", "application/json"))
        self.assertEqual((asked.request_id, asked.requester, asked.cause), (b"12345678", b"abcdefgh", ("/a", "/b")))
        self.assertAlmostEqual(asked.deadline or 0.0, 4.0, 1)

    def test_every_method(self) -> None:
        """Each method arrives as itself."""
        handler = self.serve(CONTENT)
        for method in Method:
            self.ask(Outgoing(method, URI))
        self.assertEqual([asked.method for asked in handler.requests], list(Method))

    def test_non_confirmable(self) -> None:
        """A non-confirmable request is answered by a non-confirmable response."""
        self.serve(CONTENT)
        self.assertEqual(self.ask(Outgoing(Method.GET, URI), confirmable=False).code, "2.05")
        self.nothing_left()

    def test_error(self) -> None:
        """An error of the server is an answer."""
        self.serve(errors.NoSuchResource("/x"))
        answer = self.ask(Outgoing(Method.GET, URI))
        self.assertEqual((answer.code, answer.ok), ("4.04", False))

    def test_separate(self) -> None:
        """A response that comes after the acknowledgement is taken and acknowledged; the server repeats nothing."""
        result: Deferred[Response] = Deferred()
        self.serve(result)
        answer = collect(self.client.request(Outgoing(Method.GET, URI)))
        self.scheduler.advance(10)
        result.callback(CONTENT)
        self.scheduler.advance(1)
        self.assertEqual([found.code for found in answer if isinstance(found, Answer)], ["2.05"])
        self.assertEqual(self.server.endpoint.layers[0].peers.all()[0].sending, {})
        self.nothing_left()

    def test_zone(self) -> None:
        """A link-local address with its zone is reached, by name and by index, and is told with the zone's name."""
        self.serve(CONTENT, "::")
        index = self.gateway.interface_index("lan")
        for uri in ("coap://[fe80::d1%25lan]/x", f"coap://[fe80::d1%25{index}]:5683/x"):
            self.assertEqual(self.ask(Outgoing(Method.GET, uri)).source, "fe80::d1%lan")

    def test_remote_given(self) -> None:
        """With an address from elsewhere, the URI's name goes along as Uri-Host; the address may be written in any way."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.ACK, things.CONTENT, 0)]]
        self.ask(Outgoing(Method.GET, "coap://d1.example.org:61616/x"), remote=("FD00:0::D1", 5683, 0, 0))
        self.assertEqual(scripted.received[0].first(things.URI_HOST), b"d1.example.org")
        self.assertEqual(scripted.received[0].first(things.URI_PORT), uint(61616))

    def test_tokens(self) -> None:
        """Tokens are of 8 bytes and differ."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.ACK, things.CONTENT, 0)] for _ in range(20)]
        for _ in range(20):
            self.ask(Outgoing(Method.GET, URI))
        self.assertEqual({len(message.token) for message in scripted.received}, {8})
        self.assertEqual(len({message.token for message in scripted.received}), 20)


class FailureTests(ClientCase):
    def test_reset(self) -> None:
        """A Reset fails the request at once, also one of a non-confirmable request."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.RST, 0, 0)], [Message(things.RST, 0, 0)]]
        for confirmable in (True, False):
            failed = self.assertRaises(errors.PeerFailed, self.ask, Outgoing(Method.GET, URI), confirmable=confirmable)
            self.assertIn("Reset", failed.detail)
        self.nothing_left()

    def test_never_acknowledged(self) -> None:
        """A device that is switched off: given up after the repeats, if the caller waits as long."""
        failed = self.assertRaises(errors.PeerFailed, self.ask, Outgoing(Method.GET, URI, timeout_s=200))
        self.assertIn("acknowledge", failed.detail)
        self.assertGreater(self.scheduler.seconds(), 61)
        self.nothing_left()

    def test_own_repeats(self) -> None:
        """A caller that repeats by itself has one datagram sent, and is told soon."""
        scripted = Scripted(self.simulation, self.device)
        self.assertRaises(errors.PeerFailed, self.ask, Outgoing(Method.GET, URI), repeats=Repeats(0.2, 0))
        self.assertEqual(len(scripted.received), 1)
        self.assertLess(self.scheduler.seconds(), 0.31)

    def test_too_late(self) -> None:
        """After its time the request fails, and a late answer is reset."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.ACK, 0, 0)]]
        self.assertRaises(errors.DeadlinePassed, self.ask, Outgoing(Method.GET, URI, timeout_s=3))
        self.assertAlmostEqual(self.scheduler.seconds(), 3.0)
        self.nothing_left()
        scripted.port.send(build(Message(things.CON, things.CONTENT, 77, scripted.received[0].token)), ("fd00::1", 5683, 0, 0))
        self.scheduler.advance(1)
        self.assertEqual(scripted.received[-1], Message(things.RST, 0, 77))

    def test_answer_from_elsewhere(self) -> None:
        """An answer with the right token from another host or port is not taken."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.ACK, 0, 0)]]
        stranger = self.other.open_port("fd00::bad", 5683, scripted)
        other_port = self.device.open_port("fd00::d1", 5684, scripted)
        answer = collect(self.client.request(Outgoing(Method.GET, URI)))
        self.scheduler.advance(0.1)
        forged = build(Message(things.NON, things.CONTENT, 9, scripted.received[0].token, (), b"forged"))
        for port in (stranger, other_port):
            port.send(forged, ("fd00::1", 5683, 0, 0))
        self.scheduler.advance(1)
        self.assertEqual(answer, [])
        scripted.port.send(build(Message(things.NON, things.CONTENT, 9, scripted.received[0].token, (), b"true")), ("fd00::1", 5683, 0, 0))
        self.scheduler.advance(1)
        self.assertEqual([found.payload for found in answer if isinstance(found, Answer)], [b"true"])

    def test_unknown_critical_option(self) -> None:
        """An answer with a critical option that is not known is no answer."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.ACK, things.CONTENT, 0, b"", ((9, b""),), b"x")]]
        self.assertIn("critical option 9", self.assertRaises(errors.PeerFailed, self.ask, Outgoing(Method.GET, URI)).detail)
        self.nothing_left()

    def test_cancelled(self) -> None:
        """A request that is cancelled leaves nothing behind."""
        request = self.client.request(Outgoing(Method.GET, URI))
        request.cancel()
        self.failureResultOf(request, CancelledError)
        self.nothing_left()

    def test_stopped(self) -> None:
        """Stopping fails what is under way, acknowledged or not; asking later fails at once; nothing stays pending."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.ACK, 0, 0)]]
        acknowledged = self.client.request(Outgoing(Method.GET, URI))
        self.scheduler.advance(0.1)
        waiting = [self.client.request(Outgoing(Method.GET, URI), confirmable=confirmable) for confirmable in (True, True, False)]
        self.successResultOf(self.service.stopService())
        for request in (acknowledged, *waiting, self.client.request(Outgoing(Method.GET, URI))):
            self.failureResultOf(request, errors.PeerFailed)
        self.scheduler.advance(1)
        self.assertEqual(self.scheduler.getDelayedCalls(), [])

    def test_bad_uris(self) -> None:
        """A URI that is none, or whose host is a name, is refused with the reason; so is an interface that is not there."""
        for uri in (
            "http://[fd00::1]/x",
            "coap://d1.example.org/x",
            "coap:///x",
            "coap://[fd00::1]:0/x",
            "coap://[fd00::1",
            "coap://1.2.3.4/x#f",
        ):
            self.failureResultOf(self.client.request(Outgoing(Method.GET, uri)), errors.Malformed)
        self.failureResultOf(self.client.request(Outgoing(Method.GET, "coap://[fe80::1%25eth9]/x")), errors.PeerFailed)
        self.failureResultOf(self.client.request(Outgoing(Method.GET, URI, accept="a/b")), errors.NotSupported)
        self.nothing_left()

    def test_no_port_of_the_family(self) -> None:
        """An IPv4 address cannot be reached by an IPv6 port."""
        self.failureResultOf(self.client.request(Outgoing(Method.GET, "coap://192.0.2.1/x")), errors.PeerFailed)
        self.assertIsNone(self.client.rtt_s(("192.0.2.1", 5683)))

    def test_too_many(self) -> None:
        """More requests than may be under way are refused at once; so is a queue for one peer that is too long."""
        self.build(Simulation(2), Limits(awaited=5, waiting_per_peer=3))
        requests = [self.client.request(Outgoing(Method.GET, URI)) for _ in range(6)]
        self.failureResultOf(requests[5], errors.Overloaded)
        self.failureResultOf(requests[4], errors.Overloaded)
        self.service.stopService()
        for request in requests[:4]:
            self.failureResultOf(request, errors.PeerFailed)


class BlockTests(ClientCase):
    def test_large_both_ways(self) -> None:
        """A payload of many blocks goes, an answer of many blocks comes; the server is asked once."""
        handler = self.serve(lambda asked: Response(Status.CONTENT, asked.payload[::-1], "application/octet-stream"))
        payload = bytes(index % 251 for index in range(70_000))
        answer = self.ask(Outgoing(Method.POST, URI, payload, "application/octet-stream", timeout_s=60))
        self.assertEqual((answer.code, answer.payload), ("2.04", payload[::-1]))
        self.assertEqual([asked.payload for asked in handler.requests], [payload])
        self.nothing_left()

    def test_exact_sizes(self) -> None:
        """Payloads around a block's end arrive as they are."""
        handler = self.serve(lambda asked: Response(Status.CONTENT, asked.payload, "application/octet-stream"))
        for size in (0, 1, 1023, 1024, 1025, 2047, 2048, 2049):
            self.assertEqual(len(self.ask(Outgoing(Method.POST, URI, b"x" * size)).payload), size)
        self.assertEqual([len(asked.payload) for asked in handler.requests], [0, 1, 1023, 1024, 1025, 2047, 2048, 2049])

    def _upload_in_smaller_blocks(self, first: Message, later: int) -> list[Message]:
        """Put 1300 bytes to a server that asks for blocks of 512 at once; what it received."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[first], *[[Message(things.ACK, things.CONTINUE, 0)]] * later, [Message(things.ACK, things.CHANGED, 0)]]
        self.assertEqual(self.ask(Outgoing(Method.PUT, URI, bytes(range(100)) * 13)).code, "2.04")
        blocks = [Block.parse(message.first(things.BLOCK1) or b"", "Block1") for message in scripted.received]
        self.assertEqual([block.exponent for block in blocks], [6] + [5] * (len(blocks) - 1))
        self.assertEqual([block.more for block in blocks], [True] * (len(blocks) - 1) + [False])
        return scripted.received

    def test_smaller_blocks_from_now_on(self) -> None:
        """A server that took a large block and wants smaller ones gets these (RFC 7959, section 2.3)."""
        smaller = ((things.BLOCK1, Block(0, True, 5).build()),)
        received = self._upload_in_smaller_blocks(Message(things.ACK, things.CONTINUE, 0, b"", smaller), 0)
        self.assertEqual(b"".join(message.payload for message in received), bytes(range(100)) * 13)

    def test_smaller_blocks_from_the_beginning(self) -> None:
        """A server that did not take a large block gets the whole in smaller ones (RFC 7959, section 2.9.3)."""
        smaller = ((things.BLOCK1, Block(0, True, 5).build()),)
        received = self._upload_in_smaller_blocks(Message(things.ACK, things.REQUEST_ENTITY_TOO_LARGE, 0, b"", smaller), 2)
        self.assertEqual(b"".join(message.payload for message in received[1:]), bytes(range(100)) * 13)

    def test_refused_upload(self) -> None:
        """A server that refuses the first block is heard, and gets no other."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.ACK, things.FORBIDDEN, 0)]]
        self.assertEqual(self.ask(Outgoing(Method.PUT, URI, b"x" * 5000)).code, "4.03")
        self.assertEqual(len(scripted.received), 1)
        self.assertEqual(scripted.received[0].first(things.SIZE1), uint(5000))

    def _block(self, number: int, more: bool, payload: bytes, etag: bytes) -> list[Message]:
        options = ((things.ETAG, etag), (things.BLOCK2, Block(number, more, 0).build()))
        return [Message(things.ACK, things.CONTENT, 0, b"", options, payload)]

    def test_changed_while_fetched(self) -> None:
        """A representation that changes between two blocks is fetched from its beginning (RFC 7959, section 2.4)."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [
            self._block(0, True, b"a" * 16, b"1"),
            self._block(1, False, b"b", b"2"),
            self._block(0, True, b"c" * 16, b"2"),
            self._block(1, False, b"d", b"2"),
        ]
        self.assertEqual(self.ask(Outgoing(Method.GET, URI)).payload, b"c" * 16 + b"d")

    def test_always_changing(self) -> None:
        """One that changes all the time is given up."""
        scripted = Scripted(self.simulation, self.device)
        for turn in range(10):
            scripted.answers += [self._block(0, True, b"a" * 16, b"%d" % turn), self._block(1, True, b"b" * 16, b"x%d" % turn)]
        self.assertRaises(errors.PeerFailed, self.ask, Outgoing(Method.GET, URI))
        self.nothing_left()

    def test_bad_blocks(self) -> None:
        """Blocks out of order, of a wrong size, or of a reserved size end the request."""
        scripted = Scripted(self.simulation, self.device)
        for first in (self._block(3, True, b"a" * 16, b"1"), self._block(0, True, b"a" * 15, b"1")):
            scripted.answers = [first]
            self.assertRaises(errors.PeerFailed, self.ask, Outgoing(Method.GET, URI))
        scripted.answers = [[Message(things.ACK, things.CONTENT, 0, b"", ((things.BLOCK2, b"\x0f"),), b"x")]]
        self.assertRaises(errors.PeerFailed, self.ask, Outgoing(Method.GET, URI))
        self.nothing_left()

    def test_endless_answer(self) -> None:
        """An answer that never ends is given up at the limit."""
        self.build(Simulation(2), Limits(payload_bytes=200))
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [self._block(number, True, b"x" * 16, b"1") for number in range(100)]
        self.assertRaises(errors.AnswerTooLarge, self.ask, Outgoing(Method.GET, URI))
        self.assertEqual(len(scripted.received), 13)
        self.nothing_left()
        self.assertEqual(self.service.endpoint.room.taken, 0)

    def test_an_answer_that_is_said_to_be_too_large(self) -> None:
        """The first block of one whose Size2 is over the limit is the last that is fetched (RFC 7959, section 4)."""
        scripted = Scripted(self.simulation, self.device)
        options = ((things.BLOCK2, Block(0, True, 6).build()), (things.SIZE2, uint(100 << 20)))
        scripted.answers = [[Message(things.ACK, things.CONTENT, 0, b"", options, b"x" * 1024)]]
        self.assertRaises(errors.AnswerTooLarge, self.ask, Outgoing(Method.GET, URI))
        self.assertEqual(len(scripted.received), 1)
        self.nothing_left()

    def test_no_room_for_answers(self) -> None:
        """All answers that are fetched in blocks share a room: one that finds none ends, what it held is given back, others go on."""
        self.build(Simulation(2), Limits(answers_bytes=100))
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [self._block(number, True, b"x" * 16, b"1") for number in range(100)]
        self.assertRaises(errors.Overloaded, self.ask, Outgoing(Method.GET, URI))
        self.assertEqual((len(scripted.received), self.service.endpoint.room.taken), (7, 0))
        scripted.answers = [self._block(0, True, b"a" * 16, b"1"), self._block(1, False, b"b", b"1")]
        self.assertEqual(self.ask(Outgoing(Method.GET, URI)).payload, b"a" * 16 + b"b")
        self.nothing_left()


class LossTests(SynchronousTestCase):
    @seeded(10)
    def test_one_datagram_in_five_lost(self, simulation: Simulation) -> None:
        """Under loss, repetition and reordering every request is answered, and each POST is acted on exactly once."""
        case = ClientCase()
        case.build(simulation)
        simulation.network.set_quality(Quality(loss=0.2, delay_s=(0.001, 0.05), repetition=0.1, reordering=0.2))
        repeats = Repeats(0.05, 11)  # the RFC's four would leave one in 170 unanswered; these one in 200,000
        handler = case.serve(lambda asked: Response(Status.CHANGED, asked.payload, "text/plain"))
        answers = [
            collect(case.client.request(Outgoing(Method.POST, URI, b"%d" % index, timeout_s=3600), repeats=repeats)) for index in range(40)
        ]
        simulation.scheduler.advance(3600)
        self.assertEqual([found[0].payload for found in answers if isinstance(found[0], Answer)], [b"%d" % index for index in range(40)])
        self.assertEqual(sorted(asked.payload for asked in handler.requests), sorted(b"%d" % index for index in range(40)))
        case.nothing_left()

    @seeded(5)
    def test_blocks_under_loss(self, simulation: Simulation) -> None:
        """Block-wise transfer both ways survives loss, and the write is one write."""
        case = ClientCase()
        case.build(simulation)
        simulation.network.set_quality(Quality(loss=0.1, delay_s=(0.001, 0.02), repetition=0.1))
        handler = case.serve(lambda asked: Response(Status.CONTENT, asked.payload, "application/octet-stream"))
        payload = bytes(index % 253 for index in range(9000))
        put = Outgoing(Method.PUT, URI, payload, timeout_s=3000)
        answer = simulation.scheduler.run_until_fired(case.client.request(put, repeats=Repeats(0.05, 11)))
        self.assertEqual((answer.payload, len(handler.requests)), (payload, 1))


class OptionTests(ClientCase):
    def test_no_deadline_for_plain_requests(self) -> None:
        """A constrained device is not sent the deadline of a request that belongs to no group operation."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.ACK, things.CONTENT, 0)]]
        self.ask(Outgoing(Method.GET, URI))
        self.assertEqual([number for number, _ in scripted.received[0].options], [things.URI_PATH])
        self.assertIsNone(scripted.received[0].first(numbers.DEADLINE))

    def test_answer_before_the_acknowledgement(self) -> None:
        """A separate response whose acknowledgement was lost ends the repeats (RFC 7252, section 5.2.2)."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[Message(things.CON, things.CONTENT, 9)]]
        self.assertEqual(self.ask(Outgoing(Method.GET, URI)).code, "2.05")
        self.scheduler.advance(100)
        self.assertEqual([build(message)[:2] for message in scripted.received[1:]], [empty(things.ACK, 9)[:2]])
        self.nothing_left()
