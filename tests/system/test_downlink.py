"""The downlink beside devices that others wrote: dhclient, dhcpcd and dibbler, each with address, URI and certificate in hand."""

from __future__ import annotations

import json
import tempfile
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import issue
from tests.system import kea
from tests.system.dhcp_devices import DEVICES, Device, DeviceGiven, DhclientDevice, DhcpcdDevice, device
from tests.system.namespaces import Host, Lab, skip_reason, wait_until
from tests.system.programs import STOPPED, Program, Tables, write_config

_URI = "coaps://bs.example.org:5684"
_ELSEWHERE = "coaps://elsewhere.example.org:5684"
_PREFIX = "2001:db8:5::/48"


class _Gateway:
    """A gateway with the downlink on `eth0` of a host, and what its tree says."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.folder = host, folder
        self.program = Program(host, folder, "gw", folder / "gw.toml")

    def configure(self, *, uplink: str = "", **more: object) -> None:
        """Write its configuration, with other keys of the downlink's table, and an uplink on that interface."""
        downlink = {"interfaces": ["eth0"], "prefix": _PREFIX, "bootstrap_uri": _URI, "certificate": str(self.folder / "bs.der"), **more}
        tables: Tables = {
            "node": {"name": "gw.example.org", "state_dir": str(self.folder / "state")},
            "http": {"listen": ["tcp:8080:interface=127.0.0.1"]},
            "coap": {"listen": ["[::]:5683"], "interfaces": ["eth0"]},
            "coap.access": {"read": ["leases"]},
            "dhcpv6.downlink": downlink,
        }
        if uplink:
            tables = {**tables, "dhcpv6.uplink": {"interface": uplink}}
        write_config(self.folder / "gw.toml", tables)

    def get(self, path: str) -> dict[str, Any]:
        token = (self.folder / "state" / "admin.token").read_text().strip()
        done = self.host.run(["curl", "-sS", "-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:8080{path}"])
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def put(self, path: str, document: object) -> str:
        """The status of a PUT."""
        token = (self.folder / "state" / "admin.token").read_text().strip()
        what = ["-X", "PUT", "-H", "Content-Type: application/json", "-d", json.dumps(document), "-o", "/dev/null", "-w", "%{http_code}"]
        return self.host.run(["curl", "-sS", "-H", f"Authorization: Bearer {token}", *what, f"http://127.0.0.1:8080{path}"]).stdout

    def leases(self) -> dict[str, dict[str, Any]]:
        """The leases by address."""
        found: dict[str, dict[str, Any]] = {}
        for duid in self.get("/leases")["children"]:
            for iaid in self.get(f"/leases/{duid['name']}")["children"]:
                lease = self.get(f"/leases/{duid['name']}/{iaid['name']}")
                found[str(lease["address"])] = lease
        return found


class DownlinkTests(SynchronousTestCase):
    skip = skip_reason("unshare", "curl", "dhcrelay", kea.PROGRAM, "coap-client-notls", *(client.program for client in DEVICES))

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="m2m-downlink-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.lab = Lab()
        self.lab.__enter__()
        self.addCleanup(self.lab.__exit__, None, None, None)
        self.certificate = issue("bs.example.org").der
        (self.folder / "bs.der").write_bytes(self.certificate)

    def gateway(self, uplink: str = "", other: str = "", **more: object) -> _Gateway:
        host = self.lab.host("gw", [])
        if other:
            host.connect("other", [], other)
        if uplink:
            host.connect("wan", [], uplink)
        gateway = _Gateway(host, self.folder)
        gateway.configure(uplink=uplink, **more)
        self.addCleanup(gateway.program.close)
        gateway.program.start()
        return gateway

    def device(self, kind: type[Device]) -> Device:
        return device(kind, self.lab.host(kind.program, []), self.folder / kind.program)

    def test_devices_of_others(self) -> None:
        """Each gets an address of the link's /64, the URI and the certificate.

        The leases stand in the tree, also after the gateway was killed: none is lost, none is given to another.
        """
        gateway = self.gateway()
        clients = [self.device(kind) for kind in DEVICES]
        for client in clients:
            client.start()
        given = [client.device() for client in clients]
        self.assertEqual([(one.uri, one.certificate) for one in given], [(_URI, self.certificate)] * len(clients))
        subnets = {IPv6Network((IPv6Address(one.address), 64), strict=False) for one in given}
        self.assertEqual(len(subnets), 1)
        self.assertTrue(subnets.pop().subnet_of(IPv6Network(_PREFIX)))
        addresses = {one.address for one in given}
        self.assertEqual((len(addresses), set(gateway.leases())), (len(clients), addresses))
        gateway.program.kill()
        gateway.program.start()
        self.assertEqual({address: lease["bootstrapURI"] for address, lease in gateway.leases().items()}, dict.fromkeys(addresses, _URI))
        late = device(DhclientDevice, self.lab.host("late", []), self.folder / "late")
        late.start()
        self.assertNotIn(late.device().address, addresses)
        again = clients[0]
        again.stop()
        again.start()
        self.assertEqual(again.device(), given[0])

    def test_interface_made_anew(self) -> None:
        """An interface that is removed and comes back, under another index, is served without a restart."""
        gateway = self.gateway()
        gateway.host.ip("link", "del", "eth0")
        gateway.host.connect("lan", [])
        client = self.device(DhclientDevice)
        client.start()
        given = client.device()
        self.assertEqual((given.uri, set(gateway.leases())), (_URI, {given.address}))

    def test_two_links(self) -> None:
        """Each interface has a /64 of the prefix: devices of others on the two get addresses of different ones, and reach their router."""
        gateway = self.gateway(other="eth2", interfaces=["eth0", "eth2"])
        first = self.device(DhclientDevice)
        second = device(DhcpcdDevice, self.lab.host("dhcpcd", [], link="other"), self.folder / "dhcpcd")
        first.start()
        second.start()
        given = [first.device(), second.device()]
        subnets = [IPv6Network((IPv6Address(one.address), 64), strict=False) for one in given]
        self.assertNotEqual(subnets[0], subnets[1])
        self.assertTrue(all(subnet.subnet_of(IPv6Network(_PREFIX)) for subnet in subnets))
        self.assertEqual([(one.uri, one.certificate) for one in given], [(_URI, self.certificate)] * 2)
        interfaces = [gateway.leases()[one.address]["interface"] for one in given]
        self.assertEqual(interfaces, ["eth0", "eth2"])
        for interface, subnet in zip(interfaces, subnets, strict=True):
            self.assertIn(f"{subnet[1]}/64", gateway.host.ip("-6", "addr", "show", "dev", interface))

    def test_reconfigure(self) -> None:
        """A gateway that comes back with another bootstrap service tells by Reconfigure, which dhcpcd believes: it asks again at once."""
        gateway = self.gateway()
        client = self.device(DhcpcdDevice)
        client.start()
        given = client.device()
        self.assertEqual(gateway.program.stop() in STOPPED, True)
        gateway.configure(bootstrap_uri=_ELSEWHERE)
        gateway.program.start()
        wait_until(lambda: client.told() == DeviceGiven(given.address, _ELSEWHERE, given.certificate), what="the other URI")
        self.assertEqual(gateway.leases()[given.address]["bootstrapURI"], _ELSEWHERE)

    def test_behind_a_relay(self) -> None:
        """A device behind dhcrelay gets an address of the /64 that the relay agent is on, and all that goes with it."""
        gateway = self.gateway()
        relay = self.lab.host("relay", [])
        relay.connect("far", ["2001:db8:5:77::1/64"], "eth1")
        self.addCleanup(relay.end_processes)
        wait_until(lambda: "tentative" not in relay.ip("-6", "addr", "show"))
        client = device(DhclientDevice, self.lab.host("remote", [], link="far"), self.folder / "remote")
        relay.popen(["dhcrelay", "-6", "-d", "--no-pid", "-l", "eth1", "-u", "eth0"], log=self.folder / "relay.log")
        client.start()
        given = client.device()
        self.assertIn(IPv6Address(given.address), IPv6Network("2001:db8:5:77::/64"))
        self.assertEqual((given.uri, given.certificate, set(gateway.leases())), (_URI, self.certificate, {given.address}))

    def test_leased_source(self) -> None:
        """A device gets what an operator reserved for it at once, by Reconfigure; by CoAP its lease has rights, neighbours have none."""
        gateway = self.gateway()
        client = self.device(DhcpcdDevice)
        client.start()
        first = client.device().address
        (lease,) = gateway.leases().values()
        wanted = str(IPv6Network((IPv6Address(first), 64), strict=False)[0xD1])
        self.assertEqual(gateway.put(f"/leases/{lease['duid']}/{lease['iaid']}", {"address": wanted}), "204")
        wait_until(lambda: client.told() == DeviceGiven(wanted, _URI, self.certificate), what="the reserved address")
        node, other = (str(IPv6Network((IPv6Address(first), 64), strict=False)[number]) for number in (1, 0xD2))
        client.host.add_addresses([f"{other}/64"])
        wait_until(lambda: "2.05" in self._asked(client, wanted, node), what=f"the node for {wanted}")
        self.assertIn("4.0", self._asked(client, other, node))

    def test_renumbered(self) -> None:
        """Kea, our uplink, our downlink, dhcpcd: what Kea says reaches the device; so does another prefix, the old one is deprecated."""
        upstream = kea.Kea(self.lab.host("isp", ["2001:db8::1/64"], link="wan"), self.folder / "kea")
        upstream.start("2001:db8:100::/40", _URI, certificate=self.certificate)
        gateway = self.gateway(uplink="eth1", prefix="", bootstrap_uri="", certificate="")
        client = self.device(DhcpcdDevice)
        client.start()
        first = client.device()
        self.assertIn(IPv6Address(first.address), IPv6Network("2001:db8:100::/40"))
        self.assertEqual((first.uri, first.certificate), (_URI, self.certificate))
        self.assertIn(f"new_dhcp6_name_servers={kea.NAME_SERVER}\n", (client.folder / "told").read_text())
        upstream.exchange("2001:db8:200::/40", _ELSEWHERE, certificate=self.certificate)
        gateway.program.kill()
        gateway.program.start()
        other = IPv6Network("2001:db8:200::/40")

        def renumbered() -> bool:
            told = client.told()
            return told is not None and IPv6Address(told.address) in other and told.uri == _ELSEWHERE

        wait_until(renumbered, 30, f"an address of {other}")
        second = client.device()
        self.assertEqual(gateway.leases()[second.address]["deprecated"], [first.address])
        shown = client.host.ip("-6", "addr", "show", "dev", "eth0")
        self.assertRegex(shown, rf"inet6 {first.address}/128 scope global deprecated")

    def _asked(self, client: Device, source: str, node: str) -> str:
        """How the gateway answers a GET of /node by CoAP from that address."""
        done = client.host.run(["coap-client-notls", "-v", "7", "-B", "2", "-a", source, f"coap://[{node}]/node"])
        return done.stdout + done.stderr
