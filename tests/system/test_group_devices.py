"""Devices that take their groups by other ways than ours, and devices that have to leave when the gateway was killed."""

from __future__ import annotations

import json
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.group_child import HTTP_PORT
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import Device, Devices, Gateway, Site
from tests.system.programs import ROOT

_GP = Device("gp", "fd00:1::a1")
_WEB = Device("web", "fd00:1::a2")


def _group_child(site: Site, kind: str, device: Device) -> Host:
    """A device made of aiocoap in a host of its own; it is up."""
    host = site.host(device.name, [f"{device.address}/64"])
    log = site.folder / f"{device.name}.log"
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.system.group_child", kind, device.address, "eth0"]
    host.popen(command, log=log)
    wait_until(lambda: "up" in log.read_text(), 30, f"{device.name} to be up")
    return host


def _held(place: Host, *devices: Device) -> list[dict[str, object]]:
    """What each device holds: its mcGroups by name."""
    answers = call_aiocoap(place, *(Call("GET", f"coap://[{device.address}]/mcGroups", accept=50) for device in devices))
    return [{child["name"]: child for child in json.loads(answer.payload)["children"]} for answer in answers]


class GroupDevicesTests(SynchronousTestCase):
    skip = skip_reason()

    def put_temperature(self, site: Site, devices: Devices) -> None:
        """Each device has a temperature."""
        puts = [Call("PUT", f"coap://[{device.address}]/temperature", b"21.5", 0) for device in devices.devices]
        self.assertEqual({answer.code for answer in call_aiocoap(site.lab_host("gw"), *puts)}, {"2.01"})

    def is_ready(self, gateway: Gateway) -> bool:
        return gateway.get("/groups/all").json()["state"] == "ready"

    def test_rfc7390_and_http(self) -> None:
        """A device of RFC 7390 and one that is told by HTTP are in the multicast group with ours, are read with them, and leave it."""
        with Site() as site:
            gateway = site.gateway("gw", ["fd00:1::1/64"])
            ours = site.devices("ours", range(1, 3))
            places = {_GP: _group_child(site, "coap-group", _GP), _WEB: _group_child(site, "http", _WEB)}
            site.ready()
            self.put_temperature(site, ours)
            said: dict[Device, dict[str, object]] = {
                _GP: {"links": [{"href": "/coap-group", "rt": "core.gp"}]},
                _WEB: {"mcGroups": f"http://[{_WEB.address}]:{HTTP_PORT}/mcGroups"},
            }
            devices = (*ours.devices, *places)
            for device in devices:
                gateway.put_document(f"/scls/{device.name}", {**device.registration, **said.get(device, {})})
            gateway.put_document("/groups/all", {"members": [device.uri("/temperature") for device in devices]})
            wait_until(lambda: self.is_ready(gateway), 60, "the joins")
            sets = gateway.get("/groups/all").json()["fanoutSets"]
            assert isinstance(sets, list)
            [one] = sets
            self.assertEqual(set(one["joins"].values()), {"joined"}, one)
            address = one["fanoutAddress"]
            joined = self.joined(site, *places)
            self.assertEqual(joined[0], {"1": {"n": "gw.example.org-all-1", "a": f"[{address}]"}})
            self.assertEqual(joined[1], {"gw.example.org-all-1": {"path": "/temperature"}})
            results = gateway.get("/groups/all/membersContent").json()
            members = results["members"]
            assert isinstance(members, dict)
            self.assertEqual(
                {uri: entry["via"] for uri, entry in members.items()}, {device.uri("/temperature"): "multicast" for device in devices}
            )
            self.assertEqual(gateway.request("DELETE", "/groups/all").status, 204)
            wait_until(lambda: self.joined(site, *places) == [{}, {}], 30, "the leaves")
            wait_until(lambda: gateway.get("/leaves").json()["children"] == [], 30, "the leaves to be crossed out")

    def joined(self, site: Site, *devices: Device) -> list[object]:
        """What the foreign devices are in."""
        answers = call_aiocoap(site.lab_host("gw"), *(Call("GET", f"coap://[{device.address}]/joined") for device in devices))
        return [json.loads(answer.payload) for answer in answers]

    def test_killed_between_the_deletion_and_the_leave(self) -> None:
        """`kill -9` of a gateway that has answered a deletion and told no device: when it is started again the devices leave."""
        with Site() as site:
            gateway = site.gateway("gw", ["fd00:1::1/64"])
            devices = site.devices("devices", range(1, 4))
            site.ready()
            self.put_temperature(site, devices)
            for device in devices.devices:
                gateway.put_document(f"/scls/{device.name}", device.registration)
            gateway.put_document("/groups/all", {"members": [device.uri("/temperature") for device in devices.devices]})
            wait_until(lambda: self.is_ready(gateway), 60, "the joins")
            devices.kill()
            self.assertEqual(gateway.request("DELETE", "/groups/all").status, 204)
            gateway.kill()
            devices.start()
            host = site.lab_host("gw")
            self.assertEqual([list(held) for held in _held(host, *devices.devices)], [["gw.example.org-all-1"]] * 3)
            gateway.start()
            wait_until(lambda: _held(host, *devices.devices) == [{}, {}, {}], 30, "the leaves")
            wait_until(lambda: gateway.get("/leaves").json()["children"] == [], 30, "the leaves to be crossed out")
