"""Requests to other nodes by HTTP, with their tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from m2mapp.clients.heads import LimitedHeads
from m2mapp.formats.uris import Uri, path_uri
from m2mapp.model.errors import AnswerTooLarge, DeadlinePassed, Fault, NotSent, PeerFailed
from m2mapp.model.messages import Answer, Outgoing
from m2mapp.model.room import Room

MAX_ANSWER_BYTES = 16 << 20
MAX_ANSWERS_BYTES = 4 * MAX_ANSWER_BYTES
"""So many bytes of all answers that are being received at a time."""
_CONNECT_TIMEOUT_S = 10.0
_MAX_AGE = re.compile(r"(?:^|,)[ \t]*max-age=([0-9]{1,9})[ \t]*(?:,|$)", re.IGNORECASE | re.ASCII)


@implementer(IBodyProducer)
class _Body:
    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self.length = len(payload)

    def startProducing(self, consumer: object) -> Deferred[None]:  # noqa: N802 - Twisted's name
        """Write all of it."""
        consumer.write(self._payload)  # type: ignore[attr-defined]
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """Nothing is produced later."""

    def resumeProducing(self) -> None:
        """Nothing is produced later."""

    def stopProducing(self) -> None:
        """Nothing is produced later."""


class _Gather(Protocol):
    """The body of an answer, up to a limit, and as long as there is room. `said`: its length in bytes by its head, where that says it."""

    def __init__(self, said: object, room: Room) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._end())
        self._said, self._room = said if isinstance(said, int) else 0, room
        self._parts: list[bytes] = []
        self._size = 0

    def connectionMade(self) -> None:
        """One that is said to be too long is not begun."""
        if self._said > MAX_ANSWER_BYTES:
            self._refuse(_too_long())

    def dataReceived(self, data: bytes) -> None:
        """Take a part; too much ends the connection."""
        if self.done.called:
            return
        try:
            if self._size + len(data) > MAX_ANSWER_BYTES:
                raise _too_long()
            self._room.take(len(data))
        except Fault as fault:
            self._refuse(fault)
            return
        self._size += len(data)
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body is over, as it should be or not."""
        parts = self._parts
        self._let_go()
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(b"".join(parts))
        else:
            self.done.errback(PeerFailed(f"the answer broke off: {reason.getErrorMessage()}"))

    def _refuse(self, fault: Fault) -> None:
        self._end()
        self.done.errback(fault)

    def _let_go(self) -> None:
        self._room.give_back(self._size)
        self._parts, self._size = [], 0

    def _end(self) -> None:
        """Keep nothing of it; nothing further comes."""
        self._let_go()
        if self.transport is not None:
            self.transport.loseConnection()


def _too_long() -> AnswerTooLarge:
    return AnswerTooLarge(f"the answer has more than {MAX_ANSWER_BYTES} bytes")


class HttpClient:
    """Sends by HTTP. `token_files`: by authority (`n1.example.com:8080`), the file with the bearer token to show there."""

    def __init__(self, reactor: IReactorTime, token_files: Mapping[str, str]) -> None:
        self._reactor, self._token_files = reactor, dict(token_files)
        self._pool = HTTPConnectionPool(reactor)
        self._agent = Agent.usingEndpointFactory(reactor, LimitedHeads(reactor, _CONNECT_TIMEOUT_S), self._pool)
        self.room = Room(MAX_ANSWERS_BYTES, "other nodes' answers")

    def request(self, outgoing: Outgoing, uri: Uri, host: str, port: int) -> Deferred[Answer]:
        """The answer of the server at that address and port; fails with `PeerFailed`, `Overloaded` or `DeadlinePassed`."""
        place = Uri(uri.scheme, host, port, uri.path, uri.query).text().encode()
        body = _Body(outgoing.payload) if outgoing.payload else None
        started = self._reactor.seconds()
        try:
            headers = self._headers(outgoing, uri)
        except Fault as fault:
            return fail(fault)
        answered = self._agent.request(outgoing.method.value.encode(), place, headers, body)
        whole: Deferred[Answer] = answered.addCallback(self._read, started)
        whole.addTimeout(max(0.001, outgoing.timeout_s), self._reactor, _late)
        return whole.addErrback(_failed, uri)

    def close(self) -> Deferred[object]:
        """Close the connections that are kept."""
        return cast("Deferred[object]", self._pool.closeCachedConnections())

    def _headers(self, outgoing: Outgoing, uri: Uri) -> Headers:
        headers = Headers({"Host": [uri.authority], "User-Agent": ["m2mapp"]})
        given = {
            "Content-Type": outgoing.content_type if outgoing.payload else None,
            "Accept": outgoing.accept,
            "M2M-Request-Id": outgoing.request_id.hex() if outgoing.request_id else None,
            "M2M-Requester": outgoing.requester.hex() if outgoing.requester else None,
            "M2M-Cause": ", ".join(outgoing.cause) or None,
            "M2M-Deadline": f"{outgoing.timeout_s:.3f}",
            "traceparent": f"00-{outgoing.trace}-{outgoing.trace[:16]}-01" if outgoing.trace else None,
        }
        for name, value in given.items():
            if value is not None:
                headers.addRawHeader(name, value)
        file = self._token_files.get(uri.authority)
        if file:
            headers.addRawHeader("Authorization", f"Bearer {_token(file)}")
        return headers

    def _read(self, response: IResponse, started: float) -> Deferred[Answer]:
        gather = _Gather(response.length, self.room)
        response.deliverBody(gather)
        return gather.done.addCallback(self._answer, response, started)

    def _answer(self, payload: bytes, response: IResponse, started: float) -> Answer:
        def header(name: str) -> str | None:
            values = response.headers.getRawHeaders(name)
            return values[0] if values else None

        return Answer(
            code=str(response.code),
            payload=payload,
            content_type=header("Content-Type"),
            elapsed_s=self._reactor.seconds() - started,
            location=header("Location"),
            etag=_etag(header("ETag")),
            max_age_s=_max_age(header("Cache-Control")),
        )


def _token(file: str) -> str:
    try:
        return FilePath(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PeerFailed(f"the peer's token file {file} cannot be read: {error}") from error


def _etag(text: str | None) -> bytes | None:
    """The ETag of another m2mapp node, which is hexadecimal in quotes; None for any other."""
    try:
        return bytes.fromhex(text[1:-1]) if text is not None and text[:1] == text[-1:] == '"' else None
    except ValueError:
        return None


def _max_age(text: str | None) -> int | None:
    """The seconds of `max-age` in Cache-Control (RFC 9111, 5.2.2.1)."""
    found = _MAX_AGE.search(text) if text is not None else None
    return int(found[1]) if found is not None else None


def _late(_result: object, timeout_s: float) -> object:
    raise DeadlinePassed(f"no answer within {timeout_s:.3g} s")


def _fault_in(failure: Failure) -> Fault | None:
    """The fault, as it is or among the reasons for which an answer never came."""
    if isinstance(failure.value, Fault):
        return failure.value
    reasons: Sequence[Failure] = getattr(failure.value, "reasons", ())
    return next((reason.value for reason in reasons if isinstance(reason.value, Fault)), None)


def _failed(failure: Failure, uri: Uri) -> Failure:
    fault = _fault_in(failure)
    if fault is not None:
        return Failure(fault)
    kind = NotSent if failure.check(ConnectError) else PeerFailed
    raise kind(f"{uri.scheme}://{uri.authority}{path_uri(uri.path)}: {failure.getErrorMessage()}") from failure.value
