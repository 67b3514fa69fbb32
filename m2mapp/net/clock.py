"""The two clocks of a node: the wall clock for times that people see, and a reactor whose delays never step.

Responsible for these two and for nothing that is done with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from twisted.internet.base import DelayedCall
from zope.interface import implementer

from m2mapp.model.interfaces import IClock


@implementer(IClock)
class WallClock:
    """The system's idea of the time. It steps when the box learns the time: for delays and lifetimes use the reactor."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000


class _ReactorWithClock(Protocol):
    """What Twisted's reactors have, as `make_monotonic` uses it."""

    seconds: Callable[[], float]

    def getDelayedCalls(self) -> Iterable[object]:
        """See `IReactorTime`."""


class _Continued:
    """The monotonic clock, going on from where another clock stood."""

    def __init__(self, from_s: float) -> None:
        self._offset = from_s - time.monotonic()

    def __call__(self) -> float:
        """Seconds; only differences mean something."""
        return self._offset + time.monotonic()


def make_monotonic(reactor: object) -> None:
    """Make a Twisted reactor's `seconds`, and with it `callLater`, independent of steps of the wall clock. Again: nothing.

    Twisted's own is the wall clock: a step back by an hour makes a delay of a second last an hour. With nothing pending, `seconds`
    becomes `time.monotonic` itself. Calls that are pending keep their delays: the new clock then goes on from where the old one
    stands, so that no call changes its place in the reactor's order.
    """
    target = cast(_ReactorWithClock, reactor)
    if target.seconds is time.monotonic or isinstance(target.seconds, _Continued):
        return
    pending = [call for call in target.getDelayedCalls() if isinstance(call, DelayedCall)]
    clock: Callable[[], float] = _Continued(target.seconds()) if pending else time.monotonic
    target.seconds = clock
    for call in pending:
        call.seconds = clock  # by which `reset` counts
