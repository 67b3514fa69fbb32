"""One source, or forged ones, against a node that others use meanwhile: every table stays bounded, and honest clients are served."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import Block
from m2mapp.coap.message import Message, build, empty, parse, uint
from m2mapp.coap.parameters import Limits
from m2mapp.coap.peers import Peers
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Method, Outgoing, Response, Status
from m2mapp.net.interfaces import Sockaddr
from tests.unit.coap.fakes import CONTENT, GROUP, HERE, OTHER, PEER, Node, collect, get, request

HONEST: Sockaddr = ("fd00::abc", 5683, 0, 0)


def forged(rng: random.Random) -> Sockaddr:
    """Any source in the world."""
    return (f"2001:db8:{rng.randrange(65536):x}:{rng.randrange(65536):x}::1", rng.randrange(1024, 65536), 0, 0)


class FloodCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()
        self.rng = random.Random(9)

    def tearDown(self) -> None:
        self.assertEqual((self.flushLoggedErrors(), self.node.stop()), ([], []))

    @property
    def peers(self) -> Peers:
        """Who the node knows."""
        return self.node.service.endpoint.layers[0].peers

    def give(self, data: Message | bytes, source: Sockaddr, destination: str = HERE) -> None:
        """One datagram."""
        self.node.port.receiver.datagram_received(data if isinstance(data, bytes) else build(data), source, destination, 1)

    def honest(self, mid: int) -> None:
        """An honest client is served."""
        self.assertEqual([answer.code for answer in self.node.receive(get(mid=mid), HONEST)], [things.CONTENT])


class MessageTests(FloodCase):
    def test_one_source(self) -> None:
        """A hundred thousand message IDs of one source, from any of its ports: it is answered at its rate, and holds its share at most."""
        for number in range(100_000):
            self.give(get(mid=number & 0xFFFF), (OTHER[0], 1024 + number % 50, 0, 0))
            if not number % 5_000:
                self.node.clock.advance(0.5)
                self.honest(number // 5_000)
        served = len(self.node.handler.requests)
        self.assertLess(served, 500 * (4 + 11) + 200)
        self.assertLessEqual(self.peers.messages, 32_768)
        self.assertLessEqual(max(len(peer.seen) for peer in self.peers.all()), 1_024)
        self.assertLessEqual(len(self.peers), 52)
        self.assertEqual(self.node.count("over_rate"), 100_000 - (served - 20) - self.node.count("repeated"))

    def test_forged_sources(self) -> None:
        """A flood from forged sources pushes out itself: who was known before keeps its place and its answers."""
        limits = Limits(peers=500, messages=300)
        self.node = Node(limits=limits)
        known: list[Sockaddr] = [(f"fd00::{index:x}", 5683, 0, 0) for index in range(1, 50)]
        for at_s in range(3):
            for source in known:
                self.give(get(mid=at_s), source)
            self.node.clock.advance(6)
        for number in range(3_000):
            self.give(get(mid=number & 0xFFFF, mtype=things.NON), forged(self.rng))
        self.assertLessEqual(len(self.peers), limits.peers)
        self.assertLessEqual(self.peers.messages, limits.messages)
        asked = len(self.node.handler.requests)
        for source in known:
            self.assertEqual([answer.code for answer in self.node.receive(get(mid=2), source)], [things.CONTENT])
        self.assertEqual(len(self.node.handler.requests), asked, "a repetition was taken for a new request")
        self.honest(1)

    def test_a_proven_peer(self) -> None:
        """Who has answered a request of ours is known at once."""
        self.node = Node(limits=Limits(peers=200))
        answered = collect(self.node.service.client.request(Outgoing(Method.GET, "coap://[fd00::d1]/x")))
        (asked,) = self.node.port.take()
        self.node.receive(Message(things.ACK, things.CONTENT, asked.mid, asked.token), PEER)
        self.assertEqual(len(answered), 1)
        for _ in range(1_000):
            self.give(get(mid=1, mtype=things.NON), forged(self.rng))
        peer = self.peers.find(PEER)
        self.assertIsNotNone(peer)
        assert peer is not None
        self.assertEqual((peer.known, peer.proven_until > self.node.clock.seconds()), (True, True))

    def test_replays(self) -> None:
        """A request that is played back from its own address gets the answer that it got, at the source's rate; nothing is done again."""
        self.node.handler.answer = Response(Status.CHANGED)
        for _ in range(5_000):
            self.give(request(things.POST, mid=77), PEER)
        self.assertEqual(len(self.node.handler.requests), 1)
        self.assertLessEqual(len(self.node.port.take()), 500 * 4 + 20)
        self.node.handler.answer = CONTENT
        self.honest(1)

    def test_spoofed_acknowledgements(self) -> None:
        """Acknowledgements, Resets and answers from another host or port, or with a guessed token, end nothing and are no answer."""
        answered = collect(self.node.service.client.request(Outgoing(Method.GET, "coap://[fd00::d1]/x")))
        (asked,) = self.node.port.take()
        elsewhere: tuple[Sockaddr, ...] = (OTHER, ("fd00::d1", 5684, 0, 0), ("fd00::d1", 5683, 0, 7))
        for source in elsewhere:
            for spoofed in (
                empty(things.ACK, asked.mid),
                empty(things.RST, asked.mid),
                build(Message(things.ACK, things.CONTENT, asked.mid, asked.token, (), b"lie")),
                build(Message(things.NON, things.CONTENT, 5, asked.token, (), b"lie")),
                build(Message(things.CON, things.CONTENT, 6, asked.token, (), b"lie")),
            ):
                self.give(spoofed, source)
        for token in range(1_000):
            lie = Message(things.ACK, things.CONTENT, asked.mid, uint(token).rjust(8, b"\0"), (), b"lie")
            self.give(lie, PEER)
            self.give(lie._replace(mtype=things.NON), PEER)
        self.assertEqual(answered, [])
        self.node.receive(Message(things.ACK, things.CONTENT, asked.mid, asked.token, (), b"truth"), PEER)
        self.assertEqual([getattr(answer, "payload", None) for answer in answered], [b"truth"])


class TableTests(FloodCase):
    def upload(self, source: Sockaddr, number: int, mid: int, more: bool = True) -> None:
        """One block of a payload."""
        options = [(things.BLOCK1, Block(number, more, 6).build()), (numbers.REQUEST_TAG, uint(mid))]
        self.give(request(things.PUT, path="up", mid=mid, options=options, payload=b"x" * 1024), source)

    def test_half_finished_uploads(self) -> None:
        """A thousand payloads begun, by one host from many ports or by a network: one that is honest goes on to its end."""
        self.node.handler.answer = Response(Status.CHANGED)
        for number in range(8):
            options = [(things.BLOCK1, Block(number, number < 7, 6).build())]
            self.give(request(things.PUT, mid=number, options=options, payload=b"h" * 1024), ("fd01::7", 5683, 0, 0))
            for index in range(125):
                one = (OTHER[0], 1024 + index, 0, 0)
                many = (f"fd00::{index + 1:x}", 5683, 0, 0)
                self.upload(one if number % 2 else many, 0, number * 125 + index)
        uploads = self.node.service.server.uploads
        self.assertEqual([len(asked.payload) for asked in self.node.handler.requests], [8192])
        self.assertLessEqual(len(uploads), Limits().uploads)
        self.assertEqual(uploads.bytes, len(uploads) * 1024)
        self.node.handler.answer = CONTENT
        self.honest(1)
        for _ in range(10):
            self.node.clock.advance(20)
        self.assertEqual((len(uploads), uploads.bytes), (0, 0))

    def test_forged_uploads(self) -> None:
        """A thousand payloads begun from forged sources take half of the room, since they do not show their address."""
        sources = [forged(self.rng) for _ in range(1_000)]
        self.node.principals.far.update(source[0] for source in sources)
        for mid, source in enumerate(sources):
            self.upload(source, 0, mid)
        self.assertEqual(len(self.node.service.server.uploads), 32)

    def test_kept_answers(self) -> None:
        """Large answers begun to be fetched, from all ports of a host: another's is fetched to its end."""
        self.node.handler.answer = CONTENT._replace(payload=bytes(range(256)) * 16)
        whole = b""
        for number in range(4):
            answers = self.node.receive(get(mid=number, options=[(things.BLOCK2, Block(number, False, 6).build())]), HONEST)
            whole += answers[0].payload
            for port in range(300):
                self.give(get(mid=number), (OTHER[0], 1024 + port, 0, 0))
        self.assertEqual(whole, bytes(range(256)) * 16)
        self.assertLessEqual(len(self.node.service.server.kept), Limits().kept_answers_per_host + 1)
        self.assertEqual(len([one for one in self.node.handler.requests if one.source == ("fd00::abc", 5683)]), 1)

    def test_observers_that_never_answer(self) -> None:
        """A thousand observers that acknowledge nothing are a bounded number, then none; an honest one ends with the newest state."""
        self.node.receive(get(mid=1, options=[(things.OBSERVE, b"")]), HONEST)
        for index in range(1_000):
            self.give(get(mid=2, options=[(things.OBSERVE, b"")]), (f"fd00::{index % 500 + 1:x}", 1024 + index // 500, 0, 0))
        observers = self.node.service.server.observers
        self.assertEqual(len(observers), 1_001)
        told = b""
        for second in range(400):
            if second < 5:
                self.node.handler.answer = CONTENT._replace(etag=bytes([second]))
                self.node.observable.change("temperature")
            for _ in range(4):
                self.node.clock.advance(0.25)
                sent, self.node.port.sent = self.node.port.sent, []
                for data, to, _ in sent:
                    if to == HONEST:
                        message = parse(data)
                        told = message.first(things.ETAG) or b""
                        if message.mtype == things.CON:
                            self.give(empty(things.ACK, message.mid), HONEST)
        self.assertEqual((told, len(observers)), (b"\x04", 1))

    def test_group_requests(self) -> None:
        """Group requests of forged sources leave so many answers waiting and no more."""
        limits = Limits(requests=500)
        self.node = Node(limits=limits)
        self.node.handler.answer = CONTENT._replace(leisure_s=5.0)
        for number in range(1_500):
            self.give(get(mid=number & 0xFFFF, mtype=things.NON), forged(self.rng), GROUP)
        self.assertEqual(self.node.service.server.under_way, limits.requests)
        self.node.clock.advance(5)
        self.assertEqual(self.node.service.server.under_way, 0)


class ProbingTests(FloodCase):
    def ask(self, **how: object) -> list[object]:
        """A request of 60 bytes that waits for two seconds."""
        asked: Deferred[object] = self.node.service.client.request(  # type: ignore[assignment]
            Outgoing(Method.PUT, "coap://[fd00::d1]/" + "x" * 40, timeout_s=2.0),
            **how,  # type: ignore[arg-type]
        )
        found = collect(asked)
        self.node.clock.advance(2.5)
        return found

    def sent(self, seconds: int, **how: object) -> int:
        """How many bytes go to a silent peer that is asked for that long."""
        total = 0
        for _ in range(int(seconds / 2.5)):
            self.ask(**how)
            first = {data[2:4]: data for data, _, _ in self.node.port.sent}
            total += sum(map(len, first.values()))
            self.node.port.sent.clear()
        return total

    def test_a_silent_peer(self) -> None:
        """A peer that answers nothing is sent 2 kB, and then a byte a second (RFC 7252, section 4.7), confirmable or not."""
        for confirmable in (True, False):
            self.node = Node()
            self.assertLess(self.sent(3_000, confirmable=confirmable), 2_048 + 3_000 + 120)
            (failure,) = self.ask(confirmable=confirmable)
            self.assertIn("answers nothing", str(failure))
            self.assertTrue(failure.check(PeerFailed))  # type: ignore[attr-defined]

    def test_heard_again(self) -> None:
        """Once it is heard, by a request of its own or a Reset, it is asked at once."""
        for heard in (get(), None):
            self.sent(3_000)
            if heard is not None:
                self.give(heard, PEER)
            else:
                self.node.clock.advance(247)
                self.node.service.client.request(Outgoing(Method.GET, "coap://[fd00::d1]/x")).addErrback(lambda _: None)
                self.give(empty(things.RST, self.node.port.take()[-1].mid), PEER)
            self.node.port.take()
            for _ in range(5):
                self.ask()
            self.assertEqual(len({message.mid for message in self.node.port.take()}), 5)

    def test_large_requests(self) -> None:
        """However much it was sent, it is asked again after EXCHANGE_LIFETIME, and no other peer waits for that."""
        large = Outgoing(Method.PUT, "coap://[fd00::d1]/x", b"x" * 1024, timeout_s=1.0)
        for _ in range(50):
            self.node.service.client.request(large).addErrback(lambda _: None)
            self.node.clock.advance(1.5)
        self.node.port.take()
        self.ask()
        self.assertEqual(self.node.port.take(), [])
        self.node.clock.advance(247)
        self.ask()
        self.assertEqual(len(self.node.port.take()), 1)
        elsewhere = collect(self.node.service.client.request(Outgoing(Method.GET, "coap://[fd00::bad]/x", timeout_s=1.0)))
        self.assertEqual(len(self.node.port.take()), 1)
        self.node.clock.advance(1.0)
        self.assertEqual(len(elsewhere), 1)
