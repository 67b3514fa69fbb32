"""The house of CN 104662858, figure 7: four nodes with operations, and what the example has on them."""

from __future__ import annotations

from collections.abc import Sequence

from m2mapp.coap.settings import CoapSettings
from m2mapp.config import NodeSettings, Peer, Settings
from m2mapp.model.messages import Method
from m2mapp.triggers.settings import TriggerSettings
from tests.simulation import Simulation
from tests.unit.simulation.world import LINK, Box, build_box

NODES = {"gscl1": "fd00::1", "gscl2": "fd00::2", "gscl3": "fd00::3", "nscl": "fd00::4"}
RESOURCE = "application/vnd.m2m.resource+json"
CLOSE_WINDOW = {
    "name": "CloseWindow",
    "priority": 2,
    "rule": "value > 30",
    "objectResource": "coap://gscl3/window",
    "method": "create",
    "inputURI": "coap://gscl3/OFF",
    "outputURI": "coap://gscl2/allWindowStatus",
}
TURN_ON_AC = {
    "name": "TurnOnAC",
    "priority": 1,
    "rule": "value > 30",
    "objectResource": "coap://gscl2/airCondition",
    "method": "create",
    "input": "ON",
}
LIVINGROOM_OPEN = {"name": "LivingroomWindowOpen", "uri": "/livingroomWindowStatus", "rule": "value == 'Open'", "logic": "OR"}
BEDROOM_OPEN = {"name": "BedroomWindowOpen", "uri": "coap://gscl1/bedroomWindowStatus", "rule": "value == 'Open'", "logic": "OR"}
LIVINGROOM_CLOSED = {"name": "LivingroomWindowClosed", "uri": "/livingroomWindowStatus", "rule": "value == 'Closed'", "logic": "AND"}
BEDROOM_CLOSED = {"name": "BedroomWindowClosed", "uri": "/bedroomWindowStatus", "rule": "value == 'Closed'", "logic": "AND"}
MEMBER_AT_HOME = {"name": "MemberAtHome", "uri": "coap://nscl/hostLocation", "rule": "value == 'at home'", "logic": "AND"}


def settings(name: str) -> Settings:
    """A node with operations that knows the other three."""
    peers = tuple(Peer(other, f"coap://[{address}]", "") for other, address in NODES.items() if other != name)
    coap = CoapSettings(listen=((NODES[name], 5683),), interfaces=("eth0",), access=LINK)
    return Settings(NodeSettings(name, (), "unused"), coap=coap, triggers=TriggerSettings(), peers=peers)


class House:
    """The four nodes of figure 7, with the resources that the example names."""

    def __init__(self, simulation: Simulation, names: Sequence[str] = tuple(NODES)) -> None:
        self.scheduler = simulation.scheduler
        self.boxes = {name: build_box(simulation, settings(name), NODES[name]) for name in names}
        for box in self.boxes.values():
            box.start()
        self.scheduler.advance(0.5)

    def __getitem__(self, name: str) -> Box:
        return self.boxes[name]

    def furnish(self) -> None:
        """The house at 20 degrees: nothing is on, the windows are shut, nobody is there."""
        for name, path, content in (
            ("gscl1", "/temperature", b"20"),
            ("gscl1", "/bedroomWindowStatus", b"Closed"),
            ("gscl1", "/livingroomWindowStatus", b"Closed"),
            ("gscl2", "/airCondition", b"OFF"),
            ("gscl2", "/allWindowStatus", b"Closed"),
            ("gscl3", "/window", b"ON"),
            ("gscl3", "/OFF", b"OFF"),
            ("nscl", "/hostLocation", b"away"),
        ):
            self.write(name, path, content)

    def write(self, name: str, path: str, content: bytes) -> None:
        """A new content, and what it sets off."""
        self[name].ask(Method.PUT, path, content)
        self.scheduler.advance(0.2)

    def content(self, name: str, path: str) -> str:
        """What a resource holds."""
        return self[name].ask(Method.GET, path).payload.decode()

    def operate(self, operation: object, *dependencies: object, subject: str = "/temperature", node: str = "gscl1") -> str:
        """Make an operation with its dependencies in the collections; its path."""
        path = f"{subject}/Operations"
        self[node].ask(Method.POST, path, operation)
        name = operation["name"] if isinstance(operation, dict) else ""
        for one in dependencies:
            self[node].ask(Method.POST, f"{path}/{name}/Dependencies", one)
        return f"{path}/{name}"

    def last(self, path: str, node: str = "gscl1") -> dict[str, object]:
        """The last evaluation of an operation."""
        found = self[node].read(path)["lastEvaluation"]
        assert isinstance(found, dict), f"{path} was not evaluated"
        return found

    def stop(self) -> None:
        """Stop all nodes; nothing is left pending."""
        for box in self.boxes.values():
            box.stop()
        self.scheduler.advance(1.0)
        left = self.scheduler.getDelayedCalls()
        assert not left, f"still pending: {left[:5]}"


def lines(evaluation: dict[str, object]) -> list[tuple[object, ...]]:
    """The steps of an evaluation: which it is, its name or what was sent where, and whether its rule holds or what came back."""
    steps = evaluation["steps"]
    assert isinstance(steps, list)
    told: list[tuple[object, ...]] = []
    for step in steps:
        sent, got = step.get("sent") or {}, step.get("got") or {}
        if step["step"] in ("rule", "dependency"):
            told.append((step["step"], step.get("name", ""), step["holds"]))
        else:
            told.append((step["step"], sent.get("method"), sent.get("uri"), sent.get("content"), got.get("status")))
    return told
