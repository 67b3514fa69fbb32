"""Room that is set aside on the disk: given free when the disk is full, so that removals still go on, and taken again later."""

from __future__ import annotations

import os
from pathlib import Path

from m2mapp.store.wal import sync_directory

FIRST_BYTES = 256 * 1024
"""So much is set aside first: a store whose log has never been long needs no more to go on."""


class Reserve:
    """A file that holds nothing but its place: `FIRST_BYTES` at first, and more as it is told to, to at most `most_bytes`."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path, self._most_bytes = path, most_bytes
        self.size_bytes = min(FIRST_BYTES, most_bytes)

    def take(self) -> bool:
        """Blocking. Set the room aside, where it is not; whether that could be done."""
        if self._path.exists():
            self.size_bytes = self._path.stat().st_size
            return True
        aside = self._path.with_name(self._path.name + ".new")
        try:
            descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self.size_bytes)
            finally:
                os.close(descriptor)
            aside.rename(self._path)  # Its name need not be durable: one that a power loss takes away is taken again at the start.
        except OSError:
            aside.unlink(missing_ok=True)
            return False
        return True

    def grow(self) -> bool:
        """Blocking. Set twice as much aside; False where that is not to be: it is all, it was given free, or the disk has not so much."""
        wanted = min(2 * self.size_bytes, self._most_bytes)
        if wanted <= self.size_bytes:
            return False
        try:
            if not self.fits(wanted):
                return False
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.posix_fallocate(descriptor, 0, wanted)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            return False
        self.size_bytes = wanted
        return True

    def free(self) -> None:
        """Blocking. Give the room free. Raises `OSError`."""
        self._path.unlink(missing_ok=True)
        sync_directory(self._path.parent)

    def fits(self, size_bytes: int | None = None) -> bool:
        """Whether the disk has a quarter more than the reserve free, so that taking it does not make the disk full at once."""
        space = os.statvfs(self._path.parent)
        return space.f_bavail * space.f_frsize * 4 >= (size_bytes or self.size_bytes) * 5

    def nothing_left(self) -> bool:
        """Whether the disk has nothing free: what failed then failed for that."""
        try:
            return os.statvfs(self._path.parent).f_bavail == 0
        except OSError:
            return False
