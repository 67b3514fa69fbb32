"""Pools of prefixes as clients meet them: what is kept for some, what is left for others, how long is looked for it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.binding import Client, Value
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.numbers import Status
from m2mapp.dhcpv6.pools import IsFree, Lifetimes, PrefixPool
from m2mapp.dhcpv6.server import MAX_BINDINGS_OF_DUID, Terms
from tests.unit.dhcpv6.parts import OWN, POOL, Site, client_message, prefixes_in, statuses_in

_HOUR = Lifetimes(1800, 3600)


def _ia(prefix: str | None = None, iaid: int = 1) -> o.IaPd:
    return o.IaPd(iaid, 0, 0, () if prefix is None else (o.IaPrefix(IPv6Network(prefix), 0, 0),))


class _CountingPool:
    """A pool of prefixes that counts how often something is looked for in it."""

    empty = False

    def __init__(self, inner: PrefixPool) -> None:
        self._inner, self.picks = inner, 0
        self.has, self.lifetimes, self.fixed = inner.has, inner.lifetimes, inner.fixed
        self.kept, self.is_for = inner.kept, inner.is_for

    def pick(self, client: Client, hint: Value | None, is_free: IsFree) -> Value | None:
        self.picks += 1
        return self._inner.pick(client, hint, is_free)


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.addCleanup(self.site.service.stopService)

    def given(self, duid: bytes = b"\0\3\0\1router") -> str:
        """The prefix that a Request gets."""
        return prefixes_in(self.site.ask(client_message(T.REQUEST, _ia(), duid=duid, server=OWN)))[0][0]

    def test_pool_is_exhausted(self) -> None:
        """With nothing left a client gets NoPrefixAvail in its IA, also in the Advertise; who has a prefix keeps it.

        That nothing is left is a warning until somebody gives something back.
        """
        site = Site(Terms(prefixes=PrefixPool(IPv6Network("2001:db8::/55"), 56, _HOUR)))
        self.addCleanup(site.service.stopService)
        for number in range(2):
            self.assertEqual(len(prefixes_in(site.ask(client_message(T.REQUEST, _ia(), duid=b"\0\3ab%d" % number, server=OWN)))), 1)
        for kind, server in ((T.SOLICIT, None), (T.REQUEST, OWN)):
            reply = site.ask(client_message(kind, _ia(), duid=b"\0\3abz", server=server))
            self.assertEqual((prefixes_in(reply), statuses_in(reply)), ([], [Status.NO_PREFIX_AVAIL]))
        self.assertEqual(len(prefixes_in(site.ask(client_message(T.RENEW, _ia(), duid=b"\0\3ab0", server=OWN)))), 1)
        self.assertEqual(site.service.warnings(), ["DHCPv6 on isp0: nothing is left to give"])
        ((held, *_),) = prefixes_in(site.ask(client_message(T.RENEW, _ia(), duid=b"\0\3ab1", server=OWN)))
        site.ask(client_message(T.RELEASE, _ia(held), duid=b"\0\3ab1", server=OWN))
        self.assertEqual(site.service.warnings(), [])
        self.assertEqual(len(prefixes_in(site.ask(client_message(T.REQUEST, _ia(), duid=b"\0\3abz", server=OWN)))), 1)

    def test_last_one(self) -> None:
        """Of the last prefix one IA of a Solicit is told, the others that nothing is left; another client still gets it."""
        pool = _CountingPool(PrefixPool(IPv6Network("2001:db8::/56"), 56, _HOUR))
        site = Site(Terms(prefixes=pool))
        self.addCleanup(site.service.stopService)
        reply = site.ask(client_message(T.SOLICIT, *(_ia(iaid=iaid) for iaid in range(8))))
        self.assertEqual((len(prefixes_in(reply)), statuses_in(reply)), (1, [Status.NO_PREFIX_AVAIL] * 7))
        self.assertEqual(pool.picks, 2)
        self.assertEqual(len(prefixes_in(site.ask(client_message(T.REQUEST, _ia(), duid=b"\0\3\0\1other", server=OWN)))), 1)

    def test_no_more_is_offered_than_given(self) -> None:
        """A client that solicits for a thousand is offered as many as it may have."""
        reply = self.site.ask(client_message(T.SOLICIT, *(_ia(iaid=iaid) for iaid in range(2 * MAX_BINDINGS_OF_DUID))))
        self.assertEqual(len(set(prefixes_in(reply))), MAX_BINDINGS_OF_DUID)

    def test_static(self) -> None:
        """A reserved prefix goes to its DUID, and to nobody else however they ask."""
        kept = IPv6Network("2001:db8:1ab:cd00::/56")
        pool = PrefixPool(IPv6Network("2001:db8:100::/40"), 56, _HOUR, ((b"\0\3\0\1lucky", kept),))
        site = Site(Terms(prefixes=pool))
        self.addCleanup(site.service.stopService)
        other = prefixes_in(site.ask(client_message(T.REQUEST, _ia(str(kept)), server=OWN)))
        self.assertNotEqual(other[0][0], str(kept))
        offered = site.ask(client_message(T.SOLICIT, _ia(iaid=1), _ia(iaid=2), duid=b"\0\3\0\1lucky"))
        self.assertEqual([prefix == str(kept) for prefix, *_ in prefixes_in(offered)], [True, False])
        own = site.ask(client_message(T.REQUEST, _ia(), duid=b"\0\3\0\1lucky", server=OWN))
        self.assertEqual(prefixes_in(own)[0][0], str(kept))

    def test_static_of_who_has_another(self) -> None:
        """A prefix that the file keeps for a DUID since yesterday: it gets it when it renews, and who has it until then gets another."""
        lucky = b"\0\3\0\1lucky"
        had, first = self.given(lucky), self.given()
        kept = ((lucky, IPv6Network(first)),)
        self.site.terms = replace(self.site.terms, prefixes=replace(POOL, reserved=kept))
        self.site.restart()
        self.assertEqual(prefixes_in(self.site.ask(client_message(T.RENEW, _ia(had), duid=lucky, server=OWN)))[0][0], had)
        moved = prefixes_in(self.site.ask(client_message(T.RENEW, _ia(first), server=OWN)))
        self.assertEqual((moved[0][1:], moved[1:]), ((3600, 7200), [(first, 0, 0)]))
        given = prefixes_in(self.site.ask(client_message(T.RENEW, _ia(had), duid=lucky, server=OWN)))
        self.assertEqual([prefix for prefix, *_ in given], [first, had])

    def test_looked_for_once(self) -> None:
        """In a pool in which nothing is left nothing is looked for, however many ask for however much, until something is given back."""
        pool = _CountingPool(PrefixPool(IPv6Network("2001:db8::/55"), 56, _HOUR))
        site = Site(Terms(prefixes=pool))
        self.addCleanup(site.service.stopService)
        ((held, *_), _) = prefixes_in(site.ask(client_message(T.REQUEST, _ia(iaid=1), _ia(iaid=2), server=OWN)))
        pool.picks = 0
        for _ in range(3):
            reply = site.ask(client_message(T.SOLICIT, *(_ia(iaid=iaid) for iaid in range(32)), duid=b"\0\3\0\1greedy"))
            self.assertEqual((prefixes_in(reply), len(statuses_in(reply)), pool.picks), ([], 32, 1))
        site.ask(client_message(T.RELEASE, _ia(held), server=OWN))
        self.assertEqual(prefixes_in(site.ask(client_message(T.SOLICIT, _ia(), duid=b"\0\3\0\1greedy")))[0][0], held)
