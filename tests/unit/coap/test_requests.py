"""What a request's options say, and that it is read once for many requests. How each option is obeyed is shown with the server."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import requests, things
from m2mapp.coap.faults import Refused
from m2mapp.coap.message import Message, Options
from m2mapp.coap.requests import read_options
from m2mapp.model.errors import TooLarge


def get(*options: tuple[int, bytes]) -> Message:
    return Message(things.CON, things.GET, 1, b"", options)


class ReadOptionsTests(SynchronousTestCase):
    def test_same_options(self) -> None:
        """The same options are read once, whatever else the messages say; others are not taken for them."""
        path: Options = ((things.URI_PATH, b"a"), (things.URI_PATH, b"b"))
        asked = read_options(get(*path), 256)
        self.assertEqual(asked.path, ("a", "b"))
        self.assertIs(read_options(Message(things.NON, things.PUT, 2, b"t", path, b"21.5"), 256), asked)
        self.assertEqual(read_options(get(*path, (things.URI_QUERY, b"x=1")), 256).query, (("x", "1"),))
        self.assertEqual(asked.query, ())

    def test_limit_of_options_each_time(self) -> None:
        """Options that were read before under a larger limit are still too many."""
        path: Options = ((things.URI_PATH, b"a"), (things.URI_PATH, b"b"))
        read_options(get(*path), 2)
        self.assertRaises(TooLarge, read_options, get(*path), 1)

    def test_refused_each_time(self) -> None:
        """What is refused is refused again."""
        for _ in range(2):
            self.assertRaises(Refused, read_options, get((9999, b"")), 256)

    def test_bounds(self) -> None:
        """What is remembered is bounded in number, and long options are not."""
        for number in range(3000):
            read_options(get((things.URI_PATH, str(number).encode())), 256)
        self.assertLessEqual(len(requests._known), 1024)
        long = get((things.URI_PATH, bytes(100)))
        self.assertIsNot(read_options(long, 256), read_options(long, 256))
