"""Router advertisements on one interface: at intervals, when they are asked for, when something has changed (RFC 4861, section 6.2).

Responsible for when: however many solicitations come, at most one advertisement leaves in three seconds. What it says comes from `make`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

MOST_S, SHORTEST_MOST_S = 600.0, 4.0
"""MaxRtrAdvInterval, and what it is at least (section 6.2.1)."""
_LEAST: Final = 1 / 3
"""MinRtrAdvInterval, as a part of it."""
LIFETIME_S: Final = 1800
"""AdvDefaultLifetime: three intervals."""
_FIRST_S: Final = 16.0
_FIRST: Final = 3
"""MAX_INITIAL_RTR_ADVERT_INTERVAL and MAX_INITIAL_RTR_ADVERTISEMENTS (section 10)."""
_DELAY_S: Final = 0.5
_PAUSE_S: Final = 3.0
"""MAX_RA_DELAY_TIME and MIN_DELAY_BETWEEN_RAS."""


class Advertising:
    """Calls `send` when it is time. `lasts_s` is for how long what is sent counts at least: a third of it is the longest interval."""

    def __init__(self, reactor: IReactorTime, rng: Random, send: Callable[[], object], lasts_s: Callable[[], float]) -> None:
        self._reactor, self._rng, self._send, self._lasts_s = reactor, rng, send, lasts_s
        self._call: IDelayedCall | None = None
        self._last_s = float("-inf")
        self._sent = 0

    def start(self) -> None:
        """Advertise at once, and from now on."""
        self._sent = 0
        self.changed()

    def stop(self) -> None:
        """No more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def solicited(self) -> None:
        """A host asks (section 6.2.6): all are told, after a random delay, unless they are about to be anyway."""
        self._not_later_than(self._reactor.seconds() + self._rng.uniform(0, _DELAY_S))

    def changed(self) -> None:
        """What is advertised has changed: hosts hear of it as soon as may be."""
        self._not_later_than(self._reactor.seconds())

    def _not_later_than(self, at_s: float) -> None:
        at_s = max(at_s, self._last_s + _PAUSE_S)
        if self._call is not None:
            if self._call.getTime() <= at_s:
                return
            self._call.cancel()
        self._call = self._reactor.callLater(max(0.0, at_s - self._reactor.seconds()), self._now)

    def _now(self) -> None:
        self._call = None
        self._last_s = self._reactor.seconds()
        self._sent += 1
        self._send()
        most_s = max(SHORTEST_MOST_S, min(MOST_S, self._lasts_s() / 3))
        pause_s = self._rng.uniform(most_s * _LEAST, most_s)
        self._not_later_than(self._last_s + (min(pause_s, _FIRST_S) if self._sent < _FIRST else pause_s))
