"""The servers' port under load: what comes together is committed together."""

from __future__ import annotations

from ipaddress import IPv6Network

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.drivers.serving import MOST_GATHERED, Serving
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.model.errors import TooLarge
from m2mapp.tree.unit import Change, Unit
from tests.unit.dhcpv6.parts import OWN, Site, client_message, prefixes_in


class GatheringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.serving = self.site.service.serving
        self.serving.gather_s = Serving.gather_s
        self.units: list[int] = []
        commit = self.site.committer.commit

        def counted(unit: Unit) -> Deferred[tuple[Change, ...]]:
            self.units.append(len(unit.changes))
            return fail(TooLarge("resources", 1, "resources in the tree")) if len(unit.changes) > self.most else commit(unit)

        self.most = 1_000
        self.site.committer.commit = counted  # type: ignore[method-assign]  # what is committed together is counted

    def request(self, count: int, first: int = 0) -> None:
        """So many clients ask at once."""
        for number in range(first, first + count):
            self.site.receive(client_message(T.REQUEST, o.IaPd(1), duid=b"\0\3\0\1%04d" % number, server=OWN))

    def test_together(self) -> None:
        """The first after a pause does not wait; what follows shares the next commit, and no reply leaves before it."""
        self.request(10)
        self.assertEqual((self.units, len(self.site.sent)), ([1], 1))
        self.site.clock.advance(Serving.gather_s)
        self.assertEqual((self.units, len(self.site.sent), len(self.site.names())), ([1, 9], 10, 10))
        self.site.clock.advance(Serving.gather_s)
        self.request(1, 10)
        self.assertEqual(self.units, [1, 9, 1])
        self.site.service.stopService()

    def test_many(self) -> None:
        """So many as make a large unit do not wait for more."""
        self.request(1 + MOST_GATHERED)
        self.assertEqual((self.units, len(self.site.sent)), ([1, MOST_GATHERED], 1 + MOST_GATHERED))
        self.site.service.stopService()

    def test_not_together(self) -> None:
        """Where the tree has room for some only, these get it."""
        self.most = 1
        self.request(4)
        self.site.clock.advance(Serving.gather_s)
        self.assertEqual((self.units, len(self.site.sent)), ([1, 3, 1, 1, 1], 4))
        self.site.service.stopService()

    def test_twice_in_one_unit(self) -> None:
        """A client that asks for two different prefixes at once is told one, twice: both replies are of what is kept."""
        self.request(1)
        for prefix in ("2001:db8:1ab:cd00::/56", "2001:db8:1ab:ce00::/56"):
            self.site.receive(client_message(T.REQUEST, o.IaPd(1, 0, 0, (o.IaPrefix(IPv6Network(prefix), 0, 0),)), server=OWN))
        self.site.clock.advance(Serving.gather_s)
        told = [prefixes_in(reply)[0][0] for reply, _ in self.site.sent[1:] if isinstance(reply, Message)]
        self.assertEqual(told, ["2001:db8:1ab:cd00::/56"] * 2)
        self.assertEqual(len(self.site.bindings), 2)
        self.site.service.stopService()

    def test_given_back_at_once(self) -> None:
        """What is given back before it was committed is committed first: nothing of it is left, and it is free."""
        self.request(1)
        prefix = IPv6Network("2001:db8:1ab:cd00::/56")
        ia = o.IaPd(1, 0, 0, (o.IaPrefix(prefix, 0, 0),))
        for kind in (T.REQUEST, T.RELEASE):
            self.site.receive(client_message(kind, ia, server=OWN))
        self.assertEqual((self.units, len(self.site.sent), len(self.site.names()), len(self.site.bindings)), ([1, 1, 1], 3, 1, 1))
        self.site.receive(client_message(T.REQUEST, ia, duid=b"\0\3\0\1other", server=OWN))
        self.site.clock.advance(Serving.gather_s)
        reply = self.site.sent[-1][0]
        assert isinstance(reply, Message)
        self.assertEqual(prefixes_in(reply)[0][0], str(prefix))
        self.site.service.stopService()

    def test_stopped(self) -> None:
        """What was gathered when the service stops is promised to nobody; nothing is pending."""
        self.request(4)
        self.site.service.stopService()
        self.assertEqual((self.units, self.site.clock.getDelayedCalls(), self.serving._under_way), ([1], [], 0))
