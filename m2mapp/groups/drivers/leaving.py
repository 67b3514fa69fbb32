"""Crosses out the leaves that devices have confirmed: gathers them for a moment and commits them as one unit."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.groups.leaves import SetKey, leave_of, leave_path, without
from m2mapp.model.interfaces import ICommit
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Unit

GATHER_S = 0.1
GATHER_LARGE_S = 0.0001
"""More for each member that the records have which are written: each write costs the whole record."""
RETRY_S = 5.0

_log = Logger(namespace="m2mapp.groups.leaving")


class LeaveBook:
    """What has been confirmed and is not yet crossed out. Nothing is taken before `start` and after `stop`."""

    def __init__(self, reactor: IReactorTime, tree: Tree, committer: ICommit) -> None:
        self._reactor, self._tree, self._committer = reactor, tree, committer
        self._news: dict[SetKey, dict[str, int]] = {}
        self._timer: IDelayedCall | None = None
        self._gather_s = GATHER_S
        self._running = False

    def start(self) -> None:
        """Take news from now on."""
        self._running = True
        self._gather_s = GATHER_S

    def note(self, key: SetKey, members: Mapping[str, int]) -> None:
        """These leaves, by their numbers, are not owed any more."""
        if self._running and members:
            self._news.setdefault(key, {}).update(members)
            self._schedule(self._gather_s)

    def stop(self) -> None:
        """Write nothing further: what is lost is learned again by telling the devices again."""
        self._running = False
        self._news.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, delay_s: float) -> None:
        if self._timer is None:
            self._timer = self._reactor.callLater(delay_s, self._write)

    def _write(self) -> None:
        self._timer = None
        news, self._news = self._news, {}
        # Read and staged in one turn of the reactor, so no edit can come between what was read and what is written.
        changes, size = [], 0
        for key, members in news.items():
            record = self._tree.expected(leave_path(key))
            change = without(record, members) if record is not None else None
            if record is not None and change is not None:
                changes.append(change)
                size += len(leave_of(record).members)
        self._gather_s = GATHER_S + GATHER_LARGE_S * size
        if changes:
            done: Deferred[object] = self._committer.commit(Unit(tuple(changes)))
            done.addErrback(self._failed, news)

    def _failed(self, failure: Failure, news: dict[SetKey, dict[str, int]]) -> None:
        _log.warn("leaves could not be crossed out, again in {s} s: {why}", s=RETRY_S, why=failure.getErrorMessage())
        if not self._running:
            return
        for key, members in news.items():
            self._news[key] = {**members, **self._news.get(key, {})}
        self._schedule(RETRY_S)
