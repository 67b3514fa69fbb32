"""Lengths of time: what they say, their canonical text, what is refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.durations import duration, duration_text, seconds_of
from m2mapp.formats.shapes import Wrong


class DurationTests(SynchronousTestCase):
    def test_units(self) -> None:
        """Each unit, several of them, more of one than the next greater has."""
        for text, seconds in (
            ("5m", 300),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1w1d", 691_200),
            ("90s", 90),
            ("250ms", 0.25),
            ("1s5ms", 1.005),
            ("0s", 0),
        ):
            self.assertEqual(seconds_of(text), seconds)

    def test_refused(self) -> None:
        """Numbers without a unit, units in another order or twice, signs, fractions, other units and what is no text."""
        for wrong in (
            "",
            "5",
            "m",
            "5 m",
            "30m1h",
            "5m5m",
            "-5m",
            "1.5h",
            "5M",
            "5min",
            "\u0665m",
            "1" * 16 + "s",
            "5m\n",
            5,
            None,
            ["5m"],
        ):
            self.assertRaises(Wrong, seconds_of, wrong)

    def test_bounds(self) -> None:
        """A check takes what lies between its ends, and says which they are."""
        check = duration(1, 86_400)
        self.assertEqual((check("1s"), check("24h")), (1, 86_400))
        for wrong in ("999ms", "86401s", "99999w"):
            self.assertRaisesRegex(Wrong, "from 1s to 1d", check, wrong)

    @given(st.integers(0, 10**12))
    def test_canonical(self, milliseconds: int) -> None:
        """The text of a length of time says the same length."""
        self.assertEqual(round(seconds_of(duration_text(milliseconds / 1000)) * 1000), milliseconds)
