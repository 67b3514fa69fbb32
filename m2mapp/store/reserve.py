"""Room that is set aside on the disk: given free when the disk is full, so that removals still go on, and taken again later."""

from __future__ import annotations

import os
from pathlib import Path

from m2mapp.store.wal import sync_directory


class Reserve:
    """A file of `size_bytes` that holds nothing but its place."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path, self._size_bytes = path, size_bytes

    def take(self) -> bool:
        """Blocking. Set the room aside, where it is not; whether that could be done."""
        if self._path.exists():
            return True
        aside = self._path.with_name(self._path.name + ".new")
        try:
            descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size_bytes)
            finally:
                os.close(descriptor)
            aside.rename(self._path)
            sync_directory(self._path.parent)
        except OSError:
            aside.unlink(missing_ok=True)
            return False
        return True

    def free(self) -> None:
        """Blocking. Give the room free. Raises `OSError`."""
        self._path.unlink(missing_ok=True)
        sync_directory(self._path.parent)

    def fits(self) -> bool:
        """Whether the disk has a quarter more than the reserve free, so that taking it does not make the disk full at once."""
        space = os.statvfs(self._path.parent)
        return space.f_bavail * space.f_frsize * 4 >= self._size_bytes * 5

    def nothing_left(self) -> bool:
        """Whether the disk has nothing free: what failed then failed for that."""
        try:
            return os.statvfs(self._path.parent).f_bavail == 0
        except OSError:
            return False
