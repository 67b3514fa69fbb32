"""A gateway and its members as whole nodes, on networks and disks that fail: what a caller of a group is told is true."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.settings import GroupSettings
from m2mapp.model.messages import Method
from m2mapp.net.medium import Quality, What
from tests.simulation import Simulation, seeded
from tests.unit.simulation.world import Site, build_site

MEMBERS_CONTENT = "/groups/temps/membersContent"
DEADLINE_S = 10.0


def values(shown: dict[str, object]) -> dict[str, object]:
    """Each member that answered, with its content."""
    members = shown["members"]
    assert isinstance(members, dict)
    return {uri: result["content"] for uri, result in members.items() if result["status"] == "2.05"}


def measured(site: Site) -> dict[str, str]:
    """What each member that runs has in its own tree: what a group read has to give."""
    found = {}
    for uri, member in zip(site.uris(), site.members, strict=True):
        resource = member.node.tree.find(("temperature",)) if member.node is not None else None
        if resource is not None:
            found[uri] = (resource.content or b"").decode()
    return found


class GroupCase(SynchronousTestCase):
    def build(self, simulation: Simulation, members: int = 10) -> Site:
        """A gateway with a group `temps` of so many members, all joined."""
        site = build_site(simulation, members, GroupSettings(deadline_s=DEADLINE_S))
        site.make_group()
        return site

    def check(self, site: Site, shown: dict[str, object], began_s: float) -> None:
        """Whatever happened: each member has one result or is named silent; `complete` says which; it took no longer than said."""
        silent, found = shown["silent"], shown["members"]
        assert isinstance(silent, list)
        assert isinstance(found, dict)
        self.assertEqual(sorted([*found, *silent]), sorted(site.uris()))
        self.assertEqual(shown["complete"], not silent)
        self.assertLessEqual(site.simulation.scheduler.seconds() - began_s, DEADLINE_S + 0.001)


class ReadTests(GroupCase):
    @seeded(5)
    def test_one_datagram(self, simulation: Simulation) -> None:
        """Ten members register, join, and are read with one datagram; nothing is pending when all have stopped."""
        site = self.build(simulation)
        began = len(simulation.network.trace.events)
        shown = site.gateway.read(MEMBERS_CONTENT)
        events = list(simulation.network.trace.events)[began:]
        sent = [event for event in events if event.what is What.SENT and event.node == site.gateway.name]
        self.assertEqual((shown["datagrams"], len(sent)), ({"sent": 1, "received": 10}, 1))
        self.assertTrue(sent[0].destination.startswith("[ff35:40:fd00:"), sent[0].destination)
        self.assertEqual((shown["complete"], values(shown)), (True, measured(site)))
        joins = site.gateway.read("/groups/temps/fanoutSets/1")["joins"]
        site.run(1.0)
        self.assertEqual(joins, dict.fromkeys(site.uris(), "joined"))
        self.assertEqual(site.gateway.read("/groups/temps/fanoutSets/1")["joins"], dict.fromkeys(site.uris(), "proven"))
        site.stop()

    @seeded(5)
    def test_a_write(self, simulation: Simulation) -> None:
        """A group PUT changes the resource on every member; a read gives what was written, at a suffix, too."""
        site = self.build(simulation, 5)
        for path in ("", "/note"):
            site.gateway.ask(Method.PUT, MEMBERS_CONTENT + path, f"12.5{path}".encode())
            shown = site.gateway.read(MEMBERS_CONTENT + path)
            self.assertEqual(values(shown), dict.fromkeys(site.uris(), f"12.5{path}"))
        site.stop()

    @seeded(5)
    def test_a_path_that_is_not_there(self, simulation: Simulation) -> None:
        """Every member says that it has no such resource: that is an answer, and nobody is silent."""
        site = self.build(simulation, 5)
        shown = site.gateway.read(MEMBERS_CONTENT + "/none")
        members = shown["members"]
        assert isinstance(members, dict)
        self.assertEqual((shown["complete"], {result["status"] for result in members.values()}), (True, {"4.04"}))
        site.stop()

    @seeded(5)
    def test_the_same_seed(self, simulation: Simulation) -> None:
        """The same seed gives the same run, datagram for datagram, loss and all."""

        def run(ground: Simulation) -> str:
            ground.network.set_quality(Quality(loss=0.2, delay_s=(0.001, 0.02), repetition=0.1, reordering=0.2))
            site = self.build(ground, 4)
            site.gateway.read(MEMBERS_CONTENT)
            return ground.network.trace.text(10_000)

        first = run(simulation)
        self.assertEqual(run(Simulation(simulation.seed)), first)
        self.assertNotEqual(run(Simulation(simulation.seed + 1000)), first)


class LossTests(GroupCase):
    @seeded(5)
    def test_one_in_five(self, simulation: Simulation) -> None:
        """One packet in five lost each way, from the first registration on: each read ends in time and says truly who answered what."""
        simulation.network.set_quality(Quality(loss=0.2, delay_s=(0.001, 0.02)))
        site = self.build(simulation)
        answered = 0
        for _ in range(10):
            began = simulation.scheduler.seconds()
            shown = site.gateway.read(MEMBERS_CONTENT)
            self.check(site, shown, began)
            found = values(shown)
            self.assertEqual(found, {uri: content for uri, content in measured(site).items() if uri in found})
            answered += len(found)
        self.assertGreaterEqual(answered, 98)

    @seeded(5)
    def test_repetition_and_reordering(self, simulation: Simulation) -> None:
        """Repeated and overtaken datagrams give no member a second result, nor an answer to another question."""
        simulation.network.set_quality(Quality(loss=0.05, delay_s=(0.001, 0.05), repetition=0.3, reordering=0.5, reordering_s=1.0))
        site = self.build(simulation, 6)
        for number in range(8):
            text = f"value {number}".encode()
            began = simulation.scheduler.seconds()
            written = site.gateway.ask(Method.PUT, MEMBERS_CONTENT + "/note", text)
            self.assertIsNotNone(written.payload)
            shown = site.gateway.read(MEMBERS_CONTENT + "/note")
            self.check(site, shown, max(began, simulation.scheduler.seconds() - DEADLINE_S))
            for content in values(shown).values():
                self.assertEqual(content, text.decode())

    @seeded(5)
    def test_partition(self, simulation: Simulation) -> None:
        """Members behind a partition are named silent at the deadline; when it heals they answer again."""
        site = self.build(simulation, 6)
        away = site.members[:2]
        simulation.network.partition(site.gateway.name, [box.name for box in away])
        began = simulation.scheduler.seconds()
        shown = site.gateway.read(MEMBERS_CONTENT)
        self.check(site, shown, began)
        self.assertEqual(shown["silent"], site.uris()[:2])
        self.assertAlmostEqual(simulation.scheduler.seconds() - began, DEADLINE_S, places=3)
        simulation.network.heal()
        shown = site.gateway.read(MEMBERS_CONTENT)
        self.assertEqual((shown["complete"], shown["datagrams"]), (True, {"sent": 1, "received": 6}))

    @seeded(5)
    def test_partition_that_heals_in_time(self, simulation: Simulation) -> None:
        """A partition that ends before the deadline costs time and no answer: the silent are asked until then."""
        site = self.build(simulation, 6)
        simulation.network.partition(site.gateway.name, [site.members[0].name])
        simulation.scheduler.callLater(3.0, simulation.network.heal)
        shown = site.gateway.read(MEMBERS_CONTENT)
        self.assertTrue(shown["complete"])
        members = shown["members"]
        assert isinstance(members, dict)
        self.assertEqual(members[site.uris()[0]]["via"], "repair")


class DeathTests(GroupCase):
    @seeded(5)
    def test_a_member_killed_in_mid_read(self, simulation: Simulation) -> None:
        """A member that dies in mid-read is silent or has answered; back, with its groups from its disk, it answers the next."""
        site = self.build(simulation, 6)
        victim = site.members[2]
        when = simulation.scheduler.generator("when").uniform(0.0, 0.01)
        simulation.scheduler.callLater(when, victim.kill)
        began = simulation.scheduler.seconds()
        shown = site.gateway.read(MEMBERS_CONTENT)
        self.check(site, shown, began)
        self.assertLessEqual(set(site.uris()) - set(values(shown)), {site.uris()[2]})
        site.run(0.01)
        self.assertIsNone(victim.node)
        victim.start()
        # At once: nobody has told it anything; what it knows it has from its own disk.
        shown = site.gateway.read(MEMBERS_CONTENT)
        self.assertEqual((shown["complete"], shown["datagrams"]), (True, {"sent": 1, "received": 6}))
        site.stop()

    @seeded(5)
    def test_a_member_that_lost_its_disk(self, simulation: Simulation) -> None:
        """A member that comes back with nothing is told of its groups when it registers, and is in the next datagram's reach."""
        site = self.build(simulation, 4)
        lost = site.members[0]
        lost.kill()
        lost.database = type(lost.database)(simulation.scheduler.generator("new disk"))
        lost.start()
        site.run_until(lambda: lost.node is not None and len(lost.node.tree.children(("mcGroups",))) == 1)
        site.run(1.0)
        shown = site.gateway.read(MEMBERS_CONTENT)
        self.assertEqual((shown["complete"], shown["datagrams"]), (True, {"sent": 1, "received": 4}))

    @seeded(5)
    def test_a_gateway_killed(self, simulation: Simulation) -> None:
        """The gateway comes back with its group, its addresses and its joins, and needs to tell nobody."""
        site = self.build(simulation, 4)
        site.gateway.read(MEMBERS_CONTENT)
        site.run(1.0)
        before = site.gateway.read("/groups/temps")["fanoutSets"]
        site.gateway.kill()
        site.run(2.0)
        site.gateway.start()
        site.run(0.5)
        self.assertEqual(site.gateway.read("/groups/temps")["fanoutSets"], before)
        shown = site.gateway.read(MEMBERS_CONTENT)
        self.assertEqual((shown["complete"], shown["datagrams"]), (True, {"sent": 1, "received": 4}))

    @seeded(5)
    def test_leaving(self, simulation: Simulation) -> None:
        """A deleted group is left by all its devices, also by one that was away at the time and comes back."""
        site = self.build(simulation, 4)
        away = site.members[0]
        away.kill()
        site.gateway.ask(Method.DELETE, "/groups/temps")
        site.run(120.0)
        away.start()
        site.run(30.0)
        left = [len(box.node.tree.children(("mcGroups",))) for box in site.members if box.node is not None]
        self.assertEqual(left, [0, 0, 0, 0])
        site.stop()


class MoveTests(GroupCase):
    @seeded(5)
    def test_a_member_less_and_one_more(self, simulation: Simulation) -> None:
        """Members that come and go: the next read asks exactly those that are members then."""
        site = self.build(simulation, 5)
        uris = site.uris()
        site.gateway.ask(Method.PUT, "/groups/temps/members", {"members": uris[:3]})
        site.run(2.0)
        self.assertEqual(sorted(values(site.gateway.read(MEMBERS_CONTENT))), sorted(uris[:3]))
        self.assertEqual([len(box.node.tree.children(("mcGroups",))) for box in site.members if box.node is not None], [1, 1, 1, 0, 0])
        site.gateway.ask(Method.POST, "/groups/temps/members", {"members": uris})
        shown = site.gateway.read(MEMBERS_CONTENT)
        self.assertEqual((shown["complete"], sorted(values(shown))), (True, sorted(uris)))
        site.run(2.0)
        shown = site.gateway.read(MEMBERS_CONTENT)
        self.assertEqual(shown["datagrams"], {"sent": 1, "received": 5})
