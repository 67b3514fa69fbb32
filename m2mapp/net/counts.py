"""What all ports of one node count, and how often a fault of theirs is logged. The real and the in-memory ports share it."""

from __future__ import annotations

import errno
from typing import Protocol

from m2mapp.model.metrics import Metrics

COMPLAIN_EVERY_S = 10.0
_SEND_REASONS = {
    errno.EAGAIN: "buffer-full",
    errno.ENOBUFS: "buffer-full",
    errno.EMSGSIZE: "too-large",
    errno.EINVAL: "address",
    errno.EAFNOSUPPORT: "address",
    errno.EADDRNOTAVAIL: "address",
    errno.ENODEV: "address",
    errno.ENXIO: "address",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EBADF: "closed",
    errno.EPERM: "forbidden",
    errno.EACCES: "forbidden",
}


class Seconds(Protocol):
    """A clock: the one method of `IReactorTime` that is needed."""

    def seconds(self) -> float:
        """Seconds; only differences mean something."""


class Counts:
    """The counters of all ports of one node; and one line in the log for each sort of fault in ten seconds."""

    def __init__(self, clock: Seconds, metrics: Metrics) -> None:
        """The clock is for the log only."""
        self._clock = clock
        self._metrics = metrics
        self._logged_at: dict[str, float] = {}
        self.received = metrics.counter("m2mapp_net_datagrams_received_total", "Datagrams handed to a receiver.")
        self.sent = metrics.counter("m2mapp_net_datagrams_sent_total", "Datagrams that the system took.")
        self.lost = metrics.counter("m2mapp_net_datagrams_lost_total", "Datagrams that the kernel dropped, the receive buffer being full.")
        self.unwanted = metrics.counter("m2mapp_net_datagrams_unwanted_total", "Datagrams to a group or interface that was not joined.")
        self.raised = metrics.counter("m2mapp_net_receiver_errors_total", "Datagrams whose receiver raised.")
        self.receive_errors = metrics.counter("m2mapp_net_receive_errors_total", "Errors reported by a socket in place of a datagram.")

    def not_sent(self, error: Exception) -> bool:
        """Count a datagram that was not sent, by the reason. Always False, so that it can be returned."""
        number = error.errno if isinstance(error, OSError) and error.errno else errno.EINVAL
        reason = _SEND_REASONS.get(number, "other")
        self._metrics.counter("m2mapp_net_send_failures_total", "Datagrams that could not be sent.", reason=reason).add()
        return False

    def may_log(self, sort: str) -> bool:
        """Whether a fault of this sort is to be logged now. Sorts are few and fixed."""
        now = self._clock.seconds()
        if now - self._logged_at.get(sort, -COMPLAIN_EVERY_S) < COMPLAIN_EVERY_S:
            return False
        self._logged_at[sort] = now
        return True
