"""One evaluation: what was read of the content and of the one before it, and what came of each condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

from m2mapp.formats.rules.sample import Sample, Unread
from m2mapp.model.errors import shown

_SHOWN_TEXT = 200
"""Longer text is told by its beginning: a verdict is kept, and its size is bounded by the rule's length."""


class Condition(Protocol):
    """A condition, as far as its outcome is told: its text is the canonical one."""

    def __str__(self) -> str: ...


Told = tuple[Condition, bool | None, str]
"""A condition, whether it holds (None: it cannot be evaluated), and why it cannot be evaluated."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a content: its first word, the names and places that lead on from it, and its canonical text."""

    root: str
    steps: tuple[str | int, ...]
    name: str

    def __str__(self) -> str:
        return self.name

    def read(self, sight: Sight) -> object:
        """Its value now, or `Unread`."""
        values = sight.values
        if self.name in values:
            return values[self.name]
        found = values[self.name] = self.of(sight.now)
        sight.see(self.name, found)
        return found

    def of(self, sample: Sample) -> object:
        """Its value in a sample, or `Unread`."""
        found = sample.root(self.root)
        if not self.steps or type(found) is Unread:
            return found
        inner: Any = found
        for step in self.steps:
            there = step in inner if type(inner) is dict else type(inner) is list and type(step) is int and step < len(inner)
            if not there:
                return Unread(f"{self.name} is not there", absent=True)
            inner = inner[step]
        return cast(object, inner)


class Sight:
    """What one evaluation sees. `before` is None where there was no content before. `values` has the fields that were read, by name."""

    __slots__ = ("before", "now", "outcomes", "seen", "unchanged", "values")

    def __init__(self, now: Sample, before: Sample | None) -> None:
        self.now, self.before = now, before
        self.seen: dict[str, object] = {}
        self.values: dict[str, object] = {}
        self.outcomes: list[Told] = []
        self.unchanged: dict[str, bool] = {}

    def see(self, name: str, value: object) -> None:
        """Note a value for the verdict: numbers, truth, null and short text as they are, others as `describe` has them."""
        kind = type(value)
        if kind is Unread:
            return
        plain = kind in _PLAIN or (kind is str and len(value) <= _SHOWN_TEXT)  # type: ignore[arg-type] # mypy does not follow `kind`
        self.seen[name] = value if plain else describe(value)

    def earlier(self, field: Field) -> object:
        """The value of a field before, or `Unread`."""
        if self.before is None:
            return Unread("there was no content before")
        found = field.of(self.before)
        if type(found) is Unread:
            return Unread(f"before: {found.why}", found.absent)
        self.see(f"{field.name} before", found)
        return found

    def tell(self, condition: Condition, outcome: bool | None, why: str = "") -> bool | None:
        """Note that a condition holds, or does not, or why it cannot be evaluated; gives the outcome."""
        self.outcomes.append((condition, outcome, why))
        return outcome


_PLAIN = frozenset({int, float, bool, type(None)})


def describe(value: object) -> str:
    """A value as an error tells it."""
    if isinstance(value, str):
        return f"the text {shown(value)!r}"
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return f"the number {value!r}"
    if isinstance(value, bytes):
        return f"data of {len(value)} bytes"
    return f"a list of {len(value)}" if isinstance(value, list) else "an object with named members"
