"""What the tests of the registry share: a committer that can wait and fail, a wall clock that is set, and builders."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from zope.interface import implementer

from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IClock, ICommit
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.registry.scl import SCL_TYPE
from m2mapp.registry.service import Limits, RegistryService
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from m2mapp.tree.unit import COLLECTION, Change, Staged, Unit, Write

LINKS = "application/link-format"
JSON = "application/json"
DEVICE = ("fd00::d1", 5683)


@implementer(IClock)
class SetClock:
    """A wall clock that shows what it was set to."""

    def __init__(self, ms: int = 1_700_000_000_000) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms


@implementer(ICommit)
class FakeCommitter:
    """Stages at once, as the store does, and applies at once, or when `flush` is called where `holding`. `fault` makes it fail."""

    def __init__(self, tree: Tree, clock: SetClock) -> None:
        self._tree, self._clock = tree, clock
        self.units: list[Unit] = []
        self.fault: Fault | None = None
        self.holding = False
        self._held: list[tuple[Staged, Deferred[tuple[Change, ...]]]] = []

    def commit(self, unit: Unit) -> Deferred[tuple[Change, ...]]:
        self.units.append(unit)
        if self.fault is not None:
            return fail(self.fault)
        try:
            staged = self._tree.stage(unit, self._clock.now_ms())
        except Fault as fault:
            return fail(fault)
        done: Deferred[tuple[Change, ...]] = Deferred()
        self._held.append((staged, done))
        if not self.holding:
            self.flush()
        return done

    def flush(self) -> None:
        held, self._held = self._held, []
        for staged, done in held:
            self._tree.apply(staged)
            self._tree.tell(staged)
            done.callback(staged.changes)


class Node:
    """One node's registry with its tree, its clocks and its committer."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.errors: list[Exception] = []
        types = Types([SCL_TYPE])
        self.tree = Tree(types.derived, self.errors.append)
        self.wall, self.clock, self.metrics = SetClock(), Clock(), Metrics()
        self.committer = FakeCommitter(self.tree, self.wall)
        self.committer.commit(Unit((Write(("scls",), COLLECTION),)))
        self.service = RegistryService(
            tree=self.tree,
            committer=self.committer,
            rules=ResourceRules(self.tree, types),
            clock=self.wall,
            reactor=self.clock,
            node_uri="http://g1.example.org",
            metrics=self.metrics,
            limits=limits,
        )
        self.service.startService()

    def ask(self, request: Request) -> Deferred[Response]:
        """The answer to a request, as the dispatcher would have it."""
        answered = Deferred[Response]()
        try:
            answer = self.service.handle(request)
        except Fault as fault:
            answered.errback(fault)
            return answered
        if isinstance(answer, Response):
            answered.callback(answer)
            return answered
        return answer


def register(query: str, payload: str = "", source: tuple[str, int] | None = DEVICE, to: str = "/rd", method: Method = Method.POST) -> Request:
    """A registration as a CoAP edge hands it in."""
    content_type = LINKS if payload else None
    return Request(method, path(to), pairs(query), payload.encode(), content_type, source=source)


def put(to: str, document: bytes, method: Method = Method.PUT) -> Request:
    """A JSON document written over HTTP."""
    return Request(method, path(to), payload=document, content_type=JSON)


def get(where: str, query: str = "") -> Request:
    """A read."""
    return Request(Method.GET, path(where), pairs(query))


def path(text: str) -> tuple[str, ...]:
    """The path of a text that needs no decoding."""
    return tuple(text.strip("/").split("/"))


def pairs(query: str) -> tuple[tuple[str, str], ...]:
    """The pairs of a query that needs no decoding."""
    return tuple((name, value) for name, _, value in (part.partition("=") for part in query.split("&") if part))
