"""A whole node under mutations of real datagrams: nothing fails, nothing forbidden is sent, nothing piles up, honest clients are served.

A seed is five thousand datagrams; the two hundred seeds of `make soak` are a million.
"""

from __future__ import annotations

import gc
import sys

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import message, requests, things
from m2mapp.coap.service import CoapService
from tests.simulation import Simulation, seeded
from tests.unit.simulation.hostile import SETTLE_S, Neighbourhood, clear, furnish, hostile_gateway
from tests.unit.simulation.world import Box

_ROUNDS, _DATAGRAMS = 10, 500
_WARM_ROUNDS = 3
_GROWTH_BLOCKS = 7_000
"""So many blocks of memory may stay of 3,500 datagrams, two for each: caches fill, and the simulated disk keeps what it was told."""


class HostileTests(SynchronousTestCase):
    @seeded(2)
    def test_mutations(self, simulation: Simulation) -> None:
        """Ten rounds of mutations from thirty sources; after each the next good requests are answered and all tables are empty."""
        gateway = hostile_gateway(simulation)
        around = Neighbourhood(simulation)
        blocks = []
        for number in range(1, _ROUNDS + 1):
            furnish(gateway, around.member_hosts)
            around.round(_DATAGRAMS)
            self.assertEqual(around.forbidden, [])
            self.assertEqual([around.ask_well(code, b"good").code for code in (things.PUT, things.GET)], [things.CREATED, things.CONTENT])
            clear(gateway)
            simulation.scheduler.advance(SETTLE_S)
            self.check_tables(gateway)
            if number in (_WARM_ROUNDS, _ROUNDS):
                simulation.network.trace.events.clear()
                message._short.clear()  # What is remembered of options is bounded, and not full yet.
                requests._known.clear()
                gc.collect()
                blocks.append(sys.getallocatedblocks())
        self.assertLess(blocks[1] - blocks[0], _GROWTH_BLOCKS)
        self.check_reach(around)
        gateway.stop()

    def check_tables(self, gateway: Box) -> None:
        """Nothing of what was sent is kept any more."""
        assert gateway.node is not None
        coap = gateway.node.part(CoapService)
        peers, server = coap.endpoint.layers[0].peers, coap.server
        kept = (len(peers), peers.messages, peers.bytes, len(server.kept), server.kept.bytes, len(server.uploads), server.uploads.bytes)
        self.assertEqual(kept, (0,) * len(kept))
        self.assertEqual((len(server.observers), server.under_way, len(coap.endpoint.tokens), len(coap.client.shared)), (0, 0, 0, 0))

    def check_reach(self, around: Neighbourhood) -> None:
        """The mutations reach the code that they are for: of each sort of answer there are many."""
        for code in (
            things.CONTENT,
            things.CHANGED,
            things.CONTINUE,
            things.BAD_REQUEST,
            things.BAD_OPTION,
            things.FORBIDDEN,
            things.NOT_FOUND,
        ):
            self.assertGreater(around.answered[code], 20, f"{code:#x}: {around.answered}")
        self.assertGreater(around.asked_of_members, 20)
