"""One truth of all answers: whether a rule holds for every member, or for any (spec section 4; docs/rules.md). Pure.

The rule for members that gave none: they are silent, or answered with an error, or the rule cannot be evaluated for what they answered.
Such a member leaves the truth open where it could decide it, and then it is null: that every door is closed is not said while one is
silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from m2mapp.formats.rules.language import Rule
from m2mapp.formats.rules.sample import Sample
from m2mapp.groups.results import MemberResult
from m2mapp.model.errors import shown

EVERY, ANY = "every", "any"


def truth(function: str, rule: Rule, members: Mapping[str, MemberResult], silent: Iterable[str]) -> dict[str, object]:
    """The truth: of how many, who gave none, and of those of them that answered why."""
    outcomes: list[bool] = []
    why: dict[str, str] = {}
    for uri, result in members.items():
        if not result.ok:
            why[uri] = f"answered {result.status}"
            continue
        verdict = rule.evaluate(Sample(result.content, result.content_type))
        if verdict.holds is None:
            why[uri] = shown(verdict.why)
        else:
            outcomes.append(verdict.holds)
    without = [*why, *silent]
    return {
        "function": function,
        "rule": rule.text,
        "value": _joined(function, outcomes, without),
        "of": len(outcomes),
        "without": without,
        "why": why,
    }


def _joined(function: str, outcomes: list[bool], without: list[str]) -> bool | None:
    decides = function == ANY
    if decides in outcomes:
        return decides
    return not decides if outcomes and not without else None
