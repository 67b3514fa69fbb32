"""Answers as bytes: the head and body of one HTTP/1.1 response (RFC 9110, RFC 9112), made whole so that it is written at once.

Pure. Of answers whose length is not known only the head is made here (`streaming` and `events` send them).
"""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import quote

from m2mapp.formats.uris import path_uri
from m2mapp.http.problems import PROBLEM_JSON, Problem
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Response, Status

NOT_MODIFIED = 304
_NO_CONTENT = 204
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}

_GUARD = b"X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox; default-src 'none'\r\n"
"""Content is what somebody stored: a browser shall neither guess its type nor run it beside the pages of this node."""

_WITHOUT_PAYLOAD = {Status.CREATED: 201, Status.CHANGED: 204, Status.DELETED: 204, Status.CONTENT: 200, Status.VALID: NOT_MODIFIED}
_WITH_PAYLOAD = {Status.CREATED: 201, Status.CHANGED: 200, Status.DELETED: 200, Status.CONTENT: 200, Status.VALID: NOT_MODIFIED}


def code_of(response: Response) -> int:
    """The HTTP status of an answer that went well."""
    return (_WITH_PAYLOAD if response.payload or response.stream is not None else _WITHOUT_PAYLOAD)[response.status]


def render(response: Response, code: int, path: Path, *, head_only: bool) -> bytes:
    """The header fields and the body of an answer, after the fields that every answer has (`start`)."""
    parts = [_GUARD]
    etag = response.etag
    if etag is not None:
        parts.append(b'ETag: "%s"\r\n' % etag.hex().encode())
    if response.modified_ms is not None:
        parts.append(b"Last-Modified: %s\r\n" % _date(response.modified_ms // 1000))
    if code in (HTTPStatus.OK, NOT_MODIFIED):
        # Without a lifetime a browser would guess one from Last-Modified (RFC 9111, 4.2.2) and show old values.
        age = response.max_age_s
        parts.append(
            b"Vary: Accept\r\nCache-Control: no-cache\r\n" if age is None else b"Vary: Accept\r\nCache-Control: max-age=%d\r\n" % age
        )
    if response.location is not None:
        parts.append(b"Location: %s\r\n" % path_uri(response.location).encode())
    if response.next_query is not None:
        parts.append(b'Link: <%s>; rel="next"\r\n' % _reference(path, response.next_query).encode())
    if code in (_NO_CONTENT, NOT_MODIFIED):
        parts.append(b"\r\n")
        return b"".join(parts)
    payload = response.payload
    if response.content_type is not None and payload:
        parts.append(b"Content-Type: %s\r\n" % _field_value(response.content_type))
    parts.append(b"Content-Length: %d\r\n\r\n" % len(payload))
    if not head_only:
        parts.append(payload)
    return b"".join(parts)


def render_problem(problem: Problem, *, head_only: bool = False) -> bytes:
    """The header fields and the body of a problem details answer, after `start`."""
    own = b"".join(b"%s: %s\r\n" % (name, one_line(value)) for name, value in problem.fields)
    head = b"%sCache-Control: no-store\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (own, PROBLEM_JSON.encode(), len(problem.body)) + (b"" if head_only else problem.body)


def render_plain(media_type: str, body: bytes, *, head_only: bool = False) -> bytes:
    """The header fields and the body of an answer that is of this moment only, after `start`."""
    head = b"Cache-Control: no-store\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (media_type.encode(), len(body))
    return head if head_only else head + body


def render_stream(media_type: str, *, chunked: bool) -> bytes:
    """The header fields of an answer whose length is not known yet, after `start`; not chunked, it ends with the connection."""
    framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    # A proxy that gathers the chunks would undo what the client asked for.
    head = b"%sVary: Accept\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\nContent-Type: %s\r\n%s\r\n"
    return head % (_GUARD, _field_value(media_type), framing)


def start(code: int, trace: str, date: bytes, *, close: bool) -> bytes:
    """The status line and the fields that every answer has. `close`: the connection ends after it (RFC 9112, 9.6)."""
    connection = b"Connection: close\r\n" if close else b""
    return b"%sDate: %s\r\nM2M-Trace: %s\r\n%s" % (_STATUS_LINES[code], date, trace.encode(), connection)


def one_line(value: bytes) -> bytes:
    """A header field value without line breaks and NUL, which would end the field (RFC 9110, 5.5)."""
    return value.translate(_NO_BREAKS)


_NO_BREAKS = bytes(b if b not in b"\r\n\0" else ord(" ") for b in range(256))


def _reference(path: Path, query: tuple[tuple[str, str], ...]) -> str:
    pairs = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" if value else quote(key, safe="") for key, value in query)
    return f"{path_uri(path)}?{pairs}"


@lru_cache(maxsize=256)
def _field_value(text: str) -> bytes:
    return one_line(text.encode("latin-1", "replace"))


@lru_cache(maxsize=4096)
def _date(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode()
