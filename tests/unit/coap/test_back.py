"""`coap.back`: a client is asked back at the address and port that it asked from, or by its session; and who its certificate says it is."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.coap.back import AskBack
from m2mapp.coap.service import CoapService, make_context
from m2mapp.model.errors import Fault, PeerFailed
from m2mapp.model.interfaces import IAskBack
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.model.metrics import Metrics
from tests.simulation import Simulation, seeded
from tests.unit.coap.dtls.ground import DEVICE, TEMP, CoapsNode, device, gateway, outcome
from tests.unit.coap.fakes import FakeHandler

_WRITE = Outgoing(Method.PUT, "/0/1", b"\xc1\x01\x00", "application/vnd.oma.lwm2m+tlv", timeout_s=20)


class AskBackTests(SynchronousTestCase):
    def ask(self, asking: CoapsNode, back: AskBack, peer: object) -> Answer | object:
        """Ask a peer, and let time pass until it has answered."""
        answered: Deferred[Answer] = back.ask_back(peer, _WRITE)
        return outcome(asking.simulation, answered)

    @seeded(1)
    def test_plain(self, simulation: Simulation) -> None:
        """By plain CoAP: to the source of the request, from the port that it went to, with the path alone."""
        server, client = gateway(simulation), device(simulation)
        back = server.service.back
        self.assertTrue(verifyObject(IAskBack, back))
        asked = client.service.client.request(Outgoing(Method.GET, "coap://[fd00::1]/temp"), ("fd00::1", 5683, 0, 0))
        outcome(simulation, asked)
        peer = server.handler.requests[0].peer
        self.assertEqual(back.names(peer), ())
        self.ask(server, back, peer)
        received = client.handler.requests[0]
        self.assertEqual((received.method, received.path, received.payload), (Method.PUT, ("0", "1"), _WRITE.payload))
        self.assertEqual(received.source, ("fd00::1", 5683))
        for node in (server, client):
            node.stop()

    @seeded(1)
    def test_session(self, simulation: Simulation) -> None:
        """By coaps: by the client's own session, with the names of its certificate; when that is over, it fails."""
        server, client = gateway(simulation, asks=True), device(simulation, DEVICE.identity)
        back = server.service.back
        outcome(simulation, client.ask(TEMP))
        peer = server.handler.requests[0].peer
        self.assertIn("dev-one", back.names(peer))
        self.ask(server, back, peer)
        received = client.handler.requests[0]
        self.assertEqual((received.path, received.source, server.sessions), (("0", "1"), ("fd00::1", 5684), 1))
        client.stop()
        simulation.scheduler.advance(1)
        self.assertIsInstance(self.ask(server, back, peer), PeerFailed)
        server.stop()

    @seeded(1)
    def test_not_by_coap(self, simulation: Simulation) -> None:
        """Who did not ask by CoAP cannot be asked back."""
        server = gateway(simulation)
        self.assertIsInstance(self.ask(server, server.service.back, None), PeerFailed)
        server.stop()

    @seeded(1)
    def test_from_the_same_address(self, simulation: Simulation) -> None:
        """A node with two addresses and two ports asks back from those that were asked, not from those that it would choose."""
        client = device(simulation)
        network = simulation.network.attach("two", {"lan": ["fd00::a/64", "fd00::b/64"]})
        handler = FakeHandler()
        context = make_context(simulation.scheduler, Metrics(), simulation.scheduler.generator("two"))
        service = CoapService((("::", 5683), ("::", 5783)), (), network, handler, handler.principals, context)
        service.startService()
        for place, (host, port) in enumerate((("fd00::a", 5783), ("fd00::b", 5783), ("fd00::b", 5683))):
            outcome(simulation, client.service.client.request(Outgoing(Method.GET, f"coap://[{host}]:{port}/temp")))
            outcome(simulation, service.back.ask_back(handler.requests[place].peer, _WRITE))
            self.assertEqual(client.handler.requests[place].source, (host, port))
        client.stop()
        service.stopService()


class ObserveClientTests(SynchronousTestCase):
    @seeded(1)
    def test_by_session(self, simulation: Simulation) -> None:
        """A client is observed by the session that it began, as long as there is that; one without, by its address."""
        server, client = gateway(simulation), device(simulation)
        outcome(simulation, client.ask(TEMP))
        source = server.handler.requests[0].source
        told: list[Answer] = []
        ended: list[Answer | Fault] = []
        for port in (source[1] if source is not None else 0, 5683):
            uri = f"coap://[fd00::d1]:{port}/33050"
            server.service.observe_client(Outgoing(Method.GET, uri), told.append, ended.append)
            simulation.scheduler.advance(1)
        self.assertEqual([request.source for request in client.handler.requests], [("fd00::1", 5684), ("fd00::1", 5683)])
        self.assertEqual((len(told), ended), (2, []))
        client.stop()
        simulation.scheduler.advance(1)
        self.assertEqual(len(ended), 1)
        server.stop()
