"""The registry as a service: it answers at `/rd` and `/scls`, bounds the registrations, and ends them with their lifetime.

What a request to `/rd` means is in `rd`, what a registration is in `scl`, who is found by host or address for other parts in
`tree.registrations`. The device's side is `drivers.registering`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from m2mapp.formats.documents import LINK_FORMAT, choose, rfc3339
from m2mapp.formats.uris import address_key
from m2mapp.model.errors import MethodNotAllowed, NoSuchResource, Overloaded, TooManyRequests
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IClock, ICommit, IHandle
from m2mapp.model.messages import UNCONDITIONAL, Method, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.registry import rd
from m2mapp.registry.scl import LAST_SEEN, SOURCE, describe, name_of
from m2mapp.tree.drivers.expiry import Expiry
from m2mapp.tree.etags import LINKS_TAG, etag
from m2mapp.tree.lifetimes import Lifetimes
from m2mapp.tree.name_index import NameIndex
from m2mapp.tree.registrations import SCL, SCLS, is_reporting
from m2mapp.tree.representation import MAX_PAGE, document_response, page_of
from m2mapp.tree.resources import Decision, ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import COLLECTION, Change, Document, Remove, Requirement, Resource, Unit, Write
from m2mapp.tree.watch import Watch

RD: Path = ("rd",)
SHARED_ADDRESS = 16
"""Of an address that more registrations share, a datagram does not tell which device was heard: their `lastSeen` stays."""
RETRY_AFTER_S = 60

Answered = Response | Deferred[Response]
_Outcome = TypeVar("_Outcome")


@dataclass(frozen=True, slots=True)
class Limits:
    """How many registrations there may be: in all, and made by CoAP from one source address."""

    registrations: int = 100_000
    per_source: int = 1_000


@implementer(IHandle)
class RegistryService(Service):
    """The registrations of one node, for the routes `("rd",)` and `("scls",)`. It answers while it runs.

    `groups_of`: from a registration's name to the paths of the groups that have it as a member; it may be set later. `touch` is
    told each path whose volatile attributes changed, so that they are saved.
    """

    name = "registry"

    def __init__(  # noqa: PLR0913 - the parts of the node that it works on, by name
        self,
        *,
        tree: Tree,
        committer: ICommit,
        rules: ResourceRules,
        clock: IClock,
        reactor: IReactorTime,
        node_uri: str,
        metrics: Metrics,
        touch: Callable[[Path], object] = lambda _: None,
        limits: Limits = Limits(),
    ) -> None:
        self._tree, self._committer, self._rules = tree, committer, rules
        self._clock, self._reactor, self._node_uri, self._limits = clock, reactor, node_uri, limits
        self._touch = touch
        self.groups_of: Callable[[str], Iterable[str]] = lambda _: ()
        self._lifetimes = Lifetimes()
        self._by_host, self._by_address, self._by_source = NameIndex(), NameIndex(), NameIndex()
        self._count = 0
        self._under_way: dict[str, int] = {}
        self._watch: Watch | None = None
        self._refused = metrics.counter("m2mapp_registry_refused_total", "registrations refused because there were too many")
        expired = metrics.counter("m2mapp_registry_expired_total", "registrations ended because their lifetime was over")
        metrics.gauge("m2mapp_registry_registrations", "registrations now", lambda: self._count)
        self._expiry = Expiry(self._lifetimes, tree, committer, reactor, expired.add)

    def startService(self) -> None:
        """Count the lifetime of each registration from now on, and end those whose time is over."""
        super().startService()
        for resource in self._tree.children(SCLS):
            self._enter(resource)
        self._watch = self._tree.watch(SCLS, self._on_change, subtree=True)
        self._expiry.start()

    def stopService(self) -> None:
        """End none any more; nothing is left pending. What is under way goes on in the store."""
        super().stopService()
        self._expiry.stop()
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        for index in (self._by_host, self._by_address, self._by_source):
            index.clear()
        self._lifetimes.clear()
        self._count = 0

    def handle(self, request: Request) -> Answered:
        """The answer to a request at or below `/rd` or `/scls`, or a Deferred of it. Raises, or fails with, a `Fault`."""
        if request.path[:1] != RD:
            return self._handle_scls(request)
        if len(request.path) == 1:
            if request.method is not Method.POST:
                raise MethodNotAllowed(request.method.value, path_text(RD), ("POST",))
            return self._register(request)
        if request.method is Method.GET:
            return self._links(request)
        if request.method is Method.POST:
            return self._update(request)
        if request.method is Method.DELETE:
            return self._remove(request)
        raise MethodNotAllowed(request.method.value, path_text(request.path), ("DELETE", "GET", "POST"))

    def seen(self, address: str) -> None:
        """A datagram came from this address (canonical, a link-local one with its zone): its device was heard of now.

        Called for every datagram: it costs the same however many registrations there are, and nothing is written to disk.
        """
        names = self._by_address.names(address)
        if names and len(names) <= SHARED_ADDRESS:
            for name in names:
                self._heard((*SCLS, name))

    # /rd

    def _register(self, request: Request) -> Answered:
        asked = rd.registration(request)
        path, source = (*SCLS, asked.name), _source(request)
        unit = Unit((Write(path, SCL, {**asked.document, SOURCE: source}),), trace=request.trace)

        def answer(_: tuple[Change, ...]) -> Response:
            self._heard_from(request, path)
            return Response(Status.CREATED, location=(*RD, asked.name))

        return self._admit(Decision(unit, answer), path, source)

    def _links(self, request: Request) -> Response:
        resource = self._registered(request, self._tree.find)
        choose(request.accept, (LINK_FORMAT,))
        tag = etag(LINKS_TAG, resource.version)
        payload = rd.links_text(resource.attributes).encode()
        return Response(Status.CONTENT, payload, LINK_FORMAT, tag, modified_ms=resource.modified_ms)

    def _update(self, request: Request) -> Answered:
        before = self._registered(request, self._tree.expected)
        path = before.path
        document = rd.update(path[-1], before.attributes, request)
        unchanged = document == {key: value for key, value in before.attributes.items() if key != SOURCE}
        if unchanged and request.conditions == UNCONDITIONAL and self._tree.find(path) is before:
            # Most updates say only that the device is still there. Lifetimes begin anew at a start, so this needs no flush.
            self._begin_lifetime(before)
            self._heard_from(request, path)
            return Response(Status.CHANGED)
        source = _source(request) or str(before.attributes.get(SOURCE, ""))
        requires = (Requirement(path, request.conditions, exists=True),)
        unit = Unit((Write(path, SCL, {**document, SOURCE: source}),), requires=requires, trace=request.trace)

        def answer(_: tuple[Change, ...]) -> Response:
            self._heard_from(request, path)
            return Response(Status.CHANGED)

        return self._admit(Decision(unit, answer), path, source)

    def _remove(self, request: Request) -> Answered:
        path = self._registered(request, self._tree.expected).path
        unit = Unit((Remove(path),), requires=(Requirement(path, request.conditions, exists=True),), trace=request.trace)
        return execute(self._committer, Decision(unit, lambda _: Response(Status.DELETED)))

    def _registered(self, request: Request, find: Callable[[Path], Resource | None]) -> Resource:
        """What `/rd/<id>` is the second name of."""
        found = find((*SCLS, *request.path[1:]))
        if found is None or found.type != SCL:
            raise NoSuchResource(path_text(request.path))
        return found

    def _heard_from(self, request: Request, path: Path) -> None:
        if request.source is not None:
            self._heard(path)

    def _heard(self, path: Path) -> None:
        self._tree.volatile(path)[LAST_SEEN] = self._clock.now_ms()
        self._touch(path)

    # /scls

    def _handle_scls(self, request: Request) -> Answered:
        if request.method is Method.GET:
            return self._read(request)
        decision = self._rules.decide(request)
        write = decision.unit.changes[0] if isinstance(decision, Decision) else None
        if isinstance(decision, Response) or not isinstance(write, Write):
            return execute(self._committer, decision)
        source = _source(request)
        attributed = replace(write, attributes={**write.attributes, SOURCE: source})
        return self._admit(replace(decision, unit=replace(decision.unit, changes=(attributed,))), write.path, source)

    def _read(self, request: Request) -> Answered:
        if request.path == SCLS and any(name in ("host", "ep") for name, _ in request.query):
            return self._find(request)
        resource = self._tree.get(request.path)
        if resource.type != SCL:
            return execute(self._committer, self._rules.decide(request))
        return document_response(self._document(resource), request.accept, resource.version, resource.modified_ms)

    def _find(self, request: Request) -> Response:
        """The registrations that `?host=` (a host name or an address; several: any of them) and `?ep=` (with `d`) name, whole.

        None is no error.
        """
        page = page_of(request)
        hosts, endpoint = [value for name, value in request.query if name == "host"], request.query_value("ep")
        names = {name for host in hosts for name in self._at_host(host)} if hosts else set(self._of_endpoint(str(endpoint), request))
        if hosts and endpoint is not None:
            names.intersection_update(self._of_endpoint(endpoint, request))
        wanted = sorted(name for name in names if page.after is None or name > page.after)
        more = len(wanted) > page.limit
        found = [self._tree.find((*SCLS, name)) for name in wanted[: page.limit]]
        document: dict[str, object] = {
            "path": path_text(SCLS),
            "type": COLLECTION,
            "children": [
                {"type": SCL, "modified": rfc3339(each.modified_ms), **self._document(each)} for each in found if each is not None
            ],
        }
        if more:
            document["next"] = wanted[page.limit - 1]
        response = document_response(document, request.accept, self._tree.latest(SCLS))
        if not more:
            return response
        kept = tuple(pair for pair in request.query if pair[0] not in ("limit", "after"))
        return response._replace(next_query=(*kept, ("limit", str(page.limit)), ("after", wanted[page.limit - 1])))

    def _at_host(self, host: str) -> Iterable[str]:
        """By the hosts that devices gave, else by endpoint name, else by address (spec section 2, "Whose URI")."""
        found = self._by_host.names(host.lower())
        named = self._tree.find((*SCLS, host))
        if found or named is None or is_reporting(named.attributes):
            return found or self._by_address.names(address_key(host))
        return (host,)

    def _of_endpoint(self, endpoint: str, request: Request) -> Iterable[str]:
        alone = name_of(endpoint, request.query_value("d"))
        names = [alone] if self._tree.find((*SCLS, alone)) is not None else []
        if request.query_value("d") is None:
            for resource in self._tree.children(SCLS, after=alone + "@", limit=MAX_PAGE):
                if not resource.path[-1].startswith(alone + "@"):
                    break
                names.append(resource.path[-1])
        return names

    def _document(self, resource: Resource) -> Document:
        """The registration as a GET shows it (spec section 12)."""
        name = resource.path[-1]
        remaining_s = self._lifetimes.remaining_s(resource.path, self._reactor.seconds())
        expires = None if remaining_s is None else rfc3339(self._clock.now_ms() + int(remaining_s * 1000))
        return {
            **describe(resource, self._tree),
            "registeredAt": self._node_uri,
            "expires": expires,
            "groups": list(self.groups_of(name)),
        }

    # How many there may be.

    def _admit(self, decision: Decision, path: Path, source: str) -> Deferred[Response]:
        """Commit a registration, if there may be one more; what is under way counts. Raises `Overloaded` or `TooManyRequests`."""
        before = self._tree.expected(path)
        if before is None and self._count + sum(self._under_way.values()) >= self._limits.registrations:
            self._refused.add()
            raise Overloaded(f"there are {self._limits.registrations} registrations, and no more are taken", RETRY_AFTER_S)
        if source and (before is None or before.attributes.get(SOURCE) != source):
            held = len(self._by_source.names(source)) + self._under_way.get(source, 0)
            if held >= self._limits.per_source:
                self._refused.add()
                raise TooManyRequests(f"{source} has {held} registrations, and one address may have no more", RETRY_AFTER_S)
        self._under_way[source] = self._under_way.get(source, 0) + 1
        committed: Deferred[tuple[Change, ...]] = maybeDeferred(self._committer.commit, decision.unit)
        answered = committed.addCallback(decision.answer)
        answered.addBoth(self._arrived, source)
        return answered

    def _arrived(self, outcome: _Outcome, source: str) -> _Outcome:
        self._under_way[source] -= 1
        if not self._under_way[source]:
            del self._under_way[source]
        return outcome

    # What is committed.

    def _on_change(self, change: Change) -> None:
        if change.before is not None:
            self._leave(change.before)
        if change.after is not None:
            self._enter(change.after)

    def _enter(self, resource: Resource) -> None:
        if resource.type != SCL:
            return
        self._count += 1
        for index, key in self._keys(resource):
            index.add(key, resource.path[-1])
        self._begin_lifetime(resource)

    def _leave(self, resource: Resource) -> None:
        if resource.type != SCL:
            return
        self._count -= 1
        for index, key in self._keys(resource):
            index.remove(key, resource.path[-1])
        self._lifetimes.forget(resource.path)

    def _keys(self, resource: Resource) -> Iterable[tuple[NameIndex, str]]:
        document = resource.attributes
        for index, member in ((self._by_host, "hosts"), (self._by_address, "addresses")):
            values = document.get(member)
            for value in values if isinstance(values, list | tuple) else ():
                yield index, str(value)
        if document.get(SOURCE):
            yield self._by_source, str(document[SOURCE])

    def _begin_lifetime(self, resource: Resource) -> None:
        lifetime_s = resource.attributes.get("lifetime")
        if isinstance(lifetime_s, int):
            self._lifetimes.start(resource.path, lifetime_s, self._reactor.seconds())
            self._expiry.moved()


def _source(request: Request) -> str:
    """The address that a registration came from by CoAP; empty for HTTP, where a token names who asks."""
    return request.source[0] if request.source is not None else ""
