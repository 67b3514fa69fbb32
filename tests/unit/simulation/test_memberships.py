"""What devices hold in the end is what the tree says, whatever was edited, lost, away or killed meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import RESOURCE_JSON, rfc3339
from m2mapp.groups.deafness import DEAF_AFTER
from m2mapp.groups.group import sets_of
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import Conflict, DeadlinePassed, NoSuchResource
from m2mapp.model.messages import Method
from m2mapp.net.medium import Event, Quality, What
from tests.simulation import Simulation, seeded
from tests.unit.simulation.world import Box, Site, build_site

CONTENT = "/groups/temps/membersContent"


def held(box: Box) -> dict[str, str]:
    """The addresses of the mcGroups that a device holds, by name."""
    if box.node is None:
        return {}
    return {resource.path[-1]: str(resource.attributes["mcAddress"]) for resource in box.node.tree.children(("mcGroups",))}


def wanted(site: Site, box: Box) -> dict[str, str]:
    """Those that the gateway's tree says."""
    node = site.gateway.node
    assert node is not None
    return {
        f"{site.gateway.name}-{group.path[-1]}-{one.name}": one.address
        for group in node.tree.children(("groups",))
        for one in sets_of(node.tree, group.path[-1])
        if one.is_multicast and f"coap://{box.name}/temperature" in one.members
    }


def patch(site: Site, path: str, document: dict[str, object]) -> None:
    """A change of a resource of the gateway."""
    site.gateway.ask(Method.PATCH, path, payload=json.dumps(document).encode(), content_type=RESOURCE_JSON)


def lose_disk(box: Box, simulation: Simulation) -> None:
    """The device's memory is empty from now on."""
    box.database = type(box.database)(simulation.scheduler.generator(f"new disk of {box.name}"))


class MembershipCase(SynchronousTestCase):
    def check(self, site: Site) -> None:
        """Every device that runs holds what it shall and nothing else, and nothing is owed to any of them; within some minutes."""

        def is_right() -> bool:
            node = site.gateway.node
            return (
                node is not None and node.prepared and all(held(box) == wanted(site, box) for box in site.members) and self.owes(site) == []
            )

        try:
            site.run_until(is_right, 900.0)
        except AssertionError:
            self.fail(
                f"held: {[held(box) for box in site.members]}; wanted: {[wanted(site, box) for box in site.members]}; {self.owes(site)}"
            )

    def owes(self, site: Site) -> list[object]:
        """What the gateway still owes."""
        node = site.gateway.node
        return [dict(one.attributes) for one in node.tree.children(("leaves",))] if node is not None else []


class LeaveTests(MembershipCase):
    @seeded(5)
    def test_a_gateway_killed_between_the_edit_and_the_leave(self, simulation: Simulation) -> None:
        """A gateway that dies when the deletion was answered and no device was told yet tells them all when it is back."""
        site = build_site(simulation, 4)
        site.make_group()
        simulation.network.partition(site.gateway.name, [box.name for box in site.members])
        site.gateway.ask(Method.DELETE, "/groups/temps")
        site.gateway.kill()
        simulation.network.heal()
        site.run(5.0)
        self.assertEqual([len(held(box)) for box in site.members], [1, 1, 1, 1])
        site.gateway.start()
        self.check(site)
        self.assertEqual([len(held(box)) for box in site.members], [0, 0, 0, 0])
        site.stop()

    @seeded(3)
    def test_a_device_away_and_a_gateway_killed(self, simulation: Simulation) -> None:
        """A device that is away when its group goes and comes back to a gateway that was killed meanwhile is told to leave."""
        site = build_site(simulation, 3)
        site.make_group()
        away = site.members[0]
        away.kill()
        site.gateway.ask(Method.DELETE, "/groups/temps")
        site.run(30.0)
        site.gateway.kill()
        site.run(5.0)
        site.gateway.start()
        site.run(30.0)
        away.start()
        self.check(site)
        site.stop()

    @seeded(3)
    def test_a_device_that_is_another_now(self, simulation: Simulation) -> None:
        """A device that registers by another host name leaves the group that had it by the old one."""
        site = build_site(simulation, 4)
        site.make_group()
        patch(site, "/scls/d1", {"hosts": ["other.example.org"]})
        site.run_until(lambda: held(site.members[0]) == {})
        self.assertEqual([len(held(box)) for box in site.members], [0, 1, 1, 1])
        site.stop()

    @seeded(3)
    def test_left_over(self, simulation: Simulation) -> None:
        """A device that comes with an mcGroup of this gateway that nobody knows leaves it; another server's it keeps."""
        site = build_site(simulation, 2)
        site.make_group()
        box = site.members[0]
        [(name, address)] = held(box).items()
        for other in ("gw.example.org-gone-1", "gw2.example.org-gone-1"):
            box.ask(Method.PUT, f"/mcGroups/{other}", {"mcAddress": address, "memberList": ["/temperature"]})
        box.kill()
        box.start()
        site.run_until(lambda: "gw.example.org-gone-1" not in held(box), 30.0)
        self.assertEqual(sorted(held(box)), [name, "gw2.example.org-gone-1"])
        site.stop()


class LostTests(MembershipCase):
    @seeded(3)
    def test_a_device_that_lost_its_groups_and_says_nothing(self, simulation: Simulation) -> None:
        """A device that loses its mcGroups without registering anew answers by repair; after some it is asked, told, and hears again."""
        site = build_site(simulation, 3)
        site.make_group()
        box = site.members[0]
        for name in held(box):
            box.ask(Method.DELETE, f"/mcGroups/{name}")
        for _ in range(DEAF_AFTER):
            site.gateway.read(CONTENT)
            site.run(2.0)
        self.check(site)
        self.assertEqual(site.gateway.read(CONTENT)["datagrams"], {"sent": 1, "received": 3})
        site.stop()

    @seeded(3)
    def test_nothing_is_said_twice(self, simulation: Simulation) -> None:
        """A device that starts anew with all it had is asked what it holds, and told nothing."""
        site = build_site(simulation, 3)
        site.make_group()
        box = site.members[0]
        box.kill()
        box.start()
        assert box.node is not None
        kept = box.node.tree.latest(("mcGroups",))
        site.run(10.0)
        patch(site, "/scls/d1", {"lifetime": 600})
        site.run(10.0)
        self.assertEqual(box.node.tree.latest(("mcGroups",)), kept)
        self.check(site)
        site.stop()


class TypeTests(MembershipCase):
    @seeded(2)
    def test_a_temporary_group(self, simulation: Simulation) -> None:
        """A static group that is made temporary leaves its address, works until its time, and is gone after it, over a restart."""
        site = build_site(simulation, 3)
        site.make_group()
        at = rfc3339(site.gateway.clock.now_ms() + 100_000)
        site.gateway.ask(Method.PUT, "/groups/temps", {"type": "temporary", "members": site.uris(), "expires": at})
        self.check(site)
        self.assertEqual([held(box) for box in site.members], [{}, {}, {}])
        self.assertTrue(site.gateway.read(CONTENT)["complete"])
        site.gateway.kill()
        site.run(200.0)
        site.gateway.start()
        site.run(5.0)
        self.assertEqual(site.gateway.read("/groups")["children"], [])
        site.stop()

    @seeded(2)
    def test_a_dynamic_group(self, simulation: Simulation) -> None:
        """A group of all thermometers has those that are registered: one that stops is out of it, one that starts is in it."""
        site = build_site(simulation, 3)
        site.run_until(lambda: site.gateway.node is not None and site.gateway.node.prepared)
        site.gateway.ask(Method.POST, "/groups", {"name": "temps", "type": "dynamic", "query": "href=/temperature"})

        def members() -> object:
            return site.gateway.read("/groups/temps")["members"]

        site.run_until(lambda: members() == site.uris())
        self.assertEqual(site.gateway.read(CONTENT)["complete"], True)
        site.members[0].stop()
        site.run_until(lambda: members() == site.uris()[1:])
        site.members[0].start()
        site.run_until(lambda: members() == site.uris())
        site.stop()


class ManyTests(MembershipCase):
    @seeded(4)
    def test_broadcast(self, simulation: Simulation) -> None:
        """One datagram tells all, of a join and of the end; with one packet in four lost those who missed it are told alone."""
        site = build_site(simulation, 6, GroupSettings(advertise="broadcast"))
        site.run_until(lambda: site.gateway.node is not None and site.gateway.node.prepared)
        site.run_until(lambda: len(site.registered()) == len(site.members))
        site.run(5.0)
        began = len(simulation.network.trace.events)
        site.make_group()
        sent = self.sent(site, began)
        self.assertEqual([event.destination for event in sent], ["[ff02::fd]:5683"])
        simulation.network.set_quality(Quality(loss=0.25))
        site.gateway.ask(Method.DELETE, "/groups/temps")
        self.check(site)
        site.make_group()
        self.check(site)
        self.assertEqual({len(held(box)) for box in site.members}, {1})
        site.stop()

    @seeded(2)
    def test_multicast(self, simulation: Simulation) -> None:
        """Devices that joined a group with their `/mcGroups` are told of others by one datagram to its address."""
        site = build_site(simulation, 4, GroupSettings(advertise="multicast", advertise_group="devices"))
        site.run_until(lambda: site.gateway.node is not None and site.gateway.node.prepared)
        site.run_until(lambda: len(site.registered()) == len(site.members))
        site.gateway.ask(Method.POST, "/groups", {"name": "devices", "members": [f"coap://{box.name}/mcGroups" for box in site.members]})
        site.run_until(lambda: site.gateway.read("/groups/devices")["state"] == "ready")
        began = len(simulation.network.trace.events)
        site.make_group()
        [event] = self.sent(site, began)
        self.assertTrue(event.destination.startswith("[ff35:"), event.destination)
        self.assertEqual({len(held(box)) for box in site.members}, {2})
        self.assertTrue(site.gateway.read(CONTENT)["complete"])
        site.stop()

    def sent(self, site: Site, began: int) -> list[Event]:
        """What the gateway sent since then."""
        events = list(site.simulation.network.trace.events)[began:]
        return [event for event in events if event.what is What.SENT and event.node == site.gateway.name]


class RightTests(MembershipCase):
    @seeded(2)
    def test_a_source_that_may_not(self, simulation: Simulation) -> None:
        """Devices that take no advertisements of the gateway refuse them; it shows so, and asks them one by one."""
        site = build_site(simulation, 3)
        for box in site.members:
            box.stop()
            coap = box.settings.coap
            assert coap is not None
            box.settings = replace(box.settings, coap=replace(coap, access=replace(coap.access, advertise=())))
            box.start()
        site.run(5.0)
        site.run_until(lambda: len(site.registered()) == len(site.members))
        site.gateway.ask(Method.POST, "/groups", {"name": "temps", "members": site.uris()})
        site.run(5.0)
        shown = site.gateway.read("/groups/temps/fanoutSets/1")
        failures, joins = shown["failures"], shown["joins"]
        assert isinstance(failures, dict)
        assert isinstance(joins, dict)
        self.assertEqual((set(failures), set(joins.values())), (set(site.uris()), {"failed"}))
        self.assertIn("answered 4.03: ", failures[site.uris()[0]]["why"])
        self.assertTrue(site.gateway.read(CONTENT)["complete"])
        site.stop()


class ModelTests(MembershipCase):
    @seeded(6)
    def test_whatever_happens(self, simulation: Simulation) -> None:
        """Edits of three groups among loss, devices that stop, die or lose their memory, a gateway that dies: all is right in the end."""
        simulation.network.set_quality(Quality(loss=0.1, delay_s=(0.001, 0.02)))
        chance = simulation.scheduler.generator("what happens")
        site = build_site(simulation, 5, GroupSettings(advertise=chance.choice(["unicast", "broadcast"])))
        site.run_until(lambda: site.gateway.node is not None and site.gateway.node.prepared)
        site.run_until(lambda: len(site.registered()) == len(site.members))
        for _ in range(25):
            self.happen(site, chance)
            site.run(chance.choice((0.0, 0.05, 0.3, 1.0, 5.0)))
        for box in (site.gateway, *site.members):
            if box.node is None:
                box.start()
        simulation.network.set_quality(Quality())
        self.check(site)
        site.stop()

    def happen(self, site: Site, chance: Random) -> None:
        """One thing, at random."""
        name = chance.choice(["a", "b", "c"])
        uris = chance.sample(site.uris(), chance.randint(1, len(site.members)))
        box = chance.choice(site.members)
        what = chance.choice(["put", "put", "delete", "add", "less", "less", "down", "up", "up", "empty", "gateway"])
        try:
            if what == "put":
                site.gateway.ask(Method.PUT, f"/groups/{name}", {"members": uris})
            elif what == "delete":
                site.gateway.ask(Method.DELETE, f"/groups/{name}")
            elif what == "add":
                site.gateway.ask(Method.POST, f"/groups/{name}/members", {"members": uris})
            elif what == "less":
                site.gateway.ask(Method.PUT, f"/groups/{name}/members", {"members": uris[:2]})
        except (NoSuchResource, Conflict, DeadlinePassed):
            pass
        if what == "down" and box.node is not None:
            chance.choice([box.kill, box.stop])()
        elif what in ("up", "empty") and box.node is None:
            if what == "empty":
                lose_disk(box, site.simulation)
            box.start()
        elif what == "gateway":
            site.gateway.kill()
            site.run(1.0)
            site.gateway.start()
            site.run_until(lambda: site.gateway.node is not None and site.gateway.node.prepared)
