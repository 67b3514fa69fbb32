"""What a change of a subject sets off: its operations by descending priority, one after another (CN 104662858, figures 3 and 10).

Each change is evaluated against its own content, in the order of the changes, by the operations as they stand when its turn comes.
Not responsible for that order and for what a restart leaves (`feed`), nor for what a run asks and sends (`run`, `running`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol

from twisted.internet.defer import Deferred

from m2mapp.formats.durations import duration_text
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method
from m2mapp.model.principal import Principal
from m2mapp.tree.access import check_access
from m2mapp.tree.tree import Tree
from m2mapp.triggers.author import Current
from m2mapp.triggers.cause import Stopped, extended, identity
from m2mapp.triggers.changes import Content, SubjectChange
from m2mapp.triggers.drivers.holds import Holds
from m2mapp.triggers.drivers.reading import Lost, Reader
from m2mapp.triggers.drivers.recording import Explain
from m2mapp.triggers.drivers.running import Errand, Means, Runner
from m2mapp.triggers.holding import Held
from m2mapp.triggers.links import absolute
from m2mapp.triggers.operation import Operation
from m2mapp.triggers.run import Run
from m2mapp.triggers.selection import by_priority, explain, select
from m2mapp.triggers.ties import TIES, Ties, named_uris
from m2mapp.triggers.trace import Evaluation, Outcome, Sent, Step, StepKind

LIGHT_BYTES = 4_096
"""Of a change that takes no more, why an operation did nothing is found out when it is asked for."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a change selects: the operations that run, in their order; those whose rules do not hold; the others, with why not."""

    runs: list[Operation]
    passed: list[Operation]
    held: list[tuple[Operation, str]]


class Records(Protocol):
    """Keeps what became of evaluations."""

    def leaving(self, evaluation: Evaluation) -> Deferred[None]:
        """The request of an operation that must not be repeated is about to leave: fires when that is on disk."""

    def finished(self, evaluation: Evaluation) -> None:
        """An operation ran, or would have and could not."""

    def nothing(self, evaluation: Evaluation) -> None:
        """An operation did nothing for a change."""

    def passed_over(self, operations: Sequence[Operation], change: SubjectChange, explain: Explain) -> None:
        """The rules of these operations do not hold for a change; `explain` says why, for one of them, when that is asked for."""


@dataclass(frozen=True, slots=True)
class Around:
    """What the engine needs of the node. `current` gives the rights that a principal has now."""

    tree: Tree
    ties: Ties
    means: Means
    current: Current
    records: Records
    holds: Holds


class Engine:
    """Evaluates changes; of one subject it is given one at a time.

    Set before the start: `away` takes an operation whose target is away (its key, the target, the change, how many seconds it may wait),
    and raises a `Fault` where no more can wait. `takes` says whether an operation waits for its target already, so that a change waits in
    the place of an earlier one. `add` hands on a change that no write made.
    """

    def __init__(self, around: Around) -> None:
        self._around, self._means = around, around.means
        self._runner = Runner(around.means)
        self._reader = Reader(self._runner)
        self.away: Callable[[str, str, SubjectChange, float], None] = _unset
        self.takes: Callable[[str, SubjectChange, float], bool] = _unset
        self.add: Callable[[SubjectChange], Deferred[None]] = _unset
        around.holds.elapsed = self._elapsed

    def handle(self, change: SubjectChange, settled: frozenset[str] = frozenset()) -> Deferred[None] | None:
        """Evaluate the operations of a change, but for those that are settled. Fires when all have run; None: none had to run."""
        around = self._around
        resource = around.tree.find(change.path)
        if change.only:
            return Deferred.fromCoroutine(self._handle_held(change, settled))
        if resource is not None and TIES in resource.attributes:
            return Deferred.fromCoroutine(self._handle(change, settled))
        selection = self._selected(around.ties.here(change.path), change, settled)
        if selection.runs:
            return Deferred.fromCoroutine(self._run_all(selection, change))
        self._did_nothing(selection, change)
        return None

    async def operations(self, subject: Path, trace: str, cause: tuple[str, ...]) -> tuple[tuple[Operation, ...], list[Lost]]:
        """All operations of a subject in the order in which they run, and which of them could not be had."""
        around = self._around
        resource = around.tree.find(subject)
        uris, author = named_uris(resource.attributes if resource is not None else {})
        here = around.ties.here(subject)
        if not uris:
            return here, []
        found = await self._reader.operations(
            [absolute(uri, self._means.node_uri) for uri in uris], Errand(around.current(author), cause, trace)
        )
        have = [one for one in found if isinstance(one, Operation)]
        return by_priority((*here, *have)), [one for one in found if isinstance(one, Lost)]

    async def run(self, operation: Operation, change: SubjectChange, first: Sequence[Step]) -> Outcome:
        """Run one operation for a change, whose rule holds, and keep what became of it."""
        errand = self._errand(operation, change)
        if isinstance(errand, Stopped):
            return self._keep(operation.key, change, Outcome.CIRCLE if errand.circle else Outcome.FAILED, errand.why, first)
        fault = _refusal(operation, change.path, errand.principal)
        if fault is not None:
            return self._keep(operation.key, change, Outcome.FAILED, fault.detail, first)
        if self._left_s(operation, change) <= 0:
            return self._keep(operation.key, change, Outcome.EXPIRED, "its turn came after its expiry", first)
        if self.takes(operation.key, change, self._left_s(operation, change)):
            why = "its target is away: it waits in place of an earlier change"
            self._around.records.nothing(Evaluation(operation.key, change, self._means.clock.now_ms(), Outcome.AWAY, why, tuple(first)))
            return Outcome.AWAY
        run = await self._prepared(operation, errand, first)
        await self._runner.carry(run, errand, None if operation.idempotent else lambda: self._leaving(run, change))
        outcome, why = run.outcome or Outcome.FAILED, run.why
        if outcome is Outcome.RAN:
            self._around.holds.runs(operation)
        elif run.away:
            outcome, why = self._wait(operation, change, why)
        return self._keep(operation.key, change, outcome, why, run.steps)

    def again(self, key: str, change: SubjectChange) -> Deferred[bool]:
        """Evaluate one operation anew for a change, because its target may be back: False where that is still away."""
        done: Deferred[bool] = Deferred.fromCoroutine(self._again(key, change))
        return done

    async def look(self, operation: Operation, change: SubjectChange) -> dict[str, object]:
        """What would happen for a change, without sending the operation's request: as `POST .../evaluate` answers."""
        rule = _rule_step(operation, change)
        steps = [rule]
        errand = self._errand(operation, change)
        if isinstance(errand, Stopped):
            return _told(run=False, why=errand.why, steps=steps)
        if not rule.holds:
            return _told(run=False, why=rule.why, steps=steps)
        fault = _refusal(operation, change.path, errand.principal)
        if fault is not None:
            return _told(run=False, why=fault.detail, steps=steps)
        run = await self._prepared(operation, errand, steps)
        ask = await self._runner.look(run, errand)
        if ask is None:
            return _told(run=False, why=run.why, steps=run.steps)
        told = _told(run=True, why=run.why, steps=run.steps)
        sent = Sent(ask.method.value, ask.uri, ask.payload).document()
        waits = [f"its rule has held for {duration_text(operation.for_s)}"] if operation.for_s else []
        rest_s = self._around.holds.rests(operation)
        waits += [f"it has rested for {rest_s:.3g} s more"] if rest_s else []
        return {**told, "request": sent, **({"onceThat": waits} if waits else {})}

    # One change.

    async def _handle(self, change: SubjectChange, settled: frozenset[str]) -> None:
        operations, lost = await self.operations(change.path, change.trace, change.cause)
        for one in lost:
            if one.uri not in settled:
                self._keep(one.uri, change, Outcome.FAILED, f"the operation cannot be fetched: {one.why}", ())
        await self._run_all(self._selected(operations, change, settled), change)

    async def _run_all(self, selection: Selection, change: SubjectChange) -> None:
        told = False
        for operation in selection.runs:
            running = Deferred.fromCoroutine(self.run(operation, change, (_rule_step(operation, change),)))
            if not told:  # Behind the first request: it does not wait until all the others are told of.
                self._did_nothing(selection, change)
                told = True
            await running
        if not told:
            self._did_nothing(selection, change)

    def _selected(self, operations: Iterable[Operation], change: SubjectChange, settled: frozenset[str]) -> Selection:
        found = Selection([], [], [])
        holds = self._around.holds
        for operation, outcome in select(operations, change):
            if settled and operation.key in settled:
                continue
            why = ""
            if operation.for_s:
                why = holds.seen(operation, change, holds_now=outcome is True)
            elif outcome and operation.holdoff_s and (rest_s := holds.rests(operation)):
                why = f"it ran and rests for {rest_s:.3g} s more"
            if why:
                found.held.append((operation, why))
            else:
                (found.runs if outcome else found.passed).append(operation)
        return found

    def _did_nothing(self, selection: Selection, change: SubjectChange) -> None:
        others = selection.held
        if change.weight <= LIGHT_BYTES:
            self._around.records.passed_over(selection.passed, change, self._passed_over)
        else:
            others = [*others, *((operation, "") for operation in selection.passed)]
        for operation, why in others:
            now_ms = self._means.clock.now_ms()
            self._around.records.nothing(self._passed_over(operation, change, now_ms, why))

    @staticmethod
    def _passed_over(operation: Operation, change: SubjectChange, at_ms: int, why: str = "") -> Evaluation:
        """The evaluation of an operation that did nothing for a change."""
        step = _rule_step(operation, change)
        return Evaluation(operation.key, change, at_ms, Outcome.DID_NOTHING, why or step.why, (step,))

    # One operation.

    def _errand(self, operation: Operation, change: SubjectChange) -> Errand | Stopped:
        uri = parse_uri(operation.uri)
        cause = extended(change.cause, identity(f"{uri.scheme}://{uri.authority}", uri.path))
        if isinstance(cause, Stopped):
            return cause
        return Errand(self._around.current(operation.author), cause, change.trace)

    def _left_s(self, operation: Operation, change: SubjectChange) -> float:
        """How long it is until a run for the change is given up."""
        return operation.expiry_s - (self._means.clock.now_ms() - change.at_ms) / 1000

    def _wait(self, operation: Operation, change: SubjectChange, why: str) -> tuple[Outcome, str]:
        """The target is away: the operation waits for it, if there is room."""
        try:
            self.away(operation.key, absolute(operation.target, operation.uri), change, max(1.0, self._left_s(operation, change)))
        except Fault as fault:
            return Outcome.FAILED, f"{why}; {fault.detail}"
        return Outcome.AWAY, why

    async def _again(self, key: str, change: SubjectChange) -> bool:
        """The rule is evaluated for the subject's content as it is now: what the operation acts on has to be so when it acts."""
        resource = self._around.tree.find(change.path)
        if resource is None:
            return True
        operations, _ = await self.operations(change.path, change.trace, change.cause)
        operation = next((one for one in operations if one.key == key), None)
        if operation is None:
            return True
        content = Content(resource.content or b"", resource.media_type)
        now = change if content == change.after else replace(change, before=change.after, after=content)
        step = _rule_step(operation, now)
        if not step.holds:
            self._keep(key, now, Outcome.DID_NOTHING, f"its target is back, and {step.why}", (step,))
            return True
        return await self.run(operation, now, (step,)) is not Outcome.AWAY

    async def _prepared(self, operation: Operation, errand: Errand, first: Sequence[Step]) -> Run:
        elsewhere = await self._reader.dependencies(operation, errand) if operation.dependency_uris else []
        return Run(operation, (*operation.dependencies, *elsewhere), first)

    def _leaving(self, run: Run, change: SubjectChange) -> Deferred[None]:
        """The request of a run that must not be made twice is about to leave."""
        steps = tuple(run.steps)
        now_ms = self._means.clock.now_ms()
        return self._around.records.leaving(Evaluation(run.operation.key, change, now_ms, Outcome.INTERRUPTED, run.why, steps))

    def _keep(self, key: str, change: SubjectChange, outcome: Outcome, why: str, steps: Sequence[Step]) -> Outcome:
        evaluation = Evaluation(key, change, self._means.clock.now_ms(), outcome, why, tuple(steps))
        records = self._around.records
        (records.nothing if outcome is Outcome.DID_NOTHING else records.finished)(evaluation)
        return outcome

    # Rules that have held for long enough.

    def _elapsed(self, held: Held) -> None:
        """The rule of an operation has held for its time: that is a change of its own, behind those that wait."""
        around = self._around
        resource = around.tree.find(held.subject)
        if resource is None:
            around.holds.forget(held.key)
            return
        content = Content(resource.content or b"", resource.media_type)
        now_ms, number = self._means.clock.now_ms(), around.tree.next_number
        change = SubjectChange(number, held.subject, None, content, now_ms, held.cause, held.trace, only=held.key, since_ms=held.since_ms)
        self.add(change).addErrback(lambda _: around.holds.later(held))

    async def _handle_held(self, change: SubjectChange, settled: frozenset[str]) -> None:
        around = self._around
        if change.only in settled or not around.holds.due(change):
            return
        operations, _ = await self.operations(change.path, change.trace, change.cause)
        operation = next((one for one in operations if one.key == change.only), None)
        if operation is None or not operation.for_s:
            around.holds.forget(change.only)
            return
        await self.run(operation, change, (Step(StepKind.RULE, holds=True, why=f"it has held for {duration_text(operation.for_s)}"),))


def _rule_step(operation: Operation, change: SubjectChange) -> Step:
    verdict = explain(operation, change)
    return Step(StepKind.RULE, holds=verdict.holds, why=verdict.why, seen=verdict.seen)


def _refusal(operation: Operation, subject: Path, principal: Principal) -> Fault | None:
    """Why an operation may not run: who wrote it, or named it, may not do so any more."""
    try:
        check_access(principal, Method.PUT, operation.place or subject)
    except Fault as fault:
        return fault
    return None


def _told(*, run: bool, why: str, steps: Sequence[Step]) -> dict[str, object]:
    return {"would": "run" if run else "do nothing", "why": why, "steps": [step.document() for step in steps]}


def _unset(*_: object) -> NoReturn:
    raise LookupError("the engine is not joined with what waits and hands on")
