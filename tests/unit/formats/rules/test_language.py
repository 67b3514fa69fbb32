"""Rules: what holds, what does not, what cannot be evaluated and why; the canonical text; what is refused, and where."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import CBOR, JSON, OCTETS, SENML_JSON, TEXT, dump_cbor, dump_json
from m2mapp.formats.rules.language import MAX_CHARACTERS, Rule, Verdict, parse_rule
from m2mapp.formats.rules.sample import Sample
from m2mapp.formats.senml import Record, build
from m2mapp.model.errors import Malformed

WORDS = re.findall(
    r"\S+", "value text json .a [0] ['x'] senml == > in 1..2 1 'x' and or not ( ) changed exists contains rises through null matches '*a'"
)
"""What rules are made of: put together at random, they get further than any text."""


def text(content: str) -> Sample:
    """A content that is text."""
    return Sample(content.encode(), TEXT)


def document(value: object) -> Sample:
    """A content that is JSON."""
    return Sample(dump_json(value), JSON)


def evaluate(rule: str, now: Sample, before: Sample | None = None) -> Verdict:
    """What comes of a rule."""
    return parse_rule(rule).evaluate(now, before)


class ConditionTests(SynchronousTestCase):
    def holds(self, now: Sample, *rules: str, before: Sample | None = None) -> None:
        """Each rule holds, and its opposite does not."""
        for rule in rules:
            self.assertIs(evaluate(rule, now, before).holds, True, rule)
            self.assertIs(evaluate(f"not ({rule})", now, before).holds, False, rule)

    def fails(self, now: Sample, *rules: str, before: Sample | None = None) -> None:
        """No rule holds, and each one's opposite does."""
        self.holds(now, *(f"not ({rule})" for rule in rules), before=before)

    def cannot(self, now: Sample, rule: str, why: str, before: Sample | None = None) -> None:
        """Neither the rule nor its opposite can be evaluated, for that reason."""
        for one in (rule, f"not ({rule})"):
            verdict = evaluate(one, now, before)
            self.assertIsNone(verdict.holds, one)
            self.assertEqual(verdict.why, why)

    def test_numbers(self) -> None:
        """Numbers are compared as numbers, whole ones exactly, with either side first."""
        self.holds(text(" 31\n"), "value > 30", "30 < value", "value >= 31", "value == 31.0", "value != 30", "value <= 3.1e1", "value < 32")
        self.fails(text("-5"), "value > 30", "value == 5", "value >= -4.9")
        self.holds(Sample(b"18446744073709551615", JSON), "value == 18446744073709551615", "value > 18446744073709551614")

    def test_ranges(self) -> None:
        """A range has both its ends."""
        self.holds(text("20"), "value in 20..25", "value in -1..20", "value in 20..20", "value in 19.5..20.5")
        self.fails(text("25.1"), "value in 20..25")
        self.cannot(text("warm"), "value in 20..25", "value is the text 'warm', not a number")

    def test_text(self) -> None:
        """Text is compared character by character, and looked through; white space at its ends is no part of the value."""
        now = text("Open: door-7 it's\n")
        self.holds(now, 'value == "Open: door-7 it\'s"', "value starts with 'Open'", "text ends with '\\n'", "value contains 'door'")
        self.holds(now, "text != 'Open'", "value matches 'Open*door-?*'", "value matches '*'")
        self.fails(now, "value contains 'open'", "text ends with 's'", "value matches 'Open'", "value == 'x'")
        self.holds(text("31"), "text == '31'", "text starts with '3'")

    def test_documents(self) -> None:
        """Fields, places in lists and odd names are found in JSON and CBOR, whichever word the rule has."""
        value = {"temp": 31, "value": True, "room temp": None, "list": [{"in": "a"}], "0": 1}
        for now in (Sample(dump_json(value), JSON), Sample(dump_cbor(value), CBOR), Sample(dump_json(value), "application/x+json")):
            for word in ("json", "cbor"):
                self.holds(now, f"{word}.temp > 30", f"{word}.value == true", f"{word}['room temp'] == null", f"{word}.list[0].in == 'a'")
                self.fails(now, f"{word}.temp == null", f"{word}.value != true", f"{word}.list == null")
                self.holds(now, f"{word}.temp exists", f"{word}['room temp'] exists", f"{word}['0'] == 1")
                self.fails(now, f"{word}.x exists", f"{word}.list[1] exists", f"{word}.temp.x exists", f"{word}[0] exists")
        self.holds(document({"temp": 31, "limit": 30, "a": None, "b": None}), "json.temp > json.limit", "json.a == json.b")
        self.holds(Sample(dump_cbor(4), OCTETS), "cbor == 4")
        self.holds(Sample(b"[5]", None), "json[0] == 5")

    def test_senml(self) -> None:
        """Records of SenML go by name, the last of several; a single one is the value too."""
        records = [Record("urn:a:temp", 20.5, "Cel"), Record("on", True), Record("urn:a:temp", 21), Record("sum", None, sum=3)]
        now = Sample(build(records, SENML_JSON), SENML_JSON)
        self.holds(now, "senml['urn:a:temp'] == 21", "senml.on == true", "json[0].v == 20.5")
        self.fails(now, "senml.x exists", "senml.sum exists")
        self.cannot(now, "senml.x > 1", "senml.x is not there")
        self.cannot(now, "value > 1", "value is an object with named members, not a number: name a field of it, such as json.temp")
        self.holds(Sample(build(records[:1], SENML_JSON), SENML_JSON), "value == 20.5")
        self.cannot(document([{"n": "a", "v": 1}]), "senml.a > 1", "the content is application/json, not SenML")

    def test_changed(self) -> None:
        """Changed is another value: not another spelling; a field that came or went has changed."""
        self.holds(text("on"), "changed", "value changed", before=text("off"))
        self.fails(text("21.50"), "changed", before=text("21.5"))
        self.holds(text("21.50"), "text changed", before=text("21.5"))
        self.fails(Sample(b'{"a":[1,{"b":2}],"c":3}', JSON), "changed", before=Sample(b'{"c": 3, "a": [1, {"b": 2.0}]}', JSON))
        self.holds(document([1, True]), "changed", "json[1] changed", before=document([1, 1]))
        self.fails(document([1, True]), "json[0] changed", before=document([1, 1]))
        self.holds(document({"alarm": 1}), "json.alarm changed", before=document({}))
        self.holds(document({}), "json.alarm changed", before=document({"alarm": None}))
        self.holds(Sample(b"\xff", OCTETS), "changed", before=Sample(b"\xfe", OCTETS))
        self.cannot(document({}), "json.alarm changed", "json.alarm is not there", before=document({}))
        self.cannot(text("on"), "changed", "there was no content before")
        self.cannot(document(1), "json changed", "before: the content is image/png, neither JSON nor CBOR", Sample(b"x", "image/png"))

    def test_crossing(self) -> None:
        """Rising is from below to it or above, falling from above to it or below."""
        for was, now, rises, falls in (
            (29, 30, True, False),
            (29, 31, True, False),
            (30, 31, False, False),
            (31, 30, False, True),
            (31, 29, False, True),
            (29, 29.5, False, False),
        ):
            for rule, outcome in (("rises through 30", rises), ("json falls through 30", falls)):
                self.assertIs(evaluate(rule, document(now), document(was)).holds, outcome, (was, now, rule))
        self.cannot(text("31"), "rises through 30", "there was no content before")
        self.cannot(text("on"), "rises through 30", "value is the text 'on', not a number", before=text("29"))
        self.cannot(text("31"), "falls through 30", "before: value is the text 'on', not a number", before=text("on"))

    def test_kinds(self) -> None:
        """A value of another kind than the rule's cannot be compared, and the reason says what it is."""
        now = document({"t": "31", "n": 31, "l": [1], "b": True, "z": None})
        for rule, why in (
            ("json.t > 30", "json.t is the text '31', not a number"),
            ("30 < json.t", "json.t is the text '31', not a number"),
            ("json.n == 'x'", "json.n is the number 31, not text"),
            ("json.n != true", "json.n is the number 31, not true or false"),
            ("json.b == 1", "json.b is true, not a number"),
            ("json.z == 'x'", "json.z is null, not text"),
            ("json.l == 1", "json.l is a list of 1, not a number"),
            ("json.l contains '1'", "json.l is a list of 1, not text"),
            ("json.t < json.t", "json.t is the text '31', and only numbers have an order"),
            ("json.t == json.n", "json.t is the text '31', json.n is the number 31: they cannot be compared"),
            ("json.l == json.l", "json.l is a list of 1, json.l is a list of 1: they cannot be compared"),
            ("json.z >= json.z", "json.z is null, json.z is null: they cannot be compared"),
            ("json.b in 0..1", "json.b is true, not a number"),
            ("json.n matches '3*'", "json.n is the number 31, not text"),
        ):
            self.cannot(now, rule, why)
        self.cannot(text("31"), "value == 'x'", "value is the number 31, not text: text is what it says character by character")

    def test_contents_that_cannot_be_read(self) -> None:
        """A content that is not what its media type says, is too large, or is of another type: the reason says so."""
        for now, rule, why in (
            (Sample(b"{", JSON), "json.a exists", "the content is not JSON (Expecting property name"),
            (Sample(b"", JSON), "value == 1", "the content is not JSON"),
            (Sample(b"\x82\x01", CBOR), "cbor[0] > 1", "the content is not CBOR"),
            (Sample(b"\x01", CBOR), "text contains 'x'", "the content is CBOR, which is no text"),
            (Sample(b"\xff", TEXT), "text contains 'x'", "the content is not text in UTF-8"),
            (Sample(b"\xff", TEXT), "value contains 'x'", "value is data of 1 bytes, not text"),
            (Sample(b"x", "image/png"), "json.a > 1", "the content is image/png, neither JSON nor CBOR"),
            (Sample(b"x" * 65_537, TEXT), "text contains 'x'", "the content has 65537 bytes, and rules read at most 65536"),
            (text("x" * 5000), "text matches '*'", "text has 5000 characters, and matches reads at most 4096"),
            (Sample(b"[]", SENML_JSON), "senml.a > 1", "the content is not a SenML pack"),
            (Sample(b'[{"n":"a","v":"x"}]', SENML_JSON), "value > 1", "the content[0].v is not a number"),
        ):
            verdict = evaluate(rule, now)
            self.assertIsNone(verdict.holds)
            self.assertEqual(verdict.why[: len(why)], why)


class LogicTests(SynchronousTestCase):
    def test_three_values(self) -> None:
        """`and` and `or` of every pair of outcomes are those of Kleene's logic, whichever stands first."""
        now, parts = document({"n": 1}), {True: "json.n == 1", False: "json.n == 2", None: "json.x == 1"}
        order = [False, None, True]
        for one in order:
            for other in order:
                low, high = sorted((one, other), key=order.index)
                self.assertIs(evaluate(f"{parts[one]} and {parts[other]}", now).holds, low)
                self.assertIs(evaluate(f"{parts[one]} or {parts[other]}", now).holds, high)

    def test_precedence(self) -> None:
        """`not` binds tighter than `and`, `and` tighter than `or`; brackets group."""
        now = text("1")
        self.assertIs(evaluate("value == 1 or value == 1 and value == 2", now).holds, True)
        self.assertIs(evaluate("(value == 1 or value == 1) and value == 2", now).holds, False)
        self.assertIs(evaluate("not value == 2 and value == 2", now).holds, False)
        self.assertIs(evaluate("not (value == 2 and value == 2)", now).holds, True)

    def test_why(self) -> None:
        """A verdict tells the conditions that were looked at, until the outcome was certain, and the values that they saw."""
        now, before = document({"a": 1, "b": "x" * 300, "c": [1]}), document({"a": 5, "c": []})
        verdict = evaluate("json.a rises through 3 or json.b contains 'x' or json.c changed", now, before)
        self.assertEqual(verdict.why, "json.a rises through 3 does not hold; json.b contains 'x' holds")
        self.assertEqual((verdict.seen["json.a"], verdict.seen["json.a before"]), (1, 5))
        self.assertLess(len(str(verdict.seen["json.b"])), 100)
        self.assertNotIn("json.c", verdict.seen)
        self.assertEqual(evaluate("json.c changed", now, before).seen, {"json.c": "a list of 1", "json.c before": "a list of 0"})
        verdict = evaluate("json.x > 1 or json.y > 1 or json.a == 2 or json.x < 1", now)
        self.assertEqual(verdict.why, "json.x is not there; json.y is not there")


class TextTests(SynchronousTestCase):
    def test_canonical(self) -> None:
        """One space between words, words in lower case, no idle brackets, one kind of quotes; parsed again, it is the same."""
        for given_text, canonical in (
            ("value>30", "value > 30"),
            ("VALUE IN 20 .. 25.0", "value in 20..25.0"),
            ("((value > 1)) AND (value < 2 or (not changed))", "value > 1 and (value < 2 or not changed)"),
            ("value > 1 or (value < 2 or value == 3)", "value > 1 or value < 2 or value == 3"),
            ("not (value > 1 and changed)", "not (value > 1 and changed)"),
            ("value changed or value rises\n through 1e3", "changed or rises through 1000.0"),
            ("json['temp'] == \"it's\"", "json.temp == 'it\\'s'"),
            ("json [ 'room temp' ] [ 0 ] . x  STARTS   WITH '\\\\\\n'", "json['room temp'][0].x starts with '\\\\\\n'"),
            ("senml['urn:a'] == Null", "senml['urn:a'] == null"),
            ("json.in == FALSE and json.not == true", "json.in == false and json.not == true"),
        ):
            rule = parse_rule(given_text)
            self.assertEqual(str(rule), canonical)
            self.assertEqual(parse_rule(canonical), rule)

    def test_what_a_rule_reads(self) -> None:
        """A rule says which fields it reads, each once, and whether it needs the content before."""
        rule = parse_rule("json.a > json['b c'] or json.a exists or not (value changed)")
        self.assertEqual((rule.fields, rule.looks_back), (("json.a", "json['b c']", "value"), True))
        self.assertFalse(parse_rule("value > 1").looks_back)
        self.assertTrue(parse_rule("value > 1 and falls through 3").looks_back)
        self.assertNotEqual(rule, parse_rule("value > 1"))

    @given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
    def test_any_text(self, given_text: str) -> None:
        """Any text is a rule, whose canonical text is the same rule, or is refused."""
        try:
            rule = parse_rule(given_text)
        except Malformed:
            return
        self.assertEqual(parse_rule(rule.text), rule)
        self.assertIsInstance(rule.evaluate(text("1"), text("2")), Verdict)


class RefusedTests(SynchronousTestCase):
    def test_where_and_why(self) -> None:
        """Each wrong text is refused with the column of what is wrong, a mark under it, and what would be right."""
        for wrong, column, told in WRONG:
            with self.subTest(wrong):
                fault = self.assertRaises(Malformed, parse_rule, wrong, "aggregate.rule")
                self.assertEqual(fault.field, "aggregate.rule")
                first, line, mark = fault.detail.rsplit("\n", 2)
                self.assertIn(f"a rule: column {column}: ", first)
                self.assertIn(told, first)
                self.assertEqual(len(mark), column)
                self.assertEqual(line, wrong.replace("\n", " ").replace("\x00", " "))

    def test_marks_in_long_rules(self) -> None:
        """Of a long rule the part around the mark is shown."""
        wrong = "value > 1 or " * 20 + "value = 3 or " + "value > 1 or " * 20 + "changed"
        _, line, mark = self.assertRaises(Malformed, parse_rule, wrong).detail.rsplit("\n", 2)
        self.assertTrue(line.startswith("...") and len(line) < 80)
        self.assertEqual(line[len(mark) - 1 : len(mark) + 1], "= ")

    def test_bounds(self) -> None:
        """What is no text, is too long, or stands too deep is refused; brackets alone are not depth."""
        for wrong in (None, 3, ["value > 3"], b"value > 3"):
            self.assertRaises(Malformed, parse_rule, wrong)
        longest = "changed or " * ((MAX_CHARACTERS - 7) // 11) + "changed"
        self.assertEqual(len(evaluate(longest, text("1"), text("1")).outcomes), 91)
        self.assertRaises(Malformed, parse_rule, longest.ljust(MAX_CHARACTERS + 1))
        deep = (MAX_CHARACTERS - 7) // 2
        self.assertEqual(parse_rule("(" * deep + "changed" + ")" * deep).text, "changed")
        self.assertIsInstance(parse_rule("not " * 15 + "changed"), Rule)
        self.assertRaisesRegex(Malformed, "17 deep", parse_rule, "not " * 16 + "changed")
        self.assertRaisesRegex(Malformed, "199 deep", parse_rule, "not " * 198 + "changed")


_AFTER_FIELD = "==, !=, <, <=, >, >=, in, contains"
WRONG = (
    ("", 1, "a condition would be right, such as value > 30"),
    ("value >", 8, "a number, text in quotes, true"),
    ("value", 6, _AFTER_FIELD),
    ("value \x00 3", 7, _AFTER_FIELD),
    ("value and 3", 7, _AFTER_FIELD),
    ("temp > 3", 1, "a field begins with value"),
    ("valuee > 3", 1, "a field begins with value"),
    ("value = 3", 7, "two signs compare: =="),
    ("value > 5 or\n value = 3", 21, "two signs compare"),
    ("value => 3", 7, "stands second: >="),
    ("value >> 3", 8, "a number, text in quotes"),
    ("value is 3", 7, "== compares"),
    ("value between 3", 7, "value in 20..25"),
    ("value not in 3..4", 7, "not value in"),
    ("value > 30C", 9, "units are neither read"),
    ("value > 3.5.1", 9, "a number, text in quotes"),
    ("value > .5", 9, "5, -0.5"),
    ("value > +5", 9, "5, -0.5"),
    ("value+>+5", 6, "written %20"),
    ("changed+or+changed", 8, "written %20"),
    ("value > 3 C", 11, "and, or, or the end"),
    ("20 < value < 30", 12, "two sides"),
    ("value > 3 && changed", 11, "and joins"),
    ("value > 3 || changed", 11, "or joins"),
    ("!changed", 1, "not denies"),
    ("value == Open", 10, "text stands in quotes"),
    ("value == 'Open", 10, "the text has no end"),
    ("value == 'a\nb'", 10, "the text has no end"),
    ("value == 'a\\x'", 10, "the text has no end"),
    ("value contains error", 16, "text stands in quotes"),
    ("value contains", 15, "text in quotes would be right"),
    ("value contain 'x'", 7, "the words are contains"),
    ("value in 20", 12, "two points"),
    ("value in 20-25", 12, "two points"),
    ("value in 'a'..'b'", 10, "a number would be right"),
    ("value in 25..20", 10, "the smaller number stands first: 20..25"),
    ("rises through 'a'", 15, "a number would be right"),
    ("rises 30", 1, "a field begins"),
    ("value > 1e999", 9, "64-bit float"),
    ("(value > 3", 11, "a closing bracket"),
    ("value > 3)", 10, "no bracket"),
    ("not", 4, "a condition would be right"),
    ("30", 3, "a comparison would be right"),
    ("changed value", 9, "and, or, or the end"),
    ("json.", 6, "a name would be right"),
    ("json.temp-out > 3", 10, "json['room-temp']"),
    ("json[x] > 1", 6, "text stands in quotes"),
    ("json[1.5] > 1", 6, "a place counted from 0"),
    ("json[-1] > 1", 6, "a place counted from 0"),
    ("json['a' > 1", 10, "] would be right"),
    ("senml > 3", 7, "the name of a record"),
    ("senml[0] > 3", 1, "by its name alone"),
    ("3 > 4", 1, "of the content"),
    ("text > 3", 1, "this is always text"),
    ("value < 'a'", 9, "'a' is none"),
    ("true < value", 1, "true is none"),
    ("value >= null", 10, "null is none"),
    ("text == 3", 9, "such as '3'"),
    ("text in 1..2", 1, "always text"),
    ("text rises through 3", 1, "always text"),
)
