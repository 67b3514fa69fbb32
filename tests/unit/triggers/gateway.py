"""A gateway with a temperature: the real part for operations over a tree in memory, with a store and a sender that are fakes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import (
    Fault,
)
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Answer, Method, Outgoing, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import Principal, Right
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.types import ANYWHERE
from m2mapp.tree.unit import Resource
from m2mapp.triggers.inline import members
from m2mapp.triggers.places import OPERATIONS
from m2mapp.triggers.service import TriggerNode, TriggerService
from m2mapp.triggers.settings import TriggerSettings
from m2mapp.triggers.types import operation_types
from tests.unit.fakes import Built, RecordingRequester, answer_of, ask, build_tree

TURN_ON_AC = {"rule": "value > 30", "objectResource": "http://gscl2/airCondition", "method": "update", "input": "ON"}
AT_HOME = {"uri": "http://nscl/hostLocation", "rule": "value == 'at home'"}
PATH = "/temperature/Operations/TurnOnAC"
JSON = "application/json"


@dataclass(slots=True)
class Gateway:
    """The service over a tree in memory. `allowed`: what principals may do now, by name; all that they might at first, if not said."""

    built: Built
    service: TriggerService
    requester: RecordingRequester
    clock: Clock
    allowed: dict[str, frozenset[Right]]

    def do(self, method: Method, path: str, document: object = None, content_type: str = JSON, **more: object) -> Response:
        """The answer to a request; a document goes as JSON, bytes as text."""
        if isinstance(document, bytes):
            return answer_of(self.built, ask(method, path, document, "text/plain", **more))
        payload = b"" if document is None else json.dumps(document).encode()
        return answer_of(self.built, ask(method, path, payload, content_type if payload else None, **more))

    def read(self, path: str, accept: tuple[str, ...] = ()) -> dict[str, object]:
        """The document that a GET gives."""
        found = json.loads(self.do(Method.GET, path, accept=accept).payload)
        assert isinstance(found, dict)
        return found

    def write(self, content: bytes, path: str = "/temperature") -> None:
        """A new content, and what it sets off at once."""
        self.do(Method.PUT, path, content)
        self.clock.advance(0)


@implementer(IHandle)
class Later:
    """Stands for the service in the dispatcher, which is made before it."""

    def __init__(self) -> None:
        self.service: TriggerService | None = None

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The service's answer."""
        assert self.service is not None
        return self.service.handle(request)

    def shown(self, resource: Resource) -> Mapping[str, object]:
        """What the service shows."""
        assert self.service is not None
        return self.service.shown(resource)


def build_gateway(answers: Sequence[Answer | Fault], *, waits: bool) -> Gateway:
    """A gateway with a temperature of 20 degrees, whose requests get these answers and then 2.04; with `waits`, none but the test's."""
    left = list(answers)

    def reply(_: Outgoing) -> Answer | Fault | None:
        if waits:
            return None
        return left.pop(0) if left else Answer("2.04")

    def own(uri: str) -> Path | None:
        found = parse_uri(uri)
        return found.path if found.host == "gscl1" else None

    later = Later()
    built = build_tree(operation_types(later.shown), routes={(ANYWHERE, OPERATIONS): later}, members=members())
    requester, clock = RecordingRequester(reply), Clock()
    allowed: dict[str, frozenset[Right]] = {}

    def current(principal: Principal) -> Principal:
        return Principal(principal.name, allowed.get(principal.name, principal.rights), principal.scopes)

    node = TriggerNode(
        tree=built.tree,
        rules=built.rules,
        committer=built.committer,
        journals=built.committer,
        clock=built.clock,
        requester=requester,
        registrations=Registrations(built.tree),
        touch=lambda _: None,
        node_uri="http://gscl1",
        own=own,
        current=current,
    )
    service = later.service = TriggerService(clock, node, TriggerSettings(), Metrics())
    gateway = Gateway(built, service, requester, clock, allowed)
    service.startService()
    service.restore()
    gateway.do(Method.PUT, "/temperature", b"20")
    return gateway


class ServiceCase(SynchronousTestCase):
    def build(self, *answers: Answer | Fault, waits: bool = False) -> Gateway:
        gateway = build_gateway(answers, waits=waits)
        self.addCleanup(self._stop, gateway)
        return gateway

    def _stop(self, gateway: Gateway) -> None:
        if gateway.service.running:
            self.successResultOf(gateway.service.stopService())
        self.assertEqual((gateway.clock.getDelayedCalls(), gateway.built.errors), ([], []))
