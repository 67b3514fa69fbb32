"""Groups of devices of every kind on networks that lose datagrams: a thousand on one link, some that forgot all, some made by others."""

from __future__ import annotations

import json
import shutil

from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.crowds import JOINED, crowd
from tests.system.namespaces import skip_reason, wait_until
from tests.system.nodes import SMOKE, Device, Devices, Gateway, Site
from tests.system.programs import Tables

_SKIP = skip_reason("iptables", "ip6tables", "coap-server-notls", "ss")
_GATEWAY = "fd00:1::1"
_PATH = "/temperature"
_LIFETIME_S = 20
_ATTEMPTS = 5
"""A machine that has more to do may answer so late that members are asked again: so often the quiet case is tried."""


def _vias(document: dict[str, object]) -> list[str]:
    members = document["members"]
    assert isinstance(members, dict)
    return [entry["via"] for entry in members.values()]


def _read(gateway: Gateway, path: str = "/groups/all/membersContent", deadline_s: float = 20.0) -> dict[str, object]:
    reply = gateway.get(path, M2M_Deadline=str(deadline_s))
    assert reply.status == 200, reply
    return reply.json()


class ForgottenTests(SynchronousTestCase):
    """Devices that lose their memory."""

    skip = _SKIP

    def test_members_again(self) -> None:
        """Devices killed and started with empty state directories are in their group again when they have registered again."""
        with Site() as site:
            gateway = site.gateway("gw", [f"{_GATEWAY}/64"])
            found = [Device(f"d{number}", f"fd00:1::d{number}") for number in range(1, 6)]
            devices = Devices(site.host("devices", [f"{one.address}/64" for one in found]), site.folder, "devices", found, _registering)
            site.add(devices)
            devices.start(wait=False)
            site.ready()
            uris = [one.uri(_PATH) for one in found]
            gateway.put_document("/groups/all", {"members": uris})
            wait_until(lambda: self.joined(gateway) == set(uris), 60, "the joins")
            devices.kill()
            for one in found:
                shutil.rmtree(site.folder / f"devices-{one.name}-state")
            devices.start()
            asked = [Call("GET", f"coap://[{one.address}]/mcGroups", accept=50) for one in found]

            def told_again() -> bool:
                answers = call_aiocoap(site.lab_host("gw"), *asked)
                return all(len(json.loads(answer.payload)["children"]) == 1 for answer in answers)

            wait_until(told_again, _LIFETIME_S, "the devices to be told again")
            wait_until(lambda: self.joined(gateway) == set(uris), _LIFETIME_S, "the joins")
            documents = [_read(gateway) for _ in range(_ATTEMPTS)]
            self.assertEqual({document["complete"] for document in documents}, {True})
            self.assertIn(["multicast"] * len(found), [_vias(document) for document in documents])

    def joined(self, gateway: Gateway) -> set[str]:
        sets = gateway.get("/groups/all").json()["fanoutSets"]
        assert isinstance(sets, list)
        return {uri for one in sets if one["fanoutAddress"].startswith("ff") for uri, join in one["joins"].items() if join in JOINED}


def _registering(device: Device) -> Tables:
    """The device measures, and keeps itself registered."""
    sim = {"registrar": f"coap://[{_GATEWAY}]/rd", "lifetime_s": _LIFETIME_S, "hosts": [device.host]}
    return {"sim": {"model": "temperature", "path": _PATH, **sim}}


class ForeignTests(SynchronousTestCase):
    """Members that know no `mcGroups`."""

    skip = _SKIP

    def test_libcoap_servers(self) -> None:
        """Servers of libcoap beside devices of ours, all of which lose one datagram in five: they cannot join, and are read and written."""
        with crowd(4, segments=1) as site:
            foreign = [Device(f"f{number}", f"fd00:1::f{number}") for number in range(1, 5)]
            for device in foreign:
                host = site.site.host(device.name, [f"{device.address}/64"])
                host.popen(["coap-server-notls", "-A", device.address])
                wait_until(lambda host=host: "5683" in host.run(["ss", "-Hlun"]).stdout, what="a foreign server")  # type: ignore[misc]
            site.register(foreign)
            site.group("all", "/example_data", foreign)
            sets = site.gateway.get("/groups/all").json()["fanoutSets"]
            assert isinstance(sets, list)
            joins = {uri: join for one in sets for uri, join in one["joins"].items()}
            site.lose_requests(True)
            site.lose_answers(0.2)
            for device in foreign:
                site.site.lab_host(device.name).lose(0.2)
            for number in range(3 if SMOKE else 30):
                value = f"value {number}"
                wrote = site.gateway.request("PUT", "/groups/all/membersContent", value, "text/plain", {"M2M-Deadline": "30"}).json()
                read = _read(site.gateway, deadline_s=30.0)
                members = read["members"]
                assert isinstance(members, dict)
                self.assertEqual((wrote["complete"], read["complete"]), (True, True), (wrote, read))
                self.assertEqual({entry["content"] for entry in members.values()}, {value})
                for device in foreign:
                    self.assertNotIn(joins.get(device.uri("/example_data")), JOINED)
                    self.assertNotEqual(members[device.uri("/example_data")]["via"], "multicast")


class CrowdTests(SynchronousTestCase):
    """A thousand members on one link."""

    skip = _SKIP

    def test_a_thousand(self) -> None:
        """The kernel's usual settings, neighbour table included: all join, all are read at once, and with losses all are repaired."""
        count = 100 if SMOKE else 1000
        with crowd(count, segments=1) as site:
            uris = set(site.group("all", _PATH))
            site.gateway.request("PUT", "/groups/all/membersContent", "21.5", "text/plain", {"M2M-Deadline": "30"})
            documents = [_read(site.gateway) for _ in range(_ATTEMPTS)]
            self.assertEqual({document["complete"] for document in documents}, {True})
            self.assertIn(["multicast"] * count, [_vias(document) for document in documents])
            site.lose_requests(True)
            site.lose_answers(0.2)
            for _ in range(2 if SMOKE else 20):
                document = _read(site.gateway)
                members = document["members"]
                assert isinstance(members, dict)
                self.assertEqual(document["silent"], [], document)
                self.assertEqual({uri: entry["content"] for uri, entry in members.items()}, dict.fromkeys(uris, "21.5"))
                print(f"{count} members: {document['ms']} ms, {document['datagrams']}", flush=True)
