"""What only the database in memory has: it crashes, tears and runs full on demand, the same way for the same seed."""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import StorageFull
from m2mapp.store.memory import MemoryDatabase, SlowDisk
from m2mapp.tree.unit import Remove
from tests.unit.store.build import build_tree, loaded, put, resources, stage


class CrashTests(SynchronousTestCase):
    def crash(self, seed: int) -> tuple[set[str], set[str]]:
        """Flush one write, write five more, crash: what was there before, and after."""
        database, tree = MemoryDatabase(random.Random(seed)), build_tree()
        database.open()
        database.write([stage(tree, put("flushed"), put("both"))])
        database.flush()
        flushed = {path[0] for path in resources(tree)}
        for number in range(5):
            database.write([stage(tree, put(f"a{number}"), put(f"b{number}"))])
        database.crash()
        database.open()
        return flushed, {path[0] for path in loaded(database)}

    def test_torn(self) -> None:
        """What was flushed is there; of the rest a beginning, each transaction whole or not at all; every length occurs."""
        lengths = set()
        for seed in range(60):
            flushed, left = self.crash(seed)
            self.assertTrue(flushed <= left)
            length = (len(left) - 2) // 2
            self.assertEqual(left - flushed, {f"{kind}{number}" for kind in "ab" for number in range(length)})
            lengths.add(length)
        self.assertEqual(lengths, set(range(6)))

    def test_the_same_seed_gives_the_same_crash(self) -> None:
        """Runs are repeated by their seed."""
        for seed in range(10):
            self.assertEqual(self.crash(seed), self.crash(seed))

    def test_full(self) -> None:
        """While it is full only removals are taken; a refused write leaves nothing."""
        database, tree = MemoryDatabase(random.Random(1)), build_tree()
        database.open()
        database.write([stage(tree, put("a"))])
        database.full = True
        self.assertRaises(StorageFull, database.write, [stage(tree, put("b"), apply=False)])
        self.assertRaises(StorageFull, database.write, [])
        tree.drop_pending()
        self.assertFalse(database.has_room())
        database.write([stage(tree, Remove(("a",)))])
        self.assertEqual(loaded(database), {})
        database.full = False
        self.assertTrue(database.has_room())


class SlowDiskTests(SynchronousTestCase):
    def test_latency(self) -> None:
        """A call happens after its time, on the reactor; results and failures come back."""
        clock, calls = Clock(), list[str]()
        times = iter((0.5, 0.1))
        disk = SlowDisk(clock, lambda: next(times))
        slow, fast = disk.run(lambda: calls.append("slow")), disk.run(lambda: int("x"))
        clock.advance(0.1)
        self.failureResultOf(fast, ValueError)
        self.assertNoResult(slow)
        clock.advance(0.4)
        self.assertIsNone(self.successResultOf(slow))
        self.assertEqual(calls, ["slow"])

    def test_crash(self) -> None:
        """What was under way never happens, and nothing is left to be called."""
        clock, calls = Clock(), list[str]()
        disk = SlowDisk(clock, lambda: 1.0)
        done = disk.run(lambda: calls.append("done"))
        disk.crash()
        self.assertEqual(clock.getDelayedCalls(), [])
        clock.advance(10)
        self.assertNoResult(done)
        self.assertEqual(calls, [])
