"""A running endpoint under whatever a network can send: nothing raised, tables bounded, the next good request answered."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.message import MalformedMessage, Message, build, parse
from m2mapp.coap.parameters import Limits
from m2mapp.model.messages import Response, Status
from m2mapp.net.interfaces import Sockaddr
from tests.unit.coap.fakes import GROUP, HERE, PEER, Node, get, vectors
from tests.unit.coap.test_message import MESSAGES

MUTATIONS = 10_000
SMALL = Limits(peers=64, messages=256, messages_per_peer=32, uploads=8, kept_answers=8, kept_bytes=65_536, payload_bytes=4096, requests=32)
_SOURCES = st.sampled_from([PEER, ("fe80::1", 1, 0, 3), ("fd00::7", 65535, 0, 0)])


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A datagram with some bytes changed, put in, or cut off."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 1:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 2:
            del out[at:]
        elif at < len(out):
            out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


class HostileTests(SynchronousTestCase):
    def check_answers(self, node: Node, data: bytes, to_group: bool) -> None:
        """What is sent for a datagram is something that the RFC allows."""
        for answer, _, _ in node.port.sent:
            sent = parse(answer)
            self.assertTrue(sent.code == things.EMPTY or sent.code >> 5 in (2, 4, 5), data.hex())
            self.assertFalse(to_group and sent.mtype != things.NON, data.hex())
            try:
                received = parse(data)
            except MalformedMessage as fault:
                self.assertEqual((fault.mtype, sent), (things.CON, Message(things.RST, 0, fault.mid or 0)), data.hex())
                continue
            if sent.mtype == things.ACK:
                self.assertEqual((received.mtype, received.mid), (things.CON, sent.mid), data.hex())
            if sent.code and sent.mtype != things.RST:
                self.assertEqual(sent.token, received.token, data.hex())
            self.assertNotIn(received.mtype, (things.ACK, things.RST), data.hex())
        node.port.sent.clear()

    def test_mutations(self) -> None:
        """Ten thousand mutations of real datagrams, to the node and to a group, from a few hundred sources."""
        node = Node(limits=SMALL)
        large = Response(Status.CONTENT, b"x" * 3000, "text/plain", b"etag", leisure_s=0.0)
        node.handler.answer = lambda asked: large if len(asked.path) % 2 else Response(Status.CHANGED, leisure_s=0.0)
        rng = random.Random(20261122)
        originals = list(vectors().values())
        for step in range(MUTATIONS):
            data = mutated(rng, rng.choice(originals))
            to_group = step % 5 == 0
            source: Sockaddr = (f"fd00::{rng.randrange(300):x}", 5683, 0, 0)
            node.port.receiver.datagram_received(data, source, GROUP if to_group else HERE, 1)
            self.check_answers(node, data, to_group)
            if step % 100 == 0:
                node.clock.advance(1.0)
                node.port.sent.clear()
        self.bounded(node)
        self.assertGreater(len(node.handler.requests), 500)
        self.assertEqual([message.code for message in node.receive(get(mid=60000))], [things.CONTENT])
        self.assertEqual((node.count("failed"), self.flushLoggedErrors(), node.stop()), (0, [], []))

    def bounded(self, node: Node) -> None:
        """Every table is within its limits."""
        peers = node.service.endpoint.layers[0].peers
        self.assertLessEqual(len(peers), SMALL.peers)
        self.assertLessEqual(peers.messages, SMALL.messages)
        self.assertLessEqual(len(node.service.server.uploads), SMALL.uploads)
        self.assertLessEqual(len(node.service.server.kept), SMALL.kept_answers)
        self.assertLessEqual(node.service.server.under_way, SMALL.requests)
        self.assertLess(len(node.context.deadlines), 100)

    @settings(max_examples=200)
    @given(st.lists(st.tuples(st.binary(max_size=60), _SOURCES, st.booleans()), max_size=5))
    def test_any_bytes(self, datagrams: list[tuple[bytes, Sockaddr, bool]]) -> None:
        """Any bytes from anywhere; then a good request is answered."""
        self.feed(datagrams)

    @settings(max_examples=200)
    @given(st.lists(st.tuples(MESSAGES.map(build), _SOURCES, st.booleans()), max_size=5))
    def test_any_messages(self, datagrams: list[tuple[bytes, Sockaddr, bool]]) -> None:
        """Any well-formed messages from anywhere; then a good request is answered."""
        self.feed(datagrams)

    def feed(self, datagrams: list[tuple[bytes, Sockaddr, bool]]) -> None:
        """Receive them all; check what is sent, and that the node is well."""
        node = Node()
        for data, source, to_group in datagrams:
            node.port.receiver.datagram_received(data, source, GROUP if to_group else HERE, 1)
            self.check_answers(node, data, to_group)
        answered = node.receive(get(), ("fd00::900d", 5683, 0, 0))
        self.assertEqual([message.code for message in answered], [things.CONTENT])
        self.assertEqual((node.count("failed"), node.stop()), (0, []))

    def test_many_sources(self) -> None:
        """Messages of twenty thousand sources leave bounded tables."""
        node = Node(limits=SMALL)
        receive = node.port.receiver.datagram_received
        data = build(get())
        for index in range(20_000):
            receive(data, (f"fd00::{index >> 8:x}:{index & 255:x}", 5683, 0, 0), HERE, 1)
            node.port.sent.clear()
            node.handler.requests.clear()
        self.bounded(node)
        self.assertEqual(node.stop(), [])
