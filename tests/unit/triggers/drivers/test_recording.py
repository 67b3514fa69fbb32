"""Records of evaluations: what is kept of runs and of what did nothing, over kills too, and how it is told."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Malformed, MethodNotAllowed, NoSuchResource, StorageFull
from m2mapp.model.messages import Method, Response
from m2mapp.tree.unit import Remove, Unit, Write
from m2mapp.triggers.drivers.telling import told
from m2mapp.triggers.trace import Evaluation, Outcome, Step, StepKind
from tests.simulation import Simulation, seeded
from tests.unit.fakes import ask
from tests.unit.triggers.rig import Box, evaluation, subject_change

ADD = "/a/Operations/add"
RULE = (Step(StepKind.RULE, holds=False, why="value > 30 does not hold", seen={"value": 21.5}),)
DEPENDENCY = (Step(StepKind.RULE, holds=True), Step(StepKind.DEPENDENCY, name="home", holds=False))


def build(simulation: Simulation) -> Box:
    """A box whose subject `/a` has one operation, which has a resource."""
    box = Box(simulation.scheduler, {"/a": {"add": False}}, lambda: 0.0)
    box.start()
    box.run(0.1)
    box.committer.commit(Unit((Write(("a", "Operations", "add"), "operation"),)))
    box.run(0.1)
    return box


def nothing(number: int, steps: tuple[Step, ...] = RULE) -> Evaluation:
    """An evaluation that did nothing for a change."""
    return evaluation(subject_change(number, at_ms=number), ADD, Outcome.DID_NOTHING, steps)


class RecorderTests(SynchronousTestCase):
    def ask(self, box: Box, below: str, method: Method = Method.GET, **more: object) -> Response:
        """What is told of the operation."""
        asked = ask(method, f"{ADD}/{below}", **more)  # type: ignore[arg-type]
        return box.scheduler.run_until_fired(told(box.durable.recorder, ADD, asked.path[3:], asked))

    def read(self, box: Box, below: str, **more: object) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask(box, below, Method.GET, **more).payload)
        return found

    @seeded(1)
    def test_runs_are_told_newest_first(self, simulation: Simulation) -> None:
        """Each run is told with what it was for, what was sent and what came of it; by its identifier too; a restart changes nothing."""
        box = build(simulation)
        for content in (b"1", b"2", b"3"):
            box.write("/a", content)
        box.run()
        box.kill()
        box.start()
        box.run()
        numbers = [str(number) for number in reversed(box.answered)]
        runs = self.read(box, "runs")
        self.assertEqual([run["id"] for run in runs["runs"]], numbers)
        newest = runs["runs"][0]
        self.assertEqual((newest["content"], newest["before"], newest["by"], newest["outcome"]), ("3", "2", "who", "ran"))
        self.assertEqual(newest["steps"][0]["sent"], {"method": "POST", "uri": "coap://d1.example.org/counter"})
        self.assertEqual(self.read(box, "runs", query=(("limit", "1"),)), {"runs": [newest]})
        self.assertEqual(self.read(box, f"evaluations/{numbers[0]}"), newest)
        box.stop()

    @seeded(1)
    def test_what_is_not_there(self, simulation: Simulation) -> None:
        """Other names, other methods, identifiers that are not kept and bad pages are refused."""
        box = build(simulation)
        self.assertRaises(NoSuchResource, self.ask, box, "evaluations/7")
        self.assertRaises(NoSuchResource, self.ask, box, "runs/7")
        self.assertRaises(NoSuchResource, self.ask, box, "other")
        self.assertRaises(MethodNotAllowed, self.ask, box, "runs", Method.DELETE)
        self.assertRaises(Malformed, self.ask, box, "runs", query=(("limit", "x"),))
        box.stop()

    @seeded(1)
    def test_what_did_nothing_is_joined_and_pushes_out_no_run(self, simulation: Simulation) -> None:
        """Thousands of evaluations that did nothing are one record for each reason, whole at both ends; the run before them stays."""
        box = build(simulation)
        box.write("/a", b"1")
        box.run()
        for number in range(1_000, 6_000):
            box.durable.recorder.nothing(nothing(number, RULE if number % 2 else DEPENDENCY))
            if number % 500 == 0:
                box.run(20.0)
        box.run(20.0)
        self.assertEqual(len(box.runs(ADD)), 1)
        found = self.read(box, "evaluations", query=(("limit", "1000"),))
        idle = [one for one in found["evaluations"] if one["outcome"] == "did nothing"]
        self.assertLessEqual(len(idle), 22)
        self.assertEqual(sum(one.get("count", 1) for one in idle), 5_000)
        self.assertEqual({one["steps"][-1]["step"] for one in idle}, {"rule", "dependency"})
        self.assertEqual(idle[0]["steps"][0].get("seen"), {"value": 21.5})
        box.stop()

    @seeded(1)
    def test_many_operations_on_a_slow_disk(self, simulation: Simulation) -> None:
        """What thousands of operations did not do is written little by little; a run among them is not lost."""
        box = build(simulation)
        assert box.disk is not None
        box.disk._latency_s = lambda: 0.5
        for number in range(2_000):
            box.durable.recorder.nothing(evaluation(subject_change(number), f"/a/Operations/o{number}", Outcome.DID_NOTHING, RULE))
        box.durable.recorder.finished(evaluation(subject_change(5), ADD))
        box.run(10.5)
        self.assertLess(box.durable.keeper.backlog, 200)
        box.run(60.0)
        found = [box.scheduler.run_until_fired(box.durable.recorder.evaluations(f"/a/Operations/o{number}")) for number in (0, 1_999)]
        self.assertEqual(([len(one) for one in found], len(box.runs(ADD))), ([1, 1], 1))
        box.stop()

    @seeded(1)
    def test_told_before_it_is_written(self, simulation: Simulation) -> None:
        """What did nothing is told at once; it is written within some seconds, and at the stop."""
        box = build(simulation)
        box.durable.recorder.nothing(nothing(7))
        self.assertEqual(self.read(box, "evaluations/7")["why"], "because")
        self.assertEqual(box.durable.recorder.shown(ADD)["lastEvaluation"], self.read(box, "evaluations/7"))
        box.stop()
        box.start()
        box.run()
        self.assertEqual(self.read(box, "evaluations/7")["why"], "because")
        box.stop()

    @seeded(1)
    def test_shown_with_the_operation(self, simulation: Simulation) -> None:
        """An operation shows how many runs it had and its last evaluation, over a stop too."""
        box = build(simulation)
        self.assertEqual(box.durable.recorder.shown(ADD), {"runs": 0, "lastEvaluation": None})
        box.write("/a", b"1")
        box.write("/a", b"2")
        box.run()
        shown = box.durable.recorder.shown(ADD)
        self.assertEqual((shown["runs"], shown["lastEvaluation"]), (2, box.runs(ADD)[0]))
        box.stop()
        box.start()
        box.run()
        self.assertEqual(box.durable.recorder.shown(ADD), shown)
        box.stop()

    @seeded(1)
    def test_removed_operation(self, simulation: Simulation) -> None:
        """Records go with their operation: one that is made again at the same path has none."""
        box = build(simulation)
        box.write("/a", b"1")
        box.durable.recorder.nothing(nothing(7))
        box.run(20.0)
        box.committer.commit(Unit((Remove(("a", "Operations", "add")),)))
        box.run()
        box.committer.commit(Unit((Write(("a", "Operations", "add"), "operation"),)))
        box.run()
        self.assertEqual(self.read(box, "evaluations"), {"evaluations": []})
        self.assertEqual(box.durable.recorder.shown(ADD)["runs"], 0)
        box.stop()

    @seeded(1)
    def test_a_full_disk_keeps_the_request(self, simulation: Simulation) -> None:
        """What must not be repeated does not leave when it cannot be noted before."""
        box = build(simulation)
        box.database.full = True
        one = evaluation(subject_change(5), ADD)
        with self.assertRaises(StorageFull):
            simulation.scheduler.run_until_fired(box.durable.recorder.leaving(one))
        box.durable.recorder.finished(one)
        box.database.full = False
        box.run(10.0)
        self.assertEqual((len(box.durable.keeper.log), len(box.runs(ADD))), (0, 1))
        box.stop()

    @seeded(1)
    def test_state_of_a_run_that_nobody_repeats(self, simulation: Simulation) -> None:
        """A run for no change of the feed leaves its record, and no state."""
        box = build(simulation)
        one = evaluation(subject_change(5), ADD)
        box.durable.recorder.leaving(one)
        box.run()
        self.assertEqual(len(box.durable.keeper.log), 1)
        box.durable.recorder.finished(one)
        box.run()
        self.assertEqual((len(box.durable.keeper.log), len(box.runs(ADD))), (0, 1))
        box.stop()

    @seeded(1)
    def test_circles_are_told(self, simulation: Simulation) -> None:
        """Each circle is a record and counted; the log has one line a minute for an operation."""
        box = build(simulation)
        with capturedLogs() as logged:
            for number in range(100):
                box.durable.recorder.finished(evaluation(subject_change(number), ADD, Outcome.CIRCLE))
                box.run(1.0)
        self.assertEqual((len(box.runs(ADD)), box.counter("m2mapp_operations_evaluations_total", outcome="circle")), (100, 100))
        lines = [event for event in logged if event["log_level"] is LogLevel.warn]
        self.assertEqual([event["operation"] for event in lines], [ADD, ADD])
        box.stop()

    @seeded(1)
    def test_interrupted_once(self, simulation: Simulation) -> None:
        """A process that dies again and again after a request may have left records it as interrupted once."""
        box = build(simulation)
        box.act_s = lambda: 5.0
        box.write("/a", b"1")
        box.run(1.0)
        for pause_s in (0.0, 0.001, 0.004, 1.0):
            box.kill()
            box.start()
            box.run(pause_s)
        (run,) = box.runs(ADD)
        self.assertEqual((run["outcome"], run["id"]), ("interrupted", str(box.answered[0])))
        self.assertEqual(box.plant.acted, [])
        box.stop()
