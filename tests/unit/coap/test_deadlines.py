"""Many deadlines on one delayed call."""

from __future__ import annotations

from functools import partial

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.deadlines import Deadlines


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.called: list[object] = []

    def _after(self, delay_s: float, name: object) -> object:
        return self.deadlines.after(delay_s, partial(self.called.append, name))

    def test_order_and_one_call(self) -> None:
        """Functions are called at their times, by one delayed call, whatever the order in which they were asked for."""
        for delay in (3.0, 1.0, 2.0):
            self._after(delay, delay)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1.0)
        self.assertEqual(self.called, [1.0])
        self.clock.advance(2.5)
        self.assertEqual((self.called, self.clock.getDelayedCalls()), ([1.0, 2.0, 3.0], []))

    def test_thousands(self) -> None:
        """Ten thousand deadlines are one delayed call, and cancelling them leaves nothing."""
        all_of_them = [self.deadlines.after(index / 10, partial(self.called.append, index)) for index in range(10_000)]
        self.assertEqual((len(self.clock.getDelayedCalls()), len(self.deadlines)), (1, 10_000))
        for deadline in all_of_them[1:]:
            deadline.cancel()
            deadline.cancel()
        self.assertEqual(len(self.deadlines), 1)
        self.assertLess(len(self.deadlines._heap), 200)
        all_of_them[0].cancel()
        self.assertEqual((self.called, self.clock.getDelayedCalls()), ([], []))

    def test_cancelled_is_not_called(self) -> None:
        """A cancelled one is not called; those after it are."""
        first = self.deadlines.after(1, partial(self.called.append, 1))
        self._after(2, 2)
        first.cancel()
        self.clock.advance(5)
        self.assertEqual((self.called, self.clock.getDelayedCalls()), ([2], []))

    def test_a_function_that_raises(self) -> None:
        """What raises is logged and keeps no other from its time."""
        self.deadlines.after(1, partial(int, "x"))
        self._after(1, "next")
        self.clock.advance(1)
        self.assertEqual(self.called, ["next"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_deadlines_made_while_running(self) -> None:
        """A function may ask for further ones, and cancel others."""
        other = self.deadlines.after(2, partial(self.called.append, "other"))

        def change() -> None:
            other.cancel()
            self._after(1, "later")

        self.deadlines.after(1, change)
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual((self.called, self.clock.getDelayedCalls()), (["later"], []))

    def test_a_later_one_made_while_running(self) -> None:
        """A function that asks for a late deadline does not keep an earlier one from its time."""
        self._after(2, "earlier")
        self.deadlines.after(1, lambda: self._after(10, "late"))
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(self.called, ["earlier"])
        self.clock.advance(10)
        self.assertEqual((self.called, self.clock.getDelayedCalls()), (["earlier", "late"], []))

    def test_stop(self) -> None:
        """Stopping leaves nothing pending; it can be used again."""
        kept = self.deadlines.after(1, partial(self.called.append, 1))
        self.deadlines.stop()
        kept.cancel()
        self.assertEqual((self.clock.getDelayedCalls(), len(self.deadlines)), ([], 0))
        self._after(1, "again")
        self.clock.advance(1)
        self.assertEqual(self.called, ["again"])
