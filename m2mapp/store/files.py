"""The database's file before it is used: made aside, checked, raised to the version of this program, or refused untouched.

Not responsible for what is in the tables (`store.database`), nor for who may use the directory (`store.lock`).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

from m2mapp.store.errors import StoreRefused
from m2mapp.store.kept import write_aside
from m2mapp.store.wal import sync_directory, sync_file

APPLICATION_ID = 0x6D326D31
"""Stands in the header of our files (`PRAGMA application_id`): the letters `m2m1`."""
PAGE_BYTES = 4096
_MAGIC = b"SQLite format 3\0"
_VERSIONS_AT = 18
_WAL_VERSIONS = bytes((2, 2))
_RESTORE = "put a copy of it back, or move it away to begin with an empty tree"


@cache
def read_steps() -> tuple[str, ...]:
    """The SQL of each step of the schema, in order; the number of steps is the version that this program uses."""
    folder = resources.files("m2mapp.store.schema")
    names = sorted(found.name for found in folder.iterdir() if found.name.endswith(".sql"))
    if names != [f"{number:04}.sql" for number in range(1, len(names) + 1)]:
        raise StoreRefused(f"the program's schema files have gaps: {', '.join(names)}; install it anew")
    return tuple(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def make_state_dir(path: Path) -> None:
    """Make the state directory, open to this user only, where there is none. Raises `StoreRefused`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreRefused(f"{path}: cannot be made: {error.strerror}; make it, or set state_dir") from error


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes neither the file nor its log. Raises `sqlite3.Error`."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=1)


def prepare(path: Path, steps: tuple[str, ...]) -> None:
    """Blocking. See that there is a database of this version at the path, made or upgraded where needed. Raises `StoreRefused`.

    An older one is copied to `<name>.v<version>.backup` first.
    """
    try:
        if not path.exists():
            _make(path, _image(steps))
            return
        _upgrade(path, _check(path, steps), steps)
    except sqlite3.Error as error:
        raise _refusal(path, error) from error
    except OSError as error:
        raise StoreRefused(f"{error.filename or path}: {error.strerror}; free the disk or repair it, and start again") from error


def _refusal(path: Path, error: sqlite3.Error) -> StoreRefused:
    code = getattr(error, "sqlite_errorcode", None)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return StoreRefused(f"{path}: {error}; see that the disk has room and that no other program uses the file")
    return StoreRefused(f"{path}: damaged: {error}; {_RESTORE}")


def _make(path: Path, image: bytes) -> None:
    """A new file is built aside and renamed, so that a kill at any time leaves none or a whole one."""
    leftover = path.with_name(path.name + "-wal")
    if leftover.exists() and leftover.stat().st_size:
        raise StoreRefused(f"{leftover}: is there, but {path.name} is not; put that back, or move this away to begin with an empty tree")
    write_aside(path, image)


@lru_cache(maxsize=1)
def _image(steps: tuple[str, ...]) -> bytes:
    """A database without resources, as a file: made once however many nodes a process starts."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for number, step in enumerate(steps, 1):
            _run_step(connection, number, step)
        image = connection.serialize()
    # What `journal_mode = WAL` does to a file, and memory has not: https://sqlite.org/fileformat2.html, section 1.3.3.
    return image[:_VERSIONS_AT] + _WAL_VERSIONS + image[_VERSIONS_AT + len(_WAL_VERSIONS) :]


def _check(path: Path, steps: tuple[str, ...]) -> int:
    """The version of the file. Nothing is written: what is not ours is told before SQLite opens it, and that opens it to read only."""
    with path.open("rb") as file:
        header = file.read(100)
        size = file.seek(0, 2)
    if len(header) < len(_MAGIC) or not header.startswith(_MAGIC):
        raise StoreRefused(f"{path}: not a database; {_RESTORE}")
    wal = path.with_name(path.name + "-wal")
    # With a log beside it the file may rightly end anywhere: a power loss, or a full disk, while pages were copied from the log.
    if (size % PAGE_BYTES or size < PAGE_BYTES) and not (wal.exists() and wal.stat().st_size):
        raise StoreRefused(f"{path}: damaged: it was cut off at {size} bytes; {_RESTORE}")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise StoreRefused(f"{path}: a database of another program; move it away, or set state_dir")
    with closing(connect_to_read(path)) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(steps) or version < 1:
            raise StoreRefused(
                f"{path}: its version is {version}, this program knows 1 to {len(steps)}; start the program that wrote it, or {_RESTORE}"
            )
        for table in ("resource", "volatile", "journal", "state"):
            faults = connection.execute(f"PRAGMA quick_check({table})").fetchall()
            if faults != [("ok",)]:
                raise StoreRefused(f"{path}: damaged: {faults[0][0]}; {_RESTORE}")
    return version


def _upgrade(path: Path, version: int, steps: tuple[str, ...]) -> None:
    if version == len(steps):
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        _back_up(connection, path, version)
        for number in range(version + 1, len(steps) + 1):
            try:
                _run_step(connection, number, steps[number - 1])
            except sqlite3.Error as error:
                raise StoreRefused(
                    f"{path}: the upgrade to version {number} failed: {error}; it stays at version {number - 1}: "
                    "start the program that wrote it, and report this"
                ) from error


def _back_up(connection: sqlite3.Connection, path: Path, version: int) -> None:
    backup = path.with_name(f"{path.name}.v{version}.backup")
    aside = path.with_name(backup.name + ".new")
    aside.unlink(missing_ok=True)
    aside.touch(mode=0o600)
    with closing(sqlite3.connect(aside)) as target:
        connection.backup(target)
    sync_file(aside)
    aside.rename(backup)
    sync_directory(path.parent)


def _run_step(connection: sqlite3.Connection, number: int, step: str) -> None:
    """One step is one transaction, the version with it."""
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{step}\nPRAGMA user_version = {number};\nCOMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
