"""Keeps the times of this node's multicast addresses, and lends the global ones: `/mcAddrPool` (spec sections 3 and 12).

An address is promised, committed, and only then given: it is never given twice, whatever dies between. What the resources mean is in
`lending`; which address comes next is in `pool`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.formats.documents import JSON, dump_json, load_document, rfc3339
from m2mapp.groups.ledger import AddressLedger
from m2mapp.groups.lending import (
    ASKED,
    LEASE,
    LEASE_S,
    POOL,
    QUARANTINE_S,
    RESTING,
    RESTING_AT,
    Ends,
    describe_lease,
    given_up,
)
from m2mapp.model.errors import Conflict, MethodNotAllowed, NoSuchResource, Overloaded
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IClock, ICommit, IHandle
from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.tree.representation import document_response, page_of
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import COLLECTION, Change, Remove, Requirement, Resource, Unit, Write
from m2mapp.tree.watch import Watch

RETRY_S = 10.0
"""So long after an end that could not be written (a full disk) it is tried again."""
BATCH = 200
"""So many ends are written in one unit."""

_log = Logger(namespace="m2mapp.groups.addresses")


@implementer(IHandle)
class AddressKeeper(Service):
    """Ends leases and rests, and answers at `/mcAddrPool`. `on_free` is called when an address may be given again."""

    name = "addresses"

    def __init__(  # noqa: PLR0913 - the parts of the node that it works on, by name
        self,
        *,
        reactor: IReactorTime,
        clock: IClock,
        tree: Tree,
        committer: ICommit,
        ledger: AddressLedger,
        metrics: Metrics,
        on_free: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor, self._clock, self._tree, self._committer, self._ledger = reactor, clock, tree, committer, ledger
        self._on_free = on_free
        self._leases, self._rests = Ends(LEASE_S), Ends(QUARANTINE_S)
        self._lent: dict[str, str] = {}
        self._asking: dict[str, list[Deferred[Response]]] = {}
        self._call: IDelayedCall | None = None
        self._ending = False
        self._watch: list[Watch] = []
        self._refused = metrics.counter("m2mapp_group_addresses_refused_total", "Requests for a global address when none was free.")
        metrics.gauge("m2mapp_group_addresses_lent", "Global addresses lent to other nodes.", lambda: len(self._lent))
        metrics.gauge("m2mapp_group_addresses_resting", "Addresses that are not given again yet.", lambda: len(self._rests))

    def startService(self) -> None:
        """Count the times from now on."""
        super().startService()
        for place in (POOL, RESTING_AT):
            for resource in self._tree.children(place):
                self._enter(resource)
            self._watch.append(self._tree.watch(place, self._on_change, subtree=True))
        self._schedule()

    def stopService(self) -> None:
        """End nothing further; what is in the tree goes on at the next start."""
        super().stopService()
        for watch in self._watch:
            watch.stop()
        self._watch.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._leases.clear()
        self._rests.clear()
        self._lent.clear()

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """Answer a request at `/mcAddrPool` or below. Raises, or fails with, a `Fault`."""
        if len(request.path) == 1:
            if request.method is Method.GET:
                return self._list(request)
            if request.method is Method.POST:
                return self._lend(request)
            raise MethodNotAllowed(request.method.value, path_text(request.path), ("GET", "POST"))
        lease = self._tree.find(request.path)
        if lease is None or lease.type != LEASE:
            raise NoSuchResource(path_text(request.path))
        if request.method is Method.GET:
            return document_response(self._document(lease), request.accept, lease.version, lease.modified_ms)
        if request.method is Method.DELETE:
            return self._return(request, lease)
        raise MethodNotAllowed(request.method.value, path_text(request.path), ("DELETE", "GET"))

    # Lending.

    def _lend(self, request: Request) -> Response | Deferred[Response]:
        asked = ASKED.check(load_document(request.payload, request.content_type))
        user, version = str(asked["for"]), 4 if asked["version"] == 4 else 6  # noqa: PLR2004 - IP versions
        address = self._lent.get(user)
        lease = self._tree.find((*POOL, address)) if address is not None else None
        if address is not None and lease is not None:
            # Renewed: that is not written, since a start begins all times anew.
            self._leases.start(address, self._reactor.seconds())
            self._schedule()
            return document_response(self._document(lease), (), lease.version)._replace(status=Status.CHANGED, location=lease.path)
        if user in self._asking:
            again: Deferred[Response] = Deferred()
            self._asking[user].append(again)
            return again
        return self._commit_lease(request, user, version)

    def _commit_lease(self, request: Request, user: str, version: int) -> Deferred[Response]:
        address = self._ledger.promise_global(version)
        if address is None:
            self._refused.add()
            wait_s = ceil(self._free_in_s())
            raise Overloaded(f"no IPv{version} address is left in the global pool; one may be free in {wait_s} s", wait_s)
        path = (*POOL, address)
        unit = Unit((Write(path, LEASE, {"for": user, "own": False}),), requires=(Requirement(path, exists=False),), trace=request.trace)
        self._asking[user] = []
        done: Deferred[tuple[Change, ...]] = self._committer.commit(unit)
        answered = done.addCallback(self._answer, path)
        return answered.addBoth(self._told, user, address)

    def _answer(self, changes: tuple[Change, ...], path: Path) -> Response:
        lease = next(change.after for change in changes if change.path == path and change.after is not None)
        self._enter(lease)
        return Response(Status.CREATED, dump_json(self._document(lease)), JSON, location=path)

    def _told(self, outcome: Response | Failure, user: str, address: str) -> Response | Failure:
        """Who asked for the same meanwhile has the same answer."""
        if isinstance(outcome, Failure):
            self._ledger.release(address)
        for waiting in self._asking.pop(user, []):
            waiting.callback(outcome)
        return outcome

    def _return(self, request: Request, lease: Resource) -> Deferred[Response]:
        if lease.attributes["own"] is True:
            raise Conflict(f"{path_text(lease.path)} is the address of this node's own group {lease.attributes['for']}")
        requires = (Requirement(lease.path, request.conditions, exists=True),)
        unit = Unit(tuple(given_up(lease.path[-1])), requires=requires, trace=request.trace)
        done: Deferred[object] = self._committer.commit(unit)
        return done.addCallback(lambda _: Response(Status.DELETED))

    def _list(self, request: Request) -> Response:
        """All that is given, to other nodes and to this one's own groups."""
        page = page_of(request)
        leases = self._tree.children(POOL, page.after, page.limit + 1)
        shown = [{"name": one.path[-1], "type": LEASE, **self._document(one)} for one in leases[: page.limit]]
        document: dict[str, object] = {"path": path_text(POOL), "type": COLLECTION, "children": shown}
        response = document_response(document, request.accept, self._tree.latest(POOL))
        if len(leases) <= page.limit:
            return response
        return response._replace(next_query=(("limit", str(page.limit)), ("after", leases[page.limit - 1].path[-1])))

    def _document(self, lease: Resource) -> dict[str, object]:
        """The lease with its end; one of this node's own has none. `lifetime`, in seconds, needs no clock that agrees with this node's."""
        end_s = self._leases.end_s(lease.path[-1])
        left_s = None if end_s is None else max(0.0, end_s - self._reactor.seconds())
        expires = None if left_s is None else rfc3339(self._clock.now_ms() + int(left_s * 1000))
        return {**describe_lease(lease, self._tree), "expires": expires, "lifetime": None if left_s is None else int(left_s)}

    def _free_in_s(self) -> float:
        """Seconds until an address may be free: the first that rests, or the first lease's end and its rest."""
        now = self._reactor.seconds()
        rest, lease = self._rests.next_end_s(), self._leases.next_end_s()
        ends = [*([rest] if rest is not None else []), *([lease + QUARANTINE_S] if lease is not None else [])]
        return max(1.0, min(ends, default=now + QUARANTINE_S) - now)

    # Ending.

    def _on_change(self, change: Change) -> None:
        if change.before is not None and change.after is None:
            self._leave(change.before)
        if change.after is not None:
            self._enter(change.after)
        self._schedule()

    def _enter(self, resource: Resource) -> None:
        address, now = resource.path[-1], self._reactor.seconds()
        if resource.type == RESTING:
            self._rests.start(address, now)
        elif resource.type == LEASE and resource.attributes["own"] is not True:
            self._leases.start(address, now)
            self._lent[str(resource.attributes["for"])] = address

    def _leave(self, resource: Resource) -> None:
        address = resource.path[-1]
        if resource.type == RESTING:
            self._rests.forget(address)
            self._on_free()
        elif resource.type == LEASE:
            self._leases.forget(address)
            user = str(resource.attributes["for"])
            if self._lent.get(user) == address:
                del self._lent[user]

    def _schedule(self) -> None:
        """Wait for the first end. Ends only ever come later than what was waited for, so a call that stands is right or too early."""
        ends = [end_s for end_s in (self._leases.next_end_s(), self._rests.next_end_s()) if end_s is not None]
        if not self.running or self._ending or not ends:
            return
        delay_s = max(0.0, min(ends) - self._reactor.seconds())
        if self._call is None:
            self._call = self._reactor.callLater(delay_s, self._end_due)
        elif self._call.getTime() > self._reactor.seconds() + delay_s:
            self._call.reset(delay_s)

    def _end_due(self) -> None:
        self._call = None
        now = self._reactor.seconds()
        leases, rests = self._leases.due(now, BATCH), self._rests.due(now, BATCH)
        changes: list[Write | Remove] = [Remove((*RESTING_AT, address)) for address in rests]
        for address in leases:
            changes += given_up(address)
        if not changes:
            self._schedule()
            return
        self._ending = True
        done: Deferred[object] = self._committer.commit(Unit(tuple(changes)))
        done.addCallbacks(self._ended, self._not_ended)

    def _ended(self, _: object) -> None:
        # Those who follow the tree, this one too, are told after this: the next turn of the reactor sees what is left.
        self._ending = False
        if self.running and self._call is None:
            self._call = self._reactor.callLater(0, self._end_due)

    def _not_ended(self, failure: Failure) -> None:
        self._ending = False
        _log.warn("addresses could not be taken back, again in {s} s: {why}", s=RETRY_S, why=failure.getErrorMessage())
        if self.running and self._call is None:
            self._call = self._reactor.callLater(RETRY_S, self._end_due)
