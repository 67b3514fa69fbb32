"""Targets that are away: their operations wait for them, the latest of each, over kills, until they are heard or the time is over."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Overloaded
from m2mapp.tree.registrations import SCL, SCLS
from m2mapp.tree.unit import Document, Unit, Write
from m2mapp.triggers.changes import SubjectChange
from m2mapp.triggers.drivers import returning
from tests.simulation import Simulation, seeded
from tests.unit.triggers.rig import Box, evaluation, subject_change

ADD = "/a/Operations/add"
TARGET = "coap://d1.example.org/window"
HOUR = 3600.0
DEVICE: Document = {
    "hosts": ["d1.example.org"],
    "addresses": ["fd00::d1"],
    "port": 5683,
    "scheme": "coap",
    "multicastEnabled": True,
    "groupServer": False,
    "mcGroups": "/mcGroups",
}


class AwayCase(SynchronousTestCase):
    def build(self, simulation: Simulation, back: Callable[[], bool] = lambda: True) -> Box:
        """A box; what waits is evaluated anew into `tried`, and its target is back when `back` says so."""
        box = Box(simulation.scheduler, {}, lambda: 0.0)
        self.tried: list[tuple[float, int]] = []
        self.back = back
        self.start(box)
        return box

    def start(self, box: Box) -> None:
        box.start()
        box.durable.away.again = lambda operation, change: self.again(box, change)
        box.run(0.1)

    def again(self, box: Box, change: SubjectChange) -> Deferred[bool]:
        self.tried.append((box.scheduler.seconds(), change.number))
        return succeed(self.back())

    def register(self, box: Box) -> None:
        """The device registers, or changes its registration."""
        box.committer.commit(Unit((Write((*SCLS, "d1"), SCL, DEVICE),)))
        box.run(0.1)

    def outcomes(self, box: Box) -> list[tuple[object, object]]:
        return [(run["id"], run["outcome"]) for run in box.runs(ADD)]


class AwayTests(AwayCase):
    @seeded(1)
    def test_heard_by_its_address(self, simulation: Simulation) -> None:
        """A datagram from one of the device's addresses is enough; one from another address is not."""
        box = self.build(simulation)
        self.register(box)
        box.durable.away.wait(ADD, TARGET, subject_change(7), HOUR)
        box.durable.away.heard("fd00::d2")
        box.run(1.0)
        self.assertEqual(self.tried, [])
        box.durable.away.heard("fd00::d1")
        box.run(0.1)
        self.assertEqual([number for _, number in self.tried], [7])
        self.assertEqual((len(box.durable.away), len(box.durable.keeper.log)), (0, 0))
        box.stop()

    @seeded(1)
    def test_heard_by_its_registration(self, simulation: Simulation) -> None:
        """A device that was not known registers: what waits for its host is evaluated anew."""
        box = self.build(simulation)
        box.durable.away.wait(ADD, TARGET, subject_change(7), HOUR)
        box.run(1.0)
        self.register(box)
        self.assertEqual([number for _, number in self.tried], [7])
        box.stop()

    @seeded(1)
    def test_an_address_as_target(self, simulation: Simulation) -> None:
        """A target that is named by its address needs no registration to be heard."""
        box = self.build(simulation)
        box.durable.away.wait(ADD, "coap://[fd00::d9]/window", subject_change(7), HOUR)
        box.durable.away.heard("fd00::d9")
        box.run(0.1)
        self.assertEqual([number for _, number in self.tried], [7])
        box.stop()

    @seeded(1)
    def test_tried_more_and_more_seldom(self, simulation: Simulation) -> None:
        """A target that never says anything is tried now and then, after pauses that grow to five minutes, until the time is over."""
        box = self.build(simulation, lambda: False)
        box.durable.away.wait(ADD, TARGET, subject_change(7), HOUR)
        began_s = box.scheduler.seconds()
        box.run(HOUR + 1.0)
        pauses = [round(later - earlier) for (earlier, _), (later, _) in zip(self.tried, self.tried[1:], strict=False)]
        self.assertEqual(round(self.tried[0][0] - began_s), 5)
        self.assertEqual(pauses[:7], [5, 10, 20, 40, 80, 160, 300])
        self.assertEqual(self.outcomes(box), [("7", "expired")])
        self.assertEqual((len(box.durable.away), len(box.durable.keeper.log)), (0, 0))
        box.stop()

    @seeded(1)
    def test_heard_often(self, simulation: Simulation) -> None:
        """A device that talks and does not take its operation is tried once a second at most."""
        box = self.build(simulation, lambda: False)
        self.register(box)
        box.durable.away.wait(ADD, TARGET, subject_change(7), HOUR)
        for _ in range(300):
            box.durable.away.heard("fd00::d1")
            box.run(0.01)
        self.assertLessEqual(len(self.tried), 4)
        box.stop()

    @seeded(1)
    def test_the_latest_only(self, simulation: Simulation) -> None:
        """A later change takes the place of an earlier one, which is recorded; an earlier one that comes late does not."""
        box = self.build(simulation)
        away = box.durable.away
        away.wait(ADD, TARGET, subject_change(7), HOUR)
        away.wait(ADD, TARGET, subject_change(9), HOUR)
        away.wait(ADD, TARGET, subject_change(8), HOUR)
        away.wait("/a/Operations/other", TARGET, subject_change(7), HOUR)
        self.assertEqual((len(away), away.operations(9)), (2, {ADD}))
        box.run(11.0)
        self.assertEqual(sorted(number for _, number in self.tried), [7, 9])
        found = box.scheduler.run_until_fired(box.durable.recorder.evaluations(ADD))
        self.assertEqual([(one["id"], one["outcome"], one["count"]) for one in found], [("8", "replaced", 2)])
        box.stop()

    @seeded(1)
    def test_what_waits_takes_later_changes(self, simulation: Simulation) -> None:
        """An operation that waits takes a later change without a request; one that does not wait takes none."""
        box = self.build(simulation, lambda: False)
        away = box.durable.away
        self.assertFalse(away.takes(ADD, subject_change(6), HOUR))
        away.wait(ADD, TARGET, subject_change(7), HOUR)
        self.assertFalse(away.takes(ADD, subject_change(7), HOUR))
        self.assertTrue(away.takes(ADD, subject_change(8), HOUR))
        self.assertEqual((away.numbers(), len(away)), ({8}, 1))
        box.stop()

    @seeded(1)
    def test_a_later_one_while_it_is_tried(self, simulation: Simulation) -> None:
        """A change that comes while an earlier one is sent to the target that is back is sent after it."""
        box = self.build(simulation)
        trying: list[Deferred[bool]] = []
        box.durable.away.again = lambda *_: trying.append(Deferred()) or trying[-1]  # type: ignore[func-returns-value]
        box.durable.away.wait(ADD, TARGET, subject_change(7), HOUR)
        box.run(6.0)
        box.durable.away.wait(ADD, TARGET, subject_change(9), HOUR)
        trying[0].callback(True)
        box.run(0.1)
        self.assertEqual((len(trying), len(box.durable.away)), (2, 1))
        trying[1].callback(True)
        box.run(0.1)
        self.assertEqual(len(box.durable.away), 0)
        box.stop()

    @seeded(1)
    def test_killed_while_it_waits(self, simulation: Simulation) -> None:
        """What waits is known after a restart, with the time that is left; what was over meanwhile is recorded so."""
        box = self.build(simulation, lambda: False)
        box.durable.away.wait(ADD, TARGET, subject_change(7, cause=("x",)), 100.0)
        box.durable.away.wait("/a/Operations/late", TARGET, subject_change(7), 20.0)
        box.run(1.0)
        box.kill()
        box.run(30.0)
        self.start(box)
        self.assertEqual(box.durable.away.operations(7), {ADD})
        self.back = lambda: True
        self.register(box)
        box.run(1.1)
        self.assertEqual((len(box.durable.away), len(box.durable.keeper.log)), (0, 0))
        late = box.scheduler.run_until_fired(box.durable.recorder.runs("/a/Operations/late"))
        self.assertEqual([run["outcome"] for run in late], ["expired"])
        box.stop()

    @seeded(1)
    def test_killed_when_it_may_have_left(self, simulation: Simulation) -> None:
        """What was sent to a target that is back, and must not be sent twice, waits no more after a kill: it was interrupted."""
        box = self.build(simulation)
        box.durable.away.again = lambda operation, change: self.leave(box, operation, change)
        box.durable.away.wait(ADD, TARGET, subject_change(7), HOUR)
        box.run(6.0)
        box.kill()
        self.start(box)
        box.run(60.0)
        self.assertEqual((self.tried, self.outcomes(box)), ([], [("7", "interrupted")]))
        self.assertEqual((len(box.durable.away), len(box.durable.keeper.log)), (0, 0))
        box.stop()

    def leave(self, box: Box, operation: str, change: SubjectChange) -> Deferred[bool]:
        box.durable.recorder.leaving(evaluation(change, operation))
        return Deferred()

    @seeded(1)
    def test_stopped_while_it_is_tried(self, simulation: Simulation) -> None:
        """A stop cancels what is being tried; it waits on, and nothing is left pending."""
        box = self.build(simulation)
        box.durable.away.again = lambda *_: Deferred()
        box.durable.away.wait(ADD, TARGET, subject_change(7), HOUR)
        box.run(6.0)
        box.stop()
        self.assertEqual(box.scheduler.getDelayedCalls(), [])
        self.start(box)
        box.run(1.0)
        self.assertEqual([number for _, number in self.tried], [7])
        box.stop()

    @seeded(1)
    def test_how_many(self, simulation: Simulation) -> None:
        """So many wait at most; one more is refused, one in place of another is not."""
        self.patch(returning, "MOST", 3)
        box = self.build(simulation, lambda: False)
        for number in range(3):
            box.durable.away.wait(f"/a/Operations/{number}", TARGET, subject_change(7), HOUR)
        self.assertRaises(Overloaded, box.durable.away.wait, ADD, TARGET, subject_change(7), HOUR)
        box.durable.away.wait("/a/Operations/1", TARGET, subject_change(8), HOUR)
        self.assertEqual(len(box.durable.away), 3)
        box.stop()

    @seeded(1)
    def test_how_much(self, simulation: Simulation) -> None:
        """So many bytes of changes wait at most; what waits no more gives them free."""
        self.patch(returning, "MOST_BYTES", 5_000)
        box = self.build(simulation)
        away = box.durable.away
        away.wait(ADD, TARGET, subject_change(7, b"x" * 3_000), HOUR)
        self.assertRaises(Overloaded, away.wait, "/a/Operations/other", TARGET, subject_change(7), HOUR)
        self.assertRaises(Overloaded, away.wait, ADD, TARGET, subject_change(8, b"x" * 4_500), HOUR)
        self.assertFalse(away.takes(ADD, subject_change(8, b"x" * 4_500), HOUR))
        away.wait(ADD, TARGET, subject_change(9), HOUR)
        away.wait("/a/Operations/other", TARGET, subject_change(7), HOUR)
        box.run(6.0)
        self.assertEqual((len(away), away._weight), (0, 0))
        box.stop()

    @seeded(1)
    def test_an_evaluation_that_raises(self, simulation: Simulation) -> None:
        """One that fails in a way that nobody foresaw is logged and waits no more."""
        box = self.build(simulation)
        box.durable.away.again = lambda *_: fail(KeyError())
        box.durable.away.wait(ADD, TARGET, subject_change(7), HOUR)
        box.run(6.0)
        self.assertEqual((len(self.flushLoggedErrors(KeyError)), len(box.durable.away)), (1, 0))
        box.stop()
