"""When a message is sent again, and when that ends (RFC 9915, sections 7.6 and 15). Pure; seconds throughout."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Schedule:
    """The parameters of one message type: 0 for no maximum.

    `first_delay_s` is the most that the first one waits at random; `initial_s` IRT, `longest_s` MRT, `count` MRC, `duration_s` MRD.
    """

    initial_s: float
    longest_s: float = 0.0
    count: int = 0
    duration_s: float = 0.0
    first_delay_s: float = 0.0


SOLICIT: Final = Schedule(1.0, 3600.0, first_delay_s=1.0)
REQUEST: Final = Schedule(1.0, 30.0, count=10)
CONFIRM: Final = Schedule(1.0, 4.0, duration_s=10.0, first_delay_s=1.0)
RENEW: Final = Schedule(10.0, 600.0)
REBIND: Final = Schedule(10.0, 600.0)
INFORMATION_REQUEST: Final = Schedule(1.0, 3600.0, first_delay_s=1.0)
RELEASE: Final = Schedule(1.0, count=4)
DECLINE: Final = Schedule(1.0, count=4)

_FACTOR: Final = 0.1
"""RAND lies between minus and plus this much."""
_CENTISECONDS: Final = 100
_MOST_CENTISECONDS: Final = 0xFFFF


MOST_SENT: Final = 20
WITHIN_S: Final = 20.0
"""So many messages a client sends in so long, whatever it is answered: a server may give nothing but short times (section 14.1)."""


class Rate:
    """When a client may send its next message."""

    def __init__(self) -> None:
        self._sent: deque[float] = deque(maxlen=MOST_SENT)

    def next_at(self, now: float) -> float:
        """The time from which on it may: now, or later."""
        return now if len(self._sent) < MOST_SENT else max(now, self._sent[0] + WITHIN_S)

    def sent(self, now: float) -> None:
        """A message is sent now."""
        self._sent.append(now)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a message in an exchange: which one (from 1), when the exchange began, how long this one waits for its answer."""

    number: int
    began: float
    wait_s: float

    def elapsed_hundredths(self, now: float) -> int:
        """What the Elapsed Time option of this sending says (section 21.9): 0 in the first one."""
        return 0 if self.number == 1 else min(_MOST_CENTISECONDS, max(0, round((now - self.began) * _CENTISECONDS)))


def first_attempt(schedule: Schedule, now: float, uniform: Callable[[float, float], float], *, positive: bool = False) -> Attempt:
    """The first sending. `uniform` draws RAND; `positive` where it must be above 0 (Solicit, section 18.2.1)."""
    low = 0.001 if positive else -_FACTOR
    return Attempt(1, now, _bounded(schedule, schedule.initial_s * (1 + uniform(low, _FACTOR)), now, now, uniform))


def next_attempt(schedule: Schedule, last: Attempt, now: float, uniform: Callable[[float, float], float]) -> Attempt | None:
    """The next sending, now that the last one's time is over; None where the exchange has failed (MRC or MRD)."""
    if schedule.count and last.number >= schedule.count:
        return None
    if schedule.duration_s and now - last.began >= schedule.duration_s:
        return None
    wait_s = (2 + uniform(-_FACTOR, _FACTOR)) * last.wait_s
    return Attempt(last.number + 1, last.began, _bounded(schedule, wait_s, last.began, now, uniform))


def _bounded(schedule: Schedule, wait_s: float, began: float, now: float, uniform: Callable[[float, float], float]) -> float:
    if schedule.longest_s and wait_s > schedule.longest_s:
        wait_s = schedule.longest_s * (1 + uniform(-_FACTOR, _FACTOR))
    if schedule.duration_s:
        wait_s = min(wait_s, began + schedule.duration_s - now)
    return wait_s
