"""Which operations of a subject a change selects (CN 104662858, figure 10, steps 402 to 404). Pure.

One sample of the content serves the rules of all operations: what it says is taken apart once. Equal rules are evaluated once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from m2mapp.formats.rules.language import Rule, Verdict
from m2mapp.formats.rules.sample import Sample
from m2mapp.triggers.changes import Content, SubjectChange
from m2mapp.triggers.operation import Operation


def by_priority(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Operations in the order in which they run: by descending priority; equal ones in the order given."""
    return tuple(sorted(operations, key=lambda one: -one.priority))


def select(operations: Iterable[Operation], change: SubjectChange) -> Iterator[tuple[Operation, Verdict]]:
    """Each operation with what its rule says of the change, in the order given."""
    now = sample_of(change.after)
    before = sample_of(change.before) if change.before is not None else None
    known: dict[str, Verdict] = {}
    for operation in operations:
        rule: Rule = operation.rule
        verdict = known.get(rule.text)
        if verdict is None:
            verdict = known[rule.text] = rule.evaluate(now, before)
        yield operation, verdict


def sample_of(content: Content) -> Sample:
    """A content as rules read it."""
    return Sample(content.data, content.media_type)
