"""What only the SQLite database has: a log that begins anew, a disk that fails, journals on disk of whatever size."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import StorageFailed, StorageFull
from m2mapp.store import database as database_module
from m2mapp.store import journals as journals_module
from m2mapp.store.database import Database
from m2mapp.store.errors import StoreRefused
from m2mapp.store.journals import MAX_BYTES_READ, MAX_ENTRIES_READ
from m2mapp.store.settings import JournalLimit, StoreSettings
from m2mapp.tree.unit import Append, Remove
from tests.unit.store.build import FailingSync, build_tree, copy_state, loaded, put, resources, stage

ALL = 1 << 40
SMALL = StoreSettings(wal_bytes=100_000, reserve_bytes=120_000)


class SqliteCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.sync, self.tree = FailingSync(), build_tree()
        self.database = self.make(SMALL)

    def make(self, settings: StoreSettings) -> Database:
        database = Database(self.folder, settings, sync=self.sync)
        database.open()
        self.addCleanup(database.close)
        return database

    def wal_bytes(self) -> int:
        return (self.folder / "tree.db-wal").stat().st_size


class LogTests(SqliteCase):
    def test_the_log_begins_anew(self) -> None:
        """It is due once the log is as long as set, not before; afterwards the log is used from its beginning again."""
        while not self.database.needs_tidy():
            self.assertLess(self.wal_bytes(), 150_000)
            self.database.write([stage(self.tree, put("a", content=bytes(3000)))])
        self.assertGreater(self.wal_bytes(), 95_000)
        self.database.flush()
        for _ in range(3):
            length = self.wal_bytes()
            self.database.tidy()
            self.assertFalse(self.database.needs_tidy())
            while not self.database.needs_tidy():
                self.database.write([stage(self.tree, put("a", content=bytes(3000)))])
            self.assertLessEqual(self.wal_bytes(), length + 20_000)
            self.database.flush()
        self.assertEqual(loaded(Database(copy_state(self.folder, self.folder / "copy"))), resources(self.tree))

    def test_the_first_write_waits_for_no_header(self) -> None:
        """SQLite syncs a log's header at the first write to it: opening and tidying up do that write, so that the reactor never does."""
        for prepare in (lambda: None, self.database.tidy):
            prepare()
            self.assertGreater(self.wal_bytes(), 4096)
            with open(self.folder / "tree.db-wal", "rb") as wal:
                header, frame = wal.read(32), wal.read(24)
            self.assertEqual(header[16:24], frame[8:16])

    def test_another_reader(self) -> None:
        """Another program that reads all the while keeps the log from beginning anew, and breaks nothing: it does when that one is gone."""
        self.patch(database_module, "_TIDY_PATIENCE_MS", 1)
        with closing(sqlite3.connect(self.folder / "tree.db", isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM resource").fetchall()
            while not self.database.needs_tidy():
                self.database.write([stage(self.tree, put("a", content=bytes(3000)))])
            self.database.flush()
            self.database.tidy()
            self.assertTrue(self.database.needs_tidy())
        self.database.write([stage(self.tree, put("b"))])
        self.database.tidy()
        self.assertFalse(self.database.needs_tidy())
        self.assertEqual(loaded(self.database), resources(self.tree))

    def test_another_writer(self) -> None:
        """A file that another program has locked fails the write at once, with nothing changed."""
        with closing(sqlite3.connect(self.folder / "tree.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            staged = stage(self.tree, put("a"), apply=False)
            self.assertRaises(StorageFailed, self.database.write, [staged])
        self.database.write([staged])
        self.tree.apply(staged)
        self.assertEqual(loaded(self.database), resources(self.tree))

    def test_closed_in_order(self) -> None:
        """After closing there is no log: the file alone holds everything."""
        self.database.write([stage(self.tree, put("a"))])
        self.database.flush()
        self.database.close()
        self.assertFalse((self.folder / "tree.db-wal").exists())

    def test_loading_writes_nothing(self) -> None:
        """What a killed process left is read without changing the file or its log."""
        self.database.write([stage(self.tree, put("a"))])
        copy = copy_state(self.folder, self.folder / "copy")
        before = {name: (copy / name).read_bytes() for name in ("tree.db", "tree.db-wal")}
        self.assertEqual(loaded(Database(copy)), resources(self.tree))
        self.assertEqual({name: (copy / name).read_bytes() for name in before}, before)


class FailureTests(SqliteCase):
    def test_how_a_disk_fails(self) -> None:
        """A flush that fails for want of room is told from one that fails otherwise."""
        for number, fault in ((errno.EIO, StorageFailed), (errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull)):
            self.sync.number, self.sync.failures = number, 1
            self.database.write([stage(self.tree, put("a"))])
            self.assertRaises(fault, self.database.flush)
            self.database.undo()
            self.database.repair()

    def test_repaired(self) -> None:
        """After a failed flush the log is taken over: a copy of the database without its log has all that was answered."""
        self.database.write([stage(self.tree, put("a"))])
        self.database.flush()
        answered = resources(self.tree)
        self.database.write([stage(self.tree, put("b"), apply=False)])
        self.sync.failures = 1
        self.assertRaises(StorageFailed, self.database.flush)
        self.database.undo()
        self.database.repair()
        copy = copy_state(self.folder, self.folder / "copy")
        (copy / "tree.db-wal").unlink()
        self.assertEqual(loaded(Database(copy)), answered)

    def test_undone_later(self) -> None:
        """Where not even the undoing can be written it is told, changes nothing, and can be done later."""
        self.database.write([stage(self.tree, put("b"), apply=False)])
        self.sync.failures = 1
        self.assertRaises(StorageFailed, self.database.flush)
        with closing(sqlite3.connect(self.folder / "tree.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assertRaises(StorageFailed, self.database.undo)
        self.database.undo()
        self.database.repair()
        self.assertEqual(loaded(self.database), {})

    def test_closed_before_the_repair(self) -> None:
        """What is closed after a failed flush is repaired first: the next process does not find what its writers were told is lost."""
        self.database.write([stage(self.tree, put("b"), apply=False)])
        self.sync.failures = 1
        self.assertRaises(StorageFailed, self.database.flush)
        self.database.close()
        self.assertEqual(loaded(Database(self.folder)), {})

    def test_the_repair_fails_too(self) -> None:
        """A repair that fails can be done again."""
        self.database.write([stage(self.tree, put("b"), apply=False)])
        self.sync.failures = 3
        self.assertRaises(StorageFailed, self.database.flush)
        self.database.undo()
        for _ in range(2):
            self.assertRaises(StorageFailed, self.database.repair)
        self.database.repair()
        self.assertEqual(loaded(self.database), {})

    def test_a_full_database(self) -> None:
        """Where SQLite can take no more pages the write fails whole, removals make room inside the file, and it goes on."""
        writer = self.database._parts()[0]
        self.database.write([stage(self.tree, put("a", content=bytes(200_000)))])
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        before = resources(self.tree)
        self.assertRaises(StorageFull, self.database.write, [stage(self.tree, put("b"), put("c", content=bytes(100_000)), apply=False)])
        self.tree.drop_pending()
        self.assertEqual(loaded(self.database), before)
        self.assertEqual(self.database.read_journal("values/b", ALL, 0, 9, False), [])
        self.database.write([stage(self.tree, Remove(("a",)))])
        self.database.write([stage(self.tree, put("c", content=bytes(100_000)))])
        self.assertEqual(loaded(self.database), resources(self.tree))

    def test_the_reserve(self) -> None:
        """It is there from the first start, is given free to make room, and taken again when there is room."""
        reserve = self.folder / "reserve"
        self.assertEqual(reserve.stat().st_size, 120_000)
        self.database.make_room()
        self.assertFalse(reserve.exists())
        self.assertTrue(self.database.has_room())
        self.assertEqual(reserve.stat().st_size, 120_000)

    def test_room_inside_the_file(self) -> None:
        """With no room on the disk, as much of it inside the database is room too."""
        database = self.database
        self.patch(database, "_reserve", _NoRoom())
        self.assertFalse(database.has_room())
        database.write([stage(self.tree, put("a", content=bytes(200_000)))])
        database.write([stage(self.tree, Remove(("a",)))])
        database.write([])
        self.assertTrue(database.has_room())

    def test_it_cannot_be_opened(self) -> None:
        """A disk that fails while the database is opened refuses the start, and leaves nothing open."""
        self.database.close()
        self.sync.failures = 1
        self.assertRaises(StoreRefused, self.database.open)
        self.assertRaises(StorageFailed, self.database.flush)
        self.database.open()


class _NoRoom:
    size_bytes = 120_000

    def fits(self) -> bool:
        return False

    def nothing_left(self) -> bool:
        return True


class JournalTests(SqliteCase):
    def test_bounded_in_bytes(self) -> None:
        """A journal keeps no more bytes than set, and an eighth, and one write; its newest entry is kept whatever its size."""
        database = self.make_with(StoreSettings(others=JournalLimit(1000, 10_000)))
        for _ in range(50):
            database.write([stage(self.tree, appends=[Append("log", {"x": bytes(1000)})])])
            self.assertLessEqual(len(database.read_journal("log", ALL, 0, 1000, False)), 12)
        self.assertGreaterEqual(len(database.read_journal("log", ALL, 0, 1000, False)), 9)
        database.write([stage(self.tree, appends=[Append("log", {"x": bytes(50_000)})])])
        database.write([stage(self.tree, put("a"))])
        self.assertEqual([len(entry.body["x"]) for entry in database.read_journal("log", ALL, 0, 9, False)], [50_000])  # type: ignore[arg-type]

    def test_counted_again_after_a_start(self) -> None:
        """The bounds hold over restarts, and lower ones hold from the next entry on."""
        self.database.write([stage(self.tree, appends=[Append("log", {})]) for _ in range(200)])
        database = self.make_with(StoreSettings(others=JournalLimit(10, 10_000)))
        for _ in range(2):
            database.write([stage(self.tree, appends=[Append("log", {})])])
        self.assertLessEqual(len(database.read_journal("log", ALL, 0, 1000, False)), 12)

    def test_more_journals_than_are_remembered(self) -> None:
        """The bounds hold for journals that are forgotten in between: memory does not grow with their number."""
        self.patch(journals_module, "_KNOWN", 4)
        database = self.make_with(StoreSettings(others=JournalLimit(8, 10_000)))
        for _ in range(30):
            database.write([stage(self.tree, appends=[Append(f"log{number}", {}) for number in range(10)])])
        for number in range(10):
            self.assertLessEqual(len(database.read_journal(f"log{number}", ALL, 0, 1000, False)), 11)
        self.assertLessEqual(len(database._parts()[1]._known), 4)

    def test_a_large_subtree_goes_little_by_little(self) -> None:
        """The values of many removed resources are hidden at once, deleted by later writes, and gone in the end, over a restart too."""
        self.database.write([stage(self.tree, *(put("a", f"r{number}") for number in range(50)))])
        self.database.write([stage(self.tree, Remove(("a",)))])
        self.assertEqual([self.database.read_journal(f"values/a/r{number}", ALL, 0, 9, False) for number in range(50)], [[]] * 50)
        self.assertEqual(self.rows("dropped"), 50)
        self.database.write([])
        self.assertEqual((self.rows("dropped"), self.rows("journal")), (34, 35))
        self.database.close()
        self.database.open()
        for _ in range(4):
            self.database.write([])
        self.assertEqual((self.rows("dropped"), self.rows("journal")), (0, 1))
        self.assertEqual(self.rows("entry"), len(self.database.read_journal("changes", ALL, 0, 1000, False)))

    def test_reading_is_bounded(self) -> None:
        """However much is asked for, an answer has so many entries and about so many bytes, and at least one."""
        self.database.write([stage(self.tree, appends=[Append("log", {"n": 1}) for _ in range(MAX_ENTRIES_READ + 5)])])
        self.assertEqual(len(self.database.read_journal("log", ALL, 0, 1 << 70, False)), MAX_ENTRIES_READ)
        large = MAX_BYTES_READ // 2
        self.database.write([stage(self.tree, appends=[Append("big", {"x": bytes(size)}) for size in (large, large, large, 3 * large)])])
        self.assertEqual([len(entry.body["x"]) for entry in self.database.read_journal("big", ALL, 0, 9, True)], [3 * large])  # type: ignore[arg-type]

    def test_a_damaged_entry(self) -> None:
        """An entry that is not what was written is told as a failure of the store, and nothing else breaks."""
        self.database.write([stage(self.tree, appends=[Append("log", {"n": 1})])])
        self.database._parts()[0].execute("UPDATE entry SET body = x'ff' WHERE journal = (SELECT id FROM journal WHERE name = 'log')")
        self.assertRaises(StorageFailed, self.database.read_journal, "log", ALL, 0, 9, False)
        self.assertRaises(StorageFailed, self.database.read_journal, "\ud800", ALL, 0, 9, False)

    def make_with(self, settings: StoreSettings) -> Database:
        self.database.close()
        return self.make(settings)

    def rows(self, table: str) -> int:
        return int(self.database._parts()[0].execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - our own names


class SyncTests(SqliteCase):
    def test_what_sqlite_syncs(self) -> None:
        """SQLite syncs headers and what it takes over (NORMAL), and takes over only when told."""
        writer = self.database._parts()[0]
        found = [writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "wal_autocheckpoint", "journal_mode")]
        self.assertEqual(found, [1, 0, "wal"])

    def test_what_is_synced(self) -> None:
        """A flush syncs the log, once, and a write does not."""
        count = self.sync.count
        self.database.write([stage(self.tree, put("a"))])
        self.assertEqual(self.sync.count, count)
        self.database.flush()
        self.assertEqual(self.sync.count, count + 1)
        self.assertTrue(os.path.exists(self.folder / "tree.db-wal"))
