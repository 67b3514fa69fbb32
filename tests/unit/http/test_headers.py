"""Request targets and header fields as values: what is taken, what is refused, and that nothing else happens on any bytes."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.uris import path_uri
from m2mapp.http import headers
from m2mapp.model.errors import Fault, Malformed, TooLarge
from m2mapp.model.messages import ANY_ETAG

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class TargetTests(SynchronousTestCase):
    def test_forms_of_the_target(self) -> None:
        """Origin form and absolute form are taken (RFC 9112, 3.2)."""
        for target, expected in [
            (b"/a/b?c=d?e", (b"/a/b", b"c=d?e")),
            (b"/", (b"/", b"")),
            (b"http://h:1/a?b", (b"/a", b"b")),
            (b"HTTPS://h", (b"/", b"")),
            (b"http://h?b=/c", (b"/", b"b=/c")),
        ]:
            self.assertEqual(headers.split_target(target), expected, target)

    def test_other_targets_are_refused(self) -> None:
        """What is neither names the path as the field."""
        for target in (b"a/b", b"coap://h/a", b"*", b"http:/a", b"?x"):
            fault = self.assertRaises(Malformed, headers.split_target, target)
            self.assertEqual(fault.field, "path", target)

    def test_paths(self) -> None:
        """Segments are percent-decoded as UTF-8; the root has none."""
        for raw, path in [
            (b"/", ()),
            (b"/a", ("a",)),
            (b"/a/B%20c", ("a", "B c")),
            (b"/%c3%a4/%E2%82%AC", ("ä", "€")),
            (b"/a;b=c/@:!$&'()*+,=~", ("a;b=c", "@:!$&'()*+,=~")),
            (b"/" + b"x" * 255, ("x" * 255,)),
            (b"/" + b"%41" * 200, ("A" * 200,)),
        ]:
            self.assertEqual(headers.parse_path(raw), path, raw)

    def test_bad_paths(self) -> None:
        """Each is refused with the field named: dots, empty segments, bad encoding, NUL, slashes in disguise, fragments, raw bytes."""
        for raw in [
            *(b"/..", b"/a/../b", b"/.", b"/%2e%2E/a", b"/a/%2e/b", b"//", b"/a//b", b"/a/", b"/a%00", b"/%0a", b"/a%2Fb"),
            *(b"/%", b"/%4", b"/%zz", b"/a%", b"/%ff", b"/%c3", b"/%ed%a0%80", b"/\xc3\xa4", b"/a#b", b"a", b"", b"/%7f", b"/%e2%80%ae"),
        ]:
            fault = self.assertRaises(Malformed, headers.parse_path, raw)
            self.assertEqual(fault.field, "path", raw)

    def test_large_paths(self) -> None:
        """Too many levels, too long segments, too long paths: refused as too large, however they are encoded."""
        for raw in (b"/a" * 10_000, b"/a" * 33, b"/" + b"x" * 256, b"/" + b"/".join([b"x" * 200] * 6), b"/" + b"%41" * 256):
            fault = self.assertRaises(TooLarge, headers.parse_path, raw)
            self.assertEqual(fault.field, "path", raw[:20])

    def test_queries(self) -> None:
        """Pairs keep their order; a bare key has an empty value; plus is plus."""
        for raw, pairs in [
            (b"", ()),
            (b"a=1&b&a=2", (("a", "1"), ("b", ""), ("a", "2"))),
            (b"&a=b=c&&", (("a", "b=c"),)),
            (b"k%20=%3D%26+x", (("k ", "=&+x"),)),
            (b"q=%c3%a4", (("q", "ä"),)),
        ]:
            self.assertEqual(headers.parse_query(raw), pairs, raw)

    def test_bad_queries(self) -> None:
        """Bad encoding, control characters and values without a key are refused, and too many or too long pairs."""
        for raw in (b"a=%", b"a=%ff", b"%00=1", b"a=%0a", b"=1", b"a=\xff"):
            self.assertEqual(self.assertRaises(Malformed, headers.parse_query, raw).field, "query", raw)
        for raw in (b"a&" * 65, b"a=" + b"x" * 5000):
            self.assertEqual(self.assertRaises(TooLarge, headers.parse_query, raw).field, "query", raw[:9])

    @given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=8), max_size=8))
    def test_references_come_back(self, segments: list[str]) -> None:
        """A path that can be one, percent-encoded for a Location, decodes to itself; one that cannot is refused."""
        path = tuple(segments)
        raw = ("/" + "/".join(quote(segment, safe="") for segment in path)).encode()
        try:
            decoded = headers.parse_path(raw)
        except (Malformed, TooLarge):
            return
        self.assertEqual(decoded, path)
        self.assertEqual(headers.parse_path(path_uri(path).encode()), path)


class MediaTypeTests(SynchronousTestCase):
    def test_media_types(self) -> None:
        """Type, parameter names and charset are put in lower case; other values and quotes stay."""
        for raw, kept in [
            (None, None),
            (b"Text/Plain", "text/plain"),
            (b"text/plain ; Charset=UTF-8", "text/plain;charset=utf-8"),
            (b'application/x; Profile="A;b=C" ;;', 'application/x;profile="A;b=C"'),
            (b"application/vnd.m2m.resource+json", "application/vnd.m2m.resource+json"),
        ]:
            self.assertEqual(headers.parse_media_type(raw), kept, raw)

    def test_bad_media_types(self) -> None:
        """What is none is refused: no slash, white space, wildcards, two of them, open quotes, overlong ones, bytes."""
        for raw in (
            b"",
            b"text",
            b"a/b c",
            b"*/*",
            b"text/*",
            b"a/b, c/d",
            b'a/b;c="',
            b"a/b;c",
            b"a/" + b"b" * 300,
            b"a/\xe4",
            b"/b",
            b"a/b;=c",
        ):
            self.assertEqual(self.assertRaises(Malformed, headers.parse_media_type, raw).field, "Content-Type", raw)

    def test_accept(self) -> None:
        """Ranges come in the order of their weight, then of the client; any is no range at all."""
        for raw, ranges in [
            (None, ()),
            (b"*/*", ()),
            (b"", ()),
            (b"text/plain;q=0.5, application/JSON", ("application/json", "text/plain")),
            (b"a/b;q=0.5, c/d;q=0.500, e/f", ("e/f", "a/b", "c/d")),
            (b"text/html, */*;q=0.8", ("text/html", "*/*")),
            (b"*/*, text/html;q=0.1", ()),
            (b"text/html;q=0, text/*;Q=1.000", ("text/*",)),
            (b"text/plain; charset=UTF-8; q=0.1", ("text/plain;charset=utf-8",)),
            (b"text/html;q=0", ("nothing/acceptable",)),
        ]:
            self.assertEqual(headers.parse_accept(raw), ranges, raw)

    def test_bad_accept(self) -> None:
        """What is no list of ranges, or too long a one, is refused."""
        for raw in (b"text", b"a/b;q=2", b"a/b;q=x", b"a/b;q=0.1234", b"a/b;q", b"a b", b";"):
            self.assertEqual(self.assertRaises(Malformed, headers.parse_accept, raw).field, "Accept", raw)
        self.assertEqual(self.assertRaises(TooLarge, headers.parse_accept, b"a/b," * 40).field, "Accept")

    def test_no_text_takes_long(self) -> None:
        """A list of parameters that ends wrongly is refused at once: with any way to try twice this would take years."""
        self.assertRaises(Malformed, headers.parse_accept, b"a/b" + b" ; " * 2000 + b"!")
        self.assertRaises(Malformed, headers.parse_accept, b"a/b;c=" + b"d" * 9000 + b"\xff")


class ConditionTests(SynchronousTestCase):
    def test_entity_tags(self) -> None:
        """Tags are the hexadecimal text of ours; those of others never match; lists and any are taken."""
        self.assertEqual(headers.parse_if_match(None), ())
        self.assertEqual(headers.parse_if_match(b" * "), (ANY_ETAG,))
        self.assertEqual(headers.parse_if_match(b'"0105d2" , "02ff"'), (b"\x01\x05\xd2", b"\x02\xff"))
        for raw in (b'"abc"', b'"ABCD"', b'"xyz"', b'""', b'"\xff"', b'"2a2"'):
            self.assertEqual(headers.parse_if_match(raw), (headers.NO_ETAG,), raw)

    def test_weak_tags(self) -> None:
        """If-Match compares strongly, so that a weak tag matches nothing; If-None-Match compares weakly (RFC 9110, 13.1)."""
        self.assertEqual(headers.parse_if_match(b'W/"0105"'), (headers.NO_ETAG,))
        self.assertEqual(headers.parse_if_none_match(b'W/"0105"'), (b"\x01\x05",))

    def test_a_star_in_quotes_is_not_any(self) -> None:
        """The tag of two digits that stand for a star is no wildcard: no tag of ours has one byte."""
        self.assertEqual(headers.parse_if_match(b'"*"'), (headers.NO_ETAG,))
        self.assertEqual(headers.parse_if_match(b'"2a"'), (headers.NO_ETAG,))

    def test_bad_tags(self) -> None:
        """Tags without quotes, half ones, nothing, or too many are refused."""
        for raw in (b"abc", b'"a', b"", b'"a" "b"', b'w/"a"', b"*, *", b","):
            self.assertEqual(self.assertRaises(Malformed, headers.parse_if_match, raw).field, "If-Match", raw)
        self.assertEqual(self.assertRaises(TooLarge, headers.parse_if_none_match, b'"a",' * 40).field, "If-None-Match")


class OwnFieldTests(SynchronousTestCase):
    def test_trace(self) -> None:
        """A valid traceparent is kept, also of a later version; any other is as if it were not there."""
        parent = f"00-{TRACE}-00f067aa0ba902b7-01"
        self.assertEqual(headers.trace_of(parent.encode()), TRACE)
        self.assertEqual(headers.trace_of(f"01-{TRACE}-00f067aa0ba902b7-01-more".encode()), TRACE)
        for bad in [
            *(None, b"", b"x", parent.upper().encode(), f"ff-{TRACE}-00f067aa0ba902b7-01".encode(), (parent + "-more").encode()),
            *(
                f"00-{'0' * 32}-00f067aa0ba902b7-01".encode(),
                f"00-{TRACE}-{'0' * 16}-01".encode(),
                parent.encode() + b", " + parent.encode(),
            ),
        ]:
            made = headers.trace_of(bad)
            self.assertNotEqual(made, TRACE, bad)
            self.assertRegex(made, "^[0-9a-f]{32}$")

    def test_request_id(self) -> None:
        """Sixteen hexadecimal digits are eight bytes."""
        self.assertIsNone(headers.parse_request_id(None))
        self.assertEqual(headers.parse_request_id(b"9F86d081884c7d65"), bytes.fromhex("9f86d081884c7d65"))
        for raw in (b"", b"9f86", b"9f86d081884c7d65ff", b"zf86d081884c7d65", b"9f86d081884c7d6 "):
            self.assertEqual(self.assertRaises(Malformed, headers.parse_request_id, raw).field, "M2M-Request-Id", raw)

    def test_cause(self) -> None:
        """Operations are separated by commas; sixteen are taken."""
        self.assertEqual(headers.parse_cause(None), ())
        self.assertEqual(headers.parse_cause(b"http://g/a/Operations/x, /b ,"), ("http://g/a/Operations/x", "/b"))
        self.assertEqual(len(headers.parse_cause(b",".join([b"/a"] * 16))), 16)
        self.assertEqual(self.assertRaises(TooLarge, headers.parse_cause, b",".join([b"/a"] * 17)).field, "M2M-Cause")
        for raw in (b"/\xe4", b"/a\x01", b"/" + b"a" * 1100):
            self.assertEqual(self.assertRaises(Malformed, headers.parse_cause, raw).field, "M2M-Cause", raw[:9])

    def test_deadline(self) -> None:
        """Seconds are plain decimals of at most a day."""
        self.assertIsNone(headers.parse_deadline(None))
        self.assertEqual(headers.parse_deadline(b"2.5"), 2.5)
        self.assertEqual(headers.parse_deadline(b"0"), 0.0)
        for raw in (b"", b"-1", b"nan", b"inf", b"1e9", b"86401", b"1.", b".5", b" 1", b"9" * 400):
            self.assertEqual(self.assertRaises(Malformed, headers.parse_deadline, raw).field, "M2M-Deadline", raw[:9])


PARSERS: list[Callable[[bytes], object]] = [
    headers.split_target,
    headers.parse_path,
    headers.parse_query,
    headers.parse_media_type,
    headers.parse_accept,
    headers.parse_if_match,
    headers.parse_if_none_match,
    headers.trace_of,
    headers.parse_request_id,
    headers.parse_cause,
    headers.parse_deadline,
]


class AnyBytesTests(SynchronousTestCase):
    @given(st.sampled_from(PARSERS), st.binary(max_size=300) | st.text('/%2eE.;,="*qW0 ax', max_size=60).map(str.encode))
    def test_any_bytes(self, parse: Callable[[bytes], object], data: bytes) -> None:
        """Every parser gives a value or raises a fault that belongs to the client."""
        try:
            parse(data)
        except Fault as fault:
            self.assertIsInstance(fault, Malformed | TooLarge)
