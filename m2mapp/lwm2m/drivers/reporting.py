"""A gateway's report as a service: what is seen is written down, pushed, and carried as object 33050 by a client that stays registered.

Joins `noting`, `pushing` and `registering`; answers at `/node/reports`. Not responsible for what any of them does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.formats.uris import parse_uri
from m2mapp.lwm2m.client_objects import About, ClientObjects
from m2mapp.lwm2m.devices import DeviceObject
from m2mapp.lwm2m.drivers.noting import Noting
from m2mapp.lwm2m.drivers.pushing import Pushing, PushNode
from m2mapp.lwm2m.drivers.registering import Registering
from m2mapp.lwm2m.pushing import Target
from m2mapp.lwm2m.registering import Account
from m2mapp.lwm2m.report import QUEUED, confirmed, leases_of
from m2mapp.lwm2m.report_settings import ReportSettings
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IClock, ICommit, IHandle, IRequester
from m2mapp.model.messages import Answer, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NOBODY, Principal, Right
from m2mapp.tree.node import REPORTS
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Document, Resource, Unit
from m2mapp.tree.watch import Watch

PREFIXES: Path = ("prefixes",)
_SERVER = Principal("lwm2m server", frozenset({Right.READ, Right.WRITE}))
_log = Logger()


@dataclass(frozen=True, slots=True)
class ReportNode:
    """The parts of the node that the report works on. `requester` sends pushes.

    `bootstrap_uri` is what the configuration has devices told, empty: what the uplink learns; so is `certificate` (DER), None.
    """

    name: str
    version: str
    tree: Tree
    rules: ResourceRules
    committer: ICommit
    clock: IClock
    registrations: Registrations
    requester: IRequester
    random: Random
    peers: dict[str, str]
    bootstrap_uri: str = ""
    certificate: bytes | None = None


@implementer(IHandle)
class ReportService(Service):
    """The report of one gateway, for the route `("node", "reports")`. `objects` answers at the LwM2M client's endpoint."""

    name = "report"

    def __init__(self, reactor: IReactorTime, node: ReportNode, settings: ReportSettings, metrics: Metrics) -> None:
        self._reactor, self._node, self._settings = reactor, node, settings
        self._noting = Noting(reactor, node.tree, node.committer, node.clock, node.registrations)
        self._confirmed = metrics.counter("m2mapp_reports_confirmed_total", "Reports of devices that the bootstrap server has confirmed.")
        self._pushing = self._make_pushing() if settings.push else None
        self._devices = DeviceObject()
        self.objects = ClientObjects(
            About(node.name, node.version, settings.lifetime_s), self._devices, lambda: self._node.tree.committed_number
        )
        self.objects.renew = self._renew
        self.objects.on_read = self._on_read
        self.client: IRequester | None = None
        self._registering: Registering | None = None
        self._account: Account | None = None
        self._server_host = ""
        self._watches: list[Watch] = []
        self._leases: dict[str, dict[Path, Document]] = {}
        self._duid_of: dict[int, str] = {}
        metrics.gauge("m2mapp_reports_waiting", "Reports of devices that wait to be confirmed.", self._waiting)
        about = "Whether this gateway is registered at the bootstrap server as LwM2M client."
        metrics.gauge("m2mapp_report_registered", about, self._is_registered)

    @property
    def registering(self) -> Registering | None:
        """What keeps the client registered; None where no server is known."""
        return self._registering

    def startService(self) -> None:
        """Look at all devices, and report what is new of them from now on."""
        super().startService()
        tree = self._node.tree
        self._devices.clear()
        for resource in tree.children(REPORTS):
            self._carry(resource.path[-1], resource)
        self._watches = [tree.watch(REPORTS, self._on_report, subtree=True), tree.watch(PREFIXES, lambda _: self._look(), subtree=True)]
        self._noting.start()
        if self._pushing is not None:
            self._pushing.start()
        self._look()

    def stopService(self) -> Deferred[None]:
        """Deregister, and report no more; what waits is on disk."""
        super().stopService()
        for watch in self._watches:
            watch.stop()
        self._watches.clear()
        self._noting.stop()
        if self._pushing is not None:
            self._pushing.stop()
        registering, self._registering, self._account = self._registering, None, None
        self._leases.clear()
        self._duid_of.clear()
        return registering.stopService() if registering is not None else succeed(None)

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The answer to a request at `/node/reports`. Raises, or fails with, a `Fault`."""
        return execute(self._node.committer, self._node.rules.decide(request))

    def principal(self, host: str, by_session: bool) -> Principal:
        """Who asks at the client's endpoint: only the server that the client is registered at may do anything there.

        Where it registers by coaps, that is by the session with it.
        """
        is_server = bool(self._server_host) and host.partition("%")[0] == self._server_host
        needs_session = self._account is not None and self._account.server.scheme == "coaps"
        return _SERVER if is_server and (by_session or not needs_session) else NOBODY

    # The server that the client is registered at.

    def _look(self) -> None:
        """The account is another, perhaps: devices are told of another bootstrap server."""
        account = self._find_account() if self._settings.lwm2m and self.client is not None else None
        if account == self._account:
            return
        if self._registering is not None:
            self._registering.stopService().addErrback(lambda failure: _log.failure("deregistering failed", failure))
        self._account, self._registering, self._server_host = account, None, ""
        self.objects.served_by_another()
        if account is None or self.client is None:
            return
        self._server_host = account.server.host.partition("%")[0] if account.server.address is not None else ""
        links = self.objects.links
        self._registering = Registering(self._reactor, self.client, account, links, self._node.random, self._on_agreed)
        self._registering.startService()

    def _find_account(self) -> Account | None:
        """The server that devices are told, with its certificate, or the one that the settings name; None where there is none."""
        learned, certificate = _learned(self._node.tree.children(PREFIXES))
        told = self._node.bootstrap_uri or learned
        text = self._settings.server or told
        if not text:
            return None
        try:
            uri = parse_uri(text, "bootstrapURI")
            pinned = self._node.certificate or (certificate if told == learned else None)
            is_told = bool(told) and parse_uri(told, "bootstrapURI") == uri
        except Fault as fault:
            _log.warn("this gateway cannot register at the bootstrap server: {why}", why=fault.detail)
            return None
        if uri.scheme not in ("coap", "coaps"):
            return None
        return Account(uri, self._node.name, self._settings.lifetime_s, certificate=pinned if is_told else None)

    def _on_agreed(self, answer: Answer) -> None:
        self._server_host = answer.source.partition("%")[0]

    def _renew(self) -> None:
        if self._registering is not None:
            self._registering.renew()

    # What the object shows.

    def _on_report(self, change: Change) -> None:
        if len(change.path) > len(REPORTS):
            before = len(self._devices)
            if self._carry(change.path[-1], change.after):
                self.objects.changed()
            if before != len(self._devices) and self._registering is not None:
                self._registering.changed()

    def _carry(self, duid: str, resource: Resource | None) -> bool:
        """Show a device's leases as they are in its report: whether any is another than before."""
        report = resource.attributes.get("report") if resource is not None else None
        now = leases_of(duid, report if isinstance(report, dict) else None)
        before = self._leases.pop(duid, {})
        for path in before.keys() - now.keys():
            self._devices.drop(path)
        try:
            for path, lease in now.items():
                if before.get(path) != lease:
                    self._duid_of[self._devices.put(path, lease)] = duid
        except Fault as fault:
            _log.warn("a lease of {duid} cannot be an instance: {why}", duid=duid, why=fault.detail)
        if now:
            self._leases[duid] = now
        return before != now

    def _on_read(self, number: int | None) -> None:
        """The server has read the object, or an instance: where nothing is pushed, that is how it comes to know."""
        if self._pushing is not None:
            return
        tree = self._node.tree
        one = tree.find((*REPORTS, self._duid_of.get(number, ""))) if number is not None else None
        found = tree.children(REPORTS) if number is None else [one] if one is not None else []
        read = [each for each in found if each.attributes.get(QUEUED) is not None and tree.expected(each.path) is each]
        if not read:
            return
        now_ms = self._node.clock.now_ms()
        self._confirmed.add(len(read))
        written: Deferred[object] = self._node.committer.commit(Unit(tuple(confirmed(resource, now_ms) for resource in read)))
        written.addErrback(_not_written)

    def _waiting(self) -> float:
        if self._pushing is not None:
            return len(self._pushing)
        return sum(each.attributes.get(QUEUED) is not None for each in self._node.tree.children(REPORTS))

    def _is_registered(self) -> float:
        return float(self._registering is not None and self._registering.registered)

    def _make_pushing(self) -> Pushing:
        node = self._node
        parts = PushNode(node.tree, node.committer, node.clock, node.requester, node.random)
        target = Target(parse_uri(node.peers[self._settings.push]), node.name)
        return Pushing(self._reactor, parts, target, self._settings.batch_s, self._confirmed.add)


def _learned(prefixes: Iterable[Resource]) -> tuple[str, bytes | None]:
    """The bootstrap service that the uplink has learned, with its certificate: what the prefixes at `/prefixes` say; else empty."""
    for resource in prefixes:
        uri, certificate = resource.attributes.get("bootstrapURI"), resource.attributes.get("der")
        if "from" in resource.attributes and isinstance(uri, str):
            return uri, certificate if isinstance(certificate, bytes) else None
    return "", None


def _not_written(failure: Failure) -> None:
    _log.warn("that the server has read of devices could not be written down: {why}", why=failure.getErrorMessage())
