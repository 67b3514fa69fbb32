"""Ends temporary groups when their time has come, by the wall clock, also where that steps or the node was off meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.groups.group import GROUP, GROUPS, expires_ms
from m2mapp.model.interfaces import IClock
from m2mapp.net.alarm import Alarm
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change
from m2mapp.tree.watch import Watch

LOOK_S = 60.0
"""The wall clock is looked at as often at least: a box that learns the time ends what is over within a minute."""
RETRY_S = 5.0

_log = Logger(namespace="m2mapp.groups.ending")


class Ender:
    """Follows the groups; `end` ends the one of that name, if it still has to be."""

    def __init__(self, reactor: IReactorTime, clock: IClock, tree: Tree, end: Callable[[str], Deferred[None]]) -> None:
        self._clock, self._tree, self._end = clock, tree, end
        self._expires_ms: dict[str, int] = {}
        self._alarm = Alarm(reactor, self._look)
        self._watch: Watch | None = None

    def start(self) -> None:
        """End groups from now on, those first whose time came while nobody looked."""
        for group in self._tree.children(GROUPS):
            self._enter(group.path[-1], expires_ms(group))
        self._watch = self._tree.watch(GROUPS, self._on_change, subtree=True)
        self._wait()

    def stop(self) -> None:
        """End none any more."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._alarm.stop()
        self._expires_ms.clear()

    def _on_change(self, change: Change) -> None:
        either = change.after or change.before
        if either is not None and either.type == GROUP:
            self._enter(change.path[-1], expires_ms(change.after) if change.after is not None else None)
            self._wait()

    def _enter(self, name: str, at_ms: int | None) -> None:
        if at_ms is None:
            self._expires_ms.pop(name, None)
        else:
            self._expires_ms[name] = at_ms

    def _wait(self, least_s: float = 0.0) -> None:
        self._alarm.stop()
        if self._expires_ms and self._watch is not None:
            left_s = (min(self._expires_ms.values()) - self._clock.now_ms()) / 1000
            self._alarm.set(min(LOOK_S, max(least_s, left_s)))

    def _look(self) -> None:
        now_ms = self._clock.now_ms()
        for name in [name for name, at_ms in self._expires_ms.items() if at_ms <= now_ms]:
            maybeDeferred(self._end, name).addErrback(self._failed, name)
        # One whose end is under way is still there: it is not looked at again at once.
        self._wait(RETRY_S)

    @staticmethod
    def _failed(failure: Failure, name: str) -> None:
        _log.warn(
            "the group {name} is over and could not be ended, again in {s} s: {why}", name=name, s=RETRY_S, why=failure.getErrorMessage()
        )
