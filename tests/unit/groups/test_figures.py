"""Numbers in answers, and one figure of all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import CBOR, JSON, SENML_CBOR, SENML_JSON, TEXT, dump_cbor
from m2mapp.formats.rules.language import parse_rule
from m2mapp.formats.senml import Record, build
from m2mapp.groups.figures import FUNCTIONS, Aggregate, aggregate, number_in, read_aggregate, records_in
from m2mapp.groups.results import MemberResult
from m2mapp.model.errors import Malformed
from m2mapp.model.messages import Method, Request


def result(content: bytes, media_type: str | None = TEXT, status: str = "2.05") -> MemberResult:
    """A member's result."""
    return MemberResult(status, content, media_type, "multicast", 1.0)


def read(*query: tuple[str, str]) -> Aggregate | None:
    """What a query asks for."""
    return read_aggregate(Request(Method.GET, ("groups", "g", "membersContent"), query=query))


class NumberTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """Text, text without a media type, JSON, CBOR, SenML with one record: each can be a number."""
        for content, media_type, number in (
            (b"21.5", TEXT, 21.5),
            (b" -3\n", "text/plain;charset=utf-8", -3),
            (b"1e3", None, 1000.0),
            (b"18446744073709551615", JSON, 18446744073709551615),
            (dump_cbor(2.25), CBOR, 2.25),
            (build([Record("a", 4)], SENML_JSON), SENML_JSON, 4),
            (build([Record("a", 4.5)], SENML_CBOR), SENML_CBOR, 4.5),
        ):
            self.assertEqual(number_in(result(content, media_type)), number)

    def test_none(self) -> None:
        """What is no number: other text, Python's spellings, infinite ones, truth, other documents, several records, octets, an error."""
        two = build([Record("a", 4), Record("b", 4)], SENML_JSON)
        for content, media_type in (
            *((text, TEXT) for text in (b"", b"on", b"nan", b"inf", b"1_0", b"0x1f", b"1e999", b"\xb2", b"1 2", b"9" * 400)),
            (b"true", JSON),
            (b'"1"', JSON),
            (b"{", JSON),
            (b'{"t":1}', JSON),
            (b"\xff", CBOR),
            (two, SENML_JSON),
            (b"[]", SENML_JSON),
            (build([Record("a", "x")], SENML_JSON), SENML_JSON),
            (b"1", "application/octet-stream"),
        ):
            self.assertIsNone(number_in(result(content, media_type)), content)
        self.assertIsNone(number_in(result(b"404", status="4.04")))
        self.assertEqual(records_in(result(b"[]", SENML_JSON)), ())


class AggregateTests(SynchronousTestCase):
    def test_functions(self) -> None:
        """Each function, of whole numbers and others; who gave none is left out and named."""
        members = {f"coap://d{number}/t": result(content) for number, content in enumerate((b"1", b"2", b"6.5", b"off", b"2"))}
        found = {function: aggregate(function, members, ["coap://d9/t"]) for function in FUNCTIONS}
        self.assertEqual(
            {function: one["value"] for function, one in found.items()},
            {"avg": 2.875, "min": 1, "max": 6.5, "sum": 11.5, "count": 4, "median": 2.0},
        )
        for function, one in found.items():
            self.assertEqual((one["function"], one["of"], one["without"]), (function, 4, ["coap://d3/t", "coap://d9/t"]))

    def test_of_nothing(self) -> None:
        """The figure of no number is null; there are none of them."""
        values = {function: aggregate(function, {"a": result(b"x")}, [])["value"] for function in FUNCTIONS}
        self.assertEqual(values, {**dict.fromkeys(FUNCTIONS, None), "count": 0})

    def test_large_numbers(self) -> None:
        """Whole numbers stay exact; what no float can hold is null, not an error."""
        exact = {"a": result(b"9007199254740993", JSON), "b": result(b"1", JSON)}
        self.assertEqual(aggregate("sum", exact, [])["value"], 9007199254740994)
        self.assertIsNone(aggregate("sum", {"a": result(b"1e308"), "b": result(b"1e308")}, [])["value"])

    @given(st.lists(st.one_of(st.integers(-(1 << 63), 1 << 63), st.floats(allow_nan=False, allow_infinity=False)), max_size=5))
    def test_any_numbers(self, numbers: list[int | float]) -> None:
        """Of any numbers each function gives a number that JSON can have, or null."""
        members = {str(place): result(repr(number).encode(), JSON) for place, number in enumerate(numbers)}
        for function in FUNCTIONS:
            value = aggregate(function, members, [])["value"]
            self.assertTrue(value is None or abs(float(str(value))) < float("inf"))


class AskTests(SynchronousTestCase):
    def test_what_is_asked(self) -> None:
        """One function, with a rule where it takes one; other keys do not matter."""
        self.assertEqual((read(), read(("u", "C"), ("aggregate", "median"))), (None, Aggregate("median")))
        self.assertEqual(read(("rule", "value>30"), ("aggregate", "any")), Aggregate("any", parse_rule("value > 30")))

    def test_refused(self) -> None:
        """An unknown function, none and two; a rule without a function, for a figure, missing, twice, wrong, or about what was before."""
        for query, told in (
            ([("aggregate", "mean")], "one of avg, min, max, sum, count, median, every, any"),
            ([("aggregate", "")], "one of avg"),
            ([("aggregate", "avg"), ("aggregate", "min")], "aggregate: avg, min is not given once"),
            ([("rule", "value > 1")], "only aggregate=every and any have one"),
            ([("aggregate", "avg"), ("rule", "value > 1")], "only aggregate=every and any have one"),
            ([("aggregate", "any")], "aggregate=any needs a rule"),
            ([("aggregate", "any"), ("rule", "changed"), ("rule", "value > 1")], "given once"),
            ([("aggregate", "every"), ("rule", "value = 1")], "column 7: two signs compare"),
            ([("aggregate", "every"), ("rule", "value > 1 or changed")], "need the content before"),
        ):
            fault = self.assertRaises(Malformed, read, *query)
            self.assertIn(told, fault.detail)
