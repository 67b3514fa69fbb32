"""Writes how far each member is in joining: gathers what was learned for a moment and commits it as one unit for all sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.groups.group import FANOUT_SET, GROUPS, SETS, Join, set_of
from m2mapp.model.interfaces import ICommit
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Unit, Write

GATHER_S = 0.1
RETRY_S = 5.0
SetKey = tuple[str, str]
"""A fan-out set: the group's name and the set's."""

_log = Logger(namespace="m2mapp.groups.joins")


class JoinBook:
    """What is known of joins and not yet written."""

    def __init__(self, reactor: IReactorTime, tree: Tree, committer: ICommit) -> None:
        self._reactor, self._tree, self._committer = reactor, tree, committer
        self._news: dict[SetKey, dict[str, Join]] = {}
        self._timer: IDelayedCall | None = None

    def note(self, key: SetKey, uris: Iterable[str], join: Join) -> None:
        """These members of the set are so far now."""
        self._news.setdefault(key, {}).update(dict.fromkeys(uris, join))
        self._schedule(GATHER_S)

    def stop(self) -> None:
        """Write nothing further: what is lost is learned again by telling the devices again."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _schedule(self, delay_s: float) -> None:
        if self._timer is None or not self._timer.active():
            self._timer = self._reactor.callLater(delay_s, self._write)

    def _write(self) -> None:
        news, self._news = self._news, {}
        writes = [write for key, joins in news.items() if (write := self._update(key, joins)) is not None]
        if writes:
            done: Deferred[object] = self._committer.commit(Unit(tuple(writes)))
            done.addErrback(self._failed, news)

    def _update(self, key: SetKey, joins: dict[str, Join]) -> Write | None:
        path = (*GROUPS, key[0], SETS, key[1])
        resource = self._tree.expected(path)
        if resource is None:
            return None
        known = set_of(resource)
        changed = {uri: join for uri, join in joins.items() if uri in known.joins and known.joins[uri] is not join}
        if not changed:
            return None
        return Write(path, FANOUT_SET, replace(known, joins={**known.joins, **changed}).document())

    def _failed(self, failure: Failure, news: dict[SetKey, dict[str, Join]]) -> None:
        _log.warn("joins could not be written, again in {s} s: {why}", s=RETRY_S, why=failure.getErrorMessage())
        for key, joins in news.items():
            self._news[key] = {**joins, **self._news.get(key, {})}
        self._schedule(RETRY_S)
