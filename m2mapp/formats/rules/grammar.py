"""From text to the tree of a rule: `rule.lark`, what a text must not say although the grammar takes it, and what would be right.

The parser is LALR(1): its time is linear in the text. It builds the tree while it reads, without recursion. Texts are short
(`language.MAX_CHARACTERS`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import cast

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedToken, v_args

from m2mapp.formats.rules.conditions import (
    And,
    Changed,
    Compared,
    Crossed,
    Exists,
    Literal,
    Matched,
    Node,
    Not,
    Number,
    Or,
    Scalar,
    Within,
    depth,
    kind_of,
    quoted,
)
from m2mapp.formats.rules.sample import number_in
from m2mapp.formats.rules.sight import Field

MAX_DEPTH = 16
"""So many conditions stand inside each other at most, by `not`, and by `and` and `or` in turn."""
EXAMPLES = "value > 30, json.temp in 20..25, text contains 'error', changed"

_BEFORE_MARK, _MARKED = 40, 72
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")
_ESCAPE = re.compile(r"\\(.)")
_MEANT = {"n": "\n", "r": "\r", "t": "\t"}
_WORDS: Mapping[str, Scalar] = {"TRUE": True, "FALSE": False, "NULL": None}


class Misfit(Exception):  # noqa: N818 - it never leaves this package
    """What is wrong with a text, and the place, counted from 0."""

    def __init__(self, place: int, expected: str) -> None:
        super().__init__(expected)
        self.place, self.expected = place, expected

    def told(self, text: str) -> str:
        """The column, what would be right, and the text with a mark below the column, on lines of their own."""
        start = max(0, self.place - _BEFORE_MARK)
        part = "".join(character if character.isprintable() else " " for character in text[start : start + _MARKED])
        dots = "..." if start else ""
        return f"column {self.place + 1}: {self.expected}\n{dots}{part}\n{' ' * (len(dots) + self.place - start)}^"


def parse_tree(text: str) -> Node:
    """The tree of a rule. Raises `Misfit`."""
    try:
        tree = cast(Node, _parser().parse(text))  # what _Builder.rule gives: Lark's annotation knows trees of its own only
    except (UnexpectedToken, UnexpectedCharacters) as unexpected:
        raise _misfit(text, unexpected) from None
    deep = depth(tree)
    if deep > MAX_DEPTH:
        raise Misfit(0, f"here conditions stand {deep} deep inside each other, and at most {MAX_DEPTH} are taken")
    return tree


@dataclass(frozen=True, slots=True)
class _Side:
    """A field or a literal, and where it stands."""

    term: Field | Literal
    place: int

    @property
    def kind(self) -> str | None:
        """What sort of value it is, where that is known before anything is evaluated."""
        if isinstance(self.term, Literal):
            return kind_of(self.term.value) or "null"
        return "text" if self.term.root == "text" else None


@v_args(inline=True)
class _Builder(Transformer[Token, object]):
    """Makes nodes of what the parser found; each method bears the name of its rule in the grammar."""

    def rule(self, node: Node) -> Node:
        return node

    def either(self, *parts: Node) -> Node:
        return Or(tuple(inner for part in parts for inner in (part.parts if isinstance(part, Or) else (part,))))

    def both(self, *parts: Node) -> Node:
        return And(tuple(inner for part in parts for inner in (part.parts if isinstance(part, And) else (part,))))

    def negation(self, part: Node) -> Node:
        return Not(part)

    def compared(self, left: _Side, sign: Token, right: _Side) -> Node:
        sides = (left, right)
        if isinstance(left.term, Literal) and isinstance(right.term, Literal):
            raise Misfit(left.place, "one side has to be of the content, such as value or json.temp")
        if sign not in ("==", "!="):
            for side in sides:
                if side.kind == "text" and isinstance(side.term, Field):
                    raise Misfit(side.place, f"{sign} compares numbers, and this is always text; value is the number that a content is")
                if side.kind not in (None, "a number"):
                    raise Misfit(side.place, f"{sign} compares numbers, and {side.term} is none")
        elif None not in (left.kind, right.kind) and left.kind != right.kind:
            wrong = left if isinstance(left.term, Literal) else right
            raise Misfit(wrong.place, f"text is always text: compare it with text in quotes, such as '{wrong.term}'")
        return Compared(left.term, str(sign), right.term)

    def within(self, side: _Side, low: Token, high: Token) -> Node:
        field, least, most = _numeric(side), _number(low), _number(high)
        if least > most:
            raise Misfit(_place(low), f"the smaller number stands first: {high}..{low}")
        return Within(field, least, most)

    def matched(self, side: _Side, how: Token, text: Token) -> Node:
        return Matched(_field(side), " ".join(how.lower().split()), _text(text))

    def exists(self, side: _Side) -> Node:
        return Exists(_field(side))

    def changed(self, side: _Side | None = None) -> Node:
        return Changed(_VALUE if side is None else _field(side))

    def crossed(self, *parts: _Side | Token) -> Node:
        crossing, number = (part for part in parts if isinstance(part, Token))
        side = parts[0]
        return Crossed(_numeric(side) if isinstance(side, _Side) else _VALUE, crossing.lower().startswith("rises"), _number(number))

    def field(self, root: Token, *steps: str | int) -> _Side:
        word = root.lower()
        if word == "senml" and (len(steps) != 1 or not isinstance(steps[0], str)):
            raise Misfit(_place(root), "a record of SenML goes by its name alone: senml['urn:dev:1:temp']")
        name = word + "".join(map(_step_text, steps))
        return _Side(Field(word, steps, name), _place(root))

    def step(self, name: Token) -> str | int:
        if name.type == "INDEX":
            return int(name)
        return _text(name) if name.type == "TEXT" else str(name)

    def literal(self, token: Token) -> _Side:
        if token.type == "NUMBER":
            return _Side(Literal(_number(token)), _place(token))
        return _Side(Literal(_text(token) if token.type == "TEXT" else _WORDS[token.type]), _place(token))


_VALUE = Field("value", (), "value")


@cache
def _parser() -> Lark:
    """Made for the first rule: it takes some 50 ms, which a node without rules does not spend. One with rules reads them at its start."""
    return Lark(
        files(__package__).joinpath("rule.lark").read_text("utf-8"),
        start="rule",
        parser="lalr",
        lexer="contextual",
        transformer=_Builder(),
        maybe_placeholders=False,
    )


def _place(token: Token) -> int:
    return token.start_pos or 0


def _number(token: Token) -> Number:
    number = number_in(token)
    if isinstance(number, str):
        raise Misfit(_place(token), "a number that a 64-bit float can hold")
    return number


def _text(token: Token) -> str:
    return _ESCAPE.sub(lambda match: _MEANT.get(match[1], match[1]), token[1:-1])


def _step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _PLAIN_NAME.fullmatch(step) else f"[{quoted(step)}]"


def _field(side: _Side) -> Field:
    return cast(Field, side.term)  # The grammar has no literal there.


def _numeric(side: _Side) -> Field:
    if side.kind == "text":
        raise Misfit(side.place, "this is always text; value is the number that a content is")
    return _field(side)


# What would be right.

_TESTS = "contains, starts with, ends with, matches, exists, changed, rises through, falls through"

_EXPECTED: tuple[tuple[str, str], ...] = (
    ("_NOT", f"a condition would be right, such as {EXAMPLES}"),
    ("VALUE", "a number, text in quotes, true, false, null or a field such as json.temp would be right"),
    ("_IN", f"==, !=, <, <=, >, >=, in, {_TESTS} would be right"),
    ("LSQB", "the name of a record would be right: senml['urn:dev:1:temp']"),
    ("_AND", "and, or, or the end of the rule would be right"),
    ("COMPARISON", "a comparison would be right, such as 30 < value"),
    ("RPAR", "a closing bracket is missing"),
    ("$END", "there is no bracket that this could close"),
    ("NAME", "a name would be right; one with other characters stands in brackets: json['room temp']"),
    ("INDEX", "a name in quotes, or a place counted from 0, would be right"),
    ("RSQB", "] would be right"),
    ("TEXT", "text in quotes would be right, such as 'error'"),
    ("NUMBER", "a number would be right"),
    ("__ANON_0", "two points and the greater number would be right: 20..25"),
)
"""What is said where the parser would have taken a terminal: the first that it would have."""

_SPACE = "a space would be right; in a URI it is written %20, and + is itself"
_HINTS: tuple[tuple[str, str, str], ...] = (
    ("COMPARISON", r"=>|=<", "the sign = stands second: >=, <="),
    ("COMPARISON", r"=", "two signs compare: =="),
    ("_IN", r"(is|equals?)\b", "== compares"),
    ("_IN", r"between\b", "a range is written so: value in 20..25"),
    ("_IN", r"not\b", "not stands first: not value in 20..25"),
    ("LSQB", r"-", "a name with such a character stands in brackets: json['room-temp']"),
    ("_IN", r"\+", _SPACE),
    ("_OR", r"\+", _SPACE),
    ("_OR", r"&&?", "and joins conditions"),
    ("_OR", r"\|\|?", "or joins conditions"),
    ("_OR", r"==|[<>!]", "a comparison has two sides: join two by and, or write a range, such as value in 20..25"),
    ("_NOT", r"!", "not denies a condition"),
    ("NUMBER", r"-?[0-9.]+[^\W\d]", "a number stands by itself: units are neither read nor converted"),
    ("NUMBER", r"\+|\.[0-9]", "a number is written so: 5, -0.5, 1e6"),
    ("TEXT", r"""['"]""", r"the text has no end: the same quote closes it; \' \" \\ \n \r \t are all that a backslash can stand before"),
    ("_NOT", r"[^\W\d]", "a field begins with value, text, json, cbor or senml, such as json.temp"),
    ("VALUE", r"[^\W\d]", "text stands in quotes, and a field begins with value, text, json, cbor or senml"),
    ("TEXT", r"[^\W\d]", "text stands in quotes"),
    ("_EXISTS", r"(contain|start|end|match|rise|fall|change|exist)", f"the words are {_TESTS}"),
)
"""What people write instead: where the parser would have taken a terminal, what stands there, and what to say of it."""


def _misfit(text: str, unexpected: UnexpectedToken | UnexpectedCharacters) -> Misfit:
    """What would be right at the place where the parser stopped."""
    if isinstance(unexpected, UnexpectedToken):
        wanted = set(unexpected.expected)
        place = len(text) if unexpected.token.type == "$END" else _place(unexpected.token)
    else:
        wanted, place = set(unexpected.allowed or ()), unexpected.pos_in_stream or 0
    for terminal, pattern, hint in _HINTS:
        if terminal in wanted and re.compile(pattern).match(text, place):
            return Misfit(place, hint)
    return Misfit(place, next((told for terminal, told in _EXPECTED if terminal in wanted), "the rule is wrong here"))
