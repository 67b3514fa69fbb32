"""How a response is told over CoAP, where it is told again. What each option becomes is shown with the server."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.answers import LARGEST_PAYLOAD, response_message
from m2mapp.coap.message import Message
from m2mapp.coap.requests import Asked, in_blocks_of, read_options
from m2mapp.model.messages import Method, Response, Status


def asked(*options: tuple[int, bytes]) -> Asked:
    return read_options(Message(things.CON, things.GET, 1, b"", options), 256)


class ToldAgainTests(SynchronousTestCase):
    def test_same_response(self) -> None:
        """The same response is told the same again, with the token of who asks now; another one is told by what it says."""
        response = Response(Status.CONTENT, b"21.5", "text/plain", b"\x01\x02")
        question = asked((things.URI_PATH, b"t"))
        first, _ = response_message(response, Method.GET, question, b"one")
        again, _ = response_message(response, Method.GET, question, b"two")
        self.assertEqual(again, first._replace(token=b"two"))
        later, _ = response_message(response._replace(payload=b"22"), Method.GET, question, b"two")
        self.assertEqual(later.payload, b"22")

    def test_by_method_and_by_what_is_asked(self) -> None:
        """The same response means another code to another method, and nothing more to who has it (RFC 7252, section 5.9.1.3)."""
        response = Response(Status.CONTENT, b"21.5", "text/plain", b"\x01\x02")
        question, validation = asked((things.URI_PATH, b"t")), asked((things.ETAG, b"\x01\x02"), (things.URI_PATH, b"t"))
        for _ in range(2):
            self.assertEqual(response_message(response, Method.GET, question, b"")[0].code, things.CONTENT)
            self.assertEqual(response_message(response, Method.POST, question, b"")[0].code, things.CHANGED)
            self.assertEqual(response_message(response, Method.GET, validation, b"")[0].code, things.VALID)

    def test_large_is_not_kept(self) -> None:
        """A question does not keep a large response, not even one of which only the ETag was told."""
        response = Response(Status.CONTENT, bytes(LARGEST_PAYLOAD + 1), "text/plain", b"\x01\x02")
        validation = asked((things.ETAG, b"\x01\x02"), (things.URI_PATH, b"large"))
        response_message(response, Method.GET, validation, b"")
        self.assertIsNone(validation.told)
        question = asked((things.URI_PATH, b"large"))
        self.assertEqual(response_message(response, Method.GET, question, b"")[1].number, 0)  # type: ignore[union-attr]
        self.assertIsNone(question.told)

    def test_in_smaller_blocks(self) -> None:
        """What was told whole is not told whole again where smaller blocks are asked for."""
        response = Response(Status.CONTENT, bytes(100), "text/plain", b"\x01\x02")
        question = asked((things.URI_PATH, b"t"))
        response_message(response, Method.GET, question, b"")
        part, _ = response_message(response, Method.GET, in_blocks_of(question, 1), b"")
        self.assertEqual(len(part.payload), 32)
