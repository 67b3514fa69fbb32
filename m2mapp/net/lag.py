"""How late the reactor is: the delay of a call beyond the time that it was set for."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from m2mapp.model.metrics import Metrics

EVERY_S = 0.5


class LagMonitor(Service):
    """Measures the reactor's lag twice a second."""

    name = "lag"

    def __init__(self, reactor: IReactorTime, metrics: Metrics) -> None:
        self._reactor = reactor
        self._lag = metrics.histogram("m2mapp_reactor_lag_seconds", "How late a call of the reactor was.")
        self._call: IDelayedCall | None = None
        self._due = 0.0

    def startService(self) -> None:
        """Begin to measure."""
        super().startService()
        self._schedule()

    def stopService(self) -> None:
        """Measure no more."""
        super().stopService()
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _schedule(self) -> None:
        self._due = self._reactor.seconds() + EVERY_S
        self._call = self._reactor.callLater(EVERY_S, self._measure)

    def _measure(self) -> None:
        self._lag.observe(max(0.0, self._reactor.seconds() - self._due))
        self._schedule()
