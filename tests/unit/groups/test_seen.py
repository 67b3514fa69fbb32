"""Requests that were here before."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.seen import SeenRequests
from m2mapp.model.messages import Method

ONE, TWO = b"12345678", b"abcdefgh"


class SeenTests(SynchronousTestCase):
    def test_the_same_again(self) -> None:
        """Identifier, method and target together make it the same; anything else is a request like any other."""
        seen = SeenRequests()
        self.assertTrue(seen.first_time(ONE, Method.GET, ("groups", "g"), 0.0))
        self.assertFalse(seen.first_time(ONE, Method.GET, ("groups", "g"), 1.0))
        self.assertTrue(seen.first_time(ONE, Method.PUT, ("groups", "g"), 1.0))
        self.assertTrue(seen.first_time(ONE, Method.GET, ("groups", "h"), 1.0))
        self.assertTrue(seen.first_time(TWO, Method.GET, ("groups", "g"), 1.0))

    def test_forgotten_after_a_time(self) -> None:
        """After EXCHANGE_LIFETIME it is new again; asking meanwhile does not prolong it."""
        seen = SeenRequests(keep_s=10.0)
        self.assertTrue(seen.first_time(ONE, Method.GET, (), 0.0))
        self.assertFalse(seen.first_time(ONE, Method.GET, (), 9.9))
        self.assertTrue(seen.first_time(ONE, Method.GET, (), 10.0))

    def test_bounded(self) -> None:
        """The oldest go when there are too many."""
        seen = SeenRequests(most=3)
        for number in range(5):
            self.assertTrue(seen.first_time(bytes([number]) * 8, Method.GET, (), 0.0))
        self.assertEqual(len(seen), 3)
        self.assertFalse(seen.first_time(bytes([4]) * 8, Method.GET, (), 0.0))
        self.assertTrue(seen.first_time(bytes([0]) * 8, Method.GET, (), 0.0))
