"""What a killed process, or a power loss, leaves of the SQLite database: every answered write, each write whole or not at all."""

from __future__ import annotations

import os
import random
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import StorageFailed
from m2mapp.store.database import Database
from m2mapp.store.settings import JournalLimit, StoreSettings
from m2mapp.tree.unit import Append, Remove, Resource
from tests.unit.store.build import build_tree, copy_state, loaded, put, resources, stage

ALL = 1 << 40
SMALL = StoreSettings(values=JournalLimit(5, 10_000), wal_bytes=60_000, reserve_bytes=70_000)
State = dict[tuple[str, ...], Resource]


class CrashCase(SynchronousTestCase):
    """Writes random units to a database and remembers the tree after each."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.state = self.folder / "state"
        self.state.mkdir()
        self.chance = random.Random(20)
        self.tree = build_tree()
        self.database = Database(self.state, SMALL)
        self.database.open()
        self.addCleanup(self.database.close)
        self.states: list[State] = [{}]
        self.copies = 0

    def write(self) -> None:
        """One random unit of several changes."""
        names = [str(self.chance.randrange(30)) for _ in range(3)]
        changes = [
            Remove(("a", name)) if self.chance.random() < 0.2 else put("a", name, content=self.chance.randbytes(self.chance.randrange(900)))
            for name in names
        ]
        self.database.write([stage(self.tree, *changes, appends=[Append("log", {"n": len(self.states)})])])
        self.states.append(resources(self.tree))

    def copy(self) -> Path:
        """The files as they are now, elsewhere."""
        self.copies += 1
        return copy_state(self.state, self.folder / f"copy{self.copies}")

    def assert_is(self, copy: Path, *steps: int) -> int:
        """The copy opens and is the tree as it was after one of these steps, with its journals; which one."""
        database = Database(copy, SMALL)
        found = loaded(database)
        step = next((step for step in reversed(steps) if self.states[step] == found), None)
        assert step is not None, f"the tree after none of the steps {steps}"
        database.open()
        log = database.read_journal("log", ALL, 0, 1000, False)
        self.assertEqual([entry.body["n"] for entry in log], list(range(1, step + 1)))
        for path, resource in found.items():
            values = database.read_journal("values/" + "/".join(path), ALL, 0, 1, True)
            self.assertEqual([entry.body["content"] for entry in values], [resource.content] if resource.type == "content" else [])
        database.close()
        self.assertEqual(loaded(Database(copy, SMALL)), found)
        return step


class KillTests(CrashCase):
    def test_between_any_two_writes(self) -> None:
        """A process killed after any write, flush or tidying up leaves the tree as it was after that write."""
        for step in range(1, 40):
            self.write()
            self.assert_is(self.copy(), step)
            if step % 4 == 0:
                self.database.flush()
                self.assert_is(self.copy(), step)
            if self.database.needs_tidy():
                self.database.tidy()
                self.assert_is(self.copy(), step)
        self.assertGreater(self.database._parts()[0].execute("SELECT wal_starts FROM state").fetchone()[0], 1)

    def test_in_the_middle_of_a_write(self) -> None:
        """A log torn at any length, or with nonsense from any byte on, leaves the tree after one of the writes: never half of one."""
        for _ in range(12):
            self.write()
        whole = self.copy()
        log = (whole / "tree.db-wal").read_bytes()
        seen = set()
        for cut in sorted({0, 1, 31, 32, 33, len(log), *(self.chance.randrange(len(log)) for _ in range(25))}):
            for tail in (b"", self.chance.randbytes(len(log) - cut), bytes(len(log) - cut)):
                copy = self.copy()
                (copy / "tree.db-wal").write_bytes(log[:cut] + tail)
                seen.add(self.assert_is(copy, *range(13)))
        self.assertGreater(len(seen), 8)
        self.assertIn(12, seen)


class PowerTests(CrashCase):
    """Only what was synced is sure to be on the disk; of the rest any page may be, in any order."""

    def setUp(self) -> None:
        super().setUp()
        self.pages = 4096

    def mixed(self, old: bytes, new: bytes, unit: int = 512) -> bytes:
        """A file that was `old` when it was synced and `new` when the power failed: each sector is one or the other."""
        length = self.chance.choice((len(old), len(new)))
        parts = range(0, length, unit)
        return b"".join((new if self.chance.random() < 0.5 else old)[at : at + unit].ljust(min(unit, length - at), b"\0") for at in parts)

    def test_unflushed_writes(self) -> None:
        """Whatever part of the writes after the last flush reached the disk: what was flushed is there, the others whole or not at all."""
        for _ in range(10):
            self.write()
            self.write()
            self.database.flush()
            flushed, step = (self.state / "tree.db-wal").read_bytes(), len(self.states) - 1
            for _ in range(3):
                self.write()
            written = (self.state / "tree.db-wal").read_bytes()
            for _ in range(5):
                copy = self.copy()
                (copy / "tree.db-wal").write_bytes(self.mixed(flushed, written))
                self.assert_is(copy, *range(step, len(self.states)))
            self.database.flush()
            if self.database.needs_tidy():
                self.database.tidy()

    def test_while_the_log_is_taken_over(self) -> None:
        """The log is on the disk and the database half written: the log says what is right."""
        for _ in range(3):
            while not self.database.needs_tidy():
                self.write()
            self.database.flush()
            before = self.copy()
            self.database.tidy()
            old, new = (before / "tree.db").read_bytes(), (self.state / "tree.db").read_bytes()
            self.assertNotEqual(old, new)
            for _ in range(5):
                (before / "tree.db").write_bytes(self.mixed(old, new))
                for leftover in before.glob("tree.db-shm"):
                    leftover.unlink()
                copy = copy_state(before, self.folder / f"mixed{self.chance.random()}")
                self.assert_is(copy, len(self.states) - 1)

    def test_when_the_log_begins_anew(self) -> None:
        """The database is whole on the disk before the log begins anew, and the new beginning before anything is written behind it.

        So neither the old log, whole, nor the new one, however torn behind what was synced, brings back what was before.
        """
        while not self.database.needs_tidy():
            self.write()
        self.database.flush()
        old = (self.state / "tree.db-wal").read_bytes()
        self.database.tidy()
        begun, step = (self.state / "tree.db-wal").read_bytes(), len(self.states) - 1
        copy = self.copy()
        (copy / "tree.db-wal").write_bytes(old)
        self.assert_is(copy, step)
        for _ in range(4):
            self.write()
        written = (self.state / "tree.db-wal").read_bytes()
        for _ in range(20):
            copy = self.copy()
            (copy / "tree.db-wal").write_bytes(self.mixed(begun, written))
            self.assert_is(copy, *range(step, len(self.states)))

    def test_a_flush_that_failed_and_lost_its_pages(self) -> None:
        """Linux forgets pages that it could not write. A power loss in the middle of the repair still finds a log that is whole."""
        kernel = ForgetfulKernel(self.state / "tree.db-wal")
        self.patch(os, "pwrite", kernel.pwrite)
        self.database.close()
        self.database = Database(self.state, SMALL, sync=kernel.sync)
        self.database.open()
        self.addCleanup(self.database.close)
        for _ in range(10):
            self.write()
        self.database.flush()
        self.database.tidy()
        kernel.fails = True
        lost = [put("a", str(number), content=bytes(900)) for number in range(15)]
        self.database.write([stage(self.tree, Remove(("a",)), *lost, apply=False)])
        self.assertRaises(StorageFailed, self.database.flush)
        self.tree.drop_pending()
        self.database.undo()
        before = self.copy()
        old, images = (before / "tree.db").read_bytes(), len(kernel.images)
        self.database.repair()
        new, log = (self.state / "tree.db").read_bytes(), kernel.images[images]
        self.assertNotEqual(old, new)
        for count in range(5):
            (before / "tree.db-wal").write_bytes(log)
            (before / "tree.db").write_bytes(self.mixed(old, new))
            self.assert_is(copy_state(before, self.folder / f"mixed{count}"), len(self.states) - 1)


class ForgetfulKernel:
    """Stands for the page cache over one file: what a failed sync did not write is written by no later one, unless it is written anew.

    `images` is what the disk had after each sync that succeeded. SQLite's own writes are seen as changed bytes, ours as calls of `pwrite`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.fails = path, False
        self.disk, self.clean = b"", b""
        self.images: list[bytes] = []
        self.original = os.pwrite

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """Written anew: not forgotten any more."""
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(self.path.absolute()):
            self.clean = self.clean[:offset] + bytes(len(data)) + self.clean[offset + len(data) :]
        return self.original(descriptor, data, offset)

    def sync(self, _descriptor: int) -> None:
        """As `os.fdatasync`."""
        now = self.path.read_bytes()
        if self.fails:
            self.fails, self.clean = False, now
            raise OSError(5, "Input/output error")
        forgotten = (at for at in range(0, len(now), 512) if any(now[at : at + 512]) and now[at : at + 512] == self.clean[at : at + 512])
        disk = bytearray(now)
        for at in forgotten:
            disk[at : at + 512] = self.disk[at : at + 512].ljust(len(now[at : at + 512]), b"\0")
        self.disk = bytes(disk)
        self.images.append(self.disk)


class OrderTests(SynchronousTestCase):
    def test_the_directory_is_synced(self) -> None:
        """The new file's name is on the disk before it is used, and the log's name before the first answer."""
        folder = Path(self.mktemp())
        folder.mkdir()
        synced: list[str] = []
        original = os.fsync

        def record(descriptor: int) -> None:
            synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
            original(descriptor)

        self.patch(os, "fsync", record)
        database = Database(folder)
        database.open()
        self.addCleanup(database.close)
        name = folder.name
        self.assertEqual(synced[:2], ["tree.db.new", name])
        self.assertIn(name, synced[2:])
