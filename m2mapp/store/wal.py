"""SQLite's write-ahead log as a file: how far it reaches, and that it is on disk. Says nothing of what stands in it.

The format is SQLite's documented one (https://sqlite.org/fileformat2.html, section 4): a header of 32 bytes with two salts, then frames
of 24 bytes and a page; a frame belongs to the log as it stands if it bears the header's salts.

SQLite holds no lock on this file, so a descriptor of our own may be closed at any time (closing one on the database or its
`-shm` would drop SQLite's POSIX locks).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_PIECE_BYTES = 1 << 20

Sync = Callable[[int], None]


class Wal:
    """The log at a path, while SQLite has it open. `sync` is `os.fdatasync`, but in tests of disks that fail.

    Every method raises `OSError` where the system does.
    """

    def __init__(self, path: Path, page_bytes: int, sync: Sync = os.fdatasync) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._frame_bytes = _FRAME_HEADER_BYTES + page_bytes
        self._sync = sync

    def reaches(self, size_bytes: int) -> bool:
        """Whether the log is at least about this long. Two reads of 8 bytes; the file may be longer than the log."""
        salts = os.pread(self._descriptor, 8, 16)
        frame = _HEADER_BYTES + size_bytes // self._frame_bytes * self._frame_bytes
        return salts != b"" and os.pread(self._descriptor, 8, frame + 8) == salts

    def sync(self) -> None:
        """Blocking. What was written to the log is on disk afterwards."""
        self._sync(self._descriptor)

    def rewrite(self) -> None:
        """Blocking. Write the whole log again as it reads, and sync.

        After a failed sync Linux takes pages for clean that never reached the disk: another sync would succeed and mean nothing.
        """
        offset = 0
        while piece := os.pread(self._descriptor, _PIECE_BYTES, offset):
            written = os.pwrite(self._descriptor, piece, offset)
            offset += written
        self.sync()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


def sync_directory(path: Path) -> None:
    """Blocking. Make durable which files a directory has. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Blocking. Make a file's content durable; not for files that SQLite has open. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
