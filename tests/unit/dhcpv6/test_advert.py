"""Router advertisements and solicitations, byte for byte."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.advert import (
    Advertisement,
    PrefixInformation,
    build_advertisement,
    parse_advertisement,
    why_solicitation_counts_not,
)
from m2mapp.dhcpv6.message import MalformedMessage

_WHOLE = Advertisement(
    1800,
    (PrefixInformation(IPv6Network("2001:db8:a:1::/64"), 7200, 3600),),
    b"\x02\0\0\0\0\x01",
    (IPv6Address("2001:db8::53"),),
    1800,
)
_BYTES = bytes.fromhex(
    "8600 0000 40 c0 0708 00000000 00000000"  # RFC 4861, section 4.2: M and O are set
    "01 01 020000000001"  # source link-layer address
    "03 04 40 80 00001c20 00000e10 00000000 20010db8000a00010000000000000000"  # prefix: L is set, A is not
    "19 03 0000 00000708 20010db8000000000000000000000053"  # RFC 8106, section 5.1
)
_SOLICITATION = bytes.fromhex("8500 0000 00000000")


class AdvertTests(SynchronousTestCase):
    def test_written(self) -> None:
        """All fields are where RFC 4861 and RFC 8106 have them, and are read again."""
        self.assertEqual(build_advertisement(_WHOLE), _BYTES)
        self.assertEqual(parse_advertisement(_BYTES), _WHOLE)

    def test_least(self) -> None:
        """Without prefix, name server and hardware address the header alone is left."""
        self.assertEqual(build_advertisement(Advertisement(0)), bytes.fromhex("8600 0000 40 c0 0000 00000000 00000000"))

    def test_solicitations(self) -> None:
        """RFC 4861, section 6.1.1: what counts, and what does not."""
        address = bytes.fromhex("0101020000000001")
        for data, source, counts in (
            (_SOLICITATION, "fe80::1", True),
            (_SOLICITATION + address, "fe80::1", True),
            (_SOLICITATION, "::", True),
            (_SOLICITATION + address, "::", False),
            (_SOLICITATION[:7], "fe80::1", False),
            (b"\x85\x01" + bytes(6), "fe80::1", False),
            (b"\x86" + bytes(7), "fe80::1", False),
            (_SOLICITATION + b"\x01\0", "fe80::1", False),
            (_SOLICITATION + b"\x01\x02" + bytes(6), "fe80::1", False),
        ):
            self.assertEqual(why_solicitation_counts_not(data, source) is None, counts, (data.hex(), source))

    @given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda more: _BYTES[:16] + more)))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are an advertisement or `MalformedMessage`, a solicitation or not."""
        why_solicitation_counts_not(data, "fe80::1")
        try:
            parse_advertisement(data)
        except MalformedMessage:
            return
