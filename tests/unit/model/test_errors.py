"""The closed family of errors: what each says, and that nothing a peer sent makes it long, slow or unprintable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import (
    Conflict,
    InternalError,
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    NotAcceptable,
    Overloaded,
    TooLarge,
    TooManyRequests,
    UnsupportedMediaType,
    every_fault,
    shown,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class ShownTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """Texts are shown as they are, in one line, without control characters, at most 80 characters."""
        self.assertEqual(shown("21,5 °C"), "21,5 °C")
        self.assertEqual(shown("a\r\nb\0\u202e\ud800"), "a��b���")
        self.assertEqual(shown("x" * 80), "x" * 80)
        self.assertEqual(shown("x" * 81), "x" * 79 + "…")

    def test_other_values(self) -> None:
        """Other values are shown as Python writes them, shortened."""
        self.assertEqual([shown(value) for value in (5, None, True, [1, "a"], b"\x01")], ["5", "None", "True", "[1, 'a']", r"b'\x01'"])
        self.assertEqual(len(shown(list(range(100_000)))) <= 80, True)
        self.assertIn("...", shown({"a": [["x" * 1000] * 1000] * 1000}))

    def test_enormous_numbers(self) -> None:
        """A whole number that Python does not write is shown in words."""
        self.assertEqual(shown(10**5000), "a very large int")

    @given(VALUES)
    def test_any_value(self, value: object) -> None:
        """Any value is shown in at most 80 printable characters."""
        self.assertTrue(len(shown(value)) <= 80 and shown(value).isprintable())


class FaultTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Every fault has a kind of its own and a title; a fault without a detail says its title."""
        kinds = [fault.kind for fault in every_fault()]
        self.assertEqual(len(set(kinds)), len(kinds))
        for fault in every_fault():
            self.assertTrue(fault.kind and fault.title and fault.__doc__, fault)
        self.assertEqual(str(Conflict()), "Conflict")
        self.assertEqual((Conflict("/a is taken").detail, str(Conflict("/a is taken"))), ("/a is taken",) * 2)
        self.assertEqual(InternalError().extensions(), {})

    def test_malformed(self) -> None:
        """The field, the value and what would be right are told, each fit to be shown."""
        fault = Malformed("members[0]\n", "x" * 1000, "a URI")
        self.assertEqual(fault.extensions(), {"field": "members[0]�", "value": "x" * 79 + "…", "expected": "a URI"})
        self.assertEqual(fault.detail, f"members[0]�: {fault.value} is not a URI")

    def test_data(self) -> None:
        """Faults carry what an answer needs: the methods allowed, the types offered, the limit, the time to wait."""
        self.assertEqual(NoSuchResource("/a\n").path, "/a�")
        self.assertEqual(MethodNotAllowed("PUT", "/a", ("GET", "POST")).extensions(), {"allowed": ["GET", "POST"]})
        self.assertEqual(MethodNotAllowed("PUT", "/a", ()).detail, "/a takes no method, not PUT")
        self.assertEqual(NotAcceptable(("text/plain",)).extensions(), {"offered": ["text/plain"]})
        self.assertEqual(UnsupportedMediaType(None, ("text/plain",)).detail, "content type none is not one of text/plain")
        self.assertEqual(
            (TooLarge("body", 5).detail, TooLarge("body", 5).extensions()), ("body: at most 5 bytes", {"field": "body", "limit": 5})
        )
        self.assertEqual((TooManyRequests().retry_after_s, Overloaded("later", 7).retry_after_s), (1, 7))
