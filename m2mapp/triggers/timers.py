"""Timers: time as a subject (spec section 7). What a timer's document may be, when it runs next, and what becomes of runs that were missed.

Pure: times are milliseconds since 1970 UTC of the wall clock, and are given. Not responsible for waiting (`drivers.ticking`).

A timer is a resource of the type `timer`. It fires by a write of its content, the time that it fires for, so that it is a subject like any
other. Everything until it was last written is settled: written with the firing, that outlasts the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from enum import Enum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from m2mapp.formats.documents import TEXT, parse_rfc3339, rfc3339
from m2mapp.formats.durations import duration, duration_text, seconds_of
from m2mapp.formats.shapes import Field, Shape, Wrong, choice
from m2mapp.model.errors import Malformed
from m2mapp.model.identifiers import Path
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Requirement, Resource, Unit, Write
from m2mapp.triggers.changes import TIMER
from m2mapp.triggers.cron import Cron, parse_cron

TIMERS: Path = ("timers",)
LATE_MS = 60_000
"""A run that is late by no more was not missed."""
CLOCK_WAS_SET_MS = 3 * 3_600_000
"""A wall clock that goes back by more was wrong before: what it said of the last run does not count (as in Debian's cron)."""
_LONGEST_ZONE = 64


class Missed(Enum):
    """What becomes of runs whose time passed while nobody was there to run them."""

    RUN = "run"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Every:
    """Every so many milliseconds, counted from a time; changes of a zone's clock do not matter."""

    interval_ms: int
    from_ms: int

    def next_run(self, after_ms: int) -> int:
        """The first run after a time."""
        return after_ms + self.interval_ms - (after_ms - self.from_ms) % self.interval_ms


@dataclass(frozen=True, slots=True)
class Once:
    """At one time."""

    at_ms: int

    def next_run(self, after_ms: int) -> int | None:
        """That time, if it is after the time given."""
        return self.at_ms if self.at_ms > after_ms else None


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now: run for the time `run_ms` (None: nothing), and look again at `next_ms` (None: never).

    `settled_ms` is to be kept, with the run, and given the next time: everything until then is done.
    """

    run_ms: int | None
    next_ms: int | None
    settled_ms: int


@dataclass(frozen=True, slots=True)
class Timer:
    """When to run, and what becomes of runs that were missed."""

    schedule: Cron | Every | Once
    missed: Missed

    def due(self, settled_ms: int, now_ms: int) -> Due:
        """What is to be done at a time, when everything until `settled_ms` was done; the timer's making settles what is before it.

        However many runs were missed, one is made up for, or none: with `skip` a run counts that is late by a minute at most. A clock
        that goes back a little repeats no run; one that goes back by hours begins anew.
        """
        if settled_ms - now_ms > CLOCK_WAS_SET_MS:
            settled_ms = now_ms
        first = self.schedule.next_run(settled_ms)
        if first is None or first > now_ms:
            return Due(None, first, settled_ms)
        following = self.schedule.next_run(now_ms)
        run = first if self.missed is Missed.RUN else self._in_time(first, now_ms)
        return Due(run, following, now_ms)

    def _in_time(self, first_ms: int, now_ms: int) -> int | None:
        """The first run that is late by a minute at most, if there is one by now."""
        run = first_ms if now_ms - first_ms <= LATE_MS else self.schedule.next_run(now_ms - LATE_MS - 1)
        return run if run is not None and run <= now_ms else None


def check_timer(_: str, given: Mapping[str, object]) -> dict[str, object]:
    """A timer's document as it is kept, in canonical words. Raises `Malformed`."""
    values = {name: value for name, value in _SHAPE.check(given).items() if value is not None}
    kinds = [name for name in _KINDS if name in values]
    if len(kinds) != 1:
        raise Malformed("timer", ", ".join(kinds) or "nothing", f"given by exactly one of {', '.join(_KINDS)}")
    if "timezone" in values and kinds != ["cron"]:
        raise Malformed("timezone", values["timezone"], f"left out: {kinds[0]} does not depend on it")
    return values


def timer_of(document: Mapping[str, object], made_ms: int) -> Timer:
    """The timer that a checked document says. `every` counts from when it was made; `cron` is of UTC where no zone is named."""
    missed = Missed(document["missed"])
    if "every" in document:
        return Timer(Every(round(seconds_of(document["every"]) * 1000), made_ms), missed)
    if "at" in document:
        return Timer(Once(parse_rfc3339(document["at"], "at")), missed)
    return Timer(parse_cron(document["cron"], zone_of(document.get("timezone", "UTC"))), missed)


def timer_at(resource: Resource) -> Timer:
    """The timer that a resource is. Raises `Malformed` or `Wrong` where its zone is not known (any more)."""
    return timer_of(resource.attributes, resource.created_ms)


def firing(resource: Resource, run_ms: int, trace: str) -> Unit:
    """What a timer's firing writes: its content is the time that it fires for."""
    write = Write(resource.path, TIMER, resource.attributes, rfc3339(run_ms).encode(), TEXT)
    return Unit((write,), requires=(Requirement(resource.path, exists=True),), trace=trace, principal=TIMER)


def timer_type(now_ms: Callable[[], int]) -> ResourceType:
    """The type of `/timers/*`. Its document shows when it last fired and fires next."""

    def describe(resource: Resource, _: Tree) -> Mapping[str, object]:
        try:
            next_ms = timer_at(resource).schedule.next_run(max(now_ms(), resource.modified_ms))
        except (Malformed, Wrong):
            next_ms = None
        fired = resource.content.decode() if resource.content is not None else None
        return {**resource.attributes, "fired": fired, "next": None if next_ms is None else rfc3339(next_ms)}

    return ResourceType(TIMER, (*TIMERS, "*"), check_timer, describe)


def zone_of(value: object) -> ZoneInfo:
    """The time zone of a name in the IANA database. Raises `Wrong`."""
    try:
        if isinstance(value, str) and len(value) <= _LONGEST_ZONE:
            return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass  # Names of folders, paths, and what is no zone: one answer for all.
    raise Wrong(value, "a time zone of the IANA database, such as Europe/Berlin")


def _cron(value: object) -> str:
    return parse_cron(value, UTC).text


def _zone(value: object) -> str:
    return zone_of(value).key


def _every(value: object) -> str:
    return duration_text(_check_every(value))


def _at(value: object) -> str:
    try:
        return rfc3339(parse_rfc3339(value, "at"))
    except Malformed as fault:
        raise Wrong(value, fault.expected) from fault


_check_every = duration(1, 366 * 86_400)
_KINDS = ("cron", "every", "at")
_SHAPE = Shape(
    {
        "cron": Field(_cron, None),
        "timezone": Field(_zone, None),
        "every": Field(_every, None),
        "at": Field(_at, None),
        "missed": Field(choice(*(one.value for one in Missed)), Missed.RUN.value),
    }
)
