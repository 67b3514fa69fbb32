"""Writes how far each member is in joining: gathers what was learned for a moment and commits it as one unit for all sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.groups.group import FANOUT_SET, GROUPS, SETS, Join, raw_joins, set_of
from m2mapp.model.interfaces import ICommit
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Unit, Write

GATHER_S = 0.1
GATHER_LARGE_S = 0.0001
"""More for each member of the sets that are written: each write costs the whole set."""
RETRY_S = 5.0
SetKey = tuple[str, str, str]
"""A fan-out set while it has one address: the group's name, the set's, and the address. What is learned of another address is void."""

_log = Logger(namespace="m2mapp.groups.joins")


class JoinBook:
    """What is known of joins and not yet written. Nothing is taken before `start` and after `stop`."""

    def __init__(self, reactor: IReactorTime, tree: Tree, committer: ICommit) -> None:
        self._reactor, self._tree, self._committer = reactor, tree, committer
        self._news: dict[SetKey, dict[str, Join]] = {}
        self._timer: IDelayedCall | None = None
        self._gather_s = GATHER_S
        self._running = False

    def start(self) -> None:
        """Take news from now on."""
        self._running = True
        self._gather_s = GATHER_S

    def note(self, key: SetKey, uris: Iterable[str], join: Join) -> None:
        """These members of the set are so far now."""
        if self._running:
            self._news.setdefault(key, {}).update(dict.fromkeys(uris, join))
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
        writes: list[Write] = []
        members = 0
        for key, joins in news.items():
            write, size = self._update(key, joins)
            members += size
            if write is not None:
                writes.append(write)
        self._gather_s = GATHER_S + GATHER_LARGE_S * members
        if writes:
            # Read and staged in one turn of the reactor, so no edit can come between what was read and what is written.
            done: Deferred[object] = self._committer.commit(Unit(tuple(writes)))
            done.addErrback(self._failed, news)

    def _update(self, key: SetKey, joins: dict[str, Join]) -> tuple[Write | None, int]:
        """The set with what is new, and how many members it has; None where nothing is, or the set is another by now."""
        group, name, address = key
        path = (*GROUPS, group, SETS, name)
        resource = self._tree.expected(path)
        if resource is None or resource.attributes["fanoutAddress"] != address:
            return None, 0
        known = raw_joins(resource)
        changed = {uri: join for uri, join in joins.items() if uri in known and known[uri] != join.value}
        if not changed:
            return None, len(known)
        one = set_of(resource)
        return Write(path, FANOUT_SET, replace(one, joins={**one.joins, **changed}).document()), len(known)

    def _failed(self, failure: Failure, news: dict[SetKey, dict[str, Join]]) -> None:
        _log.warn("joins could not be written, again in {s} s: {why}", s=RETRY_S, why=failure.getErrorMessage())
        if not self._running:
            return
        for key, joins in news.items():
            self._news[key] = {**joins, **self._news.get(key, {})}
        self._schedule(RETRY_S)
