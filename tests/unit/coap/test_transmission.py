"""How often a message is repeated."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.transmission import Repeats, repeats_within


class WithinTests(SynchronousTestCase):
    def test_by_the_time_that_is_left(self) -> None:
        """A few times within it; none where none is left; where there is plenty at the pace of RFC 7252."""
        for left_s, expected in ((-1.0, Repeats(0.05, 0)), (0.0, Repeats(0.05, 0)), (0.2, Repeats(0.05, 2)), (0.5, Repeats(0.125, 2))):
            self.assertEqual(repeats_within(left_s, 2.0), expected, left_s)
        self.assertEqual(repeats_within(30.0, 2.0), Repeats(2.0, 4))
