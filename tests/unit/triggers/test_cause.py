"""Causes: how an operation is known, and when a chain of operations ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.http.headers import parse_cause
from m2mapp.triggers.cause import LONGEST, MOST, Stopped, extended, identity

SEGMENT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=60)


class IdentityTests(SynchronousTestCase):
    def test_a_short_one_is_its_uri(self) -> None:
        """A person who reads a cause sees which operation it was."""
        self.assertEqual(
            identity("http://g1.example.org", ("temperature", "Operations", "TurnOnAC")),
            "http://g1.example.org/temperature/Operations/TurnOnAC",
        )

    @given(st.lists(SEGMENT, min_size=3, max_size=6).map(tuple))
    def test_any_path_fits_into_a_header(self, path: tuple[str, ...]) -> None:
        """Whatever an operation is called, it comes out of the header and of the option's bytes as it went in."""
        one = identity("http://g1.example.org", path)
        self.assertLessEqual(len(one), LONGEST)
        self.assertEqual(parse_cause(f"{one}, other".encode()), (one, "other"))

    def test_long_ones_differ(self) -> None:
        """Two operations whose URIs begin alike for long are two."""
        first, second = (identity("http://g1.example.org", ("x" * 200, "Operations", name)) for name in "ab")
        self.assertNotEqual(first, second)
        self.assertEqual(len(first), LONGEST)


class ExtendedTests(SynchronousTestCase):
    def test_one_more(self) -> None:
        """An operation that is not in the cause is added at the end."""
        self.assertEqual(extended(("a", "b"), "c"), ("a", "b", "c"))

    def test_a_circle(self) -> None:
        """One that is there stops, and names the circle from itself to itself."""
        stopped = extended(("x", "a", "b"), "a")
        assert isinstance(stopped, Stopped)
        self.assertEqual((stopped.circle, stopped.why), (("a", "b"), "a circle: a -> b -> a"))

    def test_a_long_chain(self) -> None:
        """No cause has more operations than the header may list: what would be one more does not run."""
        full = tuple(map(str, range(MOST)))
        stopped = extended(full, "more")
        assert isinstance(stopped, Stopped)
        self.assertEqual(stopped.circle, ())
        self.assertEqual(len(extended(full[:-1], "more")), MOST)  # type: ignore[arg-type]
