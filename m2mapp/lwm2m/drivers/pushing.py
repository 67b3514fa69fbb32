"""Pushes reports: in the order in which they began to wait, one request at a time, until the server has confirmed them.

At once each by itself, or what has gathered in `batch_s` by one request; many that wait, as after the server was away, go together in any
case. While the server does not take them pauses grow; nothing is lost, since what waits is in the tree. Not responsible for what is said
(`pushing`), nor for what waits (`report`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.lwm2m.pushing import Target, Verdict, is_unknown, not_taken, reason, verdict
from m2mapp.lwm2m.report import QUEUED, Queue, confirmed, queued_again, refused
from m2mapp.model.errors import Fault, PeerFailed
from m2mapp.model.interfaces import IClock, ICommit, IRequester
from m2mapp.model.messages import Answer, Outgoing
from m2mapp.net.alarm import Alarm
from m2mapp.tree.node import REPORTS
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Remove, Resource, Unit, Write
from m2mapp.tree.watch import Watch

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
SPREAD: Final = 0.1
ONE_BY_ONE: Final = 8
"""So many that wait are told one by one where no batch is wanted; more go together."""
BATCH: Final = 500
"""So many devices are in one request at most: some 250 kB."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class PushNode:
    """The parts of the node that the pushing works on."""

    tree: Tree
    committer: ICommit
    clock: IClock
    requester: IRequester
    random: Random


class Pushing:
    """Pushes to one server. `batch_s`: 0: each at once. `on_confirmed` is told how many were."""

    def __init__(
        self, reactor: IReactorTime, node: PushNode, target: Target, batch_s: float, on_confirmed: Callable[[int], object] = lambda _: None
    ) -> None:
        self._node, self._target, self._batch_s, self._on_confirmed = node, target, batch_s, on_confirmed
        self._queue = Queue()
        self._watch: Watch | None = None
        self._alarm = Alarm(reactor, self._push)
        self._under_way: Deferred[None] | None = None
        self._busy = self._greeted = self._singly = False
        self._pause_s = FIRST_PAUSE_S

    def __len__(self) -> int:
        """How many reports wait."""
        return len(self._queue)

    def start(self) -> None:
        """Take what waits in the tree, and what comes."""
        tree = self._node.tree
        for resource in tree.children(REPORTS):
            self._queue.take(resource.path[-1], resource)
        self._watch = tree.watch(REPORTS, self._on_change, subtree=True)
        self._busy = self._greeted = self._singly = False
        self._pause_s = FIRST_PAUSE_S
        self._schedule(0.0)

    def stop(self) -> None:
        """Send nothing further. What was sent and not confirmed waits on disk, and is sent again after a start."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._queue.clear()
        self._alarm.stop()
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.cancel()

    def _on_change(self, change: Change) -> None:
        if len(change.path) > len(REPORTS):
            self._queue.take(change.path[-1], change.after)
            self._schedule(self._batch_s)

    def _schedule(self, pause_s: float) -> None:
        if not self._alarm.is_set and not self._busy and self._watch is not None and (len(self._queue) or not self._greeted):
            self._alarm.set(pause_s)

    def _push(self) -> None:
        if not self._greeted:
            self._send(self._target.greeting(), self._greeting_answered)
            return
        together = (self._batch_s > 0 or len(self._queue) > ONE_BY_ONE) and not self._singly
        waiting = [self._node.tree.find((*REPORTS, duid)) for duid in self._queue.first(BATCH if together else 1)]
        sent = {resource.path[-1]: resource for resource in waiting if resource is not None}
        if not sent:  # the confirmation of the last ones was told here before the queue followed the tree
            return
        reports = {duid: _report_of(resource) for duid, resource in sent.items()}
        if len(sent) == 1 or not together:
            duid = next(iter(sent))
            outgoing = self._target.one(duid, reports[duid])
        else:
            outgoing = self._target.many(reports, whole=len(sent) == len(self._node.tree.children(REPORTS, limit=BATCH + 1)))
        self._send(outgoing, lambda answer: self._answered(outgoing, sent, answer))

    def _send(self, outgoing: Outgoing, on_answer: Callable[[Answer], Deferred[None]]) -> None:
        self._busy = True
        sent: Deferred[Answer] = maybeDeferred(self._node.requester.send, outgoing)
        done = sent.addCallback(on_answer).addErrback(self._failed)
        if not done.called:
            self._under_way = done

    def _greeting_answered(self, answer: Answer) -> Deferred[None]:
        """The server knows the gateway, or has to be told of all its devices (again)."""
        if is_unknown(answer):
            number = self._node.tree.next_number
            known = self._node.tree.children(REPORTS)
            return self._commit([queued_again(resource, number) for resource in known if not _waits(resource)], greeted=True)
        if not answer.ok and answer.code[:1] != "4":
            return fail(PeerFailed(reason(answer)))
        return self._commit([], greeted=True)  # a token that may not read can write all the same

    def _answered(self, outgoing: Outgoing, sent: dict[str, Resource], answer: Answer) -> Deferred[None]:
        found = verdict(outgoing.method, answer)
        if found is Verdict.AGAIN:
            return fail(PeerFailed(reason(answer)))
        if found is Verdict.REFUSED and len(sent) > 1:
            self._singly = True  # whichever it is, it must not keep the others
            return self._commit([])
        faults = not_taken(answer) if found is Verdict.CONFIRMED else dict.fromkeys(sent, reason(answer))
        for duid in faults.keys() & sent.keys():
            _log.warn("{server} does not take the report of {duid}: {why}", server=self._target.uri(), duid=duid, why=faults[duid])
        now_ms = self._node.clock.now_ms()
        changes = []
        for duid, resource in sent.items():
            if self._node.tree.expected(resource.path) is resource:  # else it has changed since, and waits with that
                changes.append(refused(resource, faults[duid]) if duid in faults else confirmed(resource, now_ms))
        self._on_confirmed(len(sent) - len(faults))
        return self._commit(changes)

    def _commit(self, changes: list[Write | Remove], *, greeted: bool = False) -> Deferred[None]:
        """Write it down, then go on; what cannot be written down is sent again."""
        self._pause_s = FIRST_PAUSE_S
        done: Deferred[object] = self._node.committer.commit(Unit(tuple(changes))) if changes else succeed(None)

        def next_one(_: object) -> None:
            self._greeted = self._greeted or greeted
            self._over()
            self._singly = self._singly and len(self._queue) > 0
            self._schedule(self._batch_s if len(self._queue) < BATCH and not self._singly else 0.0)

        return done.addCallback(next_one)

    def _over(self) -> None:
        self._busy, self._under_way = False, None

    def _failed(self, failure: Failure) -> None:
        if self._watch is None:
            return
        if failure.check(Fault) is None:
            _log.failure("a report could not be pushed", failure)
        why = failure.getErrorMessage()
        self._over()
        text = "{count} reports of devices wait for {server}, asked again in about {s:g} s: {why}"
        _log.warn(text, count=len(self._queue), server=self._target.uri(), s=self._pause_s, why=why)
        pause_s, self._pause_s = self._pause_s, min(LONGEST_PAUSE_S, self._pause_s * 2)
        self._greeted = False  # it may come back without what it knew
        self._schedule(pause_s * (1 - SPREAD * self._node.random.random()))


def _report_of(resource: Resource) -> dict[str, object] | None:
    report = resource.attributes.get("report")
    return report if isinstance(report, dict) else None


def _waits(resource: Resource) -> bool:
    return resource.attributes.get(QUEUED) is not None
