"""The store as a service, on a real reactor and a real disk."""

from __future__ import annotations

import gc
from pathlib import Path

from twisted.internet import reactor as _reactor  # noqa: TID251 - flushes run in threads, which need a real one
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import TestCase

from m2mapp.model.errors import StorageFailed
from m2mapp.model.metrics import Metrics
from m2mapp.store.errors import StoreRefused
from m2mapp.store.service import StoreService
from m2mapp.tree.tree import Tree
from tests.unit.fakes import FakeClock
from tests.unit.store.build import FailingSync, build_tree, put, resources, unit


class ServiceTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "state"

    def build(self, tree: Tree | None = None) -> tuple[StoreService, Tree]:
        found = tree or build_tree()
        return StoreService(self.folder, found, FakeClock(), IReactorTime(_reactor), Metrics()), found

    async def test_start_stop_start_again(self) -> None:
        """What was committed is there in the next process, and in this one after a second start."""
        service, tree = self.build()
        service.open()
        for name in ("a", "b"):
            service.startService()
            await service.committer.commit(unit(put(name)))
            entries = await service.committer.read_journal("changes")
            self.assertEqual(len(entries), len(tree))
            tree.volatile((name,))["lastSeen"] = 5
            service.committer.touch((name,))
            await service.stopService()
        other, copy = self.build()
        other.open()
        self.assertEqual(resources(copy), resources(tree))
        self.assertEqual(copy.volatile(("a",)), {"lastSeen": 5})
        self.assertEqual(copy.committed_number, tree.committed_number)
        other.startService()
        await other.stopService()
        self.assertFalse((self.folder / "tree.db-wal").exists())

    async def test_many_at_once(self) -> None:
        """Concurrent writers are all answered, and all that they wrote is there."""
        service, tree = self.build()
        service.open()
        service.startService()
        for done in [service.committer.commit(unit(put("d", str(number)), put("e", str(number)))) for number in range(300)]:
            await done
        await service.stopService()
        other, copy = self.build()
        other.open()
        await other.stopService()
        self.assertEqual(len(copy), 602)
        self.assertEqual(resources(copy), resources(tree))

    async def test_not_running(self) -> None:
        """Before the start, and after the stop, nothing is taken."""
        service, _ = self.build()
        service.open()
        await self.assertFailure(service.committer.commit(unit(put("a"))), StorageFailed)
        service.startService()
        await service.stopService()
        await self.assertFailure(service.committer.commit(unit(put("a"))), StorageFailed)

    async def test_one_process(self) -> None:
        """A directory in use is refused, and free again after the stop."""
        service, _ = self.build()
        service.open()
        other, _ = self.build()
        self.assertRaises(StoreRefused, other.open)
        service.startService()
        self.assertRaises(StoreRefused, other.open)
        await service.stopService()
        other.open()
        other.startService()
        await other.stopService()

    async def test_changed_meanwhile(self) -> None:
        """A second start is refused where another process wrote in between: the tree in memory is not what is on disk."""
        service, _ = self.build()
        service.open()
        service.startService()
        await service.stopService()
        other, _ = self.build()
        other.open()
        other.startService()
        await other.committer.commit(unit(put("x")))
        await other.stopService()
        self.assertIn("written to", str(self.assertRaises(StoreRefused, service.startService)))
        third, _ = self.build()
        third.open()
        third.startService()
        await third.stopService()

    def test_refused(self) -> None:
        """What cannot be used is refused when it is opened, and the lock is given up; the directory is closed to others."""
        self.folder.mkdir(parents=True)
        (self.folder / "tree.db").write_bytes(b"no database")
        service, _ = self.build()
        for _ in range(2):
            self.assertIn("tree.db", str(self.assertRaises(StoreRefused, service.open)))
        self.assertEqual((self.folder / "tree.db").read_bytes(), b"no database")
        (self.folder / "tree.db").unlink()
        service.open()
        self.successResultOf(service.stopService())
        service.open()
        self.successResultOf(service.stopService())

    def test_not_opened(self) -> None:
        """What was never loaded is not started: the tree in memory would be empty."""
        service, _ = self.build()
        self.folder.mkdir(parents=True)
        self.assertRaises(StoreRefused, service.startService)

    async def test_failed_and_repaired(self) -> None:
        """Numbers that were lost to a failed flush do not keep the service from starting again."""
        service, tree = self.build()
        service.open()
        service.startService()
        wal = service._database._parts()[2]
        wal._sync = FailingSync()
        wal._sync.failures = 1
        await self.assertFailure(service.committer.commit(unit(put("a"))), StorageFailed)
        await service.stopService()
        service.startService()
        await service.committer.commit(unit(put("b")))
        await service.stopService()
        self.assertEqual(set(resources(tree)), {("b",)})

    def test_the_collector_is_left_as_it_was(self) -> None:
        """Loading does without the garbage collector, and turns it on again only where it was on."""
        for enabled in (True, False):
            if not enabled:
                gc.disable()
                self.addCleanup(gc.enable)
            service, _ = self.build()
            service.open()
            self.assertEqual(gc.isenabled(), enabled)
            self.successResultOf(service.stopService())

    async def test_a_disk_that_fails_at_the_stop(self) -> None:
        """The service stops all the same, logs it, and gives up the lock."""
        service, _ = self.build()
        service.open()
        service.startService()
        service._database._parts()[2]._sync = lambda _: self.fail_sync()
        await service.stopService()
        self.assertEqual(len(self.flushLoggedErrors(StorageFailed)), 1)
        other, tree = self.build()
        other.open()
        await other.stopService()
        self.assertEqual(resources(tree), {})
        self.assertRaises(StoreRefused, service.startService)

    def fail_sync(self) -> None:
        raise OSError(5, "Input/output error")
