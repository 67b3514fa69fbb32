"""The HTTP service: it listens, stops in good order with what is under way, and starts again."""

from __future__ import annotations

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.http.connection import ChannelFactory
from m2mapp.http.service import HttpParts, HttpService
from m2mapp.http.tokens import Tokens
from m2mapp.model.messages import Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.tree.tree import Tree
from tests.unit.http.harness import PRINCIPALS, Client, FakeClock, FakeHandler, FakeJournals, encode


@implementer(IListeningPort)
class SlowPort:
    """A port that takes its time to close."""

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def startListening(self) -> None: ...

    def stopListening(self) -> Deferred[None]:
        return self.closed

    def getHost(self) -> IAddress:
        return UNIXAddress("socket")


class Reactor(MemoryReactorClock):
    """An in-memory reactor on which some ports are taken."""

    taken: tuple[int, ...] = ()
    slow: SlowPort | None = None

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> IListeningPort:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError("taken"))
        listening: IListeningPort = super().listenTCP(port, factory, backlog, interface)
        return self.slow or listening


class ServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.handler = FakeHandler()
        self.journals = FakeJournals()
        self.tree = Tree(lambda kind: False, lambda error: None)
        metrics = Metrics()
        tokens = Tokens(PRINCIPALS, self.reactor, 3)
        parts = HttpParts(self.handler, self.tree, self.journals, tokens, metrics, FakeClock(), list)
        self.service = HttpService(self.reactor, ["tcp:8080:interface=127.0.0.1", r"tcp:8081:interface=\:\:1"], parts)

    def tearDown(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def client(self) -> Client:
        factory = self.reactor.tcpServers[-1][1]
        assert isinstance(factory, ChannelFactory)
        return Client(factory)

    def stop(self) -> None:
        stopped = self.service.stopService()
        self.successResultOf(stopped)

    def test_start_stop_start(self) -> None:
        """It serves, stops with nothing left, and serves again."""
        for _ in range(2):
            self.service.privilegedStartService()
            self.service.startService()
            self.assertEqual(self.service.ports(), (8080, 8081))
            client = self.client()
            self.assertEqual(client.request("GET", "/a").code, 200)
            self.reactor.advance(1)
            stopped = self.service.stopService()
            client.settle()
            self.successResultOf(stopped)
            self.assertEqual((self.service.ports(), client.open), ((), False))
            self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(len(self.reactor.tcpServers), 4)

    def test_without_privileges(self) -> None:
        """It listens also where nobody called for the privileged start."""
        self.service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 2)
        self.stop()

    def test_port_taken(self) -> None:
        """What cannot listen says so at the start, and leaves no other port open."""
        self.reactor.taken = (8081,)
        self.assertRaises(CannotListenError, self.service.startService)
        self.assertEqual(self.service.ports(), ())
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_waits_for_ports(self) -> None:
        """The end is told when the ports are closed."""
        self.reactor.slow = SlowPort()
        self.service.startService()
        self.assertEqual(self.service.ports(), ())
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.reactor.slow.closed.callback(None)
        self.successResultOf(stopped)

    def test_under_way(self) -> None:
        """A request that is under way gets its answer; idle connections close at once."""
        self.service.startService()
        busy, idle, half = self.client(), self.client(), self.client()
        later: Deferred[Response] = Deferred()
        self.handler.outcome = later
        busy.send(encode("PUT", "/a", b"x"))
        request = encode("GET", "/b")
        half.send(request[:20])
        stopped = self.service.stopService()
        for client in (busy, idle, half):
            client.settle()
        self.assertEqual([client.open for client in (busy, idle, half)], [True, False, True])
        self.assertNoResult(stopped)
        self.handler.outcome = Response(Status.CONTENT, b"x")
        half.send(request[20:])
        later.callback(Response(Status.CHANGED))
        for client, code in ((busy, 204), (half, 200)):
            (answer,) = client.answers()
            self.assertEqual((answer.code, answer.headers["connection"]), (code, "close"))
            client.settle()
        self.successResultOf(stopped)

    def test_grace(self) -> None:
        """When the grace is over, a request under way is answered with what there is then; what is still open is cut off a little later."""
        self.service.startService()
        waiting, half = self.client(), self.client()
        partial: Deferred[Response] = Deferred(lambda answer: answer.callback(Response(Status.CONTENT, b"so far")))
        self.handler.outcome = partial
        waiting.send(encode("GET", "/a"))
        half.send(encode("GET", "/b")[:20])
        stopped = self.service.stopService()
        self.reactor.advance(4.9)
        self.assertEqual(waiting.answers(), [])
        self.reactor.advance(0.2)
        (answer,) = waiting.answers()
        self.assertEqual((answer.code, answer.body), (200, b"so far"))
        waiting.settle()
        self.assertNoResult(stopped)
        self.reactor.advance(2.0)
        self.assertTrue(half.transport.aborted)
        half.settle()
        self.successResultOf(stopped)

    def test_protocols_of_tls(self) -> None:
        """A TLS client that offers protocols is given HTTP/1.1."""
        self.assertEqual(self.service.factory.acceptableProtocols(), [b"http/1.1"])

    def test_streams(self) -> None:
        """Streams end in good order."""
        self.service.startService()
        client = self.client()
        client.send(encode("GET", "/?subtree", Accept="text/event-stream"))
        stopped = self.service.stopService()
        self.assertTrue(client.received().endswith(b"0\r\n\r\n"))
        client.settle()
        self.successResultOf(stopped)

    def test_refused_clients_do_not_hold_it_up(self) -> None:
        """A client that is given time to read its refusal does not delay the end."""
        self.service.startService()
        client = self.client()
        client.send(b"nonsense\r\n")
        stopped = self.service.stopService()
        client.settle()
        self.successResultOf(stopped)

    def test_it_sweeps(self) -> None:
        """Time limits hold while it runs."""
        self.service.startService()
        client = self.client()
        self.reactor.pump([1] * 62)
        client.settle()
        self.assertFalse(client.open)
        self.stop()
