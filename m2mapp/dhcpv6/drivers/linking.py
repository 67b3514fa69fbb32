"""The downlink's interfaces: this node's own address in each prefix, and router advertisements, as prefixes come, change and go.

Responsible for carrying out what `links` says. Not responsible for DHCPv6 itself (`serving`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.dhcpv6.advert import (
    ROUTER_SOLICITATION,
    Advertisement,
    PrefixInformation,
    build_advertisement,
    why_solicitation_counts_not,
)
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.downlink import Upstream
from m2mapp.dhcpv6.drivers.advertising import LIFETIME_S, Advertising
from m2mapp.dhcpv6.links import Links
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagrams, IHost, IIcmpv6Port

TEND_S: Final = 15.0
"""How often the interfaces are looked at: one that was down has lost its addresses, and hosts on it heard nothing."""
_ALL_NODES, _ALL_ROUTERS = "ff02::1", "ff02::2"

_log = Logger(namespace="m2mapp.dhcpv6")


@dataclass(frozen=True, slots=True)
class LinkNode:
    """What the downlink needs of the node around it."""

    datagrams: IDatagrams
    host: IHost
    rng: Random


@dataclass(slots=True)
class _Served:
    """One interface that is there."""

    name: str
    index: int
    advertising: Advertising
    addresses: set[str] = field(default_factory=set)


class Linking(Service):
    """Keeps the interfaces of `links` as they should be. `on_moved` is called when devices should ask again."""

    name = "dhcpv6.downlink"

    def __init__(
        self, reactor: IReactorTime, node: LinkNode, links: Links, upstream: Upstream, on_moved: Callable[[], None], metrics: Metrics
    ) -> None:
        self._reactor, self._node, self.links, self._upstream, self._on_moved = reactor, node, links, upstream, on_moved
        self._served: dict[str, _Served] = {}
        self._port: IIcmpv6Port | None = None
        self._call: IDelayedCall | None = None
        self._told: set[str] = set()
        self._bootstrap = Bootstrap()
        self._solicited = metrics.counter("m2mapp_downlink_solicitations_total", "Router solicitations that came in.")
        self._advertised = metrics.counter("m2mapp_downlink_advertisements_total", "Router advertisements sent.")
        self._failed = metrics.counter("m2mapp_downlink_addresses_failed_total", "Addresses of this node that could not be set.")
        metrics.gauge("m2mapp_downlink_links", "Downlink interfaces that are there and have a prefix.", self._usable)

    def startService(self) -> None:
        """Set the addresses and advertise. Raises `OSError` where the process may not open the socket."""
        super().startService()
        self._port = self._node.host.open_icmpv6((ROUTER_SOLICITATION,), self._heard)
        self._upstream.listen(self._changed)
        self._bootstrap = self._upstream.bootstrap()
        now = self._reactor.seconds()
        self.links.renew(self._upstream.prefixes(now), now)
        self._tend()

    def stopService(self) -> None:
        """Tell the hosts that this router goes (RFC 4861, section 6.2.5). Its addresses stay for as long as they are valid."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for served in self._served.values():
            served.advertising.stop()
            self._advertise(served.name, ends=True)
        self._served.clear()
        self._told.clear()
        port, self._port = self._port, None
        if port is not None:
            port.stop()

    # What comes in.

    def _heard(self, data: bytes, source: str, interface: int) -> None:
        if why_solicitation_counts_not(data, source) is not None:
            return
        for served in self._served.values():
            if served.index == interface:
                self._solicited.add()
                served.advertising.solicited()

    def _changed(self) -> None:
        """Prefixes, or something else of what is handed on."""
        if not self.running:
            return
        now, bootstrap = self._reactor.seconds(), self._upstream.bootstrap()
        moved = self.links.renew(self._upstream.prefixes(now), now) or bootstrap != self._bootstrap
        self._bootstrap = bootstrap
        self._set_addresses()
        self._tell(moved=moved)

    # What is to be done.

    def _tend(self) -> None:
        self._call = self._reactor.callLater(TEND_S, self._tend)
        now = self._reactor.seconds()
        over = self.links.renew(self._upstream.prefixes(now), now)
        for name in self.links.names:
            self._look_at(name)
        self._set_addresses()
        if over:  # The time of a prefix is over.
            self._tell(moved=True)

    def _tell(self, *, moved: bool) -> None:
        """Hosts hear of what has changed; `moved`: devices should ask again."""
        for served in self._served.values():
            served.advertising.changed()
        if moved:
            self._on_moved()

    def _look_at(self, name: str) -> None:
        """Begin with an interface that has come, or has come back as another; forget one that went."""
        served = self._served.get(name)
        try:
            index = self._node.datagrams.interface_index(name)
            if self._port is not None:
                self._port.join(_ALL_ROUTERS, index)
        except OSError as error:
            if served is not None:
                served.advertising.stop()
                del self._served[name]
            self._tell_once(name, f"is not advertised on: {error}")
            return
        self._told.discard(name)
        if served is not None and served.index == index:
            return
        if served is not None:
            served.advertising.stop()
        advertising = Advertising(self._reactor, self._node.rng, lambda: self._advertise(name), lambda: self._lasts_s(name))
        self._served[name] = _Served(name, index, advertising)
        advertising.start()

    def _set_addresses(self) -> None:
        now = self._reactor.seconds()
        for name, served in self._served.items():
            own = self.links.link(name, now).own()
            if not own:
                self._tell_once(name, "has no prefix")
            for address, left in own:
                done: Deferred[None] = maybeDeferred(self._node.host.set_address, served.index, address, left.preferred_s, left.valid_s)
                done.addErrback(self._not_set, name, str(address))

    def _not_set(self, failure: Failure, name: str, address: str) -> None:
        self._failed.add()
        if failure.check(OSError) is None:
            _log.failure("{address} was not set on {name}", failure, address=address, name=name)
        else:
            self._tell_once(f"{name} {address}", f"was not set: {failure.getErrorMessage()}")

    def _advertise(self, name: str, *, ends: bool = False) -> None:
        served = self._served.get(name)
        if served is None or self._port is None:
            return
        if self._port.send(build_advertisement(self._advertisement(name, ends=ends)), _ALL_NODES, served.index):
            self._advertised.add()

    def _lasts_s(self, name: str) -> float:
        """For how long hosts know the prefixes that they should use, once they were told of them."""
        link = self.links.link(name, self._reactor.seconds())
        return min((pool.given.valid_s for pool in link.pools if pool.given.preferred_s), default=LIFETIME_S)

    def _advertisement(self, name: str, *, ends: bool) -> Advertisement:
        """What hosts on an interface are told.

        Only a host that forwards (RFC 4861, section 6.2.2) and has a prefix (RFC 7084, G-4) is a way to elsewhere.
        """
        link = self.links.link(name, self._reactor.seconds())
        routes = any(pool.given.preferred_s for pool in link.pools) and self._node.host.forwards(name)
        lifetime_s = LIFETIME_S if routes and not ends else 0
        try:
            link_layer = self._node.host.link_layer_address(name)
        except OSError:
            link_layer = b""
        prefixes = tuple(PrefixInformation(pool.prefix, pool.given.valid_s, pool.given.preferred_s) for pool in link.pools)
        return Advertisement(lifetime_s, prefixes, link_layer, self._upstream.name_servers(), 0 if ends else LIFETIME_S)

    def _tell_once(self, name: str, what: str) -> None:
        if name not in self._told:
            self._told.add(name)
            _log.warn("{name} {what}", name=name, what=what)

    def _usable(self) -> int:
        now = self._reactor.seconds()
        return sum(bool(self.links.link(name, now).pools) for name in self._served)
