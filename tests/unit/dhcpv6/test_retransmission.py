"""Retransmission: the times of RFC 9915, section 15, with chance set to its middle and to its ends."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.numbers import Status
from m2mapp.dhcpv6.retransmission import (
    CONFIRM,
    RELEASE,
    REQUEST,
    SOLICIT,
    Attempt,
    Schedule,
    first_attempt,
    next_attempt,
)
from tests.unit.dhcpv6.test_client import Walk, ia, ia_status


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


def _waits(schedule: Schedule) -> list[float]:
    """How long each sending of an exchange waits that nobody answers, at most thirty."""
    now = 100.0
    waits: list[float] = []
    attempt: Attempt | None = first_attempt(schedule, now, _middle)
    while attempt is not None and len(waits) < 30:
        waits.append(round(attempt.wait_s, 3))
        now += attempt.wait_s
        attempt = next_attempt(schedule, attempt, now, _middle)
    return waits


class RetransmissionTests(SynchronousTestCase):
    def test_count(self) -> None:
        """A Request is sent ten times, at doubling pauses of at most 30 s; a Release four times."""
        self.assertEqual(_waits(REQUEST), [1, 2, 4, 8, 16, 30, 30, 30, 30, 30])
        self.assertEqual(_waits(RELEASE), [1, 2, 4, 8])

    def test_duration(self) -> None:
        """A Confirm is given up after ten seconds, to the second."""
        waits = _waits(CONFIRM)
        self.assertEqual(sum(waits), 10)
        self.assertEqual(waits, [1, 2, 4, 3])

    def test_without_end(self) -> None:
        """A Solicit goes on, in the end once an hour."""
        waits = _waits(SOLICIT)
        self.assertEqual(len(waits), 30)
        self.assertEqual(waits[-1], 3600)

    def test_chance(self) -> None:
        """Chance moves each wait by a tenth at most; the first wait of a Solicit is never shorter than its time."""
        low = first_attempt(REQUEST, 0, lambda least, _: least)
        high = first_attempt(REQUEST, 0, lambda _, most: most)
        self.assertEqual((low.wait_s, high.wait_s), (0.9, 1.1))
        self.assertGreater(first_attempt(SOLICIT, 0, lambda least, _: least, positive=True).wait_s, 1.0)

    def test_elapsed_time(self) -> None:
        """The Elapsed Time is 0 in the first sending, then hundredths since it, and never more than fits."""
        self.assertEqual(Attempt(1, 100.0, 1.0).elapsed_hundredths(100.5), 0)
        self.assertEqual(Attempt(2, 100.0, 1.0).elapsed_hundredths(101.25), 125)
        self.assertEqual(Attempt(9, 100.0, 1.0).elapsed_hundredths(100_000.0), 0xFFFF)


class RateTests(SynchronousTestCase):
    def test_rate(self) -> None:
        """A server that gives a second at a time, or refuses what it offers, is asked twenty times in twenty seconds at most."""
        for offered, given in ((ia(1, 1), ia(1, 1)), (ia(), ia_status(Status.NO_PREFIX_AVAIL))):
            walk, answered = Walk(), 0
            while walk.now < 1100.0:
                while answered < len(walk.sent):
                    solicits = walk.sent[answered][1].type is T.SOLICIT
                    answered += 1
                    if solicits:
                        walk.answer(T.ADVERTISE, o.Preference(255), offered)
                    else:
                        walk.answer(T.REPLY, given)
                assert walk.client.wake_at is not None
                walk.to(walk.client.wake_at)
            times = [at for at, _ in walk.sent]
            self.assertGreater(len(times), 40)
            self.assertTrue(all(later - at >= 20 for at, later in zip(times, times[20:], strict=False)))
