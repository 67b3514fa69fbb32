"""Two gateways on a real network: members that are registered at the other one, and its global addresses; either is killed in between."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.namespaces import skip_reason, wait_until
from tests.system.nodes import GROUP_SERVER, Device, Gateway, Site
from tests.system.programs import Tables

_SKIP = skip_reason("coap-server-notls", "ss")
_SECOND = "fd00:1::2"
_PORT = 8080
_FOREIGN = Device("foreign", "fd00:1::c5")
"""libcoap's server: it knows nothing of `mcGroups`."""
_PATH = "/temperature"
_LENT = "ff3e::8000:0"


@dataclass(frozen=True)
class _Network:
    """Devices 1 and 2 are registered at the first gateway; device 3 and the foreign one at the second."""

    first: Gateway
    second: Gateway
    devices: tuple[Device, ...]

    @property
    def uris(self) -> list[str]:
        """The members' URIs."""
        return [device.uri(_PATH) for device in self.devices]

    def make(self, name: str) -> list[dict[str, object]]:
        """A group of all four on the first gateway; its sets when it is ready."""
        self.first.put_document(f"/groups/{name}", {"members": self.uris})
        wait_until(lambda: self.is_ready(name), 60, f"{name} to be ready")
        return self.sets(name)

    def is_ready(self, name: str) -> bool:
        """Whether nobody is awaited any more."""
        return self.first.get(f"/groups/{name}").json()["state"] == "ready"

    def sets(self, name: str) -> list[dict[str, object]]:
        """The fan-out sets."""
        found = self.first.get(f"/groups/{name}").json()["fanoutSets"]
        assert isinstance(found, list)
        return found

    def read(self, name: str, deadline_s: float = 20.0) -> tuple[dict[str, str], list[str]]:
        """How each member that answered with its value was reached, and who was silent."""
        document = self.first.get(f"/groups/{name}/membersContent", M2M_Deadline=str(deadline_s)).json()
        members, silent = document["members"], document["silent"]
        assert isinstance(members, dict)
        assert isinstance(silent, list)
        values = {device.uri(_PATH): device.name for device in self.devices}
        assert {uri: _text(entry["content"]) for uri, entry in members.items()} == {uri: values[uri] for uri in members}, members
        ways = {uri: entry["via"] for uri, entry in members.items()}
        # libcoap's server takes any PUT, also that of an mcGroup, of which it understands nothing: it is asked again by unicast then.
        return {uri: "unicast" if uri == _FOREIGN.uri(_PATH) and via == "repair" else via for uri, via in ways.items()}, silent


def _text(content: object) -> str:
    """A member's content: libcoap's server names no content format, so that it may be bytes to the gateway."""
    return base64.b64decode(str(content["base64"])).decode() if isinstance(content, dict) else str(content)


def children(gateway: Gateway, path: str) -> list[str]:
    """The names of what stands at a path."""
    reply = gateway.get(path)
    found = reply.json()["children"]
    assert isinstance(found, list), reply
    return [str(child["name"]) for child in found]


@contextlib.contextmanager
def _network(first: Tables, second: Tables) -> Iterator[_Network]:
    """`first` and `second` are further tables of the gateways."""
    with Site() as site:
        g2_state = site.folder / "g2-state"
        peer = {"uri": f"http://[{_SECOND}]:{_PORT}", "token_file": str(g2_state / "admin.token")}
        g1 = site.gateway("g1", ["fd00:1::1/64"], {**GROUP_SERVER, **first, "peers.g2": peer})
        listen = [f"tcp:{_PORT}:interface=127.0.0.1", f"tcp6:{_PORT}:interface={_SECOND}".replace(_SECOND, _SECOND.replace(":", r"\:"))]
        g2 = site.gateway("g2", [f"{_SECOND}/64"], {**GROUP_SERVER, **second, "http": {"listen": listen}})
        devices = site.devices("devices", range(1, 4))
        host = site.host("foreign", [f"{_FOREIGN.address}/64"])
        host.popen(["coap-server-notls", "-d", "10"], log=site.folder / "foreign.log")
        wait_until(lambda: "5683" in host.run(["ss", "-Hlun"]).stdout, what="the foreign server")
        site.ready()
        everyone = (*devices.devices, _FOREIGN)
        for number, device in enumerate(everyone):
            (g1 if number < 2 else g2).put_document(f"/scls/{device.name}", device.registration)
        puts = [Call("PUT", f"coap://[{device.address}]{_PATH}", device.name.encode(), 0) for device in everyone]
        assert {answer.code for answer in call_aiocoap(g1.place, *puts)} == {"2.01"}
        yield _Network(g1, g2, everyone)


class SubgroupTests(SynchronousTestCase):
    skip = _SKIP

    def test_through_another_server(self) -> None:
        """Outsiders are a group at their own gateway, asked with one request; it ends with this one's, whoever is killed."""
        with _network({}, {}) as network:
            first, second, uris = network.first, network.second, network.uris
            own, other = network.make("grp7")
            self.assertEqual((own["addressType"], own["memberList"]), ("multicast-ipv6", uris[:2]))
            self.assertEqual((other["addressType"], other["memberList"]), ("group", uris[2:]))
            self.assertEqual((other["fanoutAddress"], other["fanoutURI"]), (_SECOND, "/groups/g1.example.org-grp7"))
            self.assertEqual(children(second, "/groups"), ["g1.example.org-grp7"])
            ways = {**dict.fromkeys(uris[:2], "multicast"), **dict.fromkeys(uris[2:], "subgroup")}
            self.assertEqual(network.read("grp7"), (ways, []))
            second.kill()
            found, silent = network.read("grp7", 4.0)
            self.assertEqual((sorted(found), silent), (uris[:2], uris[2:]))
            second.start()
            self.assertEqual(network.read("grp7"), (ways, []))
            first.kill()
            first.start()
            first.ready()
            self.assertEqual(network.read("grp7"), (ways, []))
            second.kill()
            self.assertEqual(first.request("DELETE", "/groups/grp7").status, 204)
            self.assertEqual(len(children(first, "/node/held")), 1)
            first.kill()
            first.start()
            second.start()
            wait_until(lambda: children(second, "/groups") == [], 60, "the group to be gone at the other gateway")
            wait_until(lambda: children(first, "/node/held") == [], 60, "nothing to be owed any more")


class LentTests(SynchronousTestCase):
    skip = _SKIP

    def test_taken_from_another_server(self) -> None:
        """All members share a global address that the other gateway lends; it is the group's whoever is killed, and returned."""
        asks = {"groups": {"address_server": f"http://[{_SECOND}]:{_PORT}/mcAddrPool"}}
        with _network(asks, {"groups": {"global_pool": ["ff3e::8000:0/124"]}}) as network:
            first, second, uris = network.first, network.second, network.uris
            [one] = network.make("grp11")
            self.assertEqual((one["fanoutAddress"], one["memberList"]), (_LENT, uris))
            ways = {**dict.fromkeys(uris[:3], "multicast"), uris[3]: "unicast"}
            self.assertEqual(network.read("grp11"), (ways, []))
            lease = second.get(f"/mcAddrPool/{_LENT}").json()
            self.assertEqual((lease["address"], lease["for"]), (_LENT, "http://g1.example.org:8080/groups/grp11"))
            second.kill()
            self.assertEqual(network.read("grp11"), (ways, []))
            second.start()
            self.assertEqual(children(second, "/mcAddrPool"), [_LENT])
            first.kill()
            first.start()
            first.ready()
            wait_until(lambda: network.is_ready("grp11"), 60, "grp11 to be ready again")
            wait_until(lambda: network.read("grp11") == (ways, []), 60, "all to be asked as before")
            self.assertEqual(network.sets("grp11")[0]["fanoutAddress"], _LENT)
            self.assertEqual(children(second, "/mcAddrPool"), [_LENT])
            second.kill()
            self.assertEqual(first.request("DELETE", "/groups/grp11").status, 204)
            first.kill()
            first.start()
            second.start()
            wait_until(lambda: children(second, "/mcAddrPool") == [], 90, "the address to be returned")
            self.assertEqual(children(second, "/node/resting"), [_LENT])
            [one] = network.make("grp12")
            self.assertEqual(one["fanoutAddress"], "ff3e::8000:1")
