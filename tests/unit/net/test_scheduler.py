"""Simulated time."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.model.interfaces import IClock
from m2mapp.net import scheduler as module
from m2mapp.net.scheduler import ProcessTime, Scheduler, SimulatedWallClock


class SchedulerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.scheduler = Scheduler(seed=1)
        self.done: list[object] = []

    def test_interfaces(self) -> None:
        """The scheduler and a process's time are reactors' clocks, the wall clock is a wall clock."""
        verifyObject(IReactorTime, self.scheduler)
        verifyObject(IReactorTime, ProcessTime(self.scheduler))
        verifyObject(IClock, SimulatedWallClock(self.scheduler))

    def test_order(self) -> None:
        """Calls are made by time, those of one instant in the order in which they were asked for."""
        for name, delay in [("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.0)]:
            self.scheduler.callLater(delay, self.done.append, name)
        self.assertEqual([call.getTime() for call in self.scheduler.getDelayedCalls()], [1.0, 1.0, 2.0, 2.0])
        self.scheduler.run_until(1.5)
        self.assertEqual((self.done, self.scheduler.seconds()), (["a", "b"], 1.5))
        self.scheduler.advance(0.5)
        self.assertEqual((self.done, self.scheduler.seconds()), (["a", "b", "c", "d"], 2.0))
        self.assertEqual(self.scheduler.getDelayedCalls(), [])

    def test_time_within_a_call(self) -> None:
        """Within a call it is the time of that call, and what it asks for with no delay comes after what is due already."""
        self.scheduler.callLater(1, lambda: self.scheduler.callLater(0, lambda: self.done.append(self.scheduler.seconds())))
        self.scheduler.callLater(1, self.done.append, "due already")
        self.scheduler.advance(5)
        self.assertEqual(self.done, ["due already", 1.0])

    def test_cancel_and_move(self) -> None:
        """A call can be cancelled, moved sooner, moved later, and moved to and fro; each is made once."""
        self.scheduler.callLater(1, self.done.append, "void").cancel()
        sooner = self.scheduler.callLater(9, self.done.append, "sooner")
        later = self.scheduler.callLater(1, self.done.append, "later")
        fro = self.scheduler.callLater(3, self.done.append, "to and fro")
        sooner.reset(2)
        later.delay(5)
        for _ in range(10):
            fro.reset(1)
            fro.reset(8)
        order = [call.getTime() for call in self.scheduler.getDelayedCalls()]
        self.assertEqual(order, [2.0, 6.0, 8.0])
        self.scheduler.run_until(5)
        self.assertEqual(self.done, ["sooner"])
        self.scheduler.run_until(100)
        self.assertEqual(self.done, ["sooner", "later", "to and fro"])

    def test_twisted_uses_it(self) -> None:
        """A LoopingCall and a Deferred with a timeout run on it."""
        loop = LoopingCall(lambda: self.done.append(self.scheduler.seconds()))
        loop.clock = self.scheduler
        loop.start(1.0)
        self.scheduler.run_until(2.5)
        loop.stop()
        self.assertEqual(self.done, [0.0, 1.0, 2.0])
        waiting: Deferred[None] = Deferred()
        waiting.addTimeout(1.0, self.scheduler)
        self.scheduler.advance(2)
        self.failureResultOf(waiting)

    def test_run_until_fired(self) -> None:
        """Runs to the instant of the result and no further; a failure is raised; what does not come is a `TimeoutError`."""
        self.assertEqual(self.scheduler.run_until_fired(deferLater(self.scheduler, 2, lambda: "value")), "value")
        self.assertEqual(self.scheduler.seconds(), 2.0)
        failing = deferLater(self.scheduler, 1, lambda: 1 / 0)
        self.assertRaises(ZeroDivisionError, self.scheduler.run_until_fired, failing)
        never: Deferred[None] = Deferred()
        self.assertRaises(TimeoutError, self.scheduler.run_until_fired, never, 10)

    def test_run_until_fired_chained(self) -> None:
        """A Deferred that waits for another has no result yet."""
        outer: Deferred[None] = Deferred()
        chained = outer.addCallback(lambda _: deferLater(self.scheduler, 3, lambda: "inner"))
        outer.callback(None)
        self.assertEqual(self.scheduler.run_until_fired(chained), "inner")

    def test_error_in_a_call(self) -> None:
        """What a call raises reaches whoever runs the simulation; the rest can still be run."""
        self.scheduler.callLater(1, lambda: 1 / 0)
        self.scheduler.callLater(1, self.done.append, "after")
        self.assertRaises(ZeroDivisionError, self.scheduler.advance, 5)
        self.scheduler.advance(5)
        self.assertEqual(self.done, ["after"])

    def test_endless_loop(self) -> None:
        """Calls that ask for themselves without time going on end the run with an error."""
        self.patch(module, "CALLS_IN_ONE_INSTANT", 100)

        def again() -> None:
            self.scheduler.callLater(0, again)

        again()
        self.assertRaises(RuntimeError, self.scheduler.advance, 1)

    def test_negative_delay(self) -> None:
        """A negative delay is an error, as in Twisted's reactors."""
        self.assertRaises(ValueError, self.scheduler.callLater, -1, self.done.append, "x")

    def test_generators(self) -> None:
        """The same seed and name give the same numbers, independent of other names."""
        first = [Scheduler(5).generator("a").random(), Scheduler(5).generator("b").random()]
        scheduler = Scheduler(5)
        b = scheduler.generator("b")
        self.assertEqual([scheduler.generator("a").random(), b.random()], first)
        self.assertNotEqual(Scheduler(6).generator("a").random(), first[0])


class ProcessTests(SynchronousTestCase):
    def test_kill(self) -> None:
        """What a killed process had asked for is not called, nor what it asks for after; another process goes on."""
        scheduler = Scheduler(seed=1)
        one, other = ProcessTime(scheduler), ProcessTime(scheduler)
        done: list[str] = []
        one.callLater(1, done.append, "one early")
        one.callLater(3, done.append, "one")
        other.callLater(3, done.append, "other")
        scheduler.advance(2)
        self.assertEqual((one.seconds(), len(one.getDelayedCalls()), len(other.getDelayedCalls())), (2.0, 1, 1))
        one.kill()
        ghost = one.callLater(0.5, done.append, "ghost")
        ghost.reset(0.1)
        self.assertEqual(len(scheduler.getDelayedCalls()), 1)
        scheduler.advance(10)
        self.assertEqual(done, ["one early", "other"])
        ghost.cancel()

    def test_wall_clock_steps(self) -> None:
        """The wall clock goes with simulated time and steps on request; the scheduler does not."""
        scheduler = Scheduler(seed=1)
        wall = SimulatedWallClock(scheduler, start_ms=1000)
        scheduler.advance(2)
        self.assertEqual(wall.now_ms(), 3000)
        wall.step(-2500)
        self.assertEqual((wall.now_ms(), scheduler.seconds()), (500, 2.0))
