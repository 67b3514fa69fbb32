"""What an answer of another says, option by option. How it comes, in blocks and late, is shown with the client."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.message import Message
from m2mapp.coap.transfer import answer_of
from m2mapp.model.messages import Answer


def answer(*options: tuple[int, bytes]) -> Answer:
    return answer_of(Message(things.NON, things.CONTENT, 1, b"", options, b"x"), b"x", ("fd00::1", 5683), 0.5)


class AnswerTests(SynchronousTestCase):
    def test_no_options(self) -> None:
        """Without options there is the payload, and where it came from."""
        self.assertEqual(answer(), Answer("2.05", b"x", None, "fd00::1", 5683, 0.5))

    def test_repeated(self) -> None:
        """Of an option that must not be repeated the first counts (RFC 7252, section 5.4.5)."""
        found = answer((things.ETAG, b"1"), (things.ETAG, b"2"), (things.CONTENT_FORMAT, b"\x32"), (things.CONTENT_FORMAT, b"\x3c"))
        self.assertEqual((found.etag, found.content_type), (b"1", "application/json"))

    def test_location(self) -> None:
        """Location-Path and Location-Query are one relative URI, of however many parts."""
        parts = 20_000
        found = answer((things.ETAG, b"1"), *[(things.LOCATION_PATH, b"a")] * parts, (things.LOCATION_QUERY, b"b=1"))
        self.assertEqual(found.location, "/a" * parts + "?b=1")
