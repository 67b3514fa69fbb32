"""A database that only remembers: for simulations, and to measure what the disk costs. Its flushes fail, tear and run full on demand.

Keeps what a process would have on disk apart from what it has written: `crash` leaves the first, and a random beginning of the second.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from m2mapp.model.errors import StorageFailed, StorageFull
from m2mapp.model.identifiers import Path
from m2mapp.store.interfaces import IDatabase, Volatile
from m2mapp.store.settings import StoreSettings
from m2mapp.tree.unit import Change, Document, Entry, Resource, Staged, journals_ended

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Transaction:
    """What one transaction leaves: resources (None: gone), volatile attributes, entries, and up to which number journals are dropped."""

    resources: dict[Path, Resource | None]
    last_number: int
    volatile: Volatile = ()
    entries: tuple[Entry, ...] = ()
    dropped: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class _Undo:
    """The opposite of some: the resources as they were before, and what is taken back of the journals."""

    resources: dict[Path, Resource | None]
    entries: tuple[Entry, ...]
    dropped: frozenset[tuple[str, int]]


@dataclass(slots=True)
class _State:
    settings: StoreSettings
    resources: dict[Path, Resource] = field(default_factory=dict)
    volatile: dict[Path, Document] = field(default_factory=dict)
    journals: dict[str, list[Entry]] = field(default_factory=dict)
    dropped: set[tuple[str, int]] = field(default_factory=set)
    last_number: int = 0

    def apply(self, transaction: _Transaction | _Undo) -> None:
        """Make the transaction."""
        if isinstance(transaction, _Undo):
            self._put(transaction.resources)
            for entry in transaction.entries:
                self.journals[entry.journal] = [kept for kept in self.journals.get(entry.journal, []) if kept.number != entry.number]
            self.dropped -= transaction.dropped
            return
        for name, upto in self.dropped:
            self.journals[name] = [kept for kept in self.journals.get(name, []) if kept.number > upto]
        self.dropped = set(transaction.dropped)
        self.volatile.update(transaction.volatile)
        self._put(transaction.resources)
        for entry in transaction.entries:
            journal = self.journals.setdefault(entry.journal, [])
            journal.append(entry)
            limit = self.settings.journal(entry.journal).entries
            del journal[: max(0, len(journal) - limit - limit // 8)]
        self.last_number = max(self.last_number, transaction.last_number)

    def read(self, name: str, after: int, upto: int) -> list[Entry]:
        """The entries of a journal above one number, not above the other, without those of a resource that went."""
        floor = max((number for dropped, number in self.dropped if dropped == name and number <= upto), default=0)
        return [entry for entry in self.journals.get(name, ()) if max(after, floor) < entry.number <= upto]

    def copy(self) -> _State:
        """The same, apart."""
        journals = {name: list(entries) for name, entries in self.journals.items()}
        return _State(self.settings, dict(self.resources), dict(self.volatile), journals, set(self.dropped), self.last_number)

    def _put(self, resources: dict[Path, Resource | None]) -> None:
        for path, resource in resources.items():
            if resource is None:
                self.resources.pop(path, None)
                self.volatile.pop(path, None)
            else:
                self.resources[path] = resource


@implementer(IDatabase)
class MemoryDatabase:
    """See `IDatabase`. Everything random comes from `chance`, so the same seed gives the same run.

    To make it fail: `fail_flushes` of the next flushes and repairs fail; while `full` is true every write but removals does.
    """

    def __init__(self, chance: random.Random, settings: StoreSettings | None = None) -> None:
        self._chance = chance
        self._settings = settings or StoreSettings()
        self._durable, self._written = _State(self._settings), _State(self._settings)
        self._pending: list[_Transaction | _Undo] = []
        self._unflushed: list[Staged] = []
        self._open = False
        self.fail_flushes = 0
        self.full = False
        self.flushes = 0

    def open(self) -> None:
        """See `IDatabase`."""
        self._open = True

    def close(self) -> None:
        """See `IDatabase`."""
        if self._open:
            self.flush()
            self._open = False

    def crash(self) -> None:
        """The process is killed, or the power fails: what was not flushed is lost, but for a random beginning of it."""
        for transaction in self._pending[: self._chance.randint(0, len(self._pending))]:
            self._durable.apply(transaction)
        self._pending.clear()
        self._unflushed.clear()
        self._written = self._durable.copy()
        self._open = False

    def load(self) -> tuple[Iterator[tuple[Resource, Document | None]], int]:
        """See `IDatabase`."""
        state = self._written
        return ((found, state.volatile.get(found.path)) for found in list(state.resources.values())), state.last_number

    def write(self, units: Sequence[Staged], volatile: Volatile = ()) -> None:
        """See `IDatabase`."""
        self._check_open()
        changes = [change for staged in units for change in staged.changes]
        if self.full and not (changes and all(change.after is None for change in changes)):
            raise StorageFull("the disk is full; the write was dropped")
        entries = tuple(entry for staged in units for entry in staged.entries)
        states = {change.path: change.after for change in changes}
        last_number = units[-1].last_number if units else 0
        self._do(_Transaction(states, last_number, volatile, entries, _dropped(changes)))
        self._unflushed.extend(units)

    def undo(self) -> None:
        """See `IDatabase`."""
        self._check_open()
        changes = [change for staged in self._unflushed for change in staged.changes]
        entries = tuple(entry for staged in self._unflushed for entry in staged.entries)
        self._do(_Undo({change.path: change.before for change in reversed(changes)}, entries, _dropped(changes)))
        self._unflushed.clear()

    def flush(self) -> None:
        """See `IDatabase`."""
        self._check_open()
        if self.fail_flushes:
            self.fail_flushes -= 1
            raise StorageFailed("the disk failed; the write was dropped")
        self.flushes += 1
        for transaction in self._pending:
            self._durable.apply(transaction)
        self._pending.clear()
        self._unflushed.clear()

    def repair(self) -> None:
        """See `IDatabase`."""
        self.flush()

    def needs_tidy(self) -> bool:
        """See `IDatabase`."""
        return False

    def tidy(self) -> None:
        """See `IDatabase`."""
        self._check_open()

    def make_room(self) -> None:
        """See `IDatabase`."""
        self._check_open()

    def has_room(self) -> bool:
        """See `IDatabase`."""
        return not self.full

    def read_journal(self, name: str, upto: int, after: int, limit: int, newest: bool) -> list[Entry]:
        """See `IDatabase`."""
        self._check_open()
        entries = self._written.read(name, after, upto)
        limit = max(0, limit)
        return entries[max(0, len(entries) - limit) :] if newest else entries[:limit]

    def _do(self, transaction: _Transaction | _Undo) -> None:
        self._written.apply(transaction)
        self._pending.append(transaction)

    def _check_open(self) -> None:
        if not self._open:
            raise StorageFailed("the store is not open")


class SlowDisk:
    """Stands for the store's threads in simulations: each call happens on the reactor, after a time; `crash` leaves it undone.

    `latency_s` gives the seconds of the next call.
    """

    def __init__(self, reactor: IReactorTime, latency_s: Callable[[], float]) -> None:
        self._reactor, self._latency_s = reactor, latency_s
        self._under_way: dict[int, IDelayedCall] = {}
        self._count = 0

    def run(self, call: Callable[[], T], /) -> Deferred[T]:
        """See `store.threads.RunBlocking`."""
        done: Deferred[T] = Deferred()
        self._count += 1
        self._under_way[self._count] = self._reactor.callLater(self._latency_s(), self._finish, self._count, call, done)
        return done

    def crash(self) -> None:
        """Whatever is under way never happens, and nobody hears of it."""
        for delayed in self._under_way.values():
            delayed.cancel()
        self._under_way.clear()

    def _finish(self, number: int, call: Callable[[], T], done: Deferred[T]) -> None:
        del self._under_way[number]
        maybeDeferred(call).chainDeferred(done)


def _dropped(changes: Iterable[Change]) -> frozenset[tuple[str, int]]:
    """The journals that go with what the changes end."""
    return frozenset((name, change.number) for change in changes for name in journals_ended(change))
