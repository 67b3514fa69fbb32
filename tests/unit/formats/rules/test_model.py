"""Rules against a model that is slow and obvious: every rule that can be built, on documents before and after."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import JSON, dump_json
from m2mapp.formats.rules.conditions import And, Changed, Compared, Crossed, Exists, Literal, Matched, Node, Not, Or, Within
from m2mapp.formats.rules.glob import Glob
from m2mapp.formats.rules.language import parse_rule
from m2mapp.formats.rules.sample import Sample
from m2mapp.formats.rules.sight import Field
from m2mapp.model.errors import Malformed

FALSE, CANNOT, TRUE = 0.0, 0.5, 1.0
OUTCOMES = {FALSE: False, CANNOT: None, TRUE: True}

NUMBERS = st.sampled_from([-1, 0, 1, 1.0, 2, 2.5])
TEXTS = st.sampled_from(["", "a", "ab", "aba", "b'\\"])
SCALARS = NUMBERS | TEXTS | st.booleans() | st.none()
FIELDS = st.sampled_from(
    [Field("json", steps, name) for steps, name in (((), "json"), (("a",), "json.a"), (("a b",), "json['a b']"), (("a", 1), "json.a[1]"))]
)
DOCUMENTS = st.recursive(
    SCALARS, lambda part: st.lists(part, max_size=2) | st.dictionaries(st.sampled_from(["a", "a b"]), part), max_leaves=4
)
TERMS = FIELDS | SCALARS.map(Literal)
CONDITIONS = st.one_of(
    st.builds(Compared, TERMS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), TERMS),
    st.builds(Within, FIELDS, st.just(0), st.sampled_from([0, 1.5])),
    st.builds(
        Matched, FIELDS, st.sampled_from(["contains", "starts with", "ends with", "matches"]), TEXTS | st.sampled_from(["a*", "?b*"])
    ),
    st.builds(Exists, FIELDS),
    st.builds(Changed, FIELDS),
    st.builds(Crossed, FIELDS, st.booleans(), st.sampled_from([0, 1, 2.25])),
)
RULES = st.recursive(
    CONDITIONS,
    lambda part: st.one_of(
        st.builds(Not, part),
        st.lists(part, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(part, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=5,
)
MISSING = object()
NOTHING = object()


def reach(field: Field, value: object) -> object:
    """A field of a document, or `MISSING`."""
    for step in field.steps:
        members = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        value = members.get(step, MISSING)
    return value


def kind(value: object) -> str:
    """The kind of a value."""
    for types, name in ((bool, "truth"), ((int, float), "number"), (str, "text"), (type(None), "null"), ((dict, list), "document")):
        if isinstance(value, types):
            return name
    return "missing"


def canonical(value: object) -> object:
    """A value in which only equal ones are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return {key: canonical(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [canonical(inner) for inner in value]
    return (kind(value), value)


def model(node: Node, now: object, before: object) -> float:
    """What comes of a rule: everything is looked at, and the least or the greatest outcome counts."""
    if isinstance(node, Not):
        return 1 - model(node.part, now, before)
    if isinstance(node, And):
        return min(model(part, now, before) for part in node.parts)
    if isinstance(node, Or):
        return max(model(part, now, before) for part in node.parts)
    outcome = condition(node, now, before)
    return CANNOT if outcome is None else float(outcome)


def condition(node: Node, now: object, before: object) -> bool | None:
    """What comes of one condition."""
    if isinstance(node, Compared):
        return compared(node, now)
    if isinstance(node, Changed | Crossed):
        return looked_back(node, reach(node.field, now), reach(node.field, before)) if before is not NOTHING else None
    assert isinstance(node, Within | Matched | Exists)
    value = reach(node.field, now)
    if isinstance(node, Exists):
        return value is not MISSING
    if isinstance(node, Matched):
        return matched(node, value) if isinstance(value, str) else None
    return node.low <= value <= node.high if kind(value) == "number" else None  # type: ignore[operator]


def looked_back(node: Changed | Crossed, now: object, before: object) -> bool | None:
    """What comes of a look at two values."""
    if now is MISSING and before is MISSING:
        return None
    if isinstance(node, Changed):
        return canonical(now) != canonical(before)
    if not kind(now) == kind(before) == "number":
        return None
    return before < node.number <= now if node.rises else before > node.number >= now  # type: ignore[operator]


def compared(node: Compared, now: object) -> bool | None:
    """What comes of a comparison."""
    left, right = (side.value if isinstance(side, Literal) else reach(side, now) for side in (node.left, node.right))
    for_null = Literal(None) in (node.left, node.right) and MISSING not in (left, right)
    comparable = kind(left) == kind(right) and kind(left) not in ("document", "missing")
    if node.sign in ("==", "!="):
        equal = canonical(left) == canonical(right)
        return (equal if node.sign == "==" else not equal) if comparable or for_null else None
    if not (comparable and kind(left) == "number"):
        return None
    outcome: bool = {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[node.sign]  # type: ignore[operator]
    return outcome


def matched(node: Matched, value: str) -> bool:
    """What comes of a look at a text."""
    if node.how == "matches":
        return like(node.text, value)
    return {"contains": node.text in value, "starts with": value.startswith(node.text), "ends with": value.endswith(node.text)}[node.how]


def like(pattern: str, text: str) -> bool:
    """Whether a text is like a pattern, tried in every way."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return like(pattern[1:], text) or (bool(text) and like(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and like(pattern[1:], text[1:])


class ModelTests(SynchronousTestCase):
    @given(RULES, DOCUMENTS, DOCUMENTS | st.just(NOTHING))
    @example(Changed(Field("json", (), "json")), [1], [True])
    def test_rules(self, node: Node, now: object, before: object) -> None:
        """A rule's text is parsed and evaluated as the model says, or it is one that never holds and is refused."""
        try:
            rule = parse_rule(str(node))
        except Malformed:
            return
        self.assertEqual(parse_rule(rule.text), rule)
        samples = [Sample(dump_json(value), JSON) for value in (now, before) if value is not NOTHING]
        verdict = rule.evaluate(*samples)
        self.assertIs(verdict.holds, OUTCOMES[model(node, now, before)], f"{rule} of {now} after {before}: {verdict.why}")

    @given(st.text("ab*?", max_size=7), st.text("abA\n", max_size=7))
    def test_patterns(self, pattern: str, text: str) -> None:
        """A pattern matches what it matches when every way is tried."""
        self.assertIs(Glob(pattern).matches(text), like(pattern, text))

    def test_patterns_that_would_take_long(self) -> None:
        """A pattern for which trying every way would never end is matched while each character is looked at once."""
        self.assertFalse(Glob("a*" * 400 + "b").matches("a" * 4096))
        self.assertTrue(Glob("*?" * 400 + "a").matches("a" * 4096))

    @given(st.text(max_size=20))
    def test_quotes(self, text: str) -> None:
        """Any text without control characters that can stand in a rule comes back as it was."""
        if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
            return
        node = Matched(Field("text", (), "text"), "contains", text)
        self.assertEqual(parse_rule(str(node)).text, str(node))
        self.assertIs(parse_rule(str(node)).evaluate(Sample(text.encode(), "text/plain")).holds, True)
