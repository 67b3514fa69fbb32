"""Room that is set aside on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.store.reserve import FIRST_BYTES, Reserve


class ReserveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "reserve"

    def test_taken_and_freed(self) -> None:
        """It takes real blocks of the disk; taking it twice, and freeing what is not there, is no error."""
        reserve = Reserve(self.path, 100_000)
        for _ in range(2):
            self.assertTrue(reserve.take())
        self.assertGreaterEqual(self.path.stat().st_blocks * 512, 100_000)
        self.assertEqual(os.listdir(self.folder), ["reserve"])
        for _ in range(2):
            reserve.free()
        self.assertEqual(os.listdir(self.folder), [])

    def test_more_than_there_is(self) -> None:
        """What does not fit is not taken, and nothing of it is left."""
        space = os.statvfs(self.folder)
        most = space.f_blocks * space.f_frsize * 2
        reserve = Reserve(self.path, most)
        reserve.size_bytes = most
        self.assertFalse(reserve.fits())
        self.assertFalse(reserve.take())
        self.assertEqual(os.listdir(self.folder), [])

    def test_grows(self) -> None:
        """It doubles when it is told to, up to the most; one that was given free does not."""
        reserve = Reserve(self.path, 3 * FIRST_BYTES)
        reserve.take()
        for size, grows in ((1, True), (2, True), (3, False)):
            self.assertEqual(self.path.stat().st_blocks * 512 // FIRST_BYTES, size)
            self.assertIs(reserve.grow(), grows)
        self.assertEqual(Reserve(self.path, 3 * FIRST_BYTES).take(), True)
        reserve = Reserve(self.path, 4 * FIRST_BYTES)
        reserve.take()
        self.assertEqual(reserve.size_bytes, 3 * FIRST_BYTES)
        reserve.free()
        self.assertFalse(reserve.grow())
        self.assertFalse(self.path.exists())

    def test_no_more_than_fits(self) -> None:
        """What would make the disk full is not added."""
        space = os.statvfs(self.folder)
        reserve = Reserve(self.path, space.f_blocks * space.f_frsize * 4)
        reserve.take()
        reserve.size_bytes = space.f_blocks * space.f_frsize
        self.assertFalse(reserve.grow())
        self.assertLess(self.path.stat().st_size, 2 * FIRST_BYTES)

    def test_a_disk_that_is_gone(self) -> None:
        """Where the folder is not there nothing is taken, and nobody says that the disk is full."""
        reserve = Reserve(self.folder / "gone" / "reserve", 10)
        self.assertFalse(reserve.take())
        self.assertFalse(reserve.nothing_left())
        self.assertRaises(OSError, reserve.free)
        self.assertFalse(Reserve(self.path, 1).nothing_left())
