"""Which operations of a subject a change selects (CN 104662858, figure 10, steps 402 to 404). Pure.

One sample of the content serves the rules of all operations: what it says is taken apart once. Most rules do not hold for most changes:
why is found out when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from m2mapp.formats.rules.language import Verdict
from m2mapp.formats.rules.sample import Sample
from m2mapp.formats.rules.sight import Sight
from m2mapp.triggers.changes import SubjectChange
from m2mapp.triggers.operation import Operation


def by_priority(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Operations in the order in which they run: by descending priority; equal ones in the order given."""
    return tuple(sorted(operations, key=lambda one: -one.priority))


def select(operations: Iterable[Operation], change: SubjectChange) -> Iterator[tuple[Operation, bool | None]]:
    """Each operation with whether its rule holds for the change (None: it cannot be evaluated), in the order given."""
    sight = Sight(*samples_of(change))
    for operation in operations:
        yield operation, operation.rule.holds(sight)


def explain(operation: Operation, change: SubjectChange) -> Verdict:
    """What an operation's rule says of a change, and why."""
    return operation.rule.evaluate(*samples_of(change))


def samples_of(change: SubjectChange) -> tuple[Sample, Sample | None]:
    """The contents of a change, after and before, as rules read them."""
    after, before = change.after, change.before
    return Sample(after.data, after.media_type), None if before is None else Sample(before.data, before.media_type)
