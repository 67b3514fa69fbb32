"""The ground of tests of coaps: CoAP services with certificates, joined by the in-memory network."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from m2mapp.coap.access import Principals
from m2mapp.coap.dtls.address import Wanted
from m2mapp.coap.dtls.contexts import ClientContexts, Judge
from m2mapp.coap.dtls.credentials import Identity
from m2mapp.coap.dtls.port import DtlsPort
from m2mapp.coap.dtls.session import Session
from m2mapp.coap.dtls.settings import CoapsSettings
from m2mapp.coap.message import Message, build
from m2mapp.coap.parameters import Limits
from m2mapp.coap.service import CoapService, make_context
from m2mapp.coap.settings import AccessSettings
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagramReceiver, Sockaddr
from m2mapp.net.memory import MemoryDatagrams
from tests.certificates import Issued, issue
from tests.simulation import Simulation
from tests.unit.coap.fakes import FakeHandler, FakeObservable

AUTHORITY = issue(authority=True)
GATEWAY = issue("g1.example.org", "fd00::1", by=AUTHORITY)
DEVICE = issue("urn:dev:one", "dev-one", by=AUTHORITY)
ADDRESS, DEVICE_ADDRESS = "fd00::1", "fd00::d1"
TO: Sockaddr = (ADDRESS, 5684, 0, 0)
_CONTEXTS = ClientContexts(None, ())
TEMP = Outgoing(Method.GET, "coaps://g1.example.org/temp")


class CoapsNode:
    """One CoAP service on a simulated network."""

    def __init__(
        self, simulation: Simulation, address: str, coaps: CoapsSettings, access: AccessSettings | None = None, limits: Limits | None = None
    ) -> None:
        self.simulation, self.address = simulation, address
        self.network = simulation.network.attach(address, {"lan": [f"{address}/64"]})
        self.handler, self.observable, self.metrics = FakeHandler(), FakeObservable(), Metrics()
        self.coaps, self.access = coaps, access or AccessSettings()
        self.limits = limits or Limits()
        self.start()

    def start(self) -> None:
        """Start the service: a new one, as after the program was started again."""
        self.context = make_context(
            self.simulation.scheduler, self.metrics, self.simulation.scheduler.generator(self.address), limits=self.limits
        )
        principals = Principals(self.access, lambda *_: True, lambda _: False, self.context.names)
        self.service = CoapService(((self.address, 5683),), (), self.network, self.handler, principals, self.context)
        self.service.secure(self.coaps)
        self.service.observe(self.observable)
        self.service.startService()

    def stop(self) -> None:
        """Stop it in order: sessions end with a word."""
        if self.service.running:
            self.service.stopService()

    @property
    def port(self) -> DtlsPort:
        """Its first port of sessions."""
        return self.service.endpoint.dtls_ports[0]

    @property
    def sessions(self) -> int:
        """How many sessions are established."""
        return sum(len(port.table) for port in self.service.endpoint.dtls_ports)

    @property
    def handshakes(self) -> int:
        """How many handshakes are under way."""
        return sum(port.table.handshakes for port in self.service.endpoint.dtls_ports)

    def ask(self, outgoing: Outgoing = TEMP) -> Deferred[Answer]:
        """Ask the gateway."""
        return self.service.client.request(outgoing, TO)


def gateway(
    simulation: Simulation,
    shown: Issued = GATEWAY,
    *,
    asks: bool = False,
    access: AccessSettings | None = None,
    limits: Limits | None = None,
) -> CoapsNode:
    """A node that serves coaps; `asks` clients for their certificates."""
    authorities = (AUTHORITY.certificate,) if asks else ()
    return CoapsNode(simulation, ADDRESS, CoapsSettings(((ADDRESS, 5684),), shown.identity, authorities), access, limits)


def device(
    simulation: Simulation, shown: Identity | None = None, *, trusts: Issued = AUTHORITY, address: str = DEVICE_ADDRESS
) -> CoapsNode:
    """A node that asks by coaps."""
    return CoapsNode(simulation, address, CoapsSettings((), shown, (), (trusts.certificate,)))


def outcome(simulation: Simulation, deferred: Deferred[Answer], limit_s: float = 100.0) -> Answer | Fault:
    """What becomes of a request: an answer, or a fault."""
    told: list[Answer | Fault] = []
    deferred.addCallbacks(told.append, lambda failure: told.append(failure.value))
    until = simulation.scheduler.seconds() + limit_s
    while not told and simulation.scheduler.seconds() < until:
        simulation.scheduler.advance(0.05)
    assert told, "nothing came of the request"
    return told[0]


@implementer(IDatagramReceiver)
class RawClient:
    """A DTLS client that does what a test wants: several handshakes from one port, halves of one, datagrams twice."""

    def __init__(self, network: MemoryDatagrams, address: str, number: int = 40_000) -> None:
        self.network = network
        self._port = network.open_port(address, number, self)
        self.leave = self._port.stop
        self.sent: list[bytes] = []
        self.plain: list[bytes] = []
        self.flights = 100

    def begin(self, flights: int = 100) -> None:
        """Begin a handshake, and say nothing more after so many flights."""
        self.flights = flights
        judge = Judge(Wanted("g1.example.org", GATEWAY.der))
        self.session = Session(_CONTEXTS.connection(judge), judge)
        self.session.start()
        self._flush()

    def say(self, message: Message) -> None:
        """Send a CoAP message by the session."""
        assert self.session.send(build(message))
        self.flights += 1
        self._flush()

    def send(self, datagram: bytes) -> None:
        """Send a datagram as it is."""
        self._port.send(datagram, TO)

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        if self.flights > 0:
            self.plain += self.session.receive(data)
            self._flush()

    def _flush(self) -> None:
        output = self.session.take_output()
        if output and self.flights > 0:
            self.flights -= 1
            for datagram in output:
                self.sent.append(datagram)
                self.send(datagram)
