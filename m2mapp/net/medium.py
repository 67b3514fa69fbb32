"""What happens to datagrams between simulated nodes: loss, delay, repetition, reordering, partition, a small MTU; and the record of it.

Responsible for whether and when each copy arrives. Not responsible for addresses, ports and groups: `net.memory`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from random import Random

from m2mapp.net.scheduler import Scheduler

TRACE_LENGTH = 10_000


@dataclass(frozen=True, slots=True)
class Quality:
    """What a link, or one direction between two nodes, does to datagrams. Probabilities are from 0 to 1.

    `delay_s` is the range of delays; datagrams keep their order all the same, but for the share `reordering`, which comes up to
    `reordering_s` later and is overtaken. `mtu` counts the IP packet; what is larger vanishes. None: no limit.
    """

    loss: float = 0.0
    delay_s: tuple[float, float] = (0.001, 0.001)
    repetition: float = 0.0
    reordering: float = 0.0
    reordering_s: float = 0.05
    mtu: int | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "repetition", "reordering"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: {getattr(self, name)} is not within 0 to 1")
        if not 0.0 <= self.delay_s[0] <= self.delay_s[1] or self.reordering_s < 0.0:
            raise ValueError(f"delay_s: {self.delay_s}, reordering_s: {self.reordering_s}: not a range of times")


class What(Enum):
    """What a line of the trace tells."""

    SENT = "sent"
    DELIVERED = "delivered"
    DROPPED = "dropped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the trace: `node` is who sent, or who got (or did not get) the datagram of that number."""

    at_s: float
    what: What
    number: int
    node: str
    source: str
    destination: str
    size: int
    reason: str = ""

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.at_s:12.6f} {self.what.value:<9} #{self.number} {self.node}: {self.source} > {self.destination}, {self.size} bytes{why}"
        )


class Trace:
    """The last events, and how many there were of each sort in all."""

    def __init__(self, length: int = TRACE_LENGTH) -> None:
        """Keeps `length` events."""
        self.events: deque[Event] = deque(maxlen=length)
        self.counts: dict[What, int] = dict.fromkeys(What, 0)

    def add(self, event: Event) -> None:
        """Write one event down."""
        self.counts[event.what] += 1
        self.events.append(event)

    def text(self, last: int = 50) -> str:
        """The last events, one a line."""
        return "\n".join(str(event) for event in list(self.events)[-last:])


class Medium:
    """Carries copies of datagrams from node to node in simulated time."""

    def __init__(self, scheduler: Scheduler, random: Random) -> None:
        """`random` decides what becomes of each copy."""
        self._scheduler = scheduler
        self._random = random
        self._default = Quality()
        self._of_link: dict[str, Quality] = {}
        self._of_direction: dict[tuple[str, str], Quality] = {}
        self._parted: dict[tuple[str, str], None] = {}
        self._last_arrival: dict[tuple[str, str, str], float] = {}

    def set_quality(self, quality: Quality, link: str | None = None, direction: tuple[str, str] | None = None) -> None:
        """From now on: of one direction (from node, to node), else of one link, else of all; the narrower one holds."""
        if direction is not None:
            self._of_direction[direction] = quality
        elif link is not None:
            self._of_link[link] = quality
        else:
            self._default = quality

    def partition(self, one: Iterable[str], other: Iterable[str]) -> None:
        """From now on nothing passes between any node of one side and any of the other."""
        others = list(other)
        for name in one:
            for peer in others:
                self._parted[name, peer] = None
                self._parted[peer, name] = None

    def heal(self) -> None:
        """End all partitions."""
        self._parted.clear()

    def carry(self, way: tuple[str, str, str], packet_bytes: int, deliver: Callable[[], None]) -> str:
        """Take one copy the `way` (link, from node, to node): `deliver` is called for each that arrives.

        Returns why it is dropped, or "". Draws as many random numbers whatever happens, so that runs stay comparable.
        """
        link, source, target = way
        quality = self._of_direction.get((source, target)) or self._of_link.get(link, self._default)
        lost, repeated, reordered, late, delay, second_delay = (self._random.random() for _ in range(6))
        if (source, target) in self._parted:
            return "partition"
        if quality.mtu is not None and packet_bytes > quality.mtu:
            return "larger than the MTU"
        if lost < quality.loss:
            return "loss"
        shortest, longest = quality.delay_s
        arrival = self._scheduler.seconds() + shortest + (longest - shortest) * delay
        if reordered < quality.reordering:
            arrival += quality.reordering_s * late
        else:
            arrival = max(arrival, self._last_arrival.get(way, 0.0))
            self._last_arrival[way] = arrival
        self._at(arrival, deliver)
        if repeated < quality.repetition:
            self._at(arrival + shortest + (longest - shortest) * second_delay, deliver)
        return ""

    def _at(self, time_s: float, deliver: Callable[[], None]) -> None:
        self._scheduler.callLater(max(0.0, time_s - self._scheduler.seconds()), deliver)
