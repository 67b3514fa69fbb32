"""The page about rules says what is so: its grammar is the parser's, and its examples come out as they stand there."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import JSON, TEXT
from m2mapp.formats.rules.language import Rule, parse_rule
from m2mapp.formats.rules.sample import Sample
from m2mapp.model.errors import Malformed

PAGE = (Path(__file__).parents[4] / "docs" / "rules.md").read_text()
_BLOCK = re.compile(r"^```\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"^\| `(.+?)` \| `(.+?)` \| (.+?) \|$", re.MULTILINE)


class PageTests(SynchronousTestCase):
    def test_grammar(self) -> None:
        """The grammar on the page is the one that the parser reads."""
        grammar = files("m2mapp.formats.rules").joinpath("rule.lark").read_text("utf-8")
        self.assertIn(grammar.strip(), _BLOCK.findall(PAGE))

    def test_examples(self) -> None:
        """Each example's content and rule give the outcome beside them."""
        found = _EXAMPLE.findall(PAGE)
        self.assertGreater(len(found), 10)
        for content, rule, outcome in found:
            verdict = parse_rule(rule).evaluate(Sample(content.encode(), JSON if content.startswith("{") else TEXT))
            self.assertEqual({True: "holds", False: "does not hold", None: verdict.why}[verdict.holds], outcome, (content, rule))

    def test_first_rules(self) -> None:
        """The rules that the page begins with are rules, and its error is the one that is told."""
        rules, error = _BLOCK.findall(PAGE)[:2]
        for rule in rules.splitlines():
            self.assertIsInstance(parse_rule(rule), Rule)
        fault = self.assertRaises(Malformed, parse_rule, "json.temp = 30")
        self.assertEqual(fault.detail, error)
