"""The downlink's interfaces: this node's own addresses and router advertisements."""

from __future__ import annotations

from ipaddress import IPv6Address

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.links import Delegation
from tests.unit.dhcpv6.downlink_parts import NEW, OLD, DownlinkSite

_SOLICITATION = bytes.fromhex("8500000000000000")


class LinkingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = DownlinkSite()
        self.addCleanup(self.site.stop)

    def solicit(self, data: bytes = _SOLICITATION, interface: int = 7) -> None:
        """A host asks for an advertisement."""
        self.site.host.ports[-1].receive(data, "fe80::1", interface)

    def on(self, interface: int) -> int:
        """How many advertisements left on an interface."""
        return [index for index, _ in self.site.adverts()].count(interface)

    def test_at_the_start(self) -> None:
        """Each interface gets this node's address and is advertised on at once, with its own /64 and the name server."""
        self.site.clock.advance(0)
        self.assertEqual(sorted(index for index, _ in self.site.host.addresses), [7, 8])
        self.assertEqual(set(self.site.host.addresses.values()), {(3600, 7200)})
        adverts = dict(self.site.adverts())
        self.assertEqual(sorted(adverts), [7, 8])
        prefixes = {each.prefix for advert in adverts.values() for each in advert.prefixes}
        self.assertEqual((len(prefixes), all(prefix.subnet_of(OLD) for prefix in prefixes)), (2, True))
        self.assertEqual((adverts[7].lifetime_s, adverts[7].rdnss), (1800, (IPv6Address("2001:db8::53"),)))
        self.assertEqual(self.site.host.ports[-1].joined, {("ff02::2", 7), ("ff02::2", 8)})

    def test_no_way_to_elsewhere(self) -> None:
        """A host that does not forward is no default router, nor is one without a prefix; hosts are told so."""
        self.site.host.forwarding = False
        self.site.clock.advance(0)
        self.assertEqual({advert.lifetime_s for _, advert in self.site.adverts()}, {0})
        self.site.host.forwarding = True
        self.site.prefixes.exchange()
        self.site.clock.advance(3)
        self.assertEqual(self.site.adverts()[-1][1].lifetime_s, 0)

    def test_three_at_first(self) -> None:
        """The first three come within 16 s of each other, then one in 200 to 600 s."""
        self.site.clock.pump([1] * 33)
        self.assertEqual(self.on(7), 3)
        self.site.clock.pump([1] * 190)
        self.assertEqual(self.on(7), 3)
        self.site.clock.pump([10] * 50)
        self.assertGreaterEqual(self.on(7), 4)

    def test_short_lifetime(self) -> None:
        """A prefix that lasts for less than half an hour is advertised three times before hosts would forget it."""
        self.site.prefixes.exchange(Delegation(OLD, 90.0, 90.0))
        self.site.clock.pump([1] * 40)
        before = self.on(7)
        self.site.clock.pump([1] * 30)
        self.assertGreaterEqual(self.on(7) - before, 2)

    def test_flood_of_solicitations(self) -> None:
        """However many ask, at most one advertisement leaves in three seconds, on that interface only."""
        self.site.clock.pump([1] * 40)
        before, others = self.on(7), self.on(8)
        for _ in range(100):
            self.solicit()
            self.site.clock.advance(0.06)
        self.assertEqual((self.on(7) - before, self.on(8) - others), (2, 0))

    def test_solicitations_that_do_not_count(self) -> None:
        """A malformed one, and one from an interface that is not served, are passed over."""
        self.site.clock.pump([1] * 40)
        before = len(self.site.adverts())
        self.solicit(_SOLICITATION + b"\1\0")
        self.solicit(interface=9)
        self.site.clock.advance(1)
        self.assertEqual(len(self.site.adverts()), before)

    def test_last_word(self) -> None:
        """At the stop hosts are told that this router goes; the prefix stays on the link, and the socket is closed."""
        self.site.clock.advance(0)
        self.site.linking.stopService()
        index, last = self.site.adverts()[-1]
        self.assertEqual((index, last.lifetime_s, last.rdnss_s, last.prefixes[0].valid_s), (8, 0, 0, 7200))
        self.assertTrue(self.site.host.ports[-1].stopped)
        self.site.linking.startService()

    def test_exchanged_prefix(self) -> None:
        """The new prefix is advertised beside the old one, which is deprecated; this node's address likewise."""
        self.site.clock.pump([1] * 40)
        self.site.prefixes.exchange(Delegation(NEW))
        self.site.clock.advance(3)
        lifetimes = {each.prefix.subnet_of(NEW): each.preferred_s for each in self.site.adverts()[-1][1].prefixes}
        self.assertEqual(lifetimes, {True: 3600, False: 0})
        own = {IPv6Address(text.split("/")[0]) in OLD: preferred for (_, text), (preferred, _) in self.site.host.addresses.items()}
        self.assertEqual(own, {True: 0, False: 3600})

    def test_time_is_over(self) -> None:
        """When the time of the prefix is over without an exchange, hosts hear of it within fifteen seconds."""
        self.site.prefixes.exchange(Delegation(OLD, 100.0, 1000.0))
        self.site.clock.pump([1] * 95)
        before = self.on(7)
        self.site.clock.pump([1] * 21)
        self.assertEqual(self.on(7), before + 1)
        self.assertEqual([each.preferred_s for each in self.site.adverts()[-1][1].prefixes], [0])

    def test_interface_that_comes_and_goes(self) -> None:
        """An interface that is not there is looked for; one that comes back under another index is served as a new one."""
        self.site.clock.pump([1] * 40)
        del self.site.datagrams.interfaces["lan0"]
        self.site.clock.advance(15)
        before = self.on(7)
        self.site.clock.pump([60] * 15)
        self.assertEqual(self.on(7), before)
        self.site.datagrams.interfaces["lan0"] = 17
        self.site.clock.advance(15)
        self.site.clock.advance(0)
        self.assertEqual(self.on(17), 1)
        self.assertIn(17, {index for index, _ in self.site.host.addresses})

    def test_address_that_cannot_be_set(self) -> None:
        """It is counted and tried again; devices are served all the same."""
        self.site.host.addresses.clear()
        self.site.host.fault = OSError(1, "Operation not permitted")
        self.site.clock.advance(15)
        self.site.host.fault = None
        self.site.clock.advance(15)
        self.assertEqual(len(self.site.host.addresses), 2)

    def test_new_bootstrap_service(self) -> None:
        """A change of the bootstrap service is noticed although the prefixes stay."""
        told: list[None] = []
        self.site.linking._on_moved = lambda: told.append(None)
        self.site.prefixes.exchange(*self.site.prefixes.delegations)
        self.assertEqual(told, [])
        self.site.bootstrap = Bootstrap("coap://elsewhere")
        self.site.prefixes.exchange(*self.site.prefixes.delegations)
        self.assertEqual(len(told), 1)
