"""The file before it is used: made, raised, or refused untouched."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.store.database import Database
from m2mapp.store.errors import StoreRefused
from m2mapp.store.files import APPLICATION_ID, PAGE_BYTES, make_state_dir, prepare, read_steps
from tests.unit.store.build import build_tree, loaded, put, resources, stage

STEPS = read_steps()
NEXT = "ALTER TABLE state ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';"


class FileCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "tree.db"

    def fill(self, count: int = 500) -> Database:
        """A closed database with so many resources in it."""
        database, self.tree = Database(self.folder), build_tree()
        database.open()
        for number in range(count):
            database.write([stage(self.tree, put("a", f"r{number:04}", content=b"x" * 50))])
        database.flush()
        database.close()
        return database

    def assert_refused(self, *words: str) -> None:
        """Opening is refused in these words, and the file is as it was."""
        before = self.path.read_bytes()
        refused = str(self.assertRaises(StoreRefused, self.load))
        for word in (str(self.path), *words):
            self.assertIn(word, refused)
        self.assertEqual(self.path.read_bytes(), before)

    def load(self) -> None:
        """What a start does first."""
        loaded(Database(self.folder))


class NewTests(FileCase):
    def test_a_new_one(self) -> None:
        """It has our mark, the version of the program, and is readable by its owner only; nothing stands beside it."""
        prepare(self.path, STEPS)
        self.assertEqual([found.name for found in self.folder.iterdir()], ["tree.db"])
        with closing(sqlite3.connect(self.path)) as connection:
            self.assertEqual(connection.execute("PRAGMA application_id").fetchone(), (APPLICATION_ID,))
            self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (len(STEPS),))
            self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.assertEqual({found.stat().st_mode & 0o777 for found in self.folder.iterdir()}, {0o600})

    def test_killed_while_it_was_built(self) -> None:
        """What an interrupted start left aside is built anew."""
        (self.folder / "tree.db.new").write_bytes(b"half of it")
        self.load()
        self.assertEqual([found.name for found in self.folder.iterdir() if ".new" in found.name], [])

    def test_after_a_refusal(self) -> None:
        """Moving the database away, as a refusal says, is enough to begin anew."""
        self.fill(10)
        whole = self.path.read_bytes()
        self.path.write_bytes(whole[:-PAGE_BYTES])
        self.assert_refused("move it away")
        self.path.rename(self.folder / "tree.db.broken")
        self.assertEqual(loaded(Database(self.folder)), {})

    def test_a_log_without_its_database(self) -> None:
        """A write-ahead log alone is not ours to overwrite: its database was moved away by mistake, or it was left behind."""
        wal = self.folder / "tree.db-wal"
        wal.write_bytes(b"something")
        refused = self.assertRaises(StoreRefused, prepare, self.path, STEPS)
        self.assertIn("tree.db-wal", str(refused))
        self.assertEqual(wal.read_bytes(), b"something")
        self.assertFalse(self.path.exists())

    def test_the_state_directory(self) -> None:
        """It is made with its parents, open to its owner only; one that cannot be made is refused by name."""
        make_state_dir(self.folder / "a" / "state")
        self.assertEqual((self.folder / "a" / "state").stat().st_mode & 0o777, 0o700)
        make_state_dir(self.folder / "a" / "state")
        (self.folder / "file").touch()
        self.assertIn("file", str(self.assertRaises(StoreRefused, make_state_dir, self.folder / "file" / "state")))


class UpgradeTests(FileCase):
    def test_an_older_one_is_raised(self) -> None:
        """Each step runs once, what is in it stays, and a copy of the older file is kept."""
        self.fill(10)
        database = Database(self.folder, steps=(*STEPS, NEXT, "UPDATE state SET colour = colour || '!';"))
        database.open()
        self.assertEqual(loaded(database), resources(self.tree))
        database.close()
        with closing(sqlite3.connect(self.path)) as connection:
            self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (len(STEPS) + 2,))
            self.assertEqual(connection.execute("SELECT colour FROM state").fetchone(), ("blue!",))
        backup = self.folder / f"tree.db.v{len(STEPS)}.backup"
        with closing(sqlite3.connect(backup)) as connection:
            self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (len(STEPS),))
            self.assertEqual(connection.execute("SELECT count(*) FROM resource").fetchone(), (11,))
        self.assertEqual(backup.stat().st_mode & 0o777, 0o600)
        self.assertFalse((self.folder / (backup.name + ".new")).exists())

    def test_a_step_that_fails(self) -> None:
        """Half a step is none: the file stays at the version that it had, with what is in it, and the refusal names the step."""
        self.fill(10)
        broken = (*STEPS, f"{NEXT} SELECT no_such_column;")
        refused = self.assertRaises(StoreRefused, prepare, self.path, broken)
        self.assertIn(f"version {len(STEPS) + 1}", str(refused))
        self.load()
        with closing(sqlite3.connect(self.path)) as connection:
            self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (len(STEPS),))
            self.assertRaises(sqlite3.OperationalError, connection.execute, "SELECT colour FROM state")

    def test_a_raised_one_is_like_a_new_one(self) -> None:
        """The tables of a file that was raised step by step are those of one that was made at once."""
        prepare(self.path, STEPS)
        prepare(self.path, (*STEPS, NEXT))
        other = self.folder / "other.db"
        prepare(other, (*STEPS, NEXT))
        schemas = []
        for path in (self.path, other):
            with closing(sqlite3.connect(path)) as connection:
                schemas.append(connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall())
        self.assertEqual(schemas[0], schemas[1])


class RefusalTests(FileCase):
    def test_a_newer_version(self) -> None:
        """A file of a later program is refused, with both versions."""
        prepare(self.path, (*STEPS, NEXT))
        self.assert_refused(f"version is {len(STEPS) + 1}", f"1 to {len(STEPS)}")

    def test_no_database(self) -> None:
        """A file of something else, and an empty one, are refused."""
        for content in (b"", b"SQLite", b"[node]\nname = 'x'\n" * 1000):
            self.path.write_bytes(content)
            self.assert_refused("not a database")

    def test_no_file(self) -> None:
        """A folder in the database's place is refused, with the system's words."""
        self.path.mkdir()
        self.assertIn("tree.db: Is a directory", str(self.assertRaises(StoreRefused, self.load)))

    def test_in_use_by_another_program(self) -> None:
        """A file that another program has locked for itself is not called damaged."""
        self.fill(3)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("UPDATE state SET wal_starts = wal_starts")
            refused = str(self.assertRaises(StoreRefused, self.load))
        self.assertIn("no other program uses", refused)

    def test_the_database_of_another_program(self) -> None:
        """SQLite, but not ours: refused."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("CREATE TABLE mail (body TEXT)")
        self.assert_refused("another program")

    def test_cut_off(self) -> None:
        """A file whose end is missing is refused, wherever it was cut."""
        self.fill()
        whole = self.path.read_bytes()
        for length in (
            100,
            PAGE_BYTES - 1,
            PAGE_BYTES,
            len(whole) // 2 // PAGE_BYTES * PAGE_BYTES,
            len(whole) - 1,
            len(whole) - PAGE_BYTES,
        ):
            self.path.write_bytes(whole[:length])
            self.assert_refused("damaged")

    def test_a_torn_header(self) -> None:
        """A first page with nonsense behind its mark is refused."""
        self.fill(10)
        whole = self.path.read_bytes()
        for start, end in ((16, 60), (96, 400), (100, PAGE_BYTES)):
            self.path.write_bytes(whole[:start] + random.Random(1).randbytes(end - start) + whole[end:])
            self.assert_refused()

    def test_damaged_pages(self) -> None:
        """Any page of the resources that is zeroed, or overwritten with another one's content, is found at the start."""
        self.fill()
        whole = self.path.read_bytes()
        leaf = b"\r"  # of a table with row ids: of the tables that hold such contents only the resources are one
        starts = range(0, len(whole), PAGE_BYTES)
        pages = [start for start in starts if whole[start : start + 1] == leaf and b"x" * 50 in whole[start : start + PAGE_BYTES]]
        self.assertGreater(len(pages), 5)
        other = whole[pages[1] : pages[1] + PAGE_BYTES]
        for start in (pages[0], pages[2], pages[-1]):
            for content in (bytes(PAGE_BYTES), other):
                self.path.write_bytes(whole[:start] + content + whole[start + PAGE_BYTES :])
                self.assert_refused("damaged")

    def test_one_bit(self) -> None:
        """A single flipped bit in a content, which SQLite cannot see, is found by the row's checksum."""
        self.fill(10)
        whole = bytearray(self.path.read_bytes())
        whole[whole.index(b"x" * 50) + 7] ^= 4
        self.path.write_bytes(whole)
        self.assert_refused("checksum")

    def test_rows_that_are_missing(self) -> None:
        """Fewer resources than were counted are damage, not a smaller tree."""
        self.fill(10)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DELETE FROM resource WHERE path = 'a/r0003'")
            connection.commit()
        self.assert_refused("10 resources of 11")
