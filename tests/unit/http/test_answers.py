"""Answers as bytes: each field that an answer has to bear, and none that could be smuggled in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.http import answers
from m2mapp.http.problems import Problem
from m2mapp.model.messages import Response, Status
from tests.unit.http.harness import Answer, parse_answers

DATE = b"Fri, 15 Jan 2027 08:00:00 GMT"


def rendered(response: Response, *, head_only: bool = False) -> Answer:
    code = answers.code_of(response)
    whole = answers.start(code, "a" * 32, DATE, close=False) + answers.render(response, code, ("a",), head_only=head_only)
    (answer,) = parse_answers(whole, head=head_only)
    return answer


class AnswerTests(SynchronousTestCase):
    def test_statuses(self) -> None:
        """The status follows from how it went and whether there is something to say."""
        for status, payload, code in [
            (Status.CREATED, b"", 201),
            (Status.CREATED, b"x", 201),
            (Status.CHANGED, b"", 204),
            (Status.CHANGED, b"x", 200),
            (Status.DELETED, b"", 204),
            (Status.DELETED, b"x", 200),
            (Status.CONTENT, b"", 200),
            (Status.CONTENT, b"x", 200),
            (Status.VALID, b"", 304),
        ]:
            self.assertEqual(rendered(Response(status, payload)).code, code, (status, payload))

    def test_fields(self) -> None:
        """ETag, times, lifetime, type and the guards against browsers are there."""
        answer = rendered(Response(Status.CONTENT, b"x", "text/plain", b"\x01\x05\xd2", max_age_s=5, modified_ms=1_800_000_000_999))
        self.assertEqual(answer.headers["etag"], '"0105d2"')
        self.assertEqual(answer.headers["last-modified"], DATE.decode())
        self.assertEqual(answer.headers["cache-control"], "max-age=5")
        self.assertEqual(answer.headers["content-type"], "text/plain")
        self.assertEqual(answer.headers["m2m-trace"], "a" * 32)
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertIn("sandbox", answer.headers["content-security-policy"])
        self.assertNotIn("connection", answer.headers)

    def test_without_a_lifetime(self) -> None:
        """What says nothing of its lifetime is asked for again each time."""
        self.assertEqual(rendered(Response(Status.CONTENT, b"x")).headers["cache-control"], "no-cache")

    def test_location(self) -> None:
        """Location is an absolute path, percent-encoded."""
        answer = rendered(Response(Status.CREATED, location=("a b", "ä", "c%/?#", "x:y")))
        self.assertEqual(answer.headers["location"], "/a%20b/%C3%A4/c%25%2F%3F%23/x:y")
        self.assertEqual(answer.headers["content-length"], "0")

    def test_next_page(self) -> None:
        """The next page is a link to the same path."""
        answer = rendered(Response(Status.CONTENT, b"x", next_query=(("limit", "2"), ("after", "a&b >"), ("flag", ""))))
        self.assertEqual(answer.headers["link"], '</a?limit=2&after=a%26b%20%3E&flag>; rel="next"')

    def test_head(self) -> None:
        """An answer to HEAD has the fields of that to GET and no body."""
        response = Response(Status.CONTENT, b"12345", "text/plain", b"\x01\x02")
        self.assertEqual(rendered(response, head_only=True).headers, rendered(response).headers)
        self.assertEqual(rendered(response, head_only=True).body, b"")

    def test_not_modified_has_no_length(self) -> None:
        """A 304 bears the validators and neither body nor length."""
        answer = rendered(Response(Status.VALID, etag=b"\x01\x02"))
        self.assertEqual((answer.headers["etag"], answer.body), ('"0102"', b""))
        self.assertNotIn("content-length", answer.headers)

    def test_nothing_is_smuggled(self) -> None:
        """A line break in a media type or in a problem's field does not begin a field."""
        answer = rendered(Response(Status.CONTENT, b"x", "text/plain\r\nEvil: 1\0"))
        self.assertNotIn("evil", answer.headers)
        whole = answers.start(405, "a", DATE, close=True) + answers.render_problem(Problem(405, ((b"Allow", b"GET\r\nEvil: 1"),), b"{}"))
        (found,) = parse_answers(whole)
        self.assertEqual(found.headers["allow"], "GET  Evil: 1")
        self.assertEqual(found.headers["connection"], "close")

    def test_every_status_of_problems_has_a_line(self) -> None:
        """No status that can be answered lacks its reason phrase."""
        for code in (200, 201, 204, 304, 400, 408, 414, 431, 503, 507, 508):
            self.assertRegex(answers.start(code, "a", DATE, close=False), rb"^HTTP/1\.1 %d [A-Z]" % code)
