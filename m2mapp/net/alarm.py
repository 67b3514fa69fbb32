"""One delayed call of the reactor that is set, set anew and taken back: for whoever waits for one moment at a time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Alarm:
    """Calls `ring`, once each time that it is set. It may be set again while it rings."""

    __slots__ = ("_call", "_reactor", "_ring")

    def __init__(self, reactor: IReactorTime, ring: Callable[[], object]) -> None:
        self._reactor, self._ring = reactor, ring
        self._call: IDelayedCall | None = None

    @property
    def is_set(self) -> bool:
        """Whether it will ring."""
        return self._call is not None

    def set(self, after_s: float) -> None:
        """Ring in so many seconds, and not when it was to ring before; in the reactor's next turn where the time is over."""
        self.stop()
        self._call = self._reactor.callLater(max(0.0, after_s), self._on_time)

    def stop(self) -> None:
        """Do not ring. One that is not set stays so."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _on_time(self) -> None:
        self._call = None
        self._ring()
