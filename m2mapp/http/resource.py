"""The resource API over HTTP (spec section 2): from a request on the wire to a `Request`, from a `Response` or `Fault` to an answer.

Not responsible for connections and their limits (`connection`), nor for what a request does: that is the handler's.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.documents import OCTETS
from m2mapp.http import answers, headers
from m2mapp.http.book import Connections
from m2mapp.http.connection import WireRequest
from m2mapp.http.events import Streams
from m2mapp.http.lines import LinePages
from m2mapp.http.metrics import Page, Plain
from m2mapp.http.outlet import EVENT_STREAM
from m2mapp.http.problems import allow_field, problem
from m2mapp.http.site import Site, SiteAnswer, is_for_site
from m2mapp.http.streaming import Streamed
from m2mapp.http.tokens import Tokens
from m2mapp.model.errors import (
    DeadlinePassed,
    Fault,
    Forbidden,
    InternalError,
    LoopDetected,
    Malformed,
    MethodNotAllowed,
    NotSupported,
    Overloaded,
    PreconditionFailed,
    TooManyRequests,
    Unauthenticated,
    UnsupportedMediaType,
    shown,
)
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import ANY_ETAG, UNCONDITIONAL, Conditions, Method, Request, Response, Status
from m2mapp.model.metrics import Counter, Metrics
from m2mapp.model.principal import Principal

_log = Logger()
_Found = TypeVar("_Found")

_METHODS = {method.value.encode(): method for method in Method} | {b"HEAD": Method.GET}
_ALL_METHODS = tuple(method.value for method in Method)
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=%-]*(:[0-9]*)?|\[[0-9A-Za-z:.%_-]+\](:[0-9]*)?")
_LATE_BY_S = 2.0
"""So long after its deadline a request may still be answered: who has the deadline answers it with what there is."""
_READ_SHARE, _PAGE_SHARE = 0.75, 0.5
_INTERNAL = 500
_MAX_INSTANCE = 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """What the edge is joined to.

    Who answers requests, who a request comes from, event streams, pages by path, pages without an end, and the site for people, if any.
    """

    handler: IHandle
    tokens: Tokens
    streams: Streams
    pages: Mapping[Path, Page]
    lines: LinePages
    site: Site | None = None


class Edge:
    """Serves the requests of one HTTP service. With `log_requests` each is logged with its trace."""

    def __init__(self, parts: Parts, connections: Connections, reactor: IReactorTime, metrics: Metrics, *, log_requests: bool) -> None:
        self._parts, self._connections, self._reactor, self._metrics = parts, connections, reactor, metrics
        self._handle: Callable[[Request], Response | Deferred[Response] | None] = parts.handler.handle
        self._log_requests = log_requests
        self._counters: dict[tuple[bytes, int], Counter] = {}
        self._seconds = metrics.histogram("m2mapp_http_request_seconds", "Seconds from an HTTP request's last byte to its answer.")

    def serve(self, wire: WireRequest) -> None:
        """Answer a request, now or later. Nothing is raised."""
        wire.started_at = self._reactor.seconds()
        try:
            fields = _fields(wire)
            wire.trace = headers.trace_of(fields.get(b"Traceparent"))
            self._serve(wire, fields)
        except Fault as fault:
            self._fail(wire, fault)
        except Exception:  # noqa: BLE001 - the entry point of requests: what nobody foresaw is logged with the trace, and answered
            _log.failure("{trace} {request} failed", trace=wire.trace, request=_first_line(wire))
            self._fail(wire, InternalError())

    # From the wire.

    def _serve(self, wire: WireRequest, fields: headers.Fields) -> None:
        method = _METHODS.get(wire.method)
        _check_host(wire, fields)
        if method is None:
            self._serve_other(wire)
            return
        raw_path, raw_query = headers.split_target(wire.uri)
        if self._parts.site is not None and is_for_site(raw_path):
            self._serve_site(wire, fields, self._parts.site)
            return
        path = headers.parse_path(raw_path)
        accept = headers.parse_accept(fields.get(b"Accept"))
        page = self._parts.pages.get(path)
        if page is not None:
            self._serve_page(wire, path, method, partial(page, partial(self._principal, wire, fields), accept))
            return
        principal = self._principal(wire, fields)
        if method is Method.GET and path in self._parts.lines:
            self._parts.lines.open(wire, path, principal, headers.parse_query(raw_query), accept)
            self._count(wire, 200)
            return
        request = self._request(wire, fields, method, path, headers.parse_query(raw_query), (principal, accept))
        if method is Method.GET and EVENT_STREAM in accept and wire.method == b"GET":
            self._parts.streams.open(wire, request, fields.get(b"Last-Event-Id"))
            self._count(wire, 200)
            return
        self._dispatch(wire, request, _conditions(fields) if method is Method.GET else UNCONDITIONAL)

    def _serve_other(self, wire: WireRequest) -> None:
        if wire.method != b"OPTIONS":
            raise NotSupported(f"the method {shown(wire.method.decode('ascii', 'replace'))} is not one of {', '.join(_ALL_METHODS)}")
        if wire.uri != b"*":
            headers.parse_path(headers.split_target(wire.uri)[0])
        self._send(wire, 204, b"Allow: %s\r\n\r\n" % allow_field(_ALL_METHODS))

    def _serve_page(self, wire: WireRequest, path: Path, method: Method, page: Callable[[], Plain]) -> None:
        if method is not Method.GET:
            raise MethodNotAllowed(method.value, path_text(path), ("GET",))
        plain = page()
        self._send(wire, plain.code, answers.render_plain(plain.media_type, plain.body, head_only=wire.method == b"HEAD"))

    def _serve_site(self, wire: WireRequest, fields: headers.Fields, site: Site) -> None:
        if self._connections.requests >= self._connections.limits.requests * _PAGE_SHARE:
            raise Overloaded(f"{self._connections.requests} requests await their answers")
        answered = site(wire, fields, self._parts.streams.outlets)
        if answered is None:
            self._count(wire, 200)
        elif isinstance(answered, SiteAnswer):
            self._send(wire, *answered)
        else:
            self._hold(answered, wire)
            answered.addCallback(lambda answer: self._send(wire, *answer)).addErrback(self._failed, wire)

    def _principal(self, wire: WireRequest, fields: headers.Fields) -> Principal:
        given = fields.get(b"Authorization") or b""
        connection = wire.connection
        known, tokens = connection.principal, self._parts.tokens
        same = known is not None and connection.secret is not None and hmac.compare_digest(given, connection.secret)
        if known is not None and same and connection.generation == tokens.generation:
            return known
        connection.principal = None
        principal = tokens.principal(given or None, connection.host)
        connection.principal, connection.secret, connection.generation = principal, given, tokens.generation
        return principal

    def _request(
        self,
        wire: WireRequest,
        fields: headers.Fields,
        method: Method,
        path: Path,
        query: tuple[tuple[str, str], ...],
        asked: tuple[Principal, tuple[str, ...]],
    ) -> Request:
        get = fields.get
        seconds = headers.parse_deadline(get(b"M2m-Deadline"))
        conditions = UNCONDITIONAL
        if method is not Method.GET:
            _check_content(fields)
            conditions = _conditions(fields)
        return Request(
            method=method,
            path=path,
            query=query,
            payload=wire.body,
            content_type=headers.parse_media_type(get(b"Content-Type")),
            accept=asked[1],
            conditions=conditions,
            principal=asked[0],
            trace=wire.trace,
            deadline=None if seconds is None else self._reactor.seconds() + seconds,
            request_id=headers.parse_request_id(get(b"M2m-Request-Id")),
            cause=headers.parse_cause(get(b"M2m-Cause")),
            takes_stream=wire.method != b"HEAD",
            requester=headers.parse_request_id(get(b"M2m-Requester"), "M2M-Requester"),
        )

    # Through the node.

    def _dispatch(self, wire: WireRequest, request: Request, reading: Conditions) -> None:
        self._check_room(wire, request)
        answered = self._handle(request)
        if isinstance(answered, Response):
            self._answer(answered, wire, request, reading)
        elif answered is None:
            raise InternalError("no answer was given")
        else:
            self._await(answered, wire, request, reading)

    def _check_room(self, wire: WireRequest, request: Request) -> None:
        connections = self._connections
        if not connections.requests:
            return
        limits = connections.limits
        most = limits.requests * _READ_SHARE if request.method is Method.GET else limits.requests
        if connections.requests >= most:
            raise Overloaded(f"{connections.requests} requests await their answers")
        if wire.connection.source.requests >= limits.requests_per_source:
            raise TooManyRequests(f"{limits.requests_per_source} requests from one address await their answers")

    def _await(self, answered: Deferred[Response], wire: WireRequest, request: Request, reading: Conditions) -> None:
        if request.deadline is not None:
            wire.late_at = request.deadline + _LATE_BY_S
        self._hold(answered, wire)
        answered.addCallback(self._answer, wire, request, reading).addErrback(self._failed, wire)
        answered.addCallback(lambda _: wire.connection.flush())

    def _hold(self, answered: Deferred[_Found], wire: WireRequest) -> None:
        """Count a request as one that awaits its answer, until it has it; who goes, or waits too long, ends it."""
        source = wire.connection.source
        source.requests += 1
        self._connections.requests += 1
        wire.on_gone = wire.on_late = answered.cancel

        def settled(result: _Found | Failure) -> _Found | Failure:
            source.requests -= 1
            self._connections.requests -= 1
            wire.on_gone = wire.on_late = None
            return result

        answered.addBoth(settled)

    # To the wire.

    def _answer(self, response: Response, wire: WireRequest, request: Request, reading: Conditions) -> None:
        code = answers.code_of(response)
        if response.stream is not None:
            if wire.gone:
                response.stream.close()
                return
            self._count(wire, code)
            Streamed(wire, response.stream, self._connections, self._reactor).start(code, response.content_type or OCTETS)
            return
        if reading is not UNCONDITIONAL and response.status is Status.CONTENT:
            code = _checked_read(reading, response, request.path)
        self._send(wire, code, answers.render(response, code, request.path, head_only=wire.method == b"HEAD"))

    def _failed(self, failure: Failure, wire: WireRequest) -> None:
        error = failure.value
        if isinstance(error, Fault):
            self._fail(wire, error)
        elif isinstance(error, CancelledError):
            self._fail(wire, DeadlinePassed("no answer came in time; what was asked may still be done"))
        else:
            _log.failure("{trace} {request} failed", failure, trace=wire.trace, request=_first_line(wire))
            self._fail(wire, InternalError())

    def _fail(self, wire: WireRequest, fault: Fault) -> None:
        if wire.gone:
            return
        if wire.startedWriting:
            wire.connection.abort()
            return
        if isinstance(fault, Forbidden) and not wire.requestHeaders.hasHeader(b"Authorization"):
            fault = Unauthenticated(fault.detail)
        found = problem(fault, _instance(wire), wire.trace)
        if found.status >= _INTERNAL:
            # A loop is how a request through groups that contain each other ends: nothing is wrong, and the metric of loops counts it.
            log = _log.debug if isinstance(fault, LoopDetected) else _log.warn
            log("{trace} {request}: {kind}: {detail}", trace=wire.trace, request=_first_line(wire), kind=fault.kind, detail=fault.detail)
        self._send(wire, found.status, answers.render_problem(found, head_only=wire.method == b"HEAD"))

    def _send(self, wire: WireRequest, code: int, rest: bytes) -> None:
        if wire.gone:
            return
        self._count(wire, code)
        wire.answer(code, rest)

    def _count(self, wire: WireRequest, code: int) -> None:
        method = wire.method if wire.method in _METHODS else b"other"
        counter = self._counters.get((method, code))
        if counter is None:
            counter = self._metrics.counter("m2mapp_http_requests_total", "HTTP requests answered.", method=method.decode(), code=str(code))
            self._counters[method, code] = counter
        counter.value += 1
        took = self._reactor.seconds() - wire.started_at
        self._seconds.observe(took)
        if self._log_requests:
            connection = wire.connection
            _log.info(
                "{trace} {source} {principal} {request} {code} {ms:.1f} ms",
                trace=wire.trace,
                source=connection.host,
                principal=connection.principal.name if connection.principal else "nobody",
                request=_first_line(wire),
                code=code,
                ms=took * 1000,
            )


def _fields(wire: WireRequest) -> headers.Fields:
    return {name: values[0] if len(values) == 1 else b", ".join(values) for name, values in wire.requestHeaders.getAllRawHeaders()}


def _check_host(wire: WireRequest, fields: headers.Fields) -> None:
    """A request without exactly one good Host is refused (RFC 9112, 3.2)."""
    host = fields.get(b"Host")
    if host is None:
        if wire.clientproto == b"HTTP/1.1":
            raise Malformed("Host", "nothing", "given, once (RFC 9112, 3.2)")
    elif not _HOST.fullmatch(host):
        raise Malformed("Host", host.decode("latin-1"), "one host with, if need be, a port")


def _check_content(fields: headers.Fields) -> None:
    """What would change the meaning of a body and is not understood is refused, never ignored (RFC 9110, 8.4 and 14.5)."""
    coding = fields.get(b"Content-Encoding")
    if coding is not None and coding.lower() != b"identity":
        raise UnsupportedMediaType(f"coded as {shown(coding.decode('latin-1'))}", ("identity",))
    if b"Content-Range" in fields:
        raise Malformed("Content-Range", fields[b"Content-Range"].decode("latin-1"), "left out: a body is always whole")
    if b"If-Unmodified-Since" in fields:
        raise Malformed("If-Unmodified-Since", fields[b"If-Unmodified-Since"].decode("latin-1"), "left out: use If-Match")


def _conditions(fields: headers.Fields) -> Conditions:
    if_match, if_none_match = fields.get(b"If-Match"), fields.get(b"If-None-Match")
    if if_match is None and if_none_match is None:
        return UNCONDITIONAL
    return Conditions(headers.parse_if_match(if_match), headers.parse_if_none_match(if_none_match))


def _checked_read(reading: Conditions, response: Response, path: Path) -> int:
    """200, or 304 where the client has this representation already (RFC 9110, 13.2.2). Raises `PreconditionFailed`."""
    if reading.if_match and not _names(reading.if_match, response.etag):
        raise PreconditionFailed(f"{path_text(path)} is not as If-Match says")
    return answers.NOT_MODIFIED if reading.if_none_match and _names(reading.if_none_match, response.etag) else 200


def _names(tags: tuple[bytes, ...], etag: bytes | None) -> bool:
    return any(tag in (ANY_ETAG, etag) for tag in tags)


def _instance(wire: WireRequest) -> str:
    """The path that was asked for, as it was sent; never the query, which may hold what is nobody else's business."""
    path = wire.uri.partition(b"?")[0]
    return path.decode("ascii", "replace") if len(path) <= _MAX_INSTANCE else ""


def _first_line(wire: WireRequest) -> str:
    return shown(f"{wire.method.decode('ascii', 'replace')} {wire.uri.partition(b'?')[0].decode('ascii', 'replace')}")
