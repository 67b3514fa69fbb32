"""Writes down what evaluations came to, and what must not be done twice: before a request leaves that may leave once only, and after it.

What is kept, and how, is in `records`; that commits are shared, in `keeping`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from m2mapp.model.identifiers import Path
from m2mapp.model.metrics import Metrics
from m2mapp.tree.unit import NOTHING, RUNS, Append, Document, Entry, records_journal
from m2mapp.triggers.changes import SubjectChange
from m2mapp.triggers.drivers.ground import Ground
from m2mapp.triggers.drivers.keeping import Keeper
from m2mapp.triggers.operation import Operation
from m2mapp.triggers.records import JOIN_S, Idle, nothing_record, run_record, told_in
from m2mapp.triggers.trace import Evaluation, Outcome

KEY = "r/"
LAST = "lastEvaluation"
LAST_KEPT, LAST_BYTES = 10_000, 16 << 20
"""Of so many operations the last evaluation is in memory; that of others is read from their journals."""
CIRCLE_LOGGED_S = 60.0
"""A circle that an operation is in stands in the log so often at most; each is in the operation's records."""
_CIRCLES = 1_000
_AT_ONCE, _PAUSE_S = 64, 0.02
"""So many operations' records are written at a time, after so long a pause, and not before those before them have left."""
_NEWEST = 200


Explain = Callable[[Operation, SubjectChange, int], Evaluation]
"""Makes the evaluation of an operation that did nothing for a change, with the wall clock's time of it."""


@dataclass(slots=True)
class _Passed:
    """How often an operation's rule did not hold since that was last written, and the first and the last change of these."""

    operation: Operation
    first: tuple[SubjectChange, int]
    last: tuple[SubjectChange, int]
    explain: Explain
    count: int = 1


class Recorder:
    """The records of one node's operations, which are named as in `Evaluation`.

    `exists` says of an operation whether it is still there to have records; `is_open` of a change's number and an operation whether that
    may be evaluated again for it.
    """

    _log = Logger()

    def __init__(
        self,
        keeper: Keeper,
        ground: Ground,
        reactor: IReactorTime,
        metrics: Metrics,
        exists: Callable[[str], bool],
        is_open: Callable[[int, str], bool],
    ) -> None:
        self._keeper, self._ground, self._reactor = keeper, ground, reactor
        self._exists, self._is_open = exists, is_open
        self._states: dict[int, set[str]] = {}
        self._idle: dict[str, Idle] = {}
        self._passed: dict[str, _Passed] = {}
        self._last: OrderedDict[str, Evaluation] = OrderedDict()
        self._last_bytes = 0
        self._circles_s: dict[str, float] = {}
        self._call: IDelayedCall | None = None
        self._running = False
        about = "Evaluations of operations, by what came of them"
        self._counts = {one: metrics.counter("m2mapp_operations_evaluations_total", about, outcome=one.value) for one in Outcome}
        self._did_nothing = self._counts[Outcome.DID_NOTHING]

    # What the engine tells.

    def leaving(self, evaluation: Evaluation) -> Deferred[None]:
        """A request is about to leave that must not leave twice: fires when that is durable, fails with the `Fault` that hindered it.

        If the process is killed before `finished`, the run is recorded as interrupted at the next start, and is not made again.
        """
        number, operation = evaluation.change.number, evaluation.operation
        self._states.setdefault(number, set()).add(operation)
        return self._keeper.saved({_key(number, operation): lambda: _state(number, operation, evaluation.document())})

    def finished(self, evaluation: Evaluation) -> None:
        """A run is over: it is recorded, and not made again for this change, also after a restart.

        One whose target is away is not over, and recorded once in the life of the process, however often it is tried.
        """
        number, operation = evaluation.change.number, evaluation.operation
        if evaluation.outcome is Outcome.CIRCLE:
            self._log_circle(evaluation)
        is_known = evaluation.outcome is Outcome.AWAY and self._was_away(operation, number)
        self._told(evaluation)
        record = run_record(evaluation) if self._exists(operation) and not is_known else None
        if evaluation.outcome is Outcome.AWAY or not self._is_open(number, operation):
            self._drop(number, operation, record)
        else:
            self._over(number, operation, record)

    def note(self, evaluation: Evaluation) -> None:
        """Record what came of a change that waited for its target in vain."""
        if evaluation.outcome is Outcome.REPLACED:
            self.nothing(evaluation)
            return
        self._told(evaluation)
        if self._exists(evaluation.operation):
            self._keeper.append(run_record(evaluation))

    def nothing(self, evaluation: Evaluation) -> None:
        """An evaluation sent nothing: it is joined with others of the same reason, and written within `JOIN_S`."""
        self._told(evaluation)
        self._idle.setdefault(evaluation.operation, Idle()).add(evaluation)
        self._write_later()

    def passed_over(self, operations: Sequence[Operation], change: SubjectChange, explain: Explain) -> None:
        """The rules of these operations did not hold for a change. Why is found out when it is written or asked for: mostly it never is."""
        if not operations:
            return
        at = (change, self._ground.clock.now_ms())
        passed = self._passed
        for operation in operations:
            known = passed.get(operation.key)
            if known is None:
                passed[operation.key] = _Passed(operation, at, at, explain)
            else:
                known.operation, known.last, known.count = operation, at, known.count + 1
        self._did_nothing.add(len(operations))
        self._write_later()

    # What the feed asks.

    def settled(self, number: int) -> frozenset[str]:
        """The operations that are not to be evaluated any more for a change."""
        return frozenset(self._states.get(number, ()))

    def forget(self, number: int, but: AbstractSet[str] = frozenset()) -> None:
        """A change was dealt with, but for these operations."""
        for operation in self._states.get(number, frozenset()) - but:
            self.forget_run(number, operation)

    def forget_run(self, number: int, operation: str) -> None:
        """One operation of a change that was dealt with before is done with too."""
        self._drop(number, operation, None)

    def forget_others(self, numbers: AbstractSet[int]) -> None:
        """These changes alone are not dealt with: called once, after `restore`."""
        for number in self._states.keys() - numbers:
            self.forget(number)  # What was dealt with and written in more than one unit, of which the last was not.

    # What is shown.

    def shown(self, operation: str) -> Document:
        """What the representation of an operation shows: how many runs there were, and the last evaluation.

        After a restart it is at most some seconds behind, or a minute where the process was killed.
        """
        self._explain_passed(operation)
        kept = self._ground.tree.volatile(_path(operation))
        last = self._last.get(operation)
        return {RUNS: kept.get(RUNS, 0), LAST: kept.get(LAST) if last is None else last.document()}

    def evaluations(self, operation: str) -> Deferred[list[Document]]:
        """The newest evaluations of an operation, runs and others, the newest first. Fails with a `Fault`."""
        self._explain_passed(operation)
        found = gatherResults([self.runs(operation), self._read(NOTHING, operation)], consumeErrors=True)
        return found.addCallback(self._in_order, operation)

    def runs(self, operation: str) -> Deferred[list[Document]]:
        """The newest runs of an operation, the newest first. Fails with a `Fault`."""
        return self._read(RUNS, operation).addCallback(lambda found: found[::-1])

    def evaluation(self, operation: str, identifier: str) -> Deferred[Document | None]:
        """The evaluation of that identifier, None where it is not kept (any more). Fails with a `Fault`."""
        return self.evaluations(operation).addCallback(lambda found: _named(found, identifier))

    # What the node tells.

    def restore(self) -> None:
        """Take over what the keeper has read: what had left and was not over is interrupted."""
        for _, document in list(self._keeper.log.below(KEY)):
            number, operation = document.get("number"), document.get("operation")
            if not isinstance(number, int) or not isinstance(operation, str):
                continue
            self._states.setdefault(number, set()).add(operation)
            if "left" in document:
                self._interrupted(number, operation, document["left"])

    def start(self) -> None:
        """Write what is to be written from now on."""
        self._running = True

    def stop(self) -> None:
        """Hand all that is not written to the keeper; nothing is left pending."""
        self._running = False
        if self._call is not None:
            self._call.cancel()
            self._call = None
        while self._idle or self._passed:
            self._write_some()

    def _log_circle(self, evaluation: Evaluation) -> None:
        """One line now and then for each operation: those who write circles do not write the log too."""
        now_s = self._reactor.seconds()
        if now_s - self._circles_s.get(evaluation.operation, -CIRCLE_LOGGED_S) < CIRCLE_LOGGED_S:
            return
        if len(self._circles_s) >= _CIRCLES:
            self._circles_s.clear()
        self._circles_s[evaluation.operation] = now_s
        self._log.warn("{operation} was stopped: {why}", operation=evaluation.operation, why=evaluation.why, trace=evaluation.change.trace)

    def _interrupted(self, number: int, operation: str, evaluation: object) -> None:
        self._log.warn("{operation} was interrupted for change {number}, and is not repeated", operation=operation, number=number)
        self._counts[Outcome.INTERRUPTED].add()
        record = None
        if isinstance(evaluation, Mapping) and self._exists(operation):
            why = "the process ended when the request may have left; it is not repeated, since it may have been acted on"
            told = {**evaluation, "outcome": Outcome.INTERRUPTED.value, "why": why}
            record = Append(records_journal(RUNS, operation), told)
        self._over(number, operation, record)

    def _told(self, evaluation: Evaluation) -> None:
        self._counts[evaluation.outcome].add()
        operation = evaluation.operation
        self._explain_passed(operation)
        self._remember(evaluation)
        if evaluation.outcome is Outcome.RAN and self._is_here(operation):
            volatile = self._ground.tree.volatile(_path(operation))
            count = volatile.get(RUNS, 0)
            volatile[RUNS] = count + 1 if isinstance(count, int) else 1
            self._keep_last(operation)

    def _explain_passed(self, operation: str) -> None:
        """Find out why an operation did nothing, if that was put off."""
        passed = self._passed.pop(operation, None)
        if passed is None:
            return
        last = passed.explain(passed.operation, *passed.last)
        idle = self._idle.setdefault(operation, Idle())
        idle.add(last if passed.count == 1 else passed.explain(passed.operation, *passed.first))
        if passed.count > 1:
            idle.add(last, passed.count - 1)
        self._remember(last)

    def _write_later(self) -> None:
        if self._call is None and self._running:
            self._call = self._reactor.callLater(JOIN_S, self._write_idle)

    def _remember(self, evaluation: Evaluation) -> None:
        """It is the last one of its operation; of the others as many stay in memory as their number and size allow."""
        before = self._last.pop(evaluation.operation, None)
        self._last_bytes += evaluation.change.weight - (before.change.weight if before is not None else 0)
        self._last[evaluation.operation] = evaluation
        while len(self._last) > LAST_KEPT or (self._last_bytes > LAST_BYTES and len(self._last) > 1):
            _, oldest = self._last.popitem(last=False)
            self._last_bytes -= oldest.change.weight

    def _was_away(self, operation: str, number: int) -> bool:
        last = self._last.get(operation)
        return last is not None and last.outcome is Outcome.AWAY and last.change.number == number

    def _keep_last(self, operation: str) -> None:
        """Keep the last evaluation with the operation's resource, where it has one here."""
        last = self._last.get(operation)
        if last is not None and self._is_here(operation):
            path = _path(operation)
            self._ground.tree.volatile(path)[LAST] = last.document()
            self._ground.touch(path)

    def _is_here(self, operation: str) -> bool:
        return operation.startswith("/") and self._ground.tree.find(_path(operation)) is not None

    def _over(self, number: int, operation: str, record: Append | None) -> None:
        """Keep that a run is over, and its record with that."""
        self._states.setdefault(number, set()).add(operation)
        self._keeper.put(_key(number, operation), lambda: _state(number, operation), record)

    def _drop(self, number: int, operation: str, record: Append | None) -> None:
        """Keep nothing of a run but its record."""
        states = self._states.get(number)
        if states is None or operation not in states:
            if record is not None:
                self._keeper.append(record)
            return
        states.remove(operation)
        if not states:
            del self._states[number]
        self._keeper.remove(_key(number, operation), record)

    def _write_idle(self) -> None:
        self._call = None
        if self._keeper.backlog < _AT_ONCE:
            self._write_some()
        if self._idle or self._passed:
            self._call = self._reactor.callLater(_PAUSE_S, self._write_idle)

    def _write_some(self) -> None:
        for operation in list(islice(self._passed, _AT_ONCE)):
            self._explain_passed(operation)
        for operation in list(self._idle)[:_AT_ONCE]:
            idle = self._idle.pop(operation)
            if self._exists(operation):
                self._keep_last(operation)
                self._keeper.append(nothing_record(operation, idle))

    def _read(self, kind: str, operation: str) -> Deferred[list[Document]]:
        entries: Deferred[list[Entry]] = self._ground.journals.read_journal(records_journal(kind, operation), limit=_NEWEST, newest=True)
        return entries.addCallback(lambda found: [one for entry in found for one in told_in(entry.body)])

    def _in_order(self, found: list[list[Document]], operation: str) -> list[Document]:
        idle = self._idle.get(operation)
        together = [*found[0], *found[1], *(idle.documents() if idle is not None else ())]
        return sorted(together, key=_when, reverse=True)


def _path(operation: str) -> Path:
    """The path of an operation of this node."""
    return tuple(operation[1:].split("/"))


def _key(number: int, operation: str) -> str:
    return f"{KEY}{number}/{operation}"


def _when(document: Document) -> tuple[str, int, str]:
    """The order of evaluations: by time, then by number."""
    identifier = str(document.get("id"))
    return str(document.get("at")), len(identifier), identifier


def _named(found: list[Document], identifier: str) -> Document | None:
    """The evaluation with an identifier; of those joined, the first and the last are whole."""
    for document in found:
        first = document.get("first")
        for one in (document, first):
            if isinstance(one, Mapping) and one.get("id") == identifier:
                return one
    return None


def _state(number: int, operation: str, left: Document | None = None) -> Document:
    """What is kept of a run: that it is over, or that its request may have left."""
    kept: dict[str, object] = {"number": number, "operation": operation}
    return kept if left is None else {**kept, "left": left}
