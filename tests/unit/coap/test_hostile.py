"""A running endpoint with small limits under whatever a network can send: nothing raised, tables bounded, the next good request answered.

Whole nodes are in `tests/unit/simulation/test_hostile.py`.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.faults import Refused
from m2mapp.coap.message import Message, build
from m2mapp.coap.parameters import Limits
from m2mapp.coap.requests import Asked, read_options
from m2mapp.coap.viewer import WireFeed
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Method, Response, Status
from m2mapp.net.interfaces import Sockaddr
from tests.unit import examples
from tests.unit.coap.allowed import Judge
from tests.unit.coap.fakes import GROUP, HERE, PEER, Node, get, vectors
from tests.unit.coap.mutations import Mutations
from tests.unit.coap.test_message import MESSAGES

_MUTATIONS = 3_000
SMALL = Limits(peers=64, messages=256, messages_per_peer=32, uploads=8, kept_answers=8, kept_bytes=65_536, payload_bytes=4096, requests=32)
_SOURCES = st.sampled_from([PEER, ("fe80::1", 1, 0, 3), ("fd00::7", 65535, 0, 0)])


class HostileTests(SynchronousTestCase):
    def send(self, node: Node, judge: Judge, data: bytes, source: Sockaddr, to_group: bool) -> None:
        """Let the node receive it; what it sends must be allowed."""
        judge.sent(source, data, to_group=to_group)
        node.port.receiver.datagram_received(data, source, GROUP if to_group else HERE, 1)
        self.judge(node, judge)

    def judge(self, node: Node, judge: Judge) -> None:
        """What was sent since the last time is allowed."""
        sent, node.port.sent = node.port.sent, []
        for answer, to, _ in sent:
            self.assertEqual(judge.got(to, answer), "", answer.hex())

    def test_mutations(self) -> None:
        """Mutations of real datagrams, to the node and to a group, from more sources than there is room for, while somebody looks on."""
        node, judge = Node(limits=SMALL), Judge()
        lines: list[str] = []

        def take(line: str) -> bool:
            lines.append(line)
            return True

        stop_looking = WireFeed(node.service.endpoint, node.context, lambda: 0)((), take)
        large = Response(Status.CONTENT, b"x" * 3000, "text/plain", b"etag", leisure_s=0.0)
        done = {Method.GET: large, Method.DELETE: Response(Status.DELETED, leisure_s=0.0)}
        node.handler.answer = lambda asked: done.get(asked.method, Response(Status.CHANGED, leisure_s=0.0))
        rng = random.Random(20261122)
        mutations = Mutations(rng, list(vectors().values()))
        for step in range(_MUTATIONS):
            self.send(node, judge, mutations.next(), (f"fd00::{rng.randrange(300):x}", 5683, 0, 0), step % 5 == 0)
            if step % 100 == 0:
                node.clock.advance(1.0)
                self.judge(node, judge)
        stop_looking()
        self.assertGreater(len(lines), _MUTATIONS)
        self.assertEqual([line for line in lines if not line.isprintable()], [])
        self.bounded(node)
        self.assertGreater(len(node.handler.requests), 500)
        self.assertEqual([message.code for message in node.receive(get(mid=60000))], [things.CONTENT])
        self.assertEqual((node.count("failed"), self.flushLoggedErrors(), node.stop()), (0, [], []))

    def test_found(self) -> None:
        """What mutations showed to be wrong once, with the datagrams that did."""
        node = Node()
        # An ill-sized Observe is ignored, and so is one that repeats it (RFC 7252, section 5.4.5).
        answer = node.receive(vectors()["mutated-observe-twice"])[0]
        self.assertEqual((answer.code, answer.first(things.OBSERVE)), (things.CONTENT, None))
        self.assertEqual(len(node.service.server.observers), 0)
        # A DELETE of what a group's members have, which changes them, is not answered 2.04 (section 5.9.1.4).
        node.handler.answer = Response(Status.CHANGED, b"{}", "application/json")
        answer = node.receive(vectors()["mutated-delete-group"])[0]
        self.assertEqual((answer.code, answer.payload, node.stop()), (things.DELETED, b"{}", []))

    def bounded(self, node: Node) -> None:
        """Every table is within its limits."""
        peers = node.service.endpoint.layers[0].peers
        self.assertLessEqual(len(peers), SMALL.peers)
        self.assertLessEqual(peers.messages, SMALL.messages)
        self.assertLessEqual(len(node.service.server.uploads), SMALL.uploads)
        self.assertLessEqual(len(node.service.server.kept), SMALL.kept_answers)
        self.assertLessEqual(node.service.server.under_way, SMALL.requests)
        self.assertLess(len(node.context.deadlines), 100)

    @settings(max_examples=examples(80))
    @given(st.lists(st.tuples(st.binary(max_size=60), _SOURCES, st.booleans()), max_size=5))
    def test_any_bytes(self, datagrams: list[tuple[bytes, Sockaddr, bool]]) -> None:
        """Any bytes from anywhere; then a good request is answered."""
        self.feed(datagrams)

    @settings(max_examples=examples(80))
    @given(st.lists(st.tuples(MESSAGES.map(build), _SOURCES, st.booleans()), max_size=5))
    def test_any_messages(self, datagrams: list[tuple[bytes, Sockaddr, bool]]) -> None:
        """Any well-formed messages from anywhere; then a good request is answered."""
        self.feed(datagrams)

    @given(MESSAGES)
    def test_any_options(self, message: Message) -> None:
        """The readers of options take any value: they give what the request asks, or refuse it with a code or a fault."""
        try:
            asked = read_options(message, Limits().options)
        except (Refused, Fault) as refusal:
            self.assertTrue(str(refusal))
        else:
            self.assertIsInstance(asked, Asked)

    def feed(self, datagrams: list[tuple[bytes, Sockaddr, bool]]) -> None:
        """Receive them all; check what is sent, and that the node is well."""
        node, judge = Node(), Judge()
        for data, source, to_group in datagrams:
            self.send(node, judge, data, source, to_group)
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
