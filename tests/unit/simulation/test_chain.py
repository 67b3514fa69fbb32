"""From power to a group: an address, the bootstrap service, the servers, the groups; over bad links, restarts, and to another service."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.messages import Method
from tests.simulation import Simulation
from tests.unit.simulation.chain import BOOTSTRAP_URI, build_chain


class ChainTests(SynchronousTestCase):
    def test_power_on(self) -> None:
        """Two devices have power: each has an address by DHCPv6, is bootstrapped, registered, in a group, and answers in it."""
        chain = build_chain(Simulation(1), 2)
        for device in chain.devices:
            device.start()
        chain.run_until(chain.all_registered, 30)
        learned = chain.devices[0].read("/node/address")
        self.assertEqual(learned["bootstrapURI"], BOOTSTRAP_URI)
        chain.gateway.ask(Method.POST, "/groups", {"name": "temps", "members": chain.site.uris()})
        chain.run_until(lambda: chain.gateway.read("/groups/temps")["state"] == "ready", 30)
        answer = json.loads(chain.gateway.ask(Method.GET, "/groups/temps/membersContent").payload)
        self.assertEqual({one["via"] for one in answer["members"].values()}, {"multicast"})
        chain.stop()
