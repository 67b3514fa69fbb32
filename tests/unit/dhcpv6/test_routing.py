"""The routes of DHCPv6: unreachable for what the uplink has, to its router for what was delegated."""

from __future__ import annotations

from ipaddress import IPv6Network

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.client import Item, Lease
from m2mapp.dhcpv6.drivers.routing import Routes, RoutingNode, ToRouters, Unreachable
from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.uplink import UPLINK_TYPE, lease_changes
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import Route
from m2mapp.tree.unit import Unit
from tests.unit.dhcpv6.parts import INTERFACE, OWN, Site, client_message, prefixes_in
from tests.unit.fakes import FakeHost, build_tree

_A, _B = IPv6Network("2001:db8:a::/56"), IPv6Network("2001:db8:b::/56")


class _SlowHost(FakeHost):
    """A host that sets a route when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Route, int]] = []
        self.waiting: list[Deferred[None]] = []

    def set_route(self, route: Route, valid_s: int) -> Deferred[None]:
        self.asked.append((route, valid_s))
        self.waiting.append(Deferred())
        return self.waiting[-1]


class RoutesTests(SynchronousTestCase):
    def test_one_at_a_time(self) -> None:
        """While one is being set the last wish for each of the others is what counts."""
        host = _SlowHost()
        routes = Routes(host, "test", Metrics())
        first, second = Route(_A), Route(_B)
        routes.want(first, 1)
        routes.want(second, 2)
        routes.drop(second)
        routes.want(second, 3)
        idle = routes.idle()
        host.waiting[0].callback(None)
        self.assertEqual(host.asked, [(first, 1), (second, 3)])
        self.assertNoResult(idle)
        host.waiting[1].callback(None)
        self.successResultOf(idle)
        self.successResultOf(routes.idle())

    def test_refused(self) -> None:
        """A host that refuses is counted; what comes after is tried all the same. Something unforeseen is logged."""
        host, metrics = FakeHost(), Metrics()
        routes = Routes(host, "test", metrics)
        host.fault = OSError(1, "Operation not permitted")
        routes.want(Route(_A), 1)
        host.fault = None
        routes.want(Route(_B), 1)
        self.assertEqual((host.routes, metrics.counter("m2mapp_dhcpv6_routes_failed_total", "", role="test").value), ({Route(_B): 1}, 1))
        slow = _SlowHost()
        Routes(slow, "test", metrics).want(Route(_A), 1)
        slow.waiting[0].errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class UnreachableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.built = build_tree([UPLINK_TYPE])
        self.clock, self.host = Clock(), FakeHost()
        self.lease: Lease | None = None
        self.start()

    def start(self) -> None:
        node = RoutingNode(self.clock, self.built.tree, self.built.clock, Site().datagrams, self.host)
        self.service = Unreachable(node, lambda: self.lease, self.listen, Metrics())
        self.service.startService()

    def listen(self, on_change: object) -> None:
        self.on_change = on_change

    def has(self, *prefixes: IPv6Network) -> None:
        """The uplink has these from now on, and the tree says so."""
        items = tuple(Item(prefix, 600, 1200, self.clock.seconds()) for prefix in prefixes)
        self.lease = Lease(OWN, items, 300, 480, self.clock.seconds()) if items else None
        before = list(self.built.tree.children(("prefixes",)))
        changes = lease_changes(self.lease, before, self.clock.seconds(), self.built.clock.now_ms())
        self.built.committer.commit(Unit(changes))
        assert callable(self.on_change)
        self.on_change()

    def test_follows(self) -> None:
        """As prefixes come and go; after a stop those that are kept stay."""
        self.has(_A)
        self.assertEqual(self.host.routes, {Route(_A): INFINITY})
        self.has(_A, _B)
        self.has(_B)
        self.assertEqual(self.host.routes, {Route(_B): INFINITY})
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.host.routes, {Route(_B): INFINITY})

    def test_given_back(self) -> None:
        """A release removes it before the stop is done."""
        self.has(_A)
        self.has()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.host.routes, {})

    def test_killed(self) -> None:
        """After a kill: what is still valid stays, what was over meanwhile is removed, although the system would keep it for ever."""
        self.has(_A)
        self.start()
        self.assertEqual(self.host.routes, {Route(_A): INFINITY})
        self.built.clock.advance(1_200_000)
        self.start()
        self.assertEqual(self.host.routes, {})


class ToRoutersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.addCleanup(self.site.service.stopService)
        self.host = FakeHost()
        self.start()

    def start(self) -> None:
        site = self.site
        node = RoutingNode(site.clock, site.tree, site.wall, site.datagrams, self.host)
        self.service = ToRouters(node, Metrics())
        self.service.startService()

    def test_follows(self) -> None:
        """A route to each router that has a prefix, renewed with it, gone with it; set anew at a start with what is left."""
        ((prefix, *_),) = prefixes_in(self.site.ask(client_message(T.REQUEST, o.IaPd(1), server=OWN)))
        route = Route(IPv6Network(prefix), "fe80::2", INTERFACE)
        self.assertEqual(self.host.routes, {route: 7200})
        self.service.stopService()
        self.host.routes.clear()
        self.site.wall.advance(200_000)
        self.start()
        self.assertEqual(self.host.routes, {route: 7000})
        held = o.IaPd(1, 0, 0, (o.IaPrefix(route.prefix, 0, 0),))
        self.site.receive(client_message(T.RENEW, held, server=OWN), ("fe80::3", 546, 0, INTERFACE))
        moved = Route(route.prefix, "fe80::3", INTERFACE)
        self.assertEqual(self.host.routes, {moved: 7200})
        self.site.ask(client_message(T.RELEASE, held, server=OWN))
        self.assertEqual(self.host.routes, {})

    def test_interface_that_was_down(self) -> None:
        """It has lost its routes: the first is set alone while that is of no use, and all when it is back."""
        self.addCleanup(self.service.stopService)
        for duid in (b"\0\4one", b"\0\4two"):
            self.site.ask(client_message(T.REQUEST, o.IaPd(1), server=OWN, duid=duid))
        routes = dict(self.host.routes)
        self.assertEqual(len(routes), 2)
        self.host.routes.clear()
        self.host.fault = OSError(100, "Network is down")
        self.site.clock.advance(5)
        self.host.fault = None
        self.site.clock.advance(5)
        self.assertEqual(len(self.host.routes), 1)
        self.site.clock.advance(5)
        self.assertEqual(self.host.routes, routes)
        self.host.routes.clear()
        self.successResultOf(self.service.stopService())
        self.site.clock.advance(30)
        self.assertEqual(self.host.routes, {})

    def test_interface_that_is_gone(self) -> None:
        """Nothing is set where the interface is not there, nor for what is over."""
        self.site.ask(client_message(T.REQUEST, o.IaPd(1), server=OWN))
        self.service.stopService()
        for interfaces, seconds, there in (({}, 0, 0), ({"isp0": INTERFACE}, 7199, 1), ({"isp0": INTERFACE}, 1, 0)):
            self.site.datagrams.interfaces = dict(interfaces)
            self.site.wall.advance(seconds * 1000)
            self.host.routes.clear()
            self.start()
            self.assertEqual(len(self.host.routes), there)
            self.service.stopService()
