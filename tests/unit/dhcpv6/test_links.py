"""Which /64 each link has, and what is left of it."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.binding import Client
from m2mapp.dhcpv6.links import MOST_GONE, Delegation, Links, subnets
from m2mapp.dhcpv6.pools import Lifetimes

_PREFIX = IPv6Network("2001:db8:a::/48")
_OTHER = IPv6Network("2001:db8:b::/48")
_MOST = Lifetimes(3600, 7200)
_CLIENT = Client(b"\0\3\0\1device", 1, for_prefix=False)


def _links(*delegations: Delegation, names: tuple[str, ...] = ("lan0",), now: float = 0.0) -> Links:
    links = Links(names, b"secret", _MOST)
    links.renew(delegations, now)
    return links


class SubnetTests(SynchronousTestCase):
    def test_stable(self) -> None:
        """An interface keeps its /64 when others come and go; no two have the same."""
        alone = subnets(_PREFIX, ["lan1"])
        among = subnets(_PREFIX, [f"lan{number}" for number in range(1, 50)])
        self.assertEqual(among["lan1"], alone["lan1"])
        self.assertEqual((len(set(among.values())), {subnet.prefixlen for subnet in among.values()}), (49, {64}))
        self.assertTrue(all(subnet.subnet_of(_PREFIX) for subnet in among.values()))

    def test_none_left(self) -> None:
        """A /63 has two, a /64 one, a /65 none: the interfaces that are named first have them."""
        names = ["a", "b", "c"]
        self.assertEqual(sorted(subnets(IPv6Network("2001:db8::/63"), names)), ["a", "b"])
        self.assertEqual(subnets(IPv6Network("2001:db8::/64"), names), {"a": IPv6Network("2001:db8::/64")})
        self.assertEqual(subnets(IPv6Network("2001:db8::/65"), names), {})


class LinkTests(SynchronousTestCase):
    def test_lifetimes_of_the_prefix(self) -> None:
        """An address never outlasts its prefix, and is given no more than what is configured."""
        links = _links(Delegation(_PREFIX, 1000.5, 5000.0))
        pool = links.link("lan0", 0.0).pools[0]
        self.assertEqual(pool.given, Lifetimes(1000, 5000))
        self.assertEqual(links.link("lan0", 1500.0).pools[0].given, Lifetimes(0, 3500))
        self.assertEqual(links.link("lan0", 5000.0).pools, ())
        self.assertEqual(_links(Delegation(_PREFIX)).link("lan0", 0.0).pools[0].given, _MOST)

    def test_own_address(self) -> None:
        """This node has the first address of the /64, which no device gets."""
        link = _links(Delegation(_PREFIX)).link("lan0", 0.0)
        ((own, lifetimes),) = link.own()
        self.assertEqual((own.ip, own.network, lifetimes), (link.pools[0].prefix[1], link.pools[0].prefix, _MOST))
        self.assertIsNone(link.fixed(own.ip))

    def test_stable_address(self) -> None:
        """A client gets the same address again, another on another link, and another where the first is taken."""
        links = _links(Delegation(_PREFIX), names=("lan0", "lan1"))
        first = links.link("lan0", 0.0).pick(_CLIENT, None, lambda _: True)
        assert first is not None
        self.assertEqual(links.link("lan0", 99.0).pick(_CLIENT, None, lambda _: True), first)
        elsewhere = links.link("lan1", 0.0).pick(_CLIENT, None, lambda _: True)
        second = links.link("lan0", 0.0).pick(_CLIENT, None, lambda value: value != first)
        self.assertEqual(len({first, elsewhere, second}), 3)
        self.assertEqual((links.link("lan0", 0.0).has(second or first), links.link("lan1", 0.0).has(first)), (True, False))

    def test_exchanged(self) -> None:
        """A prefix that went is deprecated, and forgotten when its time is over; nothing is given of it."""
        links = _links(Delegation(_PREFIX, 1000.0, 5000.0))
        self.assertTrue(links.renew([Delegation(_OTHER)], 100.0))
        new, old = links.link("lan0", 100.0).pools
        self.assertTrue(new.prefix.subnet_of(_OTHER))
        self.assertEqual((old.prefix.subnet_of(_PREFIX), old.given), (True, Lifetimes(0, 4900)))
        picked = links.link("lan0", 100.0).pick(_CLIENT, None, lambda _: True)
        self.assertTrue(new.has(picked or old.prefix[9]))
        self.assertFalse(links.renew([Delegation(_OTHER)], 200.0))
        links.renew([Delegation(_OTHER)], 5001.0)
        self.assertEqual(len(links.link("lan0", 5001.0).pools), 1)

    def test_time_is_over(self) -> None:
        """That a prefix is not preferred any more is told once, though nobody exchanged it."""
        links = _links(Delegation(_PREFIX, 1000.0, 5000.0))
        told = [links.renew([Delegation(_PREFIX, 1000.0, 5000.0)], now) for now in (999.0, 1000.0, 1001.0)]
        self.assertEqual(told, [False, True, False])

    def test_endless_prefix_exchanged(self) -> None:
        """A prefix without end that went is told as deprecated for two hours at most."""
        links = _links(Delegation(_PREFIX))
        links.renew([], 10.0)
        self.assertEqual(links.link("lan0", 10.0).pools[0].given, Lifetimes(0, 7200))
        self.assertEqual(links.link("lan0", 7210.0).pools, ())

    def test_exchanged_again_and_again(self) -> None:
        """Of many prefixes that went the latest are told, so that what is told stays small."""
        links = _links()
        prefixes = [IPv6Network(f"2001:db8:{number:x}::/48") for number in range(3 * MOST_GONE)]
        for second, prefix in enumerate(prefixes):
            links.renew([Delegation(prefix)], float(second))
        links.renew([Delegation(prefixes[-1])], 100.0)
        told = {pool.prefix.supernet(new_prefix=48): pool.given.preferred_s > 0 for pool in links.link("lan0", 100.0).pools}
        self.assertEqual(told, {prefix: prefix == prefixes[-1] for prefix in prefixes[-1 - MOST_GONE :]})

    def test_back_again(self) -> None:
        """A prefix that comes back is preferred again, and so are its addresses."""
        links = _links(Delegation(_PREFIX))
        links.renew([], 10.0)
        self.assertTrue(links.renew([Delegation(_PREFIX)], 20.0))
        self.assertEqual(links.link("lan0", 20.0).pools[0].given, _MOST)

    def test_reserved_after_renumbering(self) -> None:
        """A reserved address keeps its interface identifier in the new prefix."""
        links = _links(Delegation(_PREFIX))
        kept = links.link("lan0", 0.0).pools[0].prefix[0xD1]
        self.assertEqual(links.link("lan0", 0.0).fixed(kept), kept)
        links.renew([Delegation(_OTHER)], 1.0)
        self.assertEqual(links.link("lan0", 1.0).fixed(kept), links.link("lan0", 1.0).pools[0].prefix[0xD1])

    def test_behind_a_relay_agent(self) -> None:
        """The relay agent's address names the /64; its own is not given; one that is not of a prefix names none."""
        links = _links(Delegation(_PREFIX))
        relay = IPv6Address("2001:db8:a:77::1")
        link = links.behind(relay, 0.0)
        self.assertEqual([pool.prefix for pool in link.pools], [IPv6Network("2001:db8:a:77::/64")])
        self.assertIsNone(link.fixed(relay))
        self.assertEqual(links.behind(IPv6Address("2001:db8:c::1"), 0.0).pools, ())
