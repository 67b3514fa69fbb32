"""Faults as RFC 9457 problem details: the one table from the kinds of `model.errors` to HTTP statuses, and their documents.

Not responsible for the wire form of an answer (`answers`) nor for when a fault is told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from m2mapp.model.errors import Fault, MethodNotAllowed, Overloaded, TooManyRequests, Unauthenticated

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:m2mapp:problem:"

STATUS: dict[str, int] = {
    "malformed": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "not-acceptable": 406,
    "conflict": 409,
    "precondition-failed": 412,
    "too-large": 413,
    "unsupported-media-type": 415,
    "too-many-requests": 429,
    "internal": 500,
    "storage-failed": 500,
    "not-supported": 501,
    "peer-failed": 502,
    "overloaded": 503,
    "deadline-passed": 504,
    "storage-full": 507,
    "loop-detected": 508,
}
"""The HTTP status of every kind of fault (RFC 9110, section 15; RFC 4918, 11.5 for 507; RFC 5842, 7.2 for 508; RFC 6585 for 429)."""

REQUEST_TIMEOUT, URI_TOO_LONG, HEADERS_TOO_LARGE = 408, 414, 431
"""Statuses of requests that are refused before they are whole, where HTTP is more exact than the kinds are."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem details document that is ready to send: status, header fields of its own, body."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


def allow_field(methods: tuple[str, ...]) -> bytes:
    """The value of `Allow` for the methods that a resource takes (RFC 9110, 10.2.1): HEAD comes with GET, OPTIONS with all."""
    names = [*methods, "OPTIONS"]
    if "GET" in methods:
        names.insert(names.index("GET") + 1, "HEAD")
    return ", ".join(names).encode("ascii", "replace")


def problem(fault: Fault, instance: str, trace: str, status: int | None = None) -> Problem:
    """The document of a fault (RFC 9457). `instance` is the path of the request, or empty; `status` replaces the table's, where given."""
    code = STATUS[fault.kind] if status is None else status
    document: dict[str, object] = {
        **fault.extensions(),
        "type": TYPE_PREFIX + fault.kind,
        "title": fault.title,
        "status": code,
        "detail": fault.detail,
        "trace": trace,
    }
    if instance:
        document["instance"] = instance
    return Problem(code, _fields(fault), json.dumps(document, default=str).encode())


def _fields(fault: Fault) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(fault, Unauthenticated):
        return ((b"WWW-Authenticate", b'Bearer realm="m2mapp"'),)  # RFC 6750, section 3
    if isinstance(fault, MethodNotAllowed):
        return ((b"Allow", allow_field(fault.allowed)),)
    if isinstance(fault, Overloaded | TooManyRequests):
        return ((b"Retry-After", b"%d" % max(1, fault.retry_after_s)),)
    return ()
