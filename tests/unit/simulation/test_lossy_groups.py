"""Groups on a network that loses one packet in five each way, for each member by itself: who answers, what is done, how fast, how often."""

from __future__ import annotations

import json
from collections import Counter
from statistics import median

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.settings import GroupSettings
from m2mapp.model.messages import Method
from m2mapp.net.medium import Quality, What
from tests.simulation import Simulation, seeded
from tests.unit.simulation.world import Site, build_site

CONTENT = "/groups/temps/membersContent"
MEMBERS, OPERATIONS = 20, 20
ONE_WAY_S = (0.008, 0.012)
ROUND_TRIP_S = sum(ONE_WAY_S)


class LossyCase(SynchronousTestCase):
    def build(self, simulation: Simulation, loss: float, delay_s: tuple[float, float] = ONE_WAY_S) -> Site:
        """A gateway with a group of twenty, all joined before the first packet is lost."""
        simulation.network.set_quality(Quality(delay_s=delay_s))
        site = build_site(simulation, MEMBERS, GroupSettings(deadline_s=10.0))
        site.make_group()
        simulation.network.set_quality(Quality(loss=loss, delay_s=delay_s))
        return site

    def sent(self, site: Site, since_s: float) -> int:
        """How many datagrams the gateway has sent since then."""
        events = site.simulation.network.trace.events
        return sum(event.what is What.SENT and event.node == site.gateway.name and event.at_s >= since_s for event in events)

    def members(self, shown: dict[str, object]) -> dict[str, dict[str, object]]:
        """The members' entries."""
        found = shown["members"]
        assert isinstance(found, dict)
        return found


class LossTests(LossyCase):
    @seeded(2)
    def test_reads(self, simulation: Simulation) -> None:
        """Of the answers 99.9 % come, the others are named; half of the reads take the leisure time and five round trips at most.

        At most one and a half datagrams are sent for each member.
        """
        site = self.build(simulation, 0.2)
        leisure_s = float(str(site.gateway.read("/groups/temps/fanoutSets/1")["leisure"]))
        took, sent, answered = [], 0, 0
        for _ in range(2 * OPERATIONS):
            began_s = simulation.scheduler.seconds()
            shown = site.gateway.read(CONTENT)
            members, silent = self.members(shown), shown["silent"]
            assert isinstance(silent, list)
            self.assertEqual(sorted([*members, *silent]), sorted(site.uris()))
            took.append(float(str(shown["ms"])) / 1000 - leisure_s)
            sent += self.sent(site, began_s)
            answered += len(members)
            site.run(0.2)
        whole = MEMBERS * 2 * OPERATIONS
        self.assertGreaterEqual(answered, 0.999 * whole)
        self.assertLessEqual(median(took), 5 * ROUND_TRIP_S)
        self.assertLessEqual(sent, 1.5 * whole)

    @seeded(2)
    def test_writes(self, simulation: Simulation) -> None:
        """Twenty PUTs and twenty POSTs, each of another value: each answered write was done at its member, none twice."""
        site = self.build(simulation, 0.2)
        done: Counter[tuple[str, bytes]] = Counter()
        for uri, box in zip(site.uris(), site.members, strict=True):
            assert box.node is not None
            box.node.tree.watch(("temperature",), lambda change, uri=uri: done.update([(uri, change.after.content)]))  # type: ignore[misc]
        answered = []
        for number in range(2 * OPERATIONS):
            value = b"%d" % number
            method = (Method.PUT, Method.POST)[number % 2]
            shown = json.loads(site.gateway.ask(method, CONTENT, value).payload)
            answered += [(uri, value) for uri, entry in self.members(shown).items() if entry["status"] == "2.04"]
        self.assertGreaterEqual(len(answered), 0.999 * MEMBERS * 2 * OPERATIONS)
        self.assertEqual(set(answered) - set(done), set())
        self.assertEqual({times for times in done.values()}, {1})


class NoLossTests(LossyCase):
    @seeded(2)
    def test_one_datagram(self, simulation: Simulation) -> None:
        """Where nothing is lost one request datagram leaves and nothing else, however much the delays differ."""
        site = self.build(simulation, 0.0, (0.001, 0.03))
        for _ in range(OPERATIONS):
            began_s = simulation.scheduler.seconds()
            shown = site.gateway.read(CONTENT)
            self.assertEqual((shown["complete"], shown["datagrams"]), (True, {"sent": 1, "received": MEMBERS}))
            self.assertEqual(self.sent(site, began_s), 1)
            site.run(0.2)
