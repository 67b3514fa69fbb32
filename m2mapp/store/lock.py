"""One process for each state directory: a lock that the system gives up when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from m2mapp.store.errors import StoreRefused

LOCK_NAME = "lock"


class StateLock:
    """The lock on one state directory. It is kept over a fork, and lost when the last process that has it ends."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / LOCK_NAME
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock. Having it already is no error. Raises `StoreRefused`, naming the process that has it where that is known."""
        if self._descriptor is not None:
            self.write_pid()
            return
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreRefused(f"{self._file}: cannot be opened: {error.strerror}; let this user write there") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise StoreRefused(f"{self._file.parent}: {who} uses it; stop that one, or give this one a state_dir of its own") from error
        self._descriptor = descriptor
        self.write_pid()

    def write_pid(self) -> None:
        """Say in the file which process has the lock: again after a fork. A full disk does not matter here."""
        if self._descriptor is not None:
            try:
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
            except OSError:
                return

    def release(self) -> None:
        """Give the lock up; not having it is no error. The file stays: removing it would let two processes have one each."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
