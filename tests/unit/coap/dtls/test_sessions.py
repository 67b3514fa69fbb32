"""Requests over coaps between two endpoints on the in-memory network: sessions, their certificates, loss, ends."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.message import Message, build
from m2mapp.coap.parameters import Limits
from m2mapp.coap.settings import AccessSettings
from m2mapp.model.errors import Fault, PeerFailed
from m2mapp.model.messages import Answer, Outgoing, Response, Shown, Status
from m2mapp.model.principal import Right
from m2mapp.net.medium import Quality, What
from tests.certificates import Issued, issue
from tests.simulation import Simulation, seeded
from tests.unit.coap.dtls.ground import ADDRESS, AUTHORITY, DEVICE, GATEWAY, TEMP, TO, CoapsNode, RawClient, device, gateway, outcome


class SessionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.simulation = Simulation(1)
        self.nodes: list[CoapsNode] = []

    def tearDown(self) -> None:
        for node in self.nodes:
            node.stop()
        self.simulation.scheduler.advance(1)
        self.assertEqual(self.simulation.scheduler.getDelayedCalls(), [])

    def pair(self, shown: Issued = GATEWAY, *, asks: bool = False, client: Issued | None = None) -> tuple[CoapsNode, CoapsNode]:
        """A gateway and a device that trusts what the authority issued."""
        self.nodes = [
            gateway(self.simulation, shown, asks=asks),
            device(self.simulation, client.identity if client is not None else None),
        ]
        return self.nodes[0], self.nodes[1]

    def raw(self) -> tuple[CoapsNode, RawClient]:
        """A gateway, and a client that has a session with it."""
        self.nodes = [gateway(self.simulation)]
        raw = RawClient(self.simulation.network.attach("raw", {"lan": ["fd00::bad/64"]}), "fd00::bad")
        raw.begin()
        self.simulation.scheduler.advance(1)
        return self.nodes[0], raw

    def get(self, asks: CoapsNode, outgoing: Outgoing = TEMP) -> Answer:
        """A GET that is answered."""
        found = outcome(self.simulation, asks.ask(outgoing))
        assert isinstance(found, Answer), found
        return found

    def refused(self, asks: CoapsNode, outgoing: Outgoing = TEMP) -> str:
        """Why a GET has no answer."""
        found = outcome(self.simulation, asks.ask(outgoing))
        assert isinstance(found, Fault), found
        return found.detail


class RequestTests(SessionCase):
    def test_get(self) -> None:
        """A GET by a session is answered as by plain CoAP, and the next one goes by the same session."""
        server, client = self.pair()
        self.assertEqual(self.get(client).payload, b"21.5")
        self.assertEqual(self.get(client).code, "2.05")
        self.assertEqual((server.sessions, client.sessions, server.handshakes), (1, 1, 0))

    def test_one_handshake_for_all(self) -> None:
        """Requests at the same time wait for one handshake."""
        server, client = self.pair()
        answers = [client.ask() for _ in range(20)]
        self.simulation.scheduler.advance(5)
        self.assertEqual([self.successResultOf(answer).code for answer in answers], ["2.05"] * 20)
        self.assertEqual(server.sessions, 1)

    def test_blocks(self) -> None:
        """Payloads of many blocks go both ways."""
        server, client = self.pair()
        server.handler.answer = Response(Status.CONTENT, bytes(10_000), "application/octet-stream", b"\x01")
        self.assertEqual(self.get(client).payload, bytes(10_000))
        self.get(client, replace(TEMP, payload=b"x" * 5_000, content_type="text/plain"))
        self.assertEqual(server.handler.requests[-1].payload, b"x" * 5_000)

    @seeded(20)
    def test_loss(self, simulation: Simulation) -> None:
        """With one datagram in five lost, others late, repeated and out of order, flights are repeated until the handshake is done."""
        simulation.network.set_quality(Quality(loss=0.2, repetition=0.1, reordering=0.1, delay_s=(0.001, 0.1)))
        server, client = gateway(simulation), device(simulation)
        answer = client.ask(replace(TEMP, timeout_s=90.0))
        while not client.sessions and simulation.scheduler.seconds() < 14:
            simulation.scheduler.advance(0.1)
        simulation.network.set_quality(Quality())
        found = outcome(simulation, answer)
        assert isinstance(found, Answer), found
        self.assertEqual(found.payload, b"21.5")
        server.stop()
        client.stop()


class CertificateTests(SessionCase):
    def test_client_certificate(self) -> None:
        """A client that shows a certificate of the authority is known by its name, and has the rights that any of its names has."""
        self.nodes = [
            gateway(self.simulation, asks=True, access=AccessSettings((), (), (), ("cert:urn:dev:one",))),
            device(self.simulation, DEVICE.identity),
            device(self.simulation, address="fd00::d2"),
        ]
        server, known, unknown = self.nodes
        self.get(known)
        principal = server.handler.requests[-1].principal
        self.assertEqual((principal.name, principal.source), ("cert:dev-one", "fd00::d1"))
        self.assertIn(Right.WRITE, principal.rights)
        self.get(unknown)
        principal = server.handler.requests[-1].principal
        self.assertEqual((principal.name, Right.WRITE in principal.rights), ("coap:fd00::d2", False))

    def test_shown_for_one_server(self) -> None:
        """What a request is to show is shown in place of the node's own; a certificate whose key is another's is a fault that says so."""
        self.nodes = [gateway(self.simulation, asks=True), device(self.simulation)]
        server, client = self.nodes
        key = DEVICE.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        asked = outcome(self.simulation, client.ask(replace(TEMP, shown=Shown(DEVICE.der, key))))
        self.assertEqual((getattr(asked, "code", asked), server.handler.requests[-1].principal.name), ("2.05", "cert:dev-one"))
        self.assertNotIn(repr(key)[2:20], repr(Shown(DEVICE.der, key)))
        for shown in (Shown(GATEWAY.der, key), Shown(b"", key), Shown(DEVICE.der, b"")):
            fault = outcome(self.simulation, client.ask(replace(TEMP, shown=shown)))
            self.assertIsInstance(fault, PeerFailed)
        self.assertEqual(getattr(outcome(self.simulation, client.ask(TEMP)), "code", ""), "2.05")
        self.assertEqual(server.handler.requests[-1].principal.name, "coap:fd00::d1")

    def test_strange_client_certificate(self) -> None:
        """A client that shows a certificate which the authority did not issue gets no session."""
        server, client = self.pair(asks=True, client=issue("dev-one"))
        self.assertIn("unknown ca", self.refused(client))
        self.assertEqual((server.sessions, server.handshakes, server.handler.requests), (0, 0, []))

    def test_refused_servers(self) -> None:
        """A server is talked to only if its certificate is trusted, good now, strong, and for the URI's host; else it is said why."""
        weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused
        for shown, why in (
            (issue("g2.example.org", by=AUTHORITY), "its certificate is not for g1.example.org but for g2.example.org"),
            (issue("g1.example.org", by=AUTHORITY, days=(-9, -1)), "its certificate has expired"),
            (issue("g1.example.org", by=AUTHORITY, days=(1, 9)), "its certificate is not valid yet"),
            (issue("g1.example.org"), "its certificate is self-signed, and is not among those that are trusted"),
            (
                issue("g1.example.org", by=issue(authority=True, common_name="another")),
                "who issued its certificate is not among those that are trusted",
            ),
            (issue("g1.example.org", by=AUTHORITY, key=weak), "its certificate is too weak: its key has 1024 bits"),
            (issue(by=AUTHORITY, common_name="g1.example.org"), "its certificate is not for g1.example.org but for g1.example.org"),
        ):
            with self.subTest(why):
                self.simulation = Simulation(1)
                server, client = self.pair(shown)
                self.assertIn(why, self.refused(client))
                self.assertEqual((client.sessions, client.handshakes, server.handler.requests), (0, 0, []))
                server.stop()
                client.stop()

    def test_address(self) -> None:
        """A URI with an address needs a certificate that names this address."""
        _, client = self.pair()
        self.assertEqual(self.get(client, replace(TEMP, uri="coaps://[fd00::1]/temp")).code, "2.05")
        self.assertIn("is not for fd00::2", self.refused(client, replace(TEMP, uri="coaps://[fd00::2]/temp")))

    def test_names_that_are_none(self) -> None:
        """A URI whose host is no host name is refused, before anything is sent."""
        _, client = self.pair()
        for name in ("a%00b", "%C3%A9", "a%20b"):
            self.assertIn("a host name", self.refused(client, replace(TEMP, uri=f"coaps://{name}/temp")))
        self.assertEqual(client.sessions + client.handshakes, 0)

    def test_given_certificate(self) -> None:
        """With a certificate given, the server that shows it is talked to, whoever issued it, and no other (spec section 9)."""
        own = issue("anything.example.org", days=(-9, -1))
        _, client = self.pair(own)
        self.assertEqual(self.get(client, replace(TEMP, certificate=own.der)).code, "2.05")
        other = self.refused(client, replace(TEMP, certificate=GATEWAY.der))
        self.assertEqual(other, "fd00::1: no DTLS session: it shows another certificate than the one that was given for it")
        self.assertEqual(self.get(client, replace(TEMP, certificate=own.der)).code, "2.05")
        self.assertIn("self-signed", self.refused(client))


class LifeTests(SessionCase):
    def test_closed_by_the_peer(self) -> None:
        """A node that stops says so: its peers end the session at once, and the next request begins another one."""
        server, client = self.pair()
        self.get(client)
        server.stop()
        self.simulation.scheduler.advance(0.1)
        self.assertEqual(client.sessions, 0)
        server.start()
        self.get(client)

    def test_under_way(self) -> None:
        """Who waits for an answer is told when the session ends."""
        server, client = self.pair()
        server.handler.answer = Deferred()
        asked = client.ask()
        self.simulation.scheduler.advance(1)
        server.stop()
        found = outcome(self.simulation, asked)
        assert isinstance(found, PeerFailed), found
        self.assertEqual(found.detail, "fd00::1: its DTLS session has ended")

    def test_started_again_without_a_word(self) -> None:
        """A server that forgot its sessions is noticed by its silence: the next request begins another session."""
        server, client = self.pair()
        self.get(client)
        self.simulation.network.down(ADDRESS)
        self.simulation.network.up(ADDRESS)
        server.context.deadlines.stop()
        server.start()
        self.assertIn("did not answer", self.refused(client, replace(TEMP, timeout_s=11.0)))
        self.get(client)

    def test_client_started_again(self) -> None:
        """A new session from the same address ends what belonged to the old one, once its handshake is done (RFC 6347, 4.2.8)."""
        server, raw = self.raw()
        raw.say(Message(things.CON, things.GET, 1, b"t", ((things.OBSERVE, b""), (things.URI_PATH, b"temp"))))
        self.simulation.scheduler.advance(1)
        observers = server.service.server.observers
        self.assertEqual((len(raw.plain), len(observers), server.sessions), (1, 1, 1))
        raw.begin(flights=2)
        self.simulation.scheduler.advance(0.5)
        self.assertEqual((server.handshakes, server.sessions, len(observers)), (1, 1, 1))
        raw.begin()
        self.simulation.scheduler.advance(0.5)
        self.assertEqual((server.handshakes, server.sessions, len(observers)), (0, 1, 0))
        raw.say(Message(things.CON, things.GET, 1, b"t", ((things.URI_PATH, b"temp"),)))
        self.simulation.scheduler.advance(1)
        self.assertEqual(len(server.handler.requests), 2)

    def test_several_servers_at_one_address(self) -> None:
        """Servers that are told apart behind one address have a session each, from ports of their own, up to a limit."""
        server, client = self.pair()
        for number in range(8):
            self.get(client, replace(TEMP, uri=f"coaps://s{number}.example.org/temp", certificate=GATEWAY.der))
        self.assertEqual((server.sessions, client.sessions, len(client.service.endpoint.dtls_ports)), (8, 8, 8))
        self.assertIn("8 other servers are meant at fd00::1", self.refused(client))

    def test_idle(self) -> None:
        """A session by which nothing comes or goes ends, with a word to the peer."""
        server, client = self.pair()
        self.get(client)
        self.simulation.scheduler.advance(server.limits.session_idle_s + 2)
        self.assertEqual((server.sessions, client.sessions), (0, 0))

    def test_no_room(self) -> None:
        """Where the table is full, the session used longest ago ends, with a word."""
        server = gateway(self.simulation, limits=Limits(sessions=2))
        clients = [device(self.simulation, address=f"fd00::d{index}") for index in range(3)]
        self.nodes = [server, *clients]
        for client in (clients[0], clients[1], clients[0], clients[2]):
            self.get(client)
        self.simulation.scheduler.advance(1)
        self.assertEqual([client.sessions for client in clients], [1, 0, 1])


class HostileTests(SessionCase):
    def test_many_handshakes_that_go_nowhere(self) -> None:
        """A thousand handshakes that are never finished: few are kept, they end in time, and a client in earnest has its turn."""
        server, client = self.pair()
        self.get(client)
        hosts = [f"fd00::bad:{number:x}" for number in range(10)]
        network = self.simulation.network.attach("bad", {"lan": [f"{host}/64" for host in hosts]})
        for number in range(1_000):
            raw = RawClient(network, hosts[number % 10], 40_000 + number)
            raw.begin(flights=2)
            self.simulation.scheduler.advance(0.005)
            raw.leave()
        self.assertEqual((server.handshakes, server.sessions), (server.limits.handshakes, 1))
        self.nodes.append(device(self.simulation, address="fd00::d2"))
        self.get(self.nodes[2])
        self.simulation.scheduler.advance(server.limits.handshake_s + 1)
        self.assertEqual((server.handshakes, server.sessions), (0, 2))

    def test_unverified_sources(self) -> None:
        """Of a ClientHello without a good cookie nothing is kept, and the answer is smaller than the question."""
        self.nodes = [server := gateway(self.simulation)]
        raw = RawClient(self.simulation.network.attach("raw", {"lan": ["fd00::bad/64"]}), "fd00::bad")
        raw.begin(flights=1)
        self.simulation.scheduler.advance(1)
        self.assertEqual((server.handshakes, server.sessions), (0, 0))
        sizes = [event.size for event in self.simulation.network.trace.events if event.what is What.DELIVERED]
        self.assertEqual(len(sizes), 2)
        self.assertLess(sizes[1], sizes[0])

    def test_made_up_cookies(self) -> None:
        """Who sends ClientHellos in the name of another host, with cookies that are made up, keeps that host from nothing."""
        server, raw = self.raw()
        made_up = bytearray(raw.sent[1])
        made_up[30] ^= 0xFF  # in the random
        made_up[61] ^= 0xFF  # in the cookie
        for _ in range(500):
            raw.send(bytes(made_up))
        self.simulation.scheduler.advance(0.1)
        other = RawClient(raw.network, "fd00::bad", 40_001)
        other.begin()
        self.simulation.scheduler.advance(1)
        self.assertEqual((server.sessions, server.handshakes), (2, 0))

    def test_replay(self) -> None:
        """Records that are sent again are not taken again, nor is what began the session."""
        server, raw = self.raw()
        raw.say(Message(things.NON, things.GET, 1, b"t", ((things.URI_PATH, b"temp"),)))
        self.simulation.scheduler.advance(1)
        for datagram in raw.sent * 3:
            raw.send(datagram)
        self.simulation.scheduler.advance(1)
        self.assertEqual((len(server.handler.requests), server.sessions, server.handshakes), (1, 1, 0))

    @seeded(3)
    def test_garbage(self, simulation: Simulation) -> None:
        """Whatever comes from the address of a session, that is not of the session, changes nothing: the session goes on."""
        self.simulation, chance = simulation, simulation.scheduler.generator("garbage")
        server, raw = self.raw()
        for _ in range(400):
            datagram = bytearray(chance.choice([*raw.sent, chance.randbytes(chance.randrange(64))]))
            for _ in range(chance.randrange(1, 4)):
                if datagram:
                    datagram[chance.randrange(len(datagram))] = chance.randrange(256)
            raw.send(bytes(datagram))
        simulation.scheduler.advance(1)
        self.assertEqual(server.sessions, 1)
        raw.say(Message(things.CON, things.GET, 1, b"t", ((things.URI_PATH, b"temp"),)))
        simulation.scheduler.advance(1)
        self.assertEqual(len(server.handler.requests), 1)
        server.stop()

    def test_plain_text(self) -> None:
        """What is not encrypted is not answered, and nothing leaves a port of sessions that is not."""
        server, raw = self.raw()
        raw.send(build(Message(things.CON, things.GET, 7, b"t", ())))
        self.simulation.scheduler.advance(1)
        self.assertEqual((server.handler.requests, raw.plain), ([], []))
        self.assertFalse(server.port.send(b"text", ("fd00::bad", 40_000, 0, 0)))
        self.assertFalse(server.port.send_to_group(b"text", "ff02::fd", 5684, 2))


class ObserveTests(SessionCase):
    def test_observe(self) -> None:
        """An observation over coaps tells each state, and goes on by another session where the server has started again."""
        server, client = self.pair()
        told: list[Answer] = []
        ends: list[Fault | Answer] = []
        observation = client.service.client.shared.observe(TEMP, TO, told.append, ends.append)
        self.simulation.scheduler.advance(1)
        self.assertEqual([answer.payload for answer in told], [b"21.5"])
        server.handler.answer = Response(Status.CONTENT, b"22", "text/plain", b"\x03")
        server.observable.change("temp")
        self.simulation.scheduler.advance(1)
        self.assertEqual([answer.payload for answer in told], [b"21.5", b"22"])
        server.stop()
        self.simulation.scheduler.advance(1)
        server.handler.answer = Response(Status.CONTENT, b"23", "text/plain", b"\x04")
        server.start()
        self.simulation.scheduler.advance(20)
        self.assertEqual([answer.payload for answer in told], [b"21.5", b"22", b"23"])
        observation.cancel()
        self.simulation.scheduler.advance(120)
        self.assertEqual((len(server.service.server.observers), ends), (0, []))

    def test_no_session(self) -> None:
        """Where no session comes about, the observation ends with the reason."""
        _, client = self.pair(issue("g2.example.org", by=AUTHORITY))
        ends: list[Fault | Answer] = []
        client.service.client.observe(TEMP, TO, ends.append, ends.append)
        self.simulation.scheduler.advance(2)
        (end,) = ends
        assert isinstance(end, PeerFailed)
        self.assertIn("not for g1.example.org", end.detail)

    def test_cancelled_before(self) -> None:
        """One that is cancelled before there is a session tells nothing."""
        _, client = self.pair()
        told: list[object] = []
        client.service.client.observe(TEMP, TO, told.append, told.append).cancel()
        self.simulation.scheduler.advance(2)
        self.assertEqual(told, [])
