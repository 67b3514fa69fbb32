"""The durable feed on a store that is killed, fails and is slow: no answered change is lost, each subject keeps its order, none grows."""

from __future__ import annotations

from collections import Counter

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.model.errors import Overloaded, StorageFailed
from m2mapp.model.interfaces import IFollow
from m2mapp.model.metrics import Metrics
from m2mapp.triggers.changes import SubjectChange
from m2mapp.triggers.drivers.feed import MOST_A_WORKER, Feed
from m2mapp.triggers.trace import Outcome
from tests.simulation import Simulation, seeded
from tests.unit.triggers.rig import Box

ADD, SET = "/a/Operations/add", "/a/Operations/set"


def build(simulation: Simulation, act_s: float = 0.0, workers: int = 16) -> Box:
    """A box whose subjects `/a` and `/b` have an operation each that must not be repeated, `/a` another one that may be."""
    box = Box(simulation.scheduler, {"/a": {"add": False, "set": True}, "/b": {"add": False}}, lambda: act_s, workers)
    box.start()
    box.run(0.1)
    return box


class FeedTests(SynchronousTestCase):
    @seeded(1)
    def test_provides(self, simulation: Simulation) -> None:
        """The feed is what the tree's follower has to be."""
        box = build(simulation)
        self.assertTrue(verifyObject(IFollow, box.durable.feed))
        self.assertIs(box.tree.follower, box.durable.feed)
        box.stop()

    @seeded(1)
    def test_handed_on_after_the_answer(self, simulation: Simulation) -> None:
        """A write of a subject is evaluated once, after its writer was answered, with all that is known of it; a write of none is not."""
        box = build(simulation)
        seen: list[tuple[SubjectChange, list[int]]] = []
        evaluate = box.durable.feed.handler

        def handler(change: SubjectChange, settled: frozenset[str]) -> Deferred[None] | None:
            seen.append((change, list(box.answered)))
            return evaluate(change, settled)

        box.durable.feed.handler = handler
        box.write("/a", b"1")
        box.run()
        box.write("/a", b"2", cause=("http://g2/x",))
        box.write("/other", b"3")
        box.run()
        (first, _), (second, answered) = seen
        self.assertEqual(box.answered, [first.number, second.number, box.answered[2]])
        self.assertIn(second.number, answered)
        assert second.before is not None
        self.assertEqual((first.before, second.before.data, second.after.data), (None, b"1", b"2"))
        self.assertEqual((second.path, second.cause, second.principal), (("a",), ("http://g2/x",), "who"))
        self.assertEqual([box.plant.times(ADD, one.number) for one, _ in seen], [1, 1])
        self.assertEqual(len(box.durable.feed), 0)
        box.stop()

    @seeded(1)
    def test_answers_leave_first(self, simulation: Simulation) -> None:
        """What a writer is answered has left in a turn of the reactor of its own before its change is evaluated."""
        box = build(simulation)
        assert box.time is not None
        turns: list[str] = []
        evaluate, time = box.durable.feed.handler, box.time

        def handler(change: SubjectChange, settled: frozenset[str]) -> Deferred[None] | None:
            turns.append("evaluated")
            return evaluate(change, settled)

        box.durable.feed.handler = handler
        box.write("/a", b"1").addCallback(lambda _: time.callLater(0, turns.append, "the next turn"))
        box.run()
        self.assertEqual(turns, ["the next turn", "evaluated"])
        box.stop()

    @seeded(1)
    def test_one_subject_in_order_others_beside(self, simulation: Simulation) -> None:
        """Changes of one subject wait for each other; another subject's does not wait for them."""
        box = build(simulation, act_s=1.0)
        for content in (b"1", b"2", b"3"):
            box.write("/a", content)
        box.write("/b", b"1")
        box.run(2.5)
        self.assertEqual(len(box.evaluated), 2)
        self.assertEqual(box.plant.acted[0][0], ADD)
        self.assertIn(("/b/Operations/add", box.evaluated[1]), box.plant.acted)
        box.run(20.0)
        self.assertEqual([number for operation, number in box.plant.acted if operation == ADD], sorted(box.answered)[:3])
        box.stop()

    @seeded(1)
    def test_workers(self, simulation: Simulation) -> None:
        """Not more changes than there are workers are under way; a subject with many gets behind the others after each."""
        box = build(simulation, act_s=0.4, workers=1)
        for content in (b"1", b"2", b"3"):
            box.write("/a", content)
        box.write("/b", b"1")
        box.run(0.6)
        self.assertEqual(len(box.evaluated), 1)
        box.run(30.0)
        self.assertEqual(box.evaluated[1], box.answered[3])
        box.stop()

    @seeded(1)
    def test_targets_that_hang(self, simulation: Simulation) -> None:
        """Who waits for long holds no worker: another subject's turn comes after a second; a bounded number waits so."""
        subjects = [f"/s{number}" for number in range(20)]
        box = Box(simulation.scheduler, {subject: {"add": False} for subject in subjects}, lambda: 30.0, workers=1)
        box.start()
        box.run(0.1)
        for subject in subjects:
            box.write(subject, b"1")
        box.run(2.5)
        self.assertEqual(len(box.evaluated), 3)
        box.run(25.0)
        self.assertEqual(len(box.evaluated), MOST_A_WORKER)
        box.run(100.0)
        self.assertEqual(len(box.evaluated), 20)
        box.stop()

    @seeded(1)
    def test_stopped_and_started(self, simulation: Simulation) -> None:
        """What is under way at the stop is handed on again after the start; what must not be repeated is interrupted."""
        box = build(simulation, act_s=1.0)
        box.write("/a", b"1")
        box.run(0.5)
        box.stop()
        box.start()
        box.run(10.0)
        number = box.answered[0]
        self.assertEqual((box.plant.times(ADD, number), box.plant.times(SET, number)), (0, 1))
        self.assertEqual([run["outcome"] for run in box.runs(ADD)], ["interrupted"])
        self.assertEqual(len(box.durable.feed), 0)
        box.stop()

    @seeded(1)
    def test_a_failed_flush(self, simulation: Simulation) -> None:
        """A write that the disk lost was answered so: nothing is evaluated for it, and what comes afterwards is."""
        box = build(simulation)
        box.database.fail_flushes = 1
        box.write("/a", b"1")
        box.run(3.0)
        self.assertIsInstance(box.faults[0], StorageFailed)
        self.assertEqual((box.evaluated, len(box.durable.feed)), ([], 0))
        box.write("/a", b"2")
        box.run()
        self.assertEqual(box.evaluated, box.answered)
        box.stop()

    @seeded(1)
    def test_a_handler_that_fails(self, simulation: Simulation) -> None:
        """A change whose evaluation raises, at once or later, is logged and dealt with: those behind it are not kept."""
        box = build(simulation)
        evaluate = box.durable.feed.handler

        def raising(*_: object) -> Deferred[None]:
            raise LookupError

        for handler, error in ((lambda *_: fail(IndexError()), IndexError), (raising, LookupError)):
            box.durable.feed.handler = handler
            box.write("/a", b"1")
            box.run()
            self.assertEqual(len(self.flushLoggedErrors(error)), 1)
        box.durable.feed.handler = evaluate
        box.write("/a", b"2")
        box.run()
        self.assertEqual(box.evaluated, box.answered[2:])
        box.stop()

    @seeded(1)
    def test_dealt_with_at_once(self, simulation: Simulation) -> None:
        """Changes that set nothing off are handed on in order and forgotten, also on the disk, with what was known of their operations."""
        box = build(simulation)
        seen: list[int] = []
        forgotten: list[int] = []

        def settled(number: int) -> frozenset[str]:
            return frozenset({ADD}) if number % 2 else frozenset()

        given = {"reactor": box.time, "metrics": Metrics(), "settled": settled, "forget": forgotten.append}
        feed = box.tree.follower = Feed(keeper=box.durable.keeper, concerns=lambda path: path == ("a",), **given)  # type: ignore[arg-type]
        feed.handler = lambda change, _: seen.append(change.number)
        feed.start()
        for content in (b"1", b"2", b"3", b"4"):
            box.write("/a", content)
            box.write("/b", content)
        box.run()
        self.assertEqual(seen, [change for change in sorted(box.answered) if change in seen])
        self.assertEqual((len(seen), len(feed), len(box.durable.keeper.log)), (4, 0, 0))
        self.assertEqual(forgotten, [number for number in seen if number % 2])
        feed.stop()
        box.stop()
        box.start()
        box.run()
        self.assertEqual(box.evaluated, [])
        box.stop()


class StormTests(SynchronousTestCase):
    @seeded(1)
    def test_writers_faster_than_operations(self, simulation: Simulation) -> None:
        """A subject's room is bounded: its writers are refused, what was answered is evaluated, and another subject is not slowed."""
        box = build(simulation, act_s=0.5)
        box.durable.feed._room_bytes = 200_000
        for number in range(300):
            box.write("/a", b"%d" % number)
            if number % 50 == 0:
                box.run(0.01)
        box.run(0.1)
        self.assertTrue(all(isinstance(fault, Overloaded) for fault in box.faults))
        self.assertEqual(len(box.answered) + len(box.faults), 300)
        self.assertLess(len(box.durable.feed), 101)
        box.write("/b", b"1")
        box.run(0.6)
        self.assertEqual(box.plant.acted[-1], ("/b/Operations/add", box.answered[-1]))
        box.run(600.0)
        self.assertEqual(sorted(box.evaluated), sorted(box.answered))
        self.assertEqual((len(box.durable.feed), box.durable.feed._used), (0, 0))
        box.stop()

    @seeded(1)
    def test_thousands_of_changes(self, simulation: Simulation) -> None:
        """Many changes that are dealt with at once leave nothing: neither in memory nor in the log."""
        box = build(simulation)
        box.operations = {"/b": {"set": True}}
        for number in range(1_500):
            box.write("/b", b"%d" % number)
            if number % 500 == 499:
                box.run(2.0)
        self.assertEqual((len(box.answered), box.faults), (1_500, []))
        self.assertEqual(box.evaluated, box.answered)
        self.assertEqual((len(box.durable.feed), len(box.durable.keeper.log)), (0, 0))
        box.stop()


class CrashTests(SynchronousTestCase):
    @seeded(12)
    def test_killed_at_any_time(self, simulation: Simulation) -> None:
        """Killed again and again while changes come and flushes fail: what was answered is evaluated; nothing unrepeatable is done twice.

        Each run that must not be repeated is recorded: as done, or as interrupted; and what was acted on is recorded.
        """
        random = simulation.scheduler.generator("kills")
        box = Box(
            simulation.scheduler, {"/a": {"add": False, "set": True}, "/b": {"add": False}}, lambda: random.choice((0.0, 0.002, 0.03))
        )
        box.start()
        for _ in range(12):
            for number in range(random.randrange(6)):
                box.database.fail_flushes = int(random.random() < 0.1)
                box.write(random.choice(("/a", "/b")), b"%d" % number)
                box.run(random.choice((0.0, 0.001, 0.01)))
            box.run(random.uniform(0.0, 0.04))
            box.kill()
            box.run(0.01)
            box.start()
            box.run(random.choice((0.0, 0.05)))
        box.run(10.0)
        self.assertEqual((len(box.durable.feed), len(box.durable.keeper.log)), (0, 0))
        times = Counter(box.plant.acted)
        for operation in (ADD, "/b/Operations/add"):
            records = {int(str(run["id"])): run["outcome"] for run in box.runs(operation)}
            numbers = {number for name, number in box.plant.acted if name == operation}
            self.assertLessEqual(numbers, records.keys())
            self.assertLessEqual({number for number, outcome in records.items() if outcome == Outcome.RAN.value}, numbers)
            self.assertTrue(all(times[operation, number] <= 1 for number in records))
        self.assertLessEqual(set(box.answered), set(box.evaluated))
        for number in box.answered:
            if times[ADD, number]:
                self.assertGreaterEqual(times[SET, number], 1)
        box.stop()
