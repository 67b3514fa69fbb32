"""Answers without an end: the connection's side of a stream, at the pace of its reader, and the book of all of them.

Responsible for the head, for what waits while the reader does not read (bounded), for heartbeats and for the end. Not responsible for
what is sent, nor for what happens where there is no room: who sends is told (`events`, `lines`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from m2mapp.http import answers
from m2mapp.http.connection import WireRequest
from m2mapp.http.limits import HttpLimits
from m2mapp.model.errors import Overloaded, TooManyRequests
from m2mapp.model.metrics import Metrics

_log = Logger()

EVENT_STREAM = "text/event-stream"
_STALLED_BEATS = 3
"""A reader that takes nothing for so many heartbeats is gone."""
_HEAD = b"Content-Type: %s\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n"


class Outlets:
    """All streams of one HTTP service that are open: so many in all and of one source, a heartbeat for each."""

    def __init__(self, reactor: IReactorTime, limits: HttpLimits, metrics: Metrics) -> None:
        self.limits = limits
        self._reactor = reactor
        self._open: set[Outlet] = set()
        self._beat: IDelayedCall | None = None
        metrics.gauge("m2mapp_http_streams", "Streams that are open: of events, and of lines.", lambda: len(self._open))

    def check_room(self, wire: WireRequest) -> None:
        """Nothing, where one more may be opened for this request's source. Raises `Overloaded`, `TooManyRequests`."""
        if len(self._open) >= self.limits.streams:
            raise Overloaded(f"at most {self.limits.streams} streams", retry_after_s=10)
        if wire.connection.source.streams >= self.limits.streams_per_source:
            raise TooManyRequests(f"at most {self.limits.streams_per_source} streams from one address", retry_after_s=10)

    def began(self, outlet: Outlet) -> None:
        """A stream is open."""
        self._open.add(outlet)
        if self._beat is None:
            self._beat = self._reactor.callLater(self.limits.heartbeat_s, self._heartbeat)

    def ended(self, outlet: Outlet) -> None:
        """A stream is no longer."""
        self._open.discard(outlet)
        if not self._open and self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def close_all(self) -> None:
        """End every stream in good order."""
        for outlet in tuple(self._open):
            outlet.end()

    def _heartbeat(self) -> None:
        self._beat = self._reactor.callLater(self.limits.heartbeat_s, self._heartbeat)
        for outlet in tuple(self._open):
            try:
                outlet.beat()
            except Exception:  # noqa: BLE001 - periodic work: one stream must not keep the others from theirs
                _log.failure("A heartbeat could not be sent")


@implementer(IPushProducer)
class Outlet:
    """One stream. What is sent before `start` waits for it.

    `on_end` is called once, when nothing can be sent any more; `on_room` when the reader has taken all that waited.
    """

    def __init__(self, outlets: Outlets, wire: WireRequest, on_end: Callable[[], None], on_room: Callable[[], None] = lambda: None) -> None:
        self._outlets, self._wire, self._on_end, self._on_room = outlets, wire, on_end, on_room
        self._source = wire.connection.source
        self._heartbeat = b""
        self._stalled = 0
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self.paused = True
        self.ended = False

    def start(self, media_type: str, heartbeat: bytes) -> None:
        """Send the head, and what waits. `heartbeat` is what says nothing in this media type."""
        wire = self._wire
        self._heartbeat = heartbeat
        self._source.streams += 1
        self._outlets.began(self)
        wire.streaming = True
        wire.on_gone = self._forget
        chunked = wire.clientproto == b"HTTP/1.1"
        if not chunked:
            wire.connection.persistent = False
        wire.startedWriting = 1
        wire.chunked = int(chunked)
        framing = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n"
        head = answers.start(200, wire.trace, wire.connection.date(), close=not wire.connection.persistent)
        wire.connection.write(head + _HEAD % media_type.encode() + framing)
        self.paused = False
        wire.registerProducer(self, True)
        if not self.paused:
            self.resumeProducing()

    def send(self, data: bytes) -> bool:
        """Send this, or keep it until the reader reads. False where nothing more can be kept, or sent: then it is not."""
        if self.ended:
            return False
        if not self.paused:
            self._wire.write(data)
            return True
        limits = self._outlets.limits
        if self._waiting and (len(self._waiting) >= limits.stream_events or self._waiting_bytes + len(data) > limits.stream_bytes):
            return False
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        return True

    def end(self) -> None:
        """End the stream and the connection. Calling it again does nothing."""
        if self.ended:
            return
        self._forget()
        wire = self._wire
        if not wire.gone:
            wire.connection.persistent = False
            wire.unregisterProducer()
            wire.finish()

    def beat(self) -> None:
        """Send what says nothing, so that both ends and what is between them see that the stream lives."""
        if not self.paused:
            self.send(self._heartbeat)
            return
        self._stalled += 1
        if self._stalled >= _STALLED_BEATS:
            self._wire.connection.abort()

    # What the transport calls.

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write."""
        self.paused = True

    def resumeProducing(self) -> None:
        """The client reads again: send what waited."""
        self.paused = False
        self._stalled = 0
        while self._waiting and not self.paused and not self.ended:
            data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            self._wire.write(data)
        if not self.paused:
            self._on_room()

    def stopProducing(self) -> None:
        """The connection is lost; `on_gone` of the request follows."""

    def _forget(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._waiting.clear()
        self._source.streams -= 1
        self._outlets.ended(self)
        self._on_end()
