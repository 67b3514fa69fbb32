"""Edits of one group, one after another."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.drivers.turns import MOST_WAITING, Turns
from m2mapp.model.errors import Conflict, TooManyRequests

T = TypeVar("T")


def identity(end: Deferred[None]) -> Deferred[None]:
    """An edit that ends when the test says."""
    return end


def note(done: list[T], what: T) -> Deferred[None]:
    """An edit that is done at once."""
    done.append(what)
    return succeed(None)


class TurnsTests(SynchronousTestCase):
    def test_one_after_another(self) -> None:
        """The second of a group begins when the first has ended; another group's does not wait."""
        turns = Turns()
        begun: list[int] = []
        ends: list[Deferred[str]] = [Deferred(), Deferred(), Deferred()]

        def begin(number: int) -> Deferred[str]:
            begun.append(number)
            return ends[number]

        first, second = turns.take("g", lambda: begin(0)), turns.take("g", lambda: begin(1))
        turns.take("h", lambda: begin(2))
        self.assertEqual((begun, len(turns)), ([0, 2], 2))
        ends[0].callback("one")
        self.assertEqual((self.successResultOf(first), begun), ("one", [0, 2, 1]))
        ends[1].callback("two")
        ends[2].callback("three")
        self.assertEqual((self.successResultOf(second), len(turns)), ("two", 0))

    def test_the_result_comes_before_the_next_begins(self) -> None:
        """Who is done hears of it before the next edit is decided."""
        turns = Turns()
        order: list[str] = []
        end: Deferred[None] = Deferred()
        turns.take("g", lambda: end).addCallback(lambda _: order.append("answered"))
        turns.take("g", partial(note, order, "begun"))
        end.callback(None)
        self.assertEqual(order, ["answered", "begun"])

    def test_failures_pass_it_on(self) -> None:
        """What an edit raises, or fails with, is its own; the next one begins."""
        turns = Turns()

        def refuse() -> Deferred[None]:
            raise Conflict("taken")

        end: Deferred[None] = Deferred()
        first, second = turns.take("g", lambda: end), turns.take("g", refuse)
        third = turns.take("g", lambda: succeed("done"))
        end.errback(Conflict("gone"))
        self.failureResultOf(first, Conflict)
        self.failureResultOf(second, Conflict)
        self.assertEqual(self.successResultOf(third), "done")

    def test_a_caller_that_goes_away(self) -> None:
        """An edit whose caller is gone is done all the same, once; the line goes on."""
        turns = Turns()
        done: list[str] = []
        end: Deferred[None] = Deferred()
        turns.take("g", lambda: end)
        waiting = turns.take("g", partial(note, done, "second"))
        waiting.cancel()
        self.failureResultOf(waiting)
        end.callback(None)
        self.assertEqual((done, len(turns)), (["second"], 0))

    def test_bounded(self) -> None:
        """So many wait and no more; none of those that wait is lost, and many that end at once are no deep recursion."""
        turns = Turns()
        done: list[int] = []
        for _ in range(50):
            end: Deferred[None] = Deferred()
            turns.take("g", partial(identity, end))
            for number in range(MOST_WAITING):
                turns.take("g", partial(note, done, number))
            self.assertRaises(TooManyRequests, turns.take, "g", partial(note, done, 0))
            end.callback(None)
        self.assertEqual(len(done), 50 * MOST_WAITING)
