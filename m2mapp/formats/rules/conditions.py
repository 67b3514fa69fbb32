"""The tree of a rule: conditions on fields and their combination, each of which holds, does not hold, or cannot be evaluated.

Three values, as Kleene's logic has them: what cannot be evaluated leaves the whole open only where it could still decide it. The text of
each node is canonical: parsed again, it is the same node. Not responsible for what a rule's text may be: `language`.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from m2mapp.formats.rules.glob import Glob
from m2mapp.formats.rules.sample import Unread
from m2mapp.formats.rules.sight import Field, Sight, describe

Number = int | float
Scalar = int | float | str | bool | None

_KINDS: Mapping[type, str] = {int: "a number", float: "a number", str: "text", bool: "true or false"}
_NUMBERS = frozenset({int, float})
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MATCH: Mapping[str, Callable[[str, str], bool]] = {
    "contains": operator.contains,
    "starts with": str.startswith,
    "ends with": str.endswith,
}
MATCHES = "matches"
MAX_MATCHED = 4096
"""`matches` reads text of at most so many characters: it looks at each by itself."""
_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPED = re.compile("[\\\\'\n\r\t]")


class Node(Protocol):
    """A part of a rule that has an outcome of its own."""

    def test(self, sight: Sight) -> bool | None:
        """Whether it holds; None where that cannot be evaluated."""

    def __str__(self) -> str: ...


def quoted(text: str) -> str:
    """Text as a rule has it."""
    return "'" + _ESCAPED.sub(lambda match: _ESCAPES[match[0]], text) + "'"


def kind_of(value: object) -> str:
    """What sort of value it is, as errors call it; the empty string for null, lists, objects and data."""
    return _KINDS.get(type(value), "")


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands in the rule."""

    value: Scalar

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return quoted(self.value)
        return "null" if self.value is None else repr(self.value).lower()

    def read(self, _: Sight) -> object:
        """The value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Compared:
    """`value > 30`: two values, one of them or both of the content. Numbers have an order, other values are equal or not."""

    left: Field | Literal
    sign: str
    right: Field | Literal

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"

    def test(self, sight: Sight) -> bool | None:
        """Compare."""
        left, right = self.left.read(sight), self.right.read(sight)
        if type(left) in _NUMBERS and type(right) in _NUMBERS:  # Most rules are of this sort: the short way.
            return sight.tell(self, _COMPARE[self.sign](left, right))
        if type(left) is Unread or type(right) is Unread:
            return sight.tell(self, None, left.why if type(left) is Unread else right.why)  # type: ignore[attr-defined]
        kind = _KINDS.get(type(left))
        if kind is None or kind != _KINDS.get(type(right)):
            if not self._of_null(left, right):
                return sight.tell(self, None, self._mismatch(left, right))
        elif self.sign not in ("==", "!="):
            return sight.tell(self, None, f"{self.left} is {describe(left)}, and only numbers have an order")
        return sight.tell(self, _COMPARE[self.sign](left, right))

    def _of_null(self, left: object, right: object) -> bool:
        """Whether this asks for null, which may be asked of any value."""
        asked = any(type(side) is Literal and side.value is None for side in (self.left, self.right))
        return asked or (left is None and right is None and self.sign in ("==", "!="))

    def _mismatch(self, left: object, right: object) -> str:
        if isinstance(self.left, Field) and isinstance(self.right, Field):
            return f"{self.left} is {describe(left)}, {self.right} is {describe(right)}: they cannot be compared"
        if isinstance(self.left, Field):
            return _not_a(self.left, left, kind_of(right))
        return _not_a(self.right, right, kind_of(left))


@dataclass(frozen=True, slots=True)
class Within:
    """`value in 20..25`: a number from the one to the other, both included."""

    field: Field
    low: Number
    high: Number

    def __str__(self) -> str:
        return f"{self.field} in {self.low!r}..{self.high!r}"

    def test(self, sight: Sight) -> bool | None:
        """Look whether it is in the range."""
        value = self.field.read(sight)
        if type(value) is int or type(value) is float:
            return sight.tell(self, self.low <= value <= self.high)
        return sight.tell(self, None, _not_a(self.field, value, "a number"))


@dataclass(frozen=True, slots=True)
class Matched:
    """`text contains 'error'`, `starts with`, `ends with`, `matches`: a text and a part or a pattern of it."""

    field: Field
    how: str
    text: str
    glob: Glob | None = dataclasses.field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "glob", Glob(self.text) if self.how == MATCHES else None)

    def __str__(self) -> str:
        return f"{self.field} {self.how} {quoted(self.text)}"

    def test(self, sight: Sight) -> bool | None:
        """Look at the text."""
        value = self.field.read(sight)
        if not isinstance(value, str):
            return sight.tell(self, None, _not_a(self.field, value, "text"))
        if self.glob is None:
            return sight.tell(self, _MATCH[self.how](value, self.text))
        if len(value) > MAX_MATCHED:
            return sight.tell(self, None, f"{self.field} has {len(value)} characters, and {MATCHES} reads at most {MAX_MATCHED}")
        return sight.tell(self, self.glob.matches(value))


@dataclass(frozen=True, slots=True)
class Exists:
    """`json.alarm exists`: whether the content has the field at all; null is there."""

    field: Field

    def __str__(self) -> str:
        return f"{self.field} exists"

    def test(self, sight: Sight) -> bool | None:
        """Look for it."""
        value = self.field.read(sight)
        if type(value) is not Unread:
            return sight.tell(self, True)
        return sight.tell(self, False) if value.absent else sight.tell(self, None, value.why)


@dataclass(frozen=True, slots=True)
class Changed:
    """`changed`, `json.mode changed`: it is another value than before. A field that came or went has changed."""

    field: Field

    def __str__(self) -> str:
        return "changed" if self.field.name == "value" else f"{self.field} changed"

    def test(self, sight: Sight) -> bool | None:
        """Compare with the content before."""
        now, before = self.field.read(sight), sight.earlier(self.field)
        unread = [one for one in (now, before) if type(one) is Unread]
        if not unread:
            return sight.tell(self, not self._same(sight, now, before))
        if len(unread) == 1 and unread[0].absent:
            return sight.tell(self, True)
        return sight.tell(self, None, next((one.why for one in unread if not one.absent), unread[0].why))

    def _same(self, sight: Sight, now: object, before: object) -> bool:
        """As `same`, once in an evaluation: a document may be large, and a rule may ask for it many times."""
        if self.field.name not in sight.unchanged:
            sight.unchanged[self.field.name] = same(now, before)
        return sight.unchanged[self.field.name]


@dataclass(frozen=True, slots=True)
class Crossed:
    """`rises through 30`: was below, is not below any more. `falls through 20`: was above, is not above any more."""

    field: Field
    rises: bool
    number: Number

    def __str__(self) -> str:
        crossing = f"{'rises' if self.rises else 'falls'} through {self.number!r}"
        return crossing if self.field.name == "value" else f"{self.field} {crossing}"

    def test(self, sight: Sight) -> bool | None:
        """Compare with the content before."""
        now, before = self.field.read(sight), sight.earlier(self.field)
        for value, when in ((now, ""), (before, "before: ")):
            if type(value) is not int and type(value) is not float:
                return sight.tell(self, None, value.why if type(value) is Unread else when + _not_a(self.field, value, "a number"))
        crossed = before < self.number <= now if self.rises else before > self.number >= now  # type: ignore[operator]
        return sight.tell(self, crossed)


@dataclass(frozen=True, slots=True)
class Not:
    """`not ...`."""

    part: Node

    def __str__(self) -> str:
        return f"not {_inside(self.part, (And, Or))}"

    def test(self, sight: Sight) -> bool | None:
        """The opposite; what cannot be evaluated stays so."""
        outcome = self.part.test(sight)
        return None if outcome is None else not outcome


@dataclass(frozen=True, slots=True)
class And:
    """`... and ...`: looked at from left to right until one does not hold."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " and ".join(_inside(part, (Or,)) for part in self.parts)

    def test(self, sight: Sight) -> bool | None:
        """Whether all hold."""
        return _until(self.parts, sight, decides=False)


@dataclass(frozen=True, slots=True)
class Or:
    """`... or ...`: looked at from left to right until one holds."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))

    def test(self, sight: Sight) -> bool | None:
        """Whether any holds."""
        return _until(self.parts, sight, decides=True)


def same(one: object, other: object) -> bool:
    """Whether two values are equal; 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) is not isinstance(other, bool) or one != other:
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return all(map(same, one, other))
    return True


def inner(node: Node) -> tuple[Node, ...]:
    """What a node stands around; nothing for a condition."""
    if isinstance(node, And | Or):
        return node.parts
    return (node.part,) if isinstance(node, Not) else ()


def depth(node: Node) -> int:
    """How many nodes stand inside each other at most, this one counted."""
    level, deep = [node], 0
    while level:
        level, deep = [part for one in level for part in inner(one)], deep + 1
    return deep


def conditions(node: Node) -> list[Node]:
    """The conditions of a tree, from left to right."""
    parts = inner(node)
    return [condition for part in parts for condition in conditions(part)] if parts else [node]


def fields(condition: Node) -> list[Field]:
    """The fields that a condition reads."""
    if isinstance(condition, Compared):
        return [side for side in (condition.left, condition.right) if isinstance(side, Field)]
    return [condition.field] if isinstance(condition, Within | Matched | Exists | Changed | Crossed) else []


def _until(parts: tuple[Node, ...], sight: Sight, *, decides: bool) -> bool | None:
    outcome: bool | None = not decides
    for part in parts:
        one = part.test(sight)
        if one is decides:
            return decides
        if one is None:
            outcome = None
    return outcome


def _inside(part: Node, in_brackets: tuple[type, ...]) -> str:
    return f"({part})" if isinstance(part, in_brackets) else str(part)


def _not_a(one: Field | Literal, value: object, expected: str) -> str:
    return value.why if type(value) is Unread else f"{one} is {describe(value)}, not {expected}{_hint(one, value)}"


def _hint(one: Field | Literal, value: object) -> str:
    """What to ask for instead, where that is plain."""
    if isinstance(value, dict | list) and str(one) == "value":
        return ": name a field of it, such as json.temp"
    if isinstance(value, int | float) and not isinstance(value, bool) and str(one) == "value":
        return ": text is what it says character by character"
    return ""
