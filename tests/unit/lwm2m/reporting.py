"""What the tests of reports share: a gateway that pushes, a bootstrap server that knows, and the way between them, which may fail."""

from __future__ import annotations

import json
from random import Random

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.formats.uris import parse_uri
from m2mapp.http.problems import STATUS
from m2mapp.lwm2m.drivers.gateways import GatewayService, ServerNode
from m2mapp.lwm2m.drivers.observing import Observation
from m2mapp.lwm2m.drivers.reporting import ReportNode, ReportService
from m2mapp.lwm2m.gateways import GATEWAY_TYPES
from m2mapp.lwm2m.record import DEVICE_TYPE
from m2mapp.lwm2m.report import REPORT_TYPE
from m2mapp.lwm2m.report_settings import ReportSettings
from m2mapp.model.errors import Fault, PeerFailed
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer, Method, Outgoing, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NODE
from m2mapp.registry.scl import SCL_TYPE
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.unit import COLLECTION, Remove, Unit, Write
from tests.unit.fakes import ask, build_tree

_CODES = {Status.CREATED: "201", Status.CHANGED: "204", Status.DELETED: "204", Status.CONTENT: "200"}
UNTIL = "2099-01-15T10:00:00.000Z"


def duid(number: int) -> str:
    """The DUID of a device."""
    return f"00030001{number:012x}"


def lease(number: int, **more: object) -> Write:
    """The lease of a device, as the downlink writes it."""
    given = {"duid": duid(number), "iaid": 1, "address": f"fd00::d:{number:x}", "state": "bound", "bootstrapURI": "coap://[fd00::b5]"}
    times = {"givenAt": "2027-01-15T08:00:00.000Z", "validUntil": UNTIL}
    return Write(("leases", duid(number), "1"), "lease", {**given, **times, **more})


def registration(number: int, **more: object) -> Write:
    """The registration of a device, as the registry writes it."""
    name = f"dev-{number}"
    known: dict[str, object] = {"hosts": [f"{name}.example.org"], "addresses": [f"fd00::d:{number:x}"], "port": 5683, "scheme": "coap"}
    rest: dict[str, object] = {"multicastEnabled": True, "groupServer": False, "mcGroups": "/mcGroups", "fixedGroups": [], "links": []}
    return Write(("scls", name), "scl", {**known, **rest, "lifetime": 60, "attributes": {}, **more})


def fanout_set(joins: dict[str, str], *others: str) -> Write:
    """A multicast set of the group `lamps`: who has joined how far; `others` are asked one by one."""
    return Write(("groups", "lamps", "fanoutSets", "1"), "fanoutSet", {"memberList": [*joins, *others], "joins": joins})


class Observed(Observation):
    """One observation that was begun: the test tells what comes of it."""

    def __init__(self, outgoing: Outgoing, on_answer: object, on_end: object) -> None:
        self.outgoing, self.on_answer, self.on_end = outgoing, on_answer, on_end
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def tell(self, payload: bytes) -> None:
        """A newer state arrives."""
        self.on_answer(Answer("2.05", payload))  # type: ignore[operator]

    def end(self, last: Answer | Fault) -> None:
        """It is over."""
        self.on_end(last)  # type: ignore[operator]


class Server:
    """What a bootstrap server knows of gateways, running on a tree."""

    def __init__(self) -> None:
        self.built = build_tree((*GATEWAY_TYPES, DEVICE_TYPE, SCL_TYPE))
        self.clock, self.observed, self.metrics = Clock(), list[Observed](), Metrics()
        for name in ("gateways", "devices", "scls"):
            self.commit(Write((name,), COLLECTION))
        self.start()

    def start(self) -> None:
        """Start the service anew, on the tree as it is."""
        registrations = Registrations(self.built.tree)
        parts = ServerNode(self.built.tree, self.built.rules, self.built.committer, self.built.clock, registrations, self._observe)
        self.service = GatewayService(self.clock, parts, self.metrics)
        self.service.startService()

    def commit(self, *changes: Write | Remove) -> None:
        """Changes that others make."""
        self.built.committer.commit(Unit(changes))

    def send(self, request: Request) -> Deferred[Response]:
        """The answer to a request."""
        answered: Deferred[Response] = maybeDeferred(self.service.handle, request)  # type: ignore[call-overload]
        return answered

    def put(self, path: str, document: object, method: Method = Method.PUT) -> Deferred[Response]:
        """Write a document."""
        return self.send(ask(method, path, json.dumps(document).encode(), "application/json"))

    def read(self, path: str, *query: tuple[str, str]) -> dict[str, object]:
        """The document that a GET gives. Raises the `Fault`."""
        found: list[Response | Failure] = []
        self.send(ask(Method.GET, path, query=query)).addBoth(found.append)
        answer = found[0]
        if isinstance(answer, Failure):
            answer.raiseException()
        document = json.loads(answer.payload)
        return document if isinstance(document, dict) else {}

    def known(self, gateway: str = "g1") -> list[str]:
        """The DUIDs of the devices that a gateway has reported."""
        return [resource.path[-1] for resource in self.built.tree.children(("gateways", gateway, "devices"))]

    def _observe(self, outgoing: Outgoing, on_answer: object, on_end: object) -> Observed:
        self.observed.append(Observed(outgoing, on_answer, on_end))
        return self.observed[-1]


@implementer(IRequester)
class Way:
    """The way from a gateway to a server by HTTP. `away`: nothing gets there; `deaf`: the server does it, and its answer is lost."""

    def __init__(self, server: Server) -> None:
        self.server, self.sent = server, list[Outgoing]()
        self.away = self.deaf = False
        self.code = ""

    def send(self, outgoing: Outgoing) -> Deferred[Answer]:
        self.sent.append(outgoing)
        if self.away:
            return fail(PeerFailed("no answer"))
        if self.code:
            return maybeDeferred(lambda: Answer(self.code, b"no"))
        uri = parse_uri(outgoing.uri)
        request = Request(outgoing.method, uri.path, uri.query, outgoing.payload, outgoing.content_type, principal=NODE)
        answered = self.server.send(request).addCallbacks(self._answer, self._problem)
        return answered.addCallback(lambda _: fail(PeerFailed("the answer was lost"))) if self.deaf else answered

    @property
    def told(self) -> list[str]:
        """The requests that were sent, but for greetings."""
        return [f"{each.method.value} {parse_uri(each.uri).path[-1]}" for each in self.sent if each.method is not Method.GET]

    def _answer(self, response: Response) -> Answer:
        return Answer(_CODES[response.status], response.payload, response.content_type)

    def _problem(self, failure: Failure) -> Answer:
        fault = failure.value
        if not isinstance(fault, Fault):
            failure.raiseException()
        return Answer(str(STATUS[fault.kind]), json.dumps({"detail": fault.detail}).encode())


class Gateway:
    """A gateway's report, running on a tree, with the way to a server."""

    def __init__(
        self,
        server: Server,
        settings: ReportSettings | None = None,
        name: str = "g1",
        bootstrap_uri: str = "",
        certificate: bytes | None = None,
    ) -> None:
        """`bootstrap_uri` and `certificate` are what the configuration has devices told."""
        self.told = bootstrap_uri, certificate
        self.built = build_tree([REPORT_TYPE, SCL_TYPE])
        self.clock, self.way, self.metrics, self.name = Clock(), Way(server), Metrics(), name
        self.settings = settings or ReportSettings(lwm2m=False, push="bs")
        self.start()

    def start(self) -> None:
        """Start the service anew, on the tree as it is: also after a kill, which leaves the old one's timers to a clock that stands."""
        self.clock = Clock()
        built = self.built
        node = ReportNode(
            name=self.name,
            version="1",
            tree=built.tree,
            rules=built.rules,
            committer=built.committer,
            clock=built.clock,
            registrations=Registrations(built.tree),
            requester=self.way,
            random=Random(8),
            peers={"bs": "http://bs.example.org"},
            bootstrap_uri=self.told[0],
            certificate=self.told[1],
        )
        self.service = ReportService(self.clock, node, self.settings, self.metrics)
        self.prepare()
        self.service.startService()

    def prepare(self) -> None:
        """What is done before the service starts."""

    def commit(self, *changes: Write | Remove) -> None:
        """Changes that other parts of the gateway make."""
        self.built.committer.commit(Unit(changes))

    def run(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        self.clock.pump([seconds / 20] * 20)

    def report(self, number: int) -> dict[str, object]:
        """What is kept of the report of a device; empty where there is none."""
        resource = self.built.tree.find(("node", "reports", duid(number)))
        return dict(resource.attributes) if resource is not None else {}
