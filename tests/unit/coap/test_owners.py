"""Endpoints, hosts and networks, and their shares of a table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.owners import Shares, host_of, network_of
from m2mapp.net.interfaces import Sockaddr


class OwnerTests(SynchronousTestCase):
    def test_hosts_and_networks(self) -> None:
        """A host has many ports, a network of IPv6 many hosts; zones tell equal addresses apart; IPv4 has no networks here."""
        one: Sockaddr = ("fe80::1", 1, 0, 2)
        self.assertEqual(host_of(one), host_of(("fe80::1", 2, 0, 2)))
        self.assertNotEqual(host_of(one), host_of(("fe80::1", 1, 0, 3)))
        self.assertEqual(network_of(one), network_of(("fe80::ffff:1", 9, 0, 2)))
        self.assertNotEqual(network_of(one), network_of(("fe80::1", 1, 0, 3)))
        self.assertNotEqual(network_of(("fd00::1", 1, 0, 0)), network_of(("fd00:0:0:1::1", 1, 0, 0)))
        self.assertIsNone(network_of(("192.0.2.1", 1)))


class ShareTests(SynchronousTestCase):
    def test_each_owner(self) -> None:
        """What is too much for an endpoint, a host or a network makes its own oldest entry go; others' stay."""
        for addresses, most in (
            ([("192.0.2.1", 1)], 2),
            ([("192.0.2.1", port) for port in range(9)], 3),
            ([(f"fd00::{index:x}", 1, 0, 0) for index in range(1, 10)], 6),
        ):
            shares: Shares[int] = Shares(2, 3, 8)
            shares.add(-1, ("198.51.100.1", 1))
            held: list[tuple[int, Sockaddr]] = []
            for entry in range(20):
                address = addresses[entry % len(addresses)]
                shares.add(entry, address)
                held.append((entry, address))
                excess = shares.oldest_in_excess(address)
                if excess is not None:
                    self.assertEqual(excess, held[0][0])
                    shares.remove(*held.pop(0))
            self.assertEqual(len(held), most)
            self.assertTrue(shares.full(addresses[20 % len(addresses)]) or most == 3)
            self.assertFalse(shares.full(("198.51.100.1", 1)))
            for each in held:
                shares.remove(*each)
            shares.remove(-1, ("198.51.100.1", 1))
            self.assertEqual(len(shares), 0)
