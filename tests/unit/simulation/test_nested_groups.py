"""Groups in groups on whole nodes: graphs drawn at random, on a network that loses, repeats and reorders, against what they should do."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.settings import CoapSettings
from m2mapp.config import NodeSettings, Settings
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import DeadlinePassed, Fault, Malformed, NotAcceptable
from m2mapp.model.messages import Method
from m2mapp.net.medium import Quality, What
from tests.simulation import Simulation, seeded
from tests.unit.simulation.world import LINK, Box, Site, build_box, member_settings

FIRST, SECOND = "/groups/g1x1", "/groups/g2x1"
DEADLINE_S = 8.0
ACKNOWLEDGED_MS = 100.0
"""What takes longer has waited for an acknowledgement."""
RESTING_S = 25.0
"""After so long what could not be read of a group, when it was not there yet, is read again."""


def server_settings(number: int) -> Settings:
    """A group server that any neighbour may use."""
    coap = CoapSettings(listen=((f"fd00::{number}", 5683),), interfaces=("eth0",), access=LINK)
    return Settings(NodeSettings(f"g{number}.example.org", (), "unused"), coap=coap, groups=GroupSettings())


def device_uri(number: int) -> str:
    """The member of a device."""
    return f"coap://[fd00::d{number}]/temperature"


def group_uri(name: str) -> str:
    """The URI of a group, which is named for its server: g2x1 is the first one of server 2."""
    return f"coap://[fd00::{name[1]}]/groups/{name}"


class Graph:
    """Groups on servers, and what a request to one of them should reach. `members`: of each group, devices by number and groups by name."""

    def __init__(self, simulation: Simulation, members: dict[str, list[int | str]], *, registered: bool = False) -> None:
        self.simulation, self.members = simulation, members
        self.servers = {n: build_box(simulation, server_settings(n), f"fd00::{n}") for n in sorted({int(name[1]) for name in members})}
        numbers = sorted({one for inner in members.values() for one in inner if isinstance(one, int)})
        self.devices = {number: self._device(number, registered=registered) for number in numbers}
        for box in (*self.servers.values(), *self.devices.values()):
            box.start()
        first = self.servers[1]
        self.site = Site(simulation, first, [*list(self.servers.values())[1:], *self.devices.values()])
        self.site.run_until(lambda: all(box.node is not None and box.node.prepared for box in self.servers.values()))
        if registered:
            self.site.run_until(lambda: len(self.site.registered()) == len(self.devices))
        for name in members:
            self.make(name)
        for name in members:
            self.site.run_until(lambda name=name: self.server(name).read(f"/groups/{name}")["state"] == "ready")  # type: ignore[misc]

    def _device(self, number: int, *, registered: bool) -> Box:
        settings = member_settings(number)
        assert settings.sim is not None
        sim = replace(settings.sim, registrar="coap://[fd00::1]/rd" if registered else "")
        return build_box(self.simulation, replace(settings, sim=sim), f"fd00::d{number}")

    def server(self, name: str) -> Box:
        """Where a group is."""
        return self.servers[int(name[1])]

    def uris(self, name: str) -> list[str]:
        """The members of a group."""
        return [device_uri(one) if isinstance(one, int) else group_uri(one) for one in self.members[name]]

    def make(self, name: str) -> dict[str, object]:
        """Make the group; what its answer says."""
        made = self.server(name).ask(Method.POST, "/groups", {"name": name, "members": self.uris(name)})
        return dict(json.loads(made.payload or b"{}"))

    def reached(self, name: str) -> tuple[list[str], int]:
        """The members that a request to a group should reach, and how many messages it costs at most: one for each member of each group."""
        groups, todo = {name}, [name]
        devices, edges = set[str](), 0
        while todo:
            for one in self.members[todo.pop()]:
                edges += 1
                if isinstance(one, int):
                    devices.add(device_uri(one))
                elif one not in groups:
                    groups.add(one)
                    todo.append(one)
        return sorted(devices), edges

    def ask(self, name: str, method: Method = Method.GET, value: bytes | None = None, deadline_s: float = DEADLINE_S) -> dict[str, object]:
        """The joined answer of a group; one that names everybody as silent where nobody answered."""
        time = self.server(name).time
        assert time is not None
        try:
            shown = self.server(name).ask(method, f"/groups/{name}/membersContent", value, deadline=time.seconds() + deadline_s)
        except DeadlinePassed:
            return {"members": {}, "silent": self.reached(name)[0], "complete": False}
        return dict(json.loads(shown.payload))

    def sent(self) -> int:
        """How many datagrams have been sent so far."""
        return self.simulation.network.trace.counts[What.SENT]

    def watch(self) -> Counter[tuple[str, bytes]]:
        """What the devices do from now on: how often each wrote which value."""
        done: Counter[tuple[str, bytes]] = Counter()
        for number, box in self.devices.items():
            assert box.node is not None
            box.node.tree.watch(
                ("temperature",),
                lambda change, number=number: done.update([(device_uri(number), change.after.content)]),  # type: ignore[misc]
            )
        return done


def drawn(random: Random) -> dict[str, list[int | str]]:
    """A graph of two to four servers with one or two groups each, in any way within each other, with two to four devices."""
    names = [f"g{server}x{group}" for server in range(1, random.randint(2, 4) + 1) for group in range(1, random.randint(1, 2) + 1)]
    devices = range(1, random.randint(2, 4) + 1)
    members: dict[str, list[int | str]] = {}
    for name in names:
        inner: list[int | str] = [
            *random.sample(devices, random.randint(0, 2)),
            *random.sample(names, random.randint(0, min(3, len(names)))),
        ]
        members[name] = inner or [1]
    return members


class ModelTests(SynchronousTestCase):
    def check_whole(self, graph: Graph, name: str) -> None:
        """Without loss everybody answers once, with one exchange for each member of each group.

        An exchange is two datagrams, and four where its answer has to wait for others: a server that is asked for two of its groups by one
        other is asked for the second when it has acknowledged the first (NSTART; RFC 7252, sections 4.7 and 5.2.2).
        """
        uris, edges = graph.reached(name)
        before = graph.sent()
        shown = graph.ask(name)
        members = shown["members"]
        assert isinstance(members, dict)
        self.assertEqual((sorted(members), shown["silent"], shown["complete"]), (uris, [], True))
        self.assertLessEqual(graph.sent() - before, (2 if float(str(shown["ms"])) < ACKNOWLEDGED_MS else 4) * edges)

    def check_write(self, graph: Graph, name: str, method: Method, done: Counter[tuple[str, bytes]], value: bytes) -> None:
        """Who answered has done it, nobody has done it twice, and who did not answer is named."""
        uris, _ = graph.reached(name)
        began_s = graph.simulation.scheduler.seconds()
        shown = graph.ask(name, method, value)
        self.assertLessEqual(graph.simulation.scheduler.seconds() - began_s, DEADLINE_S)
        members, silent = shown["members"], shown["silent"]
        assert isinstance(members, dict)
        assert isinstance(silent, list)
        answered = {uri for uri, entry in members.items() if entry["status"] == "2.04"}
        missing = {*silent, *shown.get("looped", [])}  # type: ignore[misc]
        unknown = {uri for uri, entry in members.items() if entry["status"] == "unknown"}
        self.assertEqual(answered | missing, set(uris) | (missing - set(uris)), shown)
        self.assertEqual((answered & missing, unknown - missing), (set(), set()), shown)
        self.assertLessEqual(answered, {uri for uri, content in done if content == value})
        graph.site.run(1.0)
        self.assertEqual({times for times in done.values()} - {1}, set(), done)

    @seeded(6)
    def test_drawn(self, simulation: Simulation) -> None:
        """Any graph of groups: a request ends in time, each device that answered did each write once, and no answer stands twice."""
        random = simulation.scheduler.generator("graph")
        graph = Graph(simulation, drawn(random), registered=simulation.seed % 2 == 0)
        graph.site.run(RESTING_S)
        names = sorted(graph.members)
        for name in names:
            graph.ask(name)  # What was not there when it was asked for is read now.
            graph.site.run(RESTING_S)
            self.check_whole(graph, name)
        done = graph.watch()
        simulation.network.set_quality(Quality(loss=0.2, repetition=0.1, reordering=0.1, delay_s=(0.002, 0.01)))
        for number in range(6):
            name, method = random.choice(names), (Method.PUT, Method.POST)[number % 2]
            self.check_write(graph, name, method, done, b"%d" % (100 + number))
        simulation.network.set_quality(Quality())
        graph.site.stop()


class ShapeTests(SynchronousTestCase):
    def whole(self, graph: Graph, name: str) -> dict[str, object]:
        """A read after all groups are known: all devices are there, and the request cost no more than it has to."""
        graph.site.run(RESTING_S)
        graph.ask(name)
        graph.site.run(1.0)
        uris, edges = graph.reached(name)
        before = graph.sent()
        shown = graph.ask(name)
        members = shown["members"]
        assert isinstance(members, dict)
        self.assertEqual((sorted(members), shown["silent"], shown["complete"]), (uris, [], True))
        self.assertLessEqual(graph.sent() - before, 2 * edges)
        return shown

    @seeded(1)
    def test_the_documents_example(self, simulation: Simulation) -> None:
        """Group 1 and Group 2 contain each other, and both have device 1: one message for each member of each group, and one loop."""
        graph = Graph(simulation, {"g1x1": [1, 2, "g2x1"], "g2x1": [1, 3, "g1x1"]})
        shown = self.whole(graph, "g1x1")
        members = shown["members"]
        assert isinstance(members, dict)
        self.assertEqual({uri: entry["via"] for uri, entry in members.items()}[device_uri(3)], "subgroup")
        self.assertGreaterEqual(int(str(shown["loops"])), 1)
        circle = ["coap://g2.example.org/groups/g2x1", group_uri("g1x1"), "coap://g2.example.org/groups/g2x1"]
        self.assertEqual(graph.server("g2x1").read("/groups/g2x1")["circles"], [circle])
        graph.site.stop()

    @seeded(1)
    def test_known_shapes(self, simulation: Simulation) -> None:
        """A group in itself, a ring of five servers, a full mesh of four: each member once."""
        ring: dict[str, list[int | str]] = {f"g{n}x1": [n, f"g{n % 5 + 1}x1"] for n in range(1, 6)}
        mesh: dict[str, list[int | str]] = {f"g{n}x2": [1, n, *(f"g{m}x2" for m in range(1, 5) if m != n)] for n in range(1, 5)}
        graph = Graph(simulation, {**ring, **mesh, "g1x3": ["g1x3", 1, "g1x4"], "g1x4": ["g1x3", 1, 2]})
        self.assertEqual(int(str(self.whole(graph, "g3x1")["loops"])), 1)
        self.whole(graph, "g2x2")
        alone = self.whole(graph, "g1x3")
        self.assertEqual((alone["loops"], alone["datagrams"]), (2, {"sent": 2, "received": 2}))
        graph.site.stop()

    @seeded(1)
    def test_asked_beside_itself(self, simulation: Simulation) -> None:
        """A group elsewhere that contains two groups of this node, each of which contains it: nobody waits for himself."""
        graph = Graph(simulation, {"g1x1": [1, "g2x1"], "g1x2": [2, "g2x1"], "g2x1": ["g1x1", "g1x2", 3]})
        self.assertLess(float(str(self.whole(graph, "g1x1")["ms"])), 1000.0)
        graph.site.stop()

    @seeded(1)
    def test_a_server_that_dies(self, simulation: Simulation) -> None:
        """A server that is gone, two hops away: who is behind it is named, the others' answers are there before the caller's deadline."""
        graph = Graph(simulation, {"g1x1": [1, "g2x1"], "g2x1": [2, "g3x1"], "g3x1": [3, "g1x1"]})
        self.whole(graph, "g1x1")
        graph.servers[3].kill()
        for method, value in ((Method.GET, None), (Method.PUT, b"1"), (Method.POST, b"2")):
            began_s = simulation.scheduler.seconds()
            shown = graph.ask("g1x1", method, value)
            self.assertLess(simulation.scheduler.seconds() - began_s, DEADLINE_S)
            members = shown["members"]
            assert isinstance(members, dict)
            self.assertEqual({uri for uri, entry in members.items() if entry["status"] != "unknown"}, {device_uri(1), device_uri(2)})
            self.assertEqual((shown["silent"], shown["complete"]), ([device_uri(3)], False))
        graph.servers[2].kill()
        shown = graph.ask("g1x1")
        self.assertEqual(shown["silent"], [device_uri(2), device_uri(3)])
        graph.servers[2].start()
        graph.servers[3].start()
        graph.site.run(2.0)
        self.whole(graph, "g1x1")
        graph.site.stop()

    @seeded(1)
    def test_explained(self, simulation: Simulation) -> None:
        """?explain: the tree as it is walked, with its circles; what is known of a server that is away; errors for what it is not."""
        graph = Graph(simulation, {"g2x1": [3], "g1x1": [1, "g1x2", "g2x1"], "g1x2": [2, "g1x1"]})
        here, there = "coap://g1.example.org/groups/", group_uri("g2x1")

        def page() -> str:
            response = graph.servers[1].ask(Method.GET, "/groups/g1x1", query=(("explain", ""),))
            self.assertEqual(response.content_type, "text/plain;charset=utf-8")
            return response.payload.decode()

        text = f"""{here}g1x1 (a group of this node)
  {device_uri(1)}
  {here}g1x2 (a group of this node)
    {device_uri(2)}
    {here}g1x1 (a circle: the request is there already)
  {there} (at another server)
    {device_uri(3)}
"""
        self.assertEqual(page(), text)
        graph.servers[2].kill()
        graph.site.run(700.0)
        self.assertEqual(page(), text.replace("another server", "another server: no answer; its members as they were"))
        refused: tuple[tuple[str, dict[str, object], type[Fault]], ...] = (
            ("?", {}, Malformed),
            ("", {"accept": ("image/png",)}, NotAcceptable),
        )
        for query, more, kind in refused:
            done = graph.servers[1].send(Method.GET, "/groups/g1x1", query=(("explain", query),), **more)
            self.failureResultOf(done, kind)
        graph.site.stop()
