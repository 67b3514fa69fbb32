"""Codes, option properties, Content-Formats."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import numbers, things
from m2mapp.model.messages import Method


class NumbersTests(SynchronousTestCase):
    def test_every_method_has_a_code(self) -> None:
        """Each method goes out by a code that comes in as this method."""
        for method in Method:
            self.assertIs(numbers.METHOD_OF_CODE[numbers.CODE_OF_METHOD[method]], method)
        self.assertEqual({numbers.METHOD_OF_CODE[code] for code in range(1, 8) if code != numbers.FETCH}, set(Method))

    def test_code_text(self) -> None:
        """Codes are written as RFC 7252 writes them."""
        self.assertEqual([numbers.code_text(code) for code in (1, 69, 132, 157, 168)], ["0.01", "2.05", "4.04", "4.29", "5.08"])

    def test_own_options_are_elective_safe_and_no_cache_key(self) -> None:
        """The program's own options may be ignored, forwarded, and do not tell requests apart (spec section 6)."""
        for number in (numbers.REQUEST_ID, numbers.CAUSE, numbers.DEADLINE):
            self.assertEqual(number & 3, 0, "critical, or not safe to forward")
            self.assertTrue(numbers.is_no_cache_key(number))

    def test_properties_of_the_rfc(self) -> None:
        """An option of the table in RFC 7252, section 5.10, and Size1, which is no cache key."""
        self.assertFalse(numbers.is_no_cache_key(things.ETAG))
        self.assertTrue(numbers.is_no_cache_key(things.SIZE1))

    def test_formats_both_ways(self) -> None:
        """Each Content-Format that matters here, and back."""
        expected = {
            0: "text/plain;charset=utf-8",
            40: "application/link-format",
            42: "application/octet-stream",
            50: "application/json",
            52: "application/merge-patch+json",
            60: "application/cbor",
            110: "application/senml+json",
            112: "application/senml+cbor",
            11542: "application/vnd.oma.lwm2m+tlv",
            65010: "application/vnd.m2m.resource+json",
            65011: "application/vnd.m2m.resource+cbor",
            65012: "application/vnd.m2m.group-results+json",
            65013: "application/vnd.m2m.group-results+cbor",
        }
        for number, media_type in expected.items():
            self.assertEqual((numbers.media_type_of(number), numbers.format_of(media_type)), (media_type, number))

    def test_format_of_variants(self) -> None:
        """Case, space and a UTF-8 charset do not matter; another parameter makes another media type."""
        self.assertEqual(numbers.format_of("text/plain"), 0)
        self.assertEqual(numbers.format_of('Text/Plain; Charset="UTF-8"'), 0)
        self.assertEqual(numbers.format_of("application/json; charset=utf-8"), 50)
        self.assertIsNone(numbers.format_of("text/plain;charset=iso-8859-1"))
        self.assertIsNone(numbers.format_of("application/x-nobody"))

    def test_memory_of_formats_is_bounded(self) -> None:
        """Media types that callers make up are not all remembered."""
        for index in range(1000):
            numbers.format_of(f"application/x-{index}")
        self.assertLessEqual(len(numbers._found), 256)

    def test_names(self) -> None:
        """An option without a name is called by its number."""
        self.assertEqual((numbers.option_name(11), numbers.option_name(9999)), ("Uri-Path", "option 9999"))
