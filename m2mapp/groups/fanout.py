"""The fan-out machine: one group request from its first datagram to its joined answer (spec section 4).

Pure: it is told what happened and the time, and says what to send and when to wake. It alone decides about repeats. Its driver
(`drivers.fanout`) sends and keeps the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from m2mapp.formats.uris import address_key
from m2mapp.groups.pace import LEAST_S, Pace
from m2mapp.groups.results import MemberResult, parts_of
from m2mapp.model.errors import AnswerTooLarge, Fault, Overloaded, PeerFailed
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Answer, Method

QUIET_PART, QUIET_UNTIL_S = 0.2, 2.0
"""While answers still come, the silent are not asked again: until none came for this part of the patience, so long after the leisure time
at most. On a busy machine answers wait to be read."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
"""The pause before a member that could not be reached is asked once more; it doubles each time."""


MOST_BYTES = 16 << 20
"""So many bytes the members' answers have in all: as many as another gateway takes of this one's."""
_HAS_IT = frozenset({"508", "5.08"})
"""What a server says of a request that it has already (spec section 6)."""


def _refusal(why: str) -> Answer:
    """What stands for a member whose answer is too large: as a gateway says it (RFC 7252, section 5.9.3.3)."""
    return Answer("5.02", why.encode(), "text/plain;charset=utf-8")


class Phase(Enum):
    """Where a group request is."""

    WAITING = "waiting"
    REPAIRING = "repairing"
    DONE = "done"

    __hash__ = object.__hash__  # each is one object; the hash of an Enum, written in Python, takes 0.2 us, twice for each answer


class Event(Enum):
    """What can happen to a group request. A member is settled when it has answered, or it is certain that it will not."""

    SETTLED = "a member is settled"
    LAST_SETTLED = "the last member is settled"
    EXTRA = "an answer that counts for no member"
    LEISURE_OVER = "the leisure time is over"
    DEADLINE = "the deadline has come"

    __hash__ = object.__hash__


FANOUT: dict[tuple[Phase, Event], Phase] = {
    (Phase.WAITING, Event.SETTLED): Phase.WAITING,
    (Phase.WAITING, Event.LAST_SETTLED): Phase.DONE,
    (Phase.WAITING, Event.EXTRA): Phase.WAITING,
    (Phase.WAITING, Event.LEISURE_OVER): Phase.REPAIRING,
    (Phase.WAITING, Event.DEADLINE): Phase.DONE,
    (Phase.REPAIRING, Event.SETTLED): Phase.REPAIRING,
    (Phase.REPAIRING, Event.LAST_SETTLED): Phase.DONE,
    (Phase.REPAIRING, Event.EXTRA): Phase.REPAIRING,
    (Phase.REPAIRING, Event.DEADLINE): Phase.DONE,
    (Phase.DONE, Event.EXTRA): Phase.DONE,
}
"""The transitions; an event that has none raises `KeyError` and changes nothing. What comes when it is done is extra: counted only."""


@dataclass(frozen=True, slots=True)
class Target:
    """One member as it is asked by multicast: by its URI, known by the addresses (canonical) that its device answers from."""

    uri: str
    addresses: tuple[str, ...] = ()
    port: int = 0


@dataclass(frozen=True, slots=True)
class MulticastLeg:
    """The members that one multicast request is for. `servers`: they are groups at other servers, which have to know the deadline."""

    address: str
    port: int
    path: Path
    targets: tuple[Target, ...]
    leisure_s: float
    servers: bool = False
    uris: tuple[str, ...] = field(init=False)
    by_source: Mapping[tuple[str, int], tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """List the members, and index who answers from where: a leg may serve many requests."""
        object.__setattr__(self, "uris", tuple(target.uri for target in self.targets))
        found: dict[tuple[str, int], tuple[str, ...]] = {}
        for target in self.targets:
            for address in target.addresses:
                found[address, target.port] = (*found.get((address, target.port), ()), target.uri)
        object.__setattr__(self, "by_source", found)

    def uris_at(self, answer: Answer) -> tuple[str, ...]:
        """The members whose device answers from there. One that is registered without a zone may be in any."""
        found = self.by_source.get((answer.source, answer.port))
        if found is None:
            key = address_key(answer.source)
            found = self.by_source.get((key, answer.port)) or self.by_source.get((key.partition("%")[0], answer.port), ())
        return found


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask one member by unicast; `via` is `unicast`, or `repair` where it was silent. `attempt` counts from 1."""

    uri: str
    via: str
    attempt: int = 1


@dataclass(slots=True)
class FanOut:
    """One group request under way. Times are monotonic seconds.

    Asking a member again does no harm for GET, PUT and DELETE. A POST is repeated only for `keepers`, the members that keep request
    identifiers and so do it once; of another that is silent it is not known whether it acted (spec section 4).
    """

    method: Method
    legs: tuple[MulticastLeg, ...]
    alone: tuple[str, ...]
    started: float
    deadline: float
    keepers: frozenset[str] = frozenset()
    pace: Pace = field(default_factory=Pace)
    results: dict[str, MemberResult] = field(default_factory=dict)
    lost: dict[str, Fault] = field(default_factory=dict)
    looped: dict[str, None] = field(default_factory=dict)
    phase: Phase = Phase.WAITING
    received: int = 0
    extra: int = 0
    first_s: float | None = None
    _size_bytes: int = 0
    _last_at: float = 0.0
    _expected: int = 0
    _awaited: dict[str, None] = field(default_factory=dict)
    _by_multicast: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Who is expected to answer. Whose an answer is, each leg says of its own: a device may have members in several."""
        for leg in self.legs:
            self._by_multicast.update(dict.fromkeys(leg.uris))
        self._awaited.update(self._by_multicast)
        self._awaited.update(dict.fromkeys(self.alone))
        self._expected = len(self._awaited)

    def start(self) -> list[Ask]:
        """The members that are asked one by one from the beginning; the multicast legs are sent besides."""
        return [Ask(uri, "unicast") for uri in self.alone]

    def not_sent(self, leg: MulticastLeg) -> list[Ask]:
        """The multicast request could not be sent: its members are asked one by one, now."""
        self.legs = tuple(other for other in self.legs if other is not leg)
        for uri in leg.uris:
            self._by_multicast.pop(uri, None)
        return [Ask(uri, "unicast") for uri in leg.uris]

    @property
    def first_look_at(self) -> float | None:
        """When to look first whether those silent are to be asked again; None where nobody ever is."""
        if not any(self._may_repeat(uri) for uri in self._by_multicast) or self._leisure_over_at >= self.deadline:
            return None
        return min(self._leisure_over_at + LEAST_S, self.deadline)

    @property
    def repair_at(self) -> float:
        """When they are asked again, by what has come so far: half of what time is left after the leisure time, at the latest."""
        over, patience_s = self._leisure_over_at, self.pace.patience_s(self.first_s)
        at = max(over + patience_s, min(self._last_at + QUIET_PART * patience_s, over + QUIET_UNTIL_S))
        return min(at, (over + self.deadline) / 2)

    def look_again_s(self, now: float) -> float:
        """After how many seconds to look again; 0: those silent are asked now. The first answer may show that there is no need to wait."""
        left_s = self.repair_at - now
        return max(0.0, left_s if self.first_s is not None else min(left_s, LEAST_S))

    @property
    def _leisure_over_at(self) -> float:
        return self.started + max((leg.leisure_s for leg in self.legs), default=0.0)

    @property
    def done(self) -> bool:
        """Whether the joined answer is final."""
        return self.phase is Phase.DONE

    @property
    def silent(self) -> tuple[str, ...]:
        """The members that have not answered."""
        return tuple(self._awaited)

    @property
    def refused(self) -> Fault | None:
        """Why nobody could be asked, where that is so: one fault that holds of all members."""
        kinds = {fault.kind for fault in self.lost.values()}
        first = next(iter(self.lost.values()), None)
        same = len(self.lost) == self._expected and len(kinds) == 1 and not isinstance(first, PeerFailed)
        return first if same else None

    def multicast_answer(self, leg: MulticastLeg, answer: Answer, now: float) -> list[str]:
        """An answer to a multicast request: whose it is, which is nobody's for a stranger and for a repeated one."""
        uris = leg.uris_at(answer)
        awaited = self._awaited
        new = [uri for uri in uris if uri in awaited]
        if self.done or not new:
            self._count_extra()
            return []
        self.received += 1
        self._last_at = now
        if self.first_s is None:
            self.first_s = now - self.started
        return self._take(parts_of(answer, new) if len(uris) > 1 else [(new[0], answer)], "multicast", now)

    def unicast_answer(self, ask: Ask, answer: Answer, now: float) -> bool:
        """An answer of a member that was asked by unicast: whether it counts, which the first one does."""
        if self.done or ask.uri not in self._awaited:
            self._count_extra()
            return False
        self.received += 1
        return bool(self._take([(ask.uri, answer)], ask.via, now))

    def unicast_failed(self, ask: Ask, fault: Fault, now: float) -> tuple[Ask, float] | None:
        """A member that was asked by unicast gave no usable answer: what to ask after how many seconds, or None.

        One that answers more than is taken has answered: it is not asked again, and that is its result.
        """
        if self.done or ask.uri not in self._awaited:
            return None
        if isinstance(fault, AnswerTooLarge):
            self.unicast_answer(ask, _refusal(fault.detail), now)
            return None
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(ask.attempt - 1, 16))
        if isinstance(fault, PeerFailed | Overloaded):
            if self._may_repeat(ask.uri):
                return (Ask(ask.uri, ask.via, ask.attempt + 1), pause_s) if now + pause_s < self.deadline else None
        elif now >= self.deadline:
            return None
        self.lost[ask.uri] = fault
        self._settled()
        return None

    def leisure_over(self) -> list[Ask]:
        """The leisure time is over: those who are silent and were asked by multicast are asked one by one."""
        self._step(Event.LEISURE_OVER)
        return [Ask(uri, "repair") for uri in self._by_multicast if uri in self._awaited and self._may_repeat(uri)]

    def deadline_passed(self) -> None:
        """The deadline is there: what is not answered stays silent."""
        self._step(Event.DEADLINE)

    def _may_repeat(self, uri: str) -> bool:
        return self.method is not Method.POST or uri in self.keepers

    def _take(self, parts: Iterable[tuple[str, Answer]], via: str, now: float) -> list[str]:
        """Take what members answered; which these are. That it was there by another way is no result (US 9,438,601)."""
        ms = (now - self.started) * 1000
        taken = []
        for uri, answer in parts:
            self._awaited.pop(uri, None)
            self.lost.pop(uri, None)
            if answer.code in _HAS_IT:
                self.looped[uri] = None
                continue
            if self._size_bytes + len(answer.payload) > MOST_BYTES:
                answer = _refusal(f"no room for {len(answer.payload)} bytes: the answers of the others take {self._size_bytes}")
            else:
                self._size_bytes += len(answer.payload)
            self.results[uri] = MemberResult(answer.code, answer.payload, answer.content_type, via, ms, answer.max_age_s)
            taken.append(uri)
        self._settled()
        return taken

    def _settled(self) -> None:
        self._step(Event.LAST_SETTLED if len(self._awaited) == len(self.lost) else Event.SETTLED)

    def _count_extra(self) -> None:
        self.extra += 1
        self._step(Event.EXTRA)

    def _step(self, event: Event) -> None:
        before, self.phase = self.phase, FANOUT[self.phase, event]
        if self.phase is not before and self.done and self.legs and self.first_s is not None:
            self.pace.saw(self._last_at - self._leisure_over_at)
