"""Numbers in answers: what a member's answer says as a number, and one figure of all (spec section 4).

The rule for members that gave none: they are silent, or answered with an error, or with what is no number; the figure is of the others,
and `without` names them. The figure of no number at all is null, but for `count`, which is 0. Pure.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping

from m2mapp.formats.documents import is_cbor, is_json, is_text, load_cbor, load_json
from m2mapp.formats.senml import Record, is_senml, parse
from m2mapp.groups.results import MemberResult
from m2mapp.model.errors import Malformed
from m2mapp.model.messages import Request

AGGREGATE, RULE = "aggregate", "rule"
OWN_KEYS = frozenset({AGGREGATE, RULE})
"""The keys of a query that are meant for the group server and are not passed on to the members."""

Number = int | float
_NUMBER = re.compile(r"[ \t\r\n]*(-?[0-9]{1,308}(?:\.[0-9]{1,308})?(?:[eE][+-]?[0-9]{1,3})?)[ \t\r\n]*", re.ASCII)


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


def read_aggregate(request: Request) -> str | None:
    """The function that `?aggregate=` names, or None. Raises `Malformed`, naming those that there are."""
    asked = [value for key, value in request.query if key == AGGREGATE]
    choices = ", ".join(FUNCTIONS)
    if len(asked) > 1:
        raise Malformed(AGGREGATE, ", ".join(asked), f"given once, as one of {choices}")
    if asked and asked[0] not in FUNCTIONS:
        raise Malformed(AGGREGATE, asked[0], f"one of {choices}")
    rule = request.query_value(RULE)
    if rule is not None:
        raise Malformed(RULE, rule, f"left out: it stays here, and none of {choices} has one")
    return asked[0] if asked else None


def aggregate(function: str, members: Mapping[str, MemberResult], silent: Iterable[str]) -> dict[str, object]:
    """One figure of all answers, as spec section 12 shows it: function, value, of how many, without whom."""
    found = {uri: number_in(result) for uri, result in members.items()}
    numbers = [number for number in found.values() if number is not None]
    without = [uri for uri, number in found.items() if number is None]
    value = _figure(function, numbers)
    return {"function": function, "value": value, "of": len(numbers), "without": [*without, *silent]}


def number_in(result: MemberResult) -> Number | None:
    """The number that a member answered: text, JSON, CBOR, or SenML with one record; None for anything else, and for an error."""
    if not result.ok:
        return None
    media_type = result.content_type
    if is_senml(media_type):
        records = records_in(result)
        return records[0].number if len(records) == 1 else None
    if is_json(media_type) or is_cbor(media_type):
        try:
            return _finite(load_json(result.content) if is_json(media_type) else load_cbor(result.content))
        except Malformed:
            return None
    return _in_text(result.content) if media_type is None or is_text(media_type) else None


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


def _in_text(content: bytes) -> Number | None:
    match = _NUMBER.fullmatch(content.decode("ascii", "replace"))
    if match is None:
        return None
    text = match[1]
    try:
        return int(text) if text.lstrip("-").isdecimal() and len(text) < 20 else _finite(float(text))  # noqa: PLR2004 - 64 bits
    except OverflowError:
        return None


def _finite(value: object) -> Number | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
