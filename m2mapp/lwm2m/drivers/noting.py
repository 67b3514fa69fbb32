"""Writes down what is to be reported: follows leases, registrations and groups, and commits what is new of each device.

What is seen within a moment is one unit. Nothing of it is only in memory for longer: a gateway that is killed looks at its whole tree when
it starts again. Not responsible for what a report says (`report`), nor for sending it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.lwm2m.followed import GROUPS, LEASES, Followed
from m2mapp.lwm2m.report import noted, report
from m2mapp.model.interfaces import IClock, ICommit
from m2mapp.net.alarm import Alarm
from m2mapp.tree.node import REPORTS
from m2mapp.tree.registrations import SCLS, Registrations
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Remove, Unit, Write
from m2mapp.tree.watch import Watch

GATHER_S: Final = 0.05
BATCH: Final = 500
"""So many devices are looked at in one turn of the reactor, and written in one unit."""
MAX_REPORTS: Final = 100_000
"""So many devices wait or are confirmed at most; others wait to be written down until some are gone."""
RETRY_S: Final = 5.0

_log = Logger()


class Noting:
    """Notes what the tree has of devices. `start` before anything else; `stop` leaves nothing pending."""

    def __init__(self, reactor: IReactorTime, tree: Tree, committer: ICommit, clock: IClock, registrations: Registrations) -> None:
        self._tree, self._committer, self._clock = tree, committer, clock
        self._registrations = registrations
        self._followed = Followed(tree, registrations)
        self._touched: dict[str, None] = {}
        self._watches: list[Watch] = []
        self._alarm = Alarm(reactor, self._note)
        self._count = 0
        self._writing = False

    def start(self) -> None:
        """Look at all that is there, and follow the tree."""
        self._followed = Followed(self._tree, self._registrations)
        kept = [resource.path[-1] for resource in self._tree.children(REPORTS)]
        self._count = len(kept)
        self._watches = [self._tree.watch(path, self._on_change, subtree=True) for path in (LEASES, SCLS, GROUPS)]
        self._watches.append(self._tree.watch(REPORTS, self._on_report, subtree=True))
        self._touch((*self._followed.load(), *kept))

    def stop(self) -> None:
        """Follow it no more."""
        for watch in self._watches:
            watch.stop()
        self._watches.clear()
        self._touched.clear()
        self._alarm.stop()

    def _on_change(self, change: Change) -> None:
        self._touch(sorted(self._followed.changed(change)))

    def _on_report(self, change: Change) -> None:
        if len(change.path) > len(REPORTS):
            self._count += (change.after is not None) - (change.before is not None)

    def _touch(self, duids: list[str] | tuple[str, ...]) -> None:
        self._touched.update(dict.fromkeys(duids))
        self._schedule(GATHER_S)

    def _schedule(self, pause_s: float) -> None:
        if self._touched and not self._alarm.is_set and not self._writing:
            self._alarm.set(pause_s)

    def _note(self) -> None:
        duids = list(self._touched)[:BATCH]
        changes: list[Write | Remove] = []
        number = self._tree.next_number
        full = False
        for duid in duids:
            before = self._tree.expected((*REPORTS, duid))
            if before is None and self._count + len(changes) >= MAX_REPORTS:
                full = True
                continue
            del self._touched[duid]
            kept = before.attributes.get("report") if before is not None else None
            document = report(self._followed.seen(duid), kept if isinstance(kept, Mapping) else None, self._clock.now_ms())
            change = noted(duid, document, before, number + len(changes))
            if change is not None:
                changes.append(change)
        if full:
            _log.warn("there are {count} reports of devices, and no more are written down", count=self._count)
        if not changes:
            self._schedule(RETRY_S if full else 0.0)
            return
        self._writing = True
        done: Deferred[object] = self._committer.commit(Unit(tuple(changes)))
        done.addCallbacks(self._written, self._not_written, errbackArgs=(duids,))

    def _written(self, _: object) -> None:
        self._writing = False
        if self._watches:
            self._schedule(0.0)

    def _not_written(self, failure: Failure, duids: list[str]) -> None:
        _log.warn("what is to be reported could not be written, again in {s} s: {why}", s=RETRY_S, why=failure.getErrorMessage())
        self._writing = False
        if self._watches:
            self._touched.update(dict.fromkeys(duids))
            self._schedule(RETRY_S)
