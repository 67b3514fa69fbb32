"""What the tests of connections and of event streams share: their cases, and a reader of streams."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.http.limits import HttpLimits
from tests.unit.http.harness import ADMIN, Answer, Client, Node, encode

HEAD = b"GET /a HTTP/1.1\r\nHost: h\r\n"
PUT = b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n"

Event = tuple[str, int | None, dict[str, object]]


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


def parse_stream(data: bytes) -> list[Event]:
    """The events of a stream as a browser reads them (WHATWG HTML, 9.2.6): name, id, data."""
    events: list[Event] = []
    for block in data.decode().split("\n\n"):
        fields = [line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")]
        values = {name: value for name, value in fields}
        if "data" in values:
            events.append((values.get("event", "message"), int(values["id"]) if "id" in values else None, json.loads(values["data"])))
    return events


class Reader:
    """A client that has asked for a stream."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.head = b""
        self._rest = b""
        self.ended = False

    def body(self) -> bytes:
        """What of the stream came since the last look, out of its chunks."""
        self._rest += self.client.read()
        if not self.head:
            self.head, separator, self._rest = self._rest.partition(b"\r\n\r\n")
            assert separator
        body = b""
        while self._rest:
            length, _, rest = self._rest.partition(b"\r\n")
            size = int(length, 16)
            body += rest[:size]
            assert rest[size : size + 2] == b"\r\n"
            self._rest = rest[size + 2 :]
            self.ended = self.ended or size == 0
        return body

    def events(self) -> list[Event]:
        return parse_stream(self.body())

    def numbers(self) -> list[int | None]:
        return [number for _, number, _ in self.events()]


class StreamCase(SynchronousTestCase):
    """A node with two contents for each test, which has to end with no stream, no watcher and nothing pending."""

    limits = HttpLimits(stream_events=5, streams=4, streams_per_source=3)

    def setUp(self) -> None:
        self.node = Node(self.limits)
        self.node.put("/a", b"1")
        self.node.put("/b/c", b"2")

    def tearDown(self) -> None:
        self.node.close()
        self.assertEqual(self.node.clock.getDelayedCalls(), [])
        self.assertEqual(self.node.errors, [])
        self.assertEqual(self.gauge("m2mapp_http_streams"), 0)

    def gauge(self, name: str) -> float:
        instruments = {found: values for found, _, values in self.node.metrics.collect()}
        (read,) = instruments[name].values()
        assert callable(read)
        return read()

    def open(self, target: str, token: str = ADMIN, host: str = "192.0.2.7", **fields: str) -> Reader:
        client = self.node.client(host)
        client.send(encode("GET", target, b"", token, Accept="text/event-stream", **fields))
        return Reader(client)

    def refused(self, target: str, token: str | None = ADMIN, **fields: str) -> int:
        return self.node.client("192.0.2.50").request("GET", target, b"", token, Accept="text/event-stream", **fields).code
