"""The uplink under a Kea that delegates: both encodings, restarts of either side, and another pool while it runs."""

from __future__ import annotations

import json
import tempfile
import time
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.drivers.asking import LOOK_AGAIN_S
from tests.system import kea
from tests.system.namespaces import Lab, skip_reason, wait_until
from tests.system.programs import Program, write_config

_POOL, _OTHER_POOL = "2001:db8:100::/40", "2001:db8:200::/40"
_URI = "coaps://bs.example.org:5684"
_CERTIFICATE = bytes(range(256)) * 2


class UplinkTests(SynchronousTestCase):
    skip = skip_reason(kea.PROGRAM, "curl")

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="m2m-dhcp-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.lab = Lab()
        self.lab.__enter__()
        self.addCleanup(self.lab.__exit__, None, None, None)
        self.kea = kea.Kea(self.lab.host("isp", ["2001:db8::1/64"]), self.folder / "kea")
        self.gateway_host = self.lab.host("gw", [])

    def gateway(self, *, vendor: bool = False) -> Program:
        """A gateway with an uplink, started."""
        tables: dict[str, dict[str, object]] = {
            "node": {"name": "g1.example.org", "state_dir": str(self.folder / "state")},
            "http": {"listen": ["tcp:8080:interface=127.0.0.1"]},
            "dhcpv6.uplink": {"interface": "eth0", "release": True},
        }
        if vendor:
            tables["dhcpv6.options"] = {"encodings": ["vendor"], "vendor_enterprise": kea.ENTERPRISE}
        gateway = Program(self.gateway_host, self.folder, "gw", write_config(self.folder / "gw.toml", tables))
        gateway.start()
        self.addCleanup(gateway.close)
        return gateway

    def learned(self) -> dict[str, Any] | None:
        """What the gateway's tree says that it has; None for nothing yet."""
        token = (self.folder / "state" / "admin.token").read_text().strip()
        url = "http://127.0.0.1:8080/prefixes/1"
        done = self.gateway_host.run(["curl", "-sS", "-f", "-H", f"Authorization: Bearer {token}", url])
        found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
        return found

    def wait_for(self, pool: str, uri: str) -> dict[str, Any]:
        """What the gateway has, once that is a prefix of the pool and this service."""

        def is_there() -> bool:
            found = self.learned()
            return found is not None and IPv6Network(found["prefix"]).subnet_of(IPv6Network(pool)) and found["bootstrapURI"] == uri

        wait_until(is_there, 30, f"a prefix of {pool} with {uri}, not {self.learned()}")
        found = self.learned()
        assert found is not None
        return found

    def test_options_and_restarts(self) -> None:
        """Prefix, URI, certificate, name server; kept over `kill -9` of the gateway; another pool is taken at the next start's Rebind."""
        self.kea.start(_POOL, _URI, certificate=_CERTIFICATE)
        gateway = self.gateway()
        first = self.wait_for(_POOL, _URI)
        self.assertEqual((IPv6Network(first["prefix"]).prefixlen, first["state"]), (56, "preferred"))
        self.assertRegex(first["certificate"], r"^sha256:[0-9a-f]{64}$")
        self.assertEqual(first["nameServers"], [kea.NAME_SERVER])
        gateway.kill()
        gateway.start()
        kept = self.learned()
        assert kept is not None
        self.assertEqual(kept["prefix"], first["prefix"])
        self.kea.exchange(_OTHER_POOL, "coaps://bs2.example.org")
        gateway.kill()
        gateway.start()
        second = self.wait_for(_OTHER_POOL, "coaps://bs2.example.org")
        self.assertNotEqual(second["prefix"], first["prefix"])
        gateway.stop()
        self.assertIn("DHCP6_RELEASE_PD", self.kea.log.read_text())

    def test_link_was_away(self) -> None:
        """Another pool while the gateway's link is away: when it is back the gateway asks, long before its T1."""
        self.kea.start(_POOL, _URI)
        self.gateway()
        self.wait_for(_POOL, _URI)
        self.gateway_host.ip("link", "set", "dev", "eth0", "down")
        self.kea.exchange(_OTHER_POOL, "coaps://bs2.example.org")
        time.sleep(2 * LOOK_AGAIN_S)
        self.gateway_host.ip("link", "set", "dev", "eth0", "up")
        self.wait_for(_OTHER_POOL, "coaps://bs2.example.org")

    def test_inside_option_17(self) -> None:
        """The same two options inside Vendor-specific Information; the gateway asked before its server was there."""
        gateway = self.gateway(vendor=True)
        self.assertIsNone(self.learned())
        self.kea.start(_POOL, _URI, vendor=True, certificate=_CERTIFICATE)
        found = self.wait_for(_POOL, _URI)
        self.assertRegex(found["certificate"], r"^sha256:[0-9a-f]{64}$")
        gateway.stop()
