"""One run of one operation, as a machine: what to ask next, and what came of it (CN 104662858, figures 10, 11, 14 and 15). Pure.

It is told answers and the time, and says what to send. Not responsible for whether the rule holds (`selection`), nor for sending,
storing and keeping the record: `drivers.running`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from m2mapp.formats.rules.sample import Sample
from m2mapp.model.errors import AnswerTooLarge, DeadlinePassed, Fault, NotSent, PeerFailed
from m2mapp.model.messages import Answer, Method
from m2mapp.triggers.changes import Content
from m2mapp.triggers.dependencies import Judging
from m2mapp.triggers.dependency import Dependency
from m2mapp.triggers.links import absolute
from m2mapp.triggers.operation import METHODS, Operation
from m2mapp.triggers.trace import Got, Outcome, Sent, Step, StepKind


class State(Enum):
    """Where a run is."""

    READY = "ready"
    LOOKING = "a dependency is fetched"
    FETCHING = "the input is fetched"
    SENDING = "the request is under way"
    READING = "the output is read"
    STORING = "the result is stored"
    OVER = "over"


class Turn(Enum):
    """What a run goes on with."""

    LOOK = "look at a dependency"
    FETCH = "fetch the input"
    SEND = "send the request"
    READ = "read the output"
    STORE = "store the result"
    END = "end"


RUN: Mapping[tuple[State, Turn], State] = {
    (State.READY, Turn.LOOK): State.LOOKING,
    (State.READY, Turn.FETCH): State.FETCHING,
    (State.READY, Turn.SEND): State.SENDING,
    (State.READY, Turn.END): State.OVER,  # no dependency could even be had
    (State.LOOKING, Turn.LOOK): State.LOOKING,
    (State.LOOKING, Turn.FETCH): State.FETCHING,
    (State.LOOKING, Turn.SEND): State.SENDING,
    (State.LOOKING, Turn.END): State.OVER,  # the dependencies do not let it run: step 610 of figure 14
    (State.FETCHING, Turn.SEND): State.SENDING,
    (State.FETCHING, Turn.STORE): State.STORING,  # there is no input: the result says so
    (State.SENDING, Turn.READ): State.READING,
    (State.SENDING, Turn.STORE): State.STORING,
    (State.SENDING, Turn.END): State.OVER,  # the target is away: there is no result yet
    (State.READING, Turn.STORE): State.STORING,
    (State.STORING, Turn.END): State.OVER,
}
"""All that a run can do. What is not here is an error of the program, and changes nothing."""

_KINDS = {
    State.LOOKING: StepKind.DEPENDENCY,
    State.FETCHING: StepKind.INPUT,
    State.SENDING: StepKind.REQUEST,
    State.READING: StepKind.OUTPUT,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to be sent now; its answer goes to `Run.answered`. `payload` is what is sent along, if anything is."""

    kind: StepKind
    method: Method
    uri: str
    payload: Content | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """The result to be kept where the operation stands: the status as the target's protocol has it, and the content."""

    status: str
    content: Content


Next = Ask | Store | None
"""What is to be done now; None: the run is over."""


class Run:
    """One run. `steps` are those that are done; `outcome` and `why` are there when it is over, and before a result is stored.

    `dependencies`: all that the operation has, also those that stand elsewhere. `first`: the steps before it, the rule's.
    `away`: the request had no answer and may be sent again, since it did not leave, or may be done twice.
    """

    def __init__(self, operation: Operation, dependencies: Sequence[Dependency], first: Sequence[Step] = ()) -> None:
        self.operation = operation
        self.state = State.READY
        self.steps: list[Step] = list(first)
        self.outcome: Outcome | None = None
        self.why = ""
        self.away = False
        self._judging = Judging(dependencies)
        self._asked_s = 0.0
        self._ask: Ask | None = None
        self._answer: Answer | None = None

    def begin(self, now_s: float) -> Next:
        """The first thing to be done."""
        return self._go_on(now_s)

    def answered(self, answer: Answer | Fault, now_s: float) -> Next:
        """What came back of the last `Ask`, or why nothing did; what is to be done now."""
        if self.state is State.LOOKING:
            self._looked(answer, now_s)
            return self._go_on(now_s)
        self._note(answer, now_s)
        if self.state is State.FETCHING:
            if isinstance(answer, Answer) and answer.ok:
                return self._send(Content(answer.payload, answer.content_type), now_s)
            return self._store(answer, Outcome.FAILED, f"there is no input: {_told(answer)}")
        if self.state is State.SENDING:
            return self._sent(answer, now_s)
        if isinstance(answer, Answer) and answer.ok:
            return self._store(answer, Outcome.RAN, self.why)
        return self._store(answer, Outcome.RAN, f"{self.why}; its output could not be read: {_told(answer)}")

    def stored(self, fault: Fault | None, ms: float) -> None:
        """The result is stored, or could not be; the run is over."""
        self._turn(Turn.END)
        self.steps.append(Step(StepKind.RESULT, ms, why="" if fault is None else f"not stored: {fault.detail}"))

    def _go_on(self, now_s: float) -> Next:
        judging = self._judging
        while judging.outcome is None:
            one = judging.next()
            if one.lost:
                self.steps.append(Step(StepKind.DEPENDENCY, name=one.name, why=f"it cannot be fetched: {one.lost}"))
                judging.found(None)
                continue
            self._turn(Turn.LOOK)
            return self._asking(Method.GET, absolute(one.uri, self.operation.uri), None, now_s)
        if not judging.outcome:
            self._turn(Turn.END)
            self.outcome, self.why = Outcome.DID_NOTHING, judging.why
            return None
        self.why = judging.why
        if self.operation.input_uri is not None:
            self._turn(Turn.FETCH)
            return self._asking(Method.GET, absolute(self.operation.input_uri, self.operation.uri), None, now_s)
        given = self.operation.given
        return self._send(Content(given.content, given.media_type) if given is not None else None, now_s)

    def _send(self, payload: Content | None, now_s: float) -> Ask:
        self._turn(Turn.SEND)
        operation = self.operation
        return self._asking(METHODS[operation.verb], absolute(operation.target, operation.uri), payload, now_s)

    def _sent(self, answer: Answer | Fault, now_s: float) -> Next:
        if isinstance(answer, Fault):
            return self._unanswered(answer)
        if not answer.ok:
            return self._store(answer, Outcome.FAILED, f"the target answered {_told(answer)}")
        if self.operation.output_uri is None:
            return self._store(answer, Outcome.RAN, self.why)
        self._turn(Turn.READ)
        return self._asking(Method.GET, absolute(self.operation.output_uri, self.operation.uri), None, now_s)

    def _unanswered(self, fault: Fault) -> Next:
        silent = isinstance(fault, PeerFailed | DeadlinePassed) and not isinstance(fault, AnswerTooLarge)
        self.away = isinstance(fault, NotSent) or (self.operation.idempotent and silent)
        if not self.away:
            more = "" if self.operation.idempotent else "; it may have been acted on, and is not sent again"
            return self._store(fault, Outcome.FAILED, f"no answer: {fault.detail}{more}")
        self._turn(Turn.END)
        self.outcome, self.why = Outcome.FAILED, f"no answer: {fault.detail}"
        return None

    def _looked(self, answer: Answer | Fault, now_s: float) -> None:
        one = self._judging.next()
        ask = self._ask
        if ask is None:
            raise ValueError("an answer to nothing")
        ms = (now_s - self._asked_s) * 1000
        sent = Sent(ask.method.value, ask.uri)
        if isinstance(answer, Fault) or not answer.ok:
            step = Step(StepKind.DEPENDENCY, ms, one.name, None, f"it cannot be fetched: {_told(answer)}", sent=sent, got=_got(answer))
            holds: bool | None = None
        else:
            verdict = one.rule.evaluate(Sample(answer.payload, answer.content_type))
            holds = verdict.holds
            step = Step(StepKind.DEPENDENCY, ms, one.name, holds, verdict.why, verdict.seen, sent, _got(answer))
        self.steps.append(step)
        self._judging.found(holds)

    def _store(self, answer: Answer | Fault, outcome: Outcome, why: str) -> Store:
        self._turn(Turn.STORE)
        self.outcome, self.why = outcome, why
        if isinstance(answer, Fault):
            return Store(answer.kind, Content(answer.detail.encode("utf-8", "replace"), "text/plain"))
        return Store(answer.code, Content(answer.payload, answer.content_type))

    def _asking(self, method: Method, uri: str, payload: Content | None, now_s: float) -> Ask:
        self._ask, self._asked_s = Ask(_KINDS[self.state], method, uri, payload), now_s
        return self._ask

    def _note(self, answer: Answer | Fault, now_s: float) -> None:
        ask = self._ask
        if ask is None:
            raise ValueError("an answer to nothing")
        why = answer.detail if isinstance(answer, Fault) else ""
        sent = Sent(ask.method.value, ask.uri, ask.payload)
        self.steps.append(Step(ask.kind, (now_s - self._asked_s) * 1000, why=why, sent=sent, got=_got(answer)))

    def _turn(self, turn: Turn) -> None:
        self.state = RUN[self.state, turn]


def _got(answer: Answer | Fault) -> Got | None:
    return None if isinstance(answer, Fault) else Got(answer.code, Content(answer.payload, answer.content_type))


def _told(answer: Answer | Fault) -> str:
    """What came back, for a person: why nothing did, or the code and the beginning of what stands beside it."""
    if isinstance(answer, Fault):
        return answer.detail
    text = answer.payload[:200].decode("utf-8", "replace")
    return f"{answer.code} {text}".rstrip() if answer.content_type is None or "text" in answer.content_type else answer.code
