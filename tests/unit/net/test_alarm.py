"""`net.alarm`: one delayed call that is set, set anew and taken back."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.net.alarm import Alarm


class AlarmTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.rung_s = Clock(), list[float]()
        self.alarm = Alarm(self.clock, lambda: self.rung_s.append(self.clock.seconds()))

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_rings_once(self) -> None:
        """It rings when the time is over for which it was set last, and then no more; a time that is over is the next turn."""
        self.alarm.set(1)
        self.alarm.set(3)
        self.assertTrue(self.alarm.is_set)
        self.clock.pump([1] * 5)
        self.assertEqual((self.rung_s, self.alarm.is_set), ([3], False))
        self.alarm.set(-1)
        self.assertEqual(self.rung_s, [3])
        self.clock.advance(0)
        self.assertEqual(self.rung_s, [3, 5])

    def test_stopped(self) -> None:
        """One that is stopped does not ring; stopping it again does nothing."""
        self.alarm.set(1)
        self.alarm.stop()
        self.alarm.stop()
        self.assertFalse(self.alarm.is_set)
        self.clock.advance(2)
        self.assertEqual(self.rung_s, [])

    def test_set_while_it_rings(self) -> None:
        """What it rings for may set it again, or see that it is not set."""
        again = Alarm(self.clock, lambda: again.set(2) if len(self.rung_s) < 1 else None)
        states: list[bool] = []
        seeing = Alarm(self.clock, lambda: states.append(seeing.is_set))
        again.set(1)
        seeing.set(1)
        self.alarm.set(2)
        self.clock.pump([1] * 3)
        self.assertEqual((states, again.is_set), ([False], False))
