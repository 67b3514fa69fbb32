"""Makes timers fire: one delayed call for the next of them, by the wall clock, which may step. What is due is decided in `timers`.

A firing is a commit; it is settled when that is durable. One that could not be committed is made up for as if it had been missed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sortedcontainers import SortedList
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.shapes import Wrong
from m2mapp.model.errors import Fault, Malformed
from m2mapp.model.identifiers import Path, new_trace, path_text
from m2mapp.model.interfaces import IClock, ICommit
from m2mapp.model.metrics import Metrics
from m2mapp.net.alarm import Alarm
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Resource
from m2mapp.tree.watch import Watch
from m2mapp.triggers.changes import TIMER
from m2mapp.triggers.timers import TIMERS, Timer, firing, timer_at

LOOK_S = 30.0
"""The wall clock is looked at so often at least: one that steps is noticed by then."""
RETRY_MS = 10_000
STEPPED_MS = 1_000
BATCH = 100
"""So many timers are looked at in one turn of the reactor."""


@dataclass(slots=True, eq=False)
class _Running:
    """A timer: its resource, what it says, until when everything was done, and when it is looked at next (wall clock)."""

    resource: Resource
    timer: Timer
    settled_ms: int
    look_ms: int
    firing: bool = False


class Ticking:
    """The timers of one node, from `start` to `stop`."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, clock: IClock, tree: Tree, committer: ICommit, metrics: Metrics) -> None:
        self._reactor, self._clock, self._tree, self._committer = reactor, clock, tree, committer
        self._timers: dict[Path, _Running] = {}
        self._by_time = SortedList()
        self._watch: Watch | None = None
        self._alarm = Alarm(reactor, self._look)
        self._ahead_ms = 0
        self._fired = metrics.counter("m2mapp_timers_fired_total", "Firings of timers")
        metrics.gauge("m2mapp_timers", "Timers that will fire", lambda: len(self._by_time))

    def start(self) -> None:
        """Make them fire from now on; what was missed is made up for, or skipped, as each says."""
        self._ahead_ms = self._ahead()
        for resource in self._tree.children(TIMERS):
            self._enter(resource)
        self._watch = self._tree.watch(TIMERS, self._on_change, subtree=True)
        self._look_later()

    def stop(self) -> None:
        """None fires any more; nothing is left pending."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._alarm.stop()
        self._timers.clear()
        self._by_time.clear()

    def _on_change(self, change: Change) -> None:
        if len(change.path) != len(TIMERS) + 1:
            return
        self._leave(change.path)
        if change.after is not None:
            self._enter(change.after)
        self._look_later()

    def _enter(self, resource: Resource) -> None:
        if resource.type != TIMER:
            return
        try:
            timer = timer_at(resource)
        except (Malformed, Wrong) as error:
            self._log.error("the timer {path} does not run: {error}", path=path_text(resource.path), error=error)
            return
        running = _Running(resource, timer, resource.modified_ms, self._clock.now_ms())
        self._timers[resource.path] = running
        self._by_time.add((running.look_ms, resource.path))

    def _leave(self, path: Path) -> None:
        running = self._timers.pop(path, None)
        if running is not None:
            self._by_time.discard((running.look_ms, path))

    def _look_later(self) -> None:
        """Look when the first one is due, and now and then at the clock."""
        self._alarm.stop()
        if self._by_time and self._watch is not None:
            wait_s = (self._by_time[0][0] - self._clock.now_ms()) / 1000
            self._alarm.set(min(LOOK_S, wait_s))

    def _look(self) -> None:
        ahead_ms = self._ahead()
        if ahead_ms < self._ahead_ms - STEPPED_MS:
            for path, running in self._timers.items():
                self._by_time.discard((running.look_ms, path))
                running.look_ms = self._clock.now_ms()
                self._by_time.add((running.look_ms, path))
        self._ahead_ms = ahead_ms
        now_ms = self._clock.now_ms()
        for _ in range(BATCH):
            if not self._by_time or self._by_time[0][0] > now_ms:
                break
            _, path = self._by_time.pop(0)
            self._look_at(path, now_ms)
        self._look_later()

    def _look_at(self, path: Path, now_ms: int) -> None:
        """Do what is due of one timer, and say when it is looked at next; one that will not run any more never is."""
        running = self._timers[path]
        due = running.timer.due(running.settled_ms, now_ms)
        if due.run_ms is None or self._tree.expected(path) is not running.resource:
            # Of one that is just being written, what comes of that decides.
            running.settled_ms = due.settled_ms if due.run_ms is None else running.settled_ms
            look_ms = due.next_ms if due.run_ms is None else now_ms + RETRY_MS
        else:
            look_ms = now_ms + RETRY_MS  # Unless it is committed before.
            self._fire(running, due.run_ms)
            if self._timers.get(path) is not running:
                return
        if look_ms is not None:
            running.look_ms = look_ms
            self._by_time.add((look_ms, path))

    def _fire(self, running: _Running, run_ms: int) -> None:
        if running.firing:
            return
        running.firing = True
        unit = firing(running.resource, run_ms, new_trace())
        done: Deferred[object] = maybeDeferred(self._committer.commit, unit)
        done.addCallbacks(lambda _: self._fired.add(), self._failed, errbackArgs=(running, unit.trace))

    def _failed(self, failure: Failure, running: _Running, trace: str) -> None:
        running.firing = False
        path = path_text(running.resource.path)
        if failure.check(Fault) is None:
            self._log.failure("the timer {path} could not fire", failure, path=path, trace=trace)
            return
        self._log.warn("the timer {path} could not fire yet: {fault}", path=path, fault=failure.getErrorMessage(), trace=trace)

    def _ahead(self) -> int:
        """By how much the wall clock is ahead of the one that does not step, in milliseconds."""
        return self._clock.now_ms() - round(self._reactor.seconds() * 1000)
