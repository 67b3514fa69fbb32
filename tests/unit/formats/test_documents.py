"""Documents in JSON and CBOR: what is taken, what is refused, and content inside documents."""

from __future__ import annotations

import json
from types import MappingProxyType

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import (
    CBOR,
    GREATEST_INTEGER,
    JSON,
    LEAST_INTEGER,
    LINK_FORMAT,
    MAX_DEPTH,
    MERGE_PATCH,
    OCTETS,
    RESOURCE_CBOR,
    RESOURCE_JSON,
    TEXT,
    bare,
    check_media_type,
    choose,
    content_bytes,
    content_value,
    dump_cbor,
    dump_json,
    is_cbor,
    is_json,
    is_text,
    load_cbor,
    load_document,
    load_json,
    parse_rfc3339,
    rfc3339,
)
from m2mapp.model.errors import Fault, Malformed, NotAcceptable, UnsupportedMediaType

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers(LEAST_INTEGER, GREATEST_INTEGER) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)


def nested(scalars: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Values as documents hold them, of these scalars."""
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12)


VALUES = nested(SCALARS)
CBOR_VALUES = nested(SCALARS | st.binary(max_size=8))


class MediaTypeTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """JSON and CBOR are known by name and by suffix, whatever the case and the parameters."""
        for media_type in (JSON, "Application/JSON; charset=utf-8", MERGE_PATCH, RESOURCE_JSON, "application/senml+json"):
            self.assertTrue(is_json(media_type) and not is_cbor(media_type), media_type)
        for media_type in (CBOR, "application/senml+CBOR", RESOURCE_CBOR):
            self.assertTrue(is_cbor(media_type) and not is_json(media_type), media_type)
        for neither in (None, "", TEXT, "application/jsonx", "json"):
            self.assertFalse(is_json(neither) or is_cbor(neither), neither)
        self.assertEqual((bare(" Text/Plain ; charset=x"), bare(None)), ("text/plain", ""))

    def test_text(self) -> None:
        """Text is what is written in UTF-8: text/* without another charset, and link format."""
        for media_type in (
            TEXT,
            "text/csv",
            "text/plain;charset=UTF-8",
            'text/plain; Charset="utf-8"',
            "text/html; charset=us-ascii",
            LINK_FORMAT,
        ):
            self.assertTrue(is_text(media_type), media_type)
        for other in (None, OCTETS, JSON, "text/plain;charset=iso-8859-1", "image/png"):
            self.assertFalse(is_text(other), other)

    def test_syntax(self) -> None:
        """A media type is type/subtype with parameters and nothing else: no line breaks, no control characters, not too long."""
        for good in (TEXT, "text/plain;charset=utf-8", 'a/b; c="d e"; f=g', "application/vnd.m2m.resource+json", "text/plain;"):
            self.assertEqual(check_media_type(good), good)
        for bad in (
            "",
            "text",
            "text/",
            "/plain",
            "text/plain\r\nX: y",
            "text /plain",
            "text/plain; x",
            "täxt/plain",
            "a/b;" + "c" * 256,
            "a/b\0",
        ):
            self.assertEqual(self.assertRaises(Malformed, check_media_type, bad, "Content-Type").field, "Content-Type", bad)

    def test_choice(self) -> None:
        """The first accepted type that is offered wins, wildcards included; nothing accepted means that all is; else 406."""
        offered = ("text/plain;charset=utf-8", RESOURCE_JSON, RESOURCE_CBOR)
        self.assertEqual(choose((), offered), offered[0])
        self.assertEqual(choose(("*/*",), offered), offered[0])
        self.assertEqual(choose((TEXT,), offered), offered[0])
        self.assertEqual(choose(("text/*", RESOURCE_CBOR), offered), offered[0])
        self.assertEqual(choose((JSON, "Application/vnd.m2m.resource+JSON; q=1"), offered), RESOURCE_JSON)
        self.assertEqual(choose((RESOURCE_CBOR, TEXT), offered), RESOURCE_CBOR)
        for refused in ((JSON,), ("image/*",), ("tex/*",), ("nonsense",), ("",)):
            self.assertEqual(self.assertRaises(NotAcceptable, choose, refused, offered).offered, offered)


class JsonTests(SynchronousTestCase):
    def refused(self, payload: bytes) -> Malformed:
        refused: Malformed = self.assertRaises(Malformed, load_json, payload, "members")
        self.assertEqual(refused.field, "members")
        self.assertLess(len(refused.detail), 500)
        return refused

    def test_values(self) -> None:
        """Every kind of value that JSON has is taken."""
        self.assertEqual(load_json(b' {"a": [1, -2.5, "\\u00e4\\ud83d\\ude00", true, null, {}]} '), {"a": [1, -2.5, "ä😀", True, None, {}]})

    def test_no_json(self) -> None:
        """What is cut off, goes on behind its end, is empty or no UTF-8 is refused."""
        for payload in (
            b"",
            b" ",
            b'{"a":',
            b"[1,]",
            b"1 2",
            b"{'a':1}",
            b"\xff",
            b'"\xc3"',
            b"\xef\xbb\xbf1",
            b"nul",
            b"\0",
            b"01",
            b"+1",
            b'"\n"',
        ):
            self.refused(payload)

    def test_numbers_that_json_does_not_have(self) -> None:
        """NaN and infinities are refused, by name and as a number too large for a float."""
        for payload in (b"NaN", b"[Infinity]", b'{"a":-Infinity}', b"1e999", b"[[-1e999]]", b'{"a":{"b":1E400}}'):
            self.refused(payload)

    def test_whole_numbers_have_64_bits(self) -> None:
        """Whole numbers of 64 bits come through exactly; larger ones are refused, however large."""
        for number in (LEAST_INTEGER, GREATEST_INTEGER, 2**53 + 1):
            self.assertEqual(load_json(b"[%d]" % number), [number])
        for payload in (
            b"%d" % (LEAST_INTEGER - 1),
            b"[0,%d,1]" % (LEAST_INTEGER - 1),
            b'{"a":[%d]}' % (GREATEST_INTEGER + 1),
            b"9" * 4000,
            b"9" * 5000,
            b"-" + b"9" * 5000,
        ):
            self.refused(payload)

    def test_repeated_keys(self) -> None:
        """An object that says a name twice is refused, at whatever level: readers would differ in what it says."""
        for payload in (b'{"a":1,"a":2}', b'[{"b":{"a":1,"a":1}}]', b'{"a":1,"\\u0061":2}'):
            self.refused(payload)

    def test_lone_surrogates(self) -> None:
        """Half of a surrogate pair, in a value or in a key, is refused: it cannot be written as UTF-8 again."""
        for payload in (b'"\\ud800"', b'["\\uDFFF x"]', b'{"\\ud83d":1}', b'{"a":["\\ude00\\ud83d"]}'):
            self.refused(payload)

    def test_depth(self) -> None:
        """32 levels are taken, more are refused, a million of them as well."""
        deepest = b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH
        self.assertEqual(dump_json(load_json(deepest)), deepest)
        for payload in (b"[" + deepest + b"]", b"[" * 1_000_000, b'{"a":' * 100 + b"1" + b"}" * 100, b"[" * 500 + b"]" * 500):
            self.refused(payload)

    def test_a_megabyte(self) -> None:
        """A megabyte of small values is taken whole."""
        self.assertEqual(load_json(b"[" + b"0," * 500_000 + b"0]"), [0] * 500_001)

    @given(st.binary(max_size=60) | st.text('[]{}":,0123456789.eE+-\\udD8tru nfals', max_size=40).map(str.encode))
    def test_any_bytes(self, payload: bytes) -> None:
        """Any bytes are a value that can be written in JSON and CBOR and read again, or Malformed."""
        try:
            value = load_json(payload)
        except Malformed:
            return
        self.assertEqual(load_json(dump_json(value)), value)
        self.assertEqual(load_cbor(dump_cbor(value)), value)

    @given(VALUES)
    def test_round_trip(self, value: object) -> None:
        """What JSON can say is the same after writing and reading it; other readers read the same."""
        self.assertEqual(load_json(dump_json(value)), value)
        self.assertEqual(json.loads(dump_json(value)), value)

    def test_what_json_does_not_have(self) -> None:
        """Byte strings are written as base64, documents that cannot be changed as objects; what no document can hold raises."""
        self.assertEqual(dump_json({"a": b"\x01", "b": MappingProxyType({"c": 1})}), b'{"a":{"base64":"AQ=="},"b":{"c":1}}')
        self.assertRaises(TypeError, dump_json, {"a": object()})
        self.assertRaises(ValueError, dump_json, float("nan"))


class CborTests(SynchronousTestCase):
    def refused(self, payload: bytes) -> Malformed:
        refused: Malformed = self.assertRaises(Malformed, load_cbor, payload, "content")
        self.assertEqual(refused.field, "content")
        self.assertLess(len(refused.detail), 500)
        return refused

    def test_values(self) -> None:
        """Every kind of value that a document holds is taken, of definite and indefinite length."""
        self.assertEqual(
            load_cbor(bytes.fromhex("bf6161 9f01 20 f93e00 4101 5f41014102ff f5 f6 ff ff")), {"a": [1, -1, 1.5, b"\1", b"\1\2", True, None]}
        )

    def test_no_cbor(self) -> None:
        """What is cut off, goes on behind its end, is empty or has reserved bits is refused."""
        for text in ("", "1c", "ff", "61", "61ff", "8201", "a161", "a16161", "0000", "5f00ff", "7f4101ff", "9f", "fc", "f818", "9f01"):
            self.refused(bytes.fromhex(text))

    def test_lengths_that_lie(self) -> None:
        """Lists, maps and strings that claim to be enormous are refused for what they are: cut off."""
        for text in ("9b7fffffffffffffff00", "bb000000ffffffffff00", "5b00000fffffffffff00", "7bffffffffffffffff00", "9a7fffffff"):
            self.refused(bytes.fromhex(text))

    def test_no_tag_is_taken(self) -> None:
        """Tags are refused, each of them: dates, big numbers, sets, and the references that make a small payload large."""
        tagged: tuple[object, ...] = (0, "a", b"a", [], {})
        for tag in (*range(300), 1004, 43000, 55799, 2**16, 2**32, 2**64 - 1):
            for value in tagged:
                self.refused(cbor2.dumps(cbor2.CBORTag(tag, value)))
                self.refused(cbor2.dumps({"a": [cbor2.CBORTag(tag, value)]}))

    def test_shared_references(self) -> None:
        """A value that contains itself, and one that doubles at each of 32 levels, are refused at once."""
        self.refused(bytes.fromhex("d81c81d81d00"))
        bomb = b"\xd8\x1c\x81\x00" + b"".join(b"\xd8\x1c\x82\xd8\x1d" + bytes((0x18, level)) * 2 for level in range(30))
        self.refused(b"\x98\x1f" + bomb)

    def test_repeated_string_references(self) -> None:
        """A long string that is named a thousand times by reference (tag 256) is refused."""
        self.refused(cbor2.dumps(cbor2.CBORTag(256, ["x" * 1000, *[cbor2.CBORTag(25, 0)] * 1000])))

    def test_what_a_document_does_not_hold(self) -> None:
        """Keys that are no text, simple values, undefined, NaN and infinities, also as half floats, are refused."""
        for text in (
            "a10102",
            "a1410102",
            "a1f602",
            "a18002",
            "f7",
            "e0",
            "f820",
            "81f7",
            "f97e00",
            "f97c00",
            "81f9fc00",
            "fb7ff0000000000000",
        ):
            self.refused(bytes.fromhex(text))

    def test_repeated_keys(self) -> None:
        """A map that says a key twice is refused."""
        self.refused(bytes.fromhex("a2616101616102"))

    def test_whole_numbers_have_64_bits(self) -> None:
        """Whole numbers of 64 bits come through exactly; CBOR's negative ones go further, and are refused there."""
        for number in (LEAST_INTEGER, GREATEST_INTEGER):
            self.assertEqual(load_cbor(cbor2.dumps(number)), number)
        for number in (LEAST_INTEGER - 1, -(2**64), 2**64):
            self.refused(cbor2.dumps([number]))

    def test_depth(self) -> None:
        """32 levels are taken, more are refused, a million of them as well."""
        deepest = b"\x81" * MAX_DEPTH + b"\x01"
        self.assertEqual(dump_cbor(load_cbor(deepest)), deepest)
        for payload in (b"\x81" + deepest, b"\x81" * 1_000_000, b"\x9f" * 100_000, b"\xa1\x61a" * 100 + b"\x01", b"\xc6" * 100_000):
            self.refused(payload)

    @given(st.binary(max_size=40))
    def test_any_bytes(self, payload: bytes) -> None:
        """Any bytes are a value that can be written and read again, or Malformed."""
        try:
            value = load_cbor(payload)
        except Malformed:
            return
        self.assertEqual(load_cbor(dump_cbor(value)), value)
        dump_json(value)

    @given(CBOR_VALUES)
    def test_round_trip(self, value: object) -> None:
        """What a document holds is the same after writing and reading it, kinds included."""
        again = load_cbor(dump_cbor(value))
        self.assertEqual(repr(again), repr(value))

    def test_unchangeable_documents(self) -> None:
        """Documents that cannot be changed are written as maps; what no document can hold raises."""
        self.assertEqual(dump_cbor({"b": MappingProxyType({"c": 1})}), bytes.fromhex("a16162a1616301"))
        self.assertRaises(TypeError, dump_cbor, {"a": object()})


class DocumentTests(SynchronousTestCase):
    def test_by_media_type(self) -> None:
        """A document is read as its media type says."""
        self.assertEqual(load_document(b'{"a":1}', JSON), {"a": 1})
        self.assertEqual(load_document(b"\xa1aa\x01", "application/senml+cbor"), {"a": 1})

    def test_lies_and_other_types(self) -> None:
        """JSON that says it is CBOR, and CBOR that says it is JSON, are malformed; other types, and none, are not supported."""
        self.assertRaises(Malformed, load_document, b'{"a":1}', CBOR)
        self.assertRaises(Malformed, load_document, b"\xa1aa\x01", JSON)
        for media_type in (None, TEXT, ""):
            self.assertRaises(UnsupportedMediaType, load_document, b'{"a":1}', media_type)

    def test_not_an_object(self) -> None:
        """A list, a text or nothing is no document."""
        for payload in (b"[]", b'"a"', b"null", b"1"):
            self.assertEqual(self.assertRaises(Malformed, load_document, payload, JSON, "body").field, "body")


class ContentTests(SynchronousTestCase):
    def test_inside_a_document(self) -> None:
        """Text is a string, JSON and CBOR are what they say, other bytes are base64 (spec section 12)."""
        for content, media_type, value in (
            ("21,5 °C".encode(), "text/plain;charset=utf-8", "21,5 °C"),
            (b"</a>", LINK_FORMAT, "</a>"),
            (b'{"a": [1]}', JSON, {"a": [1]}),
            (b"\x81\x01", CBOR, [1]),
            (b"\x01\x02", OCTETS, {"base64": "AQI="}),
            (b"\x01\x02", None, {"base64": "AQI="}),
            (b"\xe4", "text/plain;charset=iso-8859-1", {"base64": "5A=="}),
        ):
            self.assertEqual(content_value(content, media_type), value)

    def test_lies_are_bytes(self) -> None:
        """Content that is not what its media type says is bytes."""
        for content, media_type in ((b"{", JSON), (b"\xff", TEXT), (b"\x81", CBOR), (b"NaN", JSON)):
            self.assertEqual(set(content_value(content, media_type) or ()), {"base64"})  # type: ignore[call-overload]

    def test_without_media_type(self) -> None:
        """Without a media type a string is text, base64 and byte strings are octets, all else is JSON."""
        for value, content, media_type in (
            ("on", b"on", TEXT),
            ({"base64": "AQI="}, b"\x01\x02", OCTETS),
            (b"\x01", b"\x01", OCTETS),
            ({"a": 1}, b'{"a":1}', JSON),
            (21.5, b"21.5", JSON),
            (None, b"null", JSON),
        ):
            self.assertEqual(content_bytes(value, None), (content, media_type))

    def test_with_media_type(self) -> None:
        """The media type decides how a value is written."""
        self.assertEqual(content_bytes("on", JSON), (b'"on"', JSON))
        self.assertEqual(content_bytes("on", CBOR), (b"bon", CBOR))
        self.assertEqual(content_bytes({"base64": "AQI="}, "image/png"), (b"\x01\x02", "image/png"))
        self.assertEqual(content_bytes({"base64": "AQI="}, JSON), (b'{"base64":"AQI="}', JSON))

    def test_refused(self) -> None:
        """Base64 that is none, and a value that the media type cannot have, are refused with the field named."""
        no_base64: tuple[object, ...] = ("A", "AQI", "AQ I=", "ä", 1234, None, [1])
        no_text: tuple[object, ...] = (1, None, True, {"a": 1}, [])
        for value in no_base64:
            self.assertEqual(self.assertRaises(Malformed, content_bytes, {"base64": value}, None).field, "content.base64")
        for value in no_text:
            self.assertEqual(self.assertRaises(Malformed, content_bytes, value, TEXT, "input").field, "input")

    @given(CBOR_VALUES)
    def test_cbor_content_round_trip(self, value: object) -> None:
        """CBOR content stands in a document and comes back as the same bytes."""
        content = dump_cbor(value)
        self.assertEqual(content_bytes(content_value(content, CBOR), CBOR), (content, CBOR))

    @given(VALUES)
    def test_json_content_round_trip(self, value: object) -> None:
        """JSON content stands in a document and comes back as the same bytes, also where it looks like base64."""
        for content in (dump_json(value), dump_json({"base64": value})):
            self.assertEqual(content_bytes(content_value(content, JSON), JSON), (content, JSON))

    @given(st.binary(max_size=20), st.sampled_from([OCTETS, "image/png", TEXT, LINK_FORMAT]))
    def test_other_content_round_trip(self, content: bytes, media_type: str) -> None:
        """Text and other bytes stand in a document and come back as the same bytes."""
        self.assertEqual(content_bytes(content_value(content, media_type), media_type), (content, media_type))


class TimeTests(SynchronousTestCase):
    def test_written(self) -> None:
        """Times are RFC 3339 in UTC with milliseconds and `Z`, also before 1970."""
        self.assertEqual(rfc3339(0), "1970-01-01T00:00:00.000Z")
        self.assertEqual(rfc3339(1_800_000_000_001), "2027-01-15T08:00:00.001Z")
        self.assertEqual(rfc3339(-1), "1969-12-31T23:59:59.999Z")

    def test_read(self) -> None:
        """Times are read with any offset, in either case, with and without a fraction."""
        for text in ("2027-01-15T08:00:00Z", "2027-01-15T09:00:00+01:00", "2027-01-15t08:00:00.000z", "2027-01-14T23:30:00-08:30"):
            self.assertEqual(parse_rfc3339(text, "expires"), 1_800_000_000_000)
        self.assertEqual(parse_rfc3339("2027-01-15T08:00:00.0019Z", "expires"), 1_800_000_000_001)

    def test_refused(self) -> None:
        """What is no RFC 3339 time, or no time that there is, is refused with the field named."""
        bad = (
            "",
            "now",
            "2027-01-15",
            "2027-01-15T08:00:00",
            "2027-01-15 08:00:00Z",
            "20270115T080000Z",
            "2027-W02-5T08:00:00Z",
            "2027-13-01T00:00:00Z",
        )
        more = (
            "2027-02-30T00:00:00Z",
            "2027-01-15T24:00:00Z",
            "2027-01-15T08:00Z",
            "2027-01-15T08:00:60Z",
            "0000-01-01T00:00:00Z",
            "2027-01-15T08:00:00+99:00",
        )
        for value in (*bad, *more, None, 5, ["2027-01-15T08:00:00Z"], "٢٠٢٧-01-15T08:00:00Z"):
            self.assertEqual(self.assertRaises(Malformed, parse_rfc3339, value, "expires").field, "expires", value)

    @given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
    def test_round_trip(self, at_ms: int) -> None:
        """Every millisecond of the years 1 to 9999 is written and read alike."""
        self.assertEqual(parse_rfc3339(rfc3339(at_ms), "at"), at_ms)

    @given(st.text(max_size=30) | st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([zZ]|[+-]\d\d:\d\d)\Z"))
    def test_any_text(self, text: str) -> None:
        """Any text is a time or a fault."""
        try:
            parse_rfc3339(text, "at")
        except Fault as fault:
            self.assertIsInstance(fault, Malformed)
