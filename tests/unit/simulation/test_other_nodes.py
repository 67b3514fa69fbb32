"""Two gateways as whole nodes: members that are registered at the other one, groups that are made there, addresses that it lends."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.settings import CoapSettings
from m2mapp.config import NodeSettings, Peer, Settings
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.messages import Method
from tests.simulation import Simulation, seeded
from tests.unit.simulation.world import GATEWAY_ADDRESS, LINK, Box, Site, build_box, member_settings

SECOND_ADDRESS = "fd00::2"
SECOND = "g2.example.org"
FIRST = "gw.example.org"
POOL = (ip_network("ff3e::8000:0/124"),)


def gateway(name: str, address: str, peer: str, groups: GroupSettings) -> Settings:
    """A gateway that knows the other one."""
    coap = CoapSettings(listen=((address, 5683),), interfaces=("eth0",), access=LINK)
    return Settings(NodeSettings(name, (), "unused"), coap=coap, groups=groups, member=True, peers=(Peer("other", f"coap://[{peer}]", ""),))


def registered_at(settings: Settings, address: str) -> Settings:
    """A device that registers at another gateway."""
    if settings.sim is None:
        raise ValueError("a device that registers nowhere")
    return replace(settings, sim=replace(settings.sim, registrar=f"coap://[{address}]/rd"))


class TwoGateways:
    """The first gateway with devices 1 and 2, the second with devices 3 and 4; all started and registered."""

    def __init__(self, simulation: Simulation, first: GroupSettings, second: GroupSettings) -> None:
        self.first = build_box(simulation, gateway(FIRST, GATEWAY_ADDRESS, SECOND_ADDRESS, first), GATEWAY_ADDRESS)
        self.second = build_box(simulation, gateway(SECOND, SECOND_ADDRESS, GATEWAY_ADDRESS, second), SECOND_ADDRESS)
        self.devices = []
        for number in (1, 2, 3, 4):
            settings = registered_at(member_settings(number), GATEWAY_ADDRESS if number < 3 else SECOND_ADDRESS)
            self.devices.append(build_box(simulation, settings, f"fd00::d{number}"))
        for box in (self.first, self.second, *self.devices):
            box.start()
        self.site = Site(simulation, self.first, [self.second, *self.devices])
        self.site.run_until(lambda: all(self.at(box) == 2 for box in (self.first, self.second)))

    @staticmethod
    def at(box: Box) -> int:
        """How many devices are registered there."""
        if box.node is None or not box.node.prepared:
            return 0
        children = box.read("/scls")["children"]
        return len(children) if isinstance(children, list) else 0

    def uris(self, path: str = "/temperature") -> list[str]:
        """The members' URIs."""
        return [f"coap://d{number}.example.org{path}" for number in (1, 2, 3, 4)]

    def make(self, name: str = "grp7") -> None:
        """A group of all four on the first gateway, ready."""
        self.first.ask(Method.POST, "/groups", {"name": name, "members": self.uris()})
        self.site.run_until(lambda: self.first.read(f"/groups/{name}")["state"] == "ready")

    def sets(self, name: str = "grp7") -> list[dict[str, object]]:
        """The group's fan-out sets."""
        found = self.first.read(f"/groups/{name}")["fanoutSets"]
        if not isinstance(found, list):
            raise TypeError(name)
        return found

    def names(self, box: Box, path: str) -> list[str]:
        """The names of what stands at a path."""
        children = box.read(path)["children"]
        return [str(child["name"]) for child in children] if isinstance(children, list) else []

    def contents(self, name: str = "grp7") -> dict[str, tuple[str, str]]:
        """What a group read gives: for each member its status and how it was reached."""
        members = self.first.read(f"/groups/{name}/membersContent")["members"]
        if not isinstance(members, dict):
            raise TypeError(name)
        return {uri: (str(result["status"]), str(result["via"])) for uri, result in members.items()}


class SubgroupTests(SynchronousTestCase):
    def build(self, simulation: Simulation) -> TwoGateways:
        """Two gateways without global addresses."""
        return TwoGateways(simulation, GroupSettings(), GroupSettings())

    @seeded(3)
    def test_made_read_and_ended(self, simulation: Simulation) -> None:
        """Members of the other gateway are a group there: one request asks for both; it goes with the group."""
        two = self.build(simulation)
        two.make()
        own, other = two.sets()
        self.assertEqual((own["addressType"], own["memberList"]), ("multicast-ipv6", two.uris()[:2]))
        self.assertEqual((other["addressType"], other["memberList"]), ("group", two.uris()[2:]))
        self.assertEqual(other["group"], f"coap://[{SECOND_ADDRESS}]/groups/{FIRST}-grp7")
        there = two.second.read(f"/groups/{FIRST}-grp7")
        self.assertEqual((there["members"], there["for"]), (two.uris()[2:], f"coap://{FIRST}/groups/grp7"))
        two.site.run_until(lambda: two.second.read(f"/groups/{FIRST}-grp7")["state"] == "ready")
        expected = {
            **dict.fromkeys(two.uris()[:2], ("2.05", "multicast")),
            **dict.fromkeys(two.uris()[2:], ("2.05", "subgroup")),
        }
        self.assertEqual(two.contents(), expected)
        two.first.ask(Method.DELETE, "/groups/grp7")
        two.site.run_until(lambda: two.names(two.second, "/groups") == [])
        two.site.run_until(lambda: two.names(two.first, "/node/held") == [])
        two.site.stop()

    @seeded(3)
    def test_whole_from_the_first_second(self, simulation: Simulation) -> None:
        """Before the other gateway has confirmed, its members are asked one by one, and all answer."""
        two = self.build(simulation)
        two.first.ask(Method.POST, "/groups", {"name": "grp7", "members": two.uris()})
        shown = two.first.read("/groups/grp7/membersContent")
        self.assertEqual(shown["complete"], True)
        two.site.stop()

    @seeded(3)
    def test_members_come_and_go(self, simulation: Simulation) -> None:
        """A member that leaves the group leaves the group at the other gateway, too; with one left it is asked alone."""
        two = self.build(simulation)
        two.make()
        third = {"members": [f"coap://d{number}.example.org/other" for number in (3, 4)]}
        two.first.ask(Method.POST, "/groups/grp7/members", third)
        there = f"/groups/{FIRST}-grp7"
        two.site.run_until(lambda: two.second.read(there)["members"] == [*two.uris()[2:], *third["members"]])
        two.first.ask(Method.PUT, "/groups/grp7/members", {"members": two.uris()[:3]})
        two.site.run_until(lambda: two.names(two.second, "/groups") == [])
        self.assertEqual(two.contents()[two.uris()[2]], ("2.05", "unicast"))
        two.site.stop()

    @seeded(5)
    def test_away_when_it_ends(self, simulation: Simulation) -> None:
        """The other gateway is away when the group ends, and this one is killed: what is owed is told when both are back."""
        two = self.build(simulation)
        two.make()
        two.second.kill()
        two.first.ask(Method.DELETE, "/groups/grp7")
        two.site.run(3.0)
        two.first.kill()
        two.first.start()
        two.site.run(1.0)
        two.second.start()
        two.site.run_until(lambda: two.at(two.second) == 2)
        two.site.run_until(lambda: two.names(two.second, "/groups") == [])
        two.site.run_until(lambda: two.names(two.first, "/node/held") == [])
        two.site.stop()

    @seeded(3)
    def test_away_when_it_is_made(self, simulation: Simulation) -> None:
        """An unreachable peer holds up the making of a group no longer than said; its members are planned again when it answers."""
        two = self.build(simulation)
        two.second.kill()
        began = simulation.scheduler.seconds()
        two.first.ask(Method.POST, "/groups", {"name": "grp7", "members": two.uris()})
        self.assertLess(simulation.scheduler.seconds() - began, 4.0)
        reasons = {why for one in two.sets() for why in dict(one["why"]).values()}  # type: ignore[call-overload]
        two.second.start()
        two.site.run_until(lambda: [one["addressType"] for one in two.sets()] == ["multicast-ipv6", "group"], 180)
        self.assertTrue(any("not registered here" in reason for reason in reasons), reasons)
        two.site.run_until(lambda: two.first.read("/groups/grp7")["state"] == "ready")
        two.site.stop()

    @seeded(3)
    def test_lost_there(self, simulation: Simulation) -> None:
        """A group that the other gateway does not have any more is named silent once, and made there again."""
        two = self.build(simulation)
        two.make()
        two.second.ask(Method.DELETE, f"/groups/{FIRST}-grp7")
        shown = two.first.read("/groups/grp7/membersContent")
        self.assertEqual(shown["silent"], two.uris()[2:])
        two.site.run_until(lambda: two.names(two.second, "/groups") == [f"{FIRST}-grp7"])
        self.assertEqual(two.contents()[two.uris()[3]][0], "2.05")
        two.site.stop()

    @seeded(3)
    def test_a_silent_device_there(self, simulation: Simulation) -> None:
        """A device of the other gateway that is off is named silent, and what the others there answered is back before the deadline."""
        two = self.build(simulation)
        two.make()
        two.site.run_until(lambda: two.second.read(f"/groups/{FIRST}-grp7")["state"] == "ready")
        two.devices[2].kill()
        began = simulation.scheduler.seconds()
        deadline = two.first.time.seconds() + 6.0 if two.first.time is not None else 0.0
        shown = two.first.read("/groups/grp7/membersContent", deadline=deadline)
        self.assertEqual(shown["silent"], [two.uris()[2]])
        self.assertLessEqual(simulation.scheduler.seconds() - began, 6.0)
        two.site.stop()

    @seeded(3)
    def test_servers_that_are_devices(self, simulation: Simulation) -> None:
        """Two group servers that are member devices here join one address when their groups are there: one datagram asks both."""
        two = self.build(simulation)
        third = build_box(simulation, gateway("g3.example.org", "fd00::3", GATEWAY_ADDRESS, GroupSettings()), "fd00::3")
        boxes = [build_box(simulation, registered_at(member_settings(number), "fd00::3"), f"fd00::d{number}") for number in (5, 6)]
        for box in (third, *boxes):
            box.start()
        two.site.members += [third, *boxes]
        two.site.run_until(lambda: two.at(third) == 2)
        for name, address in (("g2", SECOND_ADDRESS), ("g3", "fd00::3")):
            document = {"hosts": [f"{name}.example.org"], "addresses": [address], "multicastEnabled": True, "groupServer": True}
            two.first.ask(Method.PUT, f"/scls/{name}", document)
        members = [f"coap://d{number}.example.org/temperature" for number in (3, 4, 5, 6)]
        two.first.ask(Method.POST, "/groups", {"name": "grp9", "members": members})
        two.site.run_until(lambda: {str(one["fanoutAddress"])[:2] for one in two.sets("grp9")} == {"ff"})
        two.site.run_until(lambda: two.first.read("/groups/grp9")["state"] == "ready")
        shown = two.first.read("/groups/grp9/membersContent")
        self.assertEqual((shown["complete"], shown["datagrams"]), (True, {"sent": 1, "received": 2}))
        # A server that waits for a device of its own is asked again meanwhile, and its answer counts when it comes.
        boxes[0].kill()
        deadline = two.first.time.seconds() + 6.0 if two.first.time is not None else 0.0
        self.assertEqual(two.first.read("/groups/grp9/membersContent", deadline=deadline)["silent"], members[2:3])
        two.site.stop()

    @seeded(3)
    def test_killed_in_between(self, simulation: Simulation) -> None:
        """Killed after the group was made, the gateway goes on with it: nothing is made twice, and all members answer."""
        two = self.build(simulation)
        two.first.ask(Method.POST, "/groups", {"name": "grp7", "members": two.uris()})
        two.first.kill()
        two.first.start()
        two.site.run_until(lambda: two.at(two.first) == 2)
        two.site.run_until(lambda: two.first.read("/groups/grp7")["state"] == "ready")
        self.assertEqual(two.names(two.second, "/groups"), [f"{FIRST}-grp7"])
        self.assertEqual({status for status, _ in two.contents().values()}, {"2.05"})
        two.site.stop()


class BorrowedTests(SynchronousTestCase):
    def build(self, simulation: Simulation) -> TwoGateways:
        """The second gateway has the global addresses, the first asks there."""
        first = GroupSettings(address_server=f"coap://[{SECOND_ADDRESS}]/mcAddrPool")
        return TwoGateways(simulation, first, GroupSettings(global_pool=POOL))

    @seeded(3)
    def test_taken_and_returned(self, simulation: Simulation) -> None:
        """With a global address outsiders share a set with the local members: one datagram for all. It is given back with the group."""
        two = self.build(simulation)
        two.make()
        [one] = two.sets()
        self.assertEqual((one["fanoutAddress"], one["memberList"]), ("ff3e::8000:0", two.uris()))
        self.assertEqual(two.names(two.second, "/mcAddrPool"), ["ff3e::8000:0"])
        self.assertEqual(two.second.read("/mcAddrPool/ff3e::8000:0")["for"], f"coap://{FIRST}/groups/grp7")
        shown = two.first.read("/groups/grp7/membersContent")
        self.assertEqual((shown["complete"], shown["datagrams"]), (True, {"sent": 1, "received": 4}))
        two.first.ask(Method.DELETE, "/groups/grp7")
        two.site.run_until(lambda: two.names(two.second, "/mcAddrPool") == [])
        self.assertEqual(two.names(two.second, "/node/resting"), ["ff3e::8000:0"])
        two.make("grp8")
        self.assertEqual(two.sets("grp8")[0]["fanoutAddress"], "ff3e::8000:1")
        two.site.stop()

    @seeded(3)
    def test_killed_with_a_lease(self, simulation: Simulation) -> None:
        """Killed at any moment after it asked, the gateway has the same address for the same group afterwards; no second one is taken."""
        two = self.build(simulation)
        two.first.send(Method.POST, "/groups", {"name": "grp7", "members": two.uris()})
        two.site.run(simulation.scheduler.generator("when").uniform(0.0, 0.05))
        two.first.kill()
        two.first.start()
        two.site.run_until(lambda: two.at(two.first) == 2)
        two.first.ask(Method.PUT, "/groups/grp7", {"members": two.uris()})
        two.site.run_until(lambda: two.first.read("/groups/grp7")["state"] == "ready")
        self.assertEqual([one["fanoutAddress"] for one in two.sets()], ["ff3e::8000:0"])
        self.assertEqual(two.names(two.second, "/mcAddrPool"), ["ff3e::8000:0"])
        two.site.stop()


class VirtualTests(SynchronousTestCase):
    @seeded(3)
    def test_end_to_end(self, simulation: Simulation) -> None:
        """Two devices with different paths are one set: one datagram to the virtual URI, and each answers for its own path."""
        two = TwoGateways(simulation, GroupSettings(), GroupSettings())
        members = ["coap://d1.example.org/cc", "coap://d2.example.org/dd"]
        for box, path in zip(two.devices, ("/cc", "/dd"), strict=False):
            box.ask(Method.PUT, f"{path}/data", path.encode())
        two.first.ask(Method.POST, "/groups", {"name": "grp7", "members": members})
        two.site.run_until(lambda: two.first.read("/groups/grp7")["state"] == "ready")
        [one] = two.sets()
        self.assertEqual((one["fanoutURI"], one["memberList"]), ("/well-known/grp7", members))
        held = two.devices[0].read("/mcGroups/gw.example.org-grp7-1")
        self.assertEqual((held["fanoutURI"], held["memberList"]), ("/well-known/grp7", ["/cc"]))
        shown = two.first.read("/groups/grp7/membersContent/data")
        self.assertEqual(shown["datagrams"], {"sent": 1, "received": 2})
        found = shown["members"]
        assert isinstance(found, dict)
        self.assertEqual({uri: result["content"] for uri, result in found.items()}, dict(zip(members, ("/cc", "/dd"), strict=True)))
        two.site.stop()


class JsonTests(SynchronousTestCase):
    @seeded(1)
    def test_what_is_lent(self, simulation: Simulation) -> None:
        """POST /mcAddrPool: 2.01 with the address, when it ends, and where it stands; again: the same address, 2.04."""
        two = TwoGateways(simulation, GroupSettings(), GroupSettings(global_pool=POOL))
        asked = {"for": "http://g9.example.org/groups/grp11"}
        first = two.second.ask(Method.POST, "/mcAddrPool", asked)
        again = two.second.ask(Method.POST, "/mcAddrPool", asked)
        self.assertEqual([response.status.value for response in (first, again)], ["Created", "Changed"])
        self.assertEqual(first.location, ("mcAddrPool", "ff3e::8000:0"))
        self.assertEqual(json.loads(first.payload)["address"], json.loads(again.payload)["address"])
        self.assertEqual(json.loads(first.payload)["lifetime"], 86_400)
        two.site.stop()
