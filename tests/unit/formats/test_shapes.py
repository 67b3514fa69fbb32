"""Shapes: each check, what it says of what it refuses, and that all faults are found."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.shapes import Check, Field, Shape, Wrong, boolean, choice, host, integer, list_of, number, table_of, text
from m2mapp.model.errors import Malformed

INNER = Shape({"read": Field(list_of(text)), "port": Field(integer(1, 65535), 5683)})
OUTER = Shape(
    {"name": Field(host), "on": Field(boolean, False), "access": Field(table_of(INNER), None), "leisure": Field(number(0, 60), 5.0)}
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "on", "access", "leisure", "read", "port", "x"]), inner)
    ),
    max_leaves=8,
)


class CheckTests(SynchronousTestCase):
    def takes(self, check: Check, *values: object) -> None:
        for value in values:
            self.assertEqual(check(value), value)

    def refuses(self, check: Check, *values: object) -> None:
        for value in values:
            self.assertIs(self.assertRaises(Wrong, check, value).value, value)

    def test_text(self) -> None:
        """Text is a string of at most 1,024 characters."""
        self.takes(text, "", "a" * 1024)
        self.refuses(text, "a" * 1025, b"a", 1, None, ["a"])

    def test_boolean(self) -> None:
        """True and false are; numbers and words are not."""
        self.takes(boolean, True, False)
        self.refuses(boolean, 0, 1, "true", None)

    def test_host(self) -> None:
        """Host names come back in lower case; what DNS cannot have is refused."""
        self.assertEqual(host("D1.Example.ORG"), "d1.example.org")
        self.takes(host, "d1", "a-b.c", "_coap._udp.x", "10.0.0.1", "a" * 63, ".".join(["a" * 63] * 3 + ["a" * 61]))
        self.refuses(host, "", ".", "a.", ".a", "a..b", "-a", "a-", "a b", "ä", "a/b", "a\n", "a" * 64, ".".join(["a" * 50] * 6), 1, None)

    def test_integer(self) -> None:
        """Whole numbers within the bounds; true is none, nor is 1.0."""
        self.takes(integer(1, 5), 1, 5)
        self.refuses(integer(0, 5), -1, 6, True, 1.0, "1", None, 10**400)

    def test_number(self) -> None:
        """Numbers within the bounds come back as floats; NaN and infinities do not."""
        self.takes(number(0, 5), 0.0, 2.5, 5)
        self.assertIsInstance(number(0, 5)(3), float)
        self.refuses(number(0, 5), -0.1, 5.1, math.nan, math.inf, True, "1", None, 10**400)
        self.refuses(number(0, math.inf), 10**400)

    def test_choice(self) -> None:
        """One of the words, exactly."""
        self.takes(choice("static", "dynamic"), "static")
        self.refuses(choice("static", "dynamic"), "Static", "", None, 1, ["static"])

    def test_list(self) -> None:
        """Lists and tuples of a length within the bounds, each item checked and as the check gives it."""
        check = list_of(host, least=1, most=2)
        self.assertEqual(check(("A", "b")), ["a", "b"])
        self.refuses(check, [], ["a", "b", "c"], "ab", {"a": 1}, None)

    def test_faults_of_items(self) -> None:
        """Each wrong item is told with its place."""
        wrong = self.assertRaises(Wrong, list_of(list_of(host)), [["a", ""], ["b"], ["-", "c", 5]])
        self.assertEqual(
            [(fault.within, fault.value) for fault in wrong.all("hosts")], [("hosts[0][1]", ""), ("hosts[2][0]", "-"), ("hosts[2][2]", 5)]
        )


class ShapeTests(SynchronousTestCase):
    def test_values_and_defaults(self) -> None:
        """Values are as their checks give them; what is left out has its default."""
        expected = {"name": "d1", "on": False, "access": {"read": ["link"], "port": 5683}, "leisure": 5.0}
        self.assertEqual(OUTER.check({"name": "D1", "access": {"read": ["link"]}}), expected)

    def test_every_fault_is_told(self) -> None:
        """All faults are found in one reading, nested ones too, each with the place of its field and what would be right."""
        given = {"on": 1, "access": {"read": ["a", 5, 6], "port": 0, "wirte": []}, "colour": "red"}
        values, faults = OUTER.read(given, "coap.")
        places = [
            "coap.colour",
            "coap.name",
            "coap.on",
            "coap.access.wirte",
            "coap.access.read[1]",
            "coap.access.read[2]",
            "coap.access.port",
        ]
        self.assertEqual([fault.field for fault in faults], places)
        self.assertEqual(faults[0].expected, "one of access, leisure, name, on")
        self.assertEqual(faults[1].detail, "coap.name: nothing is not enough: this member is needed")
        self.assertEqual((faults[2].value, faults[2].expected), ("1", "true or false"))
        self.assertEqual(values["leisure"], 5.0)

    def test_check_raises_the_first_fault(self) -> None:
        """A document is refused with its first fault."""
        self.assertEqual(self.assertRaises(Malformed, OUTER.check, {"name": "d1", "on": 1, "leisure": -1}).field, "on")

    def test_not_a_table(self) -> None:
        """Where a document has to stand, a list or a text is refused."""
        no_tables: tuple[object, ...] = ([], "a", 1)
        for value in no_tables:
            self.assertEqual(self.assertRaises(Malformed, OUTER.check, {"name": "d1", "access": value}).field, "access")

    def test_many_unknown_names(self) -> None:
        """A peer that sends very many unknown names is told of some; their names are shortened and shown in one line."""
        _, faults = OUTER.read({"name": "d1", **{f"x{number}\n" + "y" * 5000: 1 for number in range(1000)}})
        self.assertTrue(1 < len(faults) < 100)
        self.assertTrue(all(len(fault.detail) < 300 and fault.detail.isprintable() for fault in faults))

    @given(VALUES)
    def test_any_value(self, value: object) -> None:
        """Any document is taken or refused with Malformed; what is taken is taken again as it was given back."""
        if not isinstance(value, dict):
            value = {"name": value}
        try:
            kept = OUTER.check(value)
        except Malformed:
            return
        if kept["access"] is not None:
            self.assertEqual(OUTER.check(kept), kept)
