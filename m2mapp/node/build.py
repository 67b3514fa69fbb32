"""Builds a node from its settings and its surroundings: the module that knows every part."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp import __version__
from m2mapp.admin.records import RECORD_TYPES
from m2mapp.admin.visit import AdminNode
from m2mapp.clients.coap import coap_sender
from m2mapp.clients.http import HttpClient
from m2mapp.clients.names import Names, OwnUris
from m2mapp.clients.requester import Requester, Send
from m2mapp.coap.access import Principals
from m2mapp.coap.dtls.settings import about
from m2mapp.coap.faults import CODES
from m2mapp.coap.numbers import code_text
from m2mapp.coap.service import CoapService, make_context
from m2mapp.coap.viewer import WireFeed
from m2mapp.config import Settings
from m2mapp.dhcpv6.binding import BINDING_TYPES
from m2mapp.dhcpv6.device import ADDRESS_TYPE
from m2mapp.dhcpv6.uplink import UPLINK_TYPE
from m2mapp.formats.documents import dump_json
from m2mapp.formats.link_format import Link
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.group import GROUPS, group_types
from m2mapp.groups.leaves import LEAVE_TYPE
from m2mapp.groups.lending import HELD_AT, LENDING_TYPES, POOL, RESTING_AT
from m2mapp.groups.settings import GroupSettings
from m2mapp.http.lines import Feed
from m2mapp.lwm2m.client_page import PAGE, PAGE_TYPE
from m2mapp.lwm2m.service import plan_changes
from m2mapp.member.mc_group import MC_GROUP_TYPE, MC_GROUPS
from m2mapp.member.service import MemberService
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Method, Request
from m2mapp.model.metrics import Metrics
from m2mapp.node.addressing import make_addressing
from m2mapp.node.device import make_device
from m2mapp.node.door import Door
from m2mapp.node.front import anonymous_principals, blocking, http_front
from m2mapp.node.groups import make_groups
from m2mapp.node.life import Between, Node
from m2mapp.node.lwm2m import bootstrap_server, gateway_report, lwm2m_types
from m2mapp.node.operations import make_operations
from m2mapp.node.parts import Parts
from m2mapp.node.world import HostAddresses, World
from m2mapp.registry.drivers.registering import Registering, Registrant
from m2mapp.registry.scl import SCL_TYPE
from m2mapp.registry.service import RegistryService
from m2mapp.sim.service import SimService
from m2mapp.tree.access import DISCOVERY, WIRE
from m2mapp.tree.device_address import DEVICE_ADDRESS
from m2mapp.tree.discovery import Discovery
from m2mapp.tree.drivers.once import Once
from m2mapp.tree.node import NODE, REPORTS, NodePage
from m2mapp.tree.registrations import SCLS, Registrations
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.service import Answered, Dispatcher, Observed, Plain
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ANYWHERE, ResourceType, Types
from m2mapp.tree.unit import COLLECTION, REQUESTS, Remove, Unit, Write
from m2mapp.triggers.inline import members
from m2mapp.triggers.places import OPERATIONS
from m2mapp.triggers.settings import TriggerSettings
from m2mapp.triggers.timers import timer_type
from m2mapp.triggers.types import More, operation_types

_log = Logger(namespace="m2mapp")

_FIXED_LINKS = {
    "rd": Link("/rd", (("rt", "core.rd"), ("ct", "40"))),
    "groups": Link("/groups", (("rt", "m2m.groups"),)),
    "mcAddrPool": Link("/mcAddrPool", (("rt", "m2m.mcaddrpool"),)),
    "bs": Link("/bs", (("rt", "core.bs"),)),
    "mcGroups": Link("/mcGroups", (("rt", "m2m.mcgroups"),)),
    "node": Link("/node", (("rt", "m2m.node"),)),
}


def make_node(settings: Settings, world: World) -> Node:
    """Build a node, with its tree loaded; nothing is started. Raises `StoreRefused`, `TokenFileError`."""
    return _Builder(settings, world).build()


class _Builder:
    """Builds one node. Each method makes one part from those before it."""

    def __init__(self, settings: Settings, world: World) -> None:
        self._settings, self._world, self._metrics = settings, world, Metrics()
        self._uri = node_uri(settings)
        types: list[ResourceType] = [SCL_TYPE, *(RECORD_TYPES if settings.http is not None else ())]
        if settings.groups is not None:
            types += (*group_types(lambda name: f"{self._uri}/groups/{name}"), LEAVE_TYPE, *LENDING_TYPES)
        if settings.member:
            types.append(MC_GROUP_TYPE)
        if settings.triggers is not None:
            types += [*operation_types(lambda resource: self._shown(resource)), timer_type(world.clock.now_ms)]
        if settings.dhcpv6 is not None:
            types += [*BINDING_TYPES, UPLINK_TYPE]
        types += lwm2m_types(settings)
        if settings.device is not None:
            types += (ADDRESS_TYPE, PAGE_TYPE)
        self._types = Types(types, members() if settings.triggers is not None else None)
        self._tree = Tree(self._types.derived, lambda error: _log.failure("a watcher failed", Failure(error)))
        self._rules = ResourceRules(self._tree, self._types)
        store, self._committer = world.open_store(settings, self._tree, self._metrics)
        self._once = Once(world.reactor.seconds, self._committer, REQUESTS, self._metrics)
        self._restore: list[Callable[[], Deferred[None]]] = [lambda: self._once.restore(self._committer, world.clock)]
        self._registrations = Registrations(self._tree)
        self._datagrams = world.datagrams(settings, self._metrics)
        self._rng = world.rng(settings.node.name)
        self._door = Door()
        self._node = Node(settings, self._tree, self._door)
        self._parts: list[Service] = [store]
        self._routes: dict[Path, IHandle] = {}
        self._feeds: dict[Path, Feed] = {}
        self._warnings: list[Callable[[], list[str]]] = []
        self._about: dict[str, Callable[[], object]] = {}
        self._leased: Callable[[str], bool] = lambda _: False
        self._serves: Callable[[str], bool] = lambda _: False
        self._sources_moved: Callable[[], None] = lambda: None
        self._shown: More = lambda _: {}
        self._metrics.gauge("m2mapp_tree_resources", "Resources in the tree.", lambda: len(self._tree))

    def build(self) -> Node:
        """The node."""
        settings, node = self._settings, self._node
        addresses = self._world.addresses(self._datagrams, settings.coap.interfaces if settings.coap is not None else ())
        own = self._own_uris(addresses)
        registry = self._registry()
        coap = self._coap(addresses) if settings.coap is not None else None
        requester = self._requester(own, coap)
        if settings.groups is not None and coap is not None:
            self._groups(settings.groups, own, requester, coap, registry)
        if settings.triggers is not None:
            self._triggers(settings.triggers, own, requester)
        if settings.bootstrap is not None and coap is not None:
            self._routes |= bootstrap_server(self._of_all(), coap)
        member = self._member(requester, coap, own) if settings.member and coap is not None else None
        dhcpv6 = self._addressing()
        client: list[Service] = []
        if settings.report is not None:
            self._routes[REPORTS], client = gateway_report(self._of_all(), own, requester)
        page = self._describe()
        if settings.device is not None:
            self._routes |= dict.fromkeys((DEVICE_ADDRESS, PAGE), Plain(self._rules, self._committer))

        def describe() -> Mapping[str, object]:
            return {**page, "warnings": self._warn(), **{name: told() for name, told in self._about.items()}}

        self._routes[NODE] = NodePage(describe, lambda: zlib.crc32(dump_json(describe())))
        names = {place[0] for place in self._routes}
        discovery = Discovery(self._tree, [link for name, link in _FIXED_LINKS.items() if name in names])
        self._door.dispatcher = Dispatcher(self._rules, self._committer, discovery, self._routes, member or (lambda _: None), self._once)
        edges: list[Service] = [*([coap] if coap is not None else []), *client]
        answering = dict.fromkeys(handler for handler in self._routes.values() if isinstance(handler, Service))
        device = self._device(own, requester, coap, discovery) if coap is not None else ()
        node.parts = (*self._parts, *edges, *answering, *dhcpv6, *device, *self._sim(), *self._http(addresses, describe))
        node.late = self._registering(requester, discovery)
        node.prepare = self._prepare
        return node

    def _own_uris(self, addresses: HostAddresses) -> OwnUris:
        settings = self._settings
        own = OwnUris((settings.node.name, *settings.node.aliases), addresses.own)
        for host, port in settings.coap.listen if settings.coap is not None else ():
            own.listens("coap", host, port)
        for host, port in settings.coap.coaps.listen if settings.coap is not None else ():
            own.listens("coaps", host, port)
        for host, port in settings.http.addresses() if settings.http is not None else ():
            own.listens("http", host, port)
        return own

    def _registry(self) -> RegistryService:
        registry = RegistryService(
            tree=self._tree,
            committer=self._committer,
            rules=self._rules,
            clock=self._world.clock,
            reactor=self._world.reactor,
            node_uri=self._uri,
            metrics=self._metrics,
            touch=self._committer.touch,
        )
        self._routes |= {("rd",): registry, SCLS: registry}
        self._door.heard.append(registry.seen)
        return registry

    def _coap(self, addresses: HostAddresses) -> CoapService:
        settings = self._settings.coap
        if settings is None:
            raise LookupError("[coap]")
        context = make_context(self._world.reactor, self._metrics, self._rng, limits=settings.limits)
        principals = Principals(
            settings.access, addresses.contains, lambda address: self._leased(address), context.names, lambda address: self._serves(address)
        )
        self._sources_moved = principals.forget
        self._parts.append(Between("addresses", lambda: addresses.use(principals.forget), lambda: addresses.leave(principals.forget)))
        coap = CoapService(settings.listen, settings.interfaces, self._datagrams, self._door, principals, context)
        coap.secure(settings.coaps)
        coap.observe(Observed(self._tree, self._types))
        coap.setName("coap")
        coap.register_gauges(self._metrics)
        self._feeds[WIRE] = WireFeed(coap.endpoint, context, self._world.clock.now_ms)
        return coap

    def _requester(self, own: OwnUris, coap: CoapService | None) -> Requester:
        settings, reactor = self._settings, self._world.reactor
        peers = {peer.name: peer.uri for peer in settings.peers}
        tokens = {place: peer.token_file for peer in settings.peers if peer.token_file for place in _authorities(peer.name, peer.uri)}
        http = HttpClient(reactor, tokens)
        self._parts.append(Between("http client", lambda: None, http.close))
        schemes: dict[str, Send] = {"http": http.request}
        if coap is not None:
            schemes["coap"] = schemes["coaps"] = coap_sender(coap.client, self._datagrams.interface_index)
        requester = Requester(reactor, own, Names(self._registrations, peers, self._world.resolve), schemes)
        requester.connect(self._door.handle_unicast)
        return requester

    def _groups(self, settings: GroupSettings, own: OwnUris, requester: Requester, coap: CoapService, registry: RegistryService) -> None:
        groups = make_groups(self._of_all(), settings, own, requester, coap)
        registry.groups_of = groups.groups_of
        self._restore.append(groups.restore)
        self._routes |= dict.fromkeys((GROUPS, RESTING_AT, HELD_AT, *([POOL] if settings.global_pool else [])), groups)

    def _triggers(self, settings: TriggerSettings, own: OwnUris, requester: Requester) -> None:
        triggers = make_operations(self._of_all(), settings, own, requester)
        self._shown = triggers.shown
        self._restore.append(triggers.restore)
        self._routes[ANYWHERE, OPERATIONS] = triggers
        self._door.heard.append(triggers.heard)

    def _member(self, requester: Requester, coap: CoapService, own: OwnUris) -> Callable[[Request], Answered]:
        member = MemberService(self._world.reactor, self._tree, self._rules, self._committer, coap, self._metrics)
        member.connect(self._door.handle_unicast, requester, own)
        member.code_of_fault = lambda kind: code_text(CODES[kind])
        self._routes[MC_GROUPS] = member
        return member.handle_multicast

    def _of_all(self) -> Parts:
        return Parts(
            settings=self._settings,
            uri=self._uri,
            world=self._world,
            metrics=self._metrics,
            tree=self._tree,
            rules=self._rules,
            committer=self._committer,
            registrations=self._registrations,
            datagrams=self._datagrams,
            random=self._rng,
        )

    def _addressing(self) -> list[Service]:
        settings = self._settings.dhcpv6
        if settings is None:
            return []
        made = make_addressing(self._of_all(), settings)
        self._routes |= made.routes
        self._about |= made.about
        self._warnings.append(made.warnings)
        if made.leases is not None:
            self._leased = made.leases.holds
            made.leases.on_moved = lambda: self._sources_moved()
        return made.services

    def _device(self, own: OwnUris, requester: Requester, coap: CoapService, discovery: Discovery) -> tuple[Service, ...]:
        device = self._settings.device
        if device is None:
            return ()
        client, services = make_device(self._of_all(), device, coap, own, requester, partial(_links, discovery))
        self._door.claiming, self._serves = client, client.servers.__contains__
        client.on_servers = lambda: self._sources_moved()
        return services

    def _sim(self) -> list[Service]:
        sim = self._settings.sim
        return [SimService(self._tree, self._committer, self._world.reactor, sim)] if sim is not None else []

    def _registering(self, requester: Requester, discovery: Discovery) -> tuple[Service, ...]:
        sim = self._settings.sim
        if sim is None or not sim.registrar:
            return ()
        endpoint = sim.endpoint or self._settings.node.name
        registrant = Registrant(endpoint, sim.lifetime_s, partial(_links, discovery), sim.registration_query())
        return (Registering(self._world.reactor, requester, sim.registrar, registrant, self._rng),)

    def _http(self, addresses: HostAddresses, describe: Callable[[], Mapping[str, object]]) -> list[Service]:
        """The HTTP edge, the pages for people, and what only they show."""
        settings, world = self._settings, self._world
        if settings.http is None:
            return []
        node = AdminNode(
            name=settings.node.name,
            state_dir=settings.node.state_dir,
            handler=self._door,
            tree=self._tree,
            committer=self._committer,
            journals=self._committer,
            reactor=world.reactor,
            clock=world.clock,
            metrics=self._metrics,
            describe=describe,
            unready=self._unready,
            warnings=self._warn,
            run_blocking=blocking(world.reactor),
            registrations=self._registrations,
            peers={peer.name: peer.uri for peer in self._settings.peers},
        )
        return http_front(settings.http, node, anonymous_principals(addresses, self._datagrams.interface_index), self._feeds)

    def _prepare(self) -> Deferred[None]:
        """Read which requests were done before the last stop, and make the collections that are there from the start."""
        return gatherResults([restore() for restore in self._restore]).addCallback(lambda _: self._make_collections())

    def _make_collections(self) -> Deferred[None]:
        """Make the collections that are there from the start, and make the bootstrap plans those of the files."""
        owned = sorted(path for path in self._types.owned_collections() if len(path) == 1)
        changes: tuple[Write | Remove, ...] = tuple(Write(path, COLLECTION) for path in owned if self._tree.find(path) is None)
        if self._settings.bootstrap is not None:
            changes += plan_changes(self._tree, self._settings.bootstrap.plans)
        return self._committer.commit(Unit(changes)).addCallback(lambda _: None) if changes else succeed(None)

    def _unready(self) -> list[str]:
        reasons = [] if self._node.prepared else ["the node is starting or stopping"]
        if not self._committer.writable:
            reasons.append("the store takes no writes")
        return reasons

    def _warn(self) -> list[str]:
        return [warning for warnings in self._warnings for warning in warnings()]

    def _describe(self) -> Mapping[str, object]:
        settings = self._settings
        named = ("http", "coap", "groups", "triggers", "bootstrap", "report", "device", "sim")
        roles = [name for name in named if getattr(settings, name) is not None]
        return {
            "name": settings.node.name,
            "aliases": list(settings.node.aliases),
            "uri": self._uri,
            "version": __version__,
            "roles": sorted([*roles, *(["member"] if settings.member else []), *(settings.dhcpv6.roles if settings.dhcpv6 else ())]),
            **(about(settings.coap.coaps, settings.node.name) if settings.coap is not None else {}),
        }


def _links(discovery: Discovery) -> str:
    """What a node says of itself where it registers: what its discovery says."""
    return discovery.respond(Request(Method.GET, DISCOVERY)).payload.decode()


def node_uri(settings: Settings) -> str:
    """The URI that this node gives for itself, without a path: by HTTP where it serves that, else by CoAP."""
    if settings.http is not None:
        ports = [port for _, port in settings.http.addresses()]
        return f"http://{Uri('http', settings.node.name, ports[0] if ports else 80, ()).authority}"
    port = settings.coap.listen[0][1] if settings.coap is not None and settings.coap.listen else 5683
    return f"coap://{Uri('coap', settings.node.name, port, ()).authority}"


def _authorities(name: str, uri: str) -> tuple[str, ...]:
    """What stands in URIs of a peer's resources: its own authority, and the name that this node gives it."""
    return (parse_uri(uri).authority, name)
