"""Which operations a change selects: the same as if each rule were parsed and evaluated by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.rules.language import parse_rule
from m2mapp.formats.rules.sample import Sample
from m2mapp.model.principal import NODE
from m2mapp.triggers.changes import Content, SubjectChange
from m2mapp.triggers.operation import Operation, checked_operation, operation_of
from m2mapp.triggers.selection import by_priority, explain, select

RULES = ("value > 30", "value in 20..25", "changed", "rises through 30", "value == 'Open'", "json.temp > 3", "not changed or value > 5")
CONTENTS = (b"20", b"31", b"Open", b'{"temp": 4}', b"\xff", b"")
content = st.sampled_from(CONTENTS).map(lambda data: Content(data, None))


def operation(rule: str, priority: int = 0) -> Operation:
    """An operation with that rule."""
    document = {"rule": rule, "priority": priority, "objectResource": "/x", "method": "update"}
    return operation_of("http://g1/t/Operations/o", checked_operation(document), NODE)


class SelectionTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from(RULES), max_size=6), content, st.none() | content)
    def test_as_each_by_itself(self, rules: list[str], after: Content, before: Content | None) -> None:
        """All rules share what is read of a content; each comes to what it comes to alone, and is explained so."""
        change = SubjectChange(1, ("t",), before, after, 0)
        operations = [operation(rule) for rule in rules]
        for one, holds in select(operations, change):
            earlier = None if before is None else Sample(before.data, before.media_type)
            alone = parse_rule(str(one.rule)).evaluate(Sample(after.data, after.media_type), earlier)
            self.assertIs(holds, alone.holds)
            self.assertEqual(explain(one, change), alone)

    @given(st.lists(st.integers(-2, 2), max_size=8))
    def test_by_priority(self, priorities: list[int]) -> None:
        """By descending priority; equal ones stay in the order given."""
        operations = [operation("changed", priority) for priority in priorities]
        found = [next(place for place, each in enumerate(operations) if each is one) for one in by_priority(operations)]
        self.assertEqual(found, sorted(range(len(priorities)), key=lambda place: (-priorities[place], place)))
