"""What the tests of the registry share: one node's registry, and builders of requests to it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.registry.scl import SCL_TYPE
from m2mapp.registry.service import Limits, RegistryService
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from m2mapp.tree.unit import COLLECTION, Unit, Write
from tests.unit.fakes import FakeClock, FakeCommitter

LINKS = "application/link-format"
JSON = "application/json"
DEVICE = ("fd00::d1", 5683)
AT_MS = 1_700_000_000_000
"""2023-11-14T22:13:20Z: the wall clock of a node when it is made."""


class Node:
    """One node's registry with its tree, its clocks and its committer."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.errors: list[Exception] = []
        self.touched: list[Path] = []
        types = Types([SCL_TYPE])
        self.tree = Tree(types.derived, self.errors.append)
        self.wall, self.clock, self.metrics = FakeClock(AT_MS), Clock(), Metrics()
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
            touch=self.touched.append,
            limits=limits or Limits(),
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


def register(
    query: str, payload: str = "", source: tuple[str, int] | None = DEVICE, to: str = "/rd", method: Method = Method.POST
) -> Request:
    """A registration as a CoAP edge hands it in."""
    content_type = LINKS if payload else None
    return Request(method, path(to), pairs(query), payload.encode(), content_type, source=source)


def put(to: str, document: bytes, method: Method = Method.PUT) -> Request:
    """A JSON document written over HTTP."""
    return Request(method, path(to), payload=document, content_type=JSON)


def get(where: str, query: str = "") -> Request:
    """A read."""
    return Request(Method.GET, path(where), pairs(query))


def path(text: str) -> Path:
    """The path of a text that needs no decoding."""
    return tuple(text.strip("/").split("/"))


def pairs(query: str) -> tuple[tuple[str, str], ...]:
    """The pairs of a query that needs no decoding."""
    return tuple((name, value) for name, _, value in (part.partition("=") for part in query.split("&") if part))
