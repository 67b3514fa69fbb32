"""The DHCPv6 servers of one node: opens their port, joins on their interfaces, follows their bindings in the tree and ends them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.binding import LEASE, LEASES, PREFIX, PREFIXES, Bindings, binding_of
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.client import Chance, Client, Wish
from m2mapp.dhcpv6.drivers.serving import Serving
from m2mapp.dhcpv6.drivers.uplink import Uplink
from m2mapp.dhcpv6.numbers import ALL_DHCP_RELAY_AGENTS_AND_SERVERS, INFINITY, SERVER_PORT
from m2mapp.dhcpv6.pools import Lifetimes, PrefixPool
from m2mapp.dhcpv6.server import Server, Terms
from m2mapp.dhcpv6.settings import Dhcpv6Settings
from m2mapp.formats.certificates import certificate_der
from m2mapp.model.errors import Malformed
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagramPort
from m2mapp.tree.drivers.expiry import Expiry
from m2mapp.tree.lifetimes import Lifetimes as Ends
from m2mapp.tree.unit import Change, Resource
from m2mapp.tree.watch import Watch

JOIN_AGAIN_S: Final = 5.0
"""How often an interface that is not there, or not up, is looked at again."""
GRACE_S: Final = 60.0
"""So long after its valid lifetime a binding still stands: its client's clock and ours may differ."""

_log = Logger(namespace="m2mapp.dhcpv6")


def dhcpv6_uplink(reactor: IReactorTime, node: Dhcpv6Node, duid: bytes, settings: Dhcpv6Settings, rng: Random, metrics: Metrics) -> Uplink:
    """The requesting router that the settings name. Raises `LookupError` where they name none."""
    uplink = settings.uplink
    if uplink is None:
        raise LookupError("[dhcpv6.uplink]")
    wish = Wish(for_prefix=True, hints=() if uplink.hint is None else (uplink.hint,), codes=settings.codes)
    client = Client(duid, wish, Chance(rng.uniform, lambda: rng.getrandbits(24)))
    return Uplink(reactor, node, uplink, client, metrics)


def dhcpv6_servers(reactor: IReactorTime, node: Dhcpv6Node, duid: bytes, settings: Dhcpv6Settings, metrics: Metrics) -> Dhcpv6Servers:
    """The servers that the settings name. Raises `Malformed` where a certificate file cannot be read or holds none."""
    bindings = Bindings(node.tree)
    servers: dict[str, Server] = {}
    delegating = settings.delegating
    if delegating is not None:
        lifetimes = Lifetimes(delegating.preferred_lifetime_s, delegating.valid_lifetime_s)
        bootstrap = Bootstrap(delegating.bootstrap_uri or None, _certificate(delegating.certificate, "[dhcpv6.delegating] certificate"))
        terms = Terms(
            prefixes=PrefixPool(delegating.prefix_pool, delegating.delegated_length, lifetimes),
            codes=settings.codes,
            bootstrap=lambda: bootstrap,
            preference=delegating.preference,
        )
        servers[delegating.interface] = Server(duid, terms, bindings)
    return Dhcpv6Servers(reactor, node, bindings, servers, metrics)


def _certificate(file: str, where: str) -> bytes | None:
    """The certificate in a file, as DER; None where no file is named."""
    if not file:
        return None
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise Malformed(where, file, f"a file that can be read ({error.strerror})") from error
    return certificate_der(data, f"{where} {file}")


class Dhcpv6Servers(Service):
    """The servers by the name of their interface; `bindings` is what they give from."""

    name = "dhcpv6 servers"

    def __init__(
        self, reactor: IReactorTime, node: Dhcpv6Node, bindings: Bindings, servers: Mapping[str, Server], metrics: Metrics
    ) -> None:
        self._reactor, self._node, self._bindings, self._servers = reactor, node, bindings, dict(servers)
        self.serving = Serving(reactor, node.clock, node.committer, bindings, metrics)
        self._lifetimes = Ends()
        ended = metrics.counter("m2mapp_dhcpv6_expired_total", "Bindings that ended because their valid lifetime was over.")
        self._expiry = Expiry(self._lifetimes, node.tree, node.committer, reactor, ended.add, bindings.removal)
        self._watches: list[Watch] = []
        self._port: IDatagramPort | None = None
        self._again: IDelayedCall | None = None
        self._unjoined: dict[str, None] = {}

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
        self._unjoined = dict.fromkeys(self._servers)
        self._join()

    def stopService(self) -> Deferred[None] | None:
        """Answer nobody any more; what is under way goes on in the store."""
        super().stopService()
        for watch in self._watches:
            watch.stop()
        self._watches.clear()
        self._expiry.stop()
        self._lifetimes.clear()
        self._bindings.clear()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self.serving.detach()
        port, self._port = self._port, None
        return None if port is None else port.stop()

    def _join(self) -> None:
        """Serve each interface that is there; the others are looked at again."""
        self._again = None
        for name in list(self._unjoined):
            try:
                index = self._node.datagrams.interface_index(name)
                if self._port is not None:
                    self._port.join(ALL_DHCP_RELAY_AGENTS_AND_SERVERS, index)
            except OSError as error:
                _log.warn("{name} is not served, again in {s:g} s: {error}", name=name, s=JOIN_AGAIN_S, error=error)
                continue
            self.serving.serve(index, name, self._servers[name])
            del self._unjoined[name]
        if self._unjoined:
            self._again = self._reactor.callLater(JOIN_AGAIN_S, self._join)

    # What is committed.

    def _on_change(self, change: Change) -> None:
        if change.before is not None and change.before.type in (LEASE, PREFIX):
            self._bindings.left(change.before)
            self._lifetimes.forget(change.path)
        if change.after is not None:
            self._enter(change.after)

    def _enter(self, resource: Resource) -> None:
        if resource.type not in (LEASE, PREFIX):
            return
        self._bindings.entered(resource)
        binding = binding_of(resource)
        if binding.valid_s != INFINITY:
            self._lifetimes.start(resource.path, binding.valid_s + GRACE_S, self._reactor.seconds())
            self._expiry.moved()
