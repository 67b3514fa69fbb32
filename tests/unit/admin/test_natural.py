"""The order in which people expect names."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.admin.natural import in_order, natural


class OrderTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """Digits count as the number that they are, wherever they stand, however long; zeros before them count for nothing but a tie."""
        ordered = ["", "a1", "d", "d0", "d00", "d1", "d1a2", "d1a10", "d1x", "d02", "d2", "d10", "d" + "9" * 99, "d1" + "0" * 99, "e"]
        self.assertEqual(in_order(reversed(ordered)), ordered)

    def test_no_two_are_the_same(self) -> None:
        """A list can go on behind any name: names that differ differ in their order too."""
        names = ["d1", "d01", "d001", "d1.0", "d1.00", "d0011"]
        self.assertEqual(len({natural(name) for name in names}), len(names))
