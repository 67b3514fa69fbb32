"""Many devices on one link, each with a link-local address, a DUID and an endpoint of its own, in few processes.

A gateway gives them addresses and takes their registrations; the bootstrap server is behind it. Responsible for building and starting
these, and for how far the devices are. What is expected is the tests', or the benchmark's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.system.device_chain import host_of_devices
from tests.system.namespaces import Host, wait_until
from tests.system.nodes import Gateway, Site
from tests.system.programs import Program, write_config

PATH = "/value"
GROUP = "values"
_PREFIX = "2001:db8:5::/64"
_GATEWAY, _BOOTSTRAP = "2001:db8:5::1", "2001:db8::b5"
_PATIENCE_S = 60.0
_START_EACH_S = 0.1
"""So much longer a process may take to start for each of its devices."""


class DeviceCrowd:
    """`count` devices, `each` of them in a process. The servers are up when it is made; the devices are off."""

    def __init__(self, site: Site, count: int, each: int) -> None:
        self.site, self.count = site, count
        self.server = self._server()
        self.gateway = self._gateway()
        self.server.put_document("/bs/all", {"default": True, "servers": [{"shortId": 1, "uri": f"coap://[{_GATEWAY}]", "lifetime": 3600}]})
        numbers = range(1, count + 1)
        host = host_of_devices(site, "devices")
        host.add_addresses([f"{_link_local(number)}/64" for number in numbers])
        self.processes = [self._devices(host, numbers[first : first + each]) for first in range(0, count, each)]

    @property
    def pids(self) -> list[int]:
        """The devices' processes, which are up."""
        return [process.process.pid for process in self.processes]

    def power_on(self) -> float:
        """All devices get power; the seconds until all their processes are up."""
        began = time.monotonic()
        for process in self.processes:
            process.start(wait=False)
        for process in self.processes:
            process.ready()
        return time.monotonic() - began

    def reach(self, what: str, count: int | None = None) -> bool:
        """Whether all (or so many) devices are `leased`, `bootstrapped`, `registered` or `joined`."""
        return self.how_many(what) >= (self.count if count is None else count)

    def how_many(self, what: str) -> int:
        """How many devices are that far."""
        if what == "leased":
            return len(self._children(self.gateway, "/leases"))
        if what == "bootstrapped":
            return int(self.server.metric('m2mapp_bootstrap_total{outcome="bootstrapped"}'))
        if what == "registered":
            return len(self._children(self.gateway, "/scls"))
        sets = self.gateway.get(f"/groups/{GROUP}").json()["fanoutSets"]
        assert isinstance(sets, list)
        return sum(state in ("joined", "proven") for one in sets for state in one.get("joins", {}).values())

    def make_group(self) -> None:
        """A group of a resource of all devices, whether they are there already or not."""
        members = [f"coap://d{number}.example.org{PATH}" for number in range(1, self.count + 1)]
        self.gateway.put_document(f"/groups/{GROUP}", {"members": members})

    def read_group(self) -> dict[str, str]:
        """The status of each member's answer in one read."""
        answer = self.gateway.get(f"/groups/{GROUP}/membersContent").json()
        members = answer["members"]
        assert isinstance(members, dict)
        return {uri: str(one["status"]) for uri, one in members.items()}

    def _children(self, node: Gateway, path: str) -> list[object]:
        found: list[object] = []
        query = "?limit=1000"
        while True:
            page = node.get(f"{path}{query}").json()
            children = page.get("children", [])  # before the first lease there are no leases
            assert isinstance(children, list)
            found += children
            if "next" not in page:
                return found
            query = f"?limit=1000&after={page['next']}"

    def _server(self) -> Gateway:
        host = self.site.host_on("wan", "bs", [f"{_BOOTSTRAP}/64"])
        host.ip("-6", "route", "add", _PREFIX, "via", "2001:db8::2")
        tables: dict[str, Mapping[str, object]] = {
            "coap": {"listen": [f"[{_BOOTSTRAP}]:5683"], "interfaces": ["eth0"]},
            "coap.access": {"register": [_PREFIX]},
            "bootstrap": {},
        }
        return self._started(Gateway(host, self.site.folder, "bs", tables))

    def _gateway(self) -> Gateway:
        host = self.site.host_on("lan", "gw", [])
        host.connect("wan", ["2001:db8::2/64"], "eth1")
        host.run(["sysctl", "-q", "net.ipv6.conf.all.forwarding=1"])
        tables: dict[str, Mapping[str, object]] = {
            "coap": {"interfaces": ["eth0"]},
            "groups": {},
            "dhcpv6.downlink": {"interfaces": ["eth0"], "prefix": _PREFIX, "bootstrap_uri": f"coap://[{_BOOTSTRAP}]"},
        }
        gateway = self._started(Gateway(host, self.site.folder, "gw", tables))
        wait_until(lambda: _GATEWAY in host.ip("-6", "addr", "show", "dev", "eth0"), _PATIENCE_S, "the gateway's own address")
        return gateway

    def _started(self, gateway: Gateway) -> Gateway:
        self.site.add(gateway)
        gateway.start()
        return gateway

    def _devices(self, host: Host, numbers: range) -> Program:
        name = f"devices{numbers[0]}"
        files = self.site.folder / f"{name}.d"
        files.mkdir()
        for number in numbers:
            tables: dict[str, Mapping[str, object]] = {
                "node": {"name": f"d{number}.example.org", "state_dir": str(self.site.folder / f"d{number}")},
                "coap": {"listen": [], "interfaces": ["eth0"]},
                "member": {},
                "device": {"interface": "eth0", "endpoint": f"d{number}", "link_local": _link_local(number)},
                "sim": {"model": "temperature", "path": PATH, "period_s": 3600.0, "seed": number},
            }
            write_config(files / f"d{number}.toml", tables)
        program = Program(host, self.site.folder, name, files)
        program.start_s += _START_EACH_S * len(numbers)
        self.site.add(program)
        return program


def _link_local(number: int) -> str:
    return f"fe80::d:{number:x}"
