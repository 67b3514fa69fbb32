"""Simulated time: one seeded, deterministic order of events for all nodes of a simulation.

Responsible for time, the order of events, and the seeds of whatever is random. Not responsible for what is sent between nodes:
`net.memory`. Nothing here waits: time jumps to the next event.

The same seed gives the same run only where nothing else decides: no wall clock, no order of a set, no global random numbers.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.model.interfaces import IClock

CALLS_IN_ONE_INSTANT = 100_000
"""More calls without time going on are taken for a loop that never ends."""

_Result = TypeVar("_Result")


def _nothing(_call: DelayedCall) -> None:
    """What a call that is in no order does when it is cancelled or moved."""


@implementer(IReactorTime)
class Scheduler:
    """Events by time, those of one instant in the order in which they were asked for. Time starts at 0.

    What a call raises ends the run and reaches whoever runs it: in a simulation an error is not to be missed.
    """

    def __init__(self, seed: int) -> None:
        """`seed` decides everything random that is drawn from a `generator`."""
        self.seed = seed
        self._now = 0.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._place: dict[DelayedCall, int] = {}
        self._in_this_instant = 0

    def generator(self, name: str) -> random.Random:
        """Random numbers of the seed for one user of them, so that more draws here do not change the draws there."""
        return random.Random(f"{self.seed}/{name}")  # noqa: S311 - a simulation, repeatable on purpose

    def seconds(self) -> float:
        """The simulated time in seconds."""
        return self._now

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> DelayedCall:
        """See `IReactorTime`. Raises `ValueError` for a negative delay."""
        if delay < 0:
            raise ValueError(f"delay: {delay} is less than 0")
        call = DelayedCall(self._now + delay, callable, args, kw, self._remove, self._put, self.seconds)
        self._put(call)
        return call

    def _put(self, call: DelayedCall) -> None:
        """Give a call its place by its time; a place that it had before is void."""
        place = next(self._order)
        self._place[call] = place
        heapq.heappush(self._heap, (call.getTime(), place, call))

    def _remove(self, call: DelayedCall) -> None:
        self._place.pop(call, None)

    def getDelayedCalls(self) -> list[DelayedCall]:
        """The calls that are still to be made, the next first."""
        return sorted(self._place, key=lambda call: (call.getTime(), self._place[call]))

    def advance(self, amount_s: float) -> None:
        """Run what is due within so many seconds, and set the time. Raises as `run_until` does."""
        self.run_until(self._now + amount_s)

    def run_until(self, time_s: float) -> None:
        """Run what is due up to a time, in order, and set the time. Raises what a call raises, `RuntimeError` for an endless loop."""
        while self._run_next(time_s):
            pass
        self._set(max(self._now, time_s))

    def run_until_fired(self, deferred: Deferred[_Result], limit_s: float = 3600.0) -> _Result:
        """Run until a Deferred has its result: returns it, or raises its failure. Raises `TimeoutError` after `limit_s` seconds."""
        results: list[_Result] = []
        failures: list[Failure] = []
        deferred.addCallbacks(results.append, failures.append)
        end = self._now + limit_s
        while not results and not failures:
            if not self._run_next(end):
                raise TimeoutError(f"no result within {limit_s} simulated seconds; it is {self._now:.6f} s")
        if failures:
            failures[0].raiseException()
        return results[0]

    def _run_next(self, limit: float) -> bool:
        """Make the next call that is due by `limit`. False where there is none."""
        while self._heap and self._heap[0][0] <= limit:
            time_s, place, call = heapq.heappop(self._heap)
            if self._place.get(call) != place:
                continue
            if call.delayed_time > 0:
                call.activate_delay()
                self._put(call)
                continue
            self._remove(call)
            self._set(time_s)
            call.called = True
            call.func(*call.args, **call.kw)
            return True
        return False

    def _set(self, time_s: float) -> None:
        self._in_this_instant = 0 if time_s > self._now else self._in_this_instant + 1
        if self._in_this_instant > CALLS_IN_ONE_INSTANT:
            raise RuntimeError(f"{CALLS_IN_ONE_INSTANT} calls were made at {time_s:.6f} s: a loop without end")
        self._now = time_s


class _OwnedCall:
    """A function that is to be called for a process."""

    __slots__ = ("_function", "owner")

    def __init__(self, owner: ProcessTime, function: Callable[..., object]) -> None:
        self.owner = owner
        self._function = function

    def __call__(self, *args: object, **kw: object) -> None:
        self._function(*args, **kw)


@implementer(IReactorTime)
class ProcessTime:
    """The time of one simulated process: what it has asked for dies with it, as the delayed calls of a killed process do."""

    def __init__(self, scheduler: Scheduler) -> None:
        """A living process in the simulation of that scheduler."""
        self._scheduler = scheduler
        self._alive = True

    def seconds(self) -> float:
        """The simulated time in seconds."""
        return self._scheduler.seconds()

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> DelayedCall:
        """See `IReactorTime`. After `kill` the call is never made."""
        if self._alive:
            return self._scheduler.callLater(delay, _OwnedCall(self, callable), *args, **kw)
        return DelayedCall(self.seconds() + delay, callable, args, kw, _nothing, _nothing, self.seconds)

    def getDelayedCalls(self) -> list[DelayedCall]:
        """The calls that this process still awaits, the next first."""
        return [call for call in self._scheduler.getDelayedCalls() if isinstance(call.func, _OwnedCall) and call.func.owner is self]

    def kill(self) -> None:
        """Nothing that this process asked for, or asks for from now on, is ever called."""
        self._alive = False
        for call in self.getDelayedCalls():
            call.cancel()


@implementer(IClock)
class SimulatedWallClock:
    """A wall clock that goes with simulated time and steps when a test says so."""

    def __init__(self, scheduler: Scheduler, start_ms: int = 1_767_225_600_000) -> None:
        """`start_ms`: what it shows at time 0, by default 2026-01-01."""
        self._scheduler = scheduler
        self._start_ms = start_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self._start_ms + int(self._scheduler.seconds() * 1000)

    def step(self, by_ms: int) -> None:
        """Step as a box does that learns the time; `by_ms` may be negative."""
        self._start_ms += by_ms
