"""A gateway with a downlink whose power fails while devices ask: no address is given to two, no acknowledged lease is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Network

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.coap.settings import AccessSettings, CoapSettings
from m2mapp.config import NodeSettings, Settings
from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import ALL_DHCP_RELAY_AGENTS_AND_SERVERS, MessageType
from m2mapp.dhcpv6.packet import build, parse
from m2mapp.dhcpv6.settings import Dhcpv6Settings, DownlinkSettings
from m2mapp.model.messages import Method
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, Sockaddr
from m2mapp.net.medium import Quality
from tests.simulation import Simulation, seeded
from tests.unit.dhcpv6.parts import addresses_in, client_message
from tests.unit.simulation.world import GATEWAY_ADDRESS, Box, build_box

_PREFIX = IPv6Network("2001:db8:5::/48")
_DOWNLINK = DownlinkSettings(("eth0",), _PREFIX, "coap://bs", "", 7200)
_SETTINGS = Settings(
    NodeSettings("gw.example.org", (), "unused"),
    coap=CoapSettings(((GATEWAY_ADDRESS, 5683),), ("eth0",), AccessSettings(read=("leases",))),
    dhcpv6=Dhcpv6Settings(downlink=_DOWNLINK),
)


@implementer(IDatagramReceiver)
@dataclass
class _Device:
    """A device that asks again and again with Rapid Commit; `acknowledged` are the addresses of the replies that came in."""

    duid: bytes
    interface: int
    port: IDatagramPort | None = None
    acknowledged: list[str] = field(default_factory=list)

    def ask(self) -> None:
        """Ask for an address."""
        message = client_message(MessageType.SOLICIT, o.RapidCommit(), o.IaNa(1), duid=self.duid)
        assert self.port is not None
        self.port.send_to_group(build(message), ALL_DHCP_RELAY_AGENTS_AND_SERVERS, 547, self.interface)

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        reply = parse(data)
        assert isinstance(reply, Message)
        self.acknowledged += [address for address, _, _ in addresses_in(reply)]


def _devices(simulation: Simulation, count: int) -> list[_Device]:
    made = []
    for number in range(1, count + 1):
        network = simulation.network.attach(f"device {number}", {"eth0@lan": [f"fe80::d{number}/64"]})
        device = _Device(b"\0\3\0\1%d" % number, network.interface_index("eth0"))
        device.port = network.open_port("::", 546, device)
        made.append(device)
    return made


def _leases(gateway: Box) -> dict[str, str]:
    """The addresses in the tree, by DUID."""
    assert gateway.node is not None
    return {one.path[1]: str(one.attributes["address"]) for one in gateway.node.tree.walk(("leases",)) if one.type == "lease"}


class DownlinkTests(SynchronousTestCase):
    @seeded(5)
    def test_power_failures(self, simulation: Simulation) -> None:
        """Under loss and five power failures each device has one address of its own, the same in every reply, and its lease stands."""
        simulation.network.set_quality(Quality(loss=0.1, repetition=0.1, delay_s=(0.0005, 0.01)))
        gateway = build_box(simulation, _SETTINGS, GATEWAY_ADDRESS)
        devices = _devices(simulation, 12)
        chance = simulation.scheduler.generator("power")
        for _ in range(5):
            gateway.start()
            simulation.scheduler.advance(chance.uniform(0.5, 1))
            for device in devices:
                device.ask()
                simulation.scheduler.advance(chance.uniform(0, 0.003))
            gateway.kill()
            simulation.scheduler.advance(0.1)
        gateway.start()
        simulation.scheduler.advance(1)
        leases = _leases(gateway)
        known = {device.duid.hex(): set(device.acknowledged) for device in devices if device.acknowledged}
        self.assertTrue(known)
        self.assertEqual({duid: {leases[duid]} for duid in known}, known)
        self.assertEqual(len(set(leases.values())), len(leases))
        gateway.stop()

    def test_whole_node(self) -> None:
        """The role is on /node, the node has its own address, leases are in discovery's tree, and a leased source may read by CoAP."""
        simulation = Simulation(1)
        gateway = build_box(simulation, _SETTINGS, GATEWAY_ADDRESS)
        gateway.start()
        (device,) = _devices(simulation, 1)
        simulation.scheduler.advance(1)
        device.ask()
        simulation.scheduler.advance(1)
        self.assertEqual(gateway.read("/node")["roles"], ["coap", "dhcpv6.downlink"])
        ((_, own),) = gateway.host.addresses
        self.assertTrue(own.endswith("::1/64"))
        path = f"/leases/{device.duid.hex()}/1"
        lease = gateway.read(path)
        self.assertEqual((lease["address"], lease["bootstrapURI"]), (device.acknowledged[0], "coap://bs"))
        reserved = own.replace("::1/64", "::d1")
        gateway.ask(Method.PUT, path, {"address": reserved})
        self.assertEqual(gateway.read(path)["reserved"], reserved)
        gateway.stop()
