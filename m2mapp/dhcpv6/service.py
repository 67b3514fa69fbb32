"""The DHCPv6 servers of one node: opens their port, joins on their interfaces, follows their bindings in the tree and ends them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path as FilePath
from random import Random
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.binding import LEASE, LEASES, PREFIX, PREFIXES, Binding, Bindings
from m2mapp.dhcpv6.bootstrap_options import LARGEST_CERTIFICATE, Bootstrap, BootstrapCodes
from m2mapp.dhcpv6.client import Chance, Client
from m2mapp.dhcpv6.client_messages import Wish
from m2mapp.dhcpv6.device import DeviceLink
from m2mapp.dhcpv6.downlink import Upstream, delegations_of, downlink_terms, handed_on, is_stale, lifetimes_of
from m2mapp.dhcpv6.drivers.device import AddressClient
from m2mapp.dhcpv6.drivers.hearing import Hearing
from m2mapp.dhcpv6.drivers.homenet import HomenetListening
from m2mapp.dhcpv6.drivers.linking import Linking, LinkNode
from m2mapp.dhcpv6.drivers.reconfiguring import Reconfiguring
from m2mapp.dhcpv6.drivers.routing import RoutingNode, Unreachable
from m2mapp.dhcpv6.drivers.serving import Serving
from m2mapp.dhcpv6.drivers.uplink import Uplink
from m2mapp.dhcpv6.history import Ending, all_ended
from m2mapp.dhcpv6.hncp import NODE_BYTES
from m2mapp.dhcpv6.homenet import Homenet
from m2mapp.dhcpv6.links import Links
from m2mapp.dhcpv6.numbers import (
    ALL_DHCP_RELAY_AGENTS_AND_SERVERS,
    ALL_DHCP_SERVERS,
    DNS_SERVERS,
    INFINITY,
    SERVER_PORT,
    SOL_MAX_RT,
    MessageType,
)
from m2mapp.dhcpv6.pools import Lifetimes, PrefixPool
from m2mapp.dhcpv6.reconfigure import ReconfigureKeys
from m2mapp.dhcpv6.server import Server, Terms
from m2mapp.dhcpv6.settings import Dhcpv6Settings
from m2mapp.dhcpv6.sources import Source, Sources
from m2mapp.formats.certificates import certificate_der
from m2mapp.model.errors import Fault, Malformed
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IClock
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagramPort
from m2mapp.tree.drivers.expiry import Expiry
from m2mapp.tree.lifetimes import Lifetimes as Ends
from m2mapp.tree.unit import Change, Remove, Resource, Unit
from m2mapp.tree.watch import Watch

LOOK_AGAIN_S: Final = 5.0
"""How often the interfaces are looked at: one that went and came back has another index, and nobody has joined on it."""
GRACE_S: Final = 60.0
"""So long after its valid lifetime a binding still stands: its client's clock and ours may differ."""

_GROUPS: Final = (ALL_DHCP_RELAY_AGENTS_AND_SERVERS, ALL_DHCP_SERVERS)

_log = Logger(namespace="m2mapp.dhcpv6")


def dhcpv6_uplink(reactor: IReactorTime, node: Dhcpv6Node, duid: bytes, settings: Dhcpv6Settings, rng: Random, metrics: Metrics) -> Uplink:
    """The requesting router that the settings name. Raises `LookupError` where they name none."""
    uplink = settings.uplink
    if uplink is None:
        raise LookupError("[dhcpv6.uplink]")
    hints = () if uplink.hint is None else (uplink.hint,)
    wish = Wish(for_prefix=True, hints=hints, codes=settings.codes, more_options=(DNS_SERVERS, SOL_MAX_RT))
    client = Client(duid, wish, Chance(rng.uniform, lambda: rng.getrandbits(24)))
    return Uplink(reactor, node, uplink, client, metrics)


def dhcpv6_device(
    reactor: IReactorTime, node: Dhcpv6Node, device: tuple[bytes, DeviceLink, BootstrapCodes], around: LinkNode, metrics: Metrics
) -> AddressClient:
    """The DHCPv6 client of a device: its DUID, its link, and where the two options stand."""
    duid, link, codes = device
    rng = around.rng
    client = Client(duid, Wish(for_prefix=False, codes=codes, reconfigure=True), Chance(rng.uniform, lambda: rng.getrandbits(24)))
    return AddressClient(reactor, node, around.host, link, client, metrics)


@dataclass(frozen=True, slots=True)
class Identity:
    """What this node keeps for good: its DUID, and what its choices for devices follow from."""

    duid: bytes
    secret: bytes


def dhcpv6_servers(
    reactor: IReactorTime, node: Dhcpv6Node, identity: Identity, settings: Dhcpv6Settings, metrics: Metrics
) -> Dhcpv6Servers:
    """The servers that the settings name, but for the downlink's.

    Raises `Malformed` where a certificate file cannot be read or holds none.
    """
    servers = Dhcpv6Servers(reactor, node, metrics)
    delegating = settings.delegating
    if delegating is not None:
        lifetimes = Lifetimes(delegating.preferred_lifetime_s, delegating.valid_lifetime_s)
        bootstrap = Bootstrap(delegating.bootstrap_uri or None, _certificate(delegating.certificate, "[dhcpv6.delegating] certificate"))
        terms = Terms(
            prefixes=PrefixPool(delegating.prefix_pool, delegating.delegated_length, lifetimes, delegating.static),
            codes=settings.codes,
            bootstrap=lambda: bootstrap,
            preference=delegating.preference,
        )
        servers.serve((delegating.interface,), Server(identity.duid, terms, servers.bindings))
    return servers


def bootstrap_sources(settings: Dhcpv6Settings, clock: IClock) -> Sources:
    """The sources of the bootstrap address, of which the file is the first: the downlink's table before the delegating server's.

    Raises `Malformed` where a certificate file cannot be read or holds none.
    """
    file, table = Bootstrap(), settings.downlink or settings.delegating
    if table is not None:
        where = "[dhcpv6.downlink]" if settings.downlink is not None else "[dhcpv6.delegating]"
        file = Bootstrap(table.bootstrap_uri or None, _certificate(table.certificate, f"{where} certificate"))
    return Sources(file, clock.now_ms)


def learning(uplink: Uplink, node: RoutingNode, settings: Dhcpv6Settings, sources: Sources, rng: Random, metrics: Metrics) -> list[Service]:
    """What else learns on the uplink's interface, for `sources`; and the routes of what the uplink has. They start before the uplink."""
    on = settings.uplink
    if on is None:
        return []
    uplink.listen(lambda: sources.learn(Source.DHCPV6, uplink.bootstrap(), uplink.lease.server.hex() if uplink.lease else ""))
    services: list[Service] = [Unreachable(node, lambda: uplink.lease, uplink.listen, metrics)]
    if on.ra_option:
        tell = partial(sources.learn, Source.ROUTER)
        services.append(Hearing(node.reactor, (node.datagrams, node.host), on.interface, on.ra_option, tell, metrics))
    if on.hncp:
        homenet = Homenet(rng.getrandbits(8 * NODE_BYTES).to_bytes(NODE_BYTES, "big"), settings.codes)
        services.append(HomenetListening(node.reactor, node.datagrams, on.interface, homenet, partial(sources.learn, Source.HNCP), metrics))
    return services


def learned_from(uplink: Uplink | None, sources: Sources) -> Upstream:
    """What the uplink knows, and the sources of the bootstrap address; no prefixes where there is no uplink."""
    if uplink is None:
        return Upstream(bootstrap=sources.in_force, listen=sources.listen)

    def listen(on_change: Callable[[], None]) -> None:
        sources.listen(on_change)
        uplink.listen(on_change)

    def name_servers() -> tuple[IPv6Address, ...]:
        return uplink.lease.name_servers if uplink.lease is not None else ()

    return Upstream(lambda _: delegations_of(uplink.lease), sources.in_force, name_servers, listen)


def dhcpv6_downlink(
    servers: Dhcpv6Servers, node: LinkNode, identity: Identity, settings: Dhcpv6Settings, learned: Upstream
) -> Linking | None:
    """The downlink, whose devices `servers` answers; None where it is off."""
    downlink = settings.downlink
    if downlink is None:
        return None
    upstream = handed_on(downlink, learned)
    links = Links(downlink.interfaces, identity.secret, lifetimes_of(downlink))
    keys = ReconfigureKeys(identity.secret, lambda: servers.tree.next_number)
    terms = downlink_terms(links, settings.codes, upstream, keys)
    servers.serve(downlink.interfaces, Server(identity.duid, terms, servers.bindings))

    def stale(binding: Binding) -> bool:
        return is_stale(binding, links.link(binding.interface, servers.reactor.seconds()), upstream.bootstrap())

    reconfiguring = servers.reconfigure_by(identity.duid, keys, stale)
    return Linking(servers.reactor, node, links, upstream, reconfiguring.tell_all, servers.metrics)


def _certificate(file: str, where: str) -> bytes | None:
    """The certificate in a file, as DER; None where no file is named. Raises `Malformed`."""
    if not file:
        return None
    try:
        data = FilePath(file).read_bytes()
    except OSError as error:
        raise Malformed(where, file, f"a file that can be read ({error.strerror})") from error
    certificate = certificate_der(data, f"{where} {file}")
    if len(certificate) > LARGEST_CERTIFICATE:
        raise Malformed(f"{where} {file}", f"{len(certificate)} bytes", f"at most {LARGEST_CERTIFICATE} bytes, which devices can be sent")
    return certificate


class Dhcpv6Servers(Service):
    """The servers by the name of their interface; `bindings` is what they give from."""

    name = "dhcpv6 servers"

    def __init__(self, reactor: IReactorTime, node: Dhcpv6Node, metrics: Metrics) -> None:
        self.reactor, self.tree, self.metrics, self._node = reactor, node.tree, metrics, node
        self.bindings = Bindings(node.tree)
        self._servers: dict[str, Server] = {}
        self.serving = Serving(reactor, node.clock, node.committer, self.bindings, metrics)
        self._lifetimes = Ends()
        ended = metrics.counter("m2mapp_dhcpv6_expired_total", "Bindings that ended because their valid lifetime was over.")
        self._expiry = Expiry(self._lifetimes, node.tree, node.committer, reactor, ended.add, self._over)
        metrics.gauge("m2mapp_dhcpv6_exhausted", "DHCPv6 interfaces on which nothing is left to give.", lambda: len(self.warnings()))
        self._watches: list[Watch] = []
        self._port: IDatagramPort | None = None
        self._look: IDelayedCall | None = None
        self._joined: dict[str, int] = {}
        self._missing: set[str] = set()
        self._reconfiguring: Reconfiguring | None = None

    def serve(self, interfaces: Iterable[str], server: Server) -> None:
        """Answer on these interfaces, from the start on."""
        self._servers.update(dict.fromkeys(interfaces, server))

    def warnings(self) -> list[str]:
        """What an operator should know: on which interfaces there is nothing left to give."""
        return [f"DHCPv6 on {name}: nothing is left to give" for name, server in self._servers.items() if server.exhausted]

    def reconfigure_by(self, duid: bytes, keys: ReconfigureKeys, stale: Callable[[Binding], bool]) -> Reconfiguring:
        """What tells clients to ask again, in the name of the server that has this DUID: at the start too, where the file has changed."""

        def send(binding: Binding) -> None:
            data = keys.message(duid, binding.client.duid, MessageType.RENEW)
            self.serving.send_unasked(data, binding.interface, binding.client_address)

        self._reconfiguring = Reconfiguring(self.reactor, self.tree, send, stale, self.metrics)
        return self._reconfiguring

    def startService(self) -> None:
        """Take over the bindings of the tree, then answer. Raises `OSError` where the port is taken."""
        super().startService()
        for place in (LEASES, PREFIXES):
            for resource in self._node.tree.walk(place):
                self._enter(resource)
            self._watches.append(self._node.tree.watch(place, self._on_change, subtree=True))
        self._expiry.start()
        self._port = self._node.datagrams.open_port("::", SERVER_PORT, self.serving)
        self.serving.attach(self._port)
        self._look_at_interfaces()
        if self._reconfiguring is not None:
            self._reconfiguring.tell_all()

    def stopService(self) -> Deferred[None] | None:
        """Answer nobody any more; what is under way goes on in the store."""
        super().stopService()
        for watch in self._watches:
            watch.stop()
        self._watches.clear()
        self._expiry.stop()
        if self._reconfiguring is not None:
            self._reconfiguring.stop()
        self._lifetimes.clear()
        self.bindings.clear()
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._joined.clear()
        self._missing.clear()
        self.serving.detach()
        port, self._port = self._port, None
        return None if port is None else port.stop()

    def _look_at_interfaces(self) -> None:
        """Serve each interface that is there, by the index that it has now."""
        self._look = self.reactor.callLater(LOOK_AGAIN_S, self._look_at_interfaces)
        for name, server in self._servers.items():
            try:
                index = self._node.datagrams.interface_index(name)
                if self._joined.get(name) == index:
                    continue
                self._leave(name)
                for group in _GROUPS:
                    if self._port is not None:
                        self._port.join(group, index)
            except OSError as error:
                self._leave(name)
                if name not in self._missing:
                    self._missing.add(name)
                    _log.warn("{name} is not served, looked at every {s:g} s: {error}", name=name, s=LOOK_AGAIN_S, error=error)
                continue
            self._joined[name] = index
            self._missing.discard(name)
            self.serving.serve(index, name, server)

    def _leave(self, name: str) -> None:
        """The interface is gone, or is another one now."""
        index = self._joined.pop(name, None)
        if index is None:
            return
        self.serving.leave(index)
        for group in _GROUPS:
            if self._port is not None:
                self._port.leave(group, index)

    def _over(self, path: Path) -> Unit:
        """What ends a binding whose time is over."""
        resource = self.tree.expected(path)
        return Unit((self.bindings.end(path),), all_ended([resource] if resource is not None else [], Ending.EXPIRED))

    # What is committed.

    def _on_change(self, change: Change) -> None:
        if change.before is not None and change.before.type in (LEASE, PREFIX):
            self.bindings.left(change.before, change.after)
            self._lifetimes.forget(change.path)
            empty = self.bindings.left_empty(change.path) if change.after is None else None
            if empty is not None:
                # It stays where that fails: the next binding of the DUID stands in it again.
                self._node.committer.commit(Unit((Remove(empty),))).addErrback(lambda failure: failure.trap(Fault))
        if change.after is not None:
            self._enter(change.after)
        if self._reconfiguring is not None:
            self._reconfiguring.changed(change.path, change.after)

    def _enter(self, resource: Resource) -> None:
        if resource.type not in (LEASE, PREFIX):
            return
        binding = self.bindings.entered(resource)
        if binding.valid_s != INFINITY:
            self._lifetimes.start(resource.path, binding.valid_s + GRACE_S, self.reactor.seconds())
            self._expiry.moved()
