"""One after another: edits of one group, each decided when the one before is committed or dropped.

An edit is planned from what the group is; two that were planned from the same state would leave the sets of both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred

from m2mapp.model.errors import TooManyRequests

MOST_WAITING = 64
"""So many edits of one group may wait."""

T = TypeVar("T")


class _Line:
    def __init__(self) -> None:
        self.waiting: deque[tuple[Callable[[], Deferred[object]], Deferred[object]]] = deque()
        self.busy = self.serving = False


class Turns:
    """The lines in which edits wait, by group."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        """How many groups are being edited."""
        return len(self._lines)

    def take(self, name: str, call: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Make the call when those before it of this name are done; a Deferred of its result. Raises `TooManyRequests`."""
        line = self._lines.setdefault(name, _Line())
        if len(line.waiting) >= MOST_WAITING:
            raise TooManyRequests(f"{MOST_WAITING} changes of the group {name} are waiting")
        done: Deferred[T] = Deferred()
        line.waiting.append((call, done))  # type: ignore[arg-type]  # each Deferred gets what its own call gives
        self._serve(name, line)
        return done

    def _serve(self, name: str, line: _Line) -> None:
        # A loop, and not the end of one call beginning the next: many that end at once would be as many calls deep.
        if line.serving:
            return
        line.serving = True
        while line.waiting and not line.busy:
            call, done = line.waiting.popleft()
            line.busy = True
            maybeDeferred(call).addBoth(self._over, done, name, line)
        line.serving = False
        if not line.busy and self._lines.get(name) is line:
            del self._lines[name]

    def _over(self, result: object, done: Deferred[object], name: str, line: _Line) -> None:
        line.busy = False
        done.callback(result)  # A failure, too: then it is the errbacks that are called.
        self._serve(name, line)
