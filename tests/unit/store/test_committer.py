"""The order of writing, and what happens when the disk does not take it."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.model.errors import Conflict, Fault, Malformed, Overloaded, StorageFailed, StorageFull
from m2mapp.model.interfaces import ICommit, IJournals
from m2mapp.store import committer as module
from m2mapp.store.committer import RETRY_S, VOLATILE_S
from m2mapp.store.interfaces import Volatile
from m2mapp.store.memory import MemoryDatabase
from m2mapp.tree.unit import Append, Change, Remove, Requirement, Staged, Unit, Write
from tests.unit.store.build import Store, loaded, put, resources, unit


class RecordingDatabase(MemoryDatabase):
    """Writes down how many units each transaction had, and fails as told."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))
        self.batches: list[int] = []
        self.saved: list[int] = []
        self.tidies = 0
        self.tidy_due = False
        self.fail_tidies = 0
        self.room = True
        self.rooms_made = 0
        self.broken: Exception | None = None

    def write(self, units: list[Staged], volatile: Volatile = ()) -> None:  # type: ignore[override]
        if self.broken is not None:
            raise self.broken
        super().write(units, volatile)
        self.batches.append(len(units))
        self.saved.append(len(volatile))

    def needs_tidy(self) -> bool:
        return self.tidy_due

    def tidy(self) -> None:
        super().tidy()
        self.tidies += 1
        if self.fail_tidies:
            self.fail_tidies -= 1
            raise StorageFailed
        self.tidy_due = False

    def make_room(self) -> None:
        self.rooms_made += 1

    def has_room(self) -> bool:
        return self.room and super().has_room()


class CommitterCase(SynchronousTestCase):
    at_once = False

    def setUp(self) -> None:
        self.database = RecordingDatabase()
        self.store = Store(self.database, at_once=self.at_once)
        self.threads, self.tree, self.reactor = self.store.threads, self.store.tree, self.store.reactor
        self.addCleanup(self.store.close)

    def assert_lost(self, done: Deferred[tuple[Change, ...]], kind: type[Fault]) -> None:
        self.failureResultOf(done, kind)

    def metric(self, name: str, **labels: str) -> float:
        for found, _, instruments in self.store.metrics.collect():
            if found == name:
                instrument = instruments[tuple(sorted(labels.items()))]
                return instrument() if callable(instrument) else float(instrument.value)  # type: ignore[union-attr]
        raise KeyError(name)


class OrderTests(CommitterCase):
    def test_interfaces(self) -> None:
        """It is what the dispatcher and the journals' readers ask for."""
        self.assertTrue(verifyObject(ICommit, self.store.committer))
        self.assertTrue(verifyObject(IJournals, self.store.committer))

    def test_answered_after_the_flush(self) -> None:
        """Neither the writer nor a reader nor a watcher learns of a write before it is flushed."""
        done = self.store.commit(put("a", "b"))
        self.assertNoResult(done)
        self.assertIsNone(self.tree.find(("a", "b")))
        self.assertEqual((self.store.told, self.database.flushes), ([], 0))
        self.threads.finish()
        changes = self.successResultOf(done)
        self.assertEqual([change.path for change in changes], [("a",), ("a", "b")])
        self.assertEqual(self.tree.find(("a", "b")), changes[1].after)
        self.assertEqual(self.database.flushes, 1)

    def test_the_first_does_not_wait(self) -> None:
        """A write to an idle store is written at once; what comes during its flush shares the next one, in order."""
        first = self.store.commit(put("a"))
        self.assertEqual(self.database.batches, [1])
        others = [self.store.commit(put("a", content=b"%d" % count)) for count in range(10)]
        self.assertEqual(self.database.batches, [1])
        self.threads.step()
        self.successResultOf(first)
        self.assertEqual(self.database.batches, [1, 10])
        for other in others:
            self.assertNoResult(other)
        self.threads.finish()
        numbers = [self.successResultOf(other)[0].number for other in others]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(self.store.told, [1, *numbers])

    def test_answered_then_told(self) -> None:
        """All of a flush is applied, then all its writers are answered, then the watchers told, each in order."""
        events: list[str] = []
        self.tree.watch((), lambda change: events.append(f"told {change.number}"), subtree=True)
        self.store.commit(put("z"))
        for name in ("a", "b"):
            done = self.store.commit(put(name))
            done.addCallback(lambda changes: events.append(f"answered {changes[0].number} of {len(self.tree)}"))
        self.threads.finish()
        self.assertEqual(events, ["told 1", "answered 2 of 3", "answered 3 of 3", "told 2", "told 3"])

    def test_checked_against_what_is_pending(self) -> None:
        """A name that is being taken is taken: the second creation fails at once, the first one goes on."""
        first = self.store.commit(put("a"))
        second = self.store.committer.commit(Unit((put("a"),), requires=(Requirement(("a",), exists=False),)))
        self.assert_lost(second, Conflict)
        self.threads.finish()
        self.successResultOf(first)

    def test_written_from_what_is_told(self) -> None:
        """A watcher, and a writer's callback, may write: it is done after this, without limit to the length of such a chain."""

        def go_on(change: Change) -> None:
            if change.path == ("chain",) and len(self.store.told) < 2000:
                self.store.commit(put("chain"))

        self.tree.watch(("chain",), go_on)
        answered: list[int] = []
        done = self.store.commit(put("chain"))
        done.addCallback(lambda _: self.store.commit(put("from-callback"))).addCallback(lambda changes: answered.append(changes[0].number))
        self.threads.at_once = True
        self.threads.finish()
        self.assertGreaterEqual(len(self.store.told), 2000)
        self.assertEqual(self.store.told, sorted(self.store.told))
        self.assertEqual(answered, [2])

    def test_a_cancelled_writer(self) -> None:
        """Who no longer waits changes nothing for the others, nor for the write."""
        first, second = self.store.commit(put("a")), self.store.commit(put("b"))
        first.addErrback(lambda _: None)
        first.cancel()
        self.threads.finish()
        self.successResultOf(second)
        self.assertEqual(len(self.tree), 2)

    def test_a_writer_that_raises(self) -> None:
        """What a writer's callback raises is its own matter."""
        done = self.store.commit(put("a"))
        done.addCallback(lambda _: 1 / 0)
        second = self.store.commit(put("b"))
        self.threads.finish()
        self.failureResultOf(done, ZeroDivisionError)
        self.successResultOf(second)

    def test_a_unit_that_cannot_be_stored(self) -> None:
        """It fails alone, at once, and is not staged."""
        bad = self.store.commit(put("a", attributes={"x": "\ud800"}))
        self.assert_lost(bad, Malformed)
        good = self.store.commit(put("b"))
        self.threads.finish()
        self.successResultOf(good)
        self.assertEqual(self.tree.committed_number, 1)

    def test_an_empty_unit(self) -> None:
        """A unit of nothing succeeds with no changes."""
        done = self.store.committer.commit(Unit())
        self.threads.finish()
        self.assertEqual(self.successResultOf(done), ())

    def test_journals(self) -> None:
        """They are read as far as is committed: what is being flushed is not shown."""
        self.store.commit(put("a"), appends=[Append("log", {"n": 1})])
        early = self.store.committer.read_journal("log")
        self.threads.finish()
        self.assertEqual(self.successResultOf(early), [])
        late = self.store.committer.read_journal("log", newest=True)
        self.threads.finish()
        self.assertEqual([entry.body for entry in self.successResultOf(late)], [{"n": 1}])


class BoundTests(CommitterCase):
    def test_units(self) -> None:
        """With so many units waiting the next one is refused, without having been staged; later ones are taken again."""
        self.patch(module, "MAX_QUEUED_UNITS", 3)
        taken = [self.store.commit(put("a")) for _ in range(4)]
        self.assert_lost(self.store.commit(put("b")), Overloaded)
        self.assertEqual(self.metric("m2mapp_store_queue_units"), 3)
        self.threads.finish()
        for done in taken:
            self.successResultOf(done)
        self.assertIsNone(self.tree.find(("b",)))
        after = self.store.commit(put("b"))
        self.threads.finish()
        self.successResultOf(after)
        self.assertEqual(self.metric("m2mapp_store_queue_bytes"), 0)

    def test_bytes(self) -> None:
        """Many bytes that wait are refused like many units; a single large one is taken where nothing waits."""
        self.patch(module, "MAX_QUEUED_BYTES", 10_000)
        taken = [self.store.commit(put("a")), self.store.commit(put("a", content=bytes(20_000)))]
        self.assert_lost(self.store.commit(put("a")), Overloaded)
        self.threads.finish()
        for done in taken:
            self.successResultOf(done)

    def test_a_transaction_is_bounded(self) -> None:
        """However much waits, one transaction takes so many units, or so many bytes, and at least one."""
        self.patch(module, "MAX_BATCH_UNITS", 4)
        for _ in range(10):
            self.store.commit(put("a"))
        self.threads.finish()
        self.assertEqual(self.database.batches, [1, 4, 4, 1])
        self.patch(module, "MAX_BATCH_BYTES", 5_000)
        for size in (1, 9_000, 3_000, 3_000):
            self.store.commit(put("a", content=bytes(size)))
        self.threads.finish()
        self.assertEqual(self.database.batches[4:], [1, 1, 1, 1])

    def test_readers(self) -> None:
        """One journal is read at a time, so many wait, the next is refused."""
        self.patch(module, "MAX_READS_WAITING", 2)
        reads = [self.store.committer.read_journal("log") for _ in range(3)]
        self.assertEqual(len(self.threads.waiting), 1)
        self.failureResultOf(self.store.committer.read_journal("log"), Overloaded)
        self.threads.finish()
        for read in reads:
            self.assertEqual(self.successResultOf(read), [])


class FailureTests(CommitterCase):
    def test_a_failed_flush(self) -> None:
        """The writers of the flush fail, and all that was staged on top; readers see what was there; nothing of it is on the disk."""
        self.store.commit(put("a", content=b"1"))
        self.threads.finish()
        before = resources(self.tree)
        self.database.fail_flushes = 1
        lost = [self.store.commit(put("a", content=b"2")), self.store.commit(put("b"))]
        self.threads.step()
        for done in lost:
            self.assert_lost(done, StorageFailed)
        self.assertEqual(resources(self.tree), before)
        self.assertEqual(self.store.told, [1])
        self.assertFalse(self.store.committer.writable)
        self.assert_lost(self.store.commit(put("c")), StorageFailed)
        self.threads.finish()
        self.assertTrue(self.store.committer.writable)
        self.assertEqual(loaded(self.database), before)
        after = self.store.commit(put("a", content=b"3"))
        self.threads.finish()
        (change,) = self.successResultOf(after)
        self.assertEqual(change.before, before["a",])
        self.assertEqual(self.metric("m2mapp_store_units_total", result="failed"), 2)
        self.assertEqual(self.metric("m2mapp_store_units_total", result="committed"), 2)

    def test_numbers_are_not_given_again(self) -> None:
        """What was lost keeps its number: a version or an ETag that somebody may have seen never means something else."""
        self.database.fail_flushes = 1
        lost = self.store.commit(put("a"))
        self.threads.finish()
        self.assert_lost(lost, StorageFailed)
        done = self.store.commit(put("a"))
        self.threads.finish()
        self.assertEqual(self.successResultOf(done)[0].number, 2)

    def test_tried_again(self) -> None:
        """A disk that goes on failing is tried each second; writes fail meanwhile, reads go on, and it recovers by itself."""
        self.store.commit(put("a"))
        self.threads.finish()
        self.database.fail_flushes = 4
        self.assert_lost_after_step(StorageFailed)
        for _ in range(3):
            self.threads.finish()
            self.assertEqual(self.metric("m2mapp_store_writable"), 0)
            self.assert_lost(self.store.commit(put("b")), StorageFailed)
            self.assertIsNotNone(self.tree.find(("a",)))
            self.reactor.advance(RETRY_S)
        self.threads.finish()
        self.assertEqual(self.metric("m2mapp_store_writable"), 1)
        done = self.store.commit(put("b"))
        self.threads.finish()
        self.successResultOf(done)

    def test_nothing_is_written_before_the_repair(self) -> None:
        """Volatile attributes, too, wait until the disk works again."""
        self.store.commit(put("a"))
        self.threads.finish()
        self.tree.volatile(("a",))["lastSeen"] = 1
        self.store.committer.touch(("a",))
        self.database.fail_flushes = 100
        self.assert_lost_after_step(StorageFailed)
        self.threads.finish()
        self.reactor.advance(VOLATILE_S)
        self.threads.finish()
        self.assertEqual(self.database.saved, [0, 0])
        self.database.fail_flushes = 0
        self.reactor.advance(RETRY_S)
        self.threads.finish()
        self.assertEqual(self.database.saved, [0, 0, 1])

    def test_written_from_a_failure(self) -> None:
        """Who tries again as soon as it failed is answered too, and does not disturb the repair."""
        self.database.fail_flushes = 1
        again: list[Deferred[tuple[Change, ...]]] = []

        def retry(failure: Failure) -> None:
            failure.trap(StorageFailed)
            again.append(self.store.commit(put("a")))

        self.store.commit(put("a")).addErrback(retry)
        self.threads.finish()
        self.assert_lost(again[0], StorageFailed)
        self.assertTrue(self.store.committer.writable)

    def test_a_full_disk(self) -> None:
        """Writers are told; removals are still taken; it is tried each second, and recovers by itself."""
        self.store.commit(put("a"), put("b"))
        self.threads.finish()
        self.database.full, self.database.room = True, False
        self.assert_lost(self.store.commit(put("c")), StorageFull)
        self.threads.finish()
        self.assertEqual(self.database.rooms_made, 1)
        self.assert_lost(self.store.commit(put("c")), StorageFull)
        self.assert_lost(self.store.commit(put("c"), Remove(("a",))), StorageFull)
        removed = self.store.commit(Remove(("a",)), appends=[Append("audit", {})])
        self.threads.finish()
        self.successResultOf(removed)
        self.assertEqual(self.tree.find(("a",)), None)
        self.reactor.advance(RETRY_S)
        self.threads.finish()
        self.assertEqual(self.database.rooms_made, 1)
        self.assertFalse(self.store.committer.writable)
        self.database.full, self.database.room = False, True
        self.reactor.advance(RETRY_S)
        self.threads.finish()
        done = self.store.commit(put("c"))
        self.threads.finish()
        self.successResultOf(done)

    def test_full_when_flushed(self) -> None:
        """A flush that fails for want of room is both: undone and repaired, with the reserve given free first."""
        self.database.room = False
        self.patch(self.database, "flush", self.full_once(self.database.flush))
        lost = self.store.commit(put("a"))
        self.threads.step()
        self.assert_lost(lost, StorageFull)
        self.threads.finish()
        self.assertEqual(self.database.rooms_made, 1)
        self.assert_lost(self.store.commit(put("a")), StorageFull)
        self.database.room = True
        self.reactor.advance(RETRY_S)
        self.threads.finish()
        done = self.store.commit(put("a"))
        self.threads.finish()
        self.successResultOf(done)

    def full_once(self, flush: object) -> object:
        """A flush that finds the disk full the first time."""
        faults: list[Fault] = [StorageFull()]

        def run() -> None:
            if faults:
                raise faults.pop()
            flush()  # type: ignore[operator]

        return run

    def test_an_unforeseen_error(self) -> None:
        """Whatever a database raises, those who wait are told, it is logged, and the next write is tried."""
        self.database.broken = ValueError("nobody thought of it")
        lost = self.store.commit(put("a"))
        self.assert_lost(lost, StorageFailed)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.database.broken = None
        done = self.store.commit(put("a"))
        self.threads.finish()
        self.successResultOf(done)

    def test_a_mistake_of_ours(self) -> None:
        """Should applying what was flushed raise, it is logged, and later writes are taken all the same."""
        apply, mistakes = self.tree.apply, [KeyError("a")]

        def mistaken(staged: Staged) -> None:
            if mistakes:
                raise mistakes.pop()
            apply(staged)

        self.patch(self.tree, "apply", mistaken)
        first = self.store.commit(put("a"))
        self.threads.finish()
        self.assertNoResult(first)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        second = self.store.commit(put("b"))
        self.threads.finish()
        self.successResultOf(second)

    def test_what_cannot_be_undone_yet(self) -> None:
        """While not even the undoing can be written nothing else is: it is tried again first."""
        self.database.fail_flushes = 1
        undo, faults = self.database.undo, [StorageFull(), StorageFailed()]

        def failing() -> None:
            if faults:
                raise faults.pop()
            undo()

        self.patch(self.database, "undo", failing)
        self.assert_lost_after_step(StorageFailed)
        self.threads.finish()
        self.assertFalse(self.store.committer.writable)
        self.reactor.advance(RETRY_S)
        self.threads.finish()
        self.assertTrue(self.store.committer.writable)
        self.assertEqual(loaded(self.database), {})

    def assert_lost_after_step(self, kind: type[Fault]) -> None:
        lost = self.store.commit(put("x"))
        self.threads.step()
        self.assert_lost(lost, kind)

    def test_tidied_between_flushes(self) -> None:
        """When it is due the log is taken over after the writers are answered, with no write meanwhile; a failure is tried later."""
        self.database.tidy_due, self.database.fail_tidies = True, 1
        done = self.store.commit(put("a"))
        self.threads.step()
        self.successResultOf(done)
        second = self.store.commit(put("b"))
        self.assertEqual(self.database.batches, [1])
        self.threads.finish()
        self.successResultOf(second)
        self.assertEqual(self.database.tidies, 1)
        self.reactor.advance(RETRY_S)
        self.store.commit(put("c"))
        self.threads.finish()
        self.assertEqual(self.database.tidies, 2)
        self.assertFalse(self.database.tidy_due)


class VolatileTests(CommitterCase):
    at_once = True

    def setUp(self) -> None:
        super().setUp()
        self.store.commit(put("a"), put("b"))
        self.database.saved.clear()

    def touch(self, *names: str) -> None:
        for name in names:
            self.tree.volatile((name,))["lastSeen"] = 1
            self.store.committer.touch((name,))

    def volatile(self) -> dict[tuple[str, ...], object]:
        return {resource.path: volatile for resource, volatile in self.database.load()[0] if volatile is not None}

    def test_once_a_minute(self) -> None:
        """What changed is saved a minute after the first change, once, and what did not change is not."""
        for _ in range(5):
            self.touch("a")
            self.reactor.advance(VOLATILE_S / 10)
        self.assertEqual(self.database.saved, [])
        self.reactor.advance(VOLATILE_S)
        self.assertEqual(self.database.saved, [1])
        self.assertEqual(self.volatile(), {("a",): {"lastSeen": 1}})
        self.reactor.advance(10 * VOLATILE_S)
        self.assertEqual(self.database.saved, [1])

    def test_saved_at_a_stop(self) -> None:
        """An orderly stop saves them, and leaves nothing to be called; so does a second stop."""
        self.touch("a", "b")
        for _ in range(2):
            self.successResultOf(self.store.committer.stop())
        self.assertEqual(len(self.volatile()), 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_what_is_gone(self) -> None:
        """Attributes of what is no resource any more are not saved."""
        self.touch("a", "b")
        self.store.commit(Remove(("a",)))
        self.store.committer.touch(("never", "there"))
        self.reactor.advance(VOLATILE_S)
        self.assertEqual(self.volatile(), {("b",): {"lastSeen": 1}})

    def test_many(self) -> None:
        """Thousands are saved in several transactions, so that none holds the reactor long."""
        self.store.committer.commit(Unit(tuple(Write(("d", str(number))) for number in range(1000))))
        self.database.saved.clear()
        for number in range(1000):
            self.tree.volatile(("d", str(number)))["lastSeen"] = number
            self.store.committer.touch(("d", str(number)))
        self.reactor.advance(VOLATILE_S)
        self.assertEqual(self.database.saved, [256, 256, 256, 232])
        self.assertEqual(len(self.volatile()), 1000)

    def test_a_failed_flush_loses_none(self) -> None:
        """They are saved with the next minute's; those of a resource whose removal failed too."""
        self.touch("a", "b")
        self.reactor.advance(VOLATILE_S)
        self.touch("a")
        self.database.fail_flushes = 1
        self.reactor.advance(VOLATILE_S)
        self.database.fail_flushes = 1
        lost = self.store.commit(Remove(("b",)))
        self.assert_lost(lost, StorageFailed)
        self.assertEqual(set(self.volatile()), {("a",)})
        self.reactor.advance(VOLATILE_S)
        self.assertEqual(self.volatile(), {("a",): {"lastSeen": 1}, ("b",): {"lastSeen": 1}})


class StopTests(CommitterCase):
    def test_what_was_taken_is_finished(self) -> None:
        """A stop waits for what is under way and what waits, takes nothing more, and a start takes writes again."""
        taken = [self.store.commit(put("a")), self.store.commit(put("b"))]
        read = self.store.committer.read_journal("changes")
        stopped = self.store.committer.stop()
        self.assert_lost(self.store.commit(put("c")), StorageFailed)
        self.assertNoResult(stopped)
        self.threads.finish()
        for done in taken:
            self.successResultOf(done)
        self.successResultOf(read)
        self.assertIsNone(self.successResultOf(stopped))
        self.store.committer.start()
        done = self.store.commit(put("c"))
        self.threads.finish()
        self.successResultOf(done)

    def test_while_the_disk_fails(self) -> None:
        """A stop tries the disk once more and ends, whatever comes of it."""
        self.database.fail_flushes = 3
        lost = self.store.commit(put("a"))
        self.threads.finish()
        self.assert_lost(lost, StorageFailed)
        stopped = self.store.committer.stop()
        self.threads.finish()
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.database.fail_flushes, 0)

    def test_an_idle_one(self) -> None:
        """Stopping when nothing is under way is done at once."""
        self.successResultOf(self.store.committer.stop())

    def test_a_unit_is_a_unit(self) -> None:
        """The helper of these tests makes what the dispatcher makes."""
        self.assertEqual(unit(put("a")).changes[0].path, ("a",))
