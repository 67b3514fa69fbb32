"""The bootstrap server as a service: it answers at `/bs` and `/bspack`, bounds the sessions, and keeps the record of each device.

What is asked of a client is in `bootstrap`, the asking in `drivers.session`, the plans in `plans`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.formats.documents import SENML_CBOR, SENML_JSON, choose
from m2mapp.formats.shapes import Wrong
from m2mapp.lwm2m.accounts import instances
from m2mapp.lwm2m.bootstrap import Ask, begin
from m2mapp.lwm2m.drivers.session import Session
from m2mapp.lwm2m.objects import formats, pack
from m2mapp.lwm2m.plans import BS, FILE, PLAN, Identity, Plan, PlanBook, PlanShape, Selector, clashing, endpoint_name, plan_of
from m2mapp.lwm2m.record import (
    BOOTSTRAPPED,
    BOOTSTRAPPED_AT,
    BOOTSTRAPPING,
    DEVICE_TYPE,
    DEVICES,
    FAILED,
    REQUESTED,
    STATE,
    Record,
    interrupted,
)
from m2mapp.lwm2m.settings import BootstrapSettings
from m2mapp.model.errors import Conflict, Fault, Forbidden, Malformed, MethodNotAllowed, NoSuchResource, Overloaded, TooManyRequests
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IAskBack, IClock, ICommit, IHandle
from m2mapp.model.messages import Answer, Method, Outgoing, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.tree.access import BOOTSTRAP_PACK
from m2mapp.tree.resources import Decision, ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Change, Document, Remove, Resource, Unit, Write
from m2mapp.tree.watch import Watch

MAX_DEVICES = 100_000
"""So many devices have records: with a plan for all, anybody may send any name."""
RETRY_AFTER_S = 30

_log = Logger()
_Outcome = TypeVar("_Outcome")


@dataclass(frozen=True, slots=True)
class BootstrapNode:
    """The parts of the node that the server works on."""

    tree: Tree
    rules: ResourceRules
    committer: ICommit
    clock: IClock
    back: IAskBack


@dataclass(slots=True)
class _Running:
    """A session from the client's request on; `session` is there once the record is."""

    endpoint: str
    host: str
    record: Record
    session: Session | None = None


def bootstrap_types(settings: BootstrapSettings) -> tuple[ResourceType, ...]:
    """The resource types of the server: plans and records."""
    return PlanShape(settings.credentials).type(), DEVICE_TYPE


def plan_changes(tree: Tree, plans: Mapping[str, Document]) -> tuple[Write | Remove, ...]:
    """What makes the tree's plans those of the files, beside those that were written: files that are gone, changed or new."""
    there = {resource.path[-1]: resource for resource in tree.children(BS)}
    gone = [name for name, resource in there.items() if FILE in resource.attributes and name not in plans]
    changed = {name: plan for name, plan in plans.items() if name not in there or there[name].attributes != plan}
    for name in changed:
        if name in there and FILE not in there[name].attributes:
            _log.warn("the plan {name} that was written is replaced by that of the file of its name", name=name)
    writes = (Write((*BS, name), PLAN, plan) for name, plan in changed.items())
    return *(Remove((*BS, name)) for name in gone), *writes


@implementer(IHandle)
class BootstrapService(Service):
    """The bootstrap server of a node, for the routes `("bs",)` and `("bspack",)`."""

    name = "bootstrap"

    def __init__(self, reactor: IReactorTime, node: BootstrapNode, settings: BootstrapSettings, metrics: Metrics) -> None:
        self._reactor, self._node, self._settings = reactor, node, settings
        self._book = PlanBook()
        self._running: dict[str, _Running] = {}
        self._under_way: dict[tuple[Selector, str], str] = {}
        self._by_host: dict[str, int] = {}
        self._devices = 0
        self._watches: list[Watch] = []
        self._counted = {
            name: metrics.counter("m2mapp_bootstrap_total", "Bootstrap requests, by what came of them.", outcome=name)
            for name in ("bootstrapped", "failed", "replaced", "refused")
        }
        metrics.gauge("m2mapp_bootstrap_sessions", "Bootstrap sessions under way.", lambda: len(self._running))

    def startService(self) -> None:
        """Take the plans of the files, then those and the records that are in the tree, and follow the tree."""
        super().startService()
        tree = self._node.tree
        for name, document in self._settings.plans.items():
            self._book.put(plan_of(name, document))
        for resource in tree.children(BS):
            if FILE not in resource.attributes and resource.path[-1] not in self._settings.plans:
                self._enter(resource)
        devices = tree.children(DEVICES)
        left = [each for each in devices if each.attributes.get(STATE) == BOOTSTRAPPING]
        self._devices = len(devices)
        self._watches = [tree.watch(BS, self._on_plan, subtree=True), tree.watch(DEVICES, self._on_device, subtree=True)]
        self._write(interrupted(each.path[-1], each.attributes) for each in left)

    def stopService(self) -> None:
        """End all sessions; their records say so at the next start."""
        super().stopService()
        for watch in self._watches:
            watch.stop()
        self._watches.clear()
        for running in list(self._running.values()):
            self._leave(running)
        self._book = PlanBook()

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The answer to a request at `/bs`, below it, or at `/bspack`. Raises, or fails with, a `Fault`."""
        if not self.running:  # with no plans yet, or no more, every client would be told that it is unknown
            raise Overloaded("the bootstrap server is starting or stopping")
        if request.path[:1] == BOOTSTRAP_PACK:
            return self._pack(request)
        if request.path == BS and request.method is Method.POST:
            try:
                return self._request(request)
            except Exception:
                self._counted["refused"].add()
                raise
        return self._plans(request)

    # -- a client asks ------------------------------------------------------------------------------------------------------

    def _request(self, request: Request) -> Deferred[Response]:
        """Bootstrap-Request: answered once the record is kept; the exchange begins after that."""
        endpoint, plan = self._plan_for(request)
        wanted = formats(request.query_value("pct"))
        if request.peer is None or request.source is None:
            raise Malformed("scheme", "http", "coap or coaps: a client is asked back on the ports that it asked from")
        self._check_room(endpoint, request.source[0])
        before = self._node.tree.find((*DEVICES, endpoint))
        record = Record(endpoint, *request.source, request.principal.name, plan.name, before and before.attributes.get(BOOTSTRAPPED_AT))
        record.add(REQUESTED, self._node.clock.now_ms(), **{name: value for name, value in request.query if name == "pct"})
        running = self._enroll(_Running(endpoint, request.source[0], record))
        exchange = begin(plan, self._settings.credentials, wanted)
        send = partial(self._send, request.peer, request.trace)
        session = Session(
            exchange, send, self._reactor, self._settings.session_s, partial(self._on_step, record), partial(self._on_end, running)
        )

        def kept(_: tuple[Change, ...]) -> Response:
            if self._running.get(endpoint) is running:
                running.session = session
                session.start()
            return Response(Status.CHANGED)

        def lost(failure: Failure) -> Failure:
            self._leave(running)
            return failure

        unit = Unit((record.write(BOOTSTRAPPING),), trace=request.trace)
        committed: Deferred[tuple[Change, ...]] = self._node.committer.commit(unit)
        return committed.addCallbacks(kept, lost)

    def _plan_for(self, request: Request) -> tuple[str, Plan]:
        """Who asks, and the plan for it. Refuses whom no plan knows, and who has not shown who it is (1.1, section 6.1.7.1: 4.00)."""
        try:
            endpoint = endpoint_name(request.query_value("ep") or "")
        except Wrong as wrong:
            raise Malformed("ep", wrong.value or "nothing", wrong.expected) from wrong
        plan = self._book.find(endpoint)
        if plan is None:
            raise Malformed("ep", endpoint, "an endpoint that there is a plan for")
        if plan.identity is Identity.CERTIFICATE:
            names = self._node.back.names(request.peer)
            if not names:
                raise Forbidden(f"{endpoint} has to show a certificate that names it")
            if endpoint not in names:
                raise Malformed("ep", endpoint, f"a name in the certificate that was shown: {', '.join(names)}")
        return endpoint, plan

    def _check_room(self, endpoint: str, host: str) -> None:
        """Raise where there are too many sessions or devices; one that is replaced makes room for its successor."""
        if endpoint not in self._running:
            if len(self._running) >= self._settings.sessions:
                raise Overloaded(f"{self._settings.sessions} sessions are under way, and no more are taken", RETRY_AFTER_S)
            if self._by_host.get(host, 0) >= self._settings.sessions_per_host:
                raise TooManyRequests(f"{self._settings.sessions_per_host} sessions of {host} are under way", RETRY_AFTER_S)
        if self._devices + len(self._running) >= MAX_DEVICES and self._node.tree.find((*DEVICES, endpoint)) is None:
            raise Overloaded(f"there are records of {MAX_DEVICES} devices, and no more are taken", RETRY_AFTER_S)

    def _pack(self, request: Request) -> Response:
        """Bootstrap-Pack-Request (1.2, section 6.1.6). Where the plan has none it is 4.04: then clients send a Bootstrap-Request."""
        if request.method is not Method.GET:
            raise MethodNotAllowed(request.method.value, path_text(request.path), ("GET",))
        plan = self._plan_for(request)[1]
        if not plan.pack or request.path != BOOTSTRAP_PACK:
            raise NoSuchResource(path_text(request.path))
        media_type = choose(request.accept, (SENML_CBOR, SENML_JSON))
        return Response(Status.CONTENT, pack(instances(plan, self._settings.credentials), media_type), media_type)

    # -- sessions -----------------------------------------------------------------------------------------------------------

    def _enroll(self, running: _Running) -> _Running:
        """Count a session in, in place of one that the endpoint has."""
        before = self._running.get(running.endpoint)
        if before is not None:
            self._counted["replaced"].add()
            self._leave(before)
        self._running[running.endpoint] = running
        self._by_host[running.host] = self._by_host.get(running.host, 0) + 1
        return running

    def _leave(self, running: _Running) -> None:
        """A session is over, or has lost its place."""
        if self._running.get(running.endpoint) is not running:
            return
        del self._running[running.endpoint]
        self._by_host[running.host] -= 1
        if not self._by_host[running.host]:
            del self._by_host[running.host]
        if running.session is not None:
            running.session.cancel()

    def _send(self, peer: object, trace: str, ask: Ask, timeout_s: float) -> Deferred[Answer]:
        outgoing = Outgoing(ask.method, ask.path, ask.payload, ask.content_type, ask.accept, timeout_s, trace)
        asked: Deferred[Answer] = self._node.back.ask_back(peer, outgoing)
        return asked

    def _on_step(self, record: Record, ask: Ask, code: str) -> None:
        record.add(ask.name, self._node.clock.now_ms(), **({"code": code} if code else {}))

    def _on_end(self, running: _Running, why: str) -> None:
        self._leave(running)
        state = FAILED if why else BOOTSTRAPPED
        self._counted[state].add()
        if not why:
            running.record.add(BOOTSTRAPPED, self._node.clock.now_ms())
        self._write([running.record.write(state, why)])

    def _write(self, writes: Iterable[Write]) -> None:
        """Commit records; what cannot be kept is logged, since nobody waits for it."""
        unit = Unit(tuple(writes))
        if unit.changes:
            self._node.committer.commit(unit).addErrback(lambda failure: _log.failure("a bootstrap record was not kept", failure))

    # -- plans and records --------------------------------------------------------------------------------------------------

    def _plans(self, request: Request) -> Response | Deferred[Response]:
        """A request to `/bs` or to a plan: as to any resource, but for what other plans and files forbid."""
        decision = self._node.rules.decide(request)
        if isinstance(decision, Decision):
            there = self._node.tree.expected(request.path)
            if there is not None and FILE in there.attributes:
                raise Conflict(f"this plan is that of the file {there.attributes[FILE]}: change it there")
            for change in decision.unit.changes:
                if isinstance(change, Write):
                    return self._write_plan(plan_of(change.path[-1], change.attributes), decision)
        return execute(self._node.committer, decision)

    def _write_plan(self, plan: Plan, decision: Decision) -> Response | Deferred[Response]:
        """Write a plan, unless another is for the same devices, be it only on its way to the disk."""
        whom = plan.selector, plan.who
        if self._under_way.setdefault(whom, plan.name) != plan.name:
            raise clashing(plan, self._under_way[whom])
        try:
            self._book.check(plan)
        except Fault:
            del self._under_way[whom]
            raise
        written: Deferred[Response] = self._node.committer.commit(decision.unit).addCallback(decision.answer)

        def over(outcome: _Outcome) -> _Outcome:
            self._under_way.pop(whom, None)
            return outcome

        return written.addBoth(over)

    def _on_plan(self, change: Change) -> None:
        if change.after is not None:
            self._enter(change.after)
        elif change.before is not None:
            self._book.drop(change.path[-1])

    def _enter(self, resource: Resource) -> None:
        if resource.type != PLAN:
            return
        plan = plan_of(resource.path[-1], resource.attributes)
        missing = {account.credentials for account in plan.accounts} - {"", *self._settings.credentials}
        if missing:  # it was written when the configuration file still had them
            _log.warn("the plan {plan} is not used: there are no credentials {names}", plan=plan.name, names=", ".join(sorted(missing)))
            self._book.drop(plan.name)
            return
        other = self._book.clash(plan)
        if other is not None:  # it was written before a file had one for the same devices
            _log.warn("the plan {plan} is not used: {other}, of a file, is for the same devices", plan=plan.name, other=other)
            return
        self._book.put(plan)

    def _on_device(self, change: Change) -> None:
        if len(change.path) > len(DEVICES):
            self._devices += (change.after is not None) - (change.before is not None)


ROUTES: tuple[Path, ...] = (BS, BOOTSTRAP_PACK)
"""Where requests are for the bootstrap server."""
