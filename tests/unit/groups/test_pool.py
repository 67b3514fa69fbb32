"""Multicast addresses: derived pools, and which address is given next."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Interface, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.pool import Network, derived_pool, next_address


def given_by(pool: tuple[Network, ...], version: int, count: int, taken: frozenset[str] = frozenset()) -> list[str | None]:
    """So many addresses, each asked for after the one before and taken then."""
    used, found = set(taken), []
    last: str | None = None
    for _ in range(count):
        address = next_address(pool, version, used.__contains__, last)
        found.append(address)
        if address is not None:
            used.add(address)
            last = address
    return found


class DerivedTests(SynchronousTestCase):
    def test_worked_example(self) -> None:
        """RFC 3306: ff, flags P and T, scope 5, reserved, prefix length, 64 bits of prefix; RFC 3307: identifiers from 0x80000000.

        The prefix 3ffe:ffff:1::/48 gives the addresses of the spec's example, ff35:30:3ffe:ffff:1::8000:0 and on.
        """
        pool, ipv4 = derived_pool("g1.example.org", IPv6Interface("3ffe:ffff:1::7/48"))
        first = int(pool.network_address)
        fields = [first >> 120, first >> 116 & 15, first >> 112 & 15, first >> 104 & 255, first >> 96 & 255, first >> 32 & (1 << 64) - 1]
        self.assertEqual(fields, [0xFF, 0b0011, 5, 0, 48, 0x3FFE_FFFF_0001_0000])
        self.assertEqual(first >> 31 & 1, 1)
        self.assertEqual(pool.prefixlen, 112)
        self.assertEqual(first & ~0x7FFF0000, int(IPv6Address("ff35:30:3ffe:ffff:1::8000:0")))
        self.assertTrue(ipv4.subnet_of(ip_network("239.255.0.0/16")))  # type: ignore[arg-type]
        self.assertEqual(ipv4.prefixlen, 24)

    def test_a_prefix_of_64(self) -> None:
        """The whole prefix stands in the address, also all 64 bits of it."""
        pool, _ = derived_pool("g1", IPv6Interface("fd12:3456:789a:bcde::1/64"))
        self.assertTrue(str(pool.network_address).startswith("ff35:40:fd12:3456:789a:bcde:"))

    def test_without_a_prefix(self) -> None:
        """Without a prefix, or with one longer than 64 bits, the pool is of transient site-local addresses (flag T alone)."""
        for prefix in (None, IPv6Interface("fd00::1/128")):
            pool, _ = derived_pool("g1", prefix)
            self.assertEqual(int(pool.network_address) >> 32, int(IPv6Address("ff15::")) >> 32)

    @given(st.lists(st.from_regex(r"[a-z]{1,10}\.example\.org", fullmatch=True), min_size=1, max_size=5))
    def test_all_of_it_is_multicast(self, names: list[str]) -> None:
        """Whatever the node is called: a /112 of site-local IPv6 and a /24 of administratively scoped IPv4, the same each time."""
        for name in names:
            pool, ipv4 = derived_pool(name, IPv6Interface("fd00::1/64"))
            self.assertTrue(pool.is_multicast and ipv4.is_multicast)
            self.assertEqual((pool, ipv4), derived_pool(name, IPv6Interface("fd00::99/64")))

    def test_two_nodes_have_two_slices(self) -> None:
        """Nodes with different names take from different slices of the same prefix."""
        slices = {derived_pool(f"g{number}.example.org", IPv6Interface("fd00::1/64"))[0] for number in range(100)}
        self.assertGreater(len(slices), 95)


class NextTests(SynchronousTestCase):
    def test_in_order_and_round(self) -> None:
        """Addresses are given in order; when the end is reached, those come again that are free by then."""
        pool = (ip_network("ff35::/126"),)
        self.assertEqual(given_by(pool, 6, 5), ["ff35::", "ff35::1", "ff35::2", "ff35::3", None])
        self.assertEqual(next_address(pool, 6, {"ff35::", "ff35::3"}.__contains__, "ff35::2"), "ff35::1")

    def test_a_freed_address_comes_last(self) -> None:
        """An address that was given back is not the next one: devices that were away still listen to it."""
        pool = (ip_network("ff35::/112"),)
        self.assertEqual(next_address(pool, 6, lambda _: False, "ff35::5"), "ff35::6")

    def test_several_ranges(self) -> None:
        """One range after the other, round to the first; an address from another pool (of before) starts from the beginning."""
        pool = (ip_network("ff35::/127"), ip_network("239.0.0.0/30"), ip_network("ff36::/127"))
        self.assertEqual(given_by(pool, 6, 5), ["ff35::", "ff35::1", "ff36::", "ff36::1", None])
        self.assertEqual(next_address(pool, 6, {"ff36::1"}.__contains__, "ff36::"), "ff35::")
        self.assertEqual(next_address(pool, 6, lambda _: False, "ff99::"), "ff35::")

    def test_ipv4_leaves_the_ends_out(self) -> None:
        """The first and the last address of an IPv4 range are not given; of ranges of one or two all are."""
        self.assertEqual(given_by((ip_network("239.0.0.0/30"),), 4, 3), ["239.0.0.1", "239.0.0.2", None])
        self.assertEqual(given_by((ip_network("239.0.0.0/31"),), 4, 3), ["239.0.0.0", "239.0.0.1", None])
        self.assertEqual(given_by((ip_network("239.0.0.8/32"),), 4, 2), ["239.0.0.8", None])

    def test_no_range_of_that_family(self) -> None:
        """A pool without ranges of an IP version gives none of it."""
        self.assertIsNone(next_address((ip_network("239.0.0.0/24"),), 6, lambda _: False))
        self.assertIsNone(next_address((), 4, lambda _: False))

    @given(st.sets(st.integers(0, 15)), st.integers(-1, 20))
    def test_never_twice(self, taken: set[int], last: int) -> None:
        """Whatever is taken and was given last: what comes is in the pool and free, and something comes while anything is free."""
        names = {str(ip_address("ff35::") + number) for number in taken}
        after = None if last < 0 else str(ip_address("ff35::") + last)
        found = next_address((ip_network("ff35::/124"),), 6, names.__contains__, after)
        self.assertEqual(found is None, len(names) == 16)
        if found is not None:
            self.assertNotIn(found, names)
            self.assertIn(ip_address(found), ip_network("ff35::/124"))
