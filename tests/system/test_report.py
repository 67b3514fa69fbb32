"""A gateway's report in whole programs: npm lwm2m-node-lib takes its registration and reads its devices; ours joins them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import issue
from tests.system.bootstrap_client import Client, bootstrap
from tests.system.dhcp_devices import DeviceGiven, DhclientDevice, device
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.node_modules import SCRIPTS, node_environment, skip_reason_of_npm
from tests.system.nodes import Gateway, Site

_SERVER, _GATEWAY = "fd00:1::b5", "fd00:1::1"
_PREFIX = "2001:db8:5::/48"
_HTTP = _SERVER.replace(":", "\\:")


class _Ground:
    """A gateway that gives addresses, a host for the bootstrap server, and a host for a device, on one link."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.server_host = site.host("bs", [f"{_SERVER}/64"])
        self.server_host.ip("-6", "route", "add", _PREFIX, "dev", "eth0")
        self.certificate = issue(_SERVER)

    def gateway(self, uri: str, report: Mapping[str, object], **more: Mapping[str, object]) -> Gateway:
        """The gateway; devices are told that URI, and the certificate."""
        (self.site.folder / "bs.der").write_bytes(self.certificate.der)
        tables: dict[str, Mapping[str, object]] = {
            "coap": {"listen": ["[::]:5683"], "interfaces": ["eth0"]},
            "dhcpv6.downlink": {
                "interfaces": ["eth0"],
                "prefix": _PREFIX,
                "bootstrap_uri": uri,
                "certificate": str(self.site.folder / "bs.der"),
            },
            "report": {"lifetime_s": 20, **report},
            **more,
        }
        gateway = self.site.gateway("gw", [f"{_GATEWAY}/64"], tables)
        gateway.ready()
        return gateway

    def server(self) -> Gateway:
        """Our bootstrap server, with coaps, a plan for `dev-*`, and a token for the gateway."""
        certificate, key = self.certificate.write(self.site.folder, "bs")
        (self.site.folder / "gw.token").write_text("a-token-for-the-gateway-gw\n")
        token = {"name": "gw", "role": "operator", "token_file": str(self.site.folder / "gw.token"), "scopes": ["/gateways/gw.example.org"]}
        tables: dict[str, Mapping[str, object]] = {
            "http": {"listen": ["tcp:8080:interface=127.0.0.1", f"tcp6:8081:interface={_HTTP}"]},
            "[http.tokens]": token,
            "coap": {"listen": [f"[{_SERVER}]:5683"], "interfaces": ["eth0"]},
            "coap.access": {"register": ["link", _PREFIX]},
            "coap.coaps": {"listen": [f"[{_SERVER}]:5684"], "certificate": str(certificate), "key": str(key)},
            "bootstrap": {},
        }
        # TOML has arrays of tables after the table that they are in.
        server = Gateway(self.server_host, self.site.folder, "bs", tables)
        self.site.add(server)
        server.start(wait=False)
        server.ready()
        server.put_document("/bs/all", {"pattern": "dev-*", "servers": [{"shortId": 1, "uri": f"coap://[{_GATEWAY}]", "lifetime": 300}]})
        return server

    def device(self) -> tuple[Host, DeviceGiven]:
        """ISC dhclient as a device, with what it was given set on its interface."""
        host = self.site.host("device", [])
        client = device(DhclientDevice, host, self.site.folder / "device")
        client.start()
        given = client.device()
        host.ip("-6", "addr", "replace", f"{given.address}/128", "dev", "eth0", "nodad")
        host.ip("-6", "route", "replace", "fd00:1::/64", "dev", "eth0")
        return host, given


@contextlib.contextmanager
def _ground() -> Iterator[_Ground]:
    with Site() as site:
        yield _Ground(site)


class NodeLibTests(SynchronousTestCase):
    skip = skip_reason("node", "npm", "dhclient") or skip_reason_of_npm()

    def test_registration(self) -> None:
        """The npm package lwm2m-node-lib 1.4.0 takes the gateway's registration, reads the object of its devices, writes attributes."""
        with _ground() as ground:
            log = ground.site.folder / "node-lib.log"
            ground.server_host.popen(["node", str(SCRIPTS / "server.js"), "5683"], env=node_environment(), log=log)

            def said(kind: str) -> list[dict[str, Any]]:
                lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
                return [line for line in lines if kind in line]

            wait_until(lambda: said("started"), 20, "lwm2m-node-lib")
            uri = f"coap://[{_SERVER}]"
            gateway = ground.gateway(uri, {})
            wait_until(lambda: said("done"), 30, "the first reading")
            registered = said("registered")[0]
            self.assertEqual((registered["registered"], registered["lifetime"], registered["binding"]), ("gw.example.org", "20", "U"))
            self.assertEqual(registered["links"], "</1/0>,</3/0>,</33050>")
            _, given = ground.device()
            wait_until(lambda: len(said("done")) > 1, 30, "the reading after the update")
            self.assertEqual(said("updated")[0]["links"], "</1/0>,</3/0>,</33050/0>")
            read = {line["read"]: line["value"] for line in said("read")}
            self.assertEqual((read["/3/0/0"], read["/33050/0/0"], read["/33050/0/4"]), ("m2mapp", given.address, uri))
            (discovered,) = said("written")
            self.assertEqual(discovered["written"], True)
            self.assertTrue(discovered["discovered"].startswith("</33050/0>;pmin=1;pmax=60,</33050/0/0>"), discovered)
            gateway.stop()
            self.assertEqual(said("deregistered"), [{"deregistered": "gw.example.org"}])


class OwnServerTests(SynchronousTestCase):
    skip = skip_reason("dhclient", "curl")

    def test_push(self) -> None:
        """The gateway pushes with its token; the server joins what the device did then; the lease says that it is reported."""
        with _ground() as ground:
            server = ground.server()
            uri = f"coap://[{_SERVER}]"
            peer = {"uri": f"http://[{_SERVER}]:8081", "token_file": str(ground.site.folder / "gw.token")}
            gateway = ground.gateway(uri, {"lwm2m": False, "push": "bs"}, **{"peers.bs": peer})
            host, given = ground.device()
            self._awaited(server, given.address, "bootstrap requested")
            code, _ = bootstrap(host, Client(given.address, _SERVER, "ep=dev-one"))
            self.assertEqual(code, "2.04")
            shown = self._awaited(server, "dev-one", "registered")
            self.assertEqual((shown["gateway"], shown["leases"][0]["address"]), ("gw.example.org", given.address))
            gateway.put_document("/scls/dev-one", {"hosts": ["dev-one.example.org"], "addresses": [given.address], "lifetime": 300})
            self._awaited(server, "dev-one", None)
            place = f"/leases/{shown['duid']}/{shown['leases'][0]['iaid']}"
            wait_until(lambda: gateway.get(place).json()["reported"], 20, "the lease to be reported")
            self.assertEqual(server.get("/gateways/gw.example.org").json()["devices"], 1)

    def test_away_and_killed(self) -> None:
        """Devices that came while the server was away, and the gateway was killed meanwhile, are known soon after it is back."""
        with _ground() as ground:
            (ground.site.folder / "gw.token").write_text("a-token-for-the-gateway-gw\n")
            peer = {"uri": f"http://[{_SERVER}]:8081", "token_file": str(ground.site.folder / "gw.token")}
            gateway = ground.gateway(f"coap://[{_SERVER}]", {"lwm2m": False, "push": "bs"}, **{"peers.bs": peer})
            _, given = ground.device()
            wait_until(lambda: gateway.metric("m2mapp_reports_waiting") == 1, 20, "the report to wait")
            gateway.kill()
            gateway.start()
            server = ground.server()
            self._awaited(server, given.address, "bootstrap requested")
            wait_until(lambda: gateway.metric("m2mapp_reports_waiting") == 0, 20, "the confirmation")

    def test_observed_by_coaps(self) -> None:
        """A gateway registers by coaps at the server whose certificate its devices are given, and its devices are read by that session."""
        with _ground() as ground:
            server = ground.server()
            gateway = ground.gateway(f"coaps://[{_SERVER}]:5684", {})
            _, given = ground.device()
            shown = self._awaited(server, given.address, "bootstrap requested")
            self.assertEqual(shown["leases"][0]["bootstrapURI"], f"coaps://[{_SERVER}]:5684")
            self.assertIn('"state":"observed"', server.get("/gateways/gw.example.org").body.decode())
            self.assertEqual(gateway.metric("m2mapp_report_registered"), 1)

    def _awaited(self, server: Gateway, device: str, missing: str | None) -> dict[str, Any]:
        """What the server shows of a device, once it misses that step and no other before."""

        def step() -> object:
            reply = server.get(f"/devices/{device}")
            found: Any = reply.json()["missing"] if reply.status == 200 else {"step": "the device"}
            return found["step"] if found is not None else None

        wait_until(lambda: step() == missing, 40, f"{device} to miss {missing}")
        found: dict[str, Any] = dict(server.get(f"/devices/{device}").json())
        return found
