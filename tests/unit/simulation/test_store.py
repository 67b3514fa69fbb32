"""Whole nodes on disks that fail, run full, tear and lose power: what was answered is there, nothing is there by half."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Fault, StorageFailed, StorageFull
from m2mapp.model.messages import Method, Response
from m2mapp.tree.unit import CONTENT
from tests.simulation import Simulation, seeded
from tests.unit.simulation.world import GATEWAY_ADDRESS, Box, build_box, build_site, gateway_settings

PAIRS = 12
WRITERS = tuple(f"/w{number}" for number in range(8))


class Writers:
    """Clients that each write to a resource of its own, one write after the other: what each was told, and what it has under way."""

    def __init__(self, box: Box, random: Random) -> None:
        self.box, self.random = box, random
        self.answered: dict[str, bytes] = {}
        self.under_way: dict[str, bytes] = {}
        self.faults: list[type[Fault]] = []
        self.writes = 0
        for path in WRITERS:
            self._write(path)

    def _write(self, path: str) -> None:
        if self.box.node is None:
            return
        self.writes += 1
        self.under_way[path] = content = b"%d " % self.writes + b"x" * self.random.randrange(2000)
        done: Deferred[Response] = self.box.send(Method.PUT, path, content)
        done.addCallbacks(lambda _: self._answered(path, content), lambda failure: self._refused(path, failure))

    def _answered(self, path: str, content: bytes) -> None:
        self.answered[path] = content
        self._again(path)

    def _refused(self, path: str, failure: Failure) -> None:
        fault = failure.value
        if not isinstance(fault, Fault):
            failure.raiseException()
        self.faults.append(type(fault))
        self._again(path)

    def _again(self, path: str) -> None:
        del self.under_way[path]
        self.box.simulation.scheduler.callLater(self.random.uniform(0.0, 0.01), self._write, path)


def stored(box: Box) -> dict[str, bytes]:
    """The contents that the node's tree has."""
    assert box.node is not None
    return {"/" + "/".join(found.path): found.content or b"" for found in box.node.tree.walk() if found.type == CONTENT}


class StoreCase(SynchronousTestCase):
    def build(self, simulation: Simulation) -> Box:
        """A node alone, prepared."""
        box = build_box(simulation, gateway_settings(), GATEWAY_ADDRESS)
        box.start()
        simulation.scheduler.advance(1.0)
        return box

    def wait(self, box: Box, true: Callable[[], bool]) -> None:
        """Let time pass until something holds."""
        for _ in range(600):
            if true():
                return
            box.simulation.scheduler.advance(0.1)
        raise AssertionError("it does not hold after a minute")

    def check_stored(self, box: Box, writers: Writers) -> None:
        """Every answered write is there, or a later one of the same client that was under way; each is whole."""
        found = stored(box)
        for path, content in writers.answered.items():
            self.assertIn(found[path], (content, writers.under_way.get(path)), path)
        for path, content in found.items():
            self.assertIn(content, (writers.answered.get(path), writers.under_way.get(path)), path)


class CrashTests(StoreCase):
    @seeded(5)
    def test_killed_under_concurrent_writes(self, simulation: Simulation) -> None:
        """Ten times: eight clients write, the power fails at a random instant; no answered write is lost, none is there by half."""
        box = self.build(simulation)
        random = simulation.scheduler.generator("crashes")
        expected: dict[str, bytes] = {}
        for _ in range(10):
            writers = Writers(box, random)
            writers.answered.update(expected)
            simulation.scheduler.advance(random.uniform(0.0, 0.2))
            box.kill()
            simulation.scheduler.advance(0.1)
            box.start()
            self.check_stored(box, writers)
            expected = stored(box)
            simulation.scheduler.advance(0.1)
            self.assertEqual(stored(box), expected)
        self.assertGreater(len(expected), 5)

    @seeded(5)
    def test_units_are_whole(self, simulation: Simulation) -> None:
        """A group is made with its sets in one unit: after a crash at any instant it is there with all of its sets, or it is not there."""
        box = self.build(simulation)
        random = simulation.scheduler.generator("crashes")
        members = [f"coap://d{number}.example.org/t{number}" for number in range(PAIRS)]
        seen = set()
        for round_number in range(30):
            name = f"g{round_number}"
            box.send(Method.POST, "/groups", {"name": name, "members": members}).addErrback(lambda failure: failure.trap(Fault))
            simulation.scheduler.advance(random.uniform(0.0, 0.006))
            box.kill()
            box.start()
            assert box.node is not None
            sets = box.node.tree.children(("groups", name, "fanoutSets"))
            self.assertEqual(len(sets), PAIRS if box.node.tree.find(("groups", name)) is not None else 0)
            seen.add(len(sets))
            simulation.scheduler.advance(0.1)
        self.assertEqual(seen, {0, PAIRS})


class FaultTests(StoreCase):
    @seeded(5)
    def test_flushes_that_fail(self, simulation: Simulation) -> None:
        """Flushes that fail at random: writers get `StorageFailed`, reads go on, it recovers; a crash then loses nothing answered."""
        box = self.build(simulation)
        random = simulation.scheduler.generator("faults")
        writers = Writers(box, random)
        for _ in range(10):
            box.database.fail_flushes = random.randrange(3)
            simulation.scheduler.advance(random.uniform(0.0, 0.5))
            self.assertEqual(box.read("/node")["name"], box.name)
        box.database.fail_flushes = 0
        self.assertEqual(set(writers.faults), {StorageFailed})
        before = dict(writers.answered)
        # The disk works again when every writer has been answered anew: only then is what failed known not to come back.
        self.wait(box, lambda: all(writers.answered.get(path) not in (None, before.get(path)) for path in WRITERS))
        box.kill()
        box.start()
        self.check_stored(box, writers)

    @seeded(5)
    def test_a_full_disk(self, simulation: Simulation) -> None:
        """A full disk: writers get `StorageFull`, reads and removals go on; with room again writes are taken again, by themselves."""
        box = self.build(simulation)
        box.ask(Method.PUT, "/old", b"1")
        box.ask(Method.PUT, "/gone", b"1")
        box.database.full = True
        fault = self.fault_of(box, box.send(Method.PUT, "/new", b"1"))
        self.assertIsInstance(fault, StorageFull)
        simulation.scheduler.advance(5.0)
        self.assertEqual(box.ask(Method.GET, "/old").payload, b"1")
        box.ask(Method.DELETE, "/gone")
        self.assertIsInstance(self.fault_of(box, box.send(Method.PUT, "/new", b"1")), StorageFull)
        self.assertEqual(set(stored(box)), {"/old"})
        box.database.full = False
        self.wait(box, lambda: not isinstance(self.fault_of(box, box.send(Method.PUT, "/new", b"2")), StorageFull))
        box.kill()
        box.start()
        self.assertEqual(stored(box), {"/old": b"1", "/new": b"2"})

    @seeded(5)
    def test_a_group_on_a_full_disk(self, simulation: Simulation) -> None:
        """The gateway's disk is full: its group is read all the same; its members' disks: each says so, and none is silent."""
        site = build_site(simulation, 4)
        site.make_group()
        site.gateway.database.full = True
        shown = site.gateway.read("/groups/temps/membersContent")
        self.assertTrue(shown["complete"])
        for member in site.members:
            member.database.full = True
        document = self.results(site.gateway, site.gateway.send(Method.PUT, "/groups/temps/membersContent/note", b"x"))
        self.assertEqual({result["status"] for result in document["members"].values()}, {"5.00"})  # type: ignore[attr-defined]
        self.assertTrue(document["complete"])

    @staticmethod
    def results(box: Box, done: Deferred[Response]) -> dict[str, object]:
        """The joined answer."""
        found = json.loads(box.simulation.scheduler.run_until_fired(done, 60).payload)
        assert isinstance(found, dict)
        return found

    def fault_of(self, box: Box, done: Deferred[Response]) -> Fault | None:
        """The fault that a request ends with, or None."""
        try:
            box.simulation.scheduler.run_until_fired(done, 60)
        except Fault as fault:
            return fault
        return None

    @seeded(3)
    def test_members_that_cannot_keep_their_groups(self, simulation: Simulation) -> None:
        """Devices whose disks are full cannot join: they are shown as failed, asked by unicast, and join when there is room."""
        site = build_site(simulation, 3)
        site.run(2.0)
        for member in site.members:
            member.database.full = True
        site.gateway.ask(Method.POST, "/groups", {"name": "temps", "members": site.uris()})
        site.run(3.0)
        self.assertEqual(set(site.gateway.read("/groups/temps/fanoutSets/1")["joins"].values()), {"failed"})  # type: ignore[attr-defined]
        shown = site.gateway.read("/groups/temps/membersContent")
        self.assertEqual((shown["complete"], {result["via"] for result in shown["members"].values()}), (True, {"unicast"}))  # type: ignore[attr-defined]
        for member in site.members:
            member.database.full = False
        site.run(20.0)
        self.assertEqual(site.gateway.read("/groups/temps/membersContent")["datagrams"], {"sent": 1, "received": 3})
