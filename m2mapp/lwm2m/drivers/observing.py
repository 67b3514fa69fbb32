"""Reads object 33050 of each gateway that is registered here as LwM2M client, and observes it (RFC 7641).

Follows the registrations at `/scls`: a client with that object among its links is observed as long as it is registered; an observation that
ends is begun again after a pause that grows. Not responsible for what becomes of the reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.uris import Uri
from m2mapp.lwm2m.devices import OBJECT
from m2mapp.lwm2m.gateways import MAX_GATEWAYS, Found, ObjectReader
from m2mapp.lwm2m.objects import TLV
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.tree.registrations import SCL, SCLS, device_of, is_reporting
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Document, Resource
from m2mapp.tree.watch import Watch

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
BATCH: Final = 500
"""So many reports are written in one unit."""
AGAIN_S: Final = 1.0
"""So long after a registration was written again the object is observed anew."""
REMEMBERED_BYTES: Final = 32 << 20
"""So much of all gateways' answers is remembered, to know what is new in the next; beyond that each answer is as if it were the first."""
REQUEST_TIMEOUT_S: Final = 30.0
_log = Logger()


class Observation(Protocol):
    """Somebody's part in an observation."""

    def cancel(self) -> None:
        """Be told no more."""


Observe = Callable[[Outgoing, Callable[[Answer], None], Callable[[Answer | Fault], None]], Observation]
"""Observes the resource of a GET: tells each newer state, and once of the end. Raises `Fault`s."""
OnReports = Callable[[str, Mapping[str, Document | None]], Deferred[object]]
"""Told reports that are new (None: the device is gone). Raises, or fails with, a `Fault`."""
OnState = Callable[[str, Document], object]


@dataclass(slots=True)
class _Gateway:
    """A gateway that is observed; without `observation` and `call` it is being begun."""

    name: str
    uri: str
    observation: Observation | None = None
    call: IDelayedCall | None = None
    pause_s: float = FIRST_PAUSE_S
    latest: Answer | None = None
    work: Iterator[Found | None] | None = None
    step: IDelayedCall | None = None
    reader: ObjectReader = field(default_factory=ObjectReader)


class Observing:
    """Observes all gateways. `on_reports` is told what an object says; `on_state`, how it goes with a gateway.

    `known` gives the devices that are kept of a gateway, some of which may be gone when its object is read for the first time.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        tree: Tree,
        observe: Observe,
        on_reports: OnReports,
        on_state: OnState,
        known: Callable[[str], Iterable[str]],
    ) -> None:
        self._reactor, self._tree, self._observe, self._known = reactor, tree, observe, known
        self._on_reports, self._on_state = on_reports, on_state
        self._gateways: dict[str, _Gateway] = {}
        self._watch: Watch | None = None

    def __len__(self) -> int:
        """How many gateways are observed."""
        return len(self._gateways)

    def start(self) -> None:
        """Observe those that are registered, and those that will be."""
        for resource in self._tree.children(SCLS):
            self._look(resource.path[-1], resource)
        self._watch = self._tree.watch(SCLS, self._on_change, subtree=True)

    def stop(self) -> None:
        """Observe none; nothing is left pending."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        for name in list(self._gateways):
            self._leave(name)

    def _on_change(self, change: Change) -> None:
        if len(change.path) > len(SCLS):
            self._look(change.path[-1], change.after)

    def _look(self, name: str, resource: Resource | None) -> None:
        """A registration is this now."""
        uri = _uri_of(resource) if resource is not None and resource.type == SCL else None
        there = self._gateways.get(name)
        if there is not None and there.uri == uri:
            self._again(there)
            return
        self._leave(name)
        if uri is not None and len(self._gateways) < MAX_GATEWAYS:
            gateway = self._gateways[name] = _Gateway(name, uri)
            gateway.call = self._reactor.callLater(0, self._begin, gateway)

    def _again(self, gateway: _Gateway) -> None:
        """A client that registers anew has forgotten who observes it, and one with other instances is read in any case."""
        if gateway.call is None:
            if gateway.observation is not None:
                gateway.observation.cancel()
                gateway.observation = None
            gateway.call = self._reactor.callLater(AGAIN_S, self._begin, gateway)

    def _leave(self, name: str) -> None:
        gateway = self._gateways.pop(name, None)
        if gateway is None:
            return
        for call in (gateway.call, gateway.step):
            if call is not None:
                call.cancel()
        if gateway.observation is not None:
            gateway.observation.cancel()

    def _begin(self, gateway: _Gateway) -> None:
        gateway.call = None
        outgoing = Outgoing(Method.GET, gateway.uri, accept=TLV, timeout_s=REQUEST_TIMEOUT_S)
        try:
            gateway.observation = self._observe(outgoing, partial(self._answered, gateway), partial(self._ended, gateway))
        except Fault as fault:
            self._ended(gateway, fault)

    def _answered(self, gateway: _Gateway, answer: Answer) -> None:
        """The object as it is now. While an answer is worked on, only the newest that comes meanwhile is kept."""
        if self._gateways.get(gateway.name) is not gateway:
            return
        if gateway.work is not None:
            gateway.latest = answer
            return
        gateway.work = gateway.reader.read(answer.payload)
        self._step(gateway)

    def _step(self, gateway: _Gateway) -> None:
        """One part of the reading; the next is done in another turn of the reactor."""
        gateway.step = None
        try:
            found = next(gateway.work) if gateway.work is not None else None
        except Fault as fault:
            self._on_state(gateway.name, {"state": "not understood", "why": fault.detail})
            self._done(gateway)
            return
        if found is None:
            gateway.step = self._reactor.callLater(0, self._step, gateway)
            return
        gateway.pause_s = FIRST_PAUSE_S
        self._on_state(gateway.name, {"state": "observed", **({"why": "; ".join(found.faults)} if found.faults else {})})
        reports = dict(found.reports)
        if found.whole:
            reports |= {duid: None for duid in self._known(gateway.name) if duid not in reports}
        self._keep(gateway, list(reports.items()))

    def _keep(self, gateway: _Gateway, left: list[tuple[str, Document | None]]) -> None:
        """Hand on some reports, and when they are kept the others."""
        if not left:
            self._done(gateway)
            return
        kept: Deferred[object] = maybeDeferred(self._on_reports, gateway.name, dict(left[:BATCH]))
        kept.addCallback(lambda _: self._keep(gateway, left[BATCH:])).addErrback(self._not_kept, gateway)

    def _not_kept(self, failure: Failure, gateway: _Gateway) -> None:
        gateway.reader.forget()
        _log.warn("what {gateway} reports was not kept: {why}", gateway=gateway.name, why=failure.getErrorMessage())
        self._on_state(gateway.name, {"state": "not kept", "why": failure.getErrorMessage()})
        self._done(gateway)

    def _done(self, gateway: _Gateway) -> None:
        gateway.work = None
        if sum(each.reader.size for each in self._gateways.values()) > REMEMBERED_BYTES:
            gateway.reader.forget()
        latest, gateway.latest = gateway.latest, None
        if latest is not None:
            self._answered(gateway, latest)

    def _ended(self, gateway: _Gateway, last: Answer | Fault) -> None:
        if self._gateways.get(gateway.name) is not gateway:
            return
        gateway.observation = None
        why = last.detail if isinstance(last, Fault) else f"{last.code} {last.payload[:200].decode(errors='replace')}".strip()
        self._on_state(gateway.name, {"state": "not observed", "why": why})
        gateway.call = self._reactor.callLater(gateway.pause_s, self._begin, gateway)
        gateway.pause_s = min(LONGEST_PAUSE_S, gateway.pause_s * 2)


def _uri_of(resource: Resource) -> str | None:
    """The URI of object 33050 at a client that has registered with it; None for any other registration."""
    if not is_reporting(resource.attributes):
        return None
    device = device_of(resource)
    hosts = (*device.addresses, *device.hosts)
    return Uri(device.scheme, hosts[0], device.port, (str(OBJECT),)).text() if hosts else None
