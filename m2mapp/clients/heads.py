"""Bounds what a server may say before the body of its answer: Twisted's client reads a head of any length.

Not responsible for bodies: `http`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from m2mapp.model.errors import AnswerTooLarge

MAX_HEAD_BYTES = 128 << 10
"""More than the largest chunk that a connection gives at once, 64 KiB, which may have the beginning of the body too."""


class _HeadLimit(ProtocolWrapper):
    """Counts what comes from when a request is written until the client asks for a pause, which it does when a head is whole."""

    _head_bytes: int | None = None
    _too_long = False

    def write(self, data: bytes) -> None:
        """A request goes out."""
        self._head_bytes = 0
        super().write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """A request goes out."""
        self._head_bytes = 0
        super().writeSequence(data)

    def pauseProducing(self) -> None:
        """The head is whole; the body waits for whoever takes it."""
        self._head_bytes = None
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Hand it on; a head that is too long ends the connection."""
        if self._too_long:
            return
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().dataReceived(data)
        if self._head_bytes is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._too_long = True
            self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say why, where it is this."""
        if self._too_long:
            reason = Failure(AnswerTooLarge(f"the head of the answer has more than {MAX_HEAD_BYTES} bytes"))
        super().connectionLost(reason)


class _Limited(WrappingFactory):
    noisy = False
    protocol = _HeadLimit


@implementer(IStreamClientEndpoint)
class _LimitedEndpoint:
    """Connects as the endpoint that `make` makes does; what connects is who counts, what is given is the client's own protocol behind it.

    An Agent asks for an endpoint before it looks for a connection that is open: the endpoint is made where it connects.
    """

    def __init__(self, make: Callable[[], IStreamClientEndpoint]) -> None:
        self._make = make

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - the interface's name
        """A Deferred of the client's protocol, connected."""
        protocolFactory.noisy = False  # type: ignore[attr-defined]  # Twisted's own logs a line for each connection
        return self._make().connect(_Limited(protocolFactory)).addCallback(_client_of)


def _client_of(limit: IProtocol) -> IProtocol:
    if not isinstance(limit, _HeadLimit):
        raise TypeError(type(limit).__name__)
    return limit.wrappedProtocol


@implementer(IAgentEndpointFactory)
class LimitedHeads:
    """Where an Agent connects to, with heads bounded. Plain HTTP alone: nothing else is asked for."""

    def __init__(self, reactor: IReactorTime, connect_timeout_s: float) -> None:
        self._reactor, self._connect_timeout_s = reactor, connect_timeout_s

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802 - Twisted's name
        """The endpoint of a URI's host, an IP literal, and port."""
        host, port = uri.host.decode("ascii"), uri.port
        return _LimitedEndpoint(partial(HostnameEndpoint, self._reactor, host, port, timeout=self._connect_timeout_s))
