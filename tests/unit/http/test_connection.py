"""Connections: what a client can send before a request is whole, how much of it, for how long; and that no bytes do harm."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.http.connection import Phase
from m2mapp.http.limits import HttpLimits
from m2mapp.model.messages import Response, Status
from tests.unit.http.harness import HOST, Answer, Client, Node, encode, parse_answers

HEAD = b"GET /a HTTP/1.1\r\nHost: h\r\n"
PUT = b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n"


class ConnectionCase(SynchronousTestCase):
    """A node for each test, which has to end with nothing pending and nothing held."""

    limits = HttpLimits(idle_s=60, head_s=10, body_s=20, linger_s=2)

    def setUp(self) -> None:
        self.node = Node(self.limits)

    def tearDown(self) -> None:
        self.node.close()
        self.assertEqual(self.node.clock.getDelayedCalls(), [])
        connections = self.node.connections
        self.assertEqual((connections.body_bytes, connections.requests, len(connections.open)), (0, 0, 0))

    def refusal(self, client: Client) -> Answer:
        """The one problem that the client was answered; the connection is closed after the time to read it."""
        (answer,) = client.answers()
        self.assertEqual(answer.headers["content-type"], "application/problem+json")
        self.assertEqual(answer.headers["connection"], "close")
        self.assertEqual(answer.json()["trace"], answer.headers["m2m-trace"])
        self.assertTrue(client.open, "the client could not read the answer")
        self.node.sweep(4)
        self.assertFalse(client.open)
        self.assertEqual(self.node.handler.requests, [])
        return answer

    def refused(self, data: bytes) -> Answer:
        """The answer to bytes that have to be refused."""
        client = self.node.client()
        client.send(data)
        return self.refusal(client)


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


class BodyBudgetTests(ConnectionCase):
    limits = HttpLimits(bodies_bytes=4000, body_bytes=3000)

    def test_of_all(self) -> None:
        """Bodies that are held together may not exceed their budget; what was given back can be used again."""
        clients = [self.node.client(f"192.0.2.{number}") for number in range(1, 6)]
        for client in clients:
            client.send(PUT + b"Content-Length: 1000\r\n\r\n" + b"x" * 900)
        self.assertEqual([client.transport.value()[9:12] for client in clients], [b""] * 4 + [b"503"])
        clients[0].leave()
        late = self.node.client("192.0.2.9")
        late.send(PUT + b"Content-Length: 900\r\n\r\n" + b"x" * 900)
        self.assertEqual(late.answers()[0].code, 200)

    def test_of_one_source(self) -> None:
        """One source holds at most a quarter of it."""
        self.node.client().send(PUT + b"Content-Length: 1000\r\n\r\n" + b"x" * 900)
        second = self.node.client()
        second.send(PUT + b"Content-Length: 200\r\n\r\n" + b"x" * 200)
        self.assertEqual(self.refusal(second).code, 429)


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
            PUT + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcX",
            PUT + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
        ]:
            answer = self.refused(data)
            self.assertEqual(answer.code, 400, data)
            self.assertEqual(answer.json()["type"], "urn:m2mapp:problem:malformed")

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


class TimeTests(ConnectionCase):
    def test_idle(self) -> None:
        """A connection on which nothing happens is closed without a word; one with requests is not."""
        idle, busy = self.node.client(), self.node.client()
        for _ in range(5):
            self.node.sweep(20)
            if busy.open:
                busy.request("GET", "/a")
        self.assertEqual((idle.open, idle.received(), busy.open), (False, b"", True))

    def test_trickled_head(self) -> None:
        """A head has to arrive within its time, however often a byte comes."""
        client = self.node.client()
        client.send(HEAD)
        for _ in range(11):
            client.send(b"X: y\r\n")
            self.node.sweep(1)
        answer = self.refusal(client)
        self.assertEqual((answer.code, answer.json()["type"]), (408, "urn:m2mapp:problem:deadline-passed"))

    def test_trickled_request_line(self) -> None:
        """So has the request line."""
        client = self.node.client()
        for _ in range(62):
            client.send(b"G")
            self.node.sweep(1)
        self.assertFalse(client.open)

    def test_trickled_body(self) -> None:
        """So has the body."""
        client = self.node.client()
        client.send(PUT + b"Content-Length: 1000\r\n\r\n")
        for _ in range(21):
            client.send(b"x")
            self.node.sweep(1)
        self.assertEqual(self.refusal(client).code, 408)

    def test_refused_client_that_goes_on_sending(self) -> None:
        """What a refused client still sends is thrown away; the end does not wait for it."""
        client = self.node.client()
        client.send(b"nonsense\r\n")
        for _ in range(3):
            client.send(b"x" * 100_000)
            self.node.sweep(1)
        self.assertFalse(client.open)

    def test_close_that_does_not_end(self) -> None:
        """A connection that cannot be flushed is aborted in the end."""
        client = self.node.client()
        client.send(b"nonsense\r\n")
        client.transport.loseConnection = lambda: None  # a peer that takes nothing
        self.node.sweep(6)
        self.assertTrue(client.transport.aborted)

    def test_one_bad_connection_does_not_stop_the_sweep(self) -> None:
        """Each connection is looked at, whatever another one raises."""
        bad, idle = self.node.client(), self.node.client()

        def broken() -> Phase:
            raise RuntimeError("for the test")

        bad.channel.phase = broken  # type: ignore[method-assign]
        self.node.sweep(61)
        self.assertFalse(idle.open)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 61)


class NumberTests(ConnectionCase):
    limits = HttpLimits(connections=4, connections_per_source=2)

    def test_of_one_source(self) -> None:
        """One address may have so many connections; another one is not touched by that, also not over IPv4-mapped IPv6."""
        self.node.client()
        second = self.node.client(f"::ffff:{HOST}")
        third = self.node.client()
        self.assertEqual(self.refusal(third).code, 429)
        self.assertEqual(self.node.client("2001:db8::1").request("GET", "/healthz").code, 200)
        second.leave()
        self.assertEqual(self.node.client().request("GET", "/healthz").code, 200)

    def test_of_all(self) -> None:
        """Above the limit connections are told 503; far above it they are closed without a word."""
        for number in range(4):
            self.node.client(f"192.0.2.{number + 1}")
        told = self.node.client("192.0.2.100")
        for number in range(63):
            self.node.client(f"198.51.100.{number}")
        silent = self.node.client("192.0.2.200")
        self.assertEqual((silent.transport.aborted, silent.received()), (True, b""))
        answer = self.refusal(told)
        self.assertEqual((answer.code, answer.headers["retry-after"]), (503, "1"))

    def test_peer_without_an_address(self) -> None:
        """A client over a Unix socket has one name, and is served."""
        client = self.node.client()
        client.leave()
        client.transport.peerAddr = object()
        local = Client(self.node.factory)
        self.node.clients.append(local)
        self.assertEqual(local.channel.host, HOST)


class MetricTests(ConnectionCase):
    def test_refusals_are_counted(self) -> None:
        """Each refusal counts under its kind."""
        self.refused(b"nonsense\r\n")
        self.assertEqual(self.node.metrics.counter("m2mapp_http_refused_total", "", kind="malformed").value, 1)


PIECES = st.sampled_from(
    [
        *(b"GET /a HTTP/1.1\r\n", b"PUT /a HTTP/1.1\r\n", b"Host: h\r\n", b"\r\n", b"\r\n\r\n", b"Content-Length: 3\r\n", b"abc", b":"),
        *(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"3\r\nabc\r\n", b"Expect: 100-continue\r\n", b" continued\r\n", b"Accept: x\r\n"),
        *(b"Authorization: Bearer admin-token-for-tests\r\n", b"Connection: close\r\n", b"If-Match: \r\n", b"GET /%ff?% HTTP/1.0\r\n\r\n"),
        *(b"OPTIONS * HTTP/1.1\r\n", b"HEAD /healthz HTTP/1.1\r\n", b"Accept: text/event-stream\r\n", b"M2M-Cause: ,\r\n", b"Content-Type: /\r\n"),
    ]
)


class AnyBytesTests(SynchronousTestCase):
    @settings(max_examples=400, deadline=None)
    @given(st.lists(PIECES | st.binary(max_size=40), max_size=25))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Whatever is sent, nothing is raised or logged as an error; all that is said is HTTP; and the connection ends when nothing follows."""
        node = Node(HttpLimits(idle_s=3, head_s=2, body_s=2, linger_s=1))
        client = node.client()
        for piece in pieces:
            client.send(piece)
        node.clock.advance(0)
        said = client.received().replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        for part in said.split(b"HTTP/1.1 ")[1:]:
            head, _, body = part.partition(b"\r\n\r\n")
            self.assertTrue(head[:3].isdigit())
            if b"problem+json" in head and body:
                self.assertEqual(json.loads(body)["status"], int(head[:3]))
        node.streams.close_all()
        node.sweep(12)
        self.assertFalse(client.open)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual((node.connections.body_bytes, node.connections.requests, len(node.connections.open)), (0, 0, 0))
        self.assertEqual(node.clock.getDelayedCalls(), [])
