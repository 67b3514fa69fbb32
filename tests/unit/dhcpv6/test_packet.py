"""DHCPv6 on the wire: each option by its bytes, each way to be malformed, properties, and construct itself as an oracle."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import construct
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6 import packet
from m2mapp.dhcpv6.message import MalformedMessage, Message, RelayMessage
from m2mapp.dhcpv6.numbers import HOP_COUNT_LIMIT, MessageType, Status
from m2mapp.dhcpv6.packet import build, parse
from tests.unit.dhcpv6.cases import RELAYED, SOLICIT, TOP_LEVEL, as_bytes

_HEAD = as_bytes("01 0a0b0c")
_U8, _U16, _U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
_DUIDS = st.binary(min_size=3, max_size=130)
_ADDRESSES = st.integers(0, 2**128 - 1).map(IPv6Address)
_PREFIXES = st.builds(lambda address, length: IPv6Network((address, length), strict=False), _ADDRESSES, st.integers(0, 128))
_STATUS = st.builds(o.StatusCode, st.one_of(st.sampled_from(Status), st.integers(7, 0xFFFF)), st.text(max_size=8))
_UNKNOWN = st.builds(o.Opaque, st.integers(60_000, 65_535), st.binary(max_size=20))
_INNER = st.lists(st.one_of(_STATUS, _UNKNOWN), max_size=2).map(tuple)
_IN_NA = st.lists(st.one_of(_STATUS, _UNKNOWN, st.builds(o.IaAddress, _ADDRESSES, _U32, _U32, _INNER)), max_size=3).map(tuple)
_IN_PD = st.lists(st.one_of(_STATUS, _UNKNOWN, st.builds(o.IaPrefix, _PREFIXES, _U32, _U32, _INNER)), max_size=3).map(tuple)
_OPTIONS = st.one_of(
    _STATUS,
    _UNKNOWN,
    st.builds(o.ClientId, _DUIDS),
    st.builds(o.ServerId, _DUIDS),
    st.builds(o.IaNa, _U32, _U32, _U32, _IN_NA),
    st.builds(o.IaPd, _U32, _U32, _U32, _IN_PD),
    st.builds(o.OptionRequest, st.lists(_U16, max_size=5).map(tuple)),
    st.builds(o.Preference, _U8),
    st.builds(o.ElapsedTime, _U16),
    st.builds(o.Authentication, _U8, _U8, _U8, st.integers(0, 2**64 - 1), st.binary(max_size=20)),
    st.just(o.RapidCommit()),
    st.builds(o.VendorOpts, _U32, st.lists(st.builds(o.Opaque, _U16, st.binary(max_size=8)), max_size=3).map(tuple)),
    st.builds(o.DnsServers, st.lists(_ADDRESSES, min_size=1, max_size=3).map(tuple)),
    st.builds(o.InformationRefreshTime, _U32),
)
_PLAIN_TYPES = st.sampled_from([kind for kind in MessageType if kind < MessageType.RELAY_FORW])
_MESSAGES: st.SearchStrategy[Message | RelayMessage] = st.recursive(
    st.builds(Message, _PLAIN_TYPES, st.integers(0, 0xFFFFFF), st.lists(_OPTIONS, max_size=6).map(tuple)),
    lambda inner: st.builds(
        lambda hops, link, peer, message: RelayMessage(MessageType.RELAY_FORW, hops, link, peer, (o.RelayedMessage(message),)),
        _U8,
        _ADDRESSES,
        _ADDRESSES,
        inner,
    ),
    max_leaves=3,
)


class OptionTests(SynchronousTestCase):
    def test_written_as_the_rfc_says(self) -> None:
        """Each option has the bytes that RFC 9915 gives it, and is read from them."""
        for name, (option, text) in TOP_LEVEL.items():
            message = Message(MessageType.SOLICIT, 0x0A0B0C, (option,))
            self.assertEqual(build(message), _HEAD + as_bytes(text), name)
            self.assertEqual(parse(_HEAD + as_bytes(text)), message, name)

    def test_cut_short(self) -> None:
        """Whatever byte a message ends at, it is malformed, unless an option ends there."""
        for name, (_, text) in TOP_LEVEL.items():
            data = as_bytes(text)
            for end in range(1, len(data)):
                with self.assertRaises(MalformedMessage, msg=f"{name} at {end}"):
                    parse(_HEAD + data[:end])

    def test_length_that_lies(self) -> None:
        """An option of fixed size whose length says one byte more or less is malformed, also where others follow."""
        for name in (
            "ia_na",
            "empty ia_na",
            "ia_pd",
            "option request",
            "preference",
            "elapsed time",
            "rapid commit",
            "dns servers",
            "sol_max_rt",
        ):
            _, text = TOP_LEVEL[name]
            for step in (-1, 1):
                data = bytearray(as_bytes(text) + as_bytes("fde90001 00"))
                if data[3] + step >= 0:
                    data[3] += step
                    with self.assertRaises(MalformedMessage, msg=f"{name} by {step}"):
                        parse(_HEAD + bytes(data))

    def test_known_only_where_it_belongs(self) -> None:
        """An address outside an IA, and an IA inside an IA, are bytes: options nest only as RFC 9915 has them."""
        inner = Message(MessageType.SOLICIT, 1, (o.IaNa(1, 0, 0, (o.Opaque(3, bytes(12)), o.Opaque(26, bytes(25)))),))
        self.assertEqual(parse(build(inner)), inner)
        outer = Message(MessageType.SOLICIT, 1, (o.Opaque(5, b"short"),))
        self.assertEqual(parse(build(outer)), outer)

    def test_faults_are_named(self) -> None:
        """What is wrong is said with the option's name and the number found."""
        faults = {
            "": "empty datagram",
            "63 000000": "message type 99",
            "01 0000": "shorter than its header",
            "0c 00": "RELAY_FORW: 2 bytes",
            "01 000000 0001": "2 bytes behind",
            "01 000000 00010005 00": "option 1 says 5 bytes, 1 are left",
            "01 000000 00010002 0001": "Client Identifier: a DUID of 2 bytes",
            "01 000000 0003000b" + "00" * 11: "IA_NA: 11 bytes",
            "01 000000 00060003 000000": "Option Request: 3 bytes",
            "01 000000 00130001 01": "Reconfigure Message: message type 1",
            "01 000000 000e0001 00": "Rapid Commit: 1 bytes",
            "01 000000 00170000": "DNS Recursive Name Server: 0 bytes",
            "01 000000 00190029" + "00" * 12 + "001a0019 00000000 00000000 81" + "00" * 16: "a prefix length of 129",
        }
        for text, reason in faults.items():
            fault = self.assertRaises(MalformedMessage, parse, as_bytes(text))
            self.assertIn(reason, str(fault), text)

    def test_duid_of_200_bytes(self) -> None:
        """A DUID has at most 130 bytes."""
        fault = self.assertRaises(MalformedMessage, parse, build(Message(MessageType.SOLICIT, 1, (o.ClientId(bytes(200)),))))
        self.assertIn("200 bytes", str(fault))

    def test_bits_behind_a_prefix(self) -> None:
        """Bits behind the length of a prefix are none of it."""
        data = as_bytes("01 000000 00190029" + "00" * 12 + "001a0019 00000000 00000000 30 20010db8000500000000000000000001")
        message = parse(data)
        ia = o.first(message.options, o.IaPd)
        assert ia is not None
        self.assertEqual(o.first(ia.options, o.IaPrefix), o.IaPrefix(IPv6Network("2001:db8:5::/48"), 0, 0))


class BoundTests(SynchronousTestCase):
    def test_too_many_options(self) -> None:
        """More options than any honest message has are refused, wherever they stand."""
        few, many = packet.MAX_OPTIONS, packet.MAX_OPTIONS + 1
        self.assertEqual(len(parse(_HEAD + as_bytes("fde90000") * few).options), few)
        for data in (
            _HEAD + as_bytes("fde90000") * many,
            build(Message(MessageType.SOLICIT, 1, (o.IaNa(1, 0, 0, (o.RapidCommit(),) * few),))),
        ):
            fault = self.assertRaises(MalformedMessage, parse, data)
            self.assertIn("more than 256", str(fault))

    def test_relays_in_one_another(self) -> None:
        """As many relay agents as the RFC allows may stand between; one more is refused."""
        message: Message | RelayMessage = SOLICIT
        for _ in range(HOP_COUNT_LIMIT):
            message = RelayMessage(MessageType.RELAY_FORW, 0, IPv6Address(0), IPv6Address(0), (o.RelayedMessage(message),))
        self.assertEqual(parse(build(message)), message)
        deeper = RelayMessage(MessageType.RELAY_FORW, 0, IPv6Address(0), IPv6Address(0), (o.RelayedMessage(message),))
        self.assertRaises(MalformedMessage, parse, build(deeper))

    def test_value_that_does_not_fit(self) -> None:
        """A value too large for its field is the caller's mistake, and said so."""
        for option in (o.Preference(256), o.ElapsedTime(-1), o.Opaque(1, bytes(0x10000))):
            self.assertRaises(ValueError, build, Message(MessageType.SOLICIT, 1, (option,)))


class RelayTests(SynchronousTestCase):
    def test_relayed(self) -> None:
        """A relayed Solicit, field by field."""
        expected = (
            "0c 00 20010db80000000000000000000000d1 fe800000000000000000000000000001"
            "00120004 65746831 00090022 010a0b0c 0001000a0003000102005e102030 0003000c000000010000000000000000 004f0005 00016d6163"
        )
        self.assertEqual(build(RELAYED), as_bytes(expected))
        self.assertEqual(parse(as_bytes(expected)), RELAYED)


class PropertyTests(SynchronousTestCase):
    @given(_MESSAGES)
    def test_read_as_written(self, message: Message | RelayMessage) -> None:
        """What was built is parsed to the same values."""
        self.assertEqual(parse(build(message)), message)

    @given(st.binary(max_size=120))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are a message or malformed."""
        try:
            parse(data)
        except MalformedMessage:
            return

    @given(_MESSAGES, st.data())
    def test_one_byte_changed(self, message: Message | RelayMessage, data: st.DataObject) -> None:
        """A real message with one byte changed is a message or malformed."""
        changed = bytearray(build(message))
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        try:
            parse(bytes(changed))
        except MalformedMessage:
            return


class DeclarationTests(SynchronousTestCase):
    def test_construct_reads_the_same(self) -> None:
        """The layouts that read datagrams are those of the declarations: construct's own reading of each agrees."""
        for name, declaration in _declarations():
            layout = packet.layout(declaration)
            self.assertEqual(layout.size, declaration.sizeof(), name)
            data = bytes(range(1, layout.size + 1))
            theirs = list(declaration.parse(data).values())[1:]  # the first is construct's own _io
            ours = [
                int.from_bytes(value, "big") if isinstance(value, bytes) and isinstance(wanted, int) else value
                for value, wanted in zip(layout.unpack(data), theirs, strict=True)
            ]
            self.assertEqual(ours, theirs, name)


def _declarations() -> Iterator[tuple[str, Any]]:
    found = [(name, value) for name, value in vars(packet).items() if isinstance(value, construct.Struct)]
    assert len(found) > 5
    yield from found
