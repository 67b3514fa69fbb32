"""A store whose process is killed at random instants, and one whose disk is full: whole processes on a real disk."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
SMOKE = os.environ.get("M2MAPP_SMOKE") == "1"
SOAK = os.environ.get("M2MAPP_SOAK") == "1"
KILLS = 200 if SOAK else 8 if SMOKE else 50
SEED = int(os.environ.get("M2MAPP_SEED", "1"))
PATIENCE_S = 60.0
TMPFS_BYTES = 6 << 20


@contextmanager
def start(state_dir: Path, mode: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child process on a state directory; see `store_child`. Killed when the test is done with it, whatever came of that."""
    command = [sys.executable, "-m", "tests.system.store_child", str(state_dir), mode]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def check(state_dir: Path) -> dict[str, Any]:
    """What a new process loads from a state directory."""
    command = [sys.executable, "-m", "tests.system.store_child", str(state_dir), "check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr.decode()
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def lines(stream: IO[bytes] | None) -> Iterator[dict[str, Any]]:
    """The whole lines of a child's output, as objects; what was cut off by a kill is none."""
    assert stream is not None
    for line in stream:
        if line.endswith(b"\n"):
            yield json.loads(line)


def wait_for_output(child: subprocess.Popen[bytes]) -> None:
    """Until the child has said something."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], PATIENCE_S)
    assert ready, "the child said nothing"


class KillTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_killed_at_random_instants(self) -> None:
        """Under a stream of concurrent units: every answered one is there after the restart, none is half there, and writing goes on."""
        chance = random.Random(SEED)
        answered: dict[str, int] = {}
        total = last = 0
        for kill in range(KILLS):
            where = f"seed {SEED}, kill {kill}"
            with start(self.folder, "writes") as child:
                wait_for_output(child)
                time.sleep(chance.uniform(0.0, 0.4))
                child.kill()
                for line in lines(child.stdout):
                    self.assertNotIn("error", line, where)
                    if "writer" in line:
                        answered[str(line["writer"])] = line["number"]
                        total += 1
            found = check(self.folder)
            for writer, sides in found["pairs"].items():
                self.assertEqual(sides["left"], sides["right"], f"half a unit of writer {writer}: {where}")
                self.assertEqual(found["log"][writer], sides["left"], f"a journal without its unit: {where}")
                # One more may have been written than was answered, never fewer.
                self.assertIn(sides["left"] - answered.get(writer, 0), (0, 1), f"writer {writer}: {where}")
                answered[writer] = sides["left"]
            self.assertLessEqual(set(answered), set(found["pairs"]), where)
            self.assertGreaterEqual(found["last"], last, where)
            last = found["last"]
        self.assertGreater(total, 20 * KILLS)
        print(f"{KILLS} kills, {total} answered units, none lost, none half there")

    def test_a_second_process(self) -> None:
        """While one runs a second one is refused, and says which process has the directory; a killed one leaves nothing in the way."""
        with start(self.folder, "writes") as first:
            wait_for_output(first)
            second = subprocess.run(
                [sys.executable, "-m", "tests.system.store_child", str(self.folder), "check"], cwd=ROOT, capture_output=True, check=False
            )
        self.assertNotEqual(second.returncode, 0)
        self.assertIn(f"process {first.pid} uses it", second.stderr.decode())
        check(self.folder)


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A disk of that size, mounted below the folder."""
    disk = folder / "disk"
    disk.mkdir()
    options = f"size={size_bytes}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


class FullDiskTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_full_and_not_full(self) -> None:
        """Writers are told that the disk is full, reads go on; with room made it recovers by itself; nothing that was answered is lost."""
        with small_disk(self.folder, TMPFS_BYTES) as disk, start(disk / "state", "fill") as child:
            self.fill_up(child, disk, by_other=True)
            (disk / "other").unlink()
            self.expect(child, wrote="done", readable=True)
            assert child.stdin is not None
            child.stdin.close()
            removed = [line["removed"] for line in lines(child.stdout) if "removed" in line]
            self.assertEqual(set(removed), {"done"})
            child.wait(PATIENCE_S)
            check(disk / "state")

    def test_removals_make_room(self) -> None:
        """On a disk that stays full removals are taken, and make the room that writes need."""
        with small_disk(self.folder, TMPFS_BYTES) as disk, start(disk / "state", "fill") as child:
            written = self.fill_up(child, disk, by_other=False)
            assert child.stdin is not None
            child.stdin.close()
            said = list(lines(child.stdout))
            self.assertEqual([line["removed"] for line in said if "removed" in line], ["done"] * len(range(0, written, 50)))
            self.assertEqual(said[-1], {"again": "done"})
            child.wait(PATIENCE_S)
            check(disk / "state")

    def test_killed_on_a_full_disk(self) -> None:
        """A process killed while its disk is full starts again on it, with all that was answered, and removes things."""
        with small_disk(self.folder, TMPFS_BYTES) as disk:
            with start(disk / "state", "fill") as child:
                self.fill_up(child, disk, by_other=False)
            check(disk / "state")

    def fill_up(self, child: subprocess.Popen[bytes], disk: Path, *, by_other: bool) -> int:
        """Until the writers are refused, and refused again. `by_other`: by a file that fills the disk. How many were answered."""
        if by_other:
            with open(disk / "other", "wb") as other:
                other.truncate(0)
                try:
                    os.posix_fallocate(other.fileno(), 0, TMPFS_BYTES // 2)
                except OSError:
                    other.truncate(0)
        found = self.expect(child, refused="storage-full")
        for _ in range(3):
            self.expect(child, wrote="storage-full", readable=True)
        return int(found["written"])

    def expect(self, child: subprocess.Popen[bytes], **what: object) -> dict[str, Any]:
        """Read the child's lines until one says this."""
        end = time.monotonic() + PATIENCE_S
        assert child.stdout is not None
        while time.monotonic() < end:
            line = json.loads(child.stdout.readline() or b'{"error": "the child ended"}')
            self.assertNotIn("error", line)
            if what.items() <= line.items():
                found: dict[str, Any] = line
                return found
        raise AssertionError(f"never heard {what}")
