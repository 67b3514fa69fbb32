"""Operations: what is sent where when a subject changes as a rule says (CN 104662858, figures 2, 5 and 8; spec section 12).

Responsible for what an operation's document may be, and for the value that it says. Not responsible for where it stands (`edit`), for
which subjects have it (`ties`), nor for running it (`run`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import cast

from m2mapp.formats.documents import content_bytes, content_value, dump_json, rfc3339
from m2mapp.formats.durations import duration, duration_text
from m2mapp.formats.rules.language import Rule, parse_rule
from m2mapp.formats.shapes import Field, Shape, boolean, choice, integer, list_of, text
from m2mapp.model.errors import Malformed, TooLarge
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.model.principal import Principal
from m2mapp.triggers.dependency import Dependency, checked_dependency, dependency_of
from m2mapp.triggers.links import check_link

MAX_INPUT_BYTES = 65_536
MAX_DEPENDENCIES = 64
MAX_RESULT_BYTES = 16_384
"""A larger answer's content is not kept in `result`."""
DEFAULT_EXPIRY_S = 86_400.0
_LONGEST_S = 366 * 86_400.0
_GREATEST_PRIORITY = 1_000_000
READ_ONLY = frozenset({"result", "runs", "lastEvaluation", "writtenBy", "warnings"})
"""Shown by a GET, and left out of what is written: a document that was read can be changed and written back."""


class Verb(Enum):
    """The four kinds of operation (CN 104662858, paragraph 0162)."""

    CREATE = "create"
    RETRIEVE = "retrieve"
    UPDATE = "update"
    DELETE = "delete"


METHODS = {Verb.CREATE: Method.POST, Verb.RETRIEVE: Method.GET, Verb.UPDATE: Method.PUT, Verb.DELETE: Method.DELETE}
WITH_INPUT = frozenset({Verb.CREATE, Verb.UPDATE})


@dataclass(frozen=True, slots=True)
class Given:
    """Content that is sent or was received, with its media type."""

    content: bytes
    media_type: str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `uri` is where it stands, whole: its name in causes and records; links in it are of the node of that URI.

    `given` is the input that stands in it, `input_uri` where to fetch it instead; neither: nothing is sent along. `for_s`: the rule has
    to hold so long. `holdoff_s`: it does not run again for so long. `expiry_s`: a run that could not be had by then is given up.
    `author`: who last wrote it, and so whose rights it has. `place`: its path in this node's tree, None for one that
    stands elsewhere. `key`: by what it is known in records: its path as text, or its URI.
    """

    uri: str
    name: str
    priority: int
    rule: Rule
    target: str
    verb: Verb
    given: Given | None
    input_uri: str | None
    output_uri: str | None
    for_s: float
    holdoff_s: float
    expiry_s: float
    idempotent: bool
    dependencies: tuple[Dependency, ...]
    dependency_uris: tuple[str, ...]
    author: Principal
    place: Path | None
    key: str


def check_operation(_: str, given: Mapping[str, object]) -> dict[str, object]:
    """An operation's document as it is kept, without its dependencies. Raises `Malformed`, `TooLarge`."""
    return checked_operation({name: value for name, value in given.items() if name != "dependencies"})


def checked_operation(given: Mapping[str, object], where: str = "") -> dict[str, object]:
    """An operation's document, checked with the dependencies that stand in it; `where` is put before the field that is wrong."""
    values = _SHAPE.check({name: value for name, value in given.items() if name not in READ_ONLY}, where)
    parse_rule(values["rule"], f"{where}rule")
    dependencies = values.pop("dependencies")
    _check_input(given, values, where)
    kept = {name: value for name, value in values.items() if value is not None}
    if "input" in given:
        kept["input"] = given["input"]
    for name in _DURATIONS:
        if name in kept:
            kept[name] = duration_text(cast(float, kept[name]))
    if dependencies is not None:
        kept["dependencies"] = _checked_list(cast("list[object]", dependencies), f"{where}dependencies")
    return kept


def operation_of(uri: str, document: Mapping[str, object], author: Principal, place: Path | None = None) -> Operation:
    """The operation that a checked document says, which stands at that URI; see `Operation` for its author and place."""
    verb = Verb(document["method"])
    inline = cast("list[Mapping[str, object]]", document.get("dependencies", ()))
    return Operation(
        uri=uri,
        name=uri.rpartition("/")[2],
        priority=cast(int, document["priority"]),
        rule=parse_rule(document["rule"]),
        target=str(document["objectResource"]),
        verb=verb,
        given=Given(*content_bytes(document["input"], None)) if "input" in document else None,
        input_uri=cast("str | None", document.get("inputURI")),
        output_uri=cast("str | None", document.get("outputURI")),
        for_s=_seconds(document, "for", 0.0),
        holdoff_s=_seconds(document, "holdoff", 0.0),
        expiry_s=_seconds(document, "expiry", DEFAULT_EXPIRY_S),
        idempotent=bool(document.get("idempotent", verb is not Verb.CREATE)),
        dependencies=tuple(dependency_of(str(one["name"]), one) for one in inline),
        dependency_uris=tuple(cast("list[str]", document.get("dependencyURIs", ()))),
        author=author,
        place=place,
        key=uri if place is None else path_text(place),
    )


def result_document(at_ms: int, status: str, content: bytes, media_type: str | None) -> dict[str, object]:
    """What came of a run, as `result` has it: the time, the status as the target's protocol has it, and the content."""
    if len(content) > MAX_RESULT_BYTES:
        kept: object = f"{len(content)} bytes, which are not kept: at most {MAX_RESULT_BYTES} are"
    else:
        kept = content_value(content, media_type or "text/plain")
    return {"at": rfc3339(at_ms), "status": status, "content": kept}


def check_result(_: str, given: Mapping[str, object]) -> dict[str, object]:
    """A result's document as it is kept. Raises `Malformed`, `TooLarge`."""
    values = _RESULT.check(given)
    if len(dump_json(values["content"])) > 2 * MAX_RESULT_BYTES:
        raise TooLarge("content", 2 * MAX_RESULT_BYTES)
    return values


def _check_input(given: Mapping[str, object], values: Mapping[str, object], where: str) -> None:
    sources = [name for name in ("input", "inputURI") if name in given]
    if len(sources) == 2:  # noqa: PLR2004 - both of them
        raise Malformed(f"{where}input", given["input"], "given once: by input or by inputURI")
    if sources and Verb(values["method"]) not in WITH_INPUT:
        raise Malformed(f"{where}{sources[0]}", given[sources[0]], f"left out: to {values['method']} nothing is sent along")
    if "input" in given and len(content_bytes(given["input"], None)[0]) > MAX_INPUT_BYTES:
        raise TooLarge(f"{where}input", MAX_INPUT_BYTES)


def _checked_list(given: list[object], where: str) -> list[object]:
    checked: list[object] = []
    names = set()
    for index, one in enumerate(given):
        at = f"{where}[{index}]"
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            raise Malformed(at, one, 'a dependency with its name: {"name": "MemberAtHome", "uri": ..., "rule": ..., "logic": ...}')
        if one["name"] in names:
            raise Malformed(f"{at}.name", one["name"], "a name that no other one has")
        names.add(one["name"])
        document = checked_dependency({name: value for name, value in one.items() if name != "name"}, f"{at}.")
        checked.append({"name": one["name"], **document})
    return checked


def _seconds(document: Mapping[str, object], name: str, default: float) -> float:
    value = document.get(name)
    return default if value is None else _DURATIONS[name](value)


def _whatever(value: object) -> object:
    return value


_DURATIONS = {"for": duration(0.001, _LONGEST_S), "holdoff": duration(0.001, _LONGEST_S), "expiry": duration(1, _LONGEST_S)}
_SHAPE = Shape(
    {
        "priority": Field(integer(-_GREATEST_PRIORITY, _GREATEST_PRIORITY), 0),
        "rule": Field(text),
        "objectResource": Field(check_link),
        "method": Field(choice(*(one.value for one in Verb))),
        "input": Field(_whatever, None),
        "inputURI": Field(check_link, None),
        "outputURI": Field(check_link, None),
        **{name: Field(check, None) for name, check in _DURATIONS.items()},
        "idempotent": Field(boolean, None),
        "dependencies": Field(list_of(_whatever, most=MAX_DEPENDENCIES), None),
        "dependencyURIs": Field(list_of(check_link, most=MAX_DEPENDENCIES), None),
    }
)
_RESULT = Shape({"at": Field(text), "status": Field(text), "content": Field(_whatever, None)})
