"""Routes that follow from DHCPv6: what the uplink was given and no link has is unreachable; what was delegated is reached by its router.

Responsible for which routes there are and for how long. How the host makes them is in `net.host`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Network
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.dhcpv6.binding import PREFIX, PREFIXES, State, binding_of
from m2mapp.dhcpv6.client import Lease
from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.dhcpv6.uplink import UPLINK_PREFIX, kept_lease
from m2mapp.model.interfaces import IClock
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagrams, IHost, Route
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Resource
from m2mapp.tree.watch import Watch

LOOK_AGAIN_S: Final = 5.0
"""How often it is seen whether the routes to routers are still there."""

_log = Logger(namespace="m2mapp.dhcpv6")


class Routes:
    """Makes the host's routes what is wanted: one at a time, and of several wishes for a route the last."""

    def __init__(self, host: IHost, role: str, metrics: Metrics) -> None:
        self._host = host
        self._wanted: dict[Route, int | None] = {}
        self._busy = False
        self._idle: list[Deferred[None]] = []
        self._told: set[str] = set()
        of = {"role": role}
        self._failed = metrics.counter("m2mapp_dhcpv6_routes_failed_total", "Routes that could not be set or removed.", **of)

    def want(self, route: Route, valid_s: int) -> None:
        """The route shall be there, for so long."""
        self._wish(route, valid_s)

    def drop(self, route: Route) -> None:
        """It shall not be there."""
        self._wish(route, None)

    def idle(self) -> Deferred[None]:
        """Fires when all is as it is wanted, or could not be made so."""
        if not self._busy:
            return succeed(None)
        self._idle.append(Deferred())
        return self._idle[-1]

    def _wish(self, route: Route, valid_s: int | None) -> None:
        self._wanted.pop(route, None)  # To the end: of two routers for one prefix the later one counts.
        self._wanted[route] = valid_s
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = bool(self._wanted)
        if not self._busy:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)
            return
        route = next(iter(self._wanted))
        valid_s = self._wanted.pop(route)
        host = self._host
        done = maybeDeferred(host.remove_route, route) if valid_s is None else maybeDeferred(host.set_route, route, valid_s)
        done.addErrback(self._not_done, route).addCallback(lambda _: self._next())

    def _not_done(self, failure: Failure, route: Route) -> None:
        self._failed.add()
        if failure.check(OSError) is None:
            _log.failure("the route to {prefix} was not set", failure, prefix=route.prefix)
        elif failure.getErrorMessage() not in self._told:  # Few different ones: the reason is most often the same for all.
            self._told.add(failure.getErrorMessage())
            _log.warn("the route to {prefix} was not set: {why}", prefix=route.prefix, why=failure.getErrorMessage())


def _not_seen(failure: Failure) -> None:
    if failure.check(OSError) is None:
        _log.failure("the routes to routers were not looked at", failure)


@dataclass(frozen=True, slots=True)
class RoutingNode:
    """What routing needs of the node around it."""

    reactor: IReactorTime
    tree: Tree
    clock: IClock
    datagrams: IDatagrams
    host: IHost


class Unreachable(Service):
    """A packet for a part of a delegated prefix that is on no link is answered with an ICMPv6 error, not sent back upstream.

    RFC 7084, WPD-5. The route is there for as long as the prefix is the uplink's, also while this program is not running: it is removed
    when the prefix is released, taken back, or over. `lease` is what the uplink has; `listen` takes what is called when that changes.
    """

    name = "dhcpv6.uplink routes"

    def __init__(
        self, node: RoutingNode, lease: Callable[[], Lease | None], listen: Callable[[Callable[[], None]], None], metrics: Metrics
    ) -> None:
        self._node = node
        self._routes = Routes(node.host, "uplink", metrics)
        self._there: frozenset[IPv6Network] = frozenset()
        listen(lambda: self._follow(lease()))

    def startService(self) -> None:
        """Take over what the tree says that the uplink had; what was over meanwhile is removed. Starts before the uplink."""
        super().startService()
        found = [one for one in self._node.tree.children(PREFIXES) if one.type == UPLINK_PREFIX]
        self._there = frozenset(IPv6Network(str(one.attributes["prefix"])) for one in found)
        self._follow(kept_lease(found, self._node.reactor.seconds(), self._node.clock.now_ms()))

    def stopService(self) -> Deferred[None]:
        """Fires when what was given back is removed. What is kept stays."""
        super().stopService()
        return self._routes.idle()

    def _follow(self, lease: Lease | None) -> None:
        prefixes = frozenset(item.value for item in (lease.items if lease is not None else ()) if isinstance(item.value, IPv6Network))
        for prefix in sorted(self._there - prefixes):
            self._routes.drop(Route(prefix))
        for prefix in sorted(prefixes):
            self._routes.want(Route(prefix), INFINITY)
        self._there = prefixes


class ToRouters(Service):
    """Each delegated prefix is reached by the router that has it (`routes` of `[dhcpv6.delegating]`), until it ends.

    An interface that goes down loses its routes without a word. So one of them is looked at now and then: where it is gone, all are set.
    """

    name = "dhcpv6.delegating routes"

    def __init__(self, node: RoutingNode, metrics: Metrics) -> None:
        self._node = node
        self._routes = Routes(node.host, "delegating", metrics)
        self._watch: Watch | None = None
        self._call: IDelayedCall | None = None
        self._were_gone = False

    def startService(self) -> None:
        """Set the routes to all who have a prefix."""
        super().startService()
        self._watch = self._node.tree.watch(PREFIXES, self._on_change, subtree=True)
        self._set_all()
        self._call = self._node.reactor.callLater(LOOK_AGAIN_S, self._look)

    def _set_all(self) -> None:
        for resource in self._node.tree.children(PREFIXES):
            self._set(resource)

    def stopService(self) -> Deferred[None]:
        """Follow no more. Routes stay: routers go on with their prefixes, and the system ends the routes with them."""
        super().stopService()
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        return self._routes.idle()

    def _look(self) -> None:
        """All are on one interface, that of the table, so any one of them tells of all."""
        self._call = self._node.reactor.callLater(LOOK_AGAIN_S, self._look)
        found = ((one, route) for one in self._node.tree.children(PREFIXES) for route in self._routes_of(one))
        first, route = next(found, (None, None))
        if first is not None and route is not None:
            seen: Deferred[bool] = maybeDeferred(self._node.host.follows, route)
            seen.addCallbacks(partial(self._seen, first), _not_seen)

    def _seen(self, first: Resource, there: bool) -> None:
        """One that was gone is set alone, until that was seen to help: the interface may still be down, and there may be thousands."""
        if self.running and there and self._were_gone:
            self._set_all()
        elif self.running and not there:
            self._set(first)
        self._were_gone = not there

    def _on_change(self, change: Change) -> None:
        before, after = self._routes_of(change.before), self._routes_of(change.after)
        for route in before:
            if route not in after:
                self._routes.drop(route)
        if change.after is not None:
            self._set(change.after)

    def _set(self, resource: Resource) -> None:
        for route in self._routes_of(resource):
            binding = binding_of(resource)
            gone_s = max(0, self._node.clock.now_ms() - binding.given_ms) // 1000
            left_s = INFINITY if binding.valid_s == INFINITY else binding.valid_s - gone_s
            if left_s > 0:
                self._routes.want(route, left_s)

    def _routes_of(self, resource: Resource | None) -> tuple[Route, ...]:
        """The route that a binding makes: one, or none where its interface is not there."""
        if resource is None or resource.type != PREFIX:
            return ()
        binding = binding_of(resource)
        if binding.state is not State.BOUND or not isinstance(binding.value, IPv6Network) or not binding.client_address:
            return ()
        try:
            index = self._node.datagrams.interface_index(binding.interface)
        except OSError:
            return ()
        return (Route(binding.value, binding.client_address, index),)
