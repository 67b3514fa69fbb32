"""`lwm2m.tlv`: vectors of other programs and of OMA's text, every form of header, every fault."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.tlv import MAX_ENTRIES, Entry, Kind, Link, MalformedTlv, Type, Value, build, decode, encode, parse

SECURITY = bytes.fromhex("c80011") + b"coap://[::1]:5783" + bytes.fromhex("c10100 c10a01 c10203")
SERVER = bytes.fromhex("c10001 c201012c c10600 c10755")


def _resources() -> st.SearchStrategy[Entry]:
    numbers = st.integers(0, 0xFFFF)
    instances = st.lists(st.builds(Entry, st.just(Kind.RESOURCE_INSTANCE), numbers, st.binary(max_size=300)), max_size=3).map(tuple)
    return st.builds(Entry, st.just(Kind.RESOURCE), numbers, st.binary(max_size=300)) | st.builds(
        Entry, st.just(Kind.MULTIPLE_RESOURCE), numbers, instances
    )


_ENTRIES = st.lists(
    _resources() | st.builds(Entry, st.just(Kind.OBJECT_INSTANCE), st.integers(0, 0xFFFF), st.lists(_resources(), max_size=3).map(tuple)),
    max_size=4,
).map(tuple)


class VectorTests(SynchronousTestCase):
    def test_accounts(self) -> None:
        """The Security and the Server instance of an exchange between two foreign programs, byte by byte."""
        security: list[tuple[int, Value]] = [(0, "coap://[::1]:5783"), (1, False), (10, 1), (2, 3)]
        server: list[tuple[int, Value]] = [(0, 1), (1, 300), (6, False), (7, "U")]
        for data, values in ((SECURITY, security), (SERVER, server)):
            entries = tuple(Entry(Kind.RESOURCE, number, encode(value)) for number, value in values)
            self.assertEqual((parse(data), build(entries)), (entries, data))

    def test_nested(self) -> None:
        """An object instance with a resource and a multiple resource (OMA TS 1.0, section 6.4.3.2): numbers, lengths and nesting."""
        sources = Entry(Kind.MULTIPLE_RESOURCE, 6, (Entry(Kind.RESOURCE_INSTANCE, 0, b"\x01"), Entry(Kind.RESOURCE_INSTANCE, 1, b"\x05")))
        instance = Entry(Kind.OBJECT_INSTANCE, 0, (Entry(Kind.RESOURCE, 1, b"Lightweight M2M"), sources))
        data = bytes.fromhex("08001a") + bytes.fromhex("c8010f") + b"Lightweight M2M" + bytes.fromhex("860641000141 0105")
        self.assertEqual(build([instance]), data)
        self.assertEqual(parse(data), (instance,))

    def test_lengths(self) -> None:
        """The length stands in three bits, or in one, two or three bytes; the number in one byte or two."""
        for size, header in ((7, "c701"), (8, "c80108"), (255, "c801ff"), (256, "d0010100"), (65_536, "d801010000")):
            entry = Entry(Kind.RESOURCE, 1, bytes(size))
            self.assertEqual(build([entry]).hex(), header + "00" * size)
            self.assertEqual(parse(build([entry])), (entry,))
        self.assertEqual(build([Entry(Kind.RESOURCE, 0x102, b"x")]).hex(), "e1010278")

    def test_longer_than_needed(self) -> None:
        """A number in two bytes and a length in three, where fewer would do, are read."""
        self.assertEqual(parse(bytes.fromhex("f800010000 0278 79")), (Entry(Kind.RESOURCE, 1, b"xy"),))


class FaultTests(SynchronousTestCase):
    def test_malformed(self) -> None:
        """Cut headers and values, and entries where none may stand, are refused, with the byte."""
        for data in ("c1", "c101", "e101", "c8", "c80102ff", "d00100", "8301c10100", "0301410000", "030141", "85018301410000"):
            with self.subTest(data), self.assertRaises(MalformedTlv):
                parse(bytes.fromhex(data))

    def test_bounded(self) -> None:
        """More entries than a document may have are refused, however they nest."""
        self.assertEqual(len(parse(bytes.fromhex("c000") * MAX_ENTRIES)), MAX_ENTRIES)
        with self.assertRaises(MalformedTlv):
            parse(bytes.fromhex("c000") * (MAX_ENTRIES + 1))

    def test_not_built(self) -> None:
        """What no TLV can hold is refused: numbers and values that are too large, bytes where entries belong, wrong nesting."""
        inner = Entry(Kind.RESOURCE_INSTANCE, 0, b"")
        for entry in (
            Entry(Kind.RESOURCE, 0x10000, b""),
            Entry(Kind.RESOURCE, -1, b""),
            Entry(Kind.RESOURCE, 0, bytes(1 << 24)),
            Entry(Kind.OBJECT_INSTANCE, 0, b""),
            Entry(Kind.RESOURCE, 0, (inner,)),
            Entry(Kind.OBJECT_INSTANCE, 0, (inner,)),
        ):
            with self.assertRaises(MalformedTlv):
                build([entry])

    @given(st.binary(max_size=80))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are entries, which are built and read again as the same, or `MalformedTlv`."""
        try:
            entries = parse(data)
        except MalformedTlv:
            return
        self.assertEqual(parse(build(entries)), entries)

    @given(_ENTRIES)
    def test_round_trip(self, entries: tuple[Entry, ...]) -> None:
        """What is built is read as it was."""
        self.assertEqual(parse(build(entries)), entries)


class ValueTests(SynchronousTestCase):
    def test_values(self) -> None:
        """Each type has its bytes; whole numbers the fewest of 1, 2, 4 and 8."""
        cases: tuple[tuple[Value, Type, str], ...] = (
            ("\u00fc", Type.STRING, "c3bc"),
            (-1, Type.INTEGER, "ff"),
            (127, Type.INTEGER, "7f"),
            (128, Type.INTEGER, "0080"),
            (-32_769, Type.INTEGER, "ffff7fff"),
            (1 << 31, Type.TIME, "0000000080000000"),
            (True, Type.BOOLEAN, "01"),
            (b"\x00", Type.OPAQUE, "00"),
            (1.5, Type.FLOAT, "3ff8000000000000"),
            (Link(5, 65_535), Type.LINK, "0005ffff"),
        )
        for value, kind, data in cases:
            self.assertEqual((encode(value).hex(), decode(bytes.fromhex(data), kind)), (data, value))
        self.assertEqual(decode(bytes.fromhex("3fc00000"), Type.FLOAT), 1.5)
        self.assertTrue(math.isnan(float(str(decode(bytes.fromhex("7fc00000"), Type.FLOAT)))))

    def test_no_values(self) -> None:
        """Bytes that are no value of the type, and a number that has too many bits, are refused."""
        for data, kind in (
            ("ff", Type.STRING),
            ("", Type.INTEGER),
            ("000000", Type.INTEGER),
            ("02", Type.BOOLEAN),
            ("0000", Type.BOOLEAN),
            ("00", Type.FLOAT),
            ("0000", Type.LINK),
        ):
            with self.subTest(data=data, kind=kind), self.assertRaises(MalformedTlv):
                decode(bytes.fromhex(data), kind)
        with self.assertRaises(MalformedTlv):
            encode(1 << 63)
