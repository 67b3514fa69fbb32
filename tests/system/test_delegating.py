"""The delegating server beside requesting routers that others wrote: dhclient, dhcpcd, dibbler and WIDE, over a `kill -9`."""

from __future__ import annotations

import json
import tempfile
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.system.dhcp_clients import CLIENTS, Client, Dhclient
from tests.system.namespaces import Lab, skip_reason, wait_until
from tests.system.programs import Program, write_config

_URI = "coaps://bs.example.org:5684"
_POOL = "2001:db8:100::/40"


class DelegatingTests(SynchronousTestCase):
    skip = skip_reason("unshare", "curl", *(client.program for client in CLIENTS))

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="m2m-dhcp-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.lab = Lab()
        self.lab.__enter__()
        self.addCleanup(self.lab.__exit__, None, None, None)
        isp = self.isp_host = self.lab.host("isp", ["2001:db8::1/64"])
        self.tables: dict[str, dict[str, object]] = {
            "node": {"name": "isp.example.org", "state_dir": str(self.folder / "state")},
            "http": {"listen": ["tcp:8080:interface=127.0.0.1"]},
            "dhcpv6.delegating": {"interface": "eth0", "prefix_pool": _POOL, "bootstrap_uri": _URI, "routes": True},
        }
        self.isp = Program(isp, self.folder, "isp", write_config(self.folder / "isp.toml", self.tables))
        self.addCleanup(self.isp.close)
        self.isp.start()

    def client(self, kind: type[Client]) -> Client:
        """A client on a host of its own, whose link-local address can be used."""
        host = self.lab.host(kind.program, [])
        wait_until(lambda: "tentative" not in host.ip("-6", "addr", "show", "eth0") and "fe80" in host.ip("-6", "addr", "show", "eth0"))
        return kind(host, self.folder / kind.program)

    def routes(self) -> dict[str, str]:
        """The routes that the server made, to the router of each prefix."""
        lines = (line.split() for line in self.isp_host.ip("-6", "route", "show", "proto", "dhcp").splitlines())
        return {words[0]: words[2] for words in lines}

    def prefixes(self) -> dict[str, dict[str, object]]:
        """What the server's tree says that it has given, by prefix."""
        found = [self._get("/prefixes/" + str(child["name"])) for child in self._get("/prefixes")["children"]]
        return {str(one["prefix"]): one for one in found}

    def _get(self, path: str, program: Program | None = None, state: str = "state") -> dict[str, Any]:
        token = (self.folder / state / "admin.token").read_text().strip()
        done = (program or self.isp).place.run(["curl", "-sS", "-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:8080{path}"])
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def test_routers_of_others(self) -> None:
        """Each gets a prefix of its own and the bootstrap URI; all stand in the tree, also after the server was killed.

        The server's host has a route to each, again after its interface was down; a Release frees the prefix and ends its route.
        """
        clients = [self.client(kind) for kind in CLIENTS]
        for client in clients:
            client.start()
        given = {client.program: client.given() for client in clients}
        self.assertEqual([given[client.program].uri for client in clients], [_URI, _URI, _URI, None])
        networks = [IPv6Network(one.prefix) for one in given.values()]
        self.assertEqual((len(set(networks)), {network.prefixlen for network in networks}), (4, {56}))
        self.assertTrue(all(network.subnet_of(IPv6Network(_POOL)) for network in networks))
        self.assertEqual(set(self.prefixes()), {one.prefix for one in given.values()})
        ways = {one.prefix: clients[number].host.link_local() for number, one in enumerate(given.values())}
        wait_until(lambda: self.routes() == ways, what=f"a route to each router, not {self.routes()}")
        self.isp.kill()
        self.isp.start()
        kept = {prefix: one["state"] for prefix, one in self.prefixes().items()}
        self.assertEqual(kept, {one.prefix: "bound" for one in given.values()})
        dhclient = clients[0]
        assert isinstance(dhclient, Dhclient)
        dhclient.release()
        del ways[given["dhclient"].prefix]
        self.assertEqual(set(self.prefixes()), set(ways))
        wait_until(lambda: self.routes() == ways, what=f"no route to who gave its prefix back, not {self.routes()}")
        self.isp_host.ip("link", "set", "eth0", "down")
        self.assertEqual(self.routes(), {})
        self.isp_host.ip("link", "set", "eth0", "up")
        wait_until(lambda: self.routes() == ways, 20.0, what=f"the routes after the interface was down, not {self.routes()}")

    def test_device_and_router(self) -> None:
        """One process is a requesting router on one link and a device on another, side by side on port 546 (spec section 1)."""
        self.isp.kill()
        self.isp_host.connect("home", [], "eth1")
        self.tables["dhcpv6.downlink"] = {"interfaces": ["eth1"], "prefix": "2001:db8:5::/56"}
        self.isp = Program(self.isp_host, self.folder, "home", write_config(self.folder / "home.toml", self.tables))
        self.addCleanup(self.isp.close)
        self.isp.start()
        box = self.lab.host("box", [])
        box.connect("home", [], "eth1")
        tables: dict[str, dict[str, object]] = {
            "node": {"name": "box.example.org", "state_dir": str(self.folder / "box")},
            "http": {"listen": ["tcp:8080:interface=127.0.0.1"]},
            "coap": {"listen": ["[::]:5683"]},
            "dhcpv6.uplink": {"interface": "eth0"},
            "device": {"interface": "eth1", "endpoint": "box"},
        }
        program = Program(box, self.folder, "box", write_config(self.folder / "box.toml", tables))
        self.addCleanup(program.close)
        program.start()

        def given() -> tuple[object, object]:
            prefix, address = (self._get(path, program, "box") for path in ("/prefixes/1", "/node/address"))
            return prefix.get("prefix"), address.get("address")

        wait_until(lambda: None not in given(), 60.0, "a prefix and an address")
        prefix, address = given()
        self.assertIn(prefix, self.prefixes())
        self.assertTrue(IPv6Network(str(prefix)).subnet_of(IPv6Network(_POOL)))
        self.assertIn(IPv6Address(str(address)), IPv6Network("2001:db8:5::/56"))
