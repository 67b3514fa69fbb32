"""One process for each state directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.store.errors import StoreRefused
from m2mapp.store.lock import LOCK_NAME, StateLock

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys
from pathlib import Path
from m2mapp.store.lock import StateLock
lock = StateLock(Path(sys.argv[1])); lock.acquire(); print("held", flush=True); sys.stdin.read()
"""


class LockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_another_process_is_named(self) -> None:
        """The lock of a running process refuses a second one, with the first one's number, and is free once that is killed."""
        command = [sys.executable, "-c", HOLDER, str(self.folder)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
        ) as holder:
            assert holder.stdout is not None
            self.assertEqual(holder.stdout.readline(), b"held\n")
            lock = StateLock(self.folder)
            refused = self.assertRaises(StoreRefused, lock.acquire)
            self.assertIn(f"process {holder.pid}", str(refused))
            self.assertFalse(lock.held)
            holder.kill()
            holder.wait()
        lock.acquire()
        self.assertTrue(lock.held)
        lock.release()

    def test_twice(self) -> None:
        """Taking it again and giving it up again is no error; the file names this process."""
        lock = StateLock(self.folder)
        for _ in range(2):
            lock.acquire()
        self.assertEqual((self.folder / LOCK_NAME).read_text(), f"{os.getpid()}\n")
        self.assertRaises(StoreRefused, StateLock(self.folder).acquire)
        for _ in range(2):
            lock.release()
        other = StateLock(self.folder)
        other.acquire()
        other.release()

    def test_unknown_holder(self) -> None:
        """Where the file does not say who has it, the refusal says no number."""
        lock = StateLock(self.folder)
        lock.acquire()
        self.addCleanup(lock.release)
        (self.folder / LOCK_NAME).write_bytes(b"\xff?")
        self.assertIn("another process", str(self.assertRaises(StoreRefused, StateLock(self.folder).acquire)))

    def test_no_such_directory(self) -> None:
        """A directory that is not there is refused by name."""
        refused = self.assertRaises(StoreRefused, StateLock(self.folder / "gone").acquire)
        self.assertIn("gone", str(refused))
