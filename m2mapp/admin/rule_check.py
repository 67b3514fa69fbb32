"""A rule while it is typed: whether it is one, where it is not, and what comes of it for a content as it is now. Pure.

The language is `formats.rules`; nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

from m2mapp.formats.rules.language import parse_rule
from m2mapp.formats.rules.sample import Sample
from m2mapp.model.errors import Malformed
from m2mapp.tree.unit import Resource

_LONGEST_VALUE = 100


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """What is told of a rule's text.

    `error` says what is wrong, `pointer` is the text with a mark below the column, on a line of its own. Of a rule that is one, `rule` is
    its canonical text; `holds` and `why` are what comes of it for `value`, where there is a content (`seen`).
    """

    rule: str = ""
    error: str = ""
    pointer: str = ""
    seen: bool = False
    value: str = ""
    holds: bool | None = None
    why: str = ""


def check_rule(text: str, subject: Resource | None = None) -> RuleCheck | None:
    """What is told of a rule's text; None where nothing was typed. `subject` is the resource whose content is looked at."""
    if not text.strip():
        return None
    try:
        rule = parse_rule(text)
    except Malformed as fault:
        error, _, pointer = fault.expected.partition("\n")
        return RuleCheck(error=error.removeprefix("a rule: ") if pointer else f"it is to be {error}", pointer=pointer)
    if subject is None or subject.content is None:
        return RuleCheck(rule.text)
    if rule.looks_back:
        return RuleCheck(rule.text, why="It looks at the content before, too: only a change tells.")
    verdict = rule.evaluate(Sample(subject.content, subject.media_type))
    value = subject.content[: 4 * _LONGEST_VALUE].decode(errors="replace")
    value = value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "\u2026"
    return RuleCheck(rule.text, seen=True, value=value, holds=verdict.holds, why=verdict.why)
