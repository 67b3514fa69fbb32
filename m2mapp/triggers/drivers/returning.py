"""Operations whose target is away: each waits until its target is heard again, and is then evaluated anew (spec section 7).

Of one operation and target the latest change waits; it waits over a restart, and until the operation's `expiry` is over. A target counts as
heard when a datagram comes from its address or its device registers; as other nodes may never send anything, it is also tried now and then,
more and more seldom. Not responsible for whether a target is away, nor for evaluating: `again`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Overloaded
from m2mapp.model.interfaces import IClock
from m2mapp.model.metrics import Metrics
from m2mapp.net.alarm import Alarm
from m2mapp.tree.registrations import SCL, SCLS, Device, Registrations, device_of
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Document
from m2mapp.tree.watch import Watch
from m2mapp.triggers.changes import SubjectChange, change_in
from m2mapp.triggers.drivers.keeping import Keeper
from m2mapp.triggers.trace import Evaluation, Outcome

Again = Callable[[str, SubjectChange], Deferred[bool]]
"""Evaluates an operation anew for a change, and sends what comes of it: whether that settled it; False: the target is still away.

It is cancelled at the stop."""

K = TypeVar("K")
MOST, MOST_BYTES = 4_096, 4 << 20
"""So many operations wait for their targets at most, and so many bytes of changes with them (`SubjectChange.weight`)."""
FIRST_TRY_S, LAST_TRY_S = 5.0, 300.0
"""A target that is not heard is tried after so long, each time after twice as long, and at last so often."""
HEARD_AGAIN_S = 1.0
"""A target that was tried is tried again, because it is heard, after so long at the earliest."""
AT_ONCE = 16
KEY = "a/"


@dataclass(slots=True, eq=False)
class _Waiting:
    """One operation that waits for one target. `until_s` and `due_s` are of the reactor's clock; `trying` while it is evaluated anew."""

    operation: str
    target: str
    change: SubjectChange
    since_ms: int
    for_s: float
    until_s: float
    due_s: float
    pause_s: float = FIRST_TRY_S
    tried_s: float = -inf
    trying: Deferred[bool] | None = None

    def document(self) -> Document:
        """How it is kept."""
        return {
            "operation": self.operation,
            "target": self.target,
            "change": self.change.document(),
            "since": self.since_ms,
            "for": self.for_s,
        }


class Away:
    """What waits for targets of one node.

    `note` records what became of those that waited in vain. `settled` says which operations of a change were done with before the last
    stop; `forget` is told of an operation and change that wait no more. `again` is set before the start.
    """

    _log = Logger()

    def __init__(  # noqa: PLR0913 - what it stands on, by name
        self,
        *,
        keeper: Keeper,
        tree: Tree,
        registrations: Registrations,
        reactor: IReactorTime,
        clock: IClock,
        note: Callable[[Evaluation], None],
        settled: Callable[[int], frozenset[str]],
        forget: Callable[[int, str], object],
        metrics: Metrics,
    ) -> None:
        self._keeper, self._tree, self._registrations = keeper, tree, registrations
        self._reactor, self._clock, self._note = reactor, clock, note
        self._settled, self._forget = settled, forget
        self.again: Again = _nobody
        self._waiting: dict[str, _Waiting] = {}
        self._weight = 0
        self._by_host: dict[str, dict[str, None]] = {}
        self._by_number: dict[int, dict[str, None]] = {}
        self._by_operation: dict[str, dict[str, None]] = {}
        self._watch: Watch | None = None
        self._alarm = Alarm(reactor, self._look)
        metrics.gauge("m2mapp_operations_away", "Operations that wait for a target to be heard again", lambda: len(self._waiting))

    def __len__(self) -> int:
        return len(self._waiting)

    def numbers(self) -> set[int]:
        """The numbers of the changes for which operations wait."""
        return set(self._by_number)

    def operations(self, number: int) -> set[str]:
        """The operations that wait for a change."""
        return {self._waiting[key].operation for key in self._by_number.get(number, ())}

    def wait(self, operation: str, target: str, change: SubjectChange, for_s: float) -> None:
        """Wait for a target, so many seconds at most, in place of an earlier change. Raises `Overloaded` where too many wait."""
        key = _key(operation, target)
        before = self._waiting.get(key)
        if before is not None and before.change.number == change.number:
            return  # It was tried, and goes on waiting.
        if before is not None and before.change.number > change.number:
            self._vain(operation, change, Outcome.REPLACED, "a later change waits for the target")
            return
        weight = self._weight + change.weight - (before.change.weight if before is not None else 0)
        if (before is None and len(self._waiting) >= MOST) or weight > MOST_BYTES:
            raise Overloaded(f"{len(self._waiting)} operations wait for targets that are away, and no more can")
        now_s = self._reactor.seconds()
        waiting = _Waiting(operation, target, change, self._clock.now_ms(), for_s, now_s + for_s, now_s + FIRST_TRY_S)
        if before is not None:
            self._leave(key)
            waiting.trying, waiting.tried_s = before.trying, before.tried_s
            self._vain(operation, before.change, Outcome.REPLACED, f"change {change.number} took its place while the target was away")
        self._enter(key, waiting)
        self._keeper.put(key, waiting.document)
        self._look_later()

    def takes(self, operation: str, change: SubjectChange, for_s: float) -> bool:
        """Whether the operation waits for its target already, for an earlier change: then this one waits in its place from now on.

        So a target that is away keeps the changes behind it waiting once, not each of them until its request has had no answer. One that
        is too large to wait is not taken.
        """
        earlier = [self._waiting[key] for key in self._by_operation.get(operation, ())]
        target = next((one.target for one in earlier if one.change.number < change.number), None)
        if target is None:
            return False
        try:
            self.wait(operation, target, change, for_s)
        except Overloaded:
            return False
        return True

    def heard(self, address: str) -> None:
        """A datagram came from this address (canonical, a link-local one with its zone). Called for each: it costs next to nothing."""
        if self._by_host:
            device = self._registrations.at_address(address)
            self._heard((address, *_names(device))) if device is not None else self._heard((address,))

    def restore(self) -> None:
        """Take over what the keeper has read. The time that passed counts as the wall clock has it, forward only."""
        now_s, now_ms = self._reactor.seconds(), self._clock.now_ms()
        for key, kept in self._keeper.log.below(KEY):
            change, since_ms, for_s = kept.get("change"), kept.get("since"), kept.get("for")
            found = change_in(change) if isinstance(change, dict) else None
            if key in self._waiting or found is None or not isinstance(since_ms, int) or not isinstance(for_s, int | float):
                continue
            operation, target = str(kept.get("operation")), str(kept.get("target"))
            if operation in self._settled(found.number):
                self._keeper.remove(key)
                continue
            left_s = for_s - max(0.0, (now_ms - since_ms) / 1000)
            self._enter(key, _Waiting(operation, target, found, since_ms, for_s, now_s + left_s, now_s))

    def start(self) -> None:
        """Follow the targets from now on."""
        self._watch = self._tree.watch(SCLS, self._on_change, subtree=True)
        self._look()

    def stop(self) -> None:
        """Follow them no more; what is being tried is cancelled, and waits on."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._alarm.stop()
        for waiting in self._waiting.values():
            trying, waiting.trying = waiting.trying, None
            if trying is not None:
                trying.cancel()

    def _enter(self, key: str, waiting: _Waiting) -> None:
        self._waiting[key] = waiting
        self._weight += waiting.change.weight
        self._by_host.setdefault(parse_uri(waiting.target).host, {})[key] = None
        self._by_number.setdefault(waiting.change.number, {})[key] = None
        self._by_operation.setdefault(waiting.operation, {})[key] = None

    def _leave(self, key: str) -> None:
        waiting = self._waiting.pop(key)
        self._weight -= waiting.change.weight
        _remove(self._by_host, parse_uri(waiting.target).host, key)
        _remove(self._by_number, waiting.change.number, key)
        _remove(self._by_operation, waiting.operation, key)
        self._forget(waiting.change.number, waiting.operation)

    def _on_change(self, change: Change) -> None:
        if change.after is not None and change.after.type == SCL and self._by_host:
            self._heard(_names(device_of(change.after)))

    def _heard(self, hosts: Iterable[str]) -> None:
        now_s = self._reactor.seconds()
        is_sooner = False
        for key in [key for host in dict.fromkeys(hosts) for key in self._by_host.get(host, ())]:
            waiting = self._waiting[key]
            due_s = max(now_s, waiting.tried_s + HEARD_AGAIN_S)
            if due_s < waiting.due_s:
                waiting.due_s, waiting.pause_s, is_sooner = due_s, FIRST_TRY_S, True
        if is_sooner:
            self._look_later()

    # Trying.

    def _look_later(self) -> None:
        """Look when the first one is due or over."""
        if self._watch is None:
            return
        self._alarm.stop()
        soonest = min((min(one.due_s, one.until_s) for one in self._waiting.values() if one.trying is None), default=None)
        if soonest is not None and sum(one.trying is not None for one in self._waiting.values()) < AT_ONCE:
            self._alarm.set(soonest - self._reactor.seconds())

    def _look(self) -> None:
        now_s = self._reactor.seconds()
        free = AT_ONCE - sum(one.trying is not None for one in self._waiting.values())
        for key, waiting in list(self._waiting.items()):
            if waiting.trying is not None:
                continue
            if waiting.until_s <= now_s:
                self._over(key)
                self._vain(waiting.operation, waiting.change, Outcome.EXPIRED, f"the target was away for {waiting.for_s:g} s")
            elif waiting.due_s <= now_s and free > 0:
                free -= 1
                self._try(key, waiting)
        self._look_later()

    def _try(self, key: str, waiting: _Waiting) -> None:
        waiting.tried_s = self._reactor.seconds()
        trying = waiting.trying = maybeDeferred(self.again, waiting.operation, waiting.change)
        trying.addBoth(self._tried, key, waiting.change, trying)

    def _tried(self, result: bool | Failure, key: str, change: SubjectChange, trying: Deferred[bool]) -> None:
        waiting = self._waiting.get(key)
        if waiting is None or waiting.trying is not trying:
            return  # It was cancelled at the stop.
        waiting.trying = None
        if isinstance(result, Failure):
            self._log.failure("{operation} could not be evaluated anew", result, operation=waiting.operation)
        if result is False:
            waiting.due_s = self._reactor.seconds() + waiting.pause_s
            waiting.pause_s = min(LAST_TRY_S, waiting.pause_s * 2)
        elif waiting.change is change:
            self._over(key)
        else:
            waiting.due_s = self._reactor.seconds()  # The target is there, and a later change has come meanwhile.
        self._look_later()

    def _over(self, key: str) -> None:
        """It waits no more. That is written before what is known of its run is forgotten."""
        self._keeper.remove(key)
        self._leave(key)

    def _vain(self, operation: str, change: SubjectChange, outcome: Outcome, why: str) -> None:
        self._note(Evaluation(operation, change, self._clock.now_ms(), outcome, why))


def _key(operation: str, target: str) -> str:
    return f"{KEY}{operation} {target}"


def _remove(index: dict[K, dict[str, None]], of: K, key: str) -> None:
    keys = index[of]
    del keys[key]
    if not keys:
        del index[of]


def _names(device: Device) -> tuple[str, ...]:
    """The hosts by which URIs may name a device."""
    return (device.name, *(host.lower() for host in device.hosts), *device.addresses)


def _nobody(operation: str, _: SubjectChange) -> Deferred[bool]:
    raise LookupError(f"nobody evaluates {operation}")
