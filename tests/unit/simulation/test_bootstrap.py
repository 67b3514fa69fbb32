"""A bootstrap server as a whole node, on networks and disks that fail, with clients that lose messages or never answer."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.coap import things
from m2mapp.coap.message import Message, build, parse
from m2mapp.coap.numbers import code_text
from m2mapp.coap.settings import CoapSettings
from m2mapp.config import NodeSettings, Settings
from m2mapp.lwm2m.settings import BootstrapSettings
from m2mapp.model.messages import Method
from m2mapp.net.interfaces import IDatagramReceiver, Sockaddr
from m2mapp.net.medium import Quality
from m2mapp.net.memory import MemoryDatagrams
from tests.simulation import Simulation, seeded
from tests.unit.simulation.world import GATEWAY_ADDRESS, LINK, Box, build_box

TO: Sockaddr = (GATEWAY_ADDRESS, 5683, 0, 0)
PLAN = {"default": True, "servers": [{"shortId": 1, "uri": "coap://[fd00::5]"}]}


@implementer(IDatagramReceiver)
class Client:
    """An LwM2M client at one port: it answers what it is asked, unless it is `deaf`. `told` is what it did, by name."""

    def __init__(self, network: MemoryDatagrams, address: str, port: int, endpoint: str) -> None:
        self.endpoint, self.deaf = endpoint, False
        self.code = ""
        self.told: list[str] = []
        self.bodies: list[str] = []
        """What it was asked, byte by byte in hexadecimal, but for version, type, message ID and token, which are the sender's choice."""
        self._answers: dict[int, Message] = {}
        self._mid = 0
        self.port = network.open_port(address, port, self)

    def request(self, *query: bytes) -> None:
        """Ask to be bootstrapped."""
        self._mid += 1
        options = ((things.URI_PATH, b"bs"), *((things.URI_QUERY, each) for each in (f"ep={self.endpoint}".encode(), *query)))
        self.port.send(build(Message(things.CON, things.POST, self._mid, b"t", options)), TO)

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """Take a message as RFC 7252 says: what comes twice is answered as the first time."""
        message = parse(data)
        if message.code >= things.CREATED:
            self.code = code_text(message.code)
        if message.mtype != things.CON or (self.deaf and message.code < things.CREATED):
            return
        if message.mid not in self._answers:
            code = 0
            if message.code < things.CREATED:
                path = "/".join(value.decode() for number, value in message.options if number == things.URI_PATH)
                self.told.append(f"{message.code} /{path}")
                self.bodies.append(data[1:2].hex() + data[4 + len(message.token) :].hex())
                code = things.DELETED if message.code == things.DELETE else things.CHANGED
            self._answers[message.mid] = Message(things.ACK, code, message.mid, message.token if code else b"")
        self.port.send(build(self._answers[message.mid]), source)


class Server:
    """A bootstrap server, and clients on its link."""

    def __init__(self, simulation: Simulation, settings: BootstrapSettings | None = None) -> None:
        coap = CoapSettings(listen=((GATEWAY_ADDRESS, 5683),), interfaces=("eth0",), access=LINK)
        name = NodeSettings("bs.example.org", (), "unused")
        self.simulation = simulation
        self.box: Box = build_box(simulation, Settings(name, coap=coap, bootstrap=settings or BootstrapSettings()), GATEWAY_ADDRESS)
        self.start()
        self.box.ask(Method.PUT, "/bs/all", PLAN)

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.box.start()
        self.run_until(lambda: self.box.node is not None and self.box.node.prepared)

    def run_until(self, true: Callable[[], bool]) -> None:
        """Let time pass until something holds, 200 seconds at most."""
        scheduler = self.simulation.scheduler
        end = scheduler.seconds() + 200
        while not true():
            if scheduler.seconds() > end:
                raise AssertionError("it does not hold after 200 simulated seconds")
            scheduler.advance(0.1)

    def clients(self, *endpoints: str, host: str = "fd00::d1") -> list[Client]:
        """Clients of those names, at ports of one host."""
        network = self.simulation.network.attach(host, {"eth0@lan": [f"{host}/64"]})
        return [Client(network, host, 5683 + place, endpoint) for place, endpoint in enumerate(endpoints)]

    def state(self, endpoint: str) -> str:
        """The state in a device's record, or nothing."""
        resource = self.box.node.tree.find(("devices", endpoint)) if self.box.node is not None else None
        return "" if resource is None else str(resource.attributes["state"])

    def stop(self) -> None:
        """Stop it; nothing is pending afterwards."""
        self.box.stop()
        self.simulation.scheduler.advance(1)
        left = self.simulation.scheduler.getDelayedCalls()
        if left:
            raise AssertionError(f"still pending: {left[:5]}")


class ExchangeTests(SynchronousTestCase):
    def test_byte_by_byte(self) -> None:
        """The exchange that was seen between two foreign programs: in TLV by default, in SenML JSON where that is asked for."""
        simulation = Simulation(1)
        server = Server(simulation)
        account = {"shortId": 1, "uri": "coap://[::1]:5783", "lifetime": 300}
        server.box.ask(Method.PUT, "/bs/all", {"default": True, "servers": [account]})
        client, other = server.clients("dev-one", "dev-two")
        client.request()
        other.request(b"pct=110")
        server.run_until(lambda: server.state("dev-one") == server.state("dev-two") == "bootstrapped")
        tlv = [
            "c80011" + b"coap://[::1]:5783".hex() + "c10100" + "c10a01" + "c10203",
            "c10001" + "c201012c" + "c10600" + "c10755",
        ]
        senml = [
            b'[{"bn":"/0/1/","n":"0","vs":"coap://[::1]:5783"},{"n":"1","vb":false},{"n":"10","v":1},{"n":"2","v":3}]',
            b'[{"bn":"/1/1/","n":"0","v":1},{"n":"1","v":300},{"n":"6","vb":false},{"n":"7","vs":"U"}]',
        ]
        for asked, form, payloads in ((client, "122d16", tlv), (other, "116e", [each.hex() for each in senml])):
            writes = [f"03b13{number}0131{form}ff{payload}" for number, payload in enumerate(payloads)]
            self.assertEqual(asked.bodies, ["04", *writes, "02b26273"])
        server.stop()


class BootstrapTests(SynchronousTestCase):
    @seeded(5)
    def test_loss(self, simulation: Simulation) -> None:
        """One packet in five is lost: every session ends, and who is said to be bootstrapped was asked all, in order, Finish last."""
        server = Server(simulation)
        clients = server.clients(*(f"dev-{number}" for number in range(20)))
        simulation.network.set_quality(Quality(loss=0.2))
        for client in clients:
            client.request()
        simulation.scheduler.advance(1)
        for client in clients:
            if not client.code:
                client.request()
        server.run_until(lambda: all(server.state(each.endpoint) not in ("", "bootstrapping") for each in clients if each.told))
        whole = ["4 /", "3 /0/1", "3 /1/1", "2 /bs"]
        for client in clients:
            if server.state(client.endpoint) == "bootstrapped":
                self.assertEqual(client.told[-4:], whole)
        self.assertGreater(sum(server.state(client.endpoint) == "bootstrapped" for client in clients), 10)
        server.stop()

    @seeded(2)
    def test_half_sessions(self, simulation: Simulation) -> None:
        """Clients that never answer take so many places and no more; one of another host is served; in the end all places are free."""
        server = Server(simulation, BootstrapSettings(sessions=40, sessions_per_host=30))
        deaf = server.clients(*(f"dev-{number}" for number in range(60)))
        for client in deaf:
            client.deaf = True
            client.request()
            simulation.scheduler.advance(0.01)
        self.assertEqual([client.code for client in deaf], ["2.04"] * 30 + ["4.29"] * 30)
        (other,) = server.clients("other", host="fd00::d2")
        other.request()
        server.run_until(lambda: server.state("other") == "bootstrapped")
        server.run_until(lambda: all(server.state(client.endpoint) == "failed" for client in deaf[:30]))
        deaf[40].deaf = False
        deaf[40].request()
        server.run_until(lambda: server.state("dev-40") == "bootstrapped")
        server.stop()

    @seeded(3)
    def test_power_cut(self, simulation: Simulation) -> None:
        """The power fails in the middle of a session: after the start its record says so, and the client that asks again is served."""
        server = Server(simulation)
        (client,) = server.clients("dev-one")
        client.deaf = True
        client.request()
        server.run_until(lambda: client.code == "2.04")
        server.box.kill()
        simulation.scheduler.advance(1)
        server.start()
        server.run_until(lambda: server.state("dev-one") == "failed")
        client.deaf = False
        client.request()
        server.run_until(lambda: server.state("dev-one") == "bootstrapped")
        server.stop()
