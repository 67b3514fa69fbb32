"""The keeper: what is given is committed, gathered; what fails is tried again, and nothing old overtakes what is newer."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import StorageFull
from m2mapp.tree.unit import OPERATIONS, Append, Document
from m2mapp.triggers.drivers.keeping import LATER_S, MOST_APPENDS, Keeper
from m2mapp.triggers.state_log import Make, StateLog
from tests.unit.fakes import build_tree


def document(value: int) -> Make:
    return lambda: {"value": value}


class KeeperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.built, self.clock = build_tree(), Clock()
        self.keeper = self.build()
        self.successResultOf(self.keeper.restore())

    def build(self, log: StateLog | None = None) -> Keeper:
        return Keeper(self.built.tree, self.built.committer, self.built.committer, self.clock, log)

    def kept(self) -> dict[str, Document]:
        """What another process finds."""
        other = self.build()
        self.successResultOf(other.restore())
        return dict(other.log.below(""))

    def turn(self) -> None:
        """The reactor's next turn."""
        self.clock.advance(0)

    def test_gathered(self) -> None:
        """What comes in one turn is one unit, records too; what was put and removed in it leaves nothing."""
        self.keeper.put("a", document(1), Append("runs", {}))
        self.keeper.put("b", document(1))
        self.keeper.put("a", document(2))
        self.keeper.remove("b")
        self.turn()
        (unit,) = self.built.committer.units
        self.assertEqual([append.journal for append in unit.appends], ["runs", OPERATIONS])
        self.assertEqual(self.kept(), {"a": {"value": 2}})

    def test_what_comes_meanwhile_shares_the_next(self) -> None:
        """While a unit is under way what comes is gathered."""
        self.built.committer.hold()
        for number in range(5):
            self.keeper.put(f"k{number}", document(number))
            self.turn()
        self.assertEqual(len(self.built.committer.units), 1)
        self.built.committer.release()
        self.turn()
        self.assertEqual((len(self.built.committer.units), len(self.kept())), (2, 5))

    def test_no_haste(self) -> None:
        """What is no haste to be forgotten is one unit after a while; something else takes it along at once."""
        for name in "abc":
            self.keeper.put(name, document(1))
        self.turn()
        self.keeper.remove("a", soon=False)
        self.keeper.remove("b", soon=False)
        self.turn()
        self.assertEqual(len(self.built.committer.units), 1)
        self.clock.advance(LATER_S)
        self.assertEqual((len(self.built.committer.units), list(self.kept())), (2, ["c"]))
        self.keeper.remove("c", soon=False)
        self.keeper.put("d", document(2))
        self.turn()
        self.assertEqual((len(self.built.committer.units), list(self.kept())), (3, ["d"]))
        self.clock.advance(LATER_S)
        self.assertEqual(len(self.built.committer.units), 3)

    def test_saved(self) -> None:
        """Who has to know waits for its own document and for all before it, in the turn in which it asks."""
        self.built.committer.hold()
        self.keeper.put("a", document(1))
        done = self.keeper.saved({"b": document(2)})
        self.assertEqual(len(self.built.committer.units), 1)
        self.assertNoResult(done)
        self.built.committer.release()
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(self.kept(), {"a": {"value": 1}, "b": {"value": 2}})

    def test_who_waits_no_longer(self) -> None:
        """A wait that is cancelled takes nothing back."""
        self.built.committer.hold()
        done = self.keeper.saved({"b": document(2)}).addErrback(lambda _: None)
        done.cancel()
        self.built.committer.release()
        self.assertEqual(self.kept(), {"b": {"value": 2}})

    def test_tried_again(self) -> None:
        """What cannot be written is told to who waits, and tried again until it is; what was taken back meanwhile is not."""
        self.built.committer.fault = StorageFull()
        self.keeper.put("a", document(1), Append("runs", {}))
        self.keeper.put("b", document(1))
        self.failureResultOf(self.keeper.saved({"c": document(1)}), StorageFull)
        self.keeper.put("a", document(2))
        self.keeper.remove("b")
        self.clock.advance(1.0)
        self.built.committer.fault = None
        self.clock.advance(1.0)
        self.assertEqual(self.kept(), {"a": {"value": 2}, "c": {"value": 1}})
        self.assertEqual(len(self.built.committer.journals["runs"]), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_two_that_fail(self) -> None:
        """Of two units that fail together the later one's word counts."""
        self.built.committer.hold()
        first, second = self.keeper.saved({"a": document(1), "b": document(1)}), self.keeper.saved({"a": document(2)})
        self.built.committer.fail_held(StorageFull())
        for done in (first, second):
            self.failureResultOf(done, StorageFull)
        self.clock.advance(1.0)
        self.assertEqual(self.kept(), {"a": {"value": 2}, "b": {"value": 1}})

    def test_old_and_on_its_way_out(self) -> None:
        """What has grown old is written again; not what is just being removed, which would come back at the next start."""
        keeper = self.build(StateLog(8))
        self.successResultOf(keeper.restore())
        self.successResultOf(keeper.saved({"old": document(1), "gone": document(1)}))
        for number in range(3):
            self.successResultOf(keeper.saved({"new": document(number)}))
        self.built.committer.hold()
        keeper.remove("gone")
        self.turn()
        done = keeper.saved({"new": document(9)})
        self.built.committer.release()
        self.successResultOf(done)
        self.assertEqual(self.kept(), {"old": {"value": 1}, "new": {"value": 9}})
        self.assertEqual({key for key, _ in keeper.log.below("")}, {"old", "new"})

    def test_kick(self) -> None:
        """What grows old because of others' entries is written again when it is looked for."""
        keeper = self.build(StateLog(4))
        self.successResultOf(keeper.restore())
        self.successResultOf(keeper.saved({"a": document(1)}))
        units = len(self.built.committer.units)
        keeper.kick()
        self.turn()
        self.assertEqual(len(self.built.committer.units), units)
        for key in ("b", "c"):
            keeper.log.entry(self.built.tree.next_number, {key: document(2)})
        keeper.kick()
        self.turn()
        self.assertEqual(len(self.built.committer.units), units + 1)

    def test_stopped_and_started(self) -> None:
        """A stop writes what is gathered and leaves nothing pending; what comes afterwards waits for the start."""
        self.keeper.put("a", document(1))
        self.successResultOf(self.keeper.stop())
        self.keeper.put("b", document(1))
        self.assertEqual((self.kept(), self.clock.getDelayedCalls()), ({"a": {"value": 1}}, []))
        self.keeper.start()
        self.turn()
        self.assertEqual(len(self.kept()), 2)

    def test_stopped_on_a_full_disk(self) -> None:
        """A stop that cannot write is over all the same."""
        self.built.committer.fault = StorageFull()
        self.keeper.put("a", document(1))
        self.successResultOf(self.keeper.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many(self) -> None:
        """Thousands of documents and records are units of a bounded size."""
        for number in range(3_000):
            self.keeper.put(f"k{number}", document(number))
        self.turn()
        for number in range(3_000):
            self.keeper.remove(f"k{number}", Append("runs", {"number": number}))
        self.turn()
        self.assertEqual(self.kept(), {})
        self.assertLess(max(len(unit.appends) for unit in self.built.committer.units), 100)
        written = [entry.body["number"] for entry in self.built.committer.journals["runs"]]
        self.assertTrue(written == list(range(3_000)))

    def test_records_that_wait_for_the_disk(self) -> None:
        """While the disk fails so many records wait, the newest ones."""
        self.built.committer.fault = StorageFull()
        for number in range(3_000):
            self.keeper.append(Append("runs", {"number": number}))
        self.turn()
        self.assertEqual(self.keeper.backlog, MOST_APPENDS)
        self.built.committer.fault = None
        self.clock.advance(1.0)
        written = [entry.body["number"] for entry in self.built.committer.journals["runs"]]
        self.assertTrue(written == list(range(2_000, 3_000)))
