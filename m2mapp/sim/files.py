"""The configuration files of the demonstration: one gateway, thirty devices of three kinds. Text only; `demo` runs what they configure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from m2mapp.sim.network import Network

NAMES = {"temperature": "temperatures", "switch": "switches", "meter": "meters"}
"""The kinds of devices, and the groups of all devices of one kind."""
KINDS = tuple(NAMES)
ALL = "devices"
"""The group of all devices."""
EACH = 10
"""How many devices there are of each kind."""
DEVICES = EACH * len(KINDS)
GATEWAY_NAME = "g1.example.org"
PERIOD_S = 5.0
PATH = "/value"
"""Where every device has its value: members that share a path share a multicast request."""
_NOTE = "# Written by `make run`, anew at each run: changes made here are lost.\n"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the demonstration keeps what: files and logs at once, the nodes' own state from run to run."""

    directory: Path

    @property
    def gateway_file(self) -> Path:
        """The gateway's configuration."""
        return self.directory / "gateway.toml"

    @property
    def device_directory(self) -> Path:
        """The devices' configurations, one file each."""
        return self.directory / "devices"

    @property
    def plan_directory(self) -> Path:
        """The bootstrap plans."""
        return self.directory / "plans"

    @property
    def token_file(self) -> Path:
        """The administrator's token, which the gateway writes at its first start."""
        return self.state("gateway") / "admin.token"

    @property
    def code_file(self) -> Path:
        """The code that makes the first user of the pages, until it was used."""
        return self.state("gateway") / "admin.code"

    def state(self, node: str) -> Path:
        """The state directory of a node."""
        return self.directory / "state" / node

    def log(self, process: str) -> Path:
        """The log of a process."""
        return self.directory / f"{process}.log"


def kind_of(number: int) -> str:
    """What the device of that number, from 1, measures."""
    return KINDS[(number - 1) // EACH]


def groups() -> dict[str, list[str]]:
    """The groups by name, with their members' URIs: all devices, and those of each kind."""
    members = {number: f"coap://{host_of(number)}{PATH}" for number in range(1, DEVICES + 1)}
    made = {ALL: list(members.values())}
    for kind, name in NAMES.items():
        made[name] = [uri for number, uri in members.items() if kind_of(number) == kind]
    return made


def host_of(number: int) -> str:
    """The host name of the device of that number."""
    return f"d{number}.example.org"


def write_files(layout: Layout, network: Network, http_listen: str) -> None:
    """Write all files, in place of those of an earlier run. `http_listen` is the gateway's endpoint. Raises `OSError`."""
    layout.device_directory.mkdir(parents=True, exist_ok=True)
    for old in layout.device_directory.glob("*.toml"):
        old.unlink()
    layout.state("").mkdir(mode=0o700, exist_ok=True)
    layout.plan_directory.mkdir(exist_ok=True)
    (layout.plan_directory / "all.toml").write_text(plan_text(network))
    layout.gateway_file.write_text(gateway_text(layout, network, http_listen))
    for number in range(1, DEVICES + 1):
        (layout.device_directory / f"d{number}.toml").write_text(device_text(layout, network, number))


def plan_text(network: Network) -> str:
    """The bootstrap plan for all devices: they are to register at the gateway."""
    return f"""{_NOTE}
default = true

[[servers]]
shortId = 1
uri = {_quoted(f"coap://{network.authority(network.gateway)}")}
lifetime = 300
"""


def gateway_text(layout: Layout, network: Network, http_listen: str) -> str:
    """The gateway's configuration: a group server with a thermometer of its own, for its event stream to have something to tell.

    Where the network has a prefix it also gives the devices addresses, and bootstraps them.
    """
    # Where it gives addresses it takes its own, too, of the prefix, when it has started.
    listen = f"[::]:{network.port}" if network.prefix else network.authority(network.gateway)
    return f"""{_NOTE}
[node]
name = {_quoted(GATEWAY_NAME)}
state_dir = {_quoted(str(layout.state("gateway")))}

[http]
listen = [{_quoted(http_listen)}]

[coap]
listen = [{_quoted(listen)}]
interfaces = [{_quoted(network.gateway_interface)}]
[coap.access]
read = ["link", "leases"]
register = ["link", "leases"]
advertise = ["link", "leases"]

[groups]
deadline_s = 5.0

[triggers]

[sim]
model = "temperature"
path = {_quoted(PATH)}
period_s = {PERIOD_S}
{_giving(layout, network) if network.prefix else ""}"""


def _giving(layout: Layout, network: Network) -> str:
    """The roles by which devices that have nothing but power come to their groups."""
    return f"""
[dhcpv6.downlink]
interfaces = [{_quoted(network.gateway_interface)}]
prefix = {_quoted(network.prefix)}
bootstrap_uri = {_quoted(f"coap://{network.authority(network.gateway)}")}

[bootstrap]
plans = {_quoted(str(layout.plan_directory))}

[report]
lwm2m = false
push = {_quoted(GATEWAY_NAME)}
"""


def device_text(layout: Layout, network: Network, number: int) -> str:
    """The configuration of the device of that number: a member that takes writes of the gateway.

    Where the gateway gives addresses it asks for one, and all else follows from that; else it knows where the gateway is.
    """
    given = bool(network.prefix)
    listen = "" if given else _quoted(network.authority(network.device(number)))
    gateway = "servers" if given else "link"
    return f"""{_NOTE}
[node]
name = {_quoted(host_of(number))}
state_dir = {_quoted(str(layout.state(f"d{number}")))}

[coap]
listen = [{listen}]
interfaces = [{_quoted(network.device_interface)}]
[coap.access]
read = ["link", {_quoted(gateway)}]
register = []
advertise = ["link", {_quoted(gateway)}]
write = [{_quoted(gateway)}]

[member]

[sim]
model = {_quoted(kind_of(number))}
path = {_quoted(PATH)}
period_s = {PERIOD_S}
seed = {number}
{_asking(network, number) if given else _registering(network, number)}"""


def _asking(network: Network, number: int) -> str:
    """What a device knows that is given an address: its name, and which of the interface's devices it is."""
    return f"""
[device]
interface = {_quoted(network.device_interface)}
endpoint = "d{number}"
link_local = {_quoted(network.device(number))}
"""


def _registering(network: Network, number: int) -> str:
    """What a device knows that has an address."""
    return f"""registrar = {_quoted(f"coap://{network.authority(network.gateway)}/rd")}
endpoint = "d{number}"
hosts = [{_quoted(host_of(number))}]
"""


def _quoted(text: str) -> str:
    """A TOML string: those of JSON are, but for the character DEL, which no name here has."""
    return json.dumps(text, ensure_ascii=False)
