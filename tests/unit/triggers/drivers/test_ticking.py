"""Timers as resources that fire: by the wall clock, which steps, over kills, as subjects with operations of their own."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import parse_rfc3339
from m2mapp.tree.unit import Document, Remove, Unit, Write
from m2mapp.triggers.changes import TIMER
from m2mapp.triggers.timers import check_timer, timer_type
from tests.simulation import Simulation, seeded
from tests.unit.triggers.rig import Box

MINUTE, HOUR = 60.0, 3600.0


def set_clock(box: Box, at: str) -> None:
    """Let the wall clock step to a time."""
    box.clock.step(parse_rfc3339(at, "at") - box.clock.now_ms())


class TickingCase(SynchronousTestCase):
    def build(self, simulation: Simulation, at: str = "2026-11-22T21:00:00Z") -> Box:
        """A box whose timer `/timers/t`, once there is one, has an operation; the wall clock shows this time."""
        box = Box(simulation.scheduler, {"/timers/t": {"add": False}}, lambda: 0.0)
        set_clock(box, at)
        box.start()
        box.run(0.1)
        return box

    def put(self, box: Box, document: Document) -> None:
        """Make the timer, or make it another one."""
        box.committer.commit(Unit((Write(("timers", "t"), TIMER, check_timer("t", document)),)))
        box.run(0.1)

    def shown(self, box: Box) -> Document:
        """Its document, as a GET shows it."""
        resource = box.tree.get(("timers", "t"))
        return dict(timer_type(box.clock.now_ms).describe(resource, box.tree))

    def fired(self, box: Box) -> list[str]:
        """The times that it fired for, as its operation's runs have them, the first one first."""
        return [str(run["content"]) for run in reversed(box.runs("/timers/t/Operations/add"))]


class FiringTests(TickingCase):
    @seeded(1)
    def test_fires_and_its_operations_run(self, simulation: Simulation) -> None:
        """A firing is a change of the timer's content: the time that it is for. Making a timer, or changing it, is none."""
        box = self.build(simulation)
        self.put(box, {"every": "15m"})
        first = self.shown(box)
        self.assertEqual((first["every"], first["fired"], first["next"]), ("15m", None, "2026-11-22T21:15:00.100Z"))
        self.put(box, {"every": "10m"})
        box.run(25 * MINUTE)
        self.assertEqual(self.fired(box), ["2026-11-22T21:10:00.100Z", "2026-11-22T21:20:00.100Z"])
        shown = self.shown(box)
        self.assertEqual((shown["fired"], shown["next"]), ("2026-11-22T21:20:00.100Z", "2026-11-22T21:30:00.100Z"))
        self.assertEqual(box.counter("m2mapp_timers_fired_total"), 2)
        box.stop()
        self.assertEqual(box.scheduler.getDelayedCalls(), [])

    @seeded(1)
    def test_in_time(self, simulation: Simulation) -> None:
        """It fires when its time comes, not at the next look at the clock."""
        box = self.build(simulation)
        self.put(box, {"at": "2026-11-22T21:07:13.500Z"})
        box.run(7 * MINUTE + 13.35)
        self.assertEqual(self.fired(box), ["2026-11-22T21:07:13.500Z"])
        self.assertIsNone(self.shown(box)["next"])
        box.run(HOUR)
        self.assertEqual(len(self.fired(box)), 1)
        box.stop()

    @seeded(1)
    def test_removed(self, simulation: Simulation) -> None:
        """A timer that is gone fires no more, and nothing waits for it."""
        box = self.build(simulation)
        self.put(box, {"every": "10m"})
        box.committer.commit(Unit((Remove(("timers", "t")),)))
        box.run(HOUR)
        self.assertEqual((self.fired(box), box.counter("m2mapp_timers_fired_total")), ([], 0))
        box.stop()

    @seeded(1)
    def test_clocks_that_change(self, simulation: Simulation) -> None:
        """A daily timer of a zone fires at its wall clock's time on the days before and after the clocks go back."""
        box = self.build(simulation, "2026-10-24T10:00:00Z")
        self.put(box, {"cron": "30 22 * * *", "timezone": "Europe/Berlin"})
        box.run(48 * HOUR)
        times = [datetime.fromisoformat(text).astimezone(ZoneInfo("Europe/Berlin")) for text in self.fired(box)]
        self.assertEqual([(one.day, one.hour, one.minute) for one in times], [(24, 22, 30), (25, 22, 30)])
        self.assertEqual(times[1].timestamp() - times[0].timestamp(), 25 * HOUR)
        box.stop()


class StepTests(TickingCase):
    @seeded(1)
    def test_forward(self, simulation: Simulation) -> None:
        """A box learns the time: what was passed over is made up for once, within half a minute."""
        box = self.build(simulation, "1970-01-01T00:00:10Z")
        self.put(box, {"cron": "0 22 * * *"})
        set_clock(box, "2026-11-22T21:59:00Z")
        box.run(40.0)
        self.assertEqual(len(self.fired(box)), 1)
        box.run(MINUTE)
        self.assertEqual(self.fired(box)[1:], ["2026-11-22T22:00:00.000Z"])
        box.stop()

    @seeded(1)
    def test_back_a_little(self, simulation: Simulation) -> None:
        """A clock that goes back by minutes repeats no firing."""
        box = self.build(simulation, "2026-11-22T21:59:00Z")
        self.put(box, {"cron": "0 * * * *"})
        box.run(2 * MINUTE)
        set_clock(box, "2026-11-22T21:58:00Z")
        box.run(30 * MINUTE)
        self.assertEqual(self.fired(box), ["2026-11-22T22:00:00.000Z"])
        box.run(HOUR)
        self.assertEqual(self.fired(box)[1:], ["2026-11-22T23:00:00.000Z"])
        box.stop()

    @seeded(1)
    def test_back_by_years(self, simulation: Simulation) -> None:
        """A clock that was years ahead and is set right: the timer fires by the right time from then on."""
        box = self.build(simulation, "2036-01-01T00:00:00Z")
        self.put(box, {"every": "10m"})
        set_clock(box, "2026-11-22T21:00:00Z")
        box.run(31 * MINUTE)
        self.assertEqual(len(self.fired(box)), 3)
        box.stop()


class RestartTests(TickingCase):
    @seeded(1)
    def test_missed(self, simulation: Simulation) -> None:
        """Firings that were missed while nobody was there are made up for once, or not at all, as the timer says."""
        for missed, expected in (("run", 1), ("skip", 0)):
            box = self.build(simulation)
            self.put(box, {"every": "10m", "missed": missed})
            box.run(MINUTE)
            box.kill()
            box.run(55 * MINUTE)
            box.start()
            box.run(1.0)
            self.assertEqual(len(self.fired(box)), expected)
            box.run(4 * MINUTE)
            self.assertEqual(len(self.fired(box)), expected + 1)
            box.stop()

    @seeded(6)
    def test_killed_about_its_time(self, simulation: Simulation) -> None:
        """Killed at any moment about a firing: it fires once for its time, and its operation is evaluated for it."""
        random = simulation.scheduler.generator("kills")
        box = self.build(simulation)
        self.put(box, {"every": "1m"})
        for _ in range(5):
            box.run(59.9 - box.scheduler.seconds() % 60 + random.uniform(0.0, 0.22))
            box.kill()
            box.start()
            box.run(2.0)
        times = self.fired(box)
        self.assertEqual(times, sorted(set(times)))
        self.assertEqual(len(times), 5)
        box.stop()

    @seeded(1)
    def test_a_disk_that_is_full(self, simulation: Simulation) -> None:
        """A firing that cannot be written is made up for when there is room again."""
        box = self.build(simulation)
        self.put(box, {"every": "10m"})
        box.database.full = True
        box.run(25 * MINUTE)
        self.assertEqual(box.counter("m2mapp_timers_fired_total"), 0)
        box.database.full = False
        box.run(MINUTE)
        self.assertEqual(self.fired(box), ["2026-11-22T21:10:00.100Z"])
        box.stop()

    @seeded(1)
    def test_a_zone_that_is_gone(self, simulation: Simulation) -> None:
        """A timer whose zone is not in the database any more does not run, is shown, and the others run."""
        box = self.build(simulation)
        gone = Write(("timers", "gone"), TIMER, {"cron": "0 22 * * *", "timezone": "Europe/Nowhere", "missed": "run"})
        box.committer.commit(Unit((gone,)))
        self.put(box, {"every": "10m"})
        box.run(11 * MINUTE)
        self.assertEqual(len(self.fired(box)), 1)
        shown = timer_type(box.clock.now_ms).describe(box.tree.get(("timers", "gone")), box.tree)
        self.assertEqual((shown["next"], shown["timezone"]), (None, "Europe/Nowhere"))
        box.stop()
