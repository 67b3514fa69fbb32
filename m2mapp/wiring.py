"""Joins the parts: the only module that knows them all, and the only one that imports the reactor.

`make_node` builds one node from its settings and its surroundings; `makeService` is what `twistd m2m` calls.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Interface
from pathlib import Path as FilePath
from random import Random
from typing import Any, ClassVar, NoReturn, TypeVar, cast

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorPluggableNameResolver, IReactorTime
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp import __version__
from m2mapp.clients.coap import coap_sender
from m2mapp.clients.http import HttpClient
from m2mapp.clients.names import Names, OwnUris
from m2mapp.clients.requester import Requester, Send
from m2mapp.clients.resolver import SystemResolver
from m2mapp.coap.access import Principals
from m2mapp.coap.service import CoapService, make_context
from m2mapp.config import EXIT_CONFIG, BadConfiguration, Settings, load
from m2mapp.formats.link_format import Link
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.edit import Surroundings
from m2mapp.groups.group import GROUPS, group_types
from m2mapp.groups.pool import derived_pool
from m2mapp.groups.service import GroupNode, GroupService
from m2mapp.groups.settings import GroupSettings
from m2mapp.http.limits import HttpLimits
from m2mapp.http.service import HttpParts, HttpService
from m2mapp.http.tokens import TokenFileError, Tokens, load_tokens
from m2mapp.member.mc_group import MC_GROUP_TYPE, MC_GROUPS
from m2mapp.member.service import MemberService
from m2mapp.model.errors import Overloaded
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IClock, IHandle
from m2mapp.model.messages import Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.net.addresses import AddressSource, OnLink
from m2mapp.net.clock import WallClock, make_monotonic
from m2mapp.net.lag import LagMonitor
from m2mapp.net.memory import MemoryDatagrams
from m2mapp.net.notify import notify
from m2mapp.net.udp import SystemDatagrams
from m2mapp.registry.scl import SCL_TYPE
from m2mapp.registry.service import RegistryService
from m2mapp.store.errors import StoreRefused
from m2mapp.store.service import StoreService
from m2mapp.tree.discovery import Discovery
from m2mapp.tree.node import NODE, NodePage
from m2mapp.tree.registrations import SCLS, Registrations
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.service import Answered, Dispatcher
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType, Types
from m2mapp.tree.unit import COLLECTION, Unit, Write

_log = Logger(namespace="m2mapp")

_Part = TypeVar("_Part", bound=Service)

ADDRESSES_AGAIN_S = 15.0
"""How often the host's addresses are read anew: they come late on a box that just started, and change with a delegated prefix."""

_FIXED_LINKS = {
    "rd": Link("/rd", (("rt", "core.rd"), ("ct", "40"))),
    "groups": Link("/groups", (("rt", "m2m.groups"),)),
    "mcGroups": Link("/mcGroups", (("rt", "m2m.mcgroups"),)),
    "node": Link("/node", (("rt", "m2m.node"),)),
}


class HostAddresses(OnLink, Service):
    """The host's addresses and links, read anew now and then; `on_change` is told afterwards."""

    def __init__(self, source: AddressSource, interfaces: Sequence[str], reactor: IReactorTime) -> None:
        OnLink.__init__(self, source, interfaces)
        self._reactor = reactor
        self._call: IDelayedCall | None = None
        self.on_change: list[Callable[[], None]] = []

    def startService(self) -> None:
        """Read now and from now on."""
        super().startService()
        self._again()

    def stopService(self) -> None:
        """Read no more."""
        super().stopService()
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _again(self) -> None:
        try:
            self.refresh()
        except OSError as error:
            _log.warn("the addresses of this host could not be read: {error}", error=error)
        for told in self.on_change:
            told()
        self._call = self._reactor.callLater(ADDRESSES_AGAIN_S, self._again)


@dataclass(frozen=True, slots=True)
class World:
    """What a node stands on: the real world here, a simulated one in tests.

    `datagrams` makes the network of one node; `open_store` its store, opened; `rng` is None for the system's chance.
    """

    reactor: IReactorTime
    clock: IClock
    datagrams: Callable[[Settings, Metrics], SystemDatagrams | MemoryDatagrams]
    open_store: Callable[[Settings, Tree, Metrics], StoreService]
    resolve: Callable[[str], Deferred[list[str]]]
    rng: Random | None = None


@implementer(IHandle)
class _Door:
    """Where requests come in before all parts are there, since the edges are made before those whom they ask."""

    def __init__(self) -> None:
        self.dispatcher: Dispatcher | None = None
        self.heard: Callable[[str], None] = lambda _: None

    def handle(self, request: Request) -> Response | Deferred[Response] | None:
        """The dispatcher's answer."""
        if self.dispatcher is None:
            raise Overloaded("the node is starting")
        if request.source is not None:
            self.heard(request.source[0])
        return self.dispatcher.handle(request)

    def handle_unicast(self, request: Request) -> Response | Deferred[Response]:
        """The dispatcher's answer to what is for this node alone."""
        if self.dispatcher is None:
            raise Overloaded("the node is starting")
        return self.dispatcher.handle_unicast(request)


class Node(Service):
    """One node: its parts as services, started in order and stopped in the opposite order, each when the one before is done."""

    def __init__(self, settings: Settings, tree: Tree, parts: Sequence[Service], prepare: Callable[[], Deferred[None]]) -> None:
        self.settings, self.tree, self.parts = settings, tree, tuple(parts)
        self._prepare = prepare
        self.prepared = False

    def part(self, kind: type[_Part]) -> _Part:
        """The part of that class. Raises `LookupError` where the role is off."""
        for part in self.parts:
            if isinstance(part, kind):
                return part
        raise LookupError(kind.__name__)

    def startService(self) -> None:
        """Start every part. Raises what the first that cannot start raises; those before it are stopped."""
        started: list[Service] = []
        try:
            for part in self.parts:
                part.startService()
                started.append(part)
        except BaseException:
            for part in reversed(started):
                part.stopService()
            raise
        super().startService()
        self._prepare().addCallbacks(self._ready, lambda failure: _log.failure("the node could not be prepared", failure))

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[object], object, None]:
        """Stop every part, the last first."""
        super().stopService()
        self.prepared = False
        for part in reversed(self.parts):
            try:
                yield maybeDeferred(part.stopService)
            except Exception:  # noqa: BLE001 - the others are stopped all the same
                _log.failure("{part} did not stop in order", part=part.name)

    def _ready(self, _: object) -> None:
        self.prepared = True


def make_node(settings: Settings, world: World) -> Node:
    """Build a node, with its tree loaded; nothing is started. Raises `StoreRefused`, `TokenFileError`."""
    return _Builder(settings, world).build()


class _Builder:
    """Builds one node. Each method makes one part from those before it."""

    def __init__(self, settings: Settings, world: World) -> None:
        self._settings, self._world, self._metrics = settings, world, Metrics()
        types: list[ResourceType] = [SCL_TYPE]
        if settings.groups is not None:
            types += group_types(lambda name: f"{self._node_uri()}/groups/{name}")
        if settings.member:
            types.append(MC_GROUP_TYPE)
        self._types = Types(types)
        self._tree = Tree(self._types.derived, lambda error: _log.failure("a watcher failed", Failure(error)))
        self._rules = ResourceRules(self._tree, self._types)
        self._store = world.open_store(settings, self._tree, self._metrics)
        self._registrations = Registrations(self._tree)
        self._datagrams = world.datagrams(settings, self._metrics)
        self._door = _Door()
        self._parts: list[Service] = [self._store, LagMonitor(world.reactor, self._metrics)]
        self._routes: dict[Path, IHandle] = {}
        self._metrics.gauge("m2mapp_tree_resources", "Resources in the tree.", lambda: len(self._tree))

    def build(self) -> Node:
        """The node."""
        settings = self._settings
        interfaces = settings.coap.interfaces if settings.coap is not None else ()
        addresses = HostAddresses(self._datagrams, interfaces, self._world.reactor)
        self._parts.append(addresses)
        own = self._own_uris(addresses)
        registry = self._registry()
        coap = self._coap(addresses) if settings.coap is not None else None
        requester = self._requester(own, coap)
        if settings.groups is not None and coap is not None:
            self._groups(settings.groups, own, requester, coap, registry)
        member = self._member(requester, coap) if settings.member and coap is not None else None
        self._routes[NODE] = NodePage(self._describe, lambda: 1)
        names = {place[0] for place in self._routes}
        discovery = Discovery(self._tree, [link for name, link in _FIXED_LINKS.items() if name in names])
        self._door.dispatcher = Dispatcher(self._rules, self._store.committer, discovery, self._routes, member or (lambda _: None))
        node = Node(settings, self._tree, self._in_order(coap), self._prepare)
        if settings.http is not None:
            node.parts = (*node.parts, self._http(node))
        return node

    def _own_uris(self, addresses: HostAddresses) -> OwnUris:
        settings = self._settings
        own = OwnUris((settings.node.name, *settings.node.aliases), addresses.own)
        for host, port in settings.coap.listen if settings.coap is not None else ():
            own.listens("coap", host, port)
        for host, port in settings.http.addresses() if settings.http is not None else ():
            own.listens("http", host, port)
        return own

    def _registry(self) -> RegistryService:
        registry = RegistryService(
            tree=self._tree,
            committer=self._store.committer,
            rules=self._rules,
            clock=self._world.clock,
            reactor=self._world.reactor,
            node_uri=self._node_uri(),
            metrics=self._metrics,
        )
        self._routes |= {("rd",): registry, SCLS: registry}
        self._door.heard = registry.seen
        return registry

    def _coap(self, addresses: HostAddresses) -> CoapService:
        settings = self._settings.coap
        if settings is None:
            raise LookupError("[coap]")
        context = make_context(self._world.reactor, self._metrics, self._world.rng)
        principals = Principals(settings.access, addresses.contains, lambda _: False, context.names)
        addresses.on_change.append(principals.forget)
        coap = CoapService(settings.listen, settings.interfaces, self._datagrams, self._door, principals, context)
        coap.register_gauges(self._metrics)
        return coap

    def _requester(self, own: OwnUris, coap: CoapService | None) -> Requester:
        settings, reactor = self._settings, self._world.reactor
        peers = {peer.name: peer.uri for peer in settings.peers}
        tokens = {parse_uri(peer.uri).authority: peer.token_file for peer in settings.peers if peer.token_file}
        http = HttpClient(reactor, tokens)
        self._parts.append(_Closing("http client", http.close))
        schemes: dict[str, Send] = {"http": http.request}
        if coap is not None:
            schemes["coap"] = coap_sender(coap.client, self._datagrams.interface_index)
        requester = Requester(reactor, own, Names(self._registrations, peers, self._world.resolve), schemes)
        requester.connect(self._door.handle_unicast)
        return requester

    def _groups(self, settings: GroupSettings, own: OwnUris, requester: Requester, coap: CoapService, registry: RegistryService) -> None:
        around = Surroundings(self._tree, self._registrations, own, settings)
        node = GroupNode(
            name=self._settings.node.name,
            around=around,
            pool=lambda: settings.local_pool or derived_pool(self._settings.node.name, self._prefix()),
            rules=self._rules,
            committer=self._store.committer,
            requester=requester,
            group_sender=coap,
        )
        groups = GroupService(self._world.reactor, node, self._metrics)
        registry.groups_of = groups.groups_of
        self._routes[GROUPS] = groups

    def _member(self, requester: Requester, coap: CoapService) -> Callable[[Request], Answered]:
        member = MemberService(self._world.reactor, self._tree, self._rules, self._store.committer, coap, self._metrics)
        member.connect(self._door.handle_unicast, requester)
        self._routes[MC_GROUPS] = member
        return member.handle_multicast

    def _http(self, node: Node) -> HttpService:
        settings = self._settings.http
        if settings is None:
            raise LookupError("[http]")
        limits = HttpLimits()
        known = load_tokens(self._settings.node.state_dir, settings.tokens)
        parts = HttpParts(
            handler=self._door,
            tree=self._tree,
            journals=self._store.committer,
            tokens=Tokens(known, self._world.reactor, limits.failed_sign_ins),
            metrics=self._metrics,
            clock=self._world.clock,
            unready=lambda: self._unready(node),
            limits=limits,
        )
        return HttpService(self._world.reactor, settings.listen, parts)

    def _in_order(self, coap: CoapService | None) -> list[Service]:
        edges: list[Service] = [coap] if coap is not None else []
        return [*self._parts, *edges, *dict.fromkeys(handler for handler in self._routes.values() if isinstance(handler, Service))]

    def _prepare(self) -> Deferred[None]:
        """Make the collections that are there from the start."""
        owned = sorted(path for path in self._types.owned_collections() if len(path) == 1)
        missing = tuple(Write(path, COLLECTION) for path in owned if self._tree.find(path) is None)
        return self._store.committer.commit(Unit(missing)).addCallback(lambda _: None) if missing else succeed(None)

    def _unready(self, node: Node) -> list[str]:
        reasons = [] if node.prepared else ["the node is starting or stopping"]
        if not self._store.committer.writable:
            reasons.append("the store takes no writes")
        return reasons

    def _describe(self) -> dict[str, object]:
        settings = self._settings
        roles = [name for name in ("http", "coap", "groups", "sim") if getattr(settings, name) is not None]
        return {
            "name": settings.node.name,
            "aliases": list(settings.node.aliases),
            "uri": self._node_uri(),
            "version": __version__,
            "roles": sorted([*roles, *(["member"] if settings.member else [])]),
        }

    def _node_uri(self) -> str:
        settings = self._settings
        if settings.http is not None:
            ports = [port for _, port in settings.http.addresses()]
            return f"http://{Uri('http', settings.node.name, ports[0] if ports else 80, ()).authority}"
        port = settings.coap.listen[0][1] if settings.coap is not None else 5683
        return f"coap://{Uri('coap', settings.node.name, port, ()).authority}"

    def _prefix(self) -> IPv6Interface | None:
        """This node's own global (or unique local) prefix on the first interface that has one."""
        for name in self._settings.coap.interfaces if self._settings.coap is not None else ():
            try:
                found = self._datagrams.interface_addresses(name)
            except OSError:
                continue
            for address in found:
                if isinstance(address, IPv6Interface) and not address.ip.is_link_local and not address.ip.is_loopback:
                    return address
        return None


class _Closing(Service):
    """Something that is closed when the node stops."""

    def __init__(self, name: str, close: Callable[[], Deferred[object]]) -> None:
        self.name, self._close = name, close

    def stopService(self) -> Deferred[object]:
        """Close it."""
        super().stopService()
        return self._close()


class Options(usage.Options):
    """The command line of `twistd m2m`."""

    synopsis = "[--check] --config FILE_OR_DIRECTORY [--config ...]"
    longdesc = "Runs m2mapp nodes: one for each configuration file; of a directory, each *.toml file is one."
    optFlags: ClassVar = [["check", None, "Tell every fault of the configuration and exit: 0, or 78 with the list on standard error."]]

    def __init__(self) -> None:
        super().__init__()
        self["config"] = []

    def opt_config(self, place: str) -> None:
        """The configuration file, or a directory of them [default: /etc/m2mapp/gateway.toml]."""
        self["config"].append(place)

    def postOptions(self) -> None:
        """Read the configuration. A fault ends the program here, before it detaches, with exit code 78."""
        files = config_files(self["config"] or ["/etc/m2mapp/gateway.toml"])
        self["settings"], faults = [], []
        for file in files:
            try:
                self["settings"].append(load(file))
            except BadConfiguration as bad:
                faults += bad.lines
        if not files:
            faults.append(f"{', '.join(self['config'])}: no *.toml file is there")
        if faults:
            _refuse(faults)
        if self["check"]:
            raise SystemExit(0)


def config_files(places: Sequence[str]) -> list[str]:
    """The files that are meant: a file is itself, a directory its *.toml files by name."""
    files: list[str] = []
    for place in places:
        path = FilePath(place)
        files += sorted(str(file) for file in path.glob("*.toml")) if path.is_dir() else [place]
    return files


def system_world() -> World:
    """The real world: this process's reactor, on a clock that never steps."""
    from twisted.internet import reactor  # noqa: TID251 - the one place

    make_monotonic(reactor)
    clock = WallClock()
    timed = cast("IReactorTime", reactor)

    def open_store(settings: Settings, tree: Tree, metrics: Metrics) -> StoreService:
        store = StoreService(FilePath(settings.node.state_dir), tree, clock, timed, metrics)
        store.open()
        return store

    return World(
        reactor=timed,
        clock=clock,
        datagrams=lambda _, metrics: SystemDatagrams(reactor, metrics),
        open_store=open_store,
        resolve=SystemResolver(cast("IReactorPluggableNameResolver", reactor).nameResolver),
    )


class _Nodes(MultiService):
    """All nodes of this process; tells the service manager when they are up."""

    def startService(self) -> None:
        """Start all nodes."""
        super().startService()
        notify("READY=1", os.environ)

    def stopService(self) -> Deferred[object]:
        """Stop all nodes."""
        notify("STOPPING=1", os.environ)
        return cast("Deferred[object]", super().stopService())


def makeService(options: Mapping[str, Any]) -> IService:
    """The service of `twistd m2m`: the nodes of the configuration. A store or a token file that is refused ends the program with 78."""
    world = system_world()
    nodes = _Nodes()
    try:
        for settings in options["settings"]:
            make_node(settings, world).setServiceParent(nodes)
    except (StoreRefused, TokenFileError) as refused:
        _refuse([str(refused)])
    return nodes


def _refuse(lines: Sequence[str]) -> NoReturn:
    for line in lines:
        sys.stderr.write(f"m2m: {line}\n")
    raise SystemExit(EXIT_CONFIG)
