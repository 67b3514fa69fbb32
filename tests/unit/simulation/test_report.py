"""A gateway's report over the simulated network: its LwM2M client registers at a bootstrap server, which reads and observes its devices."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.service import CoapService
from m2mapp.coap.settings import CoapSettings
from m2mapp.config import NodeSettings, Settings
from m2mapp.lwm2m.report_settings import ReportSettings
from m2mapp.lwm2m.settings import BootstrapSettings
from m2mapp.model.messages import Method, Outgoing
from m2mapp.net.medium import Quality
from m2mapp.tree.unit import Remove, Write
from tests.simulation import Simulation, seeded
from tests.unit.simulation.world import GATEWAY_ADDRESS, LINK, Box, Site, build_box

SERVER_ADDRESS = "fd00::b5"
GATEWAY = "/gateways/g1.example.org"


def duid(number: int) -> str:
    """The DUID of a device."""
    return f"00030001{number:012x}"


def lease(number: int, **more: object) -> Write:
    """The lease of a device, as the downlink writes it."""
    given = {
        "duid": duid(number),
        "iaid": 1,
        "address": f"fd00::d:{number:x}",
        "state": "bound",
        "bootstrapURI": f"coap://[{SERVER_ADDRESS}]",
    }
    times = {"givenAt": "2027-01-15T08:00:00.000Z", "validUntil": "2099-01-15T10:00:00.000Z"}
    return Write(("leases", duid(number), "1"), "lease", {**given, **times, **more})


@dataclass
class Two(Site):
    """A gateway that reports, and the bootstrap server."""

    @property
    def server(self) -> Box:
        """The bootstrap server."""
        return self.members[0]

    def known(self) -> list[str]:
        """The DUIDs of the devices that the server knows of the gateway."""
        node = self.server.node
        if node is None:
            return []
        return [resource.path[-1] for resource in node.tree.children(("gateways", "g1.example.org", "devices"))]

    def prepared(self) -> bool:
        """Whether both nodes are ready."""
        return all(box.node is not None and box.node.prepared for box in (self.gateway, self.server))


def build_two(simulation: Simulation) -> Two:
    """A gateway and a bootstrap server on one link, started."""
    coap = CoapSettings(listen=((GATEWAY_ADDRESS, 5683),), interfaces=("eth0",), access=LINK)
    report = ReportSettings(server=f"coap://[{SERVER_ADDRESS}]", lifetime_s=60)
    gateway = build_box(simulation, Settings(NodeSettings("g1.example.org", (), "unused"), coap=coap, report=report), GATEWAY_ADDRESS)
    coap = CoapSettings(listen=((SERVER_ADDRESS, 5683),), interfaces=("eth0",), access=LINK)
    server = build_box(
        simulation, Settings(NodeSettings("bs.example.org", (), "unused"), coap=coap, bootstrap=BootstrapSettings()), SERVER_ADDRESS
    )
    two = Two(simulation, gateway, [server])
    for box in (gateway, server):
        box.start()
    two.run_until(two.prepared)
    return two


class ReportTests(SynchronousTestCase):
    @seeded(3)
    def test_observed(self, simulation: Simulation) -> None:
        """The server knows each device of the gateway within seconds: those before it came, later ones, and not those that went."""
        two = build_two(simulation)
        two.gateway.commit(*(lease(number) for number in range(3)))
        two.run_until(lambda: len(two.known()) == 3)
        two.gateway.commit(lease(3))
        two.run_until(lambda: len(two.known()) == 4)
        two.gateway.commit(Remove(("leases", duid(1))))
        two.run_until(lambda: two.known() == [duid(0), duid(2), duid(3)])
        shown = two.server.read(GATEWAY)
        self.assertEqual((shown["devices"], shown["object"]["state"]), (3, "observed"))  # type: ignore[index]
        device = two.server.read(f"/devices/{duid(3)}")
        self.assertEqual((device["gateway"], device["missing"]["step"]), ("g1.example.org", "bootstrap requested"))  # type: ignore[index]
        two.run_until(lambda: two.gateway.read(f"/node/reports/{duid(3)}")["reportedAt"] is not None)
        two.stop()

    @seeded(3)
    def test_loss(self, simulation: Simulation) -> None:
        """With one datagram in five lost each way, a hundred devices are all known in the end."""
        simulation.network.set_quality(Quality(loss=0.2, delay_s=(0.001, 0.02)))
        two = build_two(simulation)
        for number in range(100):
            two.gateway.commit(lease(number))
        two.run_until(lambda: len(two.known()) == 100, 600)
        two.stop()

    @seeded(2)
    def test_server_killed(self, simulation: Simulation) -> None:
        """A server that loses its power knows all devices again some time after it came back, those too that came meanwhile."""
        two = build_two(simulation)
        two.gateway.commit(lease(0))
        two.run_until(lambda: len(two.known()) == 1)
        two.server.kill()
        two.gateway.commit(lease(1))
        two.run(30)
        two.server.start()
        two.run_until(lambda: len(two.known()) == 2, 900)
        two.stop()

    @seeded(2)
    def test_gateway_killed(self, simulation: Simulation) -> None:
        """A gateway that loses its power registers again, and its devices are known as they are then."""
        two = build_two(simulation)
        two.gateway.commit(lease(0))
        two.run_until(lambda: len(two.known()) == 1)
        two.gateway.commit(lease(1))
        two.gateway.kill()
        two.run(5)
        two.gateway.start()
        two.run_until(lambda: len(two.known()) == 2, 600)
        two.stop()

    @seeded(1)
    def test_leaves(self, simulation: Simulation) -> None:
        """A gateway that stops deregisters: the server shows that it is not registered, and keeps what it reported."""
        two = build_two(simulation)
        two.gateway.commit(lease(0))
        two.run_until(lambda: len(two.known()) == 1)
        self.assertIsNotNone(two.server.read(GATEWAY)["registered"])
        two.gateway.stop()
        two.run_until(lambda: two.server.read(GATEWAY)["registered"] is None)
        self.assertEqual(two.known(), [duid(0)])
        two.stop()

    @seeded(1)
    def test_strangers(self, simulation: Simulation) -> None:
        """Nobody but the server that it registered at may read the gateway's devices."""
        two = build_two(simulation)
        two.gateway.commit(lease(0))
        two.run_until(lambda: len(two.known()) == 1)
        coap = CoapSettings(listen=(("fd00::e", 5683),), interfaces=("eth0",), access=LINK)
        sent: list[str] = []
        stranger = build_box(simulation, Settings(NodeSettings("e.example.org", (), "unused"), coap=coap), "fd00::e")
        stranger.start()
        client = stranger.node.part(CoapService).client  # type: ignore[union-attr]
        for path in ("33050", "3/0", "1/0/8"):
            method = Method.POST if path == "1/0/8" else Method.GET
            answered = client.request(Outgoing(method, f"coap://[{GATEWAY_ADDRESS}]:5685/{path}"))
            sent.append(simulation.scheduler.run_until_fired(answered, 60).code)
        self.assertEqual(sent, ["4.01"] * 3)
        stranger.stop()
        two.stop()
