"""Who is told of which changes: watchers of one resource, and of all at and below a path."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import Change

OnChange = Callable[[Change], None]


class Watch:
    """One watcher, until it is stopped. It is told of changes above the number `since`: those before were there when it began."""

    __slots__ = ("_on_change", "_registry", "_stopped", "path", "since")

    def __init__(self, registry: dict[Path, dict[Watch, None]], path: Path, on_change: OnChange, since: int) -> None:
        self._registry, self.path, self._on_change, self.since = registry, path, on_change, since
        self._stopped = False
        registry.setdefault(path, {})[self] = None

    def tell(self, change: Change) -> None:
        """Hand on one change, if it is one for this watcher."""
        if not self._stopped and change.number > self.since:
            self._on_change(change)

    def stop(self) -> None:
        """No further changes, not even of one that is being told; stopping twice is no error."""
        if self._stopped:
            return
        self._stopped = True
        watchers = self._registry[self.path]
        del watchers[self]
        if not watchers:
            del self._registry[self.path]


class Watchers:
    """All watchers of one tree. Telling a change costs its depth and those concerned, not the number of watchers.

    `on_error` is called with what a watcher raised; the others are told all the same.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._exact: dict[Path, dict[Watch, None]] = {}
        self._subtree: dict[Path, dict[Watch, None]] = {}
        self._on_error = on_error
        self._untold: deque[Change] = deque()
        self._telling = False

    def add(self, path: Path, on_change: OnChange, *, since: int, subtree: bool = False) -> Watch:
        """Call `on_change` with every change of the resource at the path that is above `since`, with `subtree` also of all below it."""
        return Watch(self._subtree if subtree else self._exact, path, on_change, since)

    def tell(self, change: Change) -> None:
        """Tell all whom the change concerns. What a watcher itself causes is told after this, so that all see one order."""
        self._untold.append(change)
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                self._tell_all(self._untold.popleft())
        finally:
            self._telling = False

    def _tell_all(self, change: Change) -> None:
        # Copies, since watchers may come and go while they are told.
        for watch in tuple(self._exact.get(change.path, ())):
            self._tell_one(watch, change)
        if self._subtree:
            for depth in range(len(change.path) + 1):
                for watch in tuple(self._subtree.get(change.path[:depth], ())):
                    self._tell_one(watch, change)

    def _tell_one(self, watch: Watch, change: Change) -> None:
        try:
            watch.tell(change)
        except Exception as error:  # noqa: BLE001 - one watcher must not keep a committed change from the others
            self._on_error(error)
