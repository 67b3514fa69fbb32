"""The memory of messages seen: its bounds, its times, its message IDs."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.message import Message
from m2mapp.coap.parameters import Limits, TransmissionParameters
from m2mapp.coap.peers import Inbound, Peers
from m2mapp.net.interfaces import Sockaddr


def address(index: int) -> Sockaddr:
    """A source of its own."""
    return (f"fd00::{index:x}", 5683, 0, 0)


def message(mid: int, mtype: int = things.CON, token: bytes = b"t") -> Message:
    """A GET."""
    return Message(mtype, things.GET, mid, token)


class PeersTests(SynchronousTestCase):
    def _peers(self, **limits: int) -> Peers:
        return Peers(TransmissionParameters(), Limits(**limits), random.Random(1))  # type: ignore[arg-type]

    def _hear(self, peers: Peers, source: Sockaddr, mid: int, now_s: float = 0.0, reply: bytes = b"") -> Inbound:
        peer = peers.heard(source, now_s)
        self.assertIsNone(peers.earlier(peer, message(mid, token=b"new"), now_s))
        inbound = peers.remember(peer, message(mid), now_s)
        peers.keep(inbound, reply)
        return inbound

    def test_repeated_within_lifetime(self) -> None:
        """A confirmable message is known for 247 s, a non-confirmable one for 145 s, and not a moment longer."""
        peers = self._peers()
        peer = peers.heard(address(1), 0.0)
        con, non = message(1), message(2, things.NON)
        peers.keep(peers.remember(peer, con, 0.0), b"answer")
        peers.keep(peers.remember(peer, non, 0.0), b"")
        self.assertEqual(peers.earlier(peer, con, 246.9), (247.0, b"t", b"answer"))
        self.assertEqual(peers.earlier(peer, non, 144.9), (145.0, b"t", b""))
        self.assertIsNone(peers.earlier(peer, non, 145.0))
        self.assertIsNone(peers.earlier(peer, con, 247.0))
        self.assertEqual((peers.messages, peers.bytes), (0, 0))

    def test_another_token_is_another_message(self) -> None:
        """A message ID that comes again with another token is not taken for a repetition."""
        peers = self._peers()
        peer = peers.heard(address(1), 0.0)
        peers.remember(peer, message(1, token=b"a"), 0.0)
        self.assertIsNone(peers.earlier(peer, message(1, token=b"b"), 1.0))

    def test_bounds_of_one_peer(self) -> None:
        """A peer that sends on and on pushes out its own oldest messages only."""
        peers = self._peers(messages_per_peer=10, bytes_per_peer=100_000)
        self._hear(peers, address(1), 1)
        for mid in range(1000):
            self._hear(peers, address(2), mid, reply=b"x" * 50)
        self.assertEqual((len(peers.heard(address(2), 0).seen), len(peers.heard(address(1), 0).seen)), (10, 1))
        self.assertIn(999, peers.heard(address(2), 0).seen)

    def test_bytes_of_one_peer(self) -> None:
        """Answers that are kept count."""
        peers = self._peers(bytes_per_peer=10_000)
        for mid in range(100):
            self._hear(peers, address(1), mid, reply=b"x" * 1000)
        self.assertLess(peers.heard(address(1), 0).seen_bytes, 12_000)

    def test_bounds_of_all(self) -> None:
        """Any number of sources with any number of messages stay within the bounds, and the sums are right."""
        peers = self._peers(peers=50, messages=200, bytes=100_000)
        rng = random.Random(7)
        most = 0
        for step in range(20_000):
            sources = 500 if step % 2000 < 500 else 40
            self._hear(peers, address(rng.randrange(sources)), rng.randrange(65536), step / 100, b"x" * rng.randrange(200))
            self.assertLessEqual(len(peers), 50)
            self.assertLessEqual(peers.messages, 200)
            self.assertLess(peers.bytes, 100_000 + 2_000)
            most = max(most, peers.messages)
        self.assertEqual(most, 200)
        self.assertEqual(peers.messages, sum(len(peer.seen) for peer in peers.all()))
        self.assertEqual(peers.bytes, sum(peer.seen_bytes for peer in peers.all()))

    def test_sweep(self) -> None:
        """Peers that are silent for 247 s go, unless something is on its way to them; there is no timer for a message."""
        peers = self._peers()
        self._hear(peers, address(1), 1)
        self._hear(peers, address(2), 1).peer.under_way = 1
        self._hear(peers, address(3), 1, 100.0)
        self.assertFalse(peers.sweep(200.0))
        self.assertEqual(len(peers), 3)
        peers.sweep(250.0)
        self.assertEqual({peer.address for peer in peers.all()}, {address(2), address(3)})

    def test_sweep_in_steps(self) -> None:
        """Thousands of peers are dropped some at a time."""
        peers = self._peers()
        for index in range(2500):
            self._hear(peers, address(index), 1)
        self.assertTrue(peers.sweep(300.0))
        self.assertEqual(len(peers), 1500)
        while peers.sweep(300.0):
            pass
        self.assertEqual((len(peers), peers.messages, peers.bytes), (0, 0, 0))

    def test_a_busy_peer_is_not_dropped(self) -> None:
        """Room is made by dropping the stalest peer that is idle."""
        peers = self._peers(peers=2)
        self._hear(peers, address(1), 1).peer.under_way = 1
        self._hear(peers, address(2), 1)
        self._hear(peers, address(3), 1)
        self.assertEqual({peer.address for peer in peers.all()}, {address(1), address(3)})

    def test_bytes_of_all(self) -> None:
        """Large answers to many are forgotten as soon as they are too many bytes together; busy peers that hold none are passed over."""
        peers = self._peers(bytes=20_000)
        for index in range(3):
            peers.heard(address(900 + index), 0.0).under_way = 1
        peers.heard(address(950), 0.0)
        for index in range(100):
            self._hear(peers, address(index), 1, 1.0, b"x" * 1000)
        self.assertLess(peers.bytes, 20_000 + 1_400)
        self.assertIsNone(peers.find(address(950)))
        self.assertIsNotNone(peers.find(address(901)))

    def test_rtt(self) -> None:
        """The first round-trip time is taken as it is, later ones by an eighth."""
        peer = self._peers().heard(address(1), 0)
        peer.saw_rtt(0.8)
        peer.saw_rtt(1.6)
        self.assertAlmostEqual(peer.rtt_s or 0.0, 0.9)


class ParameterTests(SynchronousTestCase):
    def test_derived_times(self) -> None:
        """RFC 7252, section 4.8.2, table 3."""
        parameters = TransmissionParameters()
        self.assertEqual(parameters.max_transmit_span_s, 45)
        self.assertEqual(parameters.max_transmit_wait_s, 93)
        self.assertEqual(parameters.exchange_lifetime_s, 247)
        self.assertEqual(parameters.non_lifetime_s, 145)

    def test_refused(self) -> None:
        """Values that the RFC forbids are refused."""
        for wrong in ({"ack_timeout_s": 0}, {"ack_random_factor": 0.9}, {"max_retransmit": -1}, {"nstart": 0}):
            self.assertRaises(ValueError, TransmissionParameters, **wrong)
