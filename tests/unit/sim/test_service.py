"""`sim.service`: the model's values in the tree."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import StorageFull
from m2mapp.sim.service import SimService
from m2mapp.sim.settings import SimSettings
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from m2mapp.tree.unit import Change, Unit, Write
from tests.unit.fakes import FakeClock, FakeCommitter


class SimServiceTests(SynchronousTestCase):
    def build(self, settings: SimSettings) -> SimService:
        self.clock = Clock()
        self.tree = Tree(Types([]).derived, self.fail)
        self.committer = FakeCommitter(self.tree, FakeClock())
        return SimService(self.tree, self.committer, self.clock, settings)

    def test_first_value_and_the_next(self) -> None:
        """A start writes the resource with its link attributes; then a value comes each period, give or take a tenth."""
        service = self.build(SimSettings("temperature", period_s=10.0))
        service.startService()
        first = self.tree.get(("temperature",))
        self.assertEqual(
            (first.media_type, first.attributes["attributes"]), ("text/plain", {"rt": "temperature", "if": "core.s", "unit": "Cel"})
        )
        for number in range(2, 6):
            (call,) = self.clock.getDelayedCalls()
            self.assertTrue(9 <= call.getTime() - self.clock.seconds() <= 11)
            self.clock.advance(11)
            self.assertEqual(len(self.committer.units), number)
        service.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_path_can_be_chosen(self) -> None:
        """With a path in the settings the value stands there and nowhere else."""
        service = self.build(SimSettings("meter", path=("cellar", "meter")))
        service.startService()
        self.addCleanup(service.stopService)
        self.assertIsNotNone(self.tree.find(("cellar", "meter")))
        self.assertIsNone(self.tree.find(("meter",)))

    def test_kept_value_is_not_overwritten_at_the_start(self) -> None:
        """A resource that is there from an earlier run keeps its content and attributes until something is measured."""
        service = self.build(SimSettings("switch"))
        self.committer.commit(
            Unit((Write(("switch",), attributes={"attributes": {"rt": "lamp"}}, content=b"on", media_type="text/plain"),))
        )
        service.startService()
        self.assertEqual(self.tree.get(("switch",)).content, b"on")
        for _ in range(1000):
            self.clock.advance(6)
            if len(self.committer.units) > 1:
                break
        turned = self.tree.get(("switch",))
        self.assertEqual((turned.content, turned.attributes), (b"off", {"attributes": {"rt": "lamp"}}))
        service.stopService()

    def test_one_write_at_a_time(self) -> None:
        """While a write waits for the disk nothing else is written, and the period begins when it is answered."""
        service = self.build(SimSettings("meter", period_s=1.0))
        self.committer.hold()
        service.startService()
        self.clock.advance(60)
        self.assertEqual((len(self.committer.units), self.clock.getDelayedCalls()), (1, []))
        self.committer.release()
        self.clock.advance(1.1)
        self.assertEqual(len(self.committer.units), 2)
        service.stopService()

    def test_failed_write_does_not_end_it(self) -> None:
        """A full disk and an unforeseen error are logged, and the next periods go on."""
        service = self.build(SimSettings("meter", period_s=1.0))
        service.startService()
        self.committer.fault = StorageFull()
        self.clock.pump([1.1] * 3)
        self.committer.fault = None
        before = self.tree.get(("meter",)).version
        self.clock.advance(1.1)
        self.assertGreater(self.tree.get(("meter",)).version, before)

        def commit(unit: Unit) -> tuple[Change, ...]:
            raise ZeroDivisionError

        self.patch(self.committer, "commit", commit)
        self.clock.advance(1.1)
        self.assertEqual((len(self.flushLoggedErrors(ZeroDivisionError)), len(self.clock.getDelayedCalls())), (1, 1))
        service.stopService()

    def test_start_stop_start(self) -> None:
        """A service that was stopped measures again when it is started, also where a write was under way: still one at a time."""
        service = self.build(SimSettings("meter", period_s=1.0))
        self.committer.hold()
        service.startService()
        service.stopService()
        service.startService()
        self.assertEqual((len(self.committer.units), self.clock.getDelayedCalls()), (1, []))
        self.committer.release()
        self.clock.advance(1.1)
        self.assertEqual(len(self.committer.units), 2)
        service.stopService()
        self.clock.advance(60)
        self.assertEqual((len(self.committer.units), self.clock.getDelayedCalls()), (2, []))
        service.startService()
        self.clock.advance(1.1)
        self.assertEqual(len(self.committer.units), 3)
        service.stopService()

    def test_answer_after_the_stop_begins_nothing(self) -> None:
        """A write that is answered after the stop leaves no delayed call."""
        service = self.build(SimSettings("meter"))
        self.committer.hold()
        service.startService()
        service.stopService()
        self.committer.release()
        self.assertEqual(self.clock.getDelayedCalls(), [])
