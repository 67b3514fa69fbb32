"""Follows the registrations: a device that registers is told of its groups again, and groups that have it as a member are planned again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.groups.index import MemberIndex, hosts_of
from m2mapp.model.errors import Fault, Overloaded, StorageFailed, StorageFull, TooManyRequests
from m2mapp.net.alarm import Alarm
from m2mapp.tree.registrations import SCL, SCLS, Device, device_of
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change
from m2mapp.tree.watch import Watch

AFTER_S = 0.5
"""Devices that register together are gathered: the groups are planned once for all of them."""
RETRY_S = 5.0
_PASSING = (StorageFull, StorageFailed, Overloaded, TooManyRequests)
"""Faults that pass: then it is planned once more. Any other one says that the group cannot be planned as it is."""
_SHARE = 10
"""Planning takes no more than one part in so many of the time, however fast devices come and go."""

_log = Logger(namespace="m2mapp.groups.replan")


class Replanner:
    """Plans groups again, one a turn of the reactor.

    `plan` plans the group of that name and commits what changes: a Deferred that fires when that is done. `on_registered` is told of
    each device that registered, also where it says the same as before: it may have started anew and lost its groups.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        tree: Tree,
        index: MemberIndex,
        plan: Callable[[str], Deferred[None]],
        on_registered: Callable[[Device], None],
    ) -> None:
        self._reactor, self._tree, self._index = reactor, tree, index
        self._plan, self._on_registered = plan, on_registered
        self._names: dict[str, None] = {}
        self._failed_names: dict[str, None] = {}
        self._alarm = Alarm(reactor, self._next)
        self._retry_alarm = Alarm(reactor, self._once_more)
        self._watch: Watch | None = None

    @property
    def depth(self) -> int:
        """How many groups wait to be planned again."""
        return len(self._names) + len(self._failed_names)

    def start(self) -> None:
        """Follow the registrations from now on."""
        self._watch = self._tree.watch(SCLS, self._on_change, subtree=True)

    def plan_soon(self, names: Iterable[str]) -> None:
        """Plan these groups again, with what else comes in a moment; what is asked for while nothing is followed is left."""
        if self._watch is not None:
            self._add(list(names), AFTER_S)

    def stop(self) -> None:
        """Follow no more; what waits is not planned."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._alarm.stop()
        self._retry_alarm.stop()
        self._names.clear()
        self._failed_names.clear()

    def _on_change(self, change: Change) -> None:
        before = device_of(change.before) if change.before is not None and change.before.type == SCL else None
        after = device_of(change.after) if change.after is not None and change.after.type == SCL else None
        if after is not None:
            self._on_registered(after)
        if after != before:
            for device in (before, after):
                self._add(self._index.groups_at(hosts_of(device)) if device is not None else [], AFTER_S)

    def _add(self, names: list[str], after_s: float) -> None:
        self._names.update(dict.fromkeys(names))
        if self._names and not self._alarm.is_set:
            self._alarm.set(after_s)

    def _next(self) -> None:
        name = next(iter(self._names))
        del self._names[name]
        began_s = self._reactor.seconds()
        maybeDeferred(self._plan, name).addErrback(self._failed, name)
        self._add([], (self._reactor.seconds() - began_s) * _SHARE)

    def _failed(self, failure: Failure, name: str) -> None:
        if failure.check(Fault) is None:
            _log.failure("group {name} could not be planned again", failure, name=name)
            return
        _log.warn("group {name} could not be planned again: {why}", name=name, why=failure.getErrorMessage())
        if failure.check(*_PASSING) is not None and self._watch is not None:
            self._failed_names[name] = None
            if not self._retry_alarm.is_set:
                self._retry_alarm.set(RETRY_S)

    def _once_more(self) -> None:
        names, self._failed_names = list(self._failed_names), {}
        self._add(names, 0.0)
