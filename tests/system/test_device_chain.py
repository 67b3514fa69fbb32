"""From power to a group with real programs: Kea, our gateway, our device and dhcpcd on its link, our bootstrap servers over coaps."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import issue
from tests.system import kea
from tests.system.device_chain import PATIENCE_S, SERVERS, DeviceChain
from tests.system.dhcp_devices import DhcpcdDevice, device
from tests.system.namespaces import skip_reason, wait_until
from tests.system.nodes import Site


class DeviceChainTests(SynchronousTestCase):
    skip = skip_reason(kea.PROGRAM, "unshare", "sysctl", DhcpcdDevice.program)

    def test_power_on(self) -> None:
        """Two devices and dhcpcd are told what Kea said; the devices bootstrap by coaps, register, join, answer as a group."""
        with Site() as site:
            chain = DeviceChain(site)
            chain.add_server("bs1")
            chain.tell("bs1")
            gateway = chain.add_gateway()
            chain.plan_for_gateway("bs1")
            devices = [chain.add_device(name) for name in ("d1", "d2")]
            other = device(DhcpcdDevice, chain.device_host("other"), site.folder / "other")
            other.start()
            chain.await_registered(gateway, "d1", "d2")
            self.assertEqual([chain.step("bs1", name) for name in ("d1", "d2")], ["bootstrapped"] * 2)
            told = other.device()
            self.assertEqual((told.uri, told.certificate), (chain.uri("bs1"), chain.certificates["bs1"].der))
            learned = devices[0].get("/node/address").json()
            self.assertEqual(learned["bootstrapURI"], told.uri)
            self.assertNotEqual(learned["address"], told.address)
            gateway.put_document("/groups/values", {"members": [f"coap://{name}.example.org/value" for name in ("d1", "d2")]})
            wait_until(lambda: gateway.get("/groups/values").json()["state"] == "ready", PATIENCE_S, "both to join")
            answer = gateway.get("/groups/values/membersContent").json()
            members = answer["members"]
            assert isinstance(members, dict)
            self.assertEqual([(one["status"], one["via"]) for one in members.values()], [("2.05", "multicast")] * 2)

    def test_changing_hands(self) -> None:
        """Kea tells of another bootstrap server, in option 17: the device hears of it by Reconfigure, moves, and leaves its old server."""
        with Site() as site:
            chain = DeviceChain(site, vendor=True)
            for name in ("bs1", "bs2"):
                chain.add_server(name)
            chain.tell("bs1")
            gateway = chain.add_gateway()
            chain.plan_for_gateway("bs1")
            chain.plan("bs2", f"coap://[{SERVERS['bs2']}]")
            moving = chain.add_device("d1")
            chain.await_registered(gateway, "d1")
            address = moving.get("/node/address").json()["address"]
            chain.tell("bs2")
            gateway.kill()
            gateway.start()
            chain.await_registered(chain.servers["bs2"], "d1")
            self.assertEqual((chain.step("bs2", "d1"), moving.get("/node/address").json()["address"]), ("bootstrapped", address))
            wait_until(lambda: gateway.get("/scls/d1").status == 404, PATIENCE_S, "the old registration to go")
            self.assertEqual(moving.get("/node/lwm2m").json()["bootstrapURI"], chain.uri("bs2"))

    def test_certificate_of_a_plan(self) -> None:
        """A device shows its own certificate to bootstrap, and where it registers the one that it was handed: no other is taken there."""
        with Site() as site:
            chain, folder = DeviceChain(site), site.folder
            authority = issue(authority=True)
            authority.write(folder, "ca")
            for name, named in (("own", "d1"), ("handed", "handed")):
                issue(named, by=authority).write(folder, name)
            asking = {"client_ca": str(folder / "ca.pem")}
            second = chain.add_server("bs2", {"coap.coaps": asking, "coap.access": {"register": ["cert:handed"]}})
            fleet = {"certificate": str(folder / "handed.pem"), "key": str(folder / "handed.key"), "server": str(folder / "bs2.pem")}
            first = chain.add_server("bs1", {"coap.coaps": asking, "bootstrap.credentials.fleet": fleet})
            account = {"shortId": 1, "uri": chain.uri("bs2"), "security": "certificate", "credentials": "fleet"}
            first.put_document("/bs/d1", {"endpoint": "d1", "identity": "certificate", "servers": [account]})
            chain.tell("bs1")
            chain.add_gateway()
            own = {"certificate": str(folder / "own.pem"), "key": str(folder / "own.key")}
            shown = chain.add_device("d1", **{"coap.coaps": own})
            chain.await_registered(second, "d1")
            self.assertEqual(chain.step("bs1", "d1"), "bootstrapped")
            self.assertNotIn("key", str(shown.get("/node/lwm2m").json()))

    def test_wrong_certificate(self) -> None:
        """A server that shows another certificate than the one that was given gets no word; as soon as it shows that one, it bootstraps."""
        with Site() as site:
            chain = DeviceChain(site)
            server = chain.add_server("bs1")
            mine, chain.certificates["bs1"] = chain.certificates["bs1"], issue(SERVERS["bs1"])
            chain.tell("bs1")
            gateway = chain.add_gateway()
            chain.plan_for_gateway("bs1")
            wary = chain.add_device("d1")
            wait_until(lambda: "another certificate" in wary.log, PATIENCE_S, "the device to refuse the server")
            self.assertEqual((chain.step("bs1", "d1"), wary.get("/node/lwm2m").status), ("", 404))
            self.assertNotEqual(mine.der, chain.certificates["bs1"].der)
            chain.certificates["bs1"].write(site.folder, "bs1")
            server.stop()
            server.start()
            chain.await_registered(gateway, "d1")
