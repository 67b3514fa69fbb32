"""From power to a group: an address, the bootstrap service, the servers, the groups; over bad links, restarts, and to another service."""

from __future__ import annotations

import json
from ipaddress import IPv6Address, IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.messages import Method
from m2mapp.net.interfaces import AddressState
from m2mapp.net.medium import Quality
from tests.simulation import Simulation, seeded
from tests.unit.simulation.chain import BOOTSTRAP_URI, Chain, build_chain

_SERVERS = {"bs.example.org": "fd00::b5", "bs2.example.org": "fd00::b6"}


def _group(chain: Chain) -> set[str]:
    """Make a group of all devices, and read it when they have joined: how each answered."""
    chain.gateway.ask(Method.POST, "/groups", {"name": "temps", "members": chain.site.uris()})
    chain.run_until(lambda: chain.gateway.read("/groups/temps")["state"] == "ready", 200)
    answer = json.loads(chain.gateway.ask(Method.GET, "/groups/temps/membersContent").payload)
    assert not answer["silent"]
    return {one["via"] for one in answer["members"].values()}


class ChainTests(SynchronousTestCase):
    def test_power_on(self) -> None:
        """Two devices have power: each has an address by DHCPv6, is bootstrapped, registered, in a group, and answers in it."""
        chain = build_chain(Simulation(1), 2)
        for device in chain.devices:
            device.start()
        chain.run_until(chain.all_registered, 30)
        learned = chain.devices[0].read("/node/address")
        self.assertEqual((learned["bootstrapURI"], learned["state"]), (BOOTSTRAP_URI, "preferred"))
        self.assertEqual(chain.devices[0].read("/node")["roles"], ["coap", "device", "member", "sim"])
        told = chain.devices[0].read("/node/lwm2m")
        self.assertEqual((told["endpoint"], [one["uri"] for one in told["servers"]]), ("d1", ["coap://[fd00::1]"]))  # type: ignore[attr-defined]
        self.assertEqual(chain.gateway.read("/scls/d1")["addresses"], [learned["address"]])
        self.assertEqual(_group(chain), {"multicast"})
        chain.stop()

    @seeded(3)
    def test_bad_link(self, simulation: Simulation) -> None:
        """One datagram in five is lost, some are late or come twice: of ten devices none is forgotten, and each is known as it is."""
        chain = build_chain(simulation, 10)
        simulation.network.set_quality(Quality(loss=0.2, repetition=0.1, delay_s=(0.0005, 0.02)))
        for device in chain.devices:
            device.start()
        chain.run_until(chain.all_registered, 7200)  # a Solicit is repeated after an hour at last
        addresses = {str(chain.attribute(device, "node", "address")["address"]) for device in chain.devices}
        self.assertEqual(len(addresses), 10)
        names = [f"d{number}" for number in range(1, 11)]
        chain.run_until(lambda: "bootstrapping" not in map(chain.server_says, names), 300)
        # All answers to a Finish can be lost: then the device is done, and the server cannot know.
        unknown = [chain.attribute(chain.servers[0], "devices", name).get("why") for name in names if chain.server_says(name) == "failed"]
        self.assertTrue(all(str(why).startswith("POST /bs: ") for why in unknown), unknown)
        self.assertLess(len(unknown), 4)
        chain.stop()

    @seeded(3)
    def test_power_cuts(self, simulation: Simulation) -> None:
        """The power of a device fails again and again, at any step: in the end it has one address, one registration, and its servers."""
        chain = build_chain(simulation, 1)
        chance = simulation.scheduler.generator("power")
        (device,) = chain.devices
        for _ in range(6):
            device.start()
            simulation.scheduler.advance(chance.uniform(0.0, 4.0))
            device.kill()
            simulation.scheduler.advance(0.5)
        device.start()
        chain.run_until(lambda: chain.attribute(device, "node", "lwm2m") != {}, 120)
        chain.run_until(lambda: device.read("/node/address").get("usableSince") is not None and chain.all_registered(), 120)
        leases = [one for one in chain.gateway.node.tree.walk(("leases",)) if one.type == "lease"] if chain.gateway.node else []
        self.assertEqual([one.attributes["address"] for one in leases], [device.read("/node/address")["address"]])
        chain.stop()

    def test_restart(self) -> None:
        """A device that has started again has its address by a Confirm, and registers where it was told: nobody bootstraps it again."""
        chain = build_chain(Simulation(1), 1)
        (device,) = chain.devices
        device.start()
        chain.run_until(chain.all_registered, 30)
        before = device.read("/node/address")["address"], device.read("/node/lwm2m")
        device.stop()
        self.assertEqual(chain.registered(), set())
        chain.servers[0].stop()
        device.start()
        chain.run_until(chain.all_registered, 30)
        self.assertEqual((device.read("/node/address")["address"], device.read("/node/lwm2m")), before)
        chain.stop()

    def test_duplicate(self) -> None:
        """Another host has the address that a device was given: it declines, is given another one, and goes on with that."""
        chain = build_chain(Simulation(1), 1)
        (device,) = chain.devices
        device.host.states = [AddressState.TENTATIVE, AddressState.DUPLICATE]
        device.start()
        chain.run_until(chain.all_registered, 60)
        states = sorted(str(one.attributes["state"]) for one in chain.gateway.node.tree.walk(("leases",)) if one.type == "lease")  # type: ignore[union-attr]
        self.assertEqual(len(device.host.addresses), 1)
        self.assertEqual(states, ["bound", "declined"])
        chain.stop()

    def test_changing_hands(self) -> None:
        """The gateway tells of another bootstrap server: by Reconfigure the device moves at once, and leaves the servers it had."""
        chain = build_chain(Simulation(1), 1, _SERVERS)
        second = chain.servers[1]
        second.ask(Method.PUT, "/bs/all", {"default": True, "servers": [{"shortId": 7, "uri": "coap://[fd00::b6]"}]})
        (device,) = chain.devices
        device.start()
        chain.run_until(chain.all_registered, 30)
        chain.gateway.kill()
        chain.gateway.settings = chain.with_uri("coap://[fd00::b6]")
        chain.gateway.start()
        chain.run_until(lambda: chain.names_at(second) == {"d1"}, 60)
        chain.run_until(lambda: chain.registered() == set(), 10)
        self.assertEqual(chain.server_says("d1", second), "bootstrapped")
        chain.stop()

    def test_renumbered(self) -> None:
        """The prefix is another one: devices have other addresses, their registrations and their group follow, nobody is silent."""
        chain = build_chain(Simulation(1), 3)
        for device in chain.devices:
            device.start()
        chain.run_until(chain.all_registered, 30)
        self.assertEqual(_group(chain), {"multicast"})
        before = {device.read("/node/address")["address"] for device in chain.devices}
        prefix = IPv6Network("fd01::/64")
        chain.gateway.kill()
        chain.gateway.settings = chain.with_prefix(prefix)
        chain.gateway.start()

        def followed() -> bool:
            found = [chain.attribute(chain.gateway, "scls", f"d{number}").get("addresses", ()) for number in (1, 2, 3)]
            return all(one and IPv6Address(one[0]) in prefix for one in found)  # type: ignore[index]

        chain.run_until(followed, 120)
        now = {device.read("/node/address")["address"] for device in chain.devices}
        self.assertEqual((len(now), now & before), (3, set()))
        chain.run_until(lambda: chain.gateway.read("/groups/temps")["state"] == "ready", 200)
        answer = json.loads(chain.gateway.ask(Method.GET, "/groups/temps/membersContent").payload)
        self.assertEqual((answer["silent"], {one["via"] for one in answer["members"].values()}), ([], {"multicast"}))
        chain.stop()

    def test_new_server_is_away(self) -> None:
        """The service that it is told of does not answer: its registrations stay, and it moves when the other one is there."""
        chain = build_chain(Simulation(1), 1, _SERVERS)
        second = chain.servers[1]
        second.ask(Method.PUT, "/bs/all", {"default": True, "servers": [{"shortId": 7, "uri": "coap://[fd00::b6]"}]})
        second.kill()
        (device,) = chain.devices
        device.start()
        chain.run_until(chain.all_registered, 30)
        chain.gateway.kill()
        chain.gateway.settings = chain.with_uri("coap://[fd00::b6]")
        chain.gateway.start()
        chain.site.run(200)
        self.assertEqual(chain.registered(), {"d1"})
        second.start()
        chain.run_until(lambda: chain.names_at(second) == {"d1"}, 400)
        self.assertEqual(chain.registered(), set())
        chain.stop()
