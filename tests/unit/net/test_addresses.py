"""Addresses as the kernel tells them, and which sources are on a link."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.metrics import Metrics
from m2mapp.net.addresses import LOOPBACK_INDEX, HostAddress, OnLink, address_state, parse_address, read_addresses
from m2mapp.net.interfaces import AddressState, Sockaddr
from m2mapp.net.udp import SystemDatagrams
from tests.unit.net.fakes import ReadingReactor

TENTATIVE, OPTIMISTIC, FAILED = 0x40, 0x04, 0x08


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def new_address(text: str, flags: int = 0, local: str = "") -> bytes:
    """The body of an RTM_NEWADDR message as the kernel writes it."""
    parsed = ipaddress.ip_interface(text)
    family = socket.AF_INET6 if isinstance(parsed, ipaddress.IPv6Interface) else socket.AF_INET
    body = struct.pack("=BBBBI", family, parsed.network.prefixlen, flags & 0xFF, 0, 7) + attribute(1, parsed.ip.packed)
    if local:
        body += attribute(2, ipaddress.ip_address(local).packed)
    return body + attribute(3, b"eth0\0") + attribute(8, struct.pack("=I", flags))


def host_address(interface: int, text: str) -> HostAddress:
    parsed = ipaddress.ip_interface(text)
    return HostAddress(interface, parsed, parsed.network)


class FakeHost:
    """Two interfaces, with addresses that come when the test says so."""

    def __init__(self, **indexes: int) -> None:
        self.indexes = indexes
        self.found: list[HostAddress] = [host_address(LOOPBACK_INDEX, "127.0.0.1/8"), host_address(LOOPBACK_INDEX, "::1/128")]

    def interface_index(self, name: str) -> int:
        if name not in self.indexes:
            raise OSError(errno.ENODEV, name)
        return self.indexes[name]

    def addresses(self) -> tuple[HostAddress, ...]:
        return tuple(self.found)


class ParseTests(SynchronousTestCase):
    def test_ipv6(self) -> None:
        """An IPv6 address with its prefix and network."""
        found = parse_address(new_address("fd00::1/64"))
        self.assertEqual(found, host_address(7, "fd00::1/64"))

    def test_point_to_point(self) -> None:
        """Of a point-to-point link the local address is the host's, the other one's network is on the link."""
        found = parse_address(new_address("10.0.0.2/32", local="10.0.0.1"))
        expected = HostAddress(7, ipaddress.ip_interface("10.0.0.1/32"), ipaddress.ip_network("10.0.0.2/32"))
        self.assertEqual(found, expected)

    def test_not_usable(self) -> None:
        """Tentative and duplicate addresses cannot be used; an optimistic one can."""
        self.assertIsNone(parse_address(new_address("fd00::1/64", TENTATIVE)))
        self.assertIsNone(parse_address(new_address("fd00::1/64", FAILED)))
        self.assertIsNotNone(parse_address(new_address("fd00::1/64", TENTATIVE | OPTIMISTIC)))

    def test_other_families(self) -> None:
        """An address that is neither IPv6 nor IPv4 is left out."""
        body = new_address("10.0.0.1/8")
        self.assertIsNone(parse_address(bytes([socket.AF_APPLETALK]) + body[1:]))


class SystemTests(SynchronousTestCase):
    def test_loopback(self) -> None:
        """The kernel's table has the loopback's address under its index, and the interface has it by its name."""
        datagrams = SystemDatagrams(ReadingReactor(), Metrics())
        self.assertEqual(datagrams.interface_index("lo"), LOOPBACK_INDEX)
        self.assertIn(ipaddress.ip_interface("127.0.0.1/8"), datagrams.interface_addresses("lo"))
        self.assertIn(host_address(LOOPBACK_INDEX, "127.0.0.1/8"), read_addresses())
        self.assertEqual(datagrams.addresses(), read_addresses())

    def test_states(self) -> None:
        """An address of an interface is ready; one that it has not, and any on an interface that is not there, is absent."""
        there, elsewhere = ipaddress.IPv6Address("::1"), ipaddress.IPv6Address("fd00::dead")
        states = [address_state(*asked) for asked in ((LOOPBACK_INDEX, there), (LOOPBACK_INDEX, elsewhere), (1_000_000, there))]
        self.assertEqual(states, [AddressState.READY, AddressState.ABSENT, AddressState.ABSENT])

    def test_no_such_interface(self) -> None:
        """An interface that is not there is an error that names it."""
        datagrams = SystemDatagrams(ReadingReactor(), Metrics())
        for name in ("nowhere7", "", "a\0b", "x" * 40):
            error = self.assertRaises(OSError, datagrams.interface_addresses, name)
            self.assertEqual(error.errno, errno.ENODEV)
            self.assertIn(repr(name), str(error))


class OnLinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.host = FakeHost(eth0=2, eth1=3)
        self.host.found += [host_address(2, "2001:db8::1/64"), host_address(2, "fe80::1/64"), host_address(2, "192.0.2.1/24")]
        self.host.found += [host_address(3, "fd00:1::1/64"), host_address(3, "fe80::2/64"), host_address(3, "10.1.0.1/20")]
        self.on_link = OnLink(self.host, ["eth1"])

    def test_global_sources(self) -> None:
        """A source within a prefix of the interface is on the link; one of another interface, or of no prefix, is not."""
        sources: list[tuple[Sockaddr, bool]] = [
            (("fd00:1::d1", 5683, 0, 0), True),
            (("fd00:1:0:1::d1", 5683, 0, 0), False),
            (("2001:db8::7", 5683, 0, 0), False),
            (("::1", 5683, 0, 0), False),
            (("10.1.15.254", 5683), True),
            (("10.1.16.1", 5683), False),
            (("192.0.2.7", 5683), False),
            (("127.0.0.1", 5683), False),
            (("no address", 5683), False),
            (("\0", 5683, 0, 0), False),
        ]
        for source, expected in sources:
            self.assertEqual(self.on_link.contains(source), expected, source)

    def test_link_local_sources(self) -> None:
        """A link-local source is on the link of its zone, which is what tells eth0's fe80::9 from eth1's."""
        self.assertTrue(self.on_link.contains(("fe80::9", 5683, 0, 3)))
        self.assertFalse(self.on_link.contains(("fe80::9", 5683, 0, 2)))
        self.assertFalse(self.on_link.contains(("fe80::9", 5683, 0, 0)))

    def test_claimed_source(self) -> None:
        """A source of the link that came in by another interface is not believed; what the host sends itself is."""
        source = ("fd00:1::d1", 5683, 0, 0)
        self.assertTrue(self.on_link.contains(source, 3))
        self.assertFalse(self.on_link.contains(source, 2))
        self.assertTrue(self.on_link.contains(source, LOOPBACK_INDEX))

    def test_refresh(self) -> None:
        """Addresses that come late, and an interface that comes late, count from the next `refresh` on."""
        on_link = OnLink(self.host, ["eth1", "wlan0"])
        late = ("2001:db8:5::7", 5683, 0, 0)
        self.assertFalse(on_link.contains(late))
        self.host.indexes["wlan0"] = 9
        self.host.found.append(host_address(9, "2001:db8:5::1/64"))
        self.assertFalse(on_link.contains(late))
        on_link.refresh()
        self.assertTrue(on_link.contains(late))
        self.host.found.pop()
        on_link.refresh()
        self.assertFalse(on_link.contains(late))

    def test_own(self) -> None:
        """An address of any interface is the host's own, and all of the loopback network."""
        for text in ("fd00:1::1", "2001:db8:0:0::1", "fe80::2%eth1", "10.1.0.1", "127.0.1.7", "::1"):
            self.assertTrue(self.on_link.own(text), text)
        for text in ("fd00:1::2", "10.1.0.2", "no address", ""):
            self.assertFalse(self.on_link.own(text), text)

    @given(st.ip_addresses(v=6).map(str), st.integers(0, 128), st.ip_addresses(v=6).map(str))
    def test_like_ipaddress(self, network: str, length: int, source: str) -> None:
        """For any prefix and source the answer is that of `ipaddress`, but for link-local ones."""
        host = FakeHost(eth0=2)
        host.found = [host_address(2, f"{network}/{length}")]
        on_link = OnLink(host, ["eth0"])
        for text in (source, network):
            parsed = ipaddress.IPv6Address(text)
            if not parsed.is_link_local and not host.found[0].address.ip.is_link_local:
                self.assertEqual(on_link.contains((text, 1, 0, 0)), parsed in host.found[0].network, text)
