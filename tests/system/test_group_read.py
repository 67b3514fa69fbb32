"""The main job on a real network: thirty devices, a foreign member and a device that is off are read and written with one request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import aiocoap
from aiocoap.numbers import OptionNumber
from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.libcoap import coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import Device, Devices, Gateway, Site
from tests.system.pcap import Datagram, Wire

_SKIP = skip_reason("tcpdump", "ss", "coap-client-notls", "coap-server-notls")
_GATEWAY = "fd00:1::1"
_COUNT = 30
_FIXED = "ff15::4d32"
"""The group that the foreign member always listens to."""
_FOREIGN = Device("foreign", "fd00:1::c5")
_OFF = Device("off", "fd00:1::dead")
_GET, _PUT = aiocoap.GET, aiocoap.PUT
_REQUEST_ID, _REQUESTER, _NO_RESPONSE = OptionNumber(65052), OptionNumber(65148), OptionNumber(258)
_IN_FLIGHT_S = 0.3
"""An answer that is on the wire for a shorter time may not have been read yet when its member is asked again."""
_ATTEMPTS = 5
"""A machine that has more to do may answer so late that members are asked again: so often the quiet case is tried."""


@dataclass(frozen=True)
class _Network:
    """A gateway and its devices, all registered, each with a temperature of its own."""

    site: Site
    gateway: Gateway
    devices: Devices
    asked: tuple[Device, ...]
    """The devices that are on."""

    @property
    def values(self) -> dict[str, str]:
        """What each member of a group of all answers, by its URI."""
        return {device.uri("/temperature"): f"{20 + number / 4}" for number, device in enumerate(self.asked)}

    @property
    def host(self) -> Host:
        """The gateway's host."""
        return self.site.lab_host("gw")

    def group(self, name: str, path: str, *silent: Device) -> dict[str, object]:
        """Make a group of the same path of all devices; return when all that can have joined."""
        members = [device.uri(path) for device in (*self.asked, *silent)]
        assert self.gateway.put_document(f"/groups/{name}", {"members": members}).status == 201
        wanted = {device.uri(path) for device in self.asked}
        wait_until(lambda: wanted <= self.joined(name), 60, f"the joins of {name}")
        return self.gateway.get(f"/groups/{name}").json()

    def joined(self, name: str) -> set[str]:
        """The members whose join is confirmed."""
        return {uri for one in sets(self.gateway.get(f"/groups/{name}").json()) for uri, join in one["joins"].items() if join in _THERE}

    def read(self, name: str, deadline_s: float) -> tuple[dict[str, object], Wire]:
        """Read the group; the document and what was on the gateway's wire meanwhile."""
        with Wire(self.host) as wire:
            reply = self.gateway.get(f"/groups/{name}/membersContent", M2M_Deadline=str(deadline_s))
        assert reply.status == 200, reply
        return reply.json(), wire


_THERE = ("joined", "proven")


def sets(group: dict[str, object]) -> list[dict[str, dict[str, str]]]:
    """The fan-out sets in a group's document."""
    found = group["fanoutSets"]
    assert isinstance(found, list)
    return found


@contextlib.contextmanager
def _network(count: int = _COUNT, *, foreign: bool = True) -> Iterator[_Network]:
    with Site() as site:
        gateway = site.gateway("gw", [f"{_GATEWAY}/64"])
        devices = site.devices("devices", range(1, count + 1))
        network = _Network(site, gateway, devices, devices.devices)
        if foreign:
            network = replace(network, asked=(*devices.devices, _FOREIGN))
            host = site.host("foreign", [f"{_FOREIGN.address}/64"])
            host.popen(["coap-server-notls", "-d", "10", "-g", _FIXED, "-G", "eth0"], log=site.folder / "foreign.log")
            wait_until(lambda: "5683" in host.run(["ss", "-Hlun"]).stdout, what="the foreign server")
        site.ready()
        _register(gateway, network.asked)
        values = zip(network.asked, network.values.values(), strict=True)
        puts = [Call("PUT", f"coap://[{device.address}]/temperature", value.encode(), 0) for device, value in values]
        codes = {answer.code for answer in call_aiocoap(network.host, *puts)}
        assert codes == {"2.01"}, codes
        yield network


def _register(gateway: Gateway, devices: tuple[Device, ...]) -> None:
    """Register the devices: some by RFC 9176 with a foreign client, the others by HTTP."""
    assert isinstance(gateway.place, Host)
    for number, device in enumerate((*devices, _OFF)):
        if device.name.startswith("d") and number % 6 == 0:
            query = f"ep={device.name}&lt=86400&host={device.host}&multicast=1&base=coap://[{device.address}]"
            made = coap_client(
                gateway.place, "post", f"coap://[{_GATEWAY}]/rd?{query}", "-t", "40", payload='</temperature>;rt="temperature"'
            )
            assert made.code == "2.01", made
        else:
            fixed = {"fixedGroups": [_FIXED]} if device is _FOREIGN else {}
            gateway.put_document(f"/scls/{device.name}", {**device.registration, **fixed})


def _requests(datagrams: list[Datagram], source: str = _GATEWAY) -> list[tuple[Datagram, aiocoap.Message]]:
    """The CoAP requests of a source, as another implementation reads them."""
    found = [(datagram, aiocoap.Message.decode(datagram.payload)) for datagram in datagrams if datagram.source == source]
    return [(datagram, message) for datagram, message in found if message.code.is_request()]


def _contents(document: dict[str, object]) -> dict[str, str]:
    members = document["members"]
    assert isinstance(members, dict)
    return {uri: str(entry["content"]) for uri, entry in members.items()}


def _by(document: dict[str, object], via: str) -> set[str]:
    members = document["members"]
    assert isinstance(members, dict)
    return {uri for uri, entry in members.items() if entry["via"] == via}


class GroupReadTests(SynchronousTestCase):
    """One request for all."""

    skip = _SKIP

    def check_wire(self, wire: Wire, method: aiocoap.Code, path: tuple[str, ...]) -> None:
        """One multicast request for all; by unicast only who had not answered it."""
        requests = _requests(wire.datagrams)
        multicast = [(datagram, message) for datagram, message in requests if datagram.destination.startswith("ff")]
        self.assertEqual(len(multicast), 1, multicast)
        datagram, message = multicast[0]
        self.assertEqual((datagram.destination, datagram.port, datagram.hop_limit), (_FIXED, 5683, 8))
        self.assertEqual((message.mtype, message.code, message.opt.uri_path), (aiocoap.NON, method, path))
        self.assertEqual([option.encode() for option in message.opt.get_option(_NO_RESPONSE)], [b""])
        for number in (_REQUEST_ID, _REQUESTER):  # a plain read has none
            found = [len(option.encode()) for option in message.opt.get_option(number)]
            self.assertEqual(found, [] if method == aiocoap.Code.GET else [8])
        answered: dict[str, float] = {}
        for answer in wire.to(_GATEWAY):
            if aiocoap.Message.decode(answer.payload).token == message.token:
                answered.setdefault(answer.source, answer.at_s)
        for asked, _ in requests:
            since = asked.at_s - answered.get(asked.destination, asked.at_s)
            self.assertLess(since, _IN_FLIGHT_S, f"{asked} came long after an answer")

    def test_one_datagram(self) -> None:
        """Thirty-two members, one of them off: one request datagram, the right values, who is silent, and an end at the deadline."""
        with _network() as network:
            group = network.group("all", "/temperature", _OFF)
            self.assertEqual({one["fanoutAddress"] for one in sets(group)}, {_FIXED})
            nodes = {device.uri("/temperature") for device in network.devices.devices}
            for _ in range(_ATTEMPTS):
                document, wire = network.read("all", 3)
                self.check_wire(wire, _GET, ("temperature",))
                self.assertEqual(document["silent"], [_OFF.uri("/temperature")])
                self.assertEqual(_contents(document), network.values)
                self.assertIs(document["complete"], False)
                self.assertGreaterEqual(float(str(document["ms"])), 2600.0)
                if nodes <= _by(document, "multicast"):
                    break
            else:
                self.fail(f"in each of {_ATTEMPTS} reads some were asked again: {_by(document, 'repair')}")
            self.assertEqual(_by(document, "unicast"), set())

    def test_foreign_member(self) -> None:
        """A server that knows nothing of mcGroups answers the multicast request itself, in its own leisure; nobody is asked twice."""
        with _network(3) as network:
            # libcoap answers within the DEFAULT_LEISURE of 5 s: told so, the gateway does not ask again before.
            members = [device.uri("/temperature") for device in network.asked]
            network.gateway.put_document("/groups/all", {"members": members, "leisure": 5.0})
            wait_until(lambda: set(members) <= network.joined("all"), 60, "the joins")
            document, wire = network.read("all", 20)
            self.check_wire(wire, _GET, ("temperature",))
            self.assertIs(document["complete"], True)
            self.assertEqual(_contents(document), network.values)
            self.assertEqual(_by(document, "multicast"), set(members))
            self.assertEqual(document["datagrams"], {"sent": 1, "received": 4})
            self.assertEqual(len(_requests(wire.datagrams)), 1)

    def test_write_with_suffix(self) -> None:
        """A PUT with a suffix below `membersContent` goes out once and changes the resource of that name at every device."""
        with _network() as network:
            network.group("lamps", "/lamp")
            with Wire(network.host) as wire:
                reply = network.gateway.request("PUT", "/groups/lamps/membersContent/state", "on", "text/plain", {"M2M-Deadline": "20"})
            self.check_wire(wire, _PUT, ("lamp", "state"))
            self.assertEqual(reply.status, 200, reply)
            self.assertEqual((reply.json()["complete"], reply.json()["silent"]), (True, []))
            statuses = {entry["status"] for entry in dict(reply.json()["members"]).values()}  # type: ignore[call-overload]
            self.assertLessEqual(statuses, {"2.01", "2.04"})
            for device in network.asked:
                got = coap_client(network.host, "get", f"coap://[{device.address}]/lamp/state")
                self.assertEqual((got.code, got.text), ("2.05", "on"), device)

    def test_restarts(self) -> None:
        """Devices that were killed answer again without having been told; after `kill -9` of the gateway the group is there and is read."""
        with _network(10, foreign=False) as network:
            before = network.group("all", "/temperature")
            with Wire(network.host) as wire:
                network.devices.kill()
                network.devices.start()
                documents = [network.gateway.get("/groups/all/membersContent", M2M_Deadline="20").json() for _ in range(_ATTEMPTS)]
            self.assertEqual([path for path in _paths(wire) if path[:1] == ("mcGroups",)], [])
            for document in documents:
                self.assertEqual(_contents(document), network.values)
            self.assertIn(set(network.values), [_by(document, "multicast") for document in documents])
            network.gateway.kill()
            network.gateway.start()
            after = network.gateway.get("/groups/all").json()
            for key in ("members", "uri", "type"):
                self.assertEqual(after[key], before[key])
            self.assertEqual([one["fanoutAddress"] for one in sets(after)], [one["fanoutAddress"] for one in sets(before)])
            document, wire = network.read("all", 20)
            self.assertEqual((_contents(document), document["complete"]), (network.values, True))
            groups = [datagram for datagram, _ in _requests(wire.datagrams) if datagram.destination.startswith("ff")]
            self.assertEqual(len(groups), 1)

    def test_group_deleted(self) -> None:
        """A deleted group is left by its devices, also by those that were away when it was deleted."""
        with _network(3, foreign=False) as network:
            address = str(sets(network.group("all", "/temperature"))[0]["fanoutAddress"])
            place = network.devices.place

            def is_member() -> bool:
                return address in place.run(["ip", "-6", "maddr", "show", "dev", "eth0"]).stdout

            self.assertTrue(is_member())
            network.devices.kill()
            self.assertEqual(network.gateway.request("DELETE", "/groups/all").status, 204)
            self.assertEqual(network.gateway.get("/groups/all/membersContent").status, 404)
            network.devices.start()
            wait_until(lambda: not is_member(), 60, "the devices to leave")


def _paths(wire: Wire) -> list[tuple[str, ...]]:
    """The paths of the gateway's requests."""
    return [message.opt.uri_path for _, message in _requests(wire.datagrams)]
