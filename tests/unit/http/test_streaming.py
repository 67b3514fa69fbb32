"""Answers that are sent while they are made."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from m2mapp.http.streaming import STALLED_S
from m2mapp.model.interfaces import IStream
from m2mapp.model.messages import Response, Status
from tests.unit.http.cases import ConnectionCase, Reader
from tests.unit.http.harness import SocketTransport, encode

LINES = "application/x-ndjson"


@implementer(IStream)
class FakeStream:
    """A stream that gives what the test puts into it, and counts the reads."""

    def __init__(self, *parts: bytes | None) -> None:
        self.parts: list[bytes | None] = list(parts)
        self.reads = self.closed = 0
        self.broken = False
        self._wake: Callable[[], None] = lambda: None

    def open(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def put(self, *parts: bytes | None) -> None:
        """More to read; None is the end."""
        self.parts += parts
        self._wake()

    def read(self) -> bytes | None:
        if self.broken:
            raise ValueError("a bug")
        self.reads += 1
        return self.parts.pop(0) if self.parts else b""

    def close(self) -> None:
        self.closed += 1


class StreamingTests(ConnectionCase):
    def ask(self, stream: FakeStream, method: str = "GET", version: bytes = b"HTTP/1.1") -> Reader:
        """A client that has asked for it."""
        self.node.handler.outcome = Response(Status.CONTENT, stream=stream, content_type=LINES)
        client = self.node.client()
        client.send(encode(method, "/a").replace(b"HTTP/1.1", version))
        return Reader(client)

    def test_as_it_comes(self) -> None:
        """Each part is sent when it is there; at the end the connection serves the next request."""
        stream = FakeStream(b"1\n")
        verifyObject(IStream, stream)
        reader = self.ask(stream)
        self.assertEqual(reader.body(), b"1\n")
        for field in (b"HTTP/1.1 200 OK", b"Content-Type: application/x-ndjson", b"Transfer-Encoding: chunked", b"Cache-Control: no-store"):
            self.assertIn(field, reader.head)
        self.assertNotIn(b"Content-Length", reader.head)
        stream.put(b"2\n", b"3\n")
        self.assertEqual((reader.body(), reader.ended), (b"2\n3\n", False))
        stream.put(None)
        self.assertEqual((reader.body(), reader.ended, stream.closed), (b"", True, 1))
        self.node.handler.outcome = Response(Status.CONTENT, b"x", "text/plain")
        self.assertEqual(reader.client.request("GET", "/a").body, b"x")

    def test_after_a_while(self) -> None:
        """A stream that is there only after a while, and over at once; nobody waits for the answer any more when it comes."""
        done: Deferred[Response] = Deferred()
        self.node.handler.outcome = done
        client = self.node.client()
        client.send(encode("PUT", "/a", b"on", Content_Type="text/plain"))
        done.callback(Response(Status.CHANGED, stream=FakeStream(b"1\n", None), content_type=LINES))
        reader = Reader(client)
        self.assertEqual((reader.body(), reader.ended), (b"1\n", True))
        self.assertIn(b"200 OK", reader.head)

    def test_an_old_client(self) -> None:
        """HTTP/1.0 has no chunks: the answer ends with the connection."""
        stream = FakeStream(b"1\n", None)
        reader = self.ask(stream, version=b"HTTP/1.0")
        head, _, body = reader.client.received().partition(b"\r\n\r\n")
        self.assertEqual((body, b"Transfer-Encoding" in head, b"Connection: close" in head), (b"1\n", False, True))
        self.assertFalse(reader.client.open)

    def test_a_slow_reader(self) -> None:
        """Nothing is read from the stream for a client that does not read; it goes on where it stood when the client does."""
        part = b"x" * SocketTransport.buffer
        stream = FakeStream(*[part] * 10)
        reader = self.ask(stream)
        self.assertEqual(stream.reads, 1)
        stream.put(b"end\n")
        self.assertEqual(stream.reads, 1)
        self.assertEqual(reader.body(), part)
        self.assertEqual(stream.reads, 2)
        whole = b"".join(reader.body() for _ in range(11))
        self.assertEqual(whole, part * 9 + b"end\n")

    def test_one_that_never_reads(self) -> None:
        """A client that takes nothing for a minute is cut off, and what was made for it is let go."""
        stream = FakeStream(b"x" * (SocketTransport.buffer + 1), b"more")
        reader = self.ask(stream)
        self.node.sweep(STALLED_S - 2)
        self.assertTrue(reader.client.open)
        self.node.sweep(4)
        self.assertEqual((reader.client.transport.aborted, stream.closed), (True, 1))

    def test_the_client_goes(self) -> None:
        """A client that leaves closes the stream; what comes then goes nowhere."""
        stream = FakeStream(b"1\n")
        reader = self.ask(stream)
        self.assertEqual(self.node.connections.requests, 1)
        reader.client.leave()
        stream.put(b"2\n")
        self.assertEqual((stream.closed, stream.reads, self.node.connections.requests), (1, 2, 0))

    def test_gone_before_the_answer(self) -> None:
        """A stream for a client that is gone already is closed unread."""
        stream = FakeStream(b"1\n")
        answer = Response(Status.CHANGED, stream=stream, content_type=LINES)
        self.node.handler.outcome = Deferred(lambda cancelled: cancelled.callback(answer))
        client = self.node.client()
        client.send(encode("PUT", "/a", b"on", Content_Type="text/plain"))
        client.leave()
        self.assertEqual((stream.reads, stream.closed), (0, 1))

    def test_a_stream_that_breaks(self) -> None:
        """An error of the program breaks the answer off where it stands: the client sees that it is not whole."""
        stream = FakeStream(b"1\n")
        reader = self.ask(stream)
        stream.broken = True
        stream.put(b"2\n")
        self.assertTrue(reader.client.transport.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_who_can_take_one(self) -> None:
        """Whoever wants the head alone is given no stream."""
        for method in ("GET", "HEAD"):
            self.node.client().request(method, "/a")
        self.assertEqual([request.takes_stream for request in self.node.handler.requests], [True, False])
