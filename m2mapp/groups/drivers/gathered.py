"""News of fan-out sets that are gathered for a moment and committed as one unit, since each write costs the whole resource.

Responsible for when, and for trying again. What is written is said by who uses it (`joins`, `leaving`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.groups.leaves import SetKey
from m2mapp.model.interfaces import ICommit
from m2mapp.net.alarm import Alarm
from m2mapp.tree.unit import Remove, Unit, Write

GATHER_S = 0.1
GATHER_LARGE_S = 0.0001
"""More for each member of the resources that are written."""
RETRY_S = 5.0

News = TypeVar("News")
Update = Callable[[SetKey, dict[str, News]], tuple[Write | Remove | None, int]]
"""From a set and what is new of its members to the change, None where there is none, and how many members the resource has."""

_log = Logger(namespace="m2mapp.groups.gathered")


class Gathered(Generic[News]):
    """What is known and not yet written. Nothing is taken before `start` and after `stop`. `what` names it in the log."""

    def __init__(self, reactor: IReactorTime, committer: ICommit, update: Update[News], what: str) -> None:
        self._committer, self._update, self._what = committer, update, what
        self._news: dict[SetKey, dict[str, News]] = {}
        self._alarm = Alarm(reactor, self._write)
        self._gather_s = GATHER_S
        self._running = False

    def start(self) -> None:
        """Take news from now on."""
        self._running = True
        self._gather_s = GATHER_S

    def note(self, key: SetKey, members: Mapping[str, News]) -> None:
        """This is new of these members of the set."""
        if self._running and members:
            self._news.setdefault(key, {}).update(members)
            self._schedule(self._gather_s)

    def stop(self) -> None:
        """Write nothing further: what is lost is learned again by telling the devices again."""
        self._running = False
        self._news.clear()
        self._alarm.stop()

    def _schedule(self, delay_s: float) -> None:
        if not self._alarm.is_set:
            self._alarm.set(delay_s)

    def _write(self) -> None:
        news, self._news = self._news, {}
        # Read and staged in one turn of the reactor, so no edit can come between what was read and what is written.
        found = [self._update(key, members) for key, members in news.items()]
        self._gather_s = GATHER_S + GATHER_LARGE_S * sum(size for _, size in found)
        changes = tuple(change for change, _ in found if change is not None)
        if changes:
            done: Deferred[object] = self._committer.commit(Unit(changes))
            done.addErrback(self._failed, news)

    def _failed(self, failure: Failure, news: dict[SetKey, dict[str, News]]) -> None:
        _log.warn("{what} could not be written, again in {s} s: {why}", what=self._what, s=RETRY_S, why=failure.getErrorMessage())
        if not self._running:
            return
        for key, members in news.items():
            self._news[key] = {**members, **self._news.get(key, {})}
        self._schedule(RETRY_S)
