"""The order of writing: staged, written, flushed, applied, answered, told. Many units share a flush; the reactor waits for none.

Not responsible for how a unit is stored (`store.database`) or checked (`tree.tree`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from twisted.internet.defer import Deferred, DeferredLock, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.model.errors import Fault, Overloaded, StorageFailed, StorageFull
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IClock, ICommit, IJournals
from m2mapp.model.metrics import Metrics
from m2mapp.store.codec import weigh
from m2mapp.store.interfaces import IDatabase, Volatile
from m2mapp.store.threads import RunBlocking
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Entry, Remove, Staged, Unit

MAX_QUEUED_UNITS = 4_096
MAX_QUEUED_BYTES = 64 << 20
MAX_BATCH_UNITS = 128
"""So many units are one transaction at most: it is the reactor that runs it."""
MAX_BATCH_BYTES = 4 << 20
MAX_READS_WAITING = 256
VOLATILE_S = 60.0
"""Volatile attributes that changed are saved this long after the first change."""
VOLATILE_BATCH = 256
RETRY_S = 1.0
"""A disk that failed or was full is tried again so often."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    staged: Staged
    done: Deferred[tuple[Change, ...]]
    size_bytes: int


@implementer(ICommit, IJournals)
class Committer:
    """Makes the changes of one tree durable in one database, and reads its journals.

    `run_blocking` runs what waits for the disk elsewhere. All else happens on the reactor's thread.
    """

    _log = Logger()

    def __init__(
        self, tree: Tree, database: IDatabase, clock: IClock, reactor: IReactorTime, run_blocking: RunBlocking, metrics: Metrics
    ) -> None:
        self._tree, self._database, self._clock, self._reactor = tree, database, clock, reactor
        self._run_blocking = run_blocking
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._touched: set[Path] = set()
        self._saving: list[Path] = []
        self._running = self._stopped = False
        self._broken = self._full = self._room_made = self._mend_due = False
        self._save_call: IDelayedCall | None = None
        self._retry_call: IDelayedCall | None = None
        self._tidy_from_s = 0.0
        self._idle: list[Deferred[None]] = []
        self._reading = DeferredLock()
        self._committed = metrics.counter("m2mapp_store_units_total", "Units of changes", result="committed")
        self._failed = metrics.counter("m2mapp_store_units_total", "Units of changes", result="failed")
        self._flushes = metrics.histogram("m2mapp_store_flush_seconds", "From the write of a batch of units until it was on disk")
        self._tidies = metrics.histogram("m2mapp_store_tidy_seconds", "Taking the write-ahead log over; writes wait meanwhile")
        metrics.gauge("m2mapp_store_queue_units", "Units that wait for a flush", lambda: len(self._queue))
        metrics.gauge("m2mapp_store_queue_bytes", "Their size", lambda: self._queued_bytes)
        metrics.gauge("m2mapp_store_writable", "1, or 0 while the disk is full or fails", lambda: not (self._broken or self._full))

    # What others call.

    @property
    def writable(self) -> bool:
        """Whether writes are taken: the store is not stopped, the disk neither full nor failing."""
        return not (self._stopped or self._broken or self._full)

    @property
    def failing(self) -> bool:
        """Whether the disk failed and was not repaired since: it may hold what its writers were told is lost."""
        return self._broken

    def commit(self, unit: Unit) -> Deferred[tuple[Change, ...]]:
        """Check a unit, flush it, apply it; its changes, once they are durable and readers see them. Watchers are told afterwards.

        Fails with the `Fault` that kept it from being done: one of `Tree.stage`, `Malformed` for what cannot be stored, `Overloaded`,
        `StorageFull`, `StorageFailed`. May be called from what it calls: from a writer's callback or a watcher.
        """
        try:
            size_bytes = weigh(unit)
            self._admit(unit, size_bytes)
            staged = self._tree.stage(unit, self._clock.now_ms())
        except Fault as fault:
            return fail(fault)
        done: Deferred[tuple[Change, ...]] = Deferred()
        self._queue.append(_Waiting(staged, done, size_bytes))
        self._queued_bytes += size_bytes
        self._start()
        return done

    def touch(self, path: Path) -> None:
        """The volatile attributes at the path changed (`Tree.volatile`): save them within a minute. Costs an addition to a set."""
        self._touched.add(path)
        if self._save_call is None and not self._stopped:
            self._save_call = self._reactor.callLater(VOLATILE_S, self._save_volatile)

    def read_journal(self, name: str, after: int = 0, limit: int = 100, newest: bool = False) -> Deferred[list[Entry]]:
        """See `IJournals`. What is not committed is not shown. Fails with `StorageFailed`, or `Overloaded`."""
        if len(self._reading.waiting) >= MAX_READS_WAITING:
            return fail(Overloaded("too many journals are being read"))
        read = partial(self._database.read_journal, name, self._tree.committed_number, after, limit, newest)
        entries: Deferred[list[Entry]] = self._reading.run(self._run_blocking, read)
        return entries

    def start(self) -> None:
        """Take writes again after a stop: the database was opened anew, and what it was before does not count."""
        self._stopped = self._broken = self._full = self._mend_due = False
        self._tidy_from_s = 0.0

    def stop(self) -> Deferred[None]:
        """Take no further writes, finish those that were taken, save the volatile attributes. A Deferred that fires after."""
        self._stopped = True
        for call in (self._save_call, self._retry_call):
            if call is not None:
                call.cancel()
        self._save_call = self._retry_call = None
        self._mend_due = self._broken
        self._saving.extend(self._touched)
        self._touched.clear()
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._start()
        return idle.addCallback(lambda _: self._reading.run(lambda: None))

    # Taking.

    def _admit(self, unit: Unit, size_bytes: int) -> None:
        if self._stopped:
            raise StorageFailed("the store is stopped")
        if self._broken:
            raise StorageFailed("the disk failed; it is being tried again")
        if self._full and not _only_removes(unit):
            raise StorageFull("the disk is full; only removals are taken")
        if len(self._queue) >= MAX_QUEUED_UNITS or (self._queue and self._queued_bytes + size_bytes > MAX_QUEUED_BYTES):
            raise Overloaded("too many writes wait for the disk")

    def _start(self) -> None:
        """Write what waits, unless that is under way."""
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._run()).addErrback(self._bug)

    async def _run(self) -> None:
        """Round by round, until nothing is left to do. One at a time, so that whoever calls in from here is served afterwards."""
        try:
            while self._mend_due or ((self._queue or self._saving) and not self._broken):
                if self._mend_due:
                    await self._mend()
                else:
                    await self._round()
        finally:
            self._running = False
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    async def _round(self) -> None:
        """One transaction, one flush."""
        batch = self._take_batch()
        paths = self._saving[:VOLATILE_BATCH]
        del self._saving[:VOLATILE_BATCH]
        began_s = self._reactor.seconds()
        try:
            self._database.write([waiting.staged for waiting in batch], self._volatile(paths))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must be told
            self._lose(batch, paths, self._as_fault(error))
            return
        try:
            await self._run_blocking(self._database.flush)
        except Exception as error:  # noqa: BLE001 - the same
            self._broken = True
            self._undo()
            self._lose(batch, paths, self._as_fault(error))
            return
        self._flushes.observe(self._reactor.seconds() - began_s)
        self._finish(batch)
        await self._tidy()

    def _take_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size_bytes = 0
        while self._queue and len(batch) < MAX_BATCH_UNITS:
            size_bytes += self._queue[0].size_bytes
            if batch and size_bytes > MAX_BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
            self._queued_bytes -= batch[-1].size_bytes
        return batch

    def _finish(self, batch: Sequence[_Waiting]) -> None:
        """The batch is durable: readers see it, then the writers are answered, then the watchers told."""
        for waiting in batch:
            self._tree.apply(waiting.staged)
        self._committed.add(len(batch))
        for waiting in batch:
            waiting.done.callback(waiting.staged.changes)
        for waiting in batch:
            self._tree.tell(waiting.staged)

    async def _tidy(self) -> None:
        if self._reactor.seconds() < self._tidy_from_s or not self._database.needs_tidy():
            return
        began_s = self._reactor.seconds()
        try:
            await self._run_blocking(self._database.tidy)
        except Exception as error:  # noqa: BLE001 - nothing is lost: the log goes on growing until the disk takes it over
            self._log.warn("the write-ahead log was not taken over, it goes on growing: {error}", error=error)
            self._tidy_from_s = self._reactor.seconds() + RETRY_S
        self._tidies.observe(self._reactor.seconds() - began_s)

    # Volatile attributes.

    def _save_volatile(self) -> None:
        self._save_call = None
        self._saving.extend(self._touched)
        self._touched.clear()
        self._start()

    def _volatile(self, paths: Sequence[Path]) -> Volatile:
        return [(path, dict(self._tree.volatile(path))) for path in paths if self._tree.find(path) is not None]

    # A disk that fails or is full.

    def _lose(self, batch: Sequence[_Waiting], paths: Sequence[Path], fault: Fault) -> None:
        """A batch was not written: it fails, and all that was staged on top of it."""
        lost = [*batch, *self._queue]
        self._queue.clear()
        self._queued_bytes = 0
        self._tree.drop_pending()
        self._failed.add(len(lost))
        if self._broken or isinstance(fault, StorageFull):
            if not self._full:
                self._room_made = False
            self._full = self._full or isinstance(fault, StorageFull)
            self._mend_due = True
        self._log.error("{count} writes were not stored: {fault} ({cause})", count=len(lost), fault=fault, cause=fault.__cause__)
        removed = (change.path for waiting in batch for change in waiting.staged.changes if change.after is None)
        for path in (*paths, *removed):
            self.touch(path)
        for waiting in lost:
            waiting.done.errback(type(fault)(fault.detail))

    def _undo(self) -> bool:
        try:
            self._database.undo()
        except Fault as fault:
            self._log.warn("what was not flushed could not be undone yet: {fault} ({cause})", fault=fault, cause=fault.__cause__)
            return False
        return True

    async def _mend(self) -> None:
        """Bring a disk that failed or was full back into use, as far as it lets us; else again in a second."""
        self._mend_due = False
        try:
            if self._full and not self._room_made:
                await self._run_blocking(self._database.make_room)
                self._room_made = True
                if not self._broken:
                    await self._run_blocking(self._database.tidy)
            if self._broken and self._undo():
                await self._run_blocking(self._database.repair)
                self._broken = False
                self._log.info("the disk works again")
            if self._full and not self._broken and await self._run_blocking(self._database.has_room):
                self._full = False
                self._log.info("the disk has room again")
        except Exception as error:  # noqa: BLE001 - it is tried again, for ever
            self._log.warn("the disk cannot be used yet: {error}", error=error)
        if (self._broken or self._full) and not self._stopped and self._retry_call is None:
            self._retry_call = self._reactor.callLater(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retry_call = None
        self._mend_due = True
        self._start()

    def _as_fault(self, error: Exception) -> Fault:
        if isinstance(error, StorageFull | StorageFailed):
            return error
        self._log.failure("the store failed in a way that nobody foresaw")
        return StorageFailed(str(error))

    def _bug(self, failure: Failure) -> None:
        self._log.failure("writing stopped until the next write", failure)


def _only_removes(unit: Unit) -> bool:
    return bool(unit.changes) and all(isinstance(part, Remove) for part in unit.changes)
