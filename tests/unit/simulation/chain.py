"""The whole chain on a simulated link: a gateway that gives addresses, a bootstrap server, devices that have nothing but power."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Interface, IPv6Network

from twisted.internet.defer import Deferred, fail

from m2mapp.coap.settings import AccessSettings, CoapSettings
from m2mapp.config import NodeSettings, Settings
from m2mapp.dhcpv6.settings import Dhcpv6Settings, DownlinkSettings
from m2mapp.groups.settings import GroupSettings
from m2mapp.lwm2m.device_settings import DeviceSettings
from m2mapp.lwm2m.settings import BootstrapSettings
from m2mapp.model.messages import Method
from m2mapp.net.memory import MemoryDatagrams
from m2mapp.sim.settings import SimSettings
from tests.simulation import Simulation
from tests.unit.fakes import FakeHost
from tests.unit.simulation.world import GATEWAY_ADDRESS, LINK, PERIOD_S, Box, Site, build_box, build_box_on

BOOTSTRAP_URI = "coap://[fd00::b5]"
PREFIX = IPv6Network("fd00::/64")
_ON_LINK = 8


class SimulatedHost(FakeHost):
    """A host whose addresses are those of its node on the simulated network, which has no routes: all of fd00::/8 is on the link."""

    def __init__(self, network: MemoryDatagrams) -> None:
        super().__init__()
        self._network = network

    def set_address(self, interface: int, address: IPv6Interface, preferred_s: int, valid_s: int) -> Deferred[None]:
        try:
            self._network.give(interface, IPv6Interface((address.ip, _ON_LINK)))
        except OSError as error:
            return fail(error)
        return super().set_address(interface, address, preferred_s, valid_s)

    def remove_address(self, interface: int, address: IPv6Interface) -> Deferred[None]:
        self._network.take(interface, IPv6Interface((address.ip, _ON_LINK)))
        return super().remove_address(interface, address)


def _gateway(bootstrap_uri: str, prefix: IPv6Network = PREFIX) -> Settings:
    """A gateway whose devices register and read groups at it."""
    access = AccessSettings(read=("link",), register=("link", "leases"), advertise=("link",), write=("link",))
    return Settings(
        NodeSettings("gw.example.org", (), "unused"),
        coap=CoapSettings(((GATEWAY_ADDRESS, 5683),), ("eth0",), access),
        groups=GroupSettings(),
        dhcpv6=Dhcpv6Settings(downlink=DownlinkSettings(("eth0",), prefix, bootstrap_uri, "", 7200)),
    )


def _bootstrap_server(name: str, address: str) -> Settings:
    coap = CoapSettings(((address, 5683),), ("eth0",), LINK)
    return Settings(NodeSettings(name, (), "unused"), coap=coap, bootstrap=BootstrapSettings())


def device_settings(number: int, link_local: IPv6Address | None = None) -> Settings:
    """A thermometer that knows nothing but its name."""
    return Settings(
        NodeSettings(f"d{number}.example.org", (), "unused"),
        coap=CoapSettings((), ("eth0",)),
        member=True,
        device=DeviceSettings("eth0", f"d{number}", link_local),
        sim=SimSettings("temperature", period_s=PERIOD_S, seed=number),
    )


@dataclass(slots=True)
class Chain:
    """The nodes of a chain. `site` has the gateway and the devices."""

    simulation: Simulation
    site: Site
    servers: list[Box] = field(default_factory=list)

    @property
    def gateway(self) -> Box:
        """The gateway."""
        return self.site.gateway

    @property
    def devices(self) -> list[Box]:
        """The devices."""
        return self.site.members

    def attribute(self, box: Box, *path: str) -> dict[str, object]:
        """The attributes of a resource in a node's tree; empty where there is none."""
        resource = box.node.tree.find(path) if box.node is not None else None
        return dict(resource.attributes) if resource is not None else {}

    def names_at(self, box: Box) -> set[str]:
        """The names of the devices that are registered at a node."""
        return {one.path[-1] for one in box.node.tree.children(("scls",))} if box.node is not None else set()

    def registered(self) -> set[str]:
        """The names of the devices that are registered at the gateway."""
        return self.names_at(self.gateway)

    def server_says(self, name: str, server: Box | None = None) -> str:
        """The state of a device's record at a bootstrap server, by default the first; empty where it has none."""
        return str(self.attribute(server or self.servers[0], "devices", name).get("state", ""))

    def with_uri(self, uri: str) -> Settings:
        """The gateway's settings with another bootstrap service."""
        return _gateway(uri)

    def with_prefix(self, prefix: IPv6Network) -> Settings:
        """The gateway's settings with another prefix for the devices."""
        return _gateway(BOOTSTRAP_URI, prefix)

    def run_until(self, true: Callable[[], bool], limit_s: float = 120.0) -> None:
        """Let time pass until something holds."""
        self.site.run_until(true, limit_s)

    def all_registered(self) -> bool:
        """Whether every device is registered."""
        return self.registered() == {f"d{number}" for number in range(1, len(self.devices) + 1)}

    def stop(self) -> None:
        """Stop all in order: devices, gateway, bootstrap servers; nothing is pending afterwards."""
        for box in self.devices:
            box.stop()
        self.gateway.stop()
        for box in self.servers:
            box.stop()
        self.site.members = []
        self.site.stop()


def build_chain(simulation: Simulation, count: int, servers: dict[str, str] | None = None) -> Chain:
    """A gateway, bootstrap servers (addresses by name; all with one plan for all devices), and devices, which are not started."""
    network = simulation.network.attach("gw.example.org", {"eth0@lan": [f"{GATEWAY_ADDRESS}/{_ON_LINK}", "fe80::1/64"]})
    gateway = build_box_on(simulation, _gateway(BOOTSTRAP_URI), network)
    chain = Chain(simulation, Site(simulation, gateway, []))
    for name, address in (servers or {"bs.example.org": "fd00::b5"}).items():
        chain.servers.append(build_box(simulation, _bootstrap_server(name, address), address))
    for box in (*chain.servers, gateway):
        box.start()
        chain.run_until(lambda box=box: box.node is not None and box.node.prepared)  # type: ignore[misc]
    for box in chain.servers:
        box.ask(
            Method.PUT, "/bs/all", {"default": True, "servers": [{"shortId": 1, "uri": f"coap://[{GATEWAY_ADDRESS}]", "lifetime": 300}]}
        )
    for number in range(1, count + 1):
        chain.devices.append(build_device(simulation, number))
    return chain


def build_device(simulation: Simulation, number: int) -> Box:
    """A device on the link, with nothing but a link-local address."""
    settings = device_settings(number)
    network = simulation.network.attach(settings.node.name, {"eth0@lan": [f"fe80::d{number}/64"]})
    box = build_box_on(simulation, settings, network)
    box.host = SimulatedHost(network)
    return box
