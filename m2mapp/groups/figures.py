"""Numbers in answers: what a member's answer says as a number, one figure of all, and what `?aggregate=` asks for (spec section 4).

The rule for members that gave none: they are silent, or answered with an error, or with what is no number; the figure is of the others,
and `without` names them. The figure of no number at all is null, but for `count`, which is 0. Pure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from m2mapp.formats.rules.language import Rule, parse_rule
from m2mapp.formats.rules.sample import Sample
from m2mapp.formats.senml import Record, is_senml, parse
from m2mapp.groups.results import MemberResult
from m2mapp.groups.truths import ANY, EVERY, truth
from m2mapp.model.errors import Malformed
from m2mapp.model.messages import Request

AGGREGATE, RULE = "aggregate", "rule"
_TRUTHS = (EVERY, ANY)
OWN_KEYS = frozenset({AGGREGATE, RULE})
"""The keys of a query that are meant for the group server and are not passed on to the members."""

Number = int | float


def _total(numbers: list[Number]) -> Number:
    # Whole numbers stay exact.
    return sum(numbers) if all(isinstance(number, int) for number in numbers) else math.fsum(numbers)


FUNCTIONS: Mapping[str, Callable[[list[Number]], Number]] = {
    "avg": lambda numbers: math.fsum(numbers) / len(numbers),
    "min": min,
    "max": max,
    "sum": _total,
    "count": len,
    "median": statistics.median,
}


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What is asked of all answers together: a figure, or with a rule a truth."""

    function: str
    rule: Rule | None = None

    def of(self, members: Mapping[str, MemberResult], silent: Iterable[str]) -> dict[str, object]:
        """What comes of it, as spec section 12 shows it."""
        if self.rule is not None:
            return truth(self.function, self.rule, members, silent)
        return aggregate(self.function, members, silent)


def read_aggregate(request: Request) -> Aggregate | None:
    """What `?aggregate=` and `?rule=` ask for, or None. Raises `Malformed`, naming the functions that there are or the rule's column."""
    asked = _given(request, AGGREGATE)
    rule = _given(request, RULE)
    if asked is not None and asked not in (*FUNCTIONS, *_TRUTHS):
        raise Malformed(AGGREGATE, asked, f"one of {', '.join((*FUNCTIONS, *_TRUTHS))}")
    if asked is None or asked not in _TRUTHS:
        if rule is not None:
            raise Malformed(RULE, rule, f"left out: it stays here, and only aggregate={' and '.join(_TRUTHS)} have one")
        return None if asked is None else Aggregate(asked)
    if rule is None:
        raise Malformed(RULE, "nothing", f"enough: aggregate={asked} needs a rule such as value > 30")
    parsed = parse_rule(rule)
    if parsed.looks_back:
        raise Malformed(RULE, rule, "of one answer alone: changed, rises through and falls through need the content before it")
    return Aggregate(asked, parsed)


def aggregate(function: str, members: Mapping[str, MemberResult], silent: Iterable[str]) -> dict[str, object]:
    """One figure of all answers, as spec section 12 shows it: function, value, of how many, without whom."""
    found = {uri: number_in(result) for uri, result in members.items()}
    numbers = [number for number in found.values() if number is not None]
    without = [uri for uri, number in found.items() if number is None]
    value = _figure(function, numbers)
    return {"function": function, "value": value, "of": len(numbers), "without": [*without, *silent]}


def number_in(result: MemberResult) -> Number | None:
    """The number that a member answered: text, JSON, CBOR, or SenML of one name; None for anything else, and for an error."""
    return Sample(result.content, result.content_type).number if result.ok else None


def records_in(result: MemberResult) -> tuple[Record, ...]:
    """The records that a member answered as SenML, all of them numbers; none for anything else."""
    if not result.ok or not is_senml(result.content_type):
        return ()
    try:
        records = parse(result.content, result.content_type)
    except Malformed:
        return ()
    return records if all(record.number is not None for record in records) else ()


def _figure(function: str, numbers: list[Number]) -> Number | None:
    if not numbers and function != "count":
        return None
    try:
        value = FUNCTIONS[function](numbers)
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def _given(request: Request, key: str) -> str | None:
    """The value of a key that is given once at most. Raises `Malformed`."""
    values = [value for name, value in request.query if name == key]
    if len(values) > 1:
        raise Malformed(key, ", ".join(values), "given once")
    return values[0] if values else None
