"""Answers whose payload is made while it is sent (`Response.stream`): written in chunks (RFC 9112, 7.1) as fast as the client reads.

Nothing is kept for a client that reads slowly but what the socket holds; one that takes nothing for a minute is cut off. Not responsible
for event streams (`events`), which outlive any one answer.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from m2mapp.http import answers
from m2mapp.http.book import Connections
from m2mapp.http.connection import WireRequest
from m2mapp.model.interfaces import IStream

STALLED_S = 60.0
"""A client that has not read for so long is taken for gone."""

_log = Logger()


@implementer(IPushProducer)
class Streamed:
    """One answer on its way. It counts among the requests of its source until it is whole."""

    def __init__(self, wire: WireRequest, stream: IStream, connections: Connections, reactor: IReactorTime) -> None:
        self._wire, self._stream, self._connections, self._reactor = wire, stream, connections, reactor
        self._source = wire.connection.source
        self._paused = self._ended = False
        self._stalled: IDelayedCall | None = None

    def start(self, code: int, media_type: str) -> None:
        """Send the head and what there is; the rest follows as it comes."""
        wire = self._wire
        self._source.requests += 1
        self._connections.requests += 1
        wire.streaming = True
        wire.on_gone = self._gone
        chunked = wire.clientproto == b"HTTP/1.1"
        if not chunked:
            wire.connection.persistent = False
        wire.code = code
        wire.startedWriting = 1
        wire.chunked = int(chunked)
        head = answers.start(code, wire.trace, wire.connection.date(), close=not wire.connection.persistent)
        wire.connection.write(head + answers.render_stream(media_type, chunked=chunked))
        wire.registerProducer(self, True)
        self._stream.open(self._pump)
        self._pump()

    # What the transport calls.

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write."""
        self._paused = True
        if self._stalled is None and not self._ended:
            self._stalled = self._reactor.callLater(STALLED_S, self._cut_off)

    def resumeProducing(self) -> None:
        """The client reads again."""
        self._paused = False
        self._calm()
        self._pump()

    def stopProducing(self) -> None:
        """The connection is lost; `_gone` follows."""

    # Parts.

    def _pump(self) -> None:
        """Write what there is, as long as the client takes it."""
        while not self._paused and not self._ended:
            try:
                data = self._stream.read()
            except Exception:  # noqa: BLE001 - the head is sent: what nobody foresaw can only be logged, and the answer broken off
                _log.failure("{trace} a streamed answer broke off", trace=self._wire.trace)
                self._wire.connection.abort()
                return
            if data is None:
                self._forget()
                self._wire.unregisterProducer()
                self._wire.finish()
            elif data:
                self._wire.write(data)
            else:
                return

    def _cut_off(self) -> None:
        self._stalled = None
        _log.info("{trace} a streamed answer was not read for {s} s", trace=self._wire.trace, s=STALLED_S)
        self._wire.connection.abort()

    def _gone(self) -> None:
        if not self._ended:
            self._forget()

    def _forget(self) -> None:
        self._ended = True
        self._calm()
        self._wire.on_gone = None
        self._source.requests -= 1
        self._connections.requests -= 1
        self._stream.close()

    def _calm(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
