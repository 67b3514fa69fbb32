"""Message IDs of this node: the ranges, their order, and how soon one may come again."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.message import parse
from m2mapp.coap.mids import GROUP_MIDS, UNICAST_MIDS, Mids
from m2mapp.model.errors import Overloaded
from m2mapp.model.messages import GroupOutgoing, Method
from tests.unit.coap.fakes import GROUP, Node, get


class MidsTests(SynchronousTestCase):
    def test_order(self) -> None:
        """IDs start anywhere and go on in turn; those of groups and those of single peers are never the same."""
        starts = {Mids(random.Random(seed), UNICAST_MIDS, 247.0).take(0.0) for seed in range(50)}
        self.assertGreater(len(starts), 45)
        for of in (UNICAST_MIDS, GROUP_MIDS):
            mids = Mids(random.Random(1), of, 247.0)
            first = mids.take(0.0)
            taken = [mids.take(step / 40) for step in range(70_000)]
            self.assertEqual(taken[:2], [first + 1, first + 2])
            self.assertEqual(set(taken), set(of))
        self.assertEqual(set(UNICAST_MIDS) & set(GROUP_MIDS), set())

    def test_lifetime(self) -> None:
        """None comes again within the lifetime, however many are wanted; there are always some after a while (RFC 7252, section 4.4)."""
        mids = Mids(random.Random(3), GROUP_MIDS, 145.0)
        taken_at: dict[int, float] = {}
        refused = 0
        for step in range(300_000):
            now = step / 400
            try:
                mid = mids.take(now)
            except Overloaded:
                refused += 1
                continue
            self.assertGreaterEqual(now, taken_at.get(mid, -145.0) + 145.0)
            taken_at[mid] = now
        self.assertEqual(set(taken_at), set(GROUP_MIDS))
        self.assertGreater(300_000 - refused, 4 * 12_288, "the range was not used again")

    def test_used_up(self) -> None:
        """A peer and a group to which all IDs have gone: the next non-confirmable answer is not sent, the next request is refused."""
        node = Node()
        peer = node.service.endpoint.layers[0].peers.heard(("fd00::d1", 5683, 0, 0), 0.0)
        for mids in (peer.mids, node.service.endpoint.group_mids):
            with self.assertRaises(Overloaded):
                for _ in range(0x10000):
                    mids.take(0.0)
        self.assertEqual(node.receive(get(mid=9, mtype=things.NON)), [])
        self.assertEqual(len(node.receive(get(mid=10))), 1, "what is piggybacked needs no ID")
        self.assertEqual(node.count("refused"), 1)
        outgoing = GroupOutgoing(Method.GET, GROUP, ("x",))
        self.assertRaises(Overloaded, node.service.send_to_group, outgoing, lambda _: None)
        node.clock.advance(250)
        self.assertEqual(len(node.receive(get(mid=11, mtype=things.NON))), 1)
        node.service.send_to_group(outgoing, lambda _: None).close()
        self.assertGreaterEqual(parse(node.port.groups[-1][0]).mid, 0xC000)
        self.assertEqual(node.stop(), [])
