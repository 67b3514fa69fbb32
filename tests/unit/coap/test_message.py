"""Messages on the wire: real datagrams, properties, each fault by itself, and txThings as an oracle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from txthings import coap as txthings

from m2mapp.coap import message, things
from m2mapp.coap.message import MalformedMessage, Message, build, empty, number_in, parse, uint
from tests.unit.coap.fakes import in_order, vectors

_OPTION_NUMBERS = st.one_of(st.sampled_from([0, 1, 11, 12, 13, 14, 60, 268, 269, 270, 300, 65535]), st.integers(0, 65535))
_OPTIONS = st.lists(st.tuples(_OPTION_NUMBERS, st.one_of(st.binary(max_size=20), st.binary(min_size=260, max_size=280))), max_size=12).map(
    in_order
)
MESSAGES = st.builds(
    Message,
    st.integers(0, 3),
    st.integers(1, 255),
    st.integers(0, 0xFFFF),
    st.binary(max_size=8),
    _OPTIONS,
    st.binary(max_size=64),
)


class VectorTests(SynchronousTestCase):
    def test_build_gives_the_same_bytes(self) -> None:
        """What foreign programs sent comes out as it came in."""
        found = vectors()
        self.assertGreater(len(found), 20)
        for name, data in found.items():
            self.assertEqual(build(parse(data)), data, name)

    def test_libcoap_get(self) -> None:
        """A GET of libcoap's client, option by option."""
        message = parse(vectors()["libcoap-get"])
        self.assertEqual((message.mtype, message.code), (things.CON, things.GET))
        self.assertEqual(message.every(things.URI_PATH), (b"sensors", b"temperature"))
        self.assertEqual(message.every(things.URI_QUERY), (b"unit=c", b"max"))
        self.assertEqual(message.first(things.URI_PORT), uint(15683))
        self.assertIsNone(message.first(things.ACCEPT))

    def test_txthings_agrees(self) -> None:
        """TxThings' own decoder finds the same in every real datagram whose options it knows."""
        for name, data in vectors().items():
            theirs, ours = txthings.Message.decode(data), parse(data)
            self.assertEqual((theirs.mtype, theirs.code, theirs.mid, theirs.token), ours[:4], name)
            self.assertEqual(bytes(theirs.payload or b""), ours.payload, name)
            self.assertEqual([option.number for option in theirs.opt.optionList()], [number for number, _ in ours.options], name)


class PropertyTests(SynchronousTestCase):
    @given(st.binary(max_size=80))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are a message, which builds to the same bytes, or malformed."""
        try:
            message = parse(data)
        except MalformedMessage:
            return
        self.assertEqual(build(message), data)

    @given(MESSAGES)
    def test_round_trip(self, message: Message) -> None:
        """Every message comes back as it was."""
        self.assertEqual(parse(build(message)), message)

    @given(st.sampled_from(sorted(vectors().values())), st.integers(0, 400), st.binary(min_size=1, max_size=3))
    def test_mutations(self, data: bytes, at: int, put: bytes) -> None:
        """Real datagrams with some bytes changed are messages or malformed."""
        at %= len(data)
        try:
            parse(data[:at] + put + data[at + 1 :])
        except MalformedMessage as fault:
            self.assertTrue(str(fault))

    @given(st.integers(0, 0xFFFFFFFF))
    def test_uint(self, value: int) -> None:
        """Numbers are as short as can be and come back."""
        self.assertEqual(number_in(uint(value)), value)
        self.assertFalse(uint(value).startswith(b"\0"))

    @given(MESSAGES)
    def test_txthings_reads_what_is_built(self, message: Message) -> None:
        """TxThings' decoder reads what is built here."""
        theirs = txthings.Message.decode(build(message))
        self.assertEqual((theirs.mtype, theirs.code, theirs.mid, theirs.token), message[:4])
        self.assertEqual(bytes(theirs.payload or b""), message.payload)


class FaultTests(SynchronousTestCase):
    def _fault(self, text: str) -> MalformedMessage:
        fault = self.assertRaises(MalformedMessage, parse, bytes.fromhex(text))
        assert isinstance(fault, MalformedMessage)
        return fault

    def test_short(self) -> None:
        """Less than a header says nothing that could be reset."""
        for text in ("", "40", "4001", "400100"):
            self.assertEqual((self._fault(text).mtype, self._fault(text).mid), (None, None))

    def test_version(self) -> None:
        """Another version is not to be reset: it must be ignored in silence."""
        for text in ("00010001", "80010001", "c0010001"):
            self.assertIsNone(self._fault(text).mid)

    def test_each_fault_can_be_reset(self) -> None:
        """Past the header, a fault names the type and the message ID."""
        faults = {
            "token length above 8": "49010203" + "00" * 12,
            "token cut short": "4401020300",
            "option cut short": "40010203b3aabb",
            "extended delta of one byte missing": "40010203d0",
            "extended delta of two bytes missing": "40010203e000",
            "extended length missing": "400102030d",
            "delta 15": "40010203f0",
            "length 15": "400102030f",
            "option number too large": "40010203e0ffff",
            "marker without payload": "40010203b161ff",
            "Empty with token": "4100020300",
            "Empty with payload": "40000203ff00",
        }
        for what, text in faults.items():
            fault = self._fault(text)
            self.assertEqual((fault.mtype, fault.mid), (things.CON, 0x0203), what)

    def test_options_seen_before(self) -> None:
        """Options that came before are found again by their bytes alone, and a payload after them is no part of them."""
        head = bytes.fromhex("4101 0001 aa".replace(" ", ""))
        options = bytes.fromhex("b174")
        first = parse(head + options)
        self.assertIs(parse(bytes.fromhex("51010002bb") + options).options, first.options)
        self.assertEqual(parse(head + options + b"\xff21.5"), first._replace(payload=b"21.5"))
        self.assertEqual(parse(head + options), first)
        self.assertEqual(parse(head).options, ())

    def test_marker_byte_within_an_option(self) -> None:
        """A byte of an option that looks like the payload marker is none, whatever was remembered before."""
        head = bytes.fromhex("40010001")
        for _ in range(2):
            for payload in (b"", b"1", b"1\xff2"):
                data = head + bytes.fromhex("b361ff62") + (b"\xff" + payload if payload else b"")
                self.assertEqual(parse(data), Message(things.CON, 1, 1, b"", ((11, b"a\xffb"),), payload))
            self._fault("40010001b361")
            self.assertEqual(parse(head + bytes.fromhex("b161ff62")), Message(things.CON, 1, 1, b"", ((11, b"a"),), b"b"))

    def test_options_remembered(self) -> None:
        """What is remembered of options is bounded."""
        for number in range(3000):
            parse(bytes((0x40, 1, 0, 1, 0xB2, *number.to_bytes(2, "big"))))
        self.assertLessEqual(len(message._short), 1024)
        before = dict(message._short)
        for number in range(3000):
            self.assertEqual(parse(bytes((0x50, 0x45, 0, 1, 0x42, *number.to_bytes(2, "big"), 0x80, 0xFF, 0x31))).payload, b"1")
        self.assertEqual(message._short, before, "an ETag is another one each time")

    def test_sum_of_deltas(self) -> None:
        """Deltas that add up to more than 65535 are malformed, wherever the message ends."""
        self._fault("40010203" + "e0fef2" + "c0")
        self._fault("40010203" + "e0fef2" + "c0" + "ff00")

    def test_build_refuses(self) -> None:
        """What no datagram can say is a fault of this program."""
        for wrong in (
            Message(0, 1, 0x10000),
            Message(0, 1, 1, b"123456789"),
            Message(0, 1, 1, b"", ((12, b""), (11, b""))),
            Message(0, 1, 1, b"", ((65536, b""),)),
        ):
            self.assertRaises(ValueError, build, wrong)

    def test_empty(self) -> None:
        """An Empty message is its header."""
        self.assertEqual(parse(empty(things.ACK, 7)), Message(things.ACK, 0, 7))
