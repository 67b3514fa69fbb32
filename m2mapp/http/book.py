"""The book of all HTTP connections: what each source holds, and for how long each connection has been where it is.

Not responsible for what is sent (`connection`) nor for what a whole request means (`resource`).
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger

from m2mapp.http import problems
from m2mapp.http.limits import HttpLimits
from m2mapp.model.errors import DeadlinePassed, Fault, Overloaded, TooLarge, TooManyRequests
from m2mapp.model.interfaces import IClock
from m2mapp.model.metrics import Counter, Metrics

if TYPE_CHECKING:
    from m2mapp.http.connection import Channel, WireRequest

_log = Logger()

SWEEP_S = 1.0
_REFUSED_TOO = 64
"""So many connections above the limit are told so; further ones are closed without a word."""
_SOURCE_SHARE = 4
"""One source may hold this part of all body bytes: a quarter."""


class Source:
    """What one client address holds now."""

    __slots__ = ("body_bytes", "connections", "host", "requests", "streams")

    def __init__(self, host: str) -> None:
        self.host = host
        self.connections = self.requests = self.streams = self.body_bytes = 0


class Phase(Enum):
    """Where a connection is; each phase but the last two has its time limit in `HttpLimits`."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWERING = "answering"
    STREAMING = "streaming"
    CLOSING = "closing"


class Connections:
    """All connections of one HTTP service, and what their sources hold.

    `sweep` is to be called about every second: it ends what took too long. `drained` is called when the last connection is gone.
    """

    def __init__(self, limits: HttpLimits, reactor: IReactorTime, clock: IClock, metrics: Metrics) -> None:
        self.limits, self.reactor = limits, reactor
        self.open: set[Channel] = set()
        self.body_bytes = self.requests = 0
        self.stopping = False
        self.drained: Callable[[], None] | None = None
        self._clock = clock
        self._metrics = metrics
        self._sources: dict[str, Source] = {}
        self._refusals: dict[str, Counter] = {}
        self._tick = 0
        self.date = b""
        self.refresh_date()
        metrics.gauge("m2mapp_http_connections", "HTTP connections that are open.", lambda: len(self.open))
        metrics.gauge("m2mapp_http_requests_waiting", "HTTP requests that await their answer.", lambda: self.requests)
        metrics.gauge("m2mapp_http_body_bytes", "Bytes of HTTP request bodies in memory.", lambda: self.body_bytes)

    def refresh_date(self) -> None:
        """Take the wall clock's time for the Date fields of the next second."""
        self.date = formatdate(self._clock.now_ms() // 1000, usegmt=True).encode()

    def admit(self, channel: Channel) -> Fault | None:
        """Enter a new connection in the book; the fault where it is one too many, which then has to be refused."""
        host = host_of(channel.getPeer())
        source = channel.source = self._sources.setdefault(host, Source(host))
        source.connections += 1
        self.open.add(channel)
        channel.seen = (Phase.IDLE, 0, self._tick)
        limits = self.limits
        if len(self.open) > limits.connections:
            if len(self.open) > limits.connections + _REFUSED_TOO:
                channel.abort()
            return Overloaded(f"at most {limits.connections} connections")
        if source.connections > limits.connections_per_source:
            return TooManyRequests(f"at most {limits.connections_per_source} connections from one address")
        return None

    def release(self, channel: Channel) -> None:
        """Strike out a connection that is gone."""
        if channel not in self.open:
            return
        self.open.discard(channel)
        source = channel.source
        source.connections -= 1
        if source.connections == 0:
            self._sources.pop(source.host, None)
        if not self.open and self.drained is not None:
            self.drained()

    def take_body(self, channel: Channel, request: WireRequest, size: int) -> Fault | None:
        """Count bytes of a body as they arrive; the fault where they are too many."""
        limits = self.limits
        if request.body_size + size > limits.body_bytes:
            return TooLarge("body", limits.body_bytes)
        if self.body_bytes + size > limits.bodies_bytes:
            return Overloaded(f"at most {limits.bodies_bytes} bytes of request bodies at a time")
        source = channel.source
        if source.body_bytes + size > limits.bodies_bytes // _SOURCE_SHARE:
            return TooManyRequests(f"at most {limits.bodies_bytes // _SOURCE_SHARE} bytes of request bodies from one address at a time")
        request.body_size += size
        source.body_bytes += size
        self.body_bytes += size
        return None

    def give_back(self, channel: Channel, request: WireRequest) -> None:
        """The request's body is held no longer."""
        size, request.body_size = request.body_size, 0
        channel.source.body_bytes -= size
        self.body_bytes -= size

    def stop(self) -> None:
        """Close each connection as soon as nothing is under way on it: now, or after its answer."""
        self.stopping = True
        for channel in tuple(self.open):
            channel.persistent = False
            if channel.phase() in (Phase.IDLE, Phase.CLOSING):
                channel.loseConnection()

    def end_waiting(self) -> None:
        """Wait for no answer any longer: who makes it answers with what there is."""
        for channel in tuple(self.open):
            if channel.phase() is Phase.ANSWERING and channel.handling is not None and channel.handling.on_late is not None:
                channel.handling.on_late()

    def abort_all(self) -> None:
        """Close what is left."""
        for channel in tuple(self.open):
            channel.abort()

    def count_refusal(self, fault: Fault) -> None:
        """Count a request that was refused before it was whole."""
        counter = self._refusals.get(fault.kind)
        if counter is None:
            about = "HTTP requests and connections refused before a request was whole."
            counter = self._refusals[fault.kind] = self._metrics.counter("m2mapp_http_refused_total", about, kind=fault.kind)
        counter.add()

    def sweep(self) -> None:
        """Look at every connection; end those that took too long. Costs their number."""
        self._tick += 1
        self.refresh_date()
        for channel in tuple(self.open):
            try:
                self._look_at(channel)
            except Exception:  # noqa: BLE001 - periodic work: one connection must not keep the others from being looked at
                _log.failure("A connection of {host} could not be looked at", host=channel.host)

    def _look_at(self, channel: Channel) -> None:
        phase = channel.phase()
        before, served, since = channel.seen
        if phase is not before or served != channel.served:
            channel.seen = (phase, channel.served, self._tick)
            return
        age_s = (self._tick - since) * SWEEP_S
        limits = self.limits
        if phase is Phase.IDLE and age_s >= limits.idle_s:
            channel.loseConnection()
        elif phase is Phase.HEAD and age_s >= limits.head_s:
            channel.refuse(DeadlinePassed(f"the head of the request did not arrive within {limits.head_s:g} s"), problems.REQUEST_TIMEOUT)
        elif phase is Phase.BODY and age_s >= limits.body_s:
            channel.refuse(DeadlinePassed(f"the body of the request did not arrive within {limits.body_s:g} s"), problems.REQUEST_TIMEOUT)
        elif phase is Phase.ANSWERING and channel.handling is not None:
            self._look_at_answer(channel.handling, age_s)
        elif phase is Phase.CLOSING and age_s >= limits.linger_s:
            self._end(channel, age_s)

    def _look_at_answer(self, request: WireRequest, age_s: float) -> None:
        late_at = request.late_at
        late = age_s >= self.limits.request_s or (late_at is not None and self.reactor.seconds() >= late_at)
        if late and request.on_late is not None:
            request.on_late()

    def _end(self, channel: Channel, age_s: float) -> None:
        if channel.closed and age_s >= 2 * self.limits.linger_s:
            channel.abort()
        elif not channel.closed:
            channel.loseConnection()


def host_of(address: IAddress) -> str:
    """The host of a client's address, IPv4 as such also where it came over IPv6; `local` where it has none (a Unix socket)."""
    host = getattr(address, "host", None)
    if not isinstance(host, str):
        return "local"
    if host.startswith("::ffff:"):
        try:
            mapped = ip_address(host)
        except ValueError:
            return host
        return str(getattr(mapped, "ipv4_mapped", None) or host)
    return host
