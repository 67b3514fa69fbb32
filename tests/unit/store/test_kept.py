"""Small files that are made once: whole, private, and the same at every later start."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.store.kept import kept


class KeptTests(SynchronousTestCase):
    def test_made_once(self) -> None:
        """What is made at the first start is read at the second; only its owner may read it; nothing lies beside it."""
        directory = Path(self.mktemp())
        directory.mkdir()
        file = directory / "duid"
        self.assertEqual(kept(file, lambda: b"first"), b"first")
        self.assertEqual(kept(file, lambda: b"second"), b"first")
        self.assertEqual((file.stat().st_mode & 0o777, list(directory.iterdir())), (0o600, [file]))

    def test_left_half_made(self) -> None:
        """What a process left that was killed while it wrote is not taken for the file."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "duid.new").write_bytes(b"fir")
        self.assertEqual(kept(directory / "duid", lambda: b"second"), b"second")

    def test_no_directory(self) -> None:
        """Where it cannot be kept it is not made up."""
        self.assertRaises(OSError, kept, Path(self.mktemp()) / "missing" / "duid", lambda: b"first")
