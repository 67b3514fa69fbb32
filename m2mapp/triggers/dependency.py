"""Dependencies: what an operation's running depends on besides its rule (CN 104662858, figures 6, 12 and 13; spec section 12).

Responsible for what a dependency's document may be. Not responsible for fetching it, nor for what all dependencies come to together:
`dependencies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from m2mapp.formats.rules.language import Rule, parse_rule
from m2mapp.formats.shapes import Field, Shape, choice, text
from m2mapp.model.errors import Malformed
from m2mapp.triggers.links import check_link


class Logic(Enum):
    """What it means for the operation that a dependency holds: `AND` is necessary, `OR` alone is enough."""

    AND = "AND"
    OR = "OR"


@dataclass(frozen=True, slots=True)
class Dependency:
    """A resource whose content has to be as a rule says. `uri` is a URI, or a path of the node where the dependency stands.

    `lost`: why the dependency itself, which stands elsewhere, could not be had; it does not hold then.
    """

    name: str
    uri: str
    rule: Rule
    logic: Logic
    lost: str = ""


def check_dependency(_: str, given: Mapping[str, object]) -> dict[str, object]:
    """A dependency's document as it is kept. Raises `Malformed`; of a rule that does not parse with the column."""
    return checked_dependency(given)


def checked_dependency(given: Mapping[str, object], where: str = "") -> dict[str, object]:
    """The same for a document that stands inside another; `where` is put before the name of the field that is wrong."""
    values = _SHAPE.check(given, where)
    rule = parse_rule(values["rule"], f"{where}rule")
    if rule.looks_back:
        raise Malformed(f"{where}rule", rule.text, "a rule on one content: what is fetched has none before it")
    return values


def dependency_of(name: str, document: Mapping[str, object]) -> Dependency:
    """The dependency that a checked document says."""
    return Dependency(name, str(document["uri"]), parse_rule(document["rule"]), Logic(document["logic"]))


_SHAPE = Shape({"uri": Field(check_link), "rule": Field(text), "logic": Field(choice(*(one.value for one in Logic)), Logic.AND.value)})
