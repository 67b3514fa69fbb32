"""The wall clock, and a reactor that does not step with it; the reactors are real ones, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import m2mapp
from m2mapp.model.interfaces import IClock
from m2mapp.net.clock import WallClock, make_monotonic

# Twisted takes `time.time` when it is imported: the step has to be possible before.
STEPPING = """
    import time
    real, steps = time.time, [0.0]
    time.time = lambda: real() + steps[0]
    from twisted.internet.epollreactor import EPollReactor
    from m2mapp.net.clock import make_monotonic
    reactor = EPollReactor()
    def step():
        steps[0] -= 86400.0 * 365
    def done(what):
        print(what, flush=True)
    def stop():
        reactor.stop()
"""
PATIENCE_S = 30
ROOT = str(Path(m2mapp.__file__).parent.parent)


class StuckError(Exception):
    """The process did not end: its delayed calls wait for the wall clock."""


def run(program: str) -> str:
    """Run a program after `STEPPING`; what it printed."""
    text = textwrap.dedent(STEPPING) + textwrap.dedent(program) + "\nreactor.run(installSignalHandlers=False)\n"
    try:
        done = subprocess.run(
            [sys.executable, "-c", text],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env={**os.environ, "PYTHONPATH": ROOT},
        )
    except subprocess.TimeoutExpired as error:
        raise StuckError(program) from error
    return done.stdout if done.returncode == 0 else done.stderr


class WallClockTests(SynchronousTestCase):
    def test_milliseconds(self) -> None:
        """It provides `IClock` and shows the system's time in whole milliseconds."""
        clock = WallClock()
        verifyObject(IClock, clock)
        before = time.time_ns() // 1_000_000
        now = clock.now_ms()
        self.assertIsInstance(now, int)
        self.assertTrue(before <= now <= time.time_ns() // 1_000_000)


class MonotonicTests(SynchronousTestCase):
    def test_step_back(self) -> None:
        """A wall clock that steps back by a year between asking and calling delays nothing."""
        program = """
            make_monotonic(reactor)
            assert reactor.seconds is time.monotonic
            reactor.callLater(0.02, step)
            reactor.callLater(0.05, done, "called")
            reactor.callLater(0.05, stop)
        """
        self.assertEqual(run(program), "called\n")

    def test_pending_calls(self) -> None:
        """Calls that were pending keep their delay and order, cancelled ones among them; `reset` counts by the new clock."""
        program = """
            def last():
                done("last")
                stop()
            reactor.callLater(0.0, done, "first")
            moved = reactor.callLater(3600.0, last)
            reactor.callLater(0.09, done, "third")
            void = [reactor.callLater(delay, done, "cancelled") for delay in (0.001, 0.05, 7200.0)]
            reactor.runUntilCurrent()
            for call in void:
                call.cancel()
            make_monotonic(reactor)
            make_monotonic(reactor)
            step()
            reactor.callLater(0.02, done, "second")
            reactor.callLater(0.01, step)
            reactor.callLater(0.06, moved.reset, 0.06)
        """
        self.assertEqual(run(program), "first\nsecond\nthird\nlast\n")

    def test_what_it_is_for(self) -> None:
        """A reactor's own clock goes back with the wall clock; after that it does not."""
        program = """
            for _ in range(2):
                before = reactor.seconds()
                step()
                done(reactor.seconds() < before)
                make_monotonic(reactor)
            reactor.callWhenRunning(stop)
        """
        self.assertEqual(run(program), "True\nFalse\n")

    def test_again(self) -> None:
        """Made monotonic once, it stays as it is."""
        reactor = Clock()
        make_monotonic(reactor)
        self.assertIs(reactor.seconds, time.monotonic)
        make_monotonic(reactor)
        self.assertIs(reactor.seconds, time.monotonic)
