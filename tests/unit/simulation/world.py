"""Whole nodes in one process: simulated time, network and disk under the real parts. A node can be killed, power can fail, disks can."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from m2mapp.coap.settings import AccessSettings, CoapSettings
from m2mapp.config import NodeSettings, Settings
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NODE
from m2mapp.net.memory import MemoryDatagrams
from m2mapp.net.scheduler import ProcessTime, SimulatedWallClock
from m2mapp.node.build import make_node
from m2mapp.node.life import Node
from m2mapp.node.world import HostAddresses, World
from m2mapp.sim.settings import SimSettings
from m2mapp.store.committer import Committer
from m2mapp.store.memory import MemoryDatabase, SlowDisk
from m2mapp.tree.paths import parse_path
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Remove, Unit, Write
from tests.simulation import Simulation
from tests.unit.fakes import FakeHost

DISK_S = (0.0005, 0.004)
"""How long a simulated flush takes."""
GATEWAY_ADDRESS = "fd00::1"
PERIOD_S = 3600.0
"""Values stand still while a group is read: what a read gives can be held against what the members have."""
LINK = AccessSettings(write=("link",))


class MemoryStore(Service):
    """The store of a simulated node: the real committer on a database that only remembers."""

    name = "store"

    def __init__(self, database: MemoryDatabase, committer: Committer) -> None:
        self._database, self.committer = database, committer

    def startService(self) -> None:
        super().startService()
        self._database.open()
        self.committer.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self.committer.stop().addCallback(lambda _: self._database.close())


@dataclass(slots=True)
class Box:
    """One simulated box: what stays when its process dies (disk and network), and the process that runs on it, if one does."""

    settings: Settings
    simulation: Simulation
    network: MemoryDatagrams
    database: MemoryDatabase
    clock: SimulatedWallClock
    node: Node | None = None
    time: ProcessTime | None = None
    disk: SlowDisk | None = None
    starts: int = 0
    errors: list[Failure] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    host: FakeHost = field(default_factory=FakeHost)

    @property
    def name(self) -> str:
        """The node's name, which is also its name on the network."""
        return self.settings.node.name

    def start(self) -> None:
        """Start the process."""
        self.starts += 1
        scheduler = self.simulation.scheduler
        self.time = ProcessTime(scheduler)
        latency = scheduler.generator(f"disk of {self.name} {self.starts}")
        self.disk = SlowDisk(self.time, lambda: latency.uniform(*DISK_S))
        self.simulation.network.up(self.name)
        time = self.time
        world = World(
            reactor=time,
            clock=self.clock,
            datagrams=lambda *_: self.network,
            addresses=lambda source, interfaces: HostAddresses(source, interfaces, time),
            open_store=self._open_store,
            kept=lambda _, name, make: self.kept.setdefault(name, make()),
            resolve=lambda _: succeed([]),
            host=self.host,
            rng=lambda name: scheduler.generator(f"node {name} {self.starts}"),
        )
        self.node = make_node(self.settings, world)
        self.node.privilegedStartService()
        self.node.startService()

    def kill(self) -> None:
        """The power fails: the process dies, and what it had not flushed is lost, but for a random beginning of it."""
        if self.time is not None and self.disk is not None:
            self.disk.crash()
            self.time.kill()
        self.simulation.network.down(self.name)
        self.database.crash()
        self.node = self.time = self.disk = None

    def stop(self) -> None:
        """Stop the process in order."""
        if self.node is not None:
            self.simulation.scheduler.run_until_fired(maybeDeferred(self.node.stopService), 60)
            self.node = None

    def send(self, method: Method, path: str, document: object = None, **more: object) -> Deferred[Response]:
        """A request of the node itself, at its door. A document goes as JSON, bytes as text."""
        if self.node is None:
            raise RuntimeError(f"{self.name} does not run")
        given: dict[str, object] = {"principal": NODE, **more}
        if isinstance(document, bytes):
            given.update(payload=document, content_type="text/plain")
        elif document is not None:
            given.update(payload=json.dumps(document).encode(), content_type="application/json")
        request = Request(method, parse_path(path), **given)  # type: ignore[arg-type]
        answered: Deferred[Response] = maybeDeferred(self.node.handler.handle, request)
        return answered

    def ask(self, method: Method, path: str, document: object = None, **more: object) -> Response:
        """The answer, awaited."""
        return self.simulation.scheduler.run_until_fired(self.send(method, path, document, **more), 120)

    def commit(self, *changes: Write | Remove) -> None:
        """Changes that a part of the node would make that is not there: they are durable when this is done."""
        if self.node is None:
            raise RuntimeError(f"{self.name} does not run")
        self.simulation.scheduler.run_until_fired(self.node.part(MemoryStore).committer.commit(Unit(changes)), 120)

    def read(self, path: str, **more: object) -> dict[str, object]:
        """The document that a GET gives."""
        found = json.loads(self.ask(Method.GET, path, **more).payload)
        if not isinstance(found, dict):
            raise TypeError(path)
        return found

    def _open_store(self, _: Settings, tree: Tree, metrics: Metrics) -> tuple[Service, Committer]:
        if self.time is None or self.disk is None:
            raise RuntimeError("no process")
        self.database.open()
        resources, last_number = self.database.load()
        tree.load(resources, last_number)
        committer = Committer(tree, self.database, self.clock, self.time, self.disk.run, metrics)
        committer.stop()
        return MemoryStore(self.database, committer), committer


@dataclass(slots=True)
class Site:
    """A gateway and its members on one link."""

    simulation: Simulation
    gateway: Box
    members: list[Box]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.simulation.scheduler.advance(seconds)

    def run_until(self, true: Callable[[], bool], limit_s: float = 120.0) -> None:
        """Let time pass until something holds. Raises `AssertionError` where it does not within the limit."""
        scheduler = self.simulation.scheduler
        end = scheduler.seconds() + limit_s
        while not true():
            if scheduler.seconds() >= end:
                raise AssertionError(f"it does not hold after {limit_s} simulated seconds")
            scheduler.advance(0.1)

    def uris(self) -> list[str]:
        """The members' URIs."""
        return [f"coap://{member.name}/temperature" for member in self.members]

    def make_group(self, name: str = "temps", **more: object) -> None:
        """Make a group of all members, and wait until all have joined."""
        self.run_until(lambda: self.gateway.node is not None and self.gateway.node.prepared)
        self.run_until(lambda: len(self.registered()) == len(self.members))
        self.gateway.ask(Method.POST, "/groups", {"name": name, "members": self.uris(), **more})
        self.run_until(lambda: self.gateway.read(f"/groups/{name}")["state"] == "ready")

    def registered(self) -> list[str]:
        """The names of the devices that are registered at the gateway."""
        found = self.gateway.read("/scls", query=(("limit", "1000"),))["children"]
        return [str(child["name"]) for child in found] if isinstance(found, list) else []

    def stop(self) -> None:
        """Stop everything in order; nothing is pending afterwards."""
        for box in (*self.members, self.gateway):
            box.stop()
        self.run(1.0)  # What is still on its way arrives nowhere.
        left = self.simulation.scheduler.getDelayedCalls()
        if left:
            raise AssertionError(f"still pending: {left[:5]}")


def build_box(simulation: Simulation, settings: Settings, address: str) -> Box:
    """A box on the link "lan" with one interface eth0 and this address, and a link-local one; nothing runs on it yet."""
    last = address.rpartition("::")[2]
    return build_box_on(
        simulation, settings, simulation.network.attach(settings.node.name, {"eth0@lan": [f"{address}/64", f"fe80::{last}/64"]})
    )


def build_box_on(simulation: Simulation, settings: Settings, network: MemoryDatagrams) -> Box:
    """A box that has its network already; nothing runs on it yet."""
    chance = simulation.scheduler.generator(f"crash of {settings.node.name}")
    return Box(settings, simulation, network, MemoryDatabase(chance), SimulatedWallClock(simulation.scheduler))


def gateway_settings(groups: GroupSettings | None = None) -> Settings:
    """A gateway that any neighbour may use."""
    coap = CoapSettings(listen=((GATEWAY_ADDRESS, 5683),), interfaces=("eth0",), access=LINK)
    return Settings(NodeSettings("gw.example.org", (), "unused"), coap=coap, groups=groups or GroupSettings())


def member_settings(number: int) -> Settings:
    """A thermometer that registers at the gateway."""
    name = f"d{number}.example.org"
    sim = SimSettings(
        "temperature", period_s=PERIOD_S, seed=number, registrar=f"coap://[{GATEWAY_ADDRESS}]/rd", endpoint=f"d{number}", hosts=(name,)
    )
    coap = CoapSettings(listen=((f"fd00::d{number}", 5683),), interfaces=("eth0",), access=LINK)
    return Settings(NodeSettings(name, (), "unused"), coap=coap, member=True, sim=sim)


def build_site(simulation: Simulation, members: int, groups: GroupSettings | None = None) -> Site:
    """A gateway and so many members, all started."""
    gateway = build_box(simulation, gateway_settings(groups), GATEWAY_ADDRESS)
    boxes = [build_box(simulation, member_settings(number), f"fd00::d{number}") for number in range(1, members + 1)]
    for box in (gateway, *boxes):
        box.start()
    return Site(simulation, gateway, boxes)
