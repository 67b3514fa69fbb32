"""Small files of the state directory that are made once and kept: keys, a token, the DUID. Readable by their owner only."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from m2mapp.store.wal import sync_directory


def kept(file: Path, make: Callable[[], bytes]) -> bytes:
    """What the file holds; at the first start what `make` gives, which is on disk when this returns. Raises `OSError`."""
    if not file.exists():
        write_aside(file, make())
    return file.read_bytes()


def write_aside(file: Path, content: bytes) -> None:
    """Make a file whole or not at all: written beside it, flushed, renamed, and the directory flushed. Raises `OSError`."""
    aside = file.with_name(file.name + ".new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(descriptor)
    aside.rename(file)
    sync_directory(file.parent)
