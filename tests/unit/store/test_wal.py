"""The write-ahead log as a file."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.store.wal import Wal, sync_directory, sync_file
from tests.unit.store.build import FailingSync


class WalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(self.connection.close)
        self.connection.executescript("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)")
        self.sync = FailingSync()
        self.file = self.path.with_name(self.path.name + "-wal")
        self.wal = Wal(self.file, 4096, self.sync)
        self.addCleanup(self.wal.close)

    def test_how_far_it_reaches(self) -> None:
        """It is as long as its frames, not as its file: after it began anew it is short again."""
        for _ in range(20):
            self.connection.execute("INSERT INTO t VALUES (zeroblob(3000))")
        size = self.file.stat().st_size
        self.assertTrue(self.wal.reaches(size - 4200))
        self.assertFalse(self.wal.reaches(size))
        self.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        self.connection.execute("INSERT INTO t VALUES (1)")
        self.assertEqual(self.file.stat().st_size, size)
        self.assertFalse(self.wal.reaches(size - 4200))
        self.assertFalse(self.wal.reaches(9000))
        self.assertTrue(self.wal.reaches(0))

    def test_empty(self) -> None:
        """A log that was cut to nothing reaches nowhere."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.assertFalse(self.wal.reaches(0))

    def test_rewritten(self) -> None:
        """Rewriting leaves every byte as it was, for a log of several pieces too, and syncs."""
        self.connection.execute("INSERT INTO t VALUES (randomblob(2500000))")
        before = self.file.read_bytes()
        self.wal.rewrite()
        self.assertEqual(self.file.read_bytes(), before)
        self.assertEqual(self.sync.count, 1)

    def test_failures_are_told(self) -> None:
        """What the system refuses is raised."""
        self.sync.failures = 2
        self.assertRaises(OSError, self.wal.sync)
        self.assertRaises(OSError, self.wal.rewrite)
        self.assertRaises(OSError, Wal, self.path.with_name("gone"), 4096)
        self.assertRaises(OSError, sync_directory, self.path)
        self.assertRaises(OSError, sync_file, self.path.with_name("gone"))

    def test_no_descriptor_is_left(self) -> None:
        """Syncing files and directories closes what it opens."""
        before = len(os.listdir("/proc/self/fd"))
        sync_file(self.file)
        sync_directory(self.path.parent)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
