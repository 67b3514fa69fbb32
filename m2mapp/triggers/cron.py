"""Cron expressions: five fields to the minutes of a calendar that they name, in a time zone with its changes of clock. Pure.

The fields and their meaning are crontab(5)'s as Debian has it, and so is what happens when clocks change, of which POSIX says nothing:
`Cron.next_run`. (cronsim 2.8 was tried: asked within an hour that comes twice, it gave a run that was 45 minutes ago.) Not responsible for
what is done with runs that were missed: `timers`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import product

from m2mapp.formats.shapes import Wrong

MAX_CHARACTERS = 200
_YEARS = 50
"""29 February is a certain day of the week every 40 years at least: what is found in no 50 years is never."""
_DAY_MS, _MINUTE_MS = 86_400_000, 60_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_TERM = re.compile(r"(?P<all>\*)(?:/(?P<step>[0-9]{1,3}))?|(?P<low>\w{1,3})(?:-(?P<high>\w{1,3})(?:/(?P<each>[0-9]{1,3}))?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five: its name, its numbers, and other names of these."""

    name: str
    low: int
    high: int
    names: Mapping[str, int]

    def read(self, text: str) -> frozenset[int]:
        """The numbers that a field's text names. Raises `Wrong`."""
        return frozenset(number for term in text.split(",") for number in self._term(text, term))

    def _term(self, text: str, term: str) -> range:
        found = _TERM.fullmatch(term)
        if found is None:
            raise self._wrong(text)
        low = self.low if found["all"] else self._number(text, found["low"])
        high = self.high if found["all"] else self._number(text, found["high"] or found["low"])
        step = int(found["step"] or found["each"] or 1)
        if low > high:
            raise Wrong(text, f"a range that begins with the smaller number; {term} is two, as 22-2 is 22-23,0-2")
        if not 1 <= step <= self.high - self.low:
            raise Wrong(text, f"a step of the {self.name} from 1 to {self.high - self.low}")
        return range(low, high + 1, step)

    def _number(self, text: str, word: str) -> int:
        number = self.names.get(word.upper(), int(word) if word.isdecimal() else -1)
        if not self.low <= number <= self.high:
            raise self._wrong(text)
        return number

    def _wrong(self, text: str) -> Wrong:
        names = f", {' '.join(self.names)}" if self.names else ""
        return Wrong(
            text,
            f"right for the {self.name}: numbers from {self.low} to {self.high}{names}, ranges 1-5, steps */2 or 1-5/2, lists of these",
        )


def _numbered(names: str, first: int) -> Mapping[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of the month", 1, 31, {}),
    _Field("month", 1, 12, _numbered("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1)),
    _Field("day of the week", 0, 7, _numbered("SUN MON TUE WED THU FRI SAT", 0)),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that was read, in its zone.

    `minutes` are those of a day, in order. `both`: the day of the month and that of the week have to fit; otherwise one of them.
    `fixed`: it names times of day, as against a rhythm.
    """

    text: str
    zone: tzinfo
    minutes: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both: bool
    fixed: bool

    def next_run(self, after_ms: int) -> int | None:
        """The first run after a time, both in milliseconds since 1970 UTC; None where there is none in fifty years.

        When clocks go forward, a time of day that is left out runs as soon as they have (`fixed`), or not. When they go back, a time of
        day that comes twice runs the first time (`fixed`), or both times. An expression is a rhythm, not `fixed`, when its minute or its
        hour begins with `*`.
        """
        after = _EPOCH + timedelta(milliseconds=after_ms)
        # The day before too: clocks that go back at midnight bring it back. And one day more than is needed, for the same reason.
        found: int | None = None
        for day in self._dates(after.astimezone(self.zone).date() - timedelta(days=1)):
            first = self._first_of(day, after_ms)
            if found is not None:
                return found if first is None else min(first, found)
            found = first
        return found

    def _dates(self, start: date) -> Iterator[date]:
        for year, month in product(range(start.year, start.year + _YEARS), sorted(self.months)):
            for day in range(1, monthrange(year, month)[1] + 1):
                found = date(year, month, day)
                if found >= start and self._fits(found):
                    yield found

    def _fits(self, day: date) -> bool:
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month and in_week if self.both else in_month or in_week

    def _first_of(self, day: date, after_ms: int) -> int | None:
        """The first run of a day that is after a time."""
        midnight = self._at(day, 0)
        if all(self._at(day, 24 * 60, fold) - midnight == _DAY_MS for fold in (0, 1)):
            place = bisect_right(self.minutes, (after_ms - midnight) // _MINUTE_MS)
            return midnight + self.minutes[place] * _MINUTE_MS if place < len(self.minutes) else None
        runs = _runs_of(self, day)
        place = bisect_right(runs, after_ms)
        return runs[place] if place < len(runs) else None

    def runs_of(self, day: date) -> Iterator[int]:
        """The runs of a day on which the clock changes, in any order."""
        return (run for minute in self.minutes for run in self._runs(day, minute))

    def _at(self, day: date, minute: int, fold: int = 0) -> int:
        """When a day's wall clock shows a minute; of one that is left out, the time before or after (PEP 495)."""
        local = datetime.combine(day, time(), self.zone) + timedelta(minutes=minute)
        return (local.replace(fold=fold) - _EPOCH) // timedelta(milliseconds=1)

    def _runs(self, day: date, minute: int) -> Iterator[int]:
        """When a minute comes, on a day on which the clock changes."""
        first, second = self._at(day, minute, 0), self._at(day, minute, 1)
        if first <= second:
            yield first
            if second > first and not self.fixed:
                yield second
        elif self.fixed:  # It is left out: between the two is the change.
            yield self._change(second, first)

    def _change(self, before: int, after: int) -> int:
        """When the clock changes between two times, to the second."""
        offset = self._offset(before)
        while after - before > 1000:  # noqa: PLR2004 - a second
            middle = (before + after) // 2000 * 1000
            before, after = (middle, after) if self._offset(middle) == offset else (before, middle)
        return after

    def _offset(self, at_ms: int) -> timedelta | None:
        return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(self.zone).utcoffset()


@lru_cache(maxsize=64)
def _runs_of(cron: Cron, day: date) -> list[int]:
    """The runs of a day on which the clock changes, in order: they are looked for again and again while it lasts."""
    return sorted(cron.runs_of(day))


def parse_cron(value: object, zone: tzinfo) -> Cron:
    """The expression that a text of five fields is. Raises `Wrong`."""
    texts = value.split() if isinstance(value, str) and len(value) <= MAX_CHARACTERS else []
    if not isinstance(value, str) or len(texts) != len(_FIELDS):
        raise Wrong(value, "five fields: minute, hour, day of the month, month, day of the week, such as 0 22 * * MON-FRI")
    minutes, hours, days, months, weekdays = (field.read(text) for field, text in zip(_FIELDS, texts, strict=True))
    both = texts[2].startswith("*") or texts[4].startswith("*")
    if both and not any(min(days) <= _DAYS_OF_MONTH[month - 1] for month in months):
        raise Wrong(value, f"a day that there is: no month of it has a day {min(days)}")
    return Cron(
        " ".join(texts),
        zone,
        tuple(hour * 60 + minute for hour, minute in product(sorted(hours), sorted(minutes))),
        days,
        months,
        frozenset(number % 7 for number in weekdays),
        both,
        fixed=not texts[0].startswith("*") and not texts[1].startswith("*"),
    )
