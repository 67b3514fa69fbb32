"""Commits what operations have to know after a restart (`state_log`) and the records of their runs: gathered, so that commits are shared.

What comes in one turn of the reactor is one unit, and what comes while that is under way shares the next one. Who has to know that it is
durable before going on has what is gathered committed at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.model.interfaces import ICommit, IJournals
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import OPERATIONS, Append, Entry, Unit
from m2mapp.triggers.state_log import Make, StateLog, floor_of

PAGE = 1_000
RETRY_S = 1.0
"""What could not be committed (a full disk) is tried again after so long."""
LATER_S = 0.1
"""What is no haste to be forgotten waits so long for more of its kind, unless something else is committed."""
MOST_APPENDS = 1_000
"""So many records wait for a disk that fails; the oldest are let go."""
_APPENDS_AT_ONCE = 64
_KEYS_AT_ONCE = 1_000


@dataclass(slots=True, eq=False)
class _Gathered:
    """What is to be committed: documents (None: gone), records, and who waits for it."""

    puts: dict[str, Make] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    appends: list[Append] = field(default_factory=list)
    waiting: list[Deferred[None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.puts or self.gone or self.appends or self.waiting)


class Keeper:
    """The state log of one node and what is gathered for it."""

    _log = Logger()

    def __init__(self, tree: Tree, committer: ICommit, journals: IJournals, reactor: IReactorTime, log: StateLog | None = None) -> None:
        self._tree, self._committer, self._journals, self._reactor = tree, committer, journals, reactor
        self.log = StateLog() if log is None else log
        self._gathered = _Gathered()
        self._returned: list[Append] = []
        self._flying: list[_Gathered] = []
        self._call: IDelayedCall | None = None
        self._is_later = False
        self._stopped = False

    def put(self, key: str, make: Make, record: Append | None = None) -> None:
        """Keep a document under a key, in place of what is there, and in the same unit append a record to its journal."""
        self._gathered.gone.pop(key, None)
        self._gathered.puts[key] = make
        if record is not None:
            self._gathered.appends.append(record)
        self._start()

    def remove(self, key: str, record: Append | None = None, *, soon: bool = True) -> None:
        """Keep nothing under a key any more, and in the same unit append a record to its journal; not `soon`: within `LATER_S`."""
        if self._gathered.puts.pop(key, None) is None or key in self.log:
            self._gathered.gone[key] = None
        if record is not None:
            self._gathered.appends.append(record)
        if soon or len(self._gathered.gone) >= _KEYS_AT_ONCE:
            self._start()
        elif self._call is None and not self._flying and not self._stopped:
            self._call = self._reactor.callLater(LATER_S, self._called)
            self._is_later = True

    def append(self, append: Append) -> None:
        """Append a record to its journal."""
        self._gathered.appends.append(append)
        self._start()

    @property
    def backlog(self) -> int:
        """How many records wait for the next unit."""
        return len(self._returned) + len(self._gathered.appends)

    def saved(self, puts: Mapping[str, Make] = MappingProxyType({})) -> Deferred[None]:
        """Commit all that was given until now, and these documents: fires when that is durable, fails with the `Fault` that hindered it.

        Who waits no longer changes nothing of it.
        """
        for key, make in puts.items():
            self._gathered.gone.pop(key, None)
            self._gathered.puts[key] = make
        done: Deferred[None] = Deferred()
        self._gathered.waiting.append(done)
        self._commit()
        return done

    def kick(self) -> None:
        """Write again what has grown old in the journal, if anything has."""
        if self.log.stale():
            self._start(even_nothing=True)

    def restore(self) -> Deferred[None]:
        """Read what was kept before the last stop. Fails where the journal cannot be read: nothing is forgotten then."""
        return Deferred.fromCoroutine(self._restore())

    def start(self) -> None:
        """Commit from now on."""
        self._stopped = False
        self._start()

    def stop(self) -> Deferred[None]:
        """Commit what is gathered, and then nothing any more; fires when that is done or could not be."""
        self._cancel()
        self._stopped = True
        return self.saved().addErrback(self._lost_at_stop)

    def _start(self, even_nothing: bool = False) -> None:
        """Commit what is gathered in the next turn of the reactor, unless something is under way: then after that."""
        if self._flying or self._stopped:
            return
        if self._call is not None and self._is_later:
            self._call.reset(0)
            self._is_later = False
        elif self._call is None and (self._gathered or self._returned or even_nothing):
            self._call = self._reactor.callLater(0, self._called)

    def _called(self) -> None:
        self._call, self._is_later = None, False
        if self._gathered or self._returned or self.log.stale():
            self._commit()

    def _commit(self) -> None:
        """Commit what is gathered, in parts of a bounded size; those who wait, wait for the last one."""
        gathered, self._gathered = self._gathered, _Gathered()
        gathered.appends = [*self._returned, *gathered.appends][-MOST_APPENDS:] if self._returned else gathered.appends
        self._returned = []
        for part in _parts(gathered):
            self._commit_part(part)

    def _commit_part(self, part: _Gathered) -> None:
        puts = {**self.log.stale(), **part.puts}
        for going in (*self._flying, part):
            for key in going.gone.keys() - part.puts.keys():
                puts.pop(key, None)  # What is old and on its way out is not written again.
        number = self._tree.next_number
        appends = tuple(part.appends)
        if puts or part.gone:
            appends += (self.log.entry(number, puts, part.gone),)
        self._flying.append(part)
        done: Deferred[object] = maybeDeferred(self._committer.commit, Unit(appends=appends))
        done.addCallbacks(self._committed, self._failed, (number, part, list(puts)), {}, (part,))
        done.addErrback(lambda failure: self._log.failure("what operations keep is in disorder", failure))

    def _committed(self, _: object, number: int, part: _Gathered, puts: list[str]) -> None:
        self._flying.remove(part)
        self.log.settle(number, puts, part.gone)
        for waiting in part.waiting:
            waiting.callback(None)
        self._start()

    def _failed(self, failure: Failure, part: _Gathered) -> None:
        """It is tried again, but for the keys of which something newer is to be committed, or is on its way."""
        place = self._flying.index(part)
        newer = (*self._flying[place + 1 :], self._gathered)
        del self._flying[place]
        for key, make in part.puts.items():
            if not any(key in one.puts or key in one.gone for one in newer):
                self._gathered.puts[key] = make
        for key in part.gone:
            if not any(key in one.puts or key in one.gone for one in newer):
                self._gathered.gone[key] = None
        self._returned += part.appends
        del self._returned[:-MOST_APPENDS]
        if not self._stopped:
            self._log.warn("what operations keep could not be written yet: {fault}", fault=failure.getErrorMessage())
            self._cancel()
            self._call = self._reactor.callLater(RETRY_S, self._called)
        for one in part.waiting:
            one.errback(failure)

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call, self._is_later = None, False

    def _lost_at_stop(self, failure: Failure) -> None:
        self._log.warn("what operations keep could not be written at the stop: {fault}", fault=failure.getErrorMessage())

    async def _restore(self) -> None:
        if self.log.complete:
            return
        newest: list[Entry] = await self._journals.read_journal(OPERATIONS, limit=1, newest=True)
        after = floor_of(newest[0]) - 1 if newest else 0
        while newest:
            page: list[Entry] = await self._journals.read_journal(OPERATIONS, after=max(0, after), limit=PAGE)
            self.log.restore(entry for entry in page if entry.number <= newest[0].number)
            if not page or page[-1].number >= newest[0].number:
                break
            after = page[-1].number
        self.log.complete = True


def _parts(gathered: _Gathered) -> Iterator[_Gathered]:
    """The same in parts of a bounded size: a record goes with the documents or before, removals last, and who waits, waits for the last."""
    while len(gathered.appends) > _APPENDS_AT_ONCE:
        yield _Gathered(appends=gathered.appends[:_APPENDS_AT_ONCE])
        del gathered.appends[:_APPENDS_AT_ONCE]
    while len(gathered.gone) > _KEYS_AT_ONCE:
        some = list(gathered.gone)[:_KEYS_AT_ONCE]
        yield _Gathered(puts=gathered.puts, appends=gathered.appends, gone=dict.fromkeys(some))
        gathered.puts, gathered.appends = {}, []
        for key in some:
            del gathered.gone[key]
    yield gathered
