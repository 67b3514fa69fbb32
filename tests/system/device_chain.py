"""The whole chain in network namespaces: Kea upstream, a gateway that routes, devices on its link, bootstrap servers beside Kea.

    isp (Kea) --- wan --- gw --- lan --- devices        bs1, bs2 on wan

Responsible for building and starting it. What is expected of it is the tests'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.certificates import Issued, issue
from tests.system import kea
from tests.system.namespaces import Host, wait_until
from tests.system.nodes import Gateway, Site
from tests.system.programs import Tables

POOL = "2001:db8:100::/40"
_GATEWAY_ON_WAN = "2001:db8::2"
SERVERS = {"bs1": "2001:db8::b5", "bs2": "2001:db8::b6"}
PATIENCE_S = 40.0


def host_of_devices(site: Site, name: str) -> Host:
    """A host on the link "lan" whose system takes the default route from router advertisements, and asks for one at once."""
    host = site.host_on("lan", name, [])
    host.ip("link", "set", "dev", "eth0", "down")
    host.run(["sysctl", "-q", "net.ipv6.conf.eth0.accept_ra=1", "net.ipv6.conf.eth0.router_solicitations=3"])
    host.ip("link", "set", "dev", "eth0", "up")
    return host


class DeviceChain:
    """The chain in a site; nothing but the networks is there at first."""

    def __init__(self, site: Site, *, vendor: bool = False) -> None:
        self.site, self._vendor = site, vendor
        self.kea = kea.Kea(site.lab.host("isp", ["2001:db8::1/64"], link="wan"), site.folder / "kea")
        self.certificates: dict[str, Issued] = {}
        self.servers: dict[str, Gateway] = {}
        self.gateway: Gateway | None = None

    def uri(self, name: str) -> str:
        """Where a bootstrap server is asked."""
        return f"coaps://[{SERVERS[name]}]:5684"

    def tell(self, name: str) -> None:
        """Kea tells of this bootstrap server and its certificate: it starts, or is told anew."""
        told = self.kea.exchange if self.kea.log.exists() else self.kea.start
        told(POOL, self.uri(name), vendor=self._vendor, certificate=self.certificates[name].der)

    def add_server(self, name: str, more: Tables | None = None) -> Gateway:
        """A bootstrap server, which also takes registrations; `more`: further keys of its tables."""
        host = self.site.host_on("wan", name, [f"{SERVERS[name]}/64"])
        host.ip("-6", "route", "add", POOL, "via", _GATEWAY_ON_WAN)
        self.certificates[name] = issued = issue(SERVERS[name])
        certificate, key = issued.write(self.site.folder, name)
        tables: dict[str, Mapping[str, object]] = {
            "coap": {"listen": [f"[{SERVERS[name]}]:5683"], "interfaces": ["eth0"]},
            "coap.access": {"register": [POOL]},
            "coap.coaps": {"listen": [f"[{SERVERS[name]}]:5684"], "certificate": str(certificate), "key": str(key)},
            "bootstrap": {},
        }
        tables |= {table: {**tables.get(table, {}), **keys} for table, keys in (more or {}).items()}
        server = self.servers[name] = self._started(Gateway(host, self.site.folder, name, tables))
        return server

    def add_gateway(self) -> Gateway:
        """The gateway: it routes, asks Kea for a prefix, and gives addresses of it; its devices register at it."""
        host = self.site.host_on("lan", "gw", [])
        host.connect("wan", [f"{_GATEWAY_ON_WAN}/64"], "eth1")
        host.run(["sysctl", "-q", "net.ipv6.conf.all.forwarding=1"])
        tables: dict[str, Mapping[str, object]] = {
            "coap": {"interfaces": ["eth0"]},
            "groups": {},
            "dhcpv6.uplink": {"interface": "eth1"},
            "dhcpv6.downlink": {"interfaces": ["eth0"]},
            **self._options(),
        }
        self.gateway = self._started(Gateway(host, self.site.folder, "gw", tables))
        wait_until(lambda: self.own_address(), PATIENCE_S, "the gateway's address on the link of its devices")
        return self.gateway

    def own_address(self) -> str:
        """The address of the gateway on the link of its devices; empty while it has none."""
        found = re.search(r"inet6 (2001:db8:1\S+)/64 scope global", self.site.lab_host("gw").ip("-6", "addr", "show", "dev", "eth0"))
        return "" if found is None else found[1]

    def plan(self, server: str, uri: str) -> None:
        """All devices of a bootstrap server are told to register there."""
        self.servers[server].put_document("/bs/all", {"default": True, "servers": [{"shortId": 1, "uri": uri, "lifetime": 300}]})

    def plan_for_gateway(self, server: str) -> None:
        """All devices of a bootstrap server are told to register at the gateway."""
        self.plan(server, f"coap://[{self.own_address()}]")

    def device_host(self, name: str) -> Host:
        """A host on the gateway's link, whose system takes the default route from router advertisements."""
        return host_of_devices(self.site, name)

    def add_device(self, name: str, **more: Mapping[str, object]) -> Gateway:
        """A device that knows its name, and of the network nothing."""
        tables: dict[str, Mapping[str, object]] = {
            "coap": {"listen": ["[::]:5683"], "interfaces": ["eth0"]},
            "member": {},
            "device": {"interface": "eth0", "endpoint": name},
            "sim": {"model": "temperature", "path": "/value", "period_s": 3600.0},
            **self._options(),
            **more,
        }
        return self._started(Gateway(self.device_host(name), self.site.folder, name, tables), wait=False)

    def step(self, server: str, device: str) -> str:
        """How far a bootstrap server says that a device is; empty for one that it does not know."""
        reply = self.servers[server].get(f"/devices/{device}")
        return str(reply.json().get("state", "")) if reply.status == 200 else ""

    def await_registered(self, node: Gateway, *names: str) -> None:
        """Wait until a node has the registrations of these devices."""
        for name in names:
            wait_until(lambda name=name: node.get(f"/scls/{name}").status == 200, PATIENCE_S, f"the registration of {name}")  # type: ignore[misc]

    def _options(self) -> dict[str, Mapping[str, object]]:
        if not self._vendor:
            return {}
        return {"dhcpv6.options": {"encodings": ["vendor"], "vendor_enterprise": kea.ENTERPRISE}}

    def _started(self, program: Gateway, *, wait: bool = True) -> Gateway:
        self.site.add(program)
        program.start(wait=False)
        if wait:
            program.ready()
        return program
