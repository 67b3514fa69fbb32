"""Why and why not: one evaluation of one operation for one change, step by step, and the document that it is shown and kept as.

Pure. Every text in it is cut, so that one evaluation takes a few kilobytes at most. Where they are kept is in `records`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from m2mapp.formats.documents import content_value, rfc3339
from m2mapp.model.identifiers import path_text
from m2mapp.tree.unit import EMPTY, Document
from m2mapp.triggers.changes import Content, SubjectChange

LONGEST_TEXT = 256
LONGEST_WHY = 1_024
MOST_STEPS = 32
MOST_SEEN = 16
LONGEST_CONTENT = 1_024
"""Contents of more bytes are not kept with an evaluation: it is shown how many they were."""


class Outcome(Enum):
    """What came of an evaluation."""

    DID_NOTHING = "did nothing"
    """The rule or the dependencies did not hold, or it was held off."""
    RAN = "ran"
    """The request was answered, and the answer says that it went well."""
    FAILED = "failed"
    """The request was answered with an error, or was not answered, or could not be made or sent."""
    INTERRUPTED = "interrupted"
    """The process was killed when a request may have left that must not be sent twice."""
    AWAY = "away"
    """The target is away: the operation waits until it is heard again."""
    EXPIRED = "expired"
    """It waited for its target longer than its `expiry`."""
    REPLACED = "replaced"
    """It waited for its target, and a later change took its place."""
    CIRCLE = "circle"
    """The operation is in the cause of the change: it was stopped (`cause`)."""


class StepKind(Enum):
    """What a step of an evaluation was, in their order (figures 3, 10, 11 and 14 of CN 104662858)."""

    RULE = "rule"
    DEPENDENCY = "dependency"
    INPUT = "input"
    REQUEST = "request"
    OUTPUT = "output"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that left: to which URI, with what."""

    method: str
    uri: str
    content: Content | None = None

    def document(self) -> Document:
        """What is shown of it."""
        return {"method": self.method, "uri": _cut(self.uri), **_shown_content("content", self.content)}


@dataclass(frozen=True, slots=True)
class Got:
    """What came back: the sender's own code, "2.04" or "204"."""

    code: str
    content: Content | None = None

    def document(self) -> Document:
        """What is shown of it."""
        return {"status": _cut(self.code), **_shown_content("content", self.content)}


@dataclass(frozen=True, slots=True)
class Step:
    """One step: how long it took, and what came of it.

    `name` is the dependency's; `holds` what its rule, or the operation's, came to (None: cannot be evaluated, or no question of that);
    `seen` the values that a rule looked at. `why` is for a person.
    """

    kind: StepKind
    ms: float = 0.0
    name: str = ""
    holds: bool | None = None
    why: str = ""
    seen: Mapping[str, object] = field(default_factory=lambda: EMPTY)
    sent: Sent | None = None
    got: Got | None = None

    def document(self) -> Document:
        """What is shown of it."""
        shown: dict[str, object] = {"step": self.kind.value, "ms": round(self.ms, 3)}
        if self.name:
            shown["name"] = _cut(self.name)
        if self.kind in (StepKind.RULE, StepKind.DEPENDENCY):
            shown["holds"] = self.holds
        if self.why:
            shown["why"] = _cut(self.why, LONGEST_WHY)
        if self.seen:
            shown["seen"] = {_cut(name): _value(self.seen[name]) for name in list(self.seen)[:MOST_SEEN]}
        if self.sent is not None:
            shown["sent"] = self.sent.document()
        if self.got is not None:
            shown["got"] = self.got.document()
        return shown


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation of an operation for a change, whose number is its identifier. `at_ms`: when it was made, by the wall clock.

    `operation` is its path as text, or the URI of one that stands on another node. `why` says what decided, for a person.
    """

    operation: str
    change: SubjectChange
    at_ms: int
    outcome: Outcome
    why: str
    steps: tuple[Step, ...] = ()

    @property
    def decided_by(self) -> str:
        """What decided: the outcome, the last step and its name. Evaluations that sent nothing for the same reason are joined."""
        last = self.steps[-1] if self.steps else None
        return f"{self.outcome.value} {last.kind.value} {last.name}" if last is not None else self.outcome.value

    def document(self) -> Document:
        """What is shown of it, and kept."""
        change = self.change
        shown: dict[str, object] = {
            "id": str(change.number),
            "at": rfc3339(self.at_ms),
            "outcome": self.outcome.value,
            "why": _cut(self.why, LONGEST_WHY),
            "subject": path_text(change.path),
            "changed": rfc3339(change.at_ms),
            "by": _cut(change.principal),
            "trace": change.trace,
            **_shown_content("content", change.after),
            **_shown_content("before", change.before),
            "steps": [step.document() for step in self.steps[:MOST_STEPS]],
        }
        if change.cause:
            shown["cause"] = [_cut(one) for one in change.cause]
        if len(self.steps) > MOST_STEPS:
            shown["moreSteps"] = len(self.steps) - MOST_STEPS
        return shown


def _cut(text: str, longest: int = LONGEST_TEXT) -> str:
    clean = text if text.isascii() else text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= longest else clean[: longest - 1] + "\u2026"


def _value(value: object) -> object:
    """A value that a rule saw, as it may stand in a document."""
    if isinstance(value, str):
        return _cut(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return _cut(str(value)) if not isinstance(value, bytes) else f"{len(value)} bytes"


def _shown_content(name: str, content: Content | None) -> Document:
    """A content as documents have it, with its media type; of one that is large, how many bytes it has at least."""
    if content is None or (not content.data and content.media_type is None):
        return {}
    if len(content.data) > LONGEST_CONTENT:
        return {f"{name}Bytes": len(content.data)}
    return {name: content_value(content.data, content.media_type), f"{name}Type": content.media_type}
