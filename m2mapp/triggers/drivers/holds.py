"""Waits until rules have held for their time, and remembers when operations ran that rest afterwards. What that means is in `holding`.

Both are kept over a restart, in the keeper's commits, for operations that have `for` or `holdoff` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from m2mapp.model.interfaces import IClock
from m2mapp.tree.unit import Document
from m2mapp.triggers.changes import SubjectChange
from m2mapp.triggers.holding import Held, held_in, rests
from m2mapp.triggers.operation import Operation

HELD_KEY, LAST_KEY = "h/", "l/"
RETRY_S = 1.0


class Keeps(Protocol):
    """Keeps small documents by key over a restart."""

    def put(self, key: str, make: Callable[[], Document]) -> None:
        """Keep a document."""

    def remove(self, key: str) -> None:
        """Keep it no longer; that it is not kept is no error."""


class Holds:
    """What rules have held since when. `elapsed` is told of one that has held for its time."""

    def __init__(self, reactor: IReactorTime, clock: IClock, keeps: Keeps) -> None:
        self._reactor, self._clock, self._keeps = reactor, clock, keeps
        self.elapsed: Callable[[Held], None] = lambda _: None
        self._held: dict[str, Held] = {}
        self._calls: dict[str, IDelayedCall] = {}
        self._last: dict[str, int] = {}

    def seen(self, operation: Operation, change: SubjectChange, *, holds_now: bool) -> str:
        """A change was evaluated by an operation with `for`: why it does not run now, which it never does at once."""
        key = operation.key
        if not holds_now:
            self.forget(key)
            return ""
        held = self._held.get(key)
        if held is not None and held.for_s != operation.for_s:
            self.forget(key)  # It was written anew: it has to hold for another time, from now on.
            held = None
        if held is None:
            held = Held(key, change.path, change.at_ms, operation.for_s, cause=change.cause, trace=change.trace)
            self._put(held)
            self._wait(held)
        if held.ran:
            return "it ran when its rule had held for its time, and runs again when the rule has ceased to hold"
        return f"its rule has to hold for {held.left_s(self._clock.now_ms()):.3g} s more"

    def due(self, change: SubjectChange) -> bool:
        """Whether the rule still holds, without a break, and the operation did not run for that; from now on it has."""
        held = self._held.get(change.only)
        if held is None or held.since_ms != change.since_ms or held.ran not in (0, change.number):
            return False
        self._put(replace(held, ran=change.number))
        return True

    def later(self, held: Held) -> None:
        """What is due could not be kept: try again soon."""
        if self._held.get(held.key) == held and held.key not in self._calls:
            self._calls[held.key] = self._reactor.callLater(RETRY_S, self._over, held)

    def forget(self, key: str) -> None:
        """The rule does not hold any more, or the operation is gone."""
        if self._held.pop(key, None) is not None:
            self._keeps.remove(HELD_KEY + key)
        call = self._calls.pop(key, None)
        if call is not None:
            call.cancel()

    def gone(self, key: str) -> None:
        """The operation is gone: one that is made in its place rests no more."""
        self.forget(key)
        if self._last.pop(key, None) is not None:
            self._keeps.remove(LAST_KEY + key)

    def runs(self, operation: Operation) -> None:
        """An operation runs now: it rests from now on, where it has `holdoff`."""
        if operation.holdoff_s:
            at_ms = self._last[operation.key] = self._clock.now_ms()
            self._keeps.put(LAST_KEY + operation.key, lambda: {"at": at_ms})

    def rests(self, operation: Operation) -> float:
        """How long an operation still rests, in seconds."""
        return rests(operation.holdoff_s, self._last.get(operation.key), self._clock.now_ms())

    def restore(self, kept: Callable[[str], list[tuple[str, Document]]]) -> None:
        """Take over what was kept before the last stop: `kept` gives it by the beginning of the key."""
        for key, document in kept(LAST_KEY):
            at = document.get("at")
            if isinstance(at, int):
                self._last.setdefault(key.removeprefix(LAST_KEY), at)
        for _, document in kept(HELD_KEY):
            held = held_in(document)
            if held is not None:
                self._held.setdefault(held.key, held)

    def start(self) -> None:
        """Wait for what was restored."""
        for held in self._held.values():
            if not held.ran and held.key not in self._calls:
                self._wait(held)

    def stop(self) -> None:
        """Wait for nothing."""
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()

    def _put(self, held: Held) -> None:
        self._held[held.key] = held
        self._keeps.put(HELD_KEY + held.key, held.document)

    def _wait(self, held: Held) -> None:
        self._calls[held.key] = self._reactor.callLater(held.left_s(self._clock.now_ms()), self._over, held)

    def _over(self, held: Held) -> None:
        self._calls.pop(held.key, None)
        self.elapsed(held)
