"""One HTTP connection and its requests, on twisted.web's channel: what a client sends until a request is whole.

All of it is limited, by number and size here, by time and by source in `book`; a refused request gets problem details, then the
connection ends. Not responsible for what a whole request means (`resource`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as TwistedRequest
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import implementer, provider

from m2mapp.http import answers, problems
from m2mapp.http.book import Connections, Phase, Source
from m2mapp.http.headers import trace_of
from m2mapp.model.errors import Fault, InternalError, Malformed, TooLarge
from m2mapp.model.principal import Principal

_log = Logger()

_BURST = 16
"""So many requests that came in one piece are answered in one turn of the reactor; then others have theirs."""
_MAX_NAME_BYTES = 64
"""The longest header name: twisted.web remembers 10,000 names of any length for ever."""
_LONG_LENGTH_LINE = 64
"""The longest line of a Content-Length: Python refuses to read a number of thousands of digits, and twisted.web does not expect that."""


class _Socket(Protocol):
    """What every stream transport of Twisted can do; its interfaces say it in three parts."""

    def write(self, data: bytes) -> object: ...
    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def abortConnection(self) -> None: ...  # noqa: N802 - Twisted's name


@provider(INonQueuedRequestFactory)
class WireRequest(TwistedRequest):
    """One request as it stands on the wire, until it is answered. Keeps the body in memory, never on disk.

    `principal` and `trace` are set by who serves it. `on_gone` is called when the client goes, `on_late` when the answer is not
    awaited any longer.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, False)
        self.connection = channel
        self.body = b""
        self.body_size = 0
        self.gone = self.streaming = False
        self.trace = ""
        self.started_at = 0.0
        self.late_at: float | None = None
        self.on_gone: Callable[[], None] | None = None
        self.on_late: Callable[[], None] | None = None
        self._chunks: list[bytes] = []

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
        """Called when the head is whole. No file is made: the body is kept in memory, which `Connections` counts."""

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """A part of the body, whatever its framing."""
        if self.connection.may_hold(self, len(data)):
            self._chunks.append(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is whole."""
        self.method, self.uri, self.clientproto = command, path, version
        if self._chunks:
            self.body = b"".join(self._chunks)
            self._chunks.clear()
        self.connection.serve(self)

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone; nothing can be answered any more."""
        self.gone = True
        super().connectionLost(reason)
        if self.on_gone is not None:
            self.on_gone()

    def answer(self, code: int, rest: bytes) -> None:
        """Send the whole answer to a client that is still there: `rest` is what comes after `answers.start`."""
        connection = self.connection
        self.code = code
        self.startedWriting = 1
        connection.write(answers.start(code, self.trace, connection.date(), close=not connection.persistent) + rest)
        self.finish()


class Channel(HTTPChannel):
    """One connection. `host` is the client's address, `principal` who its last request came from, with the field that said so.

    `generation` is that of the tokens when it was found.
    """

    requestFactory = WireRequest  # type: ignore[assignment]  # noqa: N815 - Twisted's name
    timeOut = None  # noqa: N815 - Twisted's name; `Connections.sweep` watches over all phases at once

    def __init__(self, connections: Connections, serve: Callable[[WireRequest], None]) -> None:
        super().__init__()
        limits = connections.limits
        self.totalHeadersSize = self.MAX_LENGTH = limits.head_bytes
        self.maxHeaders = limits.headers
        self.source = Source("")
        self.secret: bytes | None = None
        self.principal: Principal | None = None
        self.generation = 0
        self.refused = self.closed = False
        self.served = 0
        self.handling: WireRequest | None = None
        self.seen = (Phase.IDLE, 0, 0)
        self._connections = connections
        self._serve = serve
        self._burst = 0
        self._receiving = self._clogged = False
        self._again: IDelayedCall | None = None

    @property
    def host(self) -> str:
        """The client's address."""
        return self.source.host

    def date(self) -> bytes:
        """The Date field of an answer that is made now."""
        return self._connections.date

    def phase(self) -> Phase:
        """Where this connection is."""
        if self.refused or self.closed:
            return Phase.CLOSING
        if self.handling is not None:
            return Phase.STREAMING if self.handling.streaming else Phase.ANSWERING
        if not self.requests:
            return Phase.IDLE
        return Phase.HEAD if self.line_mode else Phase.BODY

    # What Twisted calls.

    def getPeer(self) -> IAddress:
        """The client's address and port; asked for each request, so it is kept."""
        return self._addresses[0]

    def getHost(self) -> IAddress:
        """Our own address and port."""
        return self._addresses[1]

    def connectionMade(self) -> None:
        """A client has connected."""
        self._socket = cast(_Socket, self.transport)
        self._addresses: tuple[IAddress, IAddress] = (super().getPeer(), super().getHost())
        super().connectionMade()
        fault = self._connections.admit(self)
        if fault is not None:
            self.refuse(fault)

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client. Nothing is raised, whatever they are."""
        if self.refused or self.closed:
            return
        outermost = not self._receiving
        if outermost:
            self._burst = 0
            self._receiving = True
        try:
            super().dataReceived(data)
        except Exception:  # noqa: BLE001 - the entry point of all bytes: nothing a peer sends may raise out of it
            _log.failure("A request from {host} could not be read", host=self.host)
            self._give_up()
        finally:
            if outermost:
                self._receiving = False

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802 - Twisted's name
        """A request line or a header field is too long."""
        self._refuse_head()

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802 - Twisted's name
        """One header field. False where it ends the request."""
        colon = line.find(b":", 0, _MAX_NAME_BYTES + 1)
        if colon < 0:
            self._refuse_field(line)
            return False
        if len(line) > _LONG_LENGTH_LINE and line[:colon].lower() == b"content-length":
            self.refuse(Malformed("Content-Length", line[colon + 1 :].decode("latin-1"), "a number of a few digits"))
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:  # noqa: N802 - Twisted's name
        """The head is whole: refuse what declares too much before any of it is read."""
        if self.length is not None and self.length > self._connections.limits.body_bytes:
            self.refuse(TooLarge("body", self._connections.limits.body_bytes))
            return
        super().allHeadersReceived()
        if self._connections.stopping:
            self.persistent = False

    def allContentReceived(self) -> None:
        """The request is whole."""
        if not self.refused:
            super().allContentReceived()

    def requestDone(self, request: WireRequest) -> None:  # noqa: N802 - Twisted's name
        """The answer is written; what the client had sent after the request is looked at now."""
        self._connections.give_back(self, request)
        self.handling = None
        self._burst += 1
        super().requestDone(request)
        if self._clogged:
            # twisted.web does not stop reading when the send buffer filled up while a request was answered.
            self._socket.pauseProducing()
        elif self._burst >= _BURST and not self.closed:
            self._wait_a_turn()

    def pauseProducing(self) -> None:
        """The client does not read its answers: make no more of them. twisted.web alone would go on with what it has read."""
        self._clogged = self.paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """The client reads again."""
        self._clogged = False
        super().resumeProducing()
        if self.paused and not self.closed:
            self._call_again()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self.closed = True
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for request in self.requests:
            self._connections.give_back(self, request)
        super().connectionLost(reason)
        self.handling = None
        self._connections.release(self)

    # What we do.

    def serve(self, request: WireRequest) -> None:
        """Hand a whole request on."""
        self.handling = request
        self.served += 1
        self._serve(request)

    def flush(self) -> None:
        """Send what the socket takes now, and not in the reactor's next turn: who gets an answer does not wait for what is done after it.

        TLS, and a connection that ends with this answer, send in their own time.
        """
        socket = self._socket
        if isinstance(socket, FileDescriptor) and socket.connected and not socket.disconnecting:
            socket.doWrite()  # What fails here fails again in the reactor's next turn, which ends the connection.

    def may_hold(self, request: WireRequest, size: int) -> bool:
        """Whether so many more bytes of the request's body are taken; refuses the request where they are not."""
        if self.refused:
            return False
        fault = self._connections.take_body(self, request, size)
        if fault is None:
            return True
        self.refuse(fault)
        return False

    def refuse(self, fault: Fault, status: int | None = None) -> None:
        """Answer a request that cannot be read to its end, read nothing more, and close once the client had time to take it."""
        if self.refused or self.closed:
            return
        self.refused = True
        self.persistent = False
        trace = trace_of(self.requests[-1].getHeader(b"Traceparent") if self.requests else None)
        found = problems.problem(fault, "", trace, status)
        _log.debug("{trace} {host} refused: {detail}", trace=trace, host=self.host, detail=fault.detail)
        self._connections.count_refusal(fault)
        self._socket.write(answers.start(found.status, trace, self.date(), close=True) + answers.render_problem(found))
        # Closing now would reset the connection while the client still sends, and the answer could be lost (RFC 9112, 9.6).
        self.lineReceived = self.rawDataReceived = _discard  # type: ignore[method-assign, assignment]
        self.clearLineBuffer()

    def loseConnection(self) -> None:
        """End the connection once what is written has been sent."""
        self.closed = True
        super().loseConnection()

    def abort(self) -> None:
        """End the connection now."""
        self.closed = True
        self._socket.abortConnection()

    def _give_up(self) -> None:
        if self.handling is None:
            self.refuse(InternalError())
        else:
            self.abort()

    def _refuse_field(self, line: bytes) -> None:
        if b":" in line:
            self.refuse(TooLarge("header name", _MAX_NAME_BYTES), problems.HEADERS_TOO_LARGE)
        else:
            self.refuse(Malformed("header", line.decode("latin-1"), "a name and a value with ':' between them (RFC 9112, 5)"))

    def _refuse_head(self) -> None:
        if self.requests:
            self.refuse(TooLarge("headers", self._connections.limits.head_bytes), problems.HEADERS_TOO_LARGE)
        else:
            self.refuse(TooLarge("request line", self._connections.limits.head_bytes), problems.URI_TOO_LONG)

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802 - Twisted's name
        """twisted.web found a fault: say which, as problem details; its own answer is a bare line."""
        if self._receivedHeaderSize > self.totalHeadersSize:
            self._refuse_head()
        elif self._receivedHeaderCount > self.maxHeaders:
            self.refuse(TooLarge("headers", self.maxHeaders, "header fields"), problems.HEADERS_TOO_LARGE)
        else:
            self.refuse(Malformed("request", "what was sent", "an HTTP/1.1 request (RFC 9112): request line, fields, framing"))

    def _wait_a_turn(self) -> None:
        self.paused = True
        self._socket.pauseProducing()
        self._call_again()

    def _call_again(self) -> None:
        if self._again is None:
            self._again = self._connections.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._again = None
        if self._clogged or self.refused or self.closed:
            return
        self.paused = False
        self._socket.resumeProducing()
        self.dataReceived(b"")


def _discard(_data: bytes) -> None:
    """Take what a refused client still sends."""


@implementer(IProtocolNegotiationFactory)
class ChannelFactory(ServerFactory):
    """Makes the channels of one HTTP service."""

    noisy = False

    def __init__(self, connections: Connections, serve: Callable[[WireRequest], None]) -> None:
        self._connections, self._serve = connections, serve

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
        """What a TLS client may choose (ALPN, RFC 7301). Without this Twisted ends the handshake of every client that offers any."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        """A channel for a client that has connected."""
        return Channel(self._connections, self._serve)
