"""Reads groups at other servers: their members, and those of the groups in them, as far as there is time (spec section 6).

Bounded in how many are read, how many at once, and how long anybody waits. What is known, and for how long, is in `nested`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.documents import JSON
from m2mapp.groups.drivers.asking import WAIT_S
from m2mapp.groups.nested import KEEP_S, GroupGraph, read_group
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer, Method, Outgoing

MOST_READ = 64
"""So many groups are read at most for one question."""
AT_ONCE = 16
"""So many are read at the same time."""
READ_S = 2.0
"""So long one group is waited for: less than whoever asks waits for all, who is to know that it did not answer."""

_log = Logger(namespace="m2mapp.groups.reading")


class GroupReader:
    """Reads what is due of the groups of a graph. `on_news` is told the URIs of which something new is known."""

    def __init__(self, reactor: IReactorTime, requester: IRequester, graph: GroupGraph, on_news: Callable[[list[str]], None]) -> None:
        self._reactor, self._requester, self._graph, self._on_news = reactor, requester, graph, on_news
        self._rounds: dict[Deferred[None], None] = {}
        self._reading: dict[str, Deferred[None]] = {}

    def stop(self) -> None:
        """Read nothing further; whoever waits goes on with what is known."""
        for done in list(self._rounds):
            done.cancel()
        for asked in list(self._reading.values()):
            asked.cancel()

    def is_due(self, nodes: Iterable[str], max_age_s: float = KEEP_S) -> bool:
        """Whether any of these groups, or of those in them, is to be asked for (again); `max_age_s`: so old what was read may be."""
        seen: dict[str, None] = {}
        level = list(dict.fromkeys(nodes))
        while level and len(seen) < MOST_READ:
            if self._due(level, seen, max_age_s):
                return True
            seen.update(dict.fromkeys(level))
            level = self._below(level, seen)
        return False

    def read(self, nodes: Iterable[str], timeout_s: float = WAIT_S, max_age_s: float = KEEP_S) -> Deferred[None]:
        """Know these groups and those that they contain: a Deferred that fires when that is so, or it took long enough.

        Groups of this node are gone through without a message.
        """
        wanted = list(dict.fromkeys(nodes))
        done = Deferred.fromCoroutine(self._go_through(wanted, max_age_s))
        self._rounds[done] = None
        done.addTimeout(timeout_s, self._reactor, lambda _result, _timeout: None)
        done.addErrback(_stopped)
        return done.addBoth(self._over, done)

    def _over(self, _: object, done: Deferred[None]) -> None:
        self._rounds.pop(done, None)

    async def _go_through(self, nodes: list[str], max_age_s: float) -> None:
        """Level by level: what contains what is known when its level was read."""
        seen: dict[str, None] = {}
        level = nodes
        asked = 0
        while level and asked < MOST_READ:
            due = self._due(level, seen, max_age_s)
            seen.update(dict.fromkeys(level))
            for start in range(0, len(due), AT_ONCE):
                batch = due[start : start + AT_ONCE][: MOST_READ - asked]
                asked += len(batch)
                await gatherResults([self._read_one(node) for node in batch], consumeErrors=True)
            level = self._below(level, seen)

    def _below(self, level: list[str], seen: dict[str, None]) -> list[str]:
        inner = (node for at in level for node in self._graph.groups_in(self._graph.members(at)))
        return [node for node in dict.fromkeys(inner) if node not in seen]

    def _due(self, nodes: list[str], seen: dict[str, None], max_age_s: float) -> list[str]:
        now, graph = self._reactor.seconds(), self._graph
        elsewhere = (node for node in nodes if node not in seen and graph.name_here(node) is None)
        return [node for node in elsewhere if graph.known.is_due(node, now, max_age_s)]

    def _read_one(self, node: str) -> Deferred[None]:
        """One question for whoever wants to know; it goes on when those have no more time, so that they know it next time."""
        waited: Deferred[None] = Deferred()
        reading = self._reading.get(node)
        if reading is None:
            sent: Deferred[Answer] = maybeDeferred(self._requester.send, Outgoing(Method.GET, node, accept=JSON, timeout_s=READ_S))
            reading = self._reading[node] = sent.addErrback(_no_answer).addCallback(self._learn, node)
            if sent.called:
                self._reading.pop(node, None)
                return succeed(None)
        reading.addCallback(lambda _: None if waited.called else waited.callback(None))
        return waited

    def _learn(self, answer: Answer | None, node: str) -> None:
        self._reading.pop(node, None)
        if self._graph.known.learned(node, read_group(answer), self._reactor.seconds()):
            self._on_news([node])


def _stopped(failure: Failure) -> None:
    """Who waits goes on with what is known."""
    failure.trap(CancelledError)


def _no_answer(failure: Failure) -> None:
    if failure.check(Fault, CancelledError) is None:
        _log.failure("another server's group could not be read", failure)
