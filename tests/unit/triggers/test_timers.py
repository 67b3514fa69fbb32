"""Timers: their documents, when they run next, and what becomes of runs that were missed."""

from __future__ import annotations

from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import parse_rfc3339
from m2mapp.model.errors import Malformed
from m2mapp.triggers.cron import parse_cron
from m2mapp.triggers.timers import Due, Every, Missed, Once, Timer, check_timer, timer_of

MINUTE, HOUR = 60_000, 3_600_000
NIGHT = parse_rfc3339("2026-11-22T22:00:00Z", "at")
DAILY = parse_cron("0 22 * * *", UTC)


class DocumentTests(SynchronousTestCase):
    def test_kept(self) -> None:
        """One of three kinds, in canonical words; missed runs are made up for unless the timer says otherwise."""
        for document, kept in (
            ({"cron": "0  22 * * *", "timezone": "Europe/Berlin"}, {"cron": "0 22 * * *", "timezone": "Europe/Berlin", "missed": "run"}),
            ({"every": "90m", "missed": "skip"}, {"every": "1h30m", "missed": "skip"}),
            ({"at": "2027-01-01T01:00:00+01:00"}, {"at": "2027-01-01T00:00:00.000Z", "missed": "run"}),
        ):
            self.assertEqual(check_timer("t", document), kept)
            self.assertEqual(check_timer("t", kept), kept)

    def test_read(self) -> None:
        """A kept document is the timer that it says."""
        at = check_timer("t", {"at": "2027-01-01T00:00:00Z"})
        self.assertEqual(timer_of(at, 5), Timer(Once(parse_rfc3339("2027-01-01T00:00:00Z", "at")), Missed.RUN))
        self.assertEqual(timer_of(check_timer("t", {"every": "1s", "missed": "skip"}), 5), Timer(Every(1000, 5), Missed.SKIP))
        berlin = timer_of(check_timer("t", {"cron": "0 22 * * *", "timezone": "Europe/Berlin"}), 5)
        self.assertEqual(berlin.schedule.next_run(NIGHT - 2 * HOUR), NIGHT - HOUR)
        self.assertEqual(timer_of(check_timer("t", {"cron": "0 22 * * *"}), 5).schedule.next_run(NIGHT - 2 * HOUR), NIGHT)

    def test_refused(self) -> None:
        """No kind or two, a zone that there is not or is not needed, and values that are none: the fault names the field."""
        for document, field in (
            ({}, "timer"),
            ({"missed": "run"}, "timer"),
            ({"every": "5m", "at": "2027-01-01T00:00:00Z"}, "timer"),
            ({"every": "5m", "timezone": "UTC"}, "timezone"),
            ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "timezone"),
            ({"cron": "* * * * *", "timezone": "../../etc/passwd"}, "timezone"),
            ({"cron": "* * * * *", "timezone": "Europe"}, "timezone"),
            ({"cron": "* * * * *", "timezone": "a" * 5000}, "timezone"),
            ({"cron": "* * * * *", "timezone": None}, "timezone"),
            ({"cron": "61 * * * *"}, "cron"),
            ({"every": "0s"}, "every"),
            ({"every": "400d"}, "every"),
            ({"every": 5}, "every"),
            ({"at": "tomorrow"}, "at"),
            ({"every": "5m", "missed": "twice"}, "missed"),
            ({"every": "5m", "x": 1}, "x"),
        ):
            self.assertEqual(self.assertRaises(Malformed, check_timer, "t", document).field, field)


class NextTests(SynchronousTestCase):
    @given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**7))
    def test_every(self, interval: int, made: int, after: int) -> None:
        """An interval's runs are whole intervals away from when it was made, and each is the next."""
        run = Every(interval, made).next_run(after)
        self.assertEqual((run - made) % interval, 0)
        self.assertTrue(after < run <= after + interval)

    def test_once(self) -> None:
        """A time comes once."""
        self.assertEqual((Once(5).next_run(4), Once(5).next_run(5)), (5, None))


class DueTests(SynchronousTestCase):
    def test_in_time(self) -> None:
        """Before its time nothing, at its time a run, and not again."""
        for missed in Missed:
            timer = Timer(DAILY, missed)
            self.assertEqual(timer.due(NIGHT - HOUR, NIGHT - 1), Due(None, NIGHT, NIGHT - HOUR))
            ran = timer.due(NIGHT - HOUR, NIGHT + 3)
            self.assertEqual(ran, Due(NIGHT, NIGHT + 24 * HOUR, NIGHT + 3))
            self.assertEqual(timer.due(ran.settled_ms, NIGHT + 4).run_ms, None)

    def test_missed(self) -> None:
        """However many were missed while the process was down, one is made up for, or none."""
        now = NIGHT + 9 * 24 * HOUR + 2 * HOUR
        self.assertEqual(Timer(DAILY, Missed.RUN).due(NIGHT - HOUR, now), Due(NIGHT, NIGHT + 10 * 24 * HOUR, now))
        self.assertEqual(Timer(DAILY, Missed.SKIP).due(NIGHT - HOUR, now), Due(None, NIGHT + 10 * 24 * HOUR, now))
        self.assertEqual(Timer(Once(NIGHT), Missed.RUN).due(NIGHT - HOUR, now), Due(NIGHT, None, now))
        self.assertEqual(Timer(Once(NIGHT), Missed.SKIP).due(NIGHT - HOUR, now), Due(None, None, now))

    def test_late_by_a_minute(self) -> None:
        """A run that is late by a minute at most was not missed, also when others before it were."""
        timer = Timer(DAILY, Missed.SKIP)
        self.assertEqual(timer.due(NIGHT - HOUR, NIGHT + MINUTE).run_ms, NIGHT)
        self.assertEqual(timer.due(NIGHT - HOUR, NIGHT + MINUTE + 1).run_ms, None)
        self.assertEqual(timer.due(NIGHT - 72 * HOUR, NIGHT + MINUTE).run_ms, NIGHT)

    def test_clock_set_back(self) -> None:
        """A clock that goes back a little repeats no run; after one that was a year ahead the timer begins anew."""
        for missed in Missed:
            timer = Timer(DAILY, missed)
            self.assertEqual(timer.due(NIGHT, NIGHT - HOUR), Due(None, NIGHT + 24 * HOUR, NIGHT))
            ahead = NIGHT + 365 * 24 * HOUR
            self.assertEqual(timer.due(ahead, NIGHT - HOUR), Due(None, NIGHT, NIGHT - HOUR))
            self.assertEqual(timer.due(ahead, NIGHT), Due(None, NIGHT + 24 * HOUR, NIGHT))

    @given(st.sampled_from(list(Missed)), st.lists(st.integers(1, 3 * HOUR), max_size=30))
    def test_never_twice(self, missed: Missed, steps: list[int]) -> None:
        """Whenever it is looked at, each hour's run comes once at most, and never before its time."""
        timer = Timer(Every(HOUR, 0), missed)
        settled = now = NIGHT
        ran: list[int] = []
        for step in steps:
            now += step
            due = timer.due(settled, now)
            settled = due.settled_ms
            self.assertTrue(due.next_ms is not None and now < due.next_ms <= now + HOUR)
            if due.run_ms is not None:
                self.assertLessEqual(due.run_ms, now)
                ran.append(due.run_ms)
        self.assertEqual(ran, sorted(set(ran)))
