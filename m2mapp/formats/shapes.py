"""Shapes: what a document's members have to be. One description reads settings and resources alike and finds every fault.

A check takes a value and returns what it stands for, or raises `Wrong`. `Shape.read` gives the values, defaults filled in, and all
faults; `Shape.check` raises the first. Unknown names are faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from m2mapp.model.errors import Malformed

_MOST_UNKNOWN = 20
"""So many unknown names are told of one document: a peer may send any number of them."""
Check = Callable[[object], object]
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*")


class Wrong(Exception):  # noqa: N818 - it is never an error of the program
    """A value is not what it has to be; `within` says where in the value, when not the whole is meant. `others`: so are these."""

    def __init__(self, value: object, expected: str, within: str = "", others: Iterable[Wrong] = ()) -> None:
        super().__init__(expected)
        self.value, self.expected, self.within = value, expected, within
        self.others = tuple(others)

    def all(self, before: str = "") -> list[Wrong]:
        """This and the others, each by itself, with `before` put in front of where it is."""
        return [Wrong(each.value, each.expected, before + each.within) for each in (self, *self.others)]


def _together(faults: list[Wrong]) -> Wrong:
    return Wrong(faults[0].value, faults[0].expected, faults[0].within, faults[1:])


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()


@dataclass(frozen=True, slots=True)
class Field:
    """One member: its check, and its default (`REQUIRED` for none; a default is not checked)."""

    check: Check
    default: object = REQUIRED


class Shape:
    """The members that a document has."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = dict(fields)

    @property
    def names(self) -> Iterable[str]:
        """The names of the members."""
        return self._fields.keys()

    def read(self, given: Mapping[str, object], where: str = "") -> tuple[dict[str, object], list[Malformed]]:
        """The values by name, defaults filled in, and every fault; `where` stands before each field's name."""
        values, faults = self._read(given)
        return values, [Malformed(where + fault.within, fault.value, fault.expected) for fault in faults]

    def check(self, given: Mapping[str, object], where: str = "") -> dict[str, object]:
        """The values by name, defaults filled in. Raises the first fault, a `Malformed`."""
        values, faults = self.read(given, where)
        if faults:
            raise faults[0]
        return values

    def nested(self, value: object) -> dict[str, object]:
        """The values of a document that stands inside another, as a check: raises `Wrong`."""
        if not isinstance(value, Mapping):
            raise Wrong(value, "an object with named members")
        values, faults = self._read(value)
        if faults:
            raise _together([Wrong(fault.value, fault.expected, "." + fault.within) for fault in faults])
        return values

    def _read(self, given: Mapping[str, object]) -> tuple[dict[str, object], list[Wrong]]:
        values: dict[str, object] = {}
        unknown = islice((name for name in given if name not in self._fields), _MOST_UNKNOWN)
        faults = [Wrong(given[name], f"one of {', '.join(sorted(self._fields))}", name) for name in unknown]
        for name, field in self._fields.items():
            if name not in given:
                if field.default is REQUIRED:
                    faults.append(Wrong("nothing", "enough: this member is needed", name))
                values[name] = field.default
                continue
            try:
                values[name] = field.check(given[name])
            except Wrong as wrong:
                faults.extend(wrong.all(name))
        return values, faults


def text(value: object) -> str:
    """Any text of at most 1024 characters."""
    if not isinstance(value, str) or len(value) > 1024:  # noqa: PLR2004 - said in the docstring
        raise Wrong(value, "text of at most 1024 characters")
    return value


def boolean(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Wrong(value, "true or false")
    return value


def host(value: object) -> str:
    """A host name (RFC 1123), in lower case."""
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise Wrong(value, "a host name such as d1.example.org")
    return value.lower()


def integer(low: int, high: int) -> Check:
    """A whole number from low to high."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Wrong(value, f"a whole number from {low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Check:
    """A number from low to high, as a float."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Wrong(value, f"a number from {low:g} to {high:g}")
        try:
            return float(value)
        except OverflowError:
            raise Wrong(value, "a number that a 64-bit float can hold") from None

    return check


def choice(*words: str) -> Check:
    """One of the words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise Wrong(value, "one of " + ", ".join(repr(word) for word in words))
        return value

    return check


def list_of(item: Check, least: int = 0, most: int = 1000) -> Check:
    """A list of so many items, each of which the check takes, as a list."""

    def check(value: object) -> list[object]:
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            raise Wrong(value, f"a list of {least} to {most}")
        items: list[object] = []
        faults: list[Wrong] = []
        for index, element in enumerate(value):
            try:
                items.append(item(element))
            except Wrong as wrong:
                faults.extend(wrong.all(f"[{index}]"))
        if faults:
            raise _together(faults)
        return items

    return check


def table_of(shape: Shape) -> Check:
    """A document of that shape."""
    return shape.nested
