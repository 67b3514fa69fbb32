"""What the tests of LwM2M share: plans, a bootstrap server with its fakes, and clients that answer as they are told."""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from m2mapp.lwm2m.plans import Plan, PlanShape, plan_of
from m2mapp.lwm2m.service import BootstrapNode, BootstrapService, bootstrap_types, plan_changes
from m2mapp.lwm2m.settings import BootstrapSettings
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IAskBack
from m2mapp.model.messages import Answer, Method, Outgoing, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NODE
from m2mapp.tree.unit import COLLECTION, Unit, Write
from tests.unit.fakes import ask, build_tree

SERVER: dict[str, object] = {"shortId": 1, "uri": "coap://[::1]:5783", "lifetime": 300}
FLEET: dict[str, object] = {"pattern": "dev-*", "servers": [SERVER]}
Reply = Callable[[Outgoing], Answer | Fault | None]


def plan(**more: object) -> Plan:
    """A plan for `dev-one` with one server, and what else is said."""
    return plan_of("fleet", PlanShape(()).check("fleet", {"endpoint": "dev-one", "servers": [SERVER], **more}))


def willing(outgoing: Outgoing) -> Answer:
    """A client that does all that it is asked."""
    return Answer({Method.DELETE: "2.02", Method.GET: "2.05"}.get(outgoing.method, "2.04"))


@implementer(IAskBack)
class FakeAskBack:
    """Clients that are asked back: `reply` answers at once, or with None not at all. `shown`: the names in the certificate of each peer."""

    def __init__(self, reply: Reply = willing) -> None:
        self.reply = reply
        self.asked: list[tuple[object, Outgoing]] = []
        self.cancelled = 0
        self.shown: dict[object, tuple[str, ...]] = {}

    def ask_back(self, peer: object, outgoing: Outgoing) -> Deferred[Answer]:
        self.asked.append((peer, outgoing))
        reply = self.reply(outgoing)
        if reply is None:
            return Deferred(self._count)
        return fail(reply) if isinstance(reply, Fault) else succeed(reply)

    def names(self, peer: object) -> tuple[str, ...]:
        return self.shown.get(peer, ())

    def meant(self, peer: object) -> tuple[str, bytes | None] | None:
        return None

    def _count(self, _: Deferred[Answer]) -> None:
        self.cancelled += 1


class Node:
    """A bootstrap server that runs, with its tree, its clocks and those whom it asks back."""

    def __init__(self, settings: BootstrapSettings | None = None) -> None:
        self.settings = settings or BootstrapSettings()
        self.built = build_tree(bootstrap_types(self.settings))
        self.clock, self.back, self.metrics = Clock(), FakeAskBack(), Metrics()
        collections = Write(("bs",), COLLECTION), Write(("devices",), COLLECTION)
        self.built.committer.commit(Unit((*collections, *plan_changes(self.built.tree, self.settings.plans))))
        self.start()

    def start(self) -> None:
        """Start the service anew, on the tree as it is."""
        parts = BootstrapNode(self.built.tree, self.built.rules, self.built.committer, self.built.clock, self.back)
        self.service = BootstrapService(self.clock, parts, self.settings, self.metrics)
        self.service.startService()

    def ask(self, request: Request) -> Deferred[Response]:
        """The answer to a request at `/bs` or `/bspack`."""
        try:
            answered = self.service.handle(request)
        except Fault as fault:
            return fail(fault)
        return succeed(answered) if isinstance(answered, Response) else answered

    def put(self, name: str, document: dict[str, object]) -> Deferred[Response]:
        """Write a plan."""
        return self.ask(ask(Method.PUT, f"/bs/{name}", json.dumps(document).encode(), "application/json"))

    def request(self, *query: tuple[str, str], host: str = "fd00::d1", peer: object = "peer") -> Deferred[Response]:
        """A client's Bootstrap-Request."""
        return self.ask(Request(Method.POST, ("bs",), query, principal=NODE, source=(host, 5683), peer=peer))

    def record(self, endpoint: str) -> dict[str, object]:
        """What is kept of a device."""
        return dict(self.built.tree.get(("devices", endpoint)).attributes)

    def steps(self, endpoint: str) -> list[str]:
        """The steps in the record of a device."""
        steps = self.record(endpoint)["steps"]
        return [step["step"] for step in steps] if isinstance(steps, list) else []

    def count(self, outcome: str) -> int:
        """How many requests came to that."""
        return self.metrics.counter("m2mapp_bootstrap_total", "", outcome=outcome).value
