"""Pages that never end: who may read them, in which form, and what a slow reader costs."""

from __future__ import annotations

from m2mapp.model.errors import Malformed, Overloaded
from m2mapp.model.principal import ROLE_RIGHTS, Principal, Role
from tests.unit.http.cases import Reader, StreamCase
from tests.unit.http.harness import ADMIN, VIEWER, encode

TARGET = "/node/wire?peer=fd00::d1&path=%2Fa"


class LinesCase(StreamCase):
    def read(self, target: str = TARGET, accept: str | None = None, token: str = ADMIN) -> Reader:
        """A client that has asked for the lines."""
        client = self.node.client()
        client.send(encode("GET", target, b"", token, **({} if accept is None else {"Accept": accept})))
        return Reader(client)


class FormTests(LinesCase):
    def test_text(self) -> None:
        """Plain text, line by line, which says nothing by an empty line; the query went to the feed."""
        reader = self.read()
        self.assertTrue(self.node.feed.say("second ü"))
        self.assertEqual(reader.body().decode(), "first\nsecond ü\n")
        self.assertIn(b"Content-Type: text/plain;charset=utf-8", reader.head)
        self.assertIn(b"Cache-Control: no-store", reader.head)
        self.assertEqual(self.node.feed.asked, [(("peer", "fd00::d1"), ("path", "/a"))])
        self.node.clock.advance(15)
        self.assertEqual(reader.body(), b"\n")

    def test_events(self) -> None:
        """An event stream, where that is asked for."""
        reader = self.read(accept="text/event-stream")
        self.node.feed.say("second")
        self.node.clock.advance(15)
        self.assertEqual(reader.body(), b"data: first\n\ndata: second\n\n:\n\n")
        self.assertIn(b"Content-Type: text/event-stream", reader.head)

    def test_refused(self) -> None:
        """Other media types and methods are refused; what the feed raises is the answer, and nothing stays open."""
        client = self.node.client()
        self.assertEqual(client.request("GET", TARGET, Accept="application/json").code, 406)
        self.assertEqual(client.request("HEAD", TARGET).code, 405)
        self.node.feed.fault = Malformed("peer", "x", "an address")
        self.assertEqual(client.request("GET", TARGET).code, 400)
        self.node.feed.fault = Overloaded("too many")
        self.assertEqual(client.request("GET", TARGET).code, 503)
        self.assertEqual((self.node.feed.asked, self.gauge("m2mapp_http_streams")), ([], 0))

    def test_rights(self) -> None:
        """Only an administrator of the whole tree reads the wire: not a viewer, not an operator, not one of a part, not nobody."""
        client = self.node.client()
        self.assertEqual(client.request("GET", TARGET, token=VIEWER).code, 403)
        self.assertEqual(client.request("GET", TARGET, token=None).code, 401)
        for role, scope in ((Role.OPERATOR, ()), (Role.ADMIN, ("node",))):
            self.node.client().channel.principal = Principal("x", ROLE_RIGHTS[role], (scope,))
            channel = self.node.clients[-1].channel
            channel.secret = f"Bearer {ADMIN}".encode()
            self.assertEqual(self.node.clients[-1].request("GET", TARGET).code, 403, role)
        self.assertEqual(self.node.feed.asked, [])


class ReaderTests(LinesCase):
    def test_reader_goes(self) -> None:
        """The feed ends with its reader, once, and no line is taken any more."""
        reader = self.read()
        reader.client.leave()
        self.assertEqual(self.node.feed.ended, 1)
        self.assertFalse(self.node.feed.say("late"))

    def test_service_stops(self) -> None:
        """A stopping service ends the lines in good order."""
        reader = self.read()
        self.node.streams.outlets.close_all()
        reader.body()
        self.assertTrue(reader.ended)
        self.assertEqual(self.node.feed.ended, 1)

    def test_slow_reader(self) -> None:
        """What a slow reader has no room for is refused, so that the feed counts it; when it reads again there is room."""
        reader = self.read()
        reader.client.transport.buffer = 10
        self.node.feed.say("x" * 100)
        taken = [self.node.feed.say(f"line {number}") for number in range(8)]
        self.assertEqual(taken, [True] * 5 + [False] * 3)
        self.assertIn(b"line 4", b"".join(reader.body() for _ in range(8)))
        reader.client.transport.buffer = 65_536
        self.assertTrue(self.node.feed.say("again"))
        self.assertEqual(reader.body(), b"again\n")

    def test_reader_that_never_reads(self) -> None:
        """Who takes nothing for three heartbeats is gone."""
        reader = self.read()
        reader.client.transport.buffer = 10
        self.node.feed.say("x" * 100)
        self.node.clock.pump([15] * 3)
        self.assertTrue(reader.client.transport.aborted)
        reader.client.leave()
        self.assertEqual(self.node.feed.ended, 1)

    def test_places(self) -> None:
        """Lines and event streams share the places of their source."""
        readers = [self.read(), self.open("/a"), self.read()]
        self.assertEqual(self.refused_code(), 429)
        readers[0].client.leave()
        self.read()

    def refused_code(self) -> int:
        """The answer to one more."""
        return self.node.client().request("GET", TARGET).code
