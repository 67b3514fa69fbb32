"""The kernel's structures, without a kernel."""

from __future__ import annotations

import errno
import socket
import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.net.sockets import INET4, INET6, Arrival, is_link_local, packed_group, parse_host, require_unicast


def v6(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


def v4(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, text)


class ArrivalTests(SynchronousTestCase):
    def test_ipv6(self) -> None:
        """A struct in6_pktinfo is the address, then the interface."""
        self.assertEqual(INET6.arrival(v6("fd00::1") + struct.pack("@I", 7)), Arrival("fd00::1", 7, multicast=False))
        self.assertEqual(INET6.arrival(v6("ff35:30:fd00::1234") + struct.pack("@I", 7)), Arrival("ff35:30:fd00::1234", 7, multicast=True))

    def test_ipv4(self) -> None:
        """A struct in_pktinfo is the interface, the local address, the header's address; broadcast is told from unicast."""
        info = struct.Struct("@I4s4s")
        self.assertEqual(INET4.arrival(info.pack(3, v4("10.0.0.1"), v4("10.0.0.1"))), Arrival("10.0.0.1", 3, multicast=False))
        self.assertEqual(INET4.arrival(info.pack(3, v4("10.0.0.1"), v4("239.1.2.3"))), Arrival("239.1.2.3", 3, multicast=True))
        broadcast = Arrival("10.0.0.255", 3, multicast=False, broadcast=True)
        self.assertEqual(INET4.arrival(info.pack(3, v4("10.0.0.1"), v4("10.0.0.255"))), broadcast)


class ScopeTests(SynchronousTestCase):
    def test_link_scope(self) -> None:
        """Link-local unicast, and multicast up to link-local scope, mean something on one link only."""
        for text, expected in [
            ("fe80::1", True),
            ("febf::1", True),
            ("fec0::1", False),
            ("fd00::1", False),
            ("ff01::1", True),
            ("ff02::fd", True),
            ("ff12::1", True),
            ("ff03::1", False),
            ("ff05::fd", False),
            ("ff35:30:fd00::1", False),
        ]:
            self.assertEqual(INET6.is_link_scope(v6(text)), expected, text)
        for text, expected in [("224.0.0.1", True), ("224.0.1.187", False), ("239.1.2.3", False), ("169.254.1.1", False)]:
            self.assertEqual(INET4.is_link_scope(v4(text)), expected, text)

    def test_multicast(self) -> None:
        """ff00::/8 and 224.0.0.0/4."""
        for text, expected in [("ff00::", True), ("fe80::1", False), ("fd00::ff", False)]:
            self.assertEqual(INET6.is_multicast(v6(text)), expected, text)
        for text, expected in [("223.255.255.255", False), ("224.0.0.0", True), ("239.255.255.255", True), ("240.0.0.0", False)]:
            self.assertEqual(INET4.is_multicast(v4(text)), expected, text)

    @given(st.binary(min_size=16, max_size=16))
    def test_link_local_is_ten_bits(self, address: bytes) -> None:
        """The link-local test looks at the first ten bits and at nothing else."""
        self.assertEqual(is_link_local(address), int.from_bytes(address[:2], "big") >> 6 == 0xFE80 >> 6)


class ParseTests(SynchronousTestCase):
    def test_hosts(self) -> None:
        """Addresses with and without zone, the zone by name or number."""
        for text, expected in [
            ("::", (INET6, "::", 0)),
            ("fd00::1", (INET6, "fd00::1", 0)),
            ("fe80::1%eth1", (INET6, "fe80::1", 4)),
            ("fe80::1%12", (INET6, "fe80::1", 12)),
            ("192.0.2.1", (INET4, "192.0.2.1", 0)),
        ]:
            self.assertEqual(parse_host(text, {"eth1": 4}.__getitem__), expected, text)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever the text: an address, or `OSError` that names it."""
        try:
            family, address, _ = parse_host(text)
        except OSError as error:
            self.assertIn(error.errno, {errno.EINVAL, errno.ENODEV})
        else:
            socket.inet_pton(family.number, address)

    @given(st.text())
    def test_any_group(self, text: str) -> None:
        """Whatever the text: a multicast address, or `OSError`."""
        for family in (INET6, INET4):
            try:
                self.assertTrue(family.is_multicast(packed_group(family, text, 1)))
            except OSError as error:
                self.assertEqual(error.errno, errno.EINVAL)

    def test_group_of_no_interface(self) -> None:
        """A group without an interface is refused with its name: the kernel would choose one."""
        error = self.assertRaises(OSError, packed_group, INET6, "ff05::1", 0)
        self.assertEqual(error.errno, errno.ENODEV)
        self.assertIn("ff05::1", str(error))

    def test_unicast(self) -> None:
        """A link-local address needs its zone each time, unless the port is bound to one; of another host it is known for good."""
        self.assertFalse(require_unicast(INET6, ("fe80::1", 1, 0, 4), v6("::")))
        self.assertFalse(require_unicast(INET6, ("fe80::1", 1, 0, 0), v6("fe80::2")))
        self.assertTrue(require_unicast(INET6, ("fd00::1", 1, 0, 0), v6("::")))
        for host in ("fe80::1", "ff05::1"):
            self.assertRaises(OSError, require_unicast, INET6, (host, 1, 0, 0), v6("::"))
