"""The memory of requests that bear an identifier: which were here, of whom, and what they were answered (US 9,438,601; spec section 6).

Pure: it is told the time, in monotonic seconds, and says of a request whether it is to be acted on. Checking and remembering are one call,
so that of two copies that come together one acts. What is on disk of it is in `tree.done`; who waits for whom, in `tree.drivers.once`.

What is forgotten, and when. Each request is remembered for `keep_s` from its first time, and as long as it is under way. Live writes
are never forgotten for others: one that finds no room is refused, and a requester has half of the room at most. Reads change nothing if
they are done twice: the oldest makes room. Who asks for long paths has room for fewer of them. Payloads of answers have a room of their
own; the oldest is let go, its request stays known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from zlib import crc32

from m2mapp.model.errors import Conflict, LoopDetected, Overloaded
from m2mapp.model.identifiers import REQUEST_ID_BYTES, Path
from m2mapp.model.messages import WRITES, Method, Request, Response
from m2mapp.model.metrics import Counter

KEEP_S = 247.0
"""EXCHANGE_LIFETIME (RFC 7252, section 4.8.2)."""
MOST_FORGOTTEN = 64
"""So many are forgotten in one call, which adds one: none takes long, and what is over is gone soon."""

_SEGMENTS, _CHARACTERS = 16, 128
"""So many segments, and characters, of a path make a request count as one more."""

Key = tuple[bytes, Method, Path]
"""What makes a request the same as another: its identifier, method and target."""


class State(Enum):
    """How far a request is. One that failed is done again for who asked first, and stays a loop for others."""

    UNDER_WAY = "under way"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long requests are remembered, how many writes and reads, and how many bytes of answers' payloads of either, and of one.

    A request whose path is longer than most counts as several: so the memory that all take is bounded too.
    """

    keep_s: float = KEEP_S
    writes: int = 50_000
    reads: int = 50_000
    payload_bytes: int = 8 << 20
    longest_payload: int = 1 << 18


@dataclass(slots=True)
class Seen:
    """One request that was here. `owner` is in whose share it counts; `asked` tells it from another request with the same key.

    `answer` is None until it is done, and where its payload is not kept.
    """

    key: Key
    requester: bytes
    owner: str
    asked: int
    until_s: float
    cost: int = 1
    state: State = State.UNDER_WAY
    answer: Response | None = None


@dataclass(slots=True)
class _Room:
    """The reads, or the writes: in the order in which they end; those whose answers have a payload also by themselves."""

    most: int
    by_key: OrderedDict[Key, Seen] = field(default_factory=OrderedDict)
    with_payload: OrderedDict[Key, Seen] = field(default_factory=OrderedDict)
    used: int = 0
    size_bytes: int = 0
    over_s: float = 0.0
    """Nothing is over before."""


def _cost(path: Path) -> int:
    """For how many requests one with this path counts."""
    return 1 + len(path) // _SEGMENTS + len("".join(path)) // _CHARACTERS


def requester_tag(node_uri: str, group: Path, request_id: bytes) -> bytes:
    """How a group server is known to those whom it asks for one request, whichever of its addresses a datagram leaves by.

    8 bytes of a SHA-256 over its URI, the group's path and the identifier. The group is part of it: one that is asked by two groups of a
    server would wait for the second request's answer in the answer to the first.
    """
    return sha256(b"\0".join((node_uri.encode(), "/".join(group).encode(), request_id))).digest()[:REQUEST_ID_BYTES]


def requester_of(request: Request) -> bytes:
    """Who sent a request: the tag that it carries, else its principal, named for an address without a port, a certificate or a token."""
    return request.requester or request.principal.name.encode(errors="surrogateescape")


def fingerprint(request: Request) -> int:
    """What tells a request from another of the same method and target: over payload, media type and query. A mistake, not an attack."""
    found = crc32(request.payload)
    if request.content_type is not None:
        found = crc32(request.content_type.encode("utf-8", "replace"), found)
    if request.query:
        found = crc32(repr(request.query).encode(errors="replace"), found)
    return found << 32 | len(request.payload)


class SeenRequests:
    """The requests of the last minutes. `loops` counts those that came by another way."""

    def __init__(self, bounds: Bounds | None = None, loops: Counter | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._writes, self._reads = _Room(self._bounds.writes), _Room(self._bounds.reads)
        self._held: dict[str, int] = {}
        self._share = max(1, self._bounds.writes // 2)
        self.loops = loops or Counter()

    def __len__(self) -> int:
        return len(self._writes.by_key) + len(self._reads.by_key)

    def check(self, request: Request, now: float) -> tuple[Seen, bool]:
        """What is remembered of a request that has an identifier, from now on at the latest; True: it is to be acted on.

        Otherwise it was here before from the same requester: it has its answer, or is under way. Raises `LoopDetected` where it was here
        from another one, `Conflict` where its identifier is that of another request or its answer is not kept, `Overloaded` where there is
        no room for a write.
        """
        if request.request_id is None:
            raise ValueError("a request without an identifier")
        path = request.path
        key = (request.request_id, request.method, path)
        room = self._reads if request.method is Method.GET else self._writes
        if room.over_s <= now:
            self._forget(room, now)
        known = room.by_key.get(key)
        if known is not None:
            if known.state is State.UNDER_WAY or known.until_s > now:
                return known, self._is_due_again(known, request)
            self._drop(room, known)
        owner = request.principal.name
        cost = _cost(path)
        self._make_room(room, owner, cost, now)
        one = Seen(key, requester_of(request), owner, fingerprint(request), now + self._bounds.keep_s, cost)
        self._add(room, one)
        return one, True

    def done(self, one: Seen, answer: Response) -> None:
        """It was acted on, with this answer."""
        one.state = State.DONE
        self._keep(self._room(one.key[1]), one, answer)

    def failed(self, one: Seen) -> None:
        """It was not done: the next one of the same requester is."""
        one.state = State.FAILED

    def restore(self, one: Seen) -> None:
        """A write that was done before the last stop, unless it is known; what is over the bound pushes the oldest out."""
        room = self._writes
        if one.key in room.by_key:
            return
        answer, one.answer = one.answer, None
        one.cost = _cost(one.key[2])
        while room.used + one.cost > room.most and room.by_key:
            self._drop(room, next(iter(room.by_key.values())))
        self._add(room, one)
        room.over_s = min(room.over_s, one.until_s)
        if answer is not None:
            self._keep(room, one, answer)

    def below(self, path: Path, now: float) -> Iterator[Seen]:
        """What is remembered of requests to a path and below it, the writes first, each by age."""
        for room in (self._writes, self._reads):
            for one in room.by_key.values():
                if one.key[2][: len(path)] == path and (one.until_s > now or one.state is State.UNDER_WAY):
                    yield one

    def _room(self, method: Method) -> _Room:
        return self._reads if method is Method.GET else self._writes

    def _is_due_again(self, known: Seen, request: Request) -> bool:
        identifier = known.key[0].hex()
        if known.requester != requester_of(request):
            self.loops.add()
            raise LoopDetected(f"the request {identifier} was here before, from another requester")
        if known.asked != fingerprint(request):
            raise Conflict(f"M2M-Request-Id: {identifier} is that of another request to this resource: each request has one of its own")
        if known.state is State.UNDER_WAY or known.answer is not None:
            return False
        if known.state is State.DONE and known.key[1] in WRITES:
            raise Conflict(f"the request {identifier} was done, and is not done again; its answer is not kept any more")
        known.state = State.UNDER_WAY
        return True

    def _forget(self, room: _Room, now: float) -> None:
        by_key = room.by_key
        for _ in range(MOST_FORGOTTEN):
            one = next(iter(by_key.values()), None)
            room.over_s = one.until_s if one is not None else now + self._bounds.keep_s
            if one is None or room.over_s > now:
                return
            if one.state is State.UNDER_WAY:
                one.until_s = now + self._bounds.keep_s
                by_key.move_to_end(one.key)
            else:
                self._drop(room, one)

    def _make_room(self, room: _Room, owner: str, cost: int, now: float) -> None:
        if room is self._writes and self._held.get(owner, 0) + cost > self._share:
            raise Overloaded(f"{self._share} identifiers of writes of {owner} are kept, which is its share", self._wait_s(room, now))
        if room.used + cost <= room.most:
            return
        for _ in range(MOST_FORGOTTEN if room is self._reads else 0):
            oldest = next(iter(room.by_key.values()), None)
            if oldest is None:
                break
            if oldest.state is State.UNDER_WAY:
                oldest.until_s = now + self._bounds.keep_s
                room.by_key.move_to_end(oldest.key)
            else:
                self._drop(room, oldest)
            if room.used + cost <= room.most:
                return
        raise Overloaded(f"{room.most} identifiers are kept, and none of them is over", self._wait_s(room, now))

    @staticmethod
    def _wait_s(room: _Room, now: float) -> int:
        """When the first one is over, in whole seconds."""
        first = next(iter(room.by_key.values()), None)
        return 1 if first is None else max(1, int(first.until_s - now) + 1)

    def _add(self, room: _Room, one: Seen) -> None:
        room.by_key[one.key] = one
        room.used += one.cost
        if room is self._writes:
            self._held[one.owner] = self._held.get(one.owner, 0) + one.cost

    def _drop(self, room: _Room, one: Seen) -> None:
        del room.by_key[one.key]
        room.used -= one.cost
        if one.answer is not None:
            self._let_go(room, one)
        if room is self._writes:
            held = self._held[one.owner] - one.cost
            if held:
                self._held[one.owner] = held
            else:
                del self._held[one.owner]

    def _keep(self, room: _Room, one: Seen, answer: Response) -> None:
        if one.answer is not None:
            self._let_go(room, one)
        if answer.stream is not None or len(answer.payload) > self._bounds.longest_payload:
            return
        one.answer = answer
        if answer.payload:
            room.with_payload[one.key] = one
            room.size_bytes += len(answer.payload)
        while room.size_bytes > self._bounds.payload_bytes:
            self._let_go(room, next(iter(room.with_payload.values())))

    @staticmethod
    def _let_go(room: _Room, one: Seen) -> None:
        """Its answer is not kept any more."""
        answer, one.answer = one.answer, None
        if answer is not None and answer.payload:
            del room.with_payload[one.key]
            room.size_bytes -= len(answer.payload)
