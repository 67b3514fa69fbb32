"""Connections: what a client can send before a request is whole, how much of it, for how long; and that no bytes do harm."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.http.connection import ChannelFactory
from m2mapp.http.limits import HttpLimits
from m2mapp.model.messages import Response, Status
from tests.unit import examples
from tests.unit.http.cases import HEAD, PUT, ConnectionCase
from tests.unit.http.harness import HOST, Client, Node, encode, parse_answers


class SizeTests(ConnectionCase):
    def test_bodies_are_refused_before_they_are_read(self) -> None:
        """A declared length above the limit is answered with 413 at once, and without `100 Continue`."""
        answer = self.refused(PUT + b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual((answer.code, answer.json()["field"], answer.json()["limit"]), (413, "body", 1 << 20))

    def test_body_at_the_limit(self) -> None:
        """The largest body is taken, in pieces too, and kept in memory."""
        client = self.node.client()
        client.send(PUT + b"Content-Length: 1048576\r\n\r\n")
        for _ in range(16):
            client.send(b"x" * 65_536)
        self.assertEqual(client.answers()[0].code, 200)
        self.assertEqual(len(self.node.handler.requests[0].payload), 1 << 20)

    def test_chunked_bodies_are_counted_as_they_arrive(self) -> None:
        """A chunked body is refused with the chunk that goes over the limit."""
        client = self.node.client()
        client.send(PUT + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(16):
            client.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        self.assertEqual(client.received(), b"")
        client.send(b"1\r\nx\r\n0\r\n\r\n")
        self.assertEqual(self.refusal(client).code, 413)

    def test_chunked_body(self) -> None:
        """Chunks become one body."""
        client = self.node.client()
        client.send(PUT + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        self.assertEqual(self.node.handler.requests[0].payload, b"abcde")

    def test_continue(self) -> None:
        """Who asks whether a body is welcome is told so when it is."""
        client = self.node.client()
        client.send(PUT + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(client.received(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"ab")
        self.assertEqual(client.answers()[0].code, 200)

    def test_request_line(self) -> None:
        """A request line that is too long gets 414, whether or not it ever ends."""
        for data in (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n", b"G" * 20_000):
            answer = self.refused(data)
            self.assertEqual((answer.code, answer.json()["field"]), (414, "request line"))

    def test_headers(self) -> None:
        """Too many, too long or too much of header fields gets 431."""
        many = b"".join(b"X-%d: 1\r\n" % number for number in range(70))
        for data in (many, b"X: " + b"y" * 20_000, b"X: " + b"y" * 9000 + b"\r\nY: " + b"y" * 9000 + b"\r\n", b"N" * 65 + b": 1\r\n"):
            answer = self.refused(HEAD + data + b"\r\n\r\n")
            self.assertEqual((answer.code, answer.json()["type"]), (431, "urn:m2mapp:problem:too-large"), data[:20])

    def test_length_of_thousands_of_digits(self) -> None:
        """A length that Python itself refuses to read is a malformed request like any other."""
        answer = self.refused(PUT + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n")
        self.assertEqual((answer.code, answer.json()["field"]), (400, "Content-Length"))


class OwnErrorTests(ConnectionCase):
    def test_error_while_reading(self) -> None:
        """An error of our own while bytes are read is logged and answered with 500; it does not leave the protocol."""
        client = self.node.client()

        def broken(_request: object, _size: int) -> bool:
            raise RuntimeError("for the test")

        client.channel.may_hold = broken  # type: ignore[method-assign, assignment]
        client.send(encode("PUT", "/a", b"x"))
        self.assertEqual(self.refusal(client).code, 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_error_while_answering(self) -> None:
        """Where an answer may have been begun, nothing more can be said: the connection is cut."""

        def broken(_request: object) -> None:
            raise RuntimeError("for the test")

        client = Client(ChannelFactory(self.node.connections, broken))
        client.send(encode("GET", "/a"))
        self.assertEqual((client.transport.aborted, client.received()), (True, b""))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class FramingTests(ConnectionCase):
    def test_bad_requests(self) -> None:
        """What is no HTTP/1.1 is told so, as problem details."""
        for data in [
            b"\x16\x03\x01\x02\x00\x01\r\n",
            b"GET /a\r\n\r\n",
            b"GET  /a HTTP/1.1\r\n\r\n",
            b"GET /a HTTP/2.0\r\n\r\n",
            b"GET /\x7f\xff HTTP/1.1\r\n\r\n",
            b"G@T / HTTP/1.1\r\n\r\n",
            HEAD + b"no colon\r\n\r\n",
            HEAD + b"Bad Name: 1\r\n\r\n",
            HEAD + b": 1\r\n\r\n",
            HEAD + b"X: a\x00b\r\n\r\n",
            HEAD + b"X : 1\r\n\r\n",
            PUT + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            PUT + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            PUT + b"Content-Length: -1\r\n\r\n",
            PUT + b"Content-Length: 0x3\r\n\r\n",
            PUT + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
            PUT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            PUT + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcXY",
            PUT + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
        ]:
            answer = self.refused(data)
            self.assertEqual(answer.code, 400, data)
            self.assertEqual(answer.json()["type"], "urn:m2mapp:problem:malformed")

    def test_trace_of_a_refusal(self) -> None:
        """A refusal keeps the trace that the client sent, once its field has come."""
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        field = f"traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n".encode()
        self.assertEqual(self.refused(HEAD + field + b"no colon\r\n\r\n").headers["m2m-trace"], trace)

    def test_truncated_body(self) -> None:
        """A client that leaves in the middle of a body has asked for nothing, and what it sent is given back."""
        client = self.node.client()
        client.send(PUT + b"Content-Length: 100\r\n\r\n" + b"x" * 50)
        self.assertEqual(self.node.connections.body_bytes, 50)
        client.leave()
        self.assertEqual((self.node.connections.body_bytes, self.node.handler.requests), (0, []))

    def test_byte_by_byte(self) -> None:
        """A request may come in pieces of any size."""
        client = self.node.client()
        for byte in encode("PUT", "/a", b"body", Content_Type="text/plain"):
            client.send(bytes([byte]))
        self.assertEqual(client.answers()[0].code, 200)
        self.assertEqual(self.node.handler.requests[0].payload, b"body")

    def test_after_a_refusal_nothing_is_read(self) -> None:
        """What follows a request that could not be read is no request."""
        client = self.node.client()
        client.send(b"nonsense\r\n\r\n" + encode("GET", "/a"))
        client.send(encode("GET", "/a"))
        self.refusal(client)

    def test_http_1_0(self) -> None:
        """HTTP/1.0 needs no Host and ends with its answer."""
        client = self.node.client()
        client.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        self.assertFalse(client.open)
        (answer,) = client.answers()
        self.assertEqual((answer.code, answer.headers["connection"]), (200, "close"))

    def test_close_on_demand(self) -> None:
        """`Connection: close` is kept to."""
        client = self.node.client()
        answer = client.request("GET", "/a", Connection="close")
        self.assertEqual((answer.headers["connection"], client.open), ("close", False))


class PipeliningTests(ConnectionCase):
    def test_pipelined(self) -> None:
        """Requests that come together are answered in their order, a few in each turn of the reactor."""
        self.node.handler.outcome = lambda request: Response(Status.CONTENT, request.path[0].encode())
        client = self.node.client()
        client.send(b"".join(encode("GET", f"/{number}") for number in range(100)))
        self.assertLess(len(self.node.handler.requests), 20)
        self.assertTrue(client.transport.reading_paused)
        bodies = [answer.body for answer in client.answers()]
        while self.node.clock.getDelayedCalls():
            self.node.clock.advance(0)
            bodies += [answer.body for answer in client.answers()]
        self.assertEqual(bodies, [str(number).encode() for number in range(100)])
        self.assertFalse(client.transport.reading_paused)

    def test_one_after_the_other(self) -> None:
        """A request is looked at when the one before it is answered."""
        first: Deferred[Response] = Deferred()
        self.node.handler.outcome = lambda request: first if request.path == ("slow",) else Response(Status.CONTENT, b"2")
        client = self.node.client()
        client.send(encode("GET", "/slow") + encode("PUT", "/fast", b"x"))
        self.assertEqual(len(self.node.handler.requests), 1)
        first.callback(Response(Status.CONTENT, b"1"))
        self.assertEqual([answer.body for answer in client.answers()], [b"1", b"2"])

    def test_a_client_that_does_not_read(self) -> None:
        """Answers that nobody takes are not piled up: requests wait, and the socket is not read, until there is room."""
        self.node.handler.outcome = Response(Status.CONTENT, b"x" * 50_000)
        client = self.node.client()
        client.send(encode("GET", "/a") * 15)
        self.assertEqual(len(self.node.handler.requests), 2)
        self.assertTrue(client.transport.reading_paused)
        client.send(encode("GET", "/a") * 5)
        self.assertEqual(len(self.node.handler.requests), 2)
        answered = 0
        while len(client.transport.value()):
            answered += len(parse_answers(client.read()))
            self.node.clock.advance(0)
        self.assertEqual(answered, 20)
        self.assertFalse(client.transport.reading_paused)

    def test_what_waits_is_bounded(self) -> None:
        """While a request is under way, only a little of what follows is read."""
        self.node.handler.outcome = Deferred()
        client = self.node.client()
        client.send(encode("GET", "/a"))
        client.send(b"x" * 20_000)
        self.assertTrue(client.transport.reading_paused)


PIECES = st.sampled_from(
    [
        *(b"GET /a HTTP/1.1\r\n", b"PUT /a HTTP/1.1\r\n", b"Host: h\r\n", b"\r\n", b"\r\n\r\n", b"Content-Length: 3\r\n", b"abc", b":"),
        *(
            b"Transfer-Encoding: chunked\r\n",
            b"0\r\n\r\n",
            b"3\r\nabc\r\n",
            b"Expect: 100-continue\r\n",
            b" continued\r\n",
            b"Accept: x\r\n",
        ),
        *(b"Authorization: Bearer admin-token-for-tests\r\n", b"Connection: close\r\n", b"If-Match: \r\n", b"GET /%ff?% HTTP/1.0\r\n\r\n"),
        *(
            b"OPTIONS * HTTP/1.1\r\n",
            b"HEAD /healthz HTTP/1.1\r\n",
            b"Accept: text/event-stream\r\n",
            b"M2M-Cause: ,\r\n",
            b"Content-Type: /\r\n",
        ),
    ]
)


class _Descriptor(FileDescriptor):
    """A socket that takes so many bytes, and a reactor that waits until it takes more."""

    def __init__(self, takes: int) -> None:
        self.reactor: MemoryReactor = MemoryReactor()
        super().__init__(self.reactor)
        self.connected = 1
        self.takes, self.sent = takes, b""

    def writeSomeData(self, data: bytes) -> int:  # noqa: N802 - Twisted's name
        taken, self.takes = min(self.takes, len(data)), max(0, self.takes - len(data))
        self.sent += data[:taken]
        return taken

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", HOST, 4711)

    getHost = getPeer


class FlushTests(ConnectionCase):
    def _answered(self, takes: int, connection: str = "keep-alive") -> _Descriptor:
        """The socket of a connection whose one request was answered after a while."""
        answered: Deferred[Response] = Deferred()
        self.node.handler.outcome = answered
        channel, socket = self.node.factory.buildProtocol(None), _Descriptor(takes)
        channel.makeConnection(socket)
        self.addCleanup(channel.connectionLost, Failure(CONNECTION_DONE))
        channel.dataReceived(encode("GET", "/a", Connection=connection))
        answered.callback(Response(Status.CONTENT, b"x" * 1000))
        return socket

    def test_awaited_answer_is_sent_at_once(self) -> None:
        """Who answers may do other things after it: the answer is in the socket before."""
        socket = self._answered(1 << 20)
        self.assertEqual(parse_answers(socket.sent)[0].body, b"x" * 1000)
        self.assertEqual(socket.reactor.getWriters(), [])

    def test_socket_without_room(self) -> None:
        """What the socket does not take at once the reactor sends when it does."""
        socket = self._answered(100)
        self.assertEqual((len(socket.sent), socket.reactor.getWriters()), (100, [socket]))
        socket.takes = 1 << 20
        self.assertIsNone(socket.doWrite())
        self.assertEqual(parse_answers(socket.sent)[0].body, b"x" * 1000)

    def test_last_answer_of_a_connection(self) -> None:
        """A connection that ends with the answer is left to the reactor, which has to learn of its end."""
        socket = self._answered(1 << 20, "close")
        self.assertEqual((socket.sent, socket.reactor.getWriters()), (b"", [socket]))
        self.assertIs(socket.doWrite(), CONNECTION_DONE)
        self.assertEqual(parse_answers(socket.sent)[0].body, b"x" * 1000)


class AnyBytesTests(SynchronousTestCase):
    @settings(max_examples=examples(150))
    @given(st.lists(PIECES | st.binary(max_size=40), max_size=25))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Whatever is sent, nothing is raised or logged; all that is said is HTTP; the connection ends when nothing follows."""
        node = Node(HttpLimits(idle_s=3, head_s=2, body_s=2, linger_s=1))
        client = node.client()
        for piece in pieces:
            client.send(piece)
        node.clock.advance(0)
        said = client.received().replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        for part in re.split(rb"HTTP/1\.1 (?=[0-9]{3} [A-Z])", said)[1:]:
            head, _, body = part.partition(b"\r\n\r\n")
            self.assertTrue(head[:3].isdigit())
            if b"problem+json" in head and body:
                self.assertEqual(json.loads(body)["status"], int(head[:3]))
        node.streams.outlets.close_all()
        node.sweep(12)
        self.assertFalse(client.open)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual((node.connections.body_bytes, node.connections.requests, len(node.connections.open)), (0, 0, 0))
        self.assertEqual(node.clock.getDelayedCalls(), [])
