"""Problem details: every kind of fault has a status, and its document says what RFC 9457 wants."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.http.problems import STATUS, allow_field, problem
from m2mapp.model.errors import (
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    NotAcceptable,
    Overloaded,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    every_fault,
)


class ProblemTests(SynchronousTestCase):
    def test_every_fault_has_a_status(self) -> None:
        """The table knows exactly the kinds that there are."""
        self.assertEqual(sorted(STATUS), sorted({fault.kind for fault in every_fault()}))

    def test_members(self) -> None:
        """A document has the members of RFC 9457, the trace, and what the fault adds."""
        found = problem(Malformed("query", "a\nb", "text"), "/x", "t" * 32)
        self.assertEqual(found.status, 400)
        self.assertEqual(
            json.loads(found.body),
            {
                "type": "urn:m2mapp:problem:malformed",
                "title": "Malformed request",
                "status": 400,
                "detail": "query: a\ufffdb is not text",
                "instance": "/x",
                "trace": "t" * 32,
                "field": "query",
                "value": "a\ufffdb",
                "expected": "text",
            },
        )

    def test_extensions(self) -> None:
        """What a fault carries stands in the document: limit, allowed methods, offered types."""
        for fault, name, value in [
            (TooLarge("body", 10), "limit", 10),
            (MethodNotAllowed("PUT", "/", ("GET",)), "allowed", ["GET"]),
            (NotAcceptable(("text/plain",)), "offered", ["text/plain"]),
        ]:
            self.assertEqual(json.loads(problem(fault, "/", "t").body)[name], value)

    def test_fields(self) -> None:
        """Some statuses oblige to a header field: WWW-Authenticate, Allow, Retry-After."""
        for fault, field in [
            (Unauthenticated(), (b"WWW-Authenticate", b'Bearer realm="m2mapp"')),
            (MethodNotAllowed("PUT", "/", ("GET", "POST")), (b"Allow", b"GET, HEAD, POST, OPTIONS")),
            (TooManyRequests("x", 7), (b"Retry-After", b"7")),
            (Overloaded("x", 0), (b"Retry-After", b"1")),
        ]:
            self.assertEqual(problem(fault, "/", "t").fields, (field,))
        self.assertEqual(problem(NoSuchResource("/"), "/", "t").fields, ())

    def test_status_that_http_is_more_exact_about(self) -> None:
        """The status may be another one than the table's; the document agrees with it."""
        found = problem(TooLarge("request line", 9), "", "t", 414)
        self.assertEqual((found.status, json.loads(found.body)["status"]), (414, 414))

    def test_allow_without_get(self) -> None:
        """HEAD is allowed only where GET is."""
        self.assertEqual(allow_field(("POST",)), b"POST, OPTIONS")
        self.assertEqual(allow_field(()), b"OPTIONS")
