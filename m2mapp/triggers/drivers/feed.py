"""The durable feed: each write of a subject that was answered is handed on to its operations, whatever happens after the answer.

A change is noted in the very unit that makes it (`IFollow`), handed on when that is durable, and forgotten, durably, when it was dealt
with; after a start what was not is handed on again. In order for each subject, subjects side by side, at most `workers` at a time, each for
one change and then behind those that wait. One whose operations take longer than `PATIENCE_S`, since they wait for a target, makes room for
another, so that targets that hang hold their own subjects only. Not responsible for what a change sets off: the handler.

The room for changes that wait is bounded, and a subject has half of what is left of it: one whose operations are slower than its writers
has further writes refused (`Overloaded`: 503, 5.03), and no other is slowed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.model.errors import Overloaded
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IFollow
from m2mapp.model.metrics import Metrics
from m2mapp.tree.unit import Append, Change, Unit
from m2mapp.triggers.changes import SubjectChange, change_in, written_by
from m2mapp.triggers.drivers.keeping import Keeper
from m2mapp.triggers.state_log import Make

Handler = Callable[[SubjectChange, frozenset[str]], Deferred[None] | None]
"""Evaluates the operations of a change, but for those named: they were done with before the last stop.

None: it was dealt with at once, and nothing was sent, as for most changes. Else a Deferred that fires when it is. That is cancelled
at the stop: then the change is handed on again after the next start."""

ROOM_BYTES = 8 << 20
"""What all changes that wait may take in memory, roughly (`SubjectChange.weight`): a quarter of what the journal keeps."""
RETRY_AFTER_S = 5
TURN_S = 0.005
"""So long changes are handed on in one turn of the reactor."""
PATIENCE_S = 1.0
"""A change that is under way for so long takes none of the `workers` any more; it waits, and costs memory alone."""
MOST_A_WORKER = 16
"""So many changes are under way for each of the `workers` at most, those that wait included."""
KEY = "c/"


@dataclass(slots=True)
class _Subject:
    """What waits of one subject, the oldest first, and its weight; the first of them is under way where there is `handling`."""

    waiting: deque[SubjectChange] = field(default_factory=deque)
    weight: int = 0
    handling: Deferred[None] | None = None


@implementer(IFollow)
class Feed:
    """The changes of all subjects of one node that are not dealt with.

    `concerns` says of a path whether operations are tied to it. `settled` says which operations of a change were done with before the last
    stop; `forget` is told that a change was dealt with. `handler` is set before the start.
    """

    _log = Logger()

    def __init__(  # noqa: PLR0913 - what it stands on, by name
        self,
        *,
        keeper: Keeper,
        concerns: Callable[[Path], bool],
        reactor: IReactorTime,
        metrics: Metrics,
        workers: int = 16,
        settled: Callable[[int], frozenset[str]] = lambda _: frozenset(),
        forget: Callable[[int], object] = lambda _: None,
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        self._keeper, self._concerns, self._reactor, self._workers = keeper, concerns, reactor, workers
        self._settled, self._forget = settled, forget
        self.handler: Handler = _nobody
        self._subjects: dict[Path, _Subject] = {}
        self._ready: deque[Path] = deque()
        self._staged: deque[SubjectChange] = deque()
        self._room_bytes, self._used = room_bytes, 0
        self._busy = 0
        self._at_work: dict[Path, float] = {}
        self._running = self._handing = self._restored = False
        self._call: IDelayedCall | None = None
        self._patience: IDelayedCall | None = None
        self._taken = metrics.counter("m2mapp_operations_changes_total", "Changes of subjects that have operations", result="taken")
        self._refused = metrics.counter("m2mapp_operations_changes_total", "Changes of subjects that have operations", result="refused")
        metrics.gauge("m2mapp_operations_waiting", "Changes that wait for their operations", self.__len__)
        metrics.gauge("m2mapp_operations_busy", "Changes whose operations are under way", lambda: self._busy)

    def __len__(self) -> int:
        """How many changes wait or are under way."""
        return sum(len(subject.waiting) for subject in self._subjects.values())

    def numbers(self) -> set[int]:
        """The numbers of the changes that are not dealt with."""
        waiting = (change for subject in self._subjects.values() for change in subject.waiting)
        return {change.number for change in (*waiting, *self._staged)}

    def is_open(self, number: int) -> bool:
        """Whether a change is not dealt with."""
        return f"{KEY}{number}" in self._keeper.log

    # What the tree tells.

    def staged(self, unit: Unit, changes: Sequence[Change]) -> Sequence[Append]:
        """See `IFollow`. Raises `Overloaded` where a subject's operations do not keep up with its writers."""
        found: list[SubjectChange] = []
        for change in changes:
            if change.after is not None and change.after.content is not None and self._concerns(change.path):
                one = written_by(unit, change)
                if one is not None:
                    found.append(one)
        return self._take(found) if found else ()

    def committed(self, last_number: int) -> None:
        """See `IFollow`."""
        if not self._staged:
            return
        while self._staged and self._staged[0].number <= last_number:
            self._queue(self._staged.popleft())
        if self._call is None and self._running:
            self._call = self._reactor.callLater(0, self._answered)

    def dropped(self) -> None:
        """See `IFollow`."""
        for change in self._staged:
            self._keeper.log.drop(_key(change))
            self._weigh(change.path, -change.weight)
        self._staged.clear()

    # What the node tells.

    def add(self, change: SubjectChange) -> Deferred[None]:
        """Hand on a change that no write made, once it is durable; its number is the tree's next one. Fails where it was not kept."""
        key = _key(change)

        def kept(_: None) -> None:
            self._weigh(change.path, change.weight)
            self._queue(change)
            self._hand_on()

        def not_kept(failure: Failure) -> Failure:
            self._keeper.remove(key)
            return failure

        return self._keeper.saved({key: change.document}).addCallbacks(kept, not_kept)

    def restore(self) -> None:
        """Take over what the keeper has read of the time before the last stop."""
        if self._restored:
            return
        self._restored = True
        waiting = [change for subject in self._subjects.values() for change in subject.waiting]
        known = self.numbers()
        for _, document in self._keeper.log.below(KEY):
            change = change_in(document)
            if change is not None and change.number not in known:
                self._weigh(change.path, change.weight)
                waiting.append(change)
        self._ready.clear()
        for subject in self._subjects.values():
            subject.waiting.clear()
        for change in sorted(waiting, key=lambda one: one.number):
            self._queue(change)

    def start(self) -> None:
        """Hand on from now on."""
        self._running = True
        self._hand_on()

    def stop(self) -> None:
        """Hand on nothing any more; what is under way is cancelled, and is not dealt with."""
        self._running = False
        for call in (self._call, self._patience):
            if call is not None:
                call.cancel()
        self._call = self._patience = None
        for path, subject in list(self._subjects.items()):
            handling, subject.handling = subject.handling, None
            if handling is not None:
                handling.cancel()
                self._ready.append(path)
        self._busy = 0
        self._at_work.clear()

    # Taking.

    def _take(self, found: list[SubjectChange]) -> Sequence[Append]:
        more: dict[Path, int] = {}
        for change in found:
            more[change.path] = more.get(change.path, 0) + change.weight
        left = self._room_bytes - self._used
        for path, weight in more.items():
            subject = self._subjects.get(path)
            if (subject.weight if subject is not None else 0) + weight > left:
                self._refused.add()
                raise Overloaded(f"the operations of {path_text(path)} are behind its changes, and no more can wait", RETRY_AFTER_S)
        for path, weight in more.items():
            self._weigh(path, weight)
        self._staged.extend(found)
        self._taken.add(len(found))
        puts: dict[str, Make] = {_key(change): change.document for change in found}
        return (self._keeper.log.entry(found[0].number, puts, size_bytes=sum(change.size_bytes for change in found)),)

    def _weigh(self, path: Path, weight: int) -> None:
        """So much more waits of a subject, or less; one of which nothing waits is forgotten."""
        subject = self._subjects.get(path)
        if subject is None:
            subject = self._subjects[path] = _Subject()
        self._used += weight
        subject.weight += weight
        if not subject.weight:
            del self._subjects[path]

    # Handing on.

    def _queue(self, change: SubjectChange) -> None:
        subject = self._subjects[change.path]
        subject.waiting.append(change)
        if len(subject.waiting) == 1:
            self._ready.append(change.path)

    def _hand_on(self) -> None:
        """Hand on what can be, for a moment; the rest in the next turn of the reactor."""
        if self._handing or not self._running or self._call is not None:
            return
        self._handing = True
        until_s = self._reactor.seconds() + TURN_S
        try:
            while self._ready and len(self._at_work) < self._workers and self._busy < MOST_A_WORKER * self._workers:
                if self._reactor.seconds() >= until_s:
                    self._call = self._reactor.callLater(0, self._next_turn)
                    break
                self._hand(self._ready.popleft())
        finally:
            self._handing = False
        if self._ready and self._patience is None and len(self._at_work) >= self._workers:
            left_s = next(iter(self._at_work.values())) + PATIENCE_S - self._reactor.seconds()
            self._patience = self._reactor.callLater(max(0.0, left_s), self._make_room)

    def _make_room(self) -> None:
        """Those that are under way for long take no worker any more."""
        self._patience = None
        until_s = self._reactor.seconds() - PATIENCE_S
        for path in [path for path, since_s in self._at_work.items() if since_s <= until_s]:
            del self._at_work[path]
        self._hand_on()

    def _answered(self) -> None:
        """The answers to the writers are in the buffers of their connections: in the next turn of the reactor they have left."""
        self._call = self._reactor.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._call = None
        self._keeper.kick()
        self._hand_on()

    def _hand(self, path: Path) -> None:
        subject = self._subjects[path]
        change = subject.waiting[0]
        settled = self._settled(change.number)
        try:
            handling = self.handler(change, settled)
        except Exception:  # noqa: BLE001 - whatever it is, it must not keep the others from their turn
            handling = fail()
        if handling is None:
            self._over(subject, change, noted=bool(settled))
            return
        subject.handling = handling
        self._busy += 1
        self._at_work[path] = self._reactor.seconds()
        # One that is over at once has sent nothing, and does nothing again: that it is over may wait for the disk a little.
        handling.addBoth(self._ended, subject, change, handling, not handling.called)

    def _ended(self, result: Failure | None, subject: _Subject, change: SubjectChange, handling: Deferred[None], has_sent: bool) -> None:
        if subject.handling is not handling:
            return  # It was cancelled at the stop.
        subject.handling = None
        self._busy -= 1
        self._at_work.pop(change.path, None)
        if isinstance(result, Failure):
            told = "change {number} of {path} could not be dealt with"
            self._log.failure(told, result, number=change.number, path=path_text(change.path), trace=change.trace)
        self._over(subject, change, has_sent=has_sent)
        self._hand_on()

    def _over(self, subject: _Subject, change: SubjectChange, *, has_sent: bool = False, noted: bool = True) -> None:
        """A change is dealt with: it is forgotten, with what was `noted` of its operations, and the next one of its subject waits."""
        subject.waiting.popleft()
        self._keeper.remove(_key(change), soon=has_sent)
        if noted:
            self._forget(change.number)
        self._weigh(change.path, -change.weight)
        if subject.waiting:
            self._ready.append(change.path)


def _key(change: SubjectChange) -> str:
    return f"{KEY}{change.number}"


def _nobody(change: SubjectChange, _: Iterable[str]) -> Deferred[None]:
    raise LookupError(f"nobody evaluates the operations of {path_text(change.path)}")
