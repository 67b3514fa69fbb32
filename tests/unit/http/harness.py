"""An HTTP service without sockets for tests: clients over string transports, a handler that records, a tree with its journals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.http.book import SWEEP_S, Connections
from m2mapp.http.connection import Channel, ChannelFactory
from m2mapp.http.events import Streams
from m2mapp.http.limits import HttpLimits
from m2mapp.http.lines import LinePages
from m2mapp.http.metrics import pages
from m2mapp.http.resource import Edge, Parts
from m2mapp.http.tokens import Tokens
from m2mapp.model.interfaces import IClock, IHandle, IJournals
from m2mapp.model.messages import Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import ROLE_RIGHTS, Principal, Role
from m2mapp.tree.access import WIRE
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Append, Change, Entry, Remove, Unit, Write

ADMIN = "admin-token-for-tests"
VIEWER = "viewer-token-for-tests"
SCOPED = "scoped-token-for-tests"
HOST = "192.0.2.7"
NOW_MS = 1_800_000_000_123
PRINCIPALS = [
    (ADMIN, Principal("admin", ROLE_RIGHTS[Role.ADMIN])),
    (VIEWER, Principal("viewer", ROLE_RIGHTS[Role.VIEWER])),
    (SCOPED, Principal("scoped", ROLE_RIGHTS[Role.VIEWER], (("a",),))),
]

Outcome = Response | Deferred[Response] | Exception | None


@implementer(IClock)
class FakeClock:
    """A wall clock that stands still."""

    def now_ms(self) -> int:
        return NOW_MS


@implementer(IHandle)
class FakeHandler:
    """Keeps what it was asked, and answers with `outcome`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.outcome: Outcome | Callable[[Request], Outcome] = Response(Status.CONTENT, b"21.5", "text/plain", b"\x01\x05")

    def handle(self, request: Request) -> Response | Deferred[Response] | None:
        self.requests.append(request)
        outcome = self.outcome(request) if callable(self.outcome) else self.outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@implementer(IJournals)
class FakeJournals:
    """Journals in memory. With `hold` set, reads wait until `let_go`; `fail` is what reads fail with."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = {}
        self.hold = False
        self.fail: Exception | None = None
        self.held: list[tuple[Deferred[list[Entry]], Callable[[], list[Entry]]]] = []

    def read_journal(self, name: str, after: int = 0, limit: int = 100, newest: bool = False) -> Deferred[list[Entry]]:
        if self.fail is not None:
            raise self.fail

        def read() -> list[Entry]:
            found = [entry for entry in self.entries.get(name, []) if entry.number > after]
            return found[-limit:] if newest else found[:limit]

        if not self.hold:
            return succeed(read())
        waiting: Deferred[list[Entry]] = Deferred()
        self.held.append((waiting, read))
        return waiting

    def let_go(self) -> None:
        """Answer the reads that wait, with what the journals hold now."""
        held, self.held = self.held, []
        for waiting, read in held:
            waiting.callback(read())

    def forget_before(self, name: str, number: int) -> None:
        """Drop what is older, as a bounded journal does."""
        self.entries[name] = [entry for entry in self.entries[name] if entry.number >= number]


class FakeFeed:
    """Keeps what it was asked; `say` sends a line to who asked last. `fault` is what it raises."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, str], ...]] = []
        self.ended = 0
        self.fault: Exception | None = None
        self.say: Callable[[str], bool] = lambda line: False

    def __call__(self, query: tuple[tuple[str, str], ...], take: Callable[[str], bool]) -> Callable[[], None]:
        if self.fault is not None:
            raise self.fault
        self.asked.append(query)
        self.say = take
        take("first")
        return self._end

    def _end(self) -> None:
        self.ended += 1


class SocketTransport(StringTransport):
    """A string transport with a send buffer: the producer is paused when more than `buffer` bytes are unread."""

    buffer = 65_536

    def __init__(self, host: str) -> None:
        super().__init__(hostAddress=IPv4Address("TCP", "192.0.2.1", 8080), peerAddress=IPv4Address("TCP", host, 4711))
        self.aborted = self.reading_paused = self.takes_nothing = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None and len(self.value()) > self.buffer:
            self.producer.pauseProducing()

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def pauseProducing(self) -> None:
        self.reading_paused = True

    def resumeProducing(self) -> None:
        self.reading_paused = False

    def loseConnection(self) -> None:
        if not self.takes_nothing:
            super().loseConnection()

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.aborted = self.disconnecting = True


@dataclass
class Answer:
    """One answer as a client reads it."""

    code: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.body)
        return found


class Client:
    """One connection of a client."""

    def __init__(self, factory: ChannelFactory, host: str = HOST) -> None:
        self.transport = SocketTransport(host)
        channel = factory.buildProtocol(None)
        assert isinstance(channel, Channel)
        self.channel = channel
        self.lost = False
        channel.makeConnection(self.transport)
        self._settle()

    def send(self, data: bytes) -> None:
        """Bytes from the client, unless the connection is closed."""
        if not self.lost:
            self.channel.dataReceived(data)
            self._settle()

    def request(self, method: str, target: str, body: bytes = b"", token: str | None = ADMIN, **fields: str) -> Answer:
        """Send a request; its answer, which has to be there at once."""
        self.send(encode(method, target, body, token, **fields))
        answers = self.answers(head=method == "HEAD")
        assert len(answers) == 1, answers
        return answers[0]

    def received(self) -> bytes:
        """What came since the last look; the send buffer is empty then."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def read(self) -> bytes:
        """Like `received`, and the transport says that there is room again."""
        data = self.received()
        if self.transport.producer is not None:
            self.transport.producer.resumeProducing()
        return data

    def answers(self, *, head: bool = False) -> list[Answer]:
        """The whole answers that came since the last look."""
        return parse_answers(self.received(), head=head)

    def leave(self) -> None:
        """The client closes the connection."""
        if not self.lost:
            self.lost = True
            self.channel.connectionLost(Failure(ConnectionDone()))

    def settle(self) -> None:
        """Let a connection that we closed be gone, as the reactor would."""
        self._settle()

    @property
    def open(self) -> bool:
        """Whether the connection is neither closed nor about to be."""
        return not (self.lost or self.transport.disconnecting)

    def _settle(self) -> None:
        if self.transport.disconnecting and not self.lost:
            self.leave()


@dataclass
class Node:
    """The parts of an HTTP service, in memory."""

    limits: HttpLimits = field(default_factory=HttpLimits)
    unready: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.handler = FakeHandler()
        self.journals = FakeJournals()
        self.metrics = Metrics()
        self.errors: list[Exception] = []
        self.tree = Tree(lambda kind: False, self.errors.append)
        self.tokens = Tokens(PRINCIPALS, self.clock, self.limits.failed_sign_ins)
        self.connections = Connections(self.limits, self.clock, FakeClock(), self.metrics)
        self.streams = Streams(self.tree, self.journals, self.clock, self.limits, self.metrics)
        self.feed = FakeFeed()
        lines = LinePages({WIRE: self.feed}, self.streams.outlets)
        parts = Parts(self.handler, self.tokens, self.streams, pages(self.metrics, lambda: self.unready, lambda: self.warnings), lines)
        self.edge = Edge(parts, self.connections, self.clock, self.metrics, log_requests=False)
        self.factory = ChannelFactory(self.connections, self.edge.serve)
        self.clients: list[Client] = []

    def client(self, host: str = HOST) -> Client:
        """A client that has just connected."""
        made = Client(self.factory, host)
        self.clients.append(made)
        return made

    def sweep(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / SWEEP_S)):
            self.clock.advance(SWEEP_S)
            self.connections.sweep()
            for client in self.clients:
                client.settle()

    def commit(self, *changes: Write | Remove, appends: tuple[Append, ...] = ()) -> tuple[Change, ...]:
        """Commit at once, as the store does, with the journal entries."""
        staged = self.tree.stage(Unit(changes, appends, trace="f" * 32), NOW_MS)
        for entry in staged.entries:
            self.journals.entries.setdefault(entry.journal, []).append(entry)
        self.tree.apply(staged)
        self.tree.tell(staged)
        return staged.changes

    def put(self, path: str, content: bytes, media_type: str = "text/plain") -> Change:
        """Commit one content."""
        segments = tuple(path[1:].split("/"))
        return next(change for change in self.commit(Write(segments, content=content, media_type=media_type)) if change.path == segments)

    def close(self) -> None:
        """All clients leave."""
        for client in self.clients:
            client.leave()


def encode(method: str, target: str, body: bytes = b"", token: str | None = ADMIN, **fields: str) -> bytes:
    """A request as bytes; underscores in field names stand for hyphens."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway.example.org"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def parse_answers(data: bytes, *, head: bool = False) -> list[Answer]:
    """Answers as a client reads them. Fails where they are not whole."""
    answers = []
    while data:
        raw, separator, data = data.partition(b"\r\n\r\n")
        assert separator, raw
        first, *lines = raw.decode("latin-1").split("\r\n")
        version, code, _reason = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert len(headers) == len(lines), lines
        length = 0 if head or code in ("204", "304") else int(headers["content-length"])
        assert len(data) >= length, "a body that is not whole"
        answers.append(Answer(int(code), headers, data[:length]))
        data = data[length:]
    return answers
