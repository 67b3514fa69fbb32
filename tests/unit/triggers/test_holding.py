"""How long a rule has held, and how long an operation rests, with clocks that step."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.principal import NOBODY, NODE, Principal, Right
from m2mapp.triggers.author import WRITTEN_BY, author_in, kept_author
from m2mapp.triggers.holding import Held, held_in, rests

HELD = Held("/t/Operations/o", ("t",), 10_000, 300.0, 7, ("http://g1/a",), "0" * 32)


class HeldTests(SynchronousTestCase):
    def test_left(self) -> None:
        """From all of the time to none of it, whatever the wall clock does."""
        for now_ms, left_s in ((10_000, 300), (70_000, 240), (310_000, 0), (10**12, 0), (0, 300)):
            self.assertEqual(HELD.left_s(now_ms), left_s)

    def test_kept(self) -> None:
        """It is the same after a restart; what is no such document is none."""
        self.assertEqual(held_in(HELD.document()), HELD)
        for wrong in ({}, {**HELD.document(), "subject": "t"}, {**HELD.document(), "since": "soon"}):
            self.assertIsNone(held_in(wrong))


class RestTests(SynchronousTestCase):
    def test_rests(self) -> None:
        """For its time after it ran; never where it did not run, nor when the clock went back behind that."""
        for last_ms, now_ms, left_s in ((None, 0, 0), (1000, 1000, 60), (1000, 31_000, 30), (1000, 61_000, 0), (1000, 999, 0)):
            self.assertEqual(rests(60.0, last_ms, now_ms), left_s)


class AuthorTests(SynchronousTestCase):
    def test_kept(self) -> None:
        """Who wrote an operation is the same when it is read; where nobody is kept it is nobody."""
        for principal in (NODE, Principal("ann", frozenset({Right.READ}), (("a", "b"), ("c",)), "fd00::1")):
            self.assertEqual(author_in({WRITTEN_BY: kept_author(principal)}), principal)
        self.assertIs(author_in({}), NOBODY)
