"""What is kept of evaluations: the journals of an operation's runs and of what did nothing, and how the latter are joined. Pure.

Runs and what did nothing have a journal each, so that thousands of evaluations that did nothing push out no run. Those are joined by what
decided, for `JOIN_S` at a time: how many, the first and the last of them whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from m2mapp.formats.documents import rfc3339
from m2mapp.tree.unit import NOTHING, RUNS, Append, Document, records_journal
from m2mapp.triggers.trace import Evaluation

JOIN_S = 10.0
"""What did nothing is written so often: as much of it is lost when the process is killed."""
MOST_REASONS = 8


@dataclass(slots=True)
class Joined:
    """Evaluations of one operation that did nothing for one reason."""

    first: Evaluation
    last: Evaluation
    count: int = 1

    def document(self) -> Document:
        """The last of them, with how many there were since when."""
        document = dict(self.last.document())
        if self.count > 1:
            document |= {"count": self.count, "since": rfc3339(self.first.at_ms), "first": self.first.document()}
        return document


@dataclass(slots=True)
class Idle:
    """What one operation did not do since it was last written: by what decided; beyond `MOST_REASONS` under one."""

    by_reason: dict[str, Joined] = field(default_factory=dict)

    def add(self, evaluation: Evaluation, times: int = 1) -> None:
        """One more, or so many, of which this is the last."""
        reason = evaluation.decided_by
        if reason not in self.by_reason and len(self.by_reason) >= MOST_REASONS:
            reason = next(reversed(self.by_reason))
        joined = self.by_reason.get(reason)
        if joined is None:
            self.by_reason[reason] = Joined(evaluation, evaluation, times)
        else:
            joined.last, joined.count = evaluation, joined.count + times

    def documents(self) -> list[Document]:
        """One for each reason, the one that was decided last at the end."""
        return [joined.document() for joined in sorted(self.by_reason.values(), key=lambda joined: joined.last.change.number)]


def run_record(evaluation: Evaluation) -> Append:
    """The entry of a run."""
    return Append(records_journal(RUNS, evaluation.operation), evaluation.document())


def nothing_record(operation: str, idle: Idle) -> Append:
    """The entry of what an operation did not do for a while."""
    return Append(records_journal(NOTHING, operation), {"evaluations": idle.documents()})


def told_in(body: Document) -> list[Document]:
    """The evaluations that an entry of either journal tells of."""
    found = body.get("evaluations")
    if isinstance(found, list):
        return [one for one in found if isinstance(one, Mapping)]
    return [body]
