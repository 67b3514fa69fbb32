"""Requests by HTTP, against a server on loopback that says what the test wants."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor as _reactor  # noqa: TID251 - sockets need a real one
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from m2mapp.clients import http
from m2mapp.clients.http import HttpClient
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import AnswerTooLarge, DeadlinePassed, NotSent, Overloaded, PeerFailed
from m2mapp.model.messages import Answer, Method, Outgoing


class Server(Protocol):
    """Records what comes, and answers with `reply` when the head and the body are there; an empty one says nothing."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def connectionMade(self) -> None:
        self._script.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self._script.received += data
        head, end, body = self._script.received.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        if end and len(body) >= length and self._script.reply and self.transport is not None:
            self.transport.write(self._script.reply)
            if self._script.close:
                self.transport.loseConnection()


class Script(Factory):
    """What the server does."""

    noisy = False

    def __init__(self) -> None:
        self.received, self.reply, self.close = b"", b"", False
        self.connections: list[Server] = []

    def buildProtocol(self, _: object) -> Server:
        return Server(self)


class HttpCase(TestCase):
    async def build(self, token_files: dict[str, str] | None = None) -> tuple[HttpClient, Script, int]:
        """A client, and a server with its port."""
        script = Script()
        listening: Deferred[IListeningPort] = TCP4ServerEndpoint(IReactorTCP(_reactor), 0, interface="127.0.0.1").listen(script)
        port = self.listening = await listening
        number: int = port.getHost().port  # type: ignore[attr-defined]  # an IPv4Address
        client = HttpClient(IReactorTime(_reactor), {name.replace("PORT", str(number)): file for name, file in (token_files or {}).items()})
        self.addCleanup(port.stopListening)
        self.addCleanup(lambda: [server.transport.abortConnection() for server in script.connections if server.transport])  # type: ignore[attr-defined]
        self.addCleanup(client.close)
        return client, script, number

    async def failed(self, done: Deferred[Answer]) -> PeerFailed:
        """The fault that a request ends with."""
        try:
            await done
        except PeerFailed as fault:
            return fault
        raise AssertionError("it was answered")

    def send(self, client: HttpClient, port: int, outgoing: Outgoing) -> Deferred[Answer]:
        """Send to the server."""
        return client.request(outgoing, parse_uri(outgoing.uri), "127.0.0.1", port)


class RequestTests(HttpCase):
    async def test_everything_is_said(self) -> None:
        """Method, path, query, host, payload, media types, identifier, cause, deadline, trace."""
        client, script, port = await self.build()
        script.reply = b'HTTP/1.1 201 Created\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nLocation: /a/1\r\nETag: "0102"\r\n\r\nok'
        outgoing = Outgoing(
            Method.POST,
            f"http://n1.example.com:{port}/a%20b?x=1",
            b"on",
            "text/plain",
            "application/json",
            5.0,
            "ab" * 16,
            b"12345678",
            ("c1", "c2"),
            requester=b"abcdefgh",
        )
        answer = await self.send(client, port, outgoing)
        self.assertEqual((answer.code, answer.payload, answer.content_type), ("201", b"ok", "text/plain"))
        self.assertEqual((answer.location, answer.etag, answer.ok), ("/a/1", b"\x01\x02", True))
        self.assertGreaterEqual(answer.elapsed_s, 0.0)
        head, _, body = script.received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.assertEqual((lines[0], body), ("POST /a%20b?x=1 HTTP/1.1", b"on"))
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        self.assertEqual(
            {
                name: headers[name]
                for name in (
                    "host",
                    "content-type",
                    "accept",
                    "m2m-request-id",
                    "m2m-requester",
                    "m2m-cause",
                    "m2m-deadline",
                    "traceparent",
                )
            },
            {
                "host": f"n1.example.com:{port}",
                "content-type": "text/plain",
                "accept": "application/json",
                "m2m-request-id": b"12345678".hex(),
                "m2m-requester": b"abcdefgh".hex(),
                "m2m-cause": "c1, c2",
                "m2m-deadline": "5.000",
                "traceparent": f"00-{'ab' * 16}-{'ab' * 8}-01",
            },
        )
        self.assertNotIn("authorization", headers)

    async def test_a_plain_get(self) -> None:
        """What is not given is not said; an answer without type, and an ETag of another sort, are taken."""
        client, script, port = await self.build()
        for tag in (b'W/"x"', b'"xyz"', b"01"):
            script.reply = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nETag: " + tag + b"\r\n\r\n"
            answer = await self.send(client, port, Outgoing(Method.GET, f"http://127.0.0.1:{port}/"))
            self.assertEqual((answer.code, answer.payload, answer.content_type, answer.etag), ("404", b"", None, None))
        for name in (b"content-type", b"m2m-request-id", b"m2m-requester", b"traceparent", b"accept", b"m2m-cause"):
            self.assertNotIn(name, script.received.lower())

    async def test_max_age(self) -> None:
        """For how long an answer is fresh, where its sender says so."""
        client, script, port = await self.build()
        found = []
        for said in (b"max-age=5", b"private, Max-Age=60 ,x", b"s-maxage=5", b"max-age=x", b"no-cache"):
            script.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Control: " + said + b"\r\n\r\n"
            found.append((await self.send(client, port, Outgoing(Method.GET, f"http://127.0.0.1:{port}/"))).max_age_s)
        self.assertEqual(found, [5, 60, None, None, None])

    async def test_tokens(self) -> None:
        """A peer gets its token, read when it is needed, and nobody else does; a token file that cannot be read fails the request."""
        file = Path(self.mktemp())
        client, script, port = await self.build({"n1.example.com:PORT": str(file), "n2": "/nonexistent/token"})
        script.reply = b"HTTP/1.1 204 No Content\r\n\r\n"
        file.write_text("secret-1\n", encoding="ascii")
        await self.send(client, port, Outgoing(Method.GET, f"http://n1.example.com:{port}/"))
        self.assertIn(b"Authorization: Bearer secret-1\r\n", script.received)
        file.write_text("secret-2\n", encoding="ascii")
        script.received = b""
        await self.send(client, port, Outgoing(Method.GET, f"http://n1.example.com:{port}/"))
        self.assertIn(b"Bearer secret-2\r\n", script.received)
        script.received = b""
        await self.send(client, port, Outgoing(Method.GET, "http://n9.example.com/"))
        self.assertNotIn(b"Bearer", script.received)
        fault = await self.failed(self.send(client, port, Outgoing(Method.GET, "http://n2/")))
        self.assertIn("/nonexistent/token", fault.detail)


class FailureTests(HttpCase):
    async def test_silence(self) -> None:
        """A server that says nothing, or stops in the middle of its answer: the deadline ends it."""
        client, script, port = await self.build()
        for reply in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"):
            script.reply = reply
            await self.assertFailure(self.send(client, port, Outgoing(Method.GET, "http://n1/", timeout_s=0.2)), DeadlinePassed)

    async def test_a_body_without_end(self) -> None:
        """An answer is taken up to a limit and no further, whatever it says of its length; the connection ends."""
        self.patch(http, "MAX_ANSWER_BYTES", 1000)
        client, script, port = await self.build()
        for head in (b"Content-Length: 100000\r\n\r\n", b"\r\n"):
            script.reply = b"HTTP/1.1 200 OK\r\n" + head + b"x" * 50_000
            fault = await self.failed(self.send(client, port, Outgoing(Method.GET, "http://n1/", timeout_s=20.0)))
            self.assertIn("more than 1000 bytes", fault.detail)
            self.assertIsInstance(fault, AnswerTooLarge)
            self.assertEqual(client.room.taken, 0)

    async def test_a_body_that_is_said_to_be_too_long(self) -> None:
        """An answer whose head says that it is too long is not read at all."""
        client, script, port = await self.build()
        script.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\nx"
        await self.assertFailure(self.send(client, port, Outgoing(Method.GET, "http://n1/", timeout_s=20.0)), AnswerTooLarge)

    async def test_a_head_without_end(self) -> None:
        """Headers without end, also behind an interim answer, are taken up to a limit: a clear error, and the connection ends."""
        client, script, port = await self.build()
        for begin in (b"", b"HTTP/1.1 100 Continue\r\n\r\n"):
            script.reply = begin + b"HTTP/1.1 200 OK\r\n" + b"a:b\r\n" * 40_000
            fault = await self.failed(self.send(client, port, Outgoing(Method.GET, "http://n1/", timeout_s=20.0)))
            self.assertIn("the head of the answer has more than", fault.detail)

    async def test_long_answers_on_one_connection(self) -> None:
        """Bodies do not count as heads: answers that together are longer than a head may be come by one connection."""
        client, script, port = await self.build()
        script.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
        for _ in range(3):
            answer = await self.send(client, port, Outgoing(Method.GET, "http://n1/", timeout_s=20.0))
            self.assertEqual(len(answer.payload), 200_000)
        self.assertEqual((len(script.connections), client.room.taken), (1, 0))

    async def test_no_room(self) -> None:
        """Answers that are being received share a room: one that finds none fails, and the others go on."""
        client, script, port = await self.build()
        client.room.take(http.MAX_ANSWERS_BYTES - 10)
        script.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"
        await self.assertFailure(self.send(client, port, Outgoing(Method.GET, "http://n1/", timeout_s=20.0)), Overloaded)
        script.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        self.assertEqual((await self.send(client, port, Outgoing(Method.GET, "http://n1/", timeout_s=20.0))).payload, b"hello")

    async def test_broken_off(self) -> None:
        """A connection that ends in the middle of the answer, and an answer that is no HTTP: a failed peer that is named."""
        client, script, port = await self.build()
        script.close = True
        for reply in (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b"\x00\x01 nonsense\r\n\r\n"):
            script.reply = reply
            await self.assertFailure(self.send(client, port, Outgoing(Method.PUT, "http://n1/", timeout_s=20.0)), PeerFailed)

    async def test_nobody_there(self) -> None:
        """A port that nobody listens on: the request did not leave. A failed peer, with the URI but not its query."""
        client, _, port = await self.build()
        await maybeDeferred(self.listening.stopListening)
        fault = await self.failed(self.send(client, port, Outgoing(Method.GET, "http://n1/a?secret=1", timeout_s=20.0)))
        self.assertTrue(fault.detail.startswith("http://n1/a: "), fault.detail)
        self.assertIsInstance(fault, NotSent)

    async def test_cancelled(self) -> None:
        """A request whose caller goes away ends, with the connection."""
        client, script, port = await self.build()
        done = self.send(client, port, Outgoing(Method.GET, "http://n1/"))
        done.cancel()
        await self.assertFailure(done, PeerFailed)
        self.assertEqual(script.reply, b"")
