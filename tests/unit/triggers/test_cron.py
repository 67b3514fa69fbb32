"""Cron expressions: against a model that looks at every minute, where clocks change and where they do not; what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.shapes import Wrong
from m2mapp.triggers.cron import parse_cron

CHANGES = (
    ("Europe/Berlin", "2026-03-28T12:00"),  # 02:00 to 03:00
    ("Europe/Berlin", "2026-10-24T12:00"),  # 03:00 to 02:00
    ("Australia/Lord_Howe", "2026-04-04T02:00"),  # half an hour back
    ("Australia/Lord_Howe", "2026-10-03T02:00"),  # half an hour on
    ("America/Havana", "2026-10-31T12:00"),  # 01:00 to 00:00
    ("America/Santiago", "2026-04-04T16:00"),  # 24:00 to 23:00
    ("America/Santiago", "2026-09-05T16:00"),  # 24:00 to 01:00
    ("America/St_Johns", "2010-11-06T12:00"),  # 00:01 to 23:01 of the day before
    ("Pacific/Apia", "2011-12-29T12:00"),  # a day that was left out
    ("Asia/Kolkata", "2026-03-28T12:00"),
)
"""Zones, and times at which the day begins in which their clocks change."""
WINDOW_MIN = 40 * 60

MINUTES = {"*": range(60), "*/25": range(0, 60, 25), "30": [30], "0,59": [0, 59], "10-50/20": [10, 30, 50]}
HOURS = {"*": range(24), "*/2": range(0, 24, 2), "2": [2], "0": [0], "23": [23], "0-3": range(4), "1,2,23": [1, 2, 23]}
DAYS = {"*": range(1, 32), "*/2": range(1, 32, 2), "29": [29], "5,7,25,31": [5, 7, 25, 31], "1": [1]}
MONTHS = {"*": range(1, 13), "mar-APR,9,10-12": [3, 4, 9, 10, 11, 12], "1": [1]}
WEEKDAYS = {"*": range(7), "SUN": [0], "6-7": [6, 0], "mon-FRI/2": [1, 3, 5]}


def ms(at: datetime) -> int:
    """Milliseconds since 1970 UTC."""
    return round(at.timestamp() * 1000)


def fits(local: datetime, fields: tuple[str, ...]) -> bool:
    """Whether a minute on the wall's clock is one of those that the fields name."""
    minute, hour, day, month, weekday = fields
    in_month, in_week = local.day in DAYS[day], local.isoweekday() % 7 in WEEKDAYS[weekday]
    in_day = in_month and in_week if "*" in (day[0], weekday[0]) else in_month or in_week
    return local.minute in MINUTES[minute] and local.hour in HOURS[hour] and local.month in MONTHS[month] and in_day


@cache
def walls(zone: str, start: str) -> tuple[tuple[int, datetime, list[datetime], bool], ...]:
    """Every minute of a window: the time, what the wall's clock shows, what it left out just before, and whether it shows it again."""
    found = []
    shown: set[datetime] = set()
    first = datetime.fromisoformat(start).replace(tzinfo=UTC) - timedelta(hours=3)
    before: datetime | None = None
    for number in range(WINDOW_MIN + 180):
        at = first + timedelta(minutes=number)
        wall = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
        gap: list[datetime] = (
            [] if before is None else [before + timedelta(minutes=m) for m in range(1, (wall - before) // timedelta(minutes=1))]
        )
        if number >= 180:
            found.append((ms(at), wall, gap, wall in shown))
        shown.add(wall)
        before = wall
    return tuple(found)


def model(zone: str, start: str, fields: tuple[str, ...]) -> Iterator[int]:
    """When it runs: a rhythm whenever the wall's clock shows it, a time of day the first time, or right after it was left out."""
    rhythm = "*" in (fields[0][0], fields[1][0])
    for at, wall, gap, again in walls(zone, start):
        if (fits(wall, fields) and (rhythm or not again)) or (not rhythm and any(fits(left, fields) for left in gap)):
            yield at


class ModelTests(SynchronousTestCase):
    @given(st.sampled_from(CHANGES), st.tuples(*(st.sampled_from(sorted(one)) for one in (MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS))))
    @example(CHANGES[0], ("30", "2", "*", "*", "*"))
    @example(CHANGES[1], ("30", "2", "*", "*", "*"))
    @example(CHANGES[1], ("30", "*", "*", "*", "*"))
    @example(CHANGES[7], ("30", "*", "*", "*", "*"))
    @example(CHANGES[8], ("30", "2", "*", "*", "*"))
    def test_runs(self, change: tuple[str, str], fields: tuple[str, ...]) -> None:
        """All runs around a change of the clock are those of the model."""
        zone, start = change
        cron = parse_cron(" ".join(fields), ZoneInfo(zone))
        first, last = walls(zone, start)[0][0], walls(zone, start)[-1][0]
        found: list[int] = []
        at = first - 1
        while (run := cron.next_run(at)) is not None and run <= last:
            self.assertGreater(run, at)
            found.append(run)
            at = run
        self.assertEqual(found, list(model(zone, start, fields)))

    @given(
        st.sampled_from(CHANGES), st.sampled_from(sorted(MINUTES)), st.sampled_from(sorted(HOURS)), st.integers(0, WINDOW_MIN * 60_000 - 1)
    )
    def test_from_any_time(self, change: tuple[str, str], minute: str, hour: str, offset_ms: int) -> None:
        """From any time on, also within an hour that comes twice, the next run is the first of the model that is later."""
        zone, start = change
        after = walls(zone, start)[0][0] + offset_ms
        run = parse_cron(f"{minute} {hour} * * *", ZoneInfo(zone)).next_run(after)
        later = [at for at in model(zone, start, (minute, hour, "*", "*", "*")) if at > after]
        if later:
            self.assertEqual(run, later[0])


class CalendarTests(SynchronousTestCase):
    def next_of(self, text: str, after: str) -> str | None:
        """The next run in UTC."""
        run = parse_cron(text, UTC).next_run(ms(datetime.fromisoformat(after).replace(tzinfo=UTC)))
        return None if run is None else datetime.fromtimestamp(run / 1000, UTC).strftime("%Y-%m-%dT%H:%M")

    def test_years(self) -> None:
        """Years end; leap days come every four years, eight around 2100, on a certain day of the week after forty at most."""
        for text, after, run in (
            ("59 23 31 12 *", "2026-12-31T23:59", "2027-12-31T23:59"),
            ("0 0 29 2 *", "2026-01-01", "2028-02-29T00:00"),
            ("0 0 29 FEB *", "2096-03-01", "2104-02-29T00:00"),
            ("0 0 29 2 */7", "2088-03-01", "2128-02-29T00:00"),
            ("0 0 30 4,6 *", "2026-05-01", "2026-06-30T00:00"),
            ("0 0 31 2 MON", "2026-02-28", "2027-02-01T00:00"),
            ("* * * * *", "2026-02-28T23:59", "2026-03-01T00:00"),
        ):
            self.assertEqual(self.next_of(text, after), run, text)

    def test_spaces_and_names(self) -> None:
        """Any white space separates; names in any case; 7 and 0 are Sunday."""
        for text in ("0\t0  *  *  sun", "0 0 * * 7", "0 0 * * 0"):
            self.assertEqual(self.next_of(text, "2026-11-22"), "2026-11-29T00:00")
        self.assertEqual(parse_cron("0\t0  *  *  sun", UTC).text, "0 0 * * sun")

    def test_refused(self) -> None:
        """Each wrong line is refused with what would be right for the field that is wrong."""
        for wrong, told in (
            (None, "five fields"),
            (5, "five fields"),
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("* * * * * *", "five fields"),
            ("@daily", "five fields"),
            ("* * * * " + "1," * 100 + "1", "five fields"),
            ("60 * * * *", "right for the minute: numbers from 0 to 59"),
            ("* 24 * * *", "right for the hour: numbers from 0 to 23"),
            ("* * 0 * *", "right for the day of the month: numbers from 1 to 31"),
            ("* * * 13 *", "right for the month: numbers from 1 to 12, JAN"),
            ("* * * * 8", "right for the day of the week: numbers from 0 to 7, SUN"),
            ("* * * * MOO", "day of the week"),
            ("MON * * * *", "minute"),
            ("-1 * * * *", "minute"),
            ("1- * * * *", "minute"),
            ("1,,2 * * * *", "minute"),
            ("5/15 * * * *", "minute"),
            ("1-5-9 * * * *", "minute"),
            ("\u0661 * * * *", "minute"),
            ("1.5 * * * *", "minute"),
            ("* * L * *", "day of the month"),
            ("* * * * 1#2", "day of the week"),
            ("*/0 * * * *", "a step of the minute from 1 to 59"),
            ("*/60 * * * *", "a step of the minute from 1 to 59"),
            ("* 22-2 * * *", "begins with the smaller number"),
            ("0 0 30 2 *", "no month of it has a day 30"),
            ("0 0 31 4,6,9,11 *", "no month of it has a day 31"),
        ):
            fault = self.assertRaises(Wrong, parse_cron, wrong, UTC)
            self.assertIn(told, fault.expected, wrong)

    @given(st.text("0123456789*/,-LW#? MONsun", max_size=20))
    def test_any_text(self, text: str) -> None:
        """Any text is an expression with a next run, or is refused."""
        try:
            cron = parse_cron(text, UTC)
        except Wrong:
            return
        self.assertGreater(cron.next_run(0) or 0, 0)
