"""The fan-out machine: one group request from its first datagram to its joined answer (spec section 4).

Pure: it is told what happened and the time, and says what to send and when to wake. It alone decides about repeats. Its driver
(`drivers.fanout`) sends and keeps the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from m2mapp.formats.uris import address_key
from m2mapp.groups.results import MemberResult
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Answer, Method

REPAIR_AFTER_S = 0.5
"""How long after the leisure time an answer may still be under way before its member is asked again."""


class Phase(Enum):
    """Where a group request is."""

    WAITING = "waiting"
    REPAIRING = "repairing"
    DONE = "done"


class Event(Enum):
    """What can happen to a group request."""

    ANSWER = "answer"
    LAST_ANSWER = "last answer"
    LEISURE_OVER = "leisure over"
    DEADLINE = "deadline"


FANOUT: dict[tuple[Phase, Event], Phase] = {
    (Phase.WAITING, Event.ANSWER): Phase.WAITING,
    (Phase.WAITING, Event.LAST_ANSWER): Phase.DONE,
    (Phase.WAITING, Event.LEISURE_OVER): Phase.REPAIRING,
    (Phase.WAITING, Event.DEADLINE): Phase.DONE,
    (Phase.REPAIRING, Event.ANSWER): Phase.REPAIRING,
    (Phase.REPAIRING, Event.LAST_ANSWER): Phase.DONE,
    (Phase.REPAIRING, Event.DEADLINE): Phase.DONE,
    (Phase.DONE, Event.ANSWER): Phase.DONE,  # late: counted only
}
"""The transitions; an event that has none raises `KeyError` and changes nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """One member as it is asked: by its URI one by one, or known by the addresses that its device answers from."""

    uri: str
    addresses: tuple[str, ...] = ()
    port: int = 0


@dataclass(frozen=True, slots=True)
class MulticastLeg:
    """The members that one multicast request is for."""

    address: str
    port: int
    path: Path
    targets: tuple[Target, ...]
    leisure_s: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask one member by unicast; `via` is `unicast`, or `repair` where it was silent."""

    uri: str
    via: str


@dataclass(slots=True)
class FanOut:
    """One group request under way. Times are monotonic seconds.

    `repairable`: asking a silent member again does no harm (GET, PUT, DELETE; spec section 4: POST is not repaired).
    """

    method: Method
    legs: tuple[MulticastLeg, ...]
    alone: tuple[str, ...]
    started: float
    deadline: float
    results: dict[str, MemberResult] = field(default_factory=dict)
    phase: Phase = Phase.WAITING
    received: int = 0
    extra: int = 0
    _by_source: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    _expected: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index who may answer from where."""
        for leg in self.legs:
            for target in leg.targets:
                self._expected[target.uri] = None
                for address in target.addresses:
                    self._by_source.setdefault((address_key(address), target.port), []).append(target.uri)
        self._expected.update(dict.fromkeys(self.alone))

    def start(self) -> list[Ask]:
        """The members that are asked one by one from the beginning; the multicast legs are sent besides."""
        return [Ask(uri, "unicast") for uri in self.alone]

    @property
    def repair_at(self) -> float | None:
        """When those silent are asked again; None where nobody is, or it would be too late."""
        if not self.legs or self.method is Method.POST:
            return None
        at = self.started + max(leg.leisure_s for leg in self.legs) + REPAIR_AFTER_S
        return at if at < self.deadline else None

    @property
    def done(self) -> bool:
        """Whether the joined answer is final."""
        return self.phase is Phase.DONE

    @property
    def silent(self) -> tuple[str, ...]:
        """The members that have not answered."""
        return tuple(uri for uri in self._expected if uri not in self.results)

    def multicast_answer(self, answer: Answer, now: float) -> list[str]:
        """An answer to a multicast request: whose it is, which is nobody's for a stranger and for a repeated one."""
        uris = self._by_source.get((address_key(answer.source), answer.port), [])
        new = [uri for uri in uris if uri not in self.results]
        if self.done or not new:
            self.extra += 1
            return []
        self.received += 1
        self._take(new, answer, "multicast", now)
        return new

    def unicast_answer(self, ask: Ask, answer: Answer, now: float) -> None:
        """An answer of a member that was asked by unicast; the first one counts."""
        if self.done or ask.uri in self.results:
            self.extra += 1
            return
        self.received += 1
        self._take([ask.uri], answer, ask.via, now)

    def leisure_over(self) -> list[Ask]:
        """The leisure time is over: those who are silent and were asked by multicast are asked one by one."""
        self._step(Event.LEISURE_OVER)
        return [Ask(uri, "repair") for uri in self.silent if uri not in self.alone]

    def deadline_passed(self) -> None:
        """The deadline is there: what is not answered stays silent."""
        self._step(Event.DEADLINE)

    def _take(self, uris: Iterable[str], answer: Answer, via: str, now: float) -> None:
        for uri in uris:
            ms = (now - self.started) * 1000
            self.results[uri] = MemberResult(answer.code, answer.payload, answer.content_type, via, ms)
        self._step(Event.LAST_ANSWER if len(self.results) == len(self._expected) else Event.ANSWER)

    def _step(self, event: Event) -> None:
        self.phase = FANOUT[self.phase, event]
