"""The tree, its volatile attributes and its journals in one SQLite file: loading, transactions, flushing, tidying.

Why SQL runs on the reactor's thread and only flushes in another: docs/decisions/2026-11-22-store-flush.md. Not responsible for order
and answers (`store.committer`), nor for the file before it is used (`store.files`).
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path as FilePath
from threading import Lock

from zope.interface import implementer

from m2mapp.model.errors import Fault, StorageFailed, StorageFull
from m2mapp.model.identifiers import Path
from m2mapp.store.codec import Damaged, decode, encode, path_key, resource_row, row_resource
from m2mapp.store.errors import StoreRefused
from m2mapp.store.files import PAGE_BYTES, connect_to_read, prepare, read_steps
from m2mapp.store.interfaces import IDatabase, Volatile
from m2mapp.store.journals import Journals, read_entries
from m2mapp.store.reserve import Reserve
from m2mapp.store.settings import StoreSettings
from m2mapp.store.wal import Sync, Wal, sync_directory
from m2mapp.tree.unit import Change, Document, Entry, Resource, Staged

DATABASE_NAME = "tree.db"
RESERVE_NAME = "reserve"
_CACHE_KB = 8_192
_SELDOM_READS = 8
"""After so many reads of journals their connection is kept: it takes 130 kB and a file, and most nodes read at their start only."""
_TIDY_PATIENCE_MS = 2_000
"""How long taking over the log waits for readers: ours read briefly, other programs may look too."""

_PUT = """
INSERT INTO resource VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
    type = excluded.type, attributes = excluded.attributes, content = excluded.content, media_type = excluded.media_type,
    created_ms = excluded.created_ms, modified_ms = excluded.modified_ms, version = excluded.version, seal = excluded.seal
"""


@implementer(IDatabase)
class Database:
    """`tree.db` in a state directory. Whoever opens it has the directory's lock.

    `steps` are those of the schema, `sync` is `os.fdatasync`, but in tests. SQLite's `synchronous=NORMAL` syncs the log's header when it
    begins anew and the database when the log is taken over into it, never a commit: `flush` does that. Only `tidy` takes the log over.
    """

    def __init__(
        self,
        state_dir: FilePath,
        settings: StoreSettings | None = None,
        steps: tuple[str, ...] | None = None,
        sync: Sync = os.fdatasync,
    ) -> None:
        self.path = state_dir / DATABASE_NAME
        self._settings = settings or StoreSettings()
        self._steps, self._sync = steps, sync
        self._reserve = Reserve(state_dir / RESERVE_NAME, self._settings.reserve_bytes)
        self._opened: tuple[sqlite3.Connection, Journals, Wal] | None = None
        self._reader: sqlite3.Connection | None = None
        self._reading = Lock()
        self._reads = 0
        self._unflushed: list[Staged] = []
        self._prepared = self._failed = False

    # Opening, loading, closing.

    def open(self) -> None:
        """See `IDatabase`. The write-ahead log is begun and durable afterwards, so that no later write waits for its header."""
        self._prepare()
        with ExitStack() as undo:
            try:
                writer = self._connect(undo)
                writer.execute("PRAGMA synchronous = NORMAL")
                writer.execute("PRAGMA wal_autocheckpoint = 0")
                writer.execute(f"PRAGMA journal_size_limit = {2 * self._settings.wal_bytes}")
                _count_start(writer)
                wal = Wal(self.path.with_name(self.path.name + "-wal"), PAGE_BYTES, self._sync)
                undo.callback(wal.close)
                wal.sync()
                sync_directory(self.path.parent)
                self._opened = writer, Journals(writer, self._settings), wal
            except (sqlite3.Error, OSError) as error:
                raise StoreRefused(f"{self.path}: cannot be opened: {error}; see that the disk has room and works") from error
            undo.pop_all()
        self._unflushed.clear()
        self._failed = False
        self._reads = 0
        if self._reserve.fits():
            self._reserve.take()

    def close(self) -> None:
        """See `IDatabase`."""
        self._prepared = False
        if self._opened is None:
            return
        writer, _, wal = self._opened
        try:
            if self._failed:
                self.undo()
                self.repair()
            else:
                self.flush()
                self.tidy()
        finally:
            self._opened = None
            with self._reading:
                self._close_reader()
            wal.close()
            writer.close()

    def load(self) -> tuple[Iterator[tuple[Resource, Document | None]], int]:
        """See `IDatabase`. Nothing is written before all was read and found whole, but an upgrade."""
        self._prepare()
        with ExitStack() as undo:
            try:
                # One connection for all: the first one to a log, and the last one away from it, make and remove files.
                connection = undo.enter_context(closing(connect_to_read(self.path)))
                volatile = {key: decode(body) for key, body in connection.execute("SELECT path, body FROM volatile")}
                last_number, count = connection.execute("SELECT last_number, resources FROM state").fetchone()
            except (sqlite3.Error, Damaged, TypeError) as error:
                raise self._damaged(error) from error
            undo.pop_all()
        return self._resources(connection, volatile, count), last_number

    def _resources(
        self, opened: sqlite3.Connection, volatile: dict[str, Document], count: int
    ) -> Iterator[tuple[Resource, Document | None]]:
        seen = 0
        try:
            with closing(opened) as connection:
                for row in connection.execute("SELECT * FROM resource"):
                    yield row_resource(row), volatile.get(row[0])
                    seen += 1
        except (sqlite3.Error, Damaged, TypeError, AttributeError, UnicodeEncodeError) as error:
            raise self._damaged(error) from error
        if seen != count:
            raise self._damaged(Damaged(f"{seen} resources of {count}"))

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """What changes whenever another process writes to the closed file, or dies after it began to."""
        found = (path.stat() for path in (self.path, self.path.with_name(self.path.name + "-wal")) if path.exists())
        return tuple((status.st_mtime_ns, status.st_size) for status in found if status.st_size)

    def _prepare(self) -> None:
        if not self._prepared:
            prepare(self.path, read_steps() if self._steps is None else self._steps)
            self._prepared = True

    def _damaged(self, error: Exception) -> StoreRefused:
        return StoreRefused(f"{self.path}: damaged: {error}; put a copy of it back, or move it away to begin with an empty tree")

    def _connect(self, undo: ExitStack) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=0, check_same_thread=False)
        undo.callback(connection.close)
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        connection.execute("PRAGMA secure_delete = FAST")
        return connection

    def _parts(self) -> tuple[sqlite3.Connection, Journals, Wal]:
        if self._opened is None:
            raise StorageFailed("the store is not open")
        return self._opened

    # Writing.

    def write(self, units: Sequence[Staged], volatile: Volatile = ()) -> None:
        """See `IDatabase`."""
        writer, journals, _ = self._parts()
        changes = [change for staged in units for change in staged.changes]
        try:
            writer.execute("BEGIN IMMEDIATE")
            journals.tidy()
            rows = [(path_key(path), encode(document)) for path, document in volatile]
            writer.executemany("INSERT OR REPLACE INTO volatile VALUES (?, ?)", rows)
            _put(writer, {change.path: change.after for change in changes})
            journals.append(entry for staged in units for entry in staged.entries)
            journals.drop(changes)
            last_number = units[-1].last_number if units else 0
            _count(writer, last_number, _grown(changes))
            writer.execute("COMMIT")
        except Exception as error:
            self._roll_back(writer, journals)
            raise self._fault(error) from error
        self._unflushed.extend(units)

    def undo(self) -> None:
        """See `IDatabase`."""
        writer, journals, _ = self._parts()
        changes = [change for staged in self._unflushed for change in staged.changes]
        try:
            writer.execute("BEGIN IMMEDIATE")
            _put(writer, {change.path: change.before for change in reversed(changes)})
            journals.undo((entry for staged in self._unflushed for entry in staged.entries), changes)
            _count(writer, 0, -_grown(changes))
            writer.execute("COMMIT")
            journals.forget()
        except Exception as error:
            self._roll_back(writer, journals)
            raise self._fault(error) from error
        self._unflushed.clear()

    def _roll_back(self, writer: sqlite3.Connection, journals: Journals) -> None:
        try:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            journals.forget()
        except sqlite3.Error as error:
            raise self._fault(error) from error

    # The disk.

    def flush(self) -> None:
        """See `IDatabase`. What is set aside is kept at twice the log: so much the database may grow when the log is taken over."""
        try:
            wal = self._parts()[2]
            wal.sync()
            while wal.reaches(self._reserve.size_bytes // 2) and self._reserve.grow():
                pass
        except OSError as error:
            self._failed = True
            raise self._fault(error) from error
        self._unflushed.clear()

    def repair(self) -> None:
        """See `IDatabase`. The database, not the log, is what is trusted afterwards."""
        try:
            self._parts()[2].rewrite()
        except OSError as error:
            raise self._fault(error) from error
        self.tidy()
        self._failed = False

    def needs_tidy(self) -> bool:
        """See `IDatabase`."""
        try:
            return self._parts()[2].reaches(self._settings.wal_bytes)
        except OSError:
            return False

    def tidy(self) -> None:
        """See `IDatabase`. The log begins anew here, since its header is synced when it does, and the reactor must not wait for that.

        Where another program reads from the log all the while, it goes on growing until the next time.
        """
        writer, _, wal = self._parts()
        try:
            writer.execute(f"PRAGMA busy_timeout = {_TIDY_PATIENCE_MS}")
            writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            _count_start(writer)
            wal.sync()
        except (sqlite3.Error, OSError) as error:
            raise self._fault(error) from error
        finally:
            writer.execute("PRAGMA busy_timeout = 0")

    def make_room(self) -> None:
        """See `IDatabase`."""
        try:
            self._reserve.free()
        except OSError as error:
            raise self._fault(error) from error

    def has_room(self) -> bool:
        """See `IDatabase`. Room is a reserve set aside, or as much inside the database's own file."""
        try:
            if self._reserve.fits() and self._reserve.take():
                return True
            with self._to_read() as reader:
                (pages,) = reader.execute("PRAGMA freelist_count").fetchone()
        except (sqlite3.Error, OSError, StorageFailed):
            return False
        return bool(pages * PAGE_BYTES >= self._reserve.size_bytes)

    def read_journal(self, name: str, upto: int, after: int, limit: int, newest: bool) -> list[Entry]:
        """See `IDatabase`."""
        try:
            with self._to_read() as reader:
                return read_entries(reader, name, (after, upto), limit, newest=newest)
        except (sqlite3.Error, Damaged, UnicodeEncodeError, OverflowError) as error:
            raise self._fault(error) from error

    @contextmanager
    def _to_read(self) -> Iterator[sqlite3.Connection]:
        """The connection that reads, for one reader at a time. Raises `sqlite3.Error`, `StorageFailed`."""
        with self._reading:
            if self._opened is None:
                raise StorageFailed("the store is not open")
            if self._reader is None:
                with ExitStack() as undo:
                    reader = self._connect(undo)
                    reader.execute("PRAGMA query_only = ON")
                    undo.pop_all()
                    self._reader = reader
            self._reads += 1
            try:
                yield self._reader
            finally:
                if self._reads <= _SELDOM_READS:
                    self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _fault(self, error: Exception) -> Fault:
        """What went wrong, as an error of the family; who reads the log finds the system's words in its cause."""
        if isinstance(error, Fault):
            return error
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        full = full or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))
        if full or (isinstance(error, sqlite3.OperationalError) and self._reserve.nothing_left()):
            return StorageFull("the disk is full; the write was dropped")
        return StorageFailed("the disk failed; the write was dropped")


def _put(writer: sqlite3.Connection, states: dict[Path, Resource | None]) -> None:
    """Let each path hold what is given, or nothing."""
    writer.executemany(_PUT, [resource_row(resource) for resource in states.values() if resource is not None])
    gone = [(path_key(path),) for path, resource in states.items() if resource is None]
    writer.executemany("DELETE FROM resource WHERE path = ?", gone)
    writer.executemany("DELETE FROM volatile WHERE path = ?", gone)


def _grown(changes: Iterable[Change]) -> int:
    """How many more resources there are after the changes."""
    return sum((change.after is not None) - (change.before is not None) for change in changes)


def _count(writer: sqlite3.Connection, last_number: int, grown: int) -> None:
    writer.execute("UPDATE state SET last_number = max(last_number, ?), resources = resources + ?", (last_number, grown))


def _count_start(writer: sqlite3.Connection) -> None:
    """A write that says nothing, for what SQLite does at the first write to a log."""
    writer.execute("UPDATE state SET wal_starts = wal_starts + 1")
