"""`tree.lifetimes`: when resources with a lifetime end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.tree.lifetimes import Lifetimes


class LifetimesTests(SynchronousTestCase):
    def test_earliest_end_comes_first(self) -> None:
        """The next end is the earliest, and only what is over is due, the longest over first."""
        lifetimes = Lifetimes()
        lifetimes.start(("scls", "late"), 100, 0.0)
        lifetimes.start(("scls", "second"), 20, 0.0)
        lifetimes.start(("scls", "first"), 10, 0.0)
        self.assertEqual(lifetimes.next_end_s(), 10.0)
        self.assertEqual(lifetimes.due(9.9, 10), [])
        self.assertEqual(lifetimes.due(20.0, 10), [("scls", "first"), ("scls", "second")])
        self.assertEqual(lifetimes.due(20.0, 1), [("scls", "first")])

    def test_starting_again_replaces(self) -> None:
        """A path that begins anew has one end, the new one, also when it is earlier."""
        lifetimes = Lifetimes()
        lifetimes.start(("scls", "d1"), 10, 0.0)
        lifetimes.start(("scls", "d1"), 10, 5.0)
        self.assertEqual((lifetimes.due(14.9, 10), lifetimes.remaining_s(("scls", "d1"), 10.0)), ([], 5.0))
        lifetimes.start(("scls", "d1"), 1, 5.0)
        self.assertEqual(lifetimes.due(14.9, 10), [("scls", "d1")])

    def test_forgotten_paths_never_end(self) -> None:
        """A path that is forgotten, or cleared away, is not due; one that was not known can be forgotten."""
        lifetimes = Lifetimes()
        lifetimes.start(("scls", "d1"), 10, 0.0)
        lifetimes.forget(("scls", "d1"))
        lifetimes.forget(("scls", "d2"))
        self.assertEqual((lifetimes.next_end_s(), lifetimes.due(99.0, 10), lifetimes.remaining_s(("scls", "d1"), 0.0)), (None, [], None))
        lifetimes.start(("scls", "d1"), 10, 0.0)
        lifetimes.clear()
        self.assertIsNone(lifetimes.next_end_s())

    def test_remaining_is_never_negative(self) -> None:
        """A path whose time is over lasts no more seconds, not fewer than none."""
        lifetimes = Lifetimes()
        lifetimes.start(("scls", "d1"), 10, 0.0)
        self.assertEqual(lifetimes.remaining_s(("scls", "d1"), 12.0), 0.0)

    @given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 50), st.booleans()), max_size=40), st.integers(0, 60))
    def test_agrees_with_a_plain_dictionary(self, steps: list[tuple[str, int, bool]], now_s: int) -> None:
        """After any sequence of starts and forgets, what is due is what a plain dictionary of ends says."""
        lifetimes, ends = Lifetimes(), dict[tuple[str, ...], int]()
        for name, lifetime_s, starts in steps:
            if starts:
                lifetimes.start((name,), lifetime_s, 0.0)
                ends[name,] = lifetime_s
            else:
                lifetimes.forget((name,))
                ends.pop((name,), None)
        over = sorted((end, path) for path, end in ends.items() if end <= now_s)
        self.assertEqual(lifetimes.due(now_s, 10), [path for _, path in over])
        self.assertEqual(lifetimes.next_end_s(), min(ends.values(), default=None))
