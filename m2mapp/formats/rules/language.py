"""Rules as the rest of the program has them: the text of a rule to a `Rule`, a rule and a content to a `Verdict` (spec section 7).

docs/rules.md is this language for those who write it. Not responsible for the grammar and for what is wrong with a text: `grammar`; nor
for what conditions mean: `conditions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from m2mapp.formats.rules.conditions import Changed, Crossed, Node, conditions, fields
from m2mapp.formats.rules.grammar import EXAMPLES, Misfit, parse_tree
from m2mapp.formats.rules.sample import Sample
from m2mapp.formats.rules.sight import Sight, Told
from m2mapp.model.errors import Malformed

MAX_CHARACTERS = 1000
_REMEMBERED = 1024
_TOLD: Mapping[bool | None, str] = {True: "holds", False: "does not hold", None: "cannot be evaluated"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one evaluation.

    `holds` is None where the rule cannot be evaluated. `seen` has the values that were looked at, by the field's text (`json.temp`,
    `json.temp before`). `outcomes` has the conditions that were looked at, in their order, what came of each, and why that is nothing.
    """

    holds: bool | None
    seen: Mapping[str, object]
    outcomes: tuple[Told, ...]

    @property
    def why(self) -> str:
        """What made it so, for a person: of what cannot be evaluated the reasons, otherwise every condition that was looked at."""
        if self.holds is None:
            return "; ".join(dict.fromkeys(why for _, outcome, why in self.outcomes if outcome is None))
        return "; ".join(f"{condition} {_TOLD[outcome]}" for condition, outcome, _ in self.outcomes)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that was parsed. Two rules are equal when their canonical texts are.

    `text` is canonical: one space between words, words in lower case, no brackets that change nothing. `fields` are the fields that it
    reads. `looks_back`: it needs the content before.
    """

    text: str
    fields: tuple[str, ...] = field(compare=False)
    looks_back: bool = field(compare=False)
    _tree: Node = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    def evaluate(self, now: Sample, before: Sample | None = None) -> Verdict:
        """Whether it holds for a content, and the one before it. Never raises: what cannot be evaluated is a verdict too."""
        sight = Sight(now, before)
        holds = self._tree.test(sight)
        return Verdict(holds, sight.seen, tuple(sight.outcomes))

    def holds(self, sight: Sight) -> bool | None:
        """The same outcome without saying why: one sight serves the rules of many, several times as fast."""
        outcome = self._tree.test(sight)
        sight.outcomes.clear()
        return outcome


def parse_rule(text: object, named: str = "rule") -> Rule:
    """The rule that a text says. Raises `Malformed`, naming the field `named` and pointing at the column that is wrong."""
    if not isinstance(text, str):
        raise Malformed(named, text, f"a rule, which is text such as {EXAMPLES}")
    if len(text) > MAX_CHARACTERS:
        raise Malformed(named, text, f"a rule of at most {MAX_CHARACTERS} characters")
    try:
        return _parse(text)
    except Misfit as misfit:
        raise Malformed(named, text, f"a rule: {misfit.told(text)}") from None


@lru_cache(_REMEMBERED)
def _parse(text: str) -> Rule:
    tree = parse_tree(text)
    tested = conditions(tree)
    names = dict.fromkeys(one.name for condition in tested for one in fields(condition))
    return Rule(str(tree), tuple(names), any(isinstance(condition, Changed | Crossed) for condition in tested), tree)
