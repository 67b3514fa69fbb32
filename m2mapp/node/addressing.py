"""The DHCPv6 roles of a node, put together: what gives addresses and prefixes, and what learns them and the bootstrap address.

Responsible for who is handed what. Not responsible for what any of them does: `dhcpv6`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.binding import LEASES, PREFIXES, Bindings
from m2mapp.dhcpv6.drivers.linking import LinkNode
from m2mapp.dhcpv6.drivers.remembering import Remembering
from m2mapp.dhcpv6.drivers.reserving import Reserving
from m2mapp.dhcpv6.drivers.routing import RoutingNode, ToRouters
from m2mapp.dhcpv6.duid import new_duid
from m2mapp.dhcpv6.service import (
    Identity,
    bootstrap_sources,
    dhcpv6_downlink,
    dhcpv6_servers,
    dhcpv6_uplink,
    learned_from,
    learning,
)
from m2mapp.dhcpv6.settings import Dhcpv6Settings
from m2mapp.dhcpv6.told import options_told
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Request, Response
from m2mapp.node.parts import Parts
from m2mapp.tree.service import execute


@dataclass(slots=True)
class Addressing:
    """The roles: their services in the order of their start, who answers at which paths, what `/node` says of them.

    `leases` are those of the downlink's devices; `warnings` is what an operator should know.
    """

    services: list[Service] = field(default_factory=list)
    routes: dict[Path, IHandle] = field(default_factory=dict)
    about: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    leases: Bindings | None = None
    warnings: Callable[[], list[str]] = list


def make_addressing(parts: Parts, settings: Dhcpv6Settings) -> Addressing:
    """Build the roles that are on; nothing is started. Raises `Malformed` where a certificate file cannot be read or holds none."""
    world, tree, metrics = parts.world, parts.tree, parts.metrics
    duid = world.kept(parts.settings, "duid", lambda: new_duid(UUID(int=parts.random.getrandbits(128), version=4)))
    identity = Identity(duid, world.kept(parts.settings, "dhcpv6.secret", lambda: parts.random.getrandbits(256).to_bytes(32, "big")))
    around = Dhcpv6Node(tree, parts.committer, world.clock, parts.datagrams, world.host)
    routing = RoutingNode(world.reactor, tree, world.clock, parts.datagrams, world.host)
    sources = bootstrap_sources(settings, world.clock)

    def bootstrap() -> Mapping[str, object]:
        return {**sources.document(), "options": options_told(sources.in_force(), settings.codes)}

    made = Addressing(about={"bootstrap": bootstrap})
    made.routes[PREFIXES] = _remembering(parts, lambda request: execute(parts.committer, parts.rules.decide(request)))
    uplink = None
    if settings.uplink is not None:
        uplink = dhcpv6_uplink(world.reactor, around, duid, settings, parts.random, metrics)
        made.services += (*learning(uplink, routing, settings, sources, parts.random, metrics), uplink)
    if settings.downlink is None and settings.delegating is None:
        return made
    servers = dhcpv6_servers(world.reactor, around, identity, settings, metrics)
    made.warnings = servers.warnings
    links = LinkNode(parts.datagrams, world.host, parts.random)
    downlink = dhcpv6_downlink(servers, links, identity, settings, learned_from(uplink, sources))
    if downlink is not None:
        made.services.append(downlink)
        reserving = Reserving(
            lambda: (world.reactor.seconds(), world.clock.now_ms()), parts.committer, parts.rules, servers.bindings, downlink.links
        )
        made.routes[LEASES] = _remembering(parts, reserving.handle)
        made.leases = servers.bindings
    if settings.delegating is not None and settings.delegating.routes:
        made.services.append(ToRouters(routing, metrics))
    made.services.append(servers)
    return made


def _remembering(parts: Parts, inner: Callable[[Request], Response | Deferred[Response]]) -> Remembering:
    return Remembering(parts.tree, parts.committer, parts.committer, parts.rules, inner)
