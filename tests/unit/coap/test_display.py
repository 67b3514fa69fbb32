"""The line of a message: words, bounds, and nothing that a terminal would obey."""

from __future__ import annotations

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import numbers, things
from m2mapp.coap.display import describe, endpoint_text, escaped
from m2mapp.coap.message import MalformedMessage, Message, Options, empty, parse, uint
from tests.unit.coap.fakes import vectors

LONGEST_LINE = 8_000


def line(data: bytes, *, payload: bool = True) -> str:
    """The line of a datagram."""
    try:
        return describe(parse(data), data, payload=payload)
    except MalformedMessage as fault:
        return describe(fault, data, payload=payload)


def answer(options: Options = (), payload: bytes = b"") -> str:
    """What stands after token and message ID in the line of an answer."""
    return describe(Message(things.ACK, things.CONTENT, 1, b"", options, payload), b"").removeprefix("ACK 2.05 mid=0x0001").lstrip()


VECTORS = {
    "aiocoap-put-cbor": 'CON PUT mid=0x4f0d token=77f9 /x?a=b Content-Format:application/cbor {"a": 1}',
    "aiocoap-ipatch": 'CON iPATCH mid=0x4ddb token=e0f5 /x Content-Format:application/merge-patch+json "{}"',
    "aiocoap-fetch": 'CON FETCH mid=0x49dc token=83fa /x Content-Format:application/json "[]"',
    "libcoap-answer-404": 'ACK 4.04 mid=0x0002 token=aabb "Not Found"',
    "libcoap-get": "CON GET mid=0xa2a7 token=01 /sensors/temperature?unit=c&max Uri-Port:15683",
    "libcoap-get-non-accept": "NON GET mid=0xf186 token=01 /a/%C3%A9t%C3%A9 Uri-Port:15683 Accept:application/json",
    "libcoap-block2": "CON GET mid=0x55df token=01 /large Uri-Port:15683 Block2:2/last/64",
    "libcoap-if-match": 'CON PUT mid=0xa16e token=01 /x If-Match:abcdef Uri-Port:15683 "z"',
    "libcoap-no-response": 'NON PUT mid=0x8fe2 token=01 /x Uri-Port:15683 No-Response:26 "1"',
    "libcoap-observe": "CON GET mid=0x7def token=01 /obs Observe:0 Uri-Port:15683",
    "libcoap-ping-reset": "RST mid=0x0005",
    "libcoap-proxy-uri": 'CON GET mid=0x1856 token=01 / Hop-Limit:16 Proxy-Uri:"coap://example.org/x"',
    "libcoap-separate-ack": "ACK Empty mid=0x0006",
    "libcoap-separate-answer": 'CON 2.05 mid=0x9773 token=aabb "done"',
    "libcoap-unknown-options": "CON GET mid=0xc846 token=01 /x Uri-Port:15683 option-9:h'01' M2M-Request-Id:0102030405060708",
}
"""What other programs sent, and its lines."""


class LineTests(SynchronousTestCase):
    def test_datagrams_of_others(self) -> None:
        """Datagrams that libcoap and aiocoap sent, in words."""
        found = vectors()
        for name, expected in VECTORS.items():
            self.assertEqual(line(found[name]), expected, name)

    def test_empty(self) -> None:
        """Empty messages: an acknowledgement, a Reset, a ping, and the one that means nothing."""
        self.assertEqual(
            [line(empty(mtype, 7)) for mtype in (things.ACK, things.RST, things.CON, things.NON)],
            ["ACK Empty mid=0x0007", "RST mid=0x0007", "CON Empty (a ping) mid=0x0007", "NON Empty mid=0x0007"],
        )

    def test_unknown_codes(self) -> None:
        """A method that has no name here still has its target; a code of no class known stands as it is."""
        self.assertEqual(line(bytes.fromhex("4009000ab178")), "CON 0.09 mid=0x000a /x")
        self.assertEqual(line(bytes.fromhex("50e1000a")), "NON 7.01 mid=0x000a")

    def test_malformed(self) -> None:
        """What is no message says why, with its bytes."""
        self.assertEqual(line(b"\x49abc"), "malformed: token length 9 is reserved: h'49616263'")
        self.assertEqual(line(b""), "malformed: shorter than the header: h''")
        self.assertTrue(line(b"\x80" * 500).endswith("80'..."))

    def test_options(self) -> None:
        """Each known option as what it is; one of a length that it cannot have, and an unknown one, by its bytes."""
        for number, value, expected in (
            (things.OBSERVE, b"", "Observe:0"),
            (things.ETAG, b"\x01\xff", "ETag:01ff"),
            (things.IF_NONE_MATCH, b"", "If-None-Match"),
            (things.MAX_AGE, b"\x01\x00", "Max-Age:256"),
            (things.URI_PATH, b"a", "Uri-Path:a"),
            (things.LOCATION_PATH, b"a b/c", "Location-Path:a%20b/c"),
            (things.CONTENT_FORMAT, uint(65012), "Content-Format:application/vnd.m2m.group-results+json"),
            (things.ACCEPT, uint(9999), "Accept:9999"),
            (things.BLOCK1, uint(3 << 4 | 8 | 2), "Block1:3/more/64"),
            (things.BLOCK2, b"\x07", "Block2:h'07'"),
            (numbers.DEADLINE, uint(2500), "M2M-Deadline:2500ms"),
            (numbers.CAUSE, b"http://g1/op\x1b[31m", r'M2M-Cause:"http://g1/op\x1b[31m"'),
            (numbers.CAUSE, b"\xff", "M2M-Cause:h'ff'"),
            (numbers.REQUEST_ID, b"short", "M2M-Request-Id:h'73686f7274'"),
            (numbers.ECHO, b"\x01\x02", "Echo:0102"),
            (2_049, b"\x00", "option-2049:h'00'"),
        ):
            self.assertEqual(answer(((number, value),)), expected)

    def test_payloads(self) -> None:
        """Text, JSON, CBOR, and what is none of them, or not what it says."""
        for content_format, payload, expected in (
            (None, b"21.5", '"21.5"'),
            (None, b"\xff\x00", "h'ff00'"),
            (0, b'a "b"\\\n', r'"a \"b\"\\\n"'),
            (0, "ü\u202e".encode(), '"ü\\u202e"'),
            (50, b'{"v":1}', '"{\\"v\\":1}"'),
            (60, cbor2.dumps({"a": [1, -2.5, None, True, "x\n", b"\x01"]}), '{"a": [1, -2.5, null, true, "x\\n", h\'01\']}'),
            (60, b"\xff", "h'ff'"),
            (42, b"ab", "h'6162'"),
            (11542, b"\xc1\x00\x55", "h'c10055'"),
        ):
            options: Options = () if content_format is None else ((things.CONTENT_FORMAT, uint(content_format)),)
            self.assertTrue(answer(options, payload).endswith(expected), answer(options, payload))

    def test_payloads_are_cut(self) -> None:
        """A long payload is cut, and its size is told; a cut within a character does no harm."""
        for content_format, payload in (
            (None, b"x" * 500),
            (None, "€".encode() * 400),
            (42, b"\x00" * 900),
            (60, cbor2.dumps(["y" * 300])),
        ):
            options: Options = () if content_format is None else ((things.CONTENT_FORMAT, uint(content_format)),)
            text = answer(options, payload)
            self.assertTrue(text.endswith(f" ({len(payload)} bytes)"), text)
            self.assertLess(len(text), 240)
        self.assertIn("€", answer((), "€".encode() * 400))
        self.assertEqual(answer((), "€".encode()[:2]), "h'e282'")

    def test_payload_hidden(self) -> None:
        """Without payload its size alone is told; what cannot be read might have one anywhere."""
        self.assertEqual(line(b"\x49abc", payload=False), "malformed: token length 9 is reserved: (4 bytes, not shown)")
        self.assertEqual(line(vectors()["libcoap-answer-404"], payload=False), "ACK 4.04 mid=0x0002 token=aabb (9 bytes, not shown)")

    def test_many_options(self) -> None:
        """Hundreds of options, and a path without end, make a line of bounded length."""
        text = describe(
            Message(things.CON, things.GET, 1, b"", ((things.URI_PATH, b"s" * 255),) * 200 + ((65_001, b"v" * 255),) * 200), b""
        )
        self.assertIn("(176 more options)", text)
        self.assertLess(len(text), LONGEST_LINE)

    def test_endpoints(self) -> None:
        """Addresses as in a URI, with the interface's name for a zone."""
        self.assertEqual(
            [
                endpoint_text(a, {3: "eth1"})
                for a in (("192.0.2.1", 5683), ("fd00::1", 7, 0, 0), ("fe80::1", 7, 0, 3), ("fe80::1", 7, 0, 4))
            ],
            ["192.0.2.1:5683", "[fd00::1]:7", "[fe80::1%eth1]:7", "[fe80::1%4]:7"],
        )

    @given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda rest: b"\x44\x02\x00\x01abcd" + rest)))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever the bytes: one line of printable characters."""
        for text in (line(data), line(data, payload=False)):
            self.assertTrue(text.isprintable(), text)
            self.assertLess(len(text), LONGEST_LINE)

    @given(st.text(max_size=30))
    def test_any_text(self, text: str) -> None:
        """Text in quotes is printable, and says the same."""
        shown = escaped(text, 30)
        self.assertTrue(shown.isprintable())
        unescaped = shown[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")
        self.assertEqual(unescaped, text)
