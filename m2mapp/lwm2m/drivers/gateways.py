"""The bootstrap server's knowledge of gateways and devices as a service: it answers at `/gateways` and `/devices`, and follows the tree.

What a report may be is in `gateways`, what is joined in `joined`, the reading of gateways' objects in `observing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from m2mapp.formats.documents import CBOR, JSON, MERGE_PATCH, choose, dump_cbor, dump_json, is_cbor, is_json, load_cbor, load_json, rfc3339
from m2mapp.lwm2m.drivers.observing import Observe, Observing
from m2mapp.lwm2m.gateways import (
    DEVICES_OF_GATEWAY,
    GATEWAY,
    GATEWAYS,
    MAX_GATEWAYS,
    MAX_REPORTED,
    PUSHED,
    READ,
    REPORTED_DEVICE,
    VIA,
    check_report,
    reported_path,
    write_of,
)
from m2mapp.lwm2m.joined import Joined
from m2mapp.lwm2m.record import DEVICE, DEVICES
from m2mapp.lwm2m.steps import STEPS
from m2mapp.model.errors import Fault, Malformed, NoSuchResource, Overloaded, UnsupportedMediaType
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IClock, ICommit, IHandle
from m2mapp.model.messages import UNCONDITIONAL, Method, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.tree.paths import check_segment
from m2mapp.tree.registrations import SCLS, Registrations
from m2mapp.tree.representation import page_of
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import COLLECTION, Change, Document, Remove, Requirement, Unit, Write
from m2mapp.tree.watch import Watch

LOOKED_AT: Final = 2_000
"""So many devices are looked at for one page of a filtered list, some 100 ms; the next page goes on behind them."""
RETRY_AFTER_S: Final = 60
_REFUSED_KEPT: Final = 20
_WHOLE, _ONE = len(GATEWAYS) + 2, len(GATEWAYS) + 3
LAST_REPORT, NOT_TAKEN, OBJECT_STATE = "lastReport", "notTaken", "object"
"""Volatile attributes of a gateway: when it last reported, what was not taken of it, how the reading of its object goes."""
ROUTES: tuple[Path, ...] = (GATEWAYS, DEVICES)
_log = Logger()

Reports = Mapping[str, Document | None]
"""Reports by DUID; None: the device is gone."""


@dataclass(frozen=True, slots=True)
class ServerNode:
    """The parts of the node that this works on. `observe` observes a resource of a gateway; `touch` has a volatile attribute saved."""

    tree: Tree
    rules: ResourceRules
    committer: ICommit
    clock: IClock
    registrations: Registrations
    observe: Observe
    touch: Callable[[Path], object] = lambda _: None


@implementer(IHandle)
class GatewayService(Service):
    """What is known of gateways and their devices, for the routes `("gateways",)` and `("devices",)`."""

    name = "gateways"

    def __init__(self, reactor: IReactorTime, node: ServerNode, metrics: Metrics) -> None:
        self._node = node
        self._joined = Joined(node.tree, node.registrations)
        self._observing = Observing(reactor, node.tree, node.observe, self._read, self._told, self._known)
        self._watches: list[Watch] = []
        self._of_gateway: Counter[str] = Counter()
        self._reports = metrics.counter("m2mapp_reports_taken_total", "Reports of devices that were taken from gateways.")
        self._refused = metrics.counter("m2mapp_reports_refused_total", "Reports of devices that were not taken.")
        metrics.gauge("m2mapp_reported_devices", "Devices that gateways have reported.", self._of_gateway.total)

    def startService(self) -> None:
        """Take what the tree has, and follow it; gateways that are registered are observed."""
        super().startService()
        tree = self._node.tree
        for resource in (*tree.walk(GATEWAYS), *tree.children(DEVICES)):
            self._take(Change(0, resource.path, None, resource, 0, ""))
        self._watches = [tree.watch(path, self._take, subtree=True) for path in ROUTES]
        self._observing.start()

    def stopService(self) -> None:
        """Observe no more, and forget what is derived from the tree."""
        super().stopService()
        for watch in self._watches:
            watch.stop()
        self._watches.clear()
        self._observing.stop()
        self._joined.clear()
        self._of_gateway.clear()

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The answer to a request at or below `/gateways` or `/devices`. Raises, or fails with, a `Fault`."""
        path = request.path
        if path[:1] == DEVICES:
            return self._devices(request)
        if path[_WHOLE - 1 : _WHOLE] == (DEVICES_OF_GATEWAY,):
            if len(path) == _ONE and request.method is Method.PUT:
                return self._put(request, {path[-1]: _document(request)})
            if len(path) == _WHOLE and request.method in (Method.PUT, Method.PATCH):
                return self._put(request, _document(request))
        if len(path) == len(GATEWAYS) + 1 and request.method is Method.GET:
            return self._gateway(request)
        return execute(self._node.committer, self._node.rules.decide(request))

    # Reports.

    def _put(self, request: Request, given: Mapping[str, object]) -> Deferred[Response]:
        """Reports that a gateway pushes: one, which is taken or refused; several; or all that there are."""
        gateway, one = check_segment(request.path[len(GATEWAYS)], "gateway"), len(request.path) == _ONE
        reports, wrong = _checked(given)
        changes, faults = self._changes(gateway, reports, PUSHED)
        faults |= wrong
        self._heard(gateway, len(given), faults)
        if one and faults:
            raise next(iter(faults.values()))
        if not one and request.method is Method.PUT:
            changes += [Remove((*request.path, duid)) for duid in self._known(gateway) if duid not in given]
        unit = Unit((*self._made(gateway), *changes), requires=(Requirement(request.path, request.conditions),), trace=request.trace)

        def answer(done: tuple[Change, ...]) -> Response:
            self._touch(gateway)
            if one:
                new = any(change.path == request.path and change.before is None for change in done)
                return Response(Status.CREATED if new else Status.CHANGED, location=request.path if new else None)
            told = {"taken": len(given) - len(faults), "refused": {duid: fault.detail for duid, fault in faults.items()}}
            return Response(Status.CHANGED, dump_json(told), JSON)

        unchanged = not unit.changes and request.conditions == UNCONDITIONAL
        committed: Deferred[tuple[Change, ...]] = succeed(()) if unchanged else self._node.committer.commit(unit)
        return committed.addCallback(answer)

    def _changes(self, gateway: str, reports: Reports, via: str) -> tuple[list[Write | Remove], dict[str, Fault]]:
        """What keeps the reports, and why some are not taken."""
        tree, now_ms = self._node.tree, self._node.clock.now_ms()
        changes: list[Write | Remove] = []
        faults: dict[str, Fault] = {}
        room = MAX_REPORTED - self._of_gateway.total()
        for duid, report in reports.items():
            before = tree.expected(reported_path(gateway, duid))
            if report is None:
                changes += [Remove(before.path)] if before is not None else []
                continue
            try:
                self._joined.claims.check(gateway, report, now_ms)
                if before is None and room <= 0:
                    raise Overloaded(f"{MAX_REPORTED} devices are reported, and no more are taken", RETRY_AFTER_S)
            except Fault as fault:
                faults[duid] = fault
                continue
            write = write_of(gateway, duid, report, via, before, now_ms)
            if write is not None:
                changes.append(write)
                room -= before is None
        return changes, faults

    def _made(self, gateway: str) -> list[Write]:
        """What makes the gateway, where it is not there yet. Raises `Overloaded`."""
        path = (*GATEWAYS, gateway)
        if self._node.tree.expected(path) is not None:
            return []
        if len(self._node.tree.children(GATEWAYS, limit=MAX_GATEWAYS)) >= MAX_GATEWAYS:
            raise Overloaded(f"there are {MAX_GATEWAYS} gateways, and no more are taken", RETRY_AFTER_S)
        return [Write(path, GATEWAY), Write((*path, DEVICES_OF_GATEWAY), COLLECTION)]

    def _heard(self, gateway: str, count: int, faults: Mapping[str, Fault]) -> None:
        self._reports.add(count - len(faults))
        self._refused.add(len(faults))
        for duid, fault in list(faults.items())[:_REFUSED_KEPT]:
            _log.warn("the report of {duid} by {gateway} is not taken: {why}", duid=duid, gateway=gateway, why=fault.detail)
        if faults and self._node.tree.find((*GATEWAYS, gateway)) is not None:
            volatile = self._node.tree.volatile((*GATEWAYS, gateway))
            at = rfc3339(self._node.clock.now_ms())
            new = [{"duid": duid, "at": at, "why": fault.detail} for duid, fault in faults.items()]
            before = volatile.get(NOT_TAKEN)
            volatile[NOT_TAKEN] = [*(before if isinstance(before, list) else ()), *new][-_REFUSED_KEPT:]

    def _touch(self, gateway: str) -> None:
        path = (*GATEWAYS, gateway)
        if self._node.tree.find(path) is not None:
            self._node.tree.volatile(path)[LAST_REPORT] = rfc3339(self._node.clock.now_ms())
            self._node.touch(path)

    # What is read from gateways' objects.

    def _known(self, gateway: str) -> list[str]:
        """The devices that are kept of a gateway."""
        return [resource.path[-1] for resource in self._node.tree.children((*GATEWAYS, gateway, DEVICES_OF_GATEWAY))]

    def _read(self, gateway: str, reports: Reports) -> Deferred[object]:
        """What is new in the object of a gateway. What that gateway has pushed stays: it says more."""
        there = {duid: self._node.tree.expected(reported_path(gateway, duid)) for duid in reports}
        pushed = {duid for duid, resource in there.items() if resource is not None and resource.attributes[VIA] == PUSHED}
        now = {duid: report for duid, report in reports.items() if duid not in pushed}
        changes, faults = self._changes(gateway, now, READ)
        self._heard(gateway, len(now), faults)
        changes = [*self._made(gateway), *changes]
        done: Deferred[object] = self._node.committer.commit(Unit(tuple(changes))) if changes else succeed(None)
        return done.addCallback(lambda _: self._touch(gateway))

    def _told(self, gateway: str, state: Document) -> None:
        """How the reading of a gateway's object goes."""
        path = (*GATEWAYS, gateway)
        if self._node.tree.find(path) is None:
            try:
                made = self._made(gateway)
            except Fault as fault:
                _log.warn("the gateway {gateway} is not kept: {why}", gateway=gateway, why=fault.detail)
                return
            unit: Deferred[object] = self._node.committer.commit(Unit(tuple(made)))
            unit.addCallbacks(lambda _: self._told(gateway, state), lambda failure: _log.failure("a gateway was not kept", failure))
            return
        self._node.tree.volatile(path)[OBJECT_STATE] = {**state, "at": rfc3339(self._node.clock.now_ms())}

    # Answers.

    def _gateway(self, request: Request) -> Response:
        """A gateway: its registration, how its object is read, how many devices it has reported."""
        resource = self._node.tree.get(request.path)
        name, volatile = request.path[-1], self._node.tree.volatile(request.path)
        scl = self._node.tree.find((*SCLS, name))
        document: dict[str, object] = {
            "name": name,
            "registered": None if scl is None else _registration(scl.attributes, scl.created_ms),
            "devices": self._of_gateway[name],
            LAST_REPORT: volatile.get(LAST_REPORT),
            OBJECT_STATE: volatile.get(OBJECT_STATE),
            NOT_TAKEN: volatile.get(NOT_TAKEN, []),
        }
        return _answer(document, request.accept, resource.modified_ms)

    def _devices(self, request: Request) -> Response | Deferred[Response]:
        """`/devices`: all, or those that miss a step; `/devices/<name>`: one, by endpoint, DUID or address."""
        if request.method is not Method.GET:
            return execute(self._node.committer, self._node.rules.decide(request))
        if request.path == DEVICES:
            return self._list(request)
        device = self._joined.find(request.path[-1]) if len(request.path) == len(DEVICES) + 1 else None
        if device is None:
            raise NoSuchResource(path_text(request.path))
        return _answer(self._joined.document(device, self._node.clock.now_ms()), request.accept, device.modified_ms)

    def _list(self, request: Request) -> Response:
        page, step, least_s = page_of(request), request.query_value("missing"), _seconds(request.query_value("for"))
        if step not in (None, "", *STEPS):
            raise Malformed("missing", step, f"empty, or one of {', '.join(STEPS)}")
        filtered = step is not None or least_s > 0
        now_ms = self._node.clock.now_ms()
        children: list[dict[str, object]] = []
        names = self._joined.names(page.after, LOOKED_AT if filtered else page.limit)
        last = page.after
        for name in names:
            if len(children) == page.limit:
                break
            last = name
            device = self._joined.find(name)
            if device is None:
                continue
            shown = {"modified": rfc3339(device.modified_ms), **self._joined.document(device, now_ms)}
            missing = shown["missing"]
            late = isinstance(missing, dict) and step in (None, "", missing["step"]) and missing["forSeconds"] >= least_s
            if late or not filtered:
                children.append({"name": name, "type": DEVICE, **{key: shown[key] for key in _LISTED if key in shown}})
        document: dict[str, object] = {"path": path_text(DEVICES), "type": COLLECTION, "children": children}
        following = None
        if names and last is not None and self._joined.names(last, 1):
            document["next"] = last
            kept = tuple(pair for pair in request.query if pair[0] not in ("limit", "after"))
            following = (*kept, ("limit", str(page.limit)), ("after", last))
        return _answer(document, request.accept, None)._replace(next_query=following)

    # What is committed.

    def _take(self, change: Change) -> None:
        kind = (change.after or change.before).type  # type: ignore[union-attr]  # one of them is there
        if kind == DEVICE:
            self._joined.record_changed(change.before, change.after)
        elif kind == REPORTED_DEVICE:
            self._of_gateway[change.path[len(GATEWAYS)]] += (change.after is not None) - (change.before is not None)
            self._joined.report_changed(change.before, change.after)


_LISTED: Final = ("modified", "state", "address", "gateway", "duid", "missing")


def _document(request: Request) -> dict[str, object]:
    """The document in a request. Raises `UnsupportedMediaType` or `Malformed`."""
    kind = request.content_type
    if not (is_json(kind) or is_cbor(kind)):
        raise UnsupportedMediaType(kind, (JSON, CBOR, MERGE_PATCH))
    value = load_cbor(request.payload) if is_cbor(kind) else load_json(request.payload)
    if not isinstance(value, dict):
        raise Malformed("body", value, "an object")
    return value


def _checked(given: Mapping[str, object]) -> tuple[dict[str, Document | None], dict[str, Fault]]:
    """The reports in a document by DUID (null: gone), and the faults of those that are none."""
    reports: dict[str, Document | None] = {}
    faults: dict[str, Fault] = {}
    for duid, report in given.items():
        try:
            reports[duid] = None if report is None else check_report(duid, report)
        except Fault as fault:
            faults[duid] = fault
    return reports, faults


def _registration(attributes: Document, created_ms: int) -> dict[str, object]:
    said = attributes.get("attributes")
    return {
        "since": rfc3339(created_ms),
        "lifetime": attributes.get("lifetime"),
        "addresses": attributes.get("addresses"),
        "port": attributes.get("port"),
        "lwm2m": said.get("lwm2m") if isinstance(said, Mapping) else None,
    }


def _seconds(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):  # noqa: PLR2004 - 31 years
        raise Malformed("for", text, "a number of seconds")
    return int(text)


def _answer(document: Document, accept: tuple[str, ...], modified_ms: int | None) -> Response:
    """A document that says for how long something is so: it is another at each time, so that it has no ETag."""
    media_type = choose(accept, (JSON, CBOR))
    payload = dump_cbor(document) if media_type == CBOR else dump_json(document)
    return Response(Status.CONTENT, payload, media_type, modified_ms=modified_ms)
