"""Operations on whole nodes that die, circles that end, targets that are away, and what the records say of it afterwards."""

from __future__ import annotations

from collections import Counter

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Fault
from m2mapp.model.messages import Method, Response
from m2mapp.net.medium import Quality
from m2mapp.triggers.cause import MOST
from tests.simulation import Simulation, seeded
from tests.unit.simulation.house import House
from tests.unit.simulation.world import Box

ONE, OTHER = "gscl1", "gscl2"


def copies(name: str, target: str, **more: object) -> dict[str, object]:
    """An operation that sets a resource to 1 whenever its subject is 1."""
    return {"name": name, "rule": "value == 1", "objectResource": target, "method": "update", "input": "1", **more}


def runs(box: Box, operation: str) -> list[dict[str, object]]:
    """The runs of an operation, the newest first."""
    found = box.read(f"{operation}/runs", query=(("limit", "1000"),))["runs"]
    assert isinstance(found, list)
    return found


def outcomes(box: Box, operation: str) -> list[object]:
    return [run["outcome"] for run in runs(box, operation)]


class CircleTests(SynchronousTestCase):
    @seeded(1)
    def test_on_one_node(self, simulation: Simulation) -> None:
        """A sets B sets A: each is written once by the other, the circle is stopped and told by name; and so is the next one."""
        house = House(simulation, (ONE,))
        for path in ("/a", "/b"):
            house.write(ONE, path, b"0")
        to_b = house.operate(copies("toB", "/b"), subject="/a")
        to_a = house.operate(copies("toA", "/a"), subject="/b")
        for turn in (1, 2):
            house.write(ONE, "/a", b"1")
            self.assertEqual(Counter(outcomes(house[ONE], to_b)), {"ran": turn, "circle": turn})
            self.assertEqual(outcomes(house[ONE], to_a), ["ran"] * turn)
        stopped = runs(house[ONE], to_b)[0]
        self.assertEqual(
            stopped["why"],
            "a circle: coap://gscl1/a/Operations/toB -> coap://gscl1/b/Operations/toA -> coap://gscl1/a/Operations/toB",
        )
        house.stop()

    @seeded(2)
    def test_over_two_nodes(self, simulation: Simulation) -> None:
        """The same over two nodes, by CoAP: what led to a request travels with it."""
        house = House(simulation, (ONE, OTHER))
        house.write(ONE, "/a", b"0")
        house.write(OTHER, "/b", b"0")
        to_b = house.operate(copies("toB", "coap://gscl2/b"), subject="/a")
        to_a = house.operate(copies("toA", "coap://gscl1/a"), subject="/b", node=OTHER)
        house.write(ONE, "/a", b"1")
        house.scheduler.advance(5.0)
        self.assertEqual((outcomes(house[ONE], to_b), outcomes(house[OTHER], to_a)), (["circle", "ran"], ["ran"]))
        stopped = runs(house[ONE], to_b)[0]
        self.assertEqual(stopped["cause"], ["coap://gscl1/a/Operations/toB", "coap://gscl2/b/Operations/toA"])
        house.stop()

    @seeded(1)
    def test_an_operation_on_its_own_subject(self, simulation: Simulation) -> None:
        """One that writes its own subject runs once for each write by others."""
        house = House(simulation, (ONE,))
        house.write(ONE, "/a", b"0")
        operation = house.operate(copies("again", "/a"), subject="/a")
        house.write(ONE, "/a", b"1")
        self.assertEqual(outcomes(house[ONE], operation), ["circle", "ran"])
        house.stop()

    @seeded(1)
    def test_a_long_chain(self, simulation: Simulation) -> None:
        """A chain without a circle goes as far as a cause may be long, and says so at its end."""
        house = House(simulation, (ONE,))
        for number in range(MOST + 2):
            house.write(ONE, f"/r{number}", b"0")
        for number in range(MOST + 1):
            house.operate(copies("next", f"/r{number + 1}"), subject=f"/r{number}")
        house.write(ONE, "/r0", b"1")
        house.scheduler.advance(2.0)
        self.assertEqual([house.content(ONE, f"/r{number}") for number in (MOST, MOST + 1)], ["1", "0"])
        (last,) = runs(house[ONE], f"/r{MOST}/Operations/next")
        self.assertEqual((last["outcome"], len(last["cause"])), ("failed", MOST))  # type: ignore[arg-type]
        house.stop()


class KilledTests(SynchronousTestCase):
    @seeded(4)
    def test_the_counters_agree_with_the_records(self, simulation: Simulation) -> None:
        """Killed again and again: each answered change was evaluated, nothing unrepeatable was done twice, the records say what was done.

        An operation that creates makes one child for each change that its records have as run; one that was interrupted may have made its
        child or not; none has more.
        """
        house = House(simulation, (ONE, OTHER))
        random = simulation.scheduler.generator("kills")
        house.write(ONE, "/a", b"0")
        house.write(OTHER, "/light", b"0")
        house.write(OTHER, "/log/first", b"0")
        adding = house.operate(
            {"name": "add", "priority": 2, "rule": "value > 0", "objectResource": "coap://gscl2/log", "method": "create", "input": "x"},
            subject="/a",
        )
        setting = house.operate(
            {"name": "set", "priority": 1, "rule": "value > 0", "objectResource": "coap://gscl2/light", "method": "update", "input": "1"},
            subject="/a",
        )
        writes = Writes(house[ONE])
        for _ in range(10):
            for _ in range(random.randrange(1, 4)):
                writes.write()
                house.scheduler.advance(random.choice((0.0, 0.001, 0.01)))
            house.scheduler.advance(random.uniform(0.0, 0.03))
            house[ONE].kill()
            house[ONE].start()
            house.scheduler.advance(random.choice((0.0, 0.02, 0.1)))
        house.scheduler.advance(120.0)
        added = {str(run["content"]): run["outcome"] for run in runs(house[ONE], adding)}
        self.assertEqual(len(added), len(runs(house[ONE], adding)))
        counted = Counter(added.values())
        node = house[OTHER].node
        assert node is not None
        made = len(node.tree.children(("log",))) - 1
        self.assertLessEqual(counted["ran"], made)
        self.assertLessEqual(made, counted["ran"] + counted["interrupted"] + counted["failed"])
        self.assertLessEqual(writes.answered, set(added))
        set_for = {str(run["content"]) for run in runs(house[ONE], setting) if run["outcome"] == "ran"}
        self.assertLessEqual(writes.answered, set_for)
        house.stop()


class Writes:
    """Writes of `/a`, each another content: which of them were answered."""

    def __init__(self, box: Box) -> None:
        self.box, self.count = box, 0
        self.answered: set[str] = set()

    def write(self) -> None:
        """One more, if the process runs."""
        self.count += 1
        content = str(self.count)
        done: Deferred[Response] = self.box.send(Method.PUT, "/a", content.encode())
        done.addCallbacks(lambda _: self.answered.add(content), lambda failure: failure.trap(Fault))


class AwayTests(SynchronousTestCase):
    @seeded(2)
    def test_a_target_that_is_away_for_a_minute(self, simulation: Simulation) -> None:
        """Its operation waits, the latest change alone; it is sent when the target is back, once, and the records say all of it."""
        house = House(simulation, (ONE, OTHER))
        house.write(ONE, "/a", b"0")
        house.write(OTHER, "/light", b"0")
        operation = house.operate(
            {"name": "set", "rule": "value > 0", "objectResource": "coap://gscl2/light", "method": "update", "inputURI": "/a"}, subject="/a"
        )
        house[OTHER].kill()
        for content in (b"1", b"2", b"3"):
            house.write(ONE, "/a", content)
        house.scheduler.advance(60.0)
        self.assertEqual(outcomes(house[ONE], operation), ["away"])
        house[OTHER].start()
        house.scheduler.advance(330.0)
        self.assertEqual(house.content(OTHER, "/light"), "3")
        self.assertEqual(outcomes(house[ONE], operation), ["ran", "away"])
        evaluations = house[ONE].read(f"{operation}/evaluations")["evaluations"]
        assert isinstance(evaluations, list)
        self.assertEqual(Counter(one["outcome"] for one in evaluations), {"ran": 1, "away": 2, "replaced": 1})
        house.stop()

    @seeded(2)
    def test_killed_while_its_target_is_away(self, simulation: Simulation) -> None:
        """The gateway dies meanwhile: the operation waits on after its start, and is checked again when the target is back."""
        house = House(simulation, (ONE, OTHER))
        house.write(ONE, "/a", b"0")
        house.write(OTHER, "/light", b"0")
        operation = house.operate(copies("set", "coap://gscl2/light"), subject="/a")
        house[OTHER].kill()
        house.write(ONE, "/a", b"1")
        house.scheduler.advance(110.0)
        house[ONE].kill()
        house[ONE].start()
        house.scheduler.advance(32.0)  # It is tried at the start, and what is on its way then is not called back.
        house.write(ONE, "/a", b"0")
        house[OTHER].start()
        house.scheduler.advance(330.0)
        self.assertEqual(house.content(OTHER, "/light"), "0")
        self.assertEqual(outcomes(house[ONE], operation), ["away", "away"])  # of each process
        evaluations = house[ONE].read(f"{operation}/evaluations")["evaluations"]
        assert isinstance(evaluations, list)
        self.assertIn("its target is back", evaluations[0]["why"])
        house.stop()


class FullDiskTests(SynchronousTestCase):
    @seeded(1)
    def test_what_cannot_be_noted_does_not_leave(self, simulation: Simulation) -> None:
        """The disk is full when a request is to leave that must not leave twice: it waits, and leaves once when there is room."""
        house = House(simulation, (ONE, OTHER))
        house.write(ONE, "/a", b"0")
        house.write(OTHER, "/log/first", b"0")
        operation = house.operate(
            {"name": "add", "rule": "value > 0", "objectResource": "coap://gscl2/log", "method": "create", "inputURI": "/a"}, subject="/a"
        )
        simulation.network.set_quality(Quality(delay_s=(0.5, 0.5)))
        house[ONE].ask(Method.POST, f"{operation}/Dependencies", {"uri": "coap://gscl2/log/first", "rule": "value == 0", "logic": "AND"})
        house[ONE].ask(Method.PUT, "/a", b"1")
        house[ONE].database.full = True
        house.scheduler.advance(60.0)
        node = house[OTHER].node
        assert node is not None
        self.assertEqual(len(node.tree.children(("log",))), 1)
        house[ONE].database.full = False
        house.scheduler.advance(300.0)
        self.assertEqual(len(node.tree.children(("log",))), 2)
        self.assertEqual(outcomes(house[ONE], operation), ["ran", "away"])
        house.stop()


class TimerTests(SynchronousTestCase):
    @seeded(1)
    def test_a_timer_has_operations(self, simulation: Simulation) -> None:
        """A timer is made, read and tied to an operation like any subject; each firing runs it; bad ones are refused."""
        house = House(simulation, (ONE,))
        house.write(ONE, "/light", b"0")
        house[ONE].ask(Method.PUT, "/timers/t", {"every": "10m"})
        operation = house.operate(
            {"name": "set", "rule": "text contains 'Z'", "objectResource": "/light", "method": "update", "inputURI": "/timers/t"},
            subject="/timers/t",
        )
        house.scheduler.advance(1300.0)
        self.assertEqual(outcomes(house[ONE], operation), ["ran", "ran"])
        shown = house[ONE].read("/timers/t")
        self.assertEqual(shown["every"], "10m")
        self.assertEqual(runs(house[ONE], operation)[0]["content"], shown["fired"])
        for wrong in (
            {"cron": "61 * * * *"},
            {"every": "10m", "at": "2027-01-01T00:00:00Z"},
            {"every": "10m", "timezone": "Europe/Berlin"},
        ):
            self.assertRaises(Fault, house[ONE].ask, Method.PUT, "/timers/t", wrong)
        house.stop()
