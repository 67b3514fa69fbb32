"""Writes with an identifier on whole nodes that die and links that lose: each is done once, and answered again after a restart."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.service import CoapService
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import Conflict, LoopDetected
from m2mapp.model.messages import Answer, GroupOutgoing, Method
from m2mapp.net.medium import Quality
from tests.simulation import Simulation, seeded
from tests.unit.simulation.world import Box, Site, build_site

LOG = "/groups/temps/membersContent/log"
DEADLINE_S = 10.0
IDENTIFIER = b"12345678"


def lines(box: Box) -> int:
    """How many lines the log of a member that runs has: each POST to it makes one."""
    return len(box.node.tree.children(("temperature", "log"))) if box.node is not None else 0


class OnceCase(SynchronousTestCase):
    def build(self, simulation: Simulation, members: int = 3) -> Site:
        """A gateway with a group `temps` of so many members, all joined; each has a log with one line."""
        site = build_site(simulation, members, GroupSettings(deadline_s=DEADLINE_S))
        site.make_group()
        site.gateway.ask(Method.PUT, LOG + "/first", b"begun")
        return site

    def statuses(self, payload: bytes) -> list[str]:
        """What the members answered."""
        shown = json.loads(payload)
        self.assertEqual((shown["complete"], shown["loops"]), (True, 0))
        return [entry["status"] for entry in shown["members"].values()]


class MemberTests(OnceCase):
    @seeded(3)
    def test_killed_between_the_write_and_the_repair(self, simulation: Simulation) -> None:
        """Members act, their answers are lost, they die and come back: the repair gets the first answer, and nothing is done twice."""
        site = self.build(simulation)
        for box in site.members:
            simulation.network.set_quality(Quality(loss=1.0), direction=(box.name, site.gateway.name))
        asked = site.gateway.send(Method.POST, LOG, b"on")
        site.run_until(lambda: all(lines(box) == 2 for box in site.members), 3.0)
        for box in site.members:
            box.kill()
        self.assertNoResult(asked)
        for box in site.members:
            box.start()
            simulation.network.set_quality(Quality(), direction=(box.name, site.gateway.name))
        response = simulation.scheduler.run_until_fired(asked, 20)
        self.assertEqual(self.statuses(response.payload), ["2.01"] * 3)
        self.assertEqual([lines(box) for box in site.members], [2, 2, 2])
        site.stop()

    @seeded(4)
    def test_killed_at_any_time(self, simulation: Simulation) -> None:
        """Loss, repetition, and members that die at any moment: whoever answered has done each write once, and nobody twice."""
        site = self.build(simulation)
        simulation.network.set_quality(Quality(loss=0.2, delay_s=(0.001, 0.02), repetition=0.2, reordering=0.2))
        when = simulation.scheduler.generator("when")
        done = [1] * 3
        for number in range(6):
            victim = site.members[number % 3]
            simulation.scheduler.callLater(when.uniform(0.0, 0.08), victim.kill)
            simulation.scheduler.callLater(0.1 + when.uniform(0.0, 0.3), victim.start)
            shown = json.loads(site.gateway.ask(Method.POST, LOG, b"on").payload)
            site.run(0.5)
            for place, uri in enumerate(site.uris()):
                if shown["members"].get(uri, {}).get("status") == "2.01":
                    done[place] += 1
                self.assertLessEqual(lines(site.members[place]), number + 2)
        for place, box in enumerate(site.members):
            self.assertGreaterEqual(lines(box), done[place])
        site.stop()

    @seeded(2)
    def test_another_gateway(self, simulation: Simulation) -> None:
        """The same request from another requester, to the whole group: each member says that it was here, and acts no more."""
        site = self.build(simulation)
        site.gateway.ask(Method.POST, LOG, b"on", request_id=IDENTIFIER)
        assert site.gateway.node is not None
        address = str(site.gateway.read("/groups/temps/fanoutSets/1")["fanoutAddress"])
        heard: list[Answer] = []
        again = GroupOutgoing(Method.POST, address, ("temperature", "log"), payload=b"on", content_type="text/plain", request_id=IDENTIFIER)
        gathering = site.gateway.node.part(CoapService).send_to_group(again, heard.append)
        site.run(2.0)
        gathering.close()
        self.assertEqual([(answer.code, answer.max_age_s) for answer in heard], [("5.08", 0)] * 3)
        self.assertEqual([lines(box) for box in site.members], [2, 2, 2])
        site.stop()


class GatewayTests(OnceCase):
    @seeded(2)
    def test_asked_again_after_a_kill(self, simulation: Simulation) -> None:
        """A group's write that was answered is known to the gateway that comes back: the first answer, and not a datagram."""
        site = self.build(simulation)
        first = site.gateway.ask(Method.POST, LOG, b"on", request_id=IDENTIFIER)
        self.assertEqual(self.statuses(first.payload), ["2.01"] * 3)
        site.gateway.kill()
        site.gateway.start()
        again = site.gateway.ask(Method.POST, LOG, b"on", request_id=IDENTIFIER)
        self.assertEqual(again.payload, first.payload)
        self.failureResultOf(site.gateway.send(Method.POST, LOG, b"on", request_id=IDENTIFIER, requester=b"gateway2"), LoopDetected)
        self.failureResultOf(site.gateway.send(Method.POST, LOG, b"off", request_id=IDENTIFIER), Conflict)
        site.run(1.0)
        self.assertEqual([lines(box) for box in site.members], [2, 2, 2])
        site.stop()

    @seeded(2)
    def test_killed_while_it_asks(self, simulation: Simulation) -> None:
        """A gateway that dies in the middle asks again with the caller's identifier: who acted says so, and does not act twice."""
        site = self.build(simulation)
        deaf = site.members[0]
        simulation.network.set_quality(Quality(loss=1.0), direction=(site.gateway.name, deaf.name))
        site.gateway.send(Method.POST, LOG, b"on", request_id=IDENTIFIER).addErrback(lambda _: None)
        site.run_until(lambda: [lines(box) for box in site.members] == [1, 2, 2], 3.0)
        site.gateway.kill()
        simulation.network.set_quality(Quality(), direction=(site.gateway.name, deaf.name))
        site.gateway.start()
        again = site.gateway.ask(Method.POST, LOG, b"on", request_id=IDENTIFIER)
        self.assertEqual(self.statuses(again.payload), ["2.01"] * 3)
        self.assertEqual([lines(box) for box in site.members], [2, 2, 2])
        site.stop()

    @seeded(2)
    def test_two_at_once(self, simulation: Simulation) -> None:
        """Two copies that arrive together are one operation with one answer."""
        site = self.build(simulation)
        both = [site.gateway.send(Method.POST, LOG, b"on", request_id=IDENTIFIER) for _ in range(2)]
        first, second = (simulation.scheduler.run_until_fired(one, 20) for one in both)
        self.assertEqual(first, second)
        self.assertEqual([lines(box) for box in site.members], [2, 2, 2])
        site.stop()
