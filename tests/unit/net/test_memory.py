"""The in-memory network: what a node sees is what it would see of the real one; and it is the same each time."""

from __future__ import annotations

import errno
import ipaddress
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import m2mapp
from m2mapp.model.metrics import Counter, Metrics
from m2mapp.net.addresses import OnLink
from m2mapp.net.interfaces import IDatagramPort, IDatagrams
from m2mapp.net.medium import Quality, What
from m2mapp.net.memory import MemoryDatagrams, MemoryPort, Network
from m2mapp.net.scheduler import Scheduler
from tests.simulation import Simulation, seeded
from tests.unit.net.fakes import Received

GROUP = "ff35:30:fd00::1234"
LINK_GROUP = "ff02::fd"
ANY_IPV4 = "0.0.0.0"  # noqa: S104 - nothing is bound really


class NetworkCase(SynchronousTestCase):
    """A gateway with two links, a device on each, and a stranger on the second; all without faults."""

    def setUp(self) -> None:
        self.scheduler = Scheduler(seed=1)
        self.network = Network(self.scheduler)
        self.metrics = Metrics()
        uplink = ["2001:db8::1/64", "192.0.2.1/24"]
        self.gateway = self.network.attach("gw", {"eth0@up": uplink, "eth1@lan": ["fd00::1/64", "fe80::1/64"]}, self.metrics)
        self.server = self.network.attach("server", {"eth0@up": ["2001:db8::7/64", "192.0.2.7/24"]})
        self.device = self.network.attach("d1", {"lan": ["fd00::d1/64", "fe80::d1/64"]})
        self.other = self.network.attach("d2", {"lan": ["fd00::d2/64"]})

    def open(self, node: MemoryDatagrams, host: str, port: int = 5683) -> tuple[MemoryPort, Received]:
        received = Received()
        return node.open_port(host, port, received), received

    def refused(self) -> dict[str, int]:
        found = {name: instruments for name, _, instruments in self.metrics.collect()}.get("m2mapp_net_send_failures_total", {})
        return {dict(labels)["reason"]: counter.value for labels, counter in found.items() if isinstance(counter, Counter)}

    def reasons(self) -> list[str]:
        return [event.reason for event in self.network.trace.events if event.what is What.DROPPED]


class UnicastTests(NetworkCase):
    def test_interfaces(self) -> None:
        """It provides the interfaces of the real ports."""
        verifyObject(IDatagrams, self.gateway)
        verifyObject(IDatagramPort, self.open(self.gateway, "::")[0])

    def test_there_and_back(self) -> None:
        """A datagram comes with source, destination and the receiver's interface; the answer goes back to that source."""
        port, at_gateway = self.open(self.gateway, "::")
        member, at_member = self.open(self.device, "fd00::d1")
        self.assertTrue(port.send(b"ask", ("fd00::d1", 5683, 0, 0)))
        self.scheduler.advance(1)
        self.assertEqual(at_member.datagrams, [(b"ask", ("fd00::1", 5683, 0, 0), "fd00::d1", self.device.interface_index("lan"))])
        member.send(b"answer", at_member.datagrams[0][1])
        self.scheduler.advance(1)
        self.assertEqual(at_gateway.datagrams, [(b"answer", ("fd00::d1", 5683, 0, 0), "fd00::1", self.gateway.interface_index("eth1"))])

    def test_link_local(self) -> None:
        """A link-local source has the receiver's zone, and the answer goes out by it, without one it is refused."""
        port, at_gateway = self.open(self.gateway, "fe80::1%eth1")
        member, _ = self.open(self.device, "::")
        index = self.gateway.interface_index("eth1")
        self.assertEqual(port.local(), ("fe80::1", 5683, 0, index))
        self.assertTrue(member.send(b"x", ("fe80::1", 5683, 0, self.device.interface_index("lan"))))
        self.assertFalse(member.send(b"x", ("fe80::1", 5683, 0, 0)))
        self.scheduler.advance(1)
        self.assertEqual(at_gateway.datagrams, [(b"x", ("fe80::d1", 5683, 0, index), "fe80::1", index)])

    def test_ipv4(self) -> None:
        """IPv4 has 2-tuples, and a port of one family gets nothing of the other."""
        port, at_server = self.open(self.server, ANY_IPV4)
        self.open(self.server, "::")
        asker, _ = self.open(self.gateway, ANY_IPV4, 0)
        asker.send(b"x", ("192.0.2.7", 5683))
        self.scheduler.advance(1)
        self.assertEqual(at_server.datagrams, [(b"x", ("192.0.2.1", 49152), "192.0.2.7", self.server.interface_index("eth0"))])
        self.assertEqual(port.local(), (ANY_IPV4, 5683))

    def test_chosen_source(self) -> None:
        """A datagram can leave from an address that is named."""
        port, _ = self.open(self.gateway, "::")
        _, at_server = self.open(self.server, "::")
        port.send(b"x", ("2001:db8::7", 5683, 0, 0), source="fd00::1")
        self.scheduler.advance(1)
        self.assertEqual(at_server.datagrams[0][1], ("fd00::1", 5683, 0, 0))

    def test_to_itself(self) -> None:
        """What a node sends to itself comes in by the loopback, whatever the link does."""
        self.network.set_quality(Quality(loss=1.0))
        port, received = self.open(self.gateway, "fd00::1")
        port.send(b"x", port.local())
        self.scheduler.advance(0)
        self.assertEqual(received.datagrams, [(b"x", ("fd00::1", 5683, 0, 0), "fd00::1", 1)])

    def test_what_is_refused(self) -> None:
        """What the system would not take is False and counted by the reason; nothing is on the wire."""
        port, _ = self.open(self.gateway, "::")
        self.assertFalse(port.send(b"x", ("2001:db9::1", 5683, 0, 0)))
        self.assertFalse(port.send(b"x", ("name", 5683, 0, 0)))
        self.assertFalse(port.send(b"x", ("fd00::d1", 0, 0, 0)))
        self.assertFalse(port.send(b"x" * 65508, ("fd00::d1", 5683, 0, 0)))
        self.assertFalse(port.send_to_group(b"x", "fd00::d1", 5683, self.gateway.interface_index("eth1")))
        self.assertFalse(port.send_to_group(b"x", GROUP, 5683, 4711))
        self.successResultOf(port.stop())
        self.assertFalse(port.send(b"x", ("fd00::d1", 5683, 0, 0)))
        self.assertEqual(self.refused(), {"unreachable": 1, "address": 4, "too-large": 1, "closed": 1})
        self.assertEqual((self.network.trace.counts[What.SENT], self.network.trace.counts[What.REFUSED]), (0, 7))

    def test_nobody_there(self) -> None:
        """To an address that nobody has, and to a port that nobody opened: sent, and lost."""
        port, _ = self.open(self.gateway, "::")
        self.assertTrue(port.send(b"x", ("fd00::99", 5683, 0, 0)))
        self.assertTrue(port.send(b"x", ("fd00::d1", 5684, 0, 0)))
        self.scheduler.advance(1)
        self.assertEqual(self.reasons(), ["nobody has the address", "no port"])

    def test_binding(self) -> None:
        """Addresses of others, ports that are taken, zones that are none: refused with the kernel's numbers."""
        port, _ = self.open(self.gateway, "fd00::1")
        for host, number in [
            ("fd00::1", errno.EADDRINUSE),
            ("::", errno.EADDRINUSE),
            ("fd00::d1", errno.EADDRNOTAVAIL),
            ("x", errno.EINVAL),
        ]:
            self.assertEqual(self.assertRaises(OSError, self.open, self.gateway, host).errno, number, host)
        self.assertEqual(self.assertRaises(OSError, self.open, self.gateway, "fe80::1%lan").errno, errno.ENODEV)
        self.open(self.gateway, "2001:db8::1")
        self.successResultOf(port.stop())
        self.open(self.gateway, "fd00::1")

    def test_receiver_that_raises(self) -> None:
        """As at the real port: logged, counted, and the next datagram is handed over."""
        port, received = self.open(self.gateway, "fd00::1")
        received.raises = ZeroDivisionError()
        for _ in range(2):
            port.send(b"x", port.local())
        self.scheduler.advance(1)
        self.assertEqual(len(received.datagrams), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_names_and_addresses(self) -> None:
        """Addresses that two nodes of a link have, and names that two nodes have, are mistakes of the test."""
        self.assertRaises(ValueError, self.network.attach, "d1", {})
        self.assertRaises(ValueError, self.network.attach, "d3", {"lan": ["fd00::d1/64"]})
        self.assertEqual(self.gateway.interface_addresses("eth1")[0], ipaddress.ip_interface("fd00::1/64"))
        on_link = OnLink(self.gateway, ["eth1"])
        self.assertTrue(on_link.contains(("fd00::d1", 1, 0, 0)))
        self.assertFalse(on_link.contains(("2001:db8::7", 1, 0, 0)))
        self.assertTrue(on_link.own("2001:db8::1"))


class GroupTests(NetworkCase):
    def test_one_datagram_for_all(self) -> None:
        """Each port of the link that joined gets a copy, the sender's own too; one datagram was sent."""
        port, at_gateway = self.open(self.gateway, "fd00::1")
        member, at_member = self.open(self.device, "fd00::d1")
        second, at_second = self.open(self.device, "fe80::d1%lan")
        _, at_other = self.open(self.other, "::")
        lan = self.device.interface_index("lan")
        for joining in (member, second):
            joining.join(GROUP, lan)
            joining.join(GROUP, lan)
        port.join(GROUP, self.gateway.interface_index("eth1"))
        self.assertTrue(port.send_to_group(b"ask", GROUP, 5683, self.gateway.interface_index("eth1")))
        self.scheduler.advance(1)
        expected = (b"ask", ("fd00::1", 5683, 0, 0), GROUP, lan)
        self.assertEqual((at_member.datagrams, at_second.datagrams), ([expected], [expected]))
        self.assertEqual((len(at_gateway.datagrams), len(at_other.datagrams)), (1, 0))
        self.assertEqual(self.network.trace.counts[What.SENT], 1)

    def test_interface_is_chosen(self) -> None:
        """A group is joined, left and sent to on one interface only."""
        port, at_gateway = self.open(self.gateway, "::")
        server, _ = self.open(self.server, "::")
        eth0, eth1 = (self.gateway.interface_index(name) for name in ("eth0", "eth1"))
        port.join(LINK_GROUP, eth1)
        server.send_to_group(b"not joined there", LINK_GROUP, 5683, self.server.interface_index("eth0"))
        self.scheduler.advance(1)
        self.assertEqual(at_gateway.datagrams, [])
        port.join(LINK_GROUP, eth0)
        port.leave(LINK_GROUP, eth1)
        port.leave(LINK_GROUP, eth1)
        port.leave("nonsense", eth1)
        server.send_to_group(b"joined", LINK_GROUP, 5683, self.server.interface_index("eth0"))
        self.scheduler.advance(1)
        self.assertEqual(at_gateway.datagrams, [(b"joined", ("2001:db8::7", 5683, 0, 0), LINK_GROUP, eth0)])

    def test_link_scope_source(self) -> None:
        """A wildcard port sends to a link-scope group from its link-local address, as the kernel does."""
        port, _ = self.open(self.gateway, "::")
        member, at_member = self.open(self.device, "::")
        member.join(LINK_GROUP, self.device.interface_index("lan"))
        port.send_to_group(b"x", LINK_GROUP, 5683, self.gateway.interface_index("eth1"))
        self.scheduler.advance(1)
        self.assertEqual(at_member.datagrams[0][1], ("fe80::1", 5683, 0, self.device.interface_index("lan")))

    def test_joins_that_fail(self) -> None:
        """The same errors as of the real port."""
        port, _ = self.open(self.gateway, "::")
        for group, interface, number in [("fd00::1", 3, errno.EINVAL), (GROUP, 0, errno.ENODEV), (GROUP, 4711, errno.ENODEV)]:
            self.assertEqual(self.assertRaises(OSError, port.join, group, interface).errno, number)
        self.successResultOf(port.stop())
        self.assertEqual(self.assertRaises(OSError, port.join, GROUP, 3).errno, errno.EBADF)


class FaultTests(NetworkCase):
    def setUp(self) -> None:
        super().setUp()
        self.port, self.at_gateway = self.open(self.gateway, "fd00::1")
        self.member, self.at_member = self.open(self.device, "fd00::d1")

    def ask(self, times: int = 1) -> None:
        for number in range(times):
            self.port.send(number.to_bytes(2, "big"), ("fd00::d1", 5683, 0, 0))
        self.scheduler.advance(10)

    def test_loss_by_direction(self) -> None:
        """What is set for a direction holds before the link's, and that before the rest."""
        self.network.set_quality(Quality(loss=1.0))
        self.network.set_quality(Quality(), direction=("gw", "d1"))
        self.ask()
        self.member.send(b"answer", self.port.local())
        self.scheduler.advance(1)
        self.assertEqual((len(self.at_member.datagrams), len(self.at_gateway.datagrams)), (1, 0))
        self.network.set_quality(Quality(), link="lan")
        self.member.send(b"answer", self.port.local())
        self.scheduler.advance(1)
        self.assertEqual((self.reasons(), len(self.at_gateway.datagrams)), (["loss"], 1))

    def test_partition(self) -> None:
        """Nothing passes in either direction until it is healed, and others are not concerned."""
        _, at_other = self.open(self.other, "::")
        self.network.partition("gw", ["d1"])
        self.ask()
        self.member.send(b"x", self.port.local())
        self.port.send(b"x", ("fd00::d2", 5683, 0, 0))
        self.scheduler.advance(1)
        self.assertEqual((self.reasons(), len(at_other.datagrams)), (["partition", "partition"], 1))
        self.network.heal()
        self.ask()
        self.assertEqual(len(self.at_member.datagrams), 1)

    def test_mtu(self) -> None:
        """The size of the IP packet counts: 48 bytes of IPv6 and UDP header and the payload."""
        self.network.set_quality(Quality(mtu=1280))
        for size in (1232, 1233):
            self.assertTrue(self.port.send(bytes(size), ("fd00::d1", 5683, 0, 0)))
        self.scheduler.advance(1)
        self.assertEqual(([len(data) for data in self.at_member.payloads], self.reasons()), ([1232], ["larger than the MTU"]))

    def test_delay_keeps_order(self) -> None:
        """A range of delays alone lets nothing overtake; reordering does, and loses nothing."""
        self.network.set_quality(Quality(delay_s=(0.001, 0.5)))
        self.ask(100)
        self.assertEqual(self.at_member.payloads, sorted(self.at_member.payloads))
        self.at_member.datagrams.clear()
        self.network.set_quality(Quality(delay_s=(0.001, 0.002), reordering=0.3))
        self.ask(100)
        self.assertEqual(len(self.at_member.datagrams), 100)
        self.assertNotEqual(self.at_member.payloads, sorted(self.at_member.payloads))

    def test_repetition(self) -> None:
        """A repeated datagram arrives twice, and its number in the trace says so."""
        self.network.set_quality(Quality(repetition=1.0))
        self.ask()
        self.assertEqual(len(self.at_member.datagrams), 2)
        numbers = [event.number for event in self.network.trace.events if event.what is What.DELIVERED]
        self.assertEqual(numbers, [1, 1])

    def test_node_down_and_up(self) -> None:
        """The ports of a killed node are gone; what was on its way is lost; brought up, it opens its ports anew."""
        self.port.send(b"on its way", ("fd00::d1", 5683, 0, 0))
        self.network.down("d1")
        self.scheduler.advance(1)
        self.assertEqual(self.reasons(), ["down"])
        self.assertFalse(self.member.send(b"x", self.port.local()))
        self.assertEqual(self.assertRaises(OSError, self.open, self.device, "fd00::d1").errno, errno.ENETDOWN)
        self.network.up("d1")
        self.ask()
        _, received = self.open(self.device, "fd00::d1")
        self.ask()
        self.assertEqual((self.reasons(), len(received.datagrams), len(self.at_member.datagrams)), (["down", "no port"], 1, 0))

    def test_settings_that_are_none(self) -> None:
        """A probability above one, a range that runs backwards: refused, with the name."""
        for wrong in ({"loss": 1.5}, {"repetition": -0.1}, {"delay_s": (2.0, 1.0)}, {"reordering_s": -1.0}):
            error = self.assertRaises(ValueError, Quality, **wrong)
            self.assertIn(next(iter(wrong)), str(error))

    def test_trace_is_bounded(self) -> None:
        """The trace keeps the last events, the counts go on; a line names who, whence, where to and why."""
        self.network.set_quality(Quality(loss=1.0))
        for _ in range(6000):
            self.port.send(b"x", ("fd00::d1", 5683, 0, 0))
        self.assertEqual((len(self.network.trace.events), self.network.trace.counts[What.SENT]), (10_000, 6000))
        line = self.network.trace.text(last=1)
        self.assertEqual(line.strip(), "0.000000 dropped   #6000 d1: [fd00::1]:5683 > [fd00::d1]:5683, 1 bytes (loss)")


def conversation(seed: int) -> str:
    """Twenty nodes that answer group requests, and each other, over a bad link: all of the traffic as text."""
    scheduler = Scheduler(seed)
    network = Network(scheduler)
    network.set_quality(Quality(loss=0.2, delay_s=(0.001, 0.1), repetition=0.1, reordering=0.1))
    gateway = network.attach("gw", {"lan": ["fd00::1/64"]}).open_port("::", 5683, Received())
    for number in range(20):
        node = network.attach(f"d{number}", {"lan": [f"fd00::d{number}/64"]})
        received = Received()
        port = node.open_port("::", 5683, received)
        port.join(GROUP, node.interface_index("lan"))

        def answer(received: Received = received, port: MemoryPort = port) -> None:
            if received.datagrams[-1][2] == GROUP:
                port.send(b"answer", received.datagrams[-1][1])

        received.then = answer
    for second in range(5):
        scheduler.callLater(second, gateway.send_to_group, b"ask", GROUP, 5683, 2)
    scheduler.run_until(60)
    return network.trace.text(last=10_000)


class OneInterfaceTests(SynchronousTestCase):
    def test_beside_each_other(self) -> None:
        """Wildcard ports of one number on an interface each get what comes in there; a third, or one of all interfaces, has no room."""
        scheduler = Scheduler(1)
        network = Network(scheduler)
        box = network.attach("box", {"left": ["fd00:1::1/64"], "right": ["fd00:2::1/64"]})
        received = {name: Received() for name in ("left", "right")}
        for name, number in (("left", 1), ("right", 2)):
            box.open_port(f"::%{name}", 546, received[name])
            other = network.attach(f"at {name}", {name: [f"fd00:{number}::2/64"]}).open_port("::", 1, Received())
            other.send(name.encode(), (f"fd00:{number}::1", 546, 0, 0))
        scheduler.advance(1)
        self.assertEqual({name: each.payloads for name, each in received.items()}, {"left": [b"left"], "right": [b"right"]})
        for host in ("::%left", "::"):
            self.assertRaises(OSError, box.open_port, host, 546, Received())


class DeterminismTests(SynchronousTestCase):
    def test_same_seed(self) -> None:
        """The same seed gives the same traffic to the last line, in another process with other hash values too; another seed does not."""
        here = conversation(7)
        program = "from tests.unit.net.test_memory import conversation; print(conversation(7), end='')"
        for hash_seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
            root = Path(m2mapp.__file__).parent.parent
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=root, check=True)
            self.assertEqual(done.stdout, here)
        self.assertNotEqual(conversation(8), here)
        for what in ("delivered", "(loss)"):
            self.assertIn(what, here)


class SeededTests(SynchronousTestCase):
    seen: list[int]

    def setUp(self) -> None:
        self.seen = []
        for name in ("M2MAPP_SEED", "M2MAPP_SEEDS"):
            if name in os.environ:
                self.patch(os, "environ", {key: value for key, value in os.environ.items() if not key.startswith("M2MAPP_SEED")})

    @seeded(3)
    def test_one_in_five_lost(self, simulation: Simulation) -> None:
        """With one datagram in five lost, between 600 and 1000 of 1000 arrive under every seed."""
        network = simulation.network
        network.set_quality(Quality(loss=0.2))
        received = Received()
        one = network.attach("one", {"lan": ["fd00::1/64"]}).open_port("::", 1, Received())
        network.attach("two", {"lan": ["fd00::2/64"]}).open_port("::", 1, received)
        for _ in range(1000):
            one.send(b"x", ("fd00::2", 1, 0, 0))
        simulation.scheduler.advance(1)
        self.assertTrue(600 < len(received.datagrams) < 1000, len(received.datagrams))

    def test_failure_names_the_seed(self) -> None:
        """A failure says under which seed, and shows the last traffic; one seed can be run alone."""

        def fails_under_two(case: SeededTests, simulation: Simulation) -> None:
            case.seen.append(simulation.seed)
            port = simulation.network.attach("gw", {"lan": ["fd00::1/64"]}).open_port("::", 5683, Received())
            port.send(b"x", ("fd00::9", 5683, 0, 0))
            case.assertNotEqual(simulation.seed, 2)

        error = self.assertRaises(AssertionError, seeded(4)(fails_under_two), self)
        self.assertIn("M2MAPP_SEED=2", str(error))
        self.assertIn("nobody has the address", str(error))
        self.assertEqual(self.seen, [1, 2])
        self.patch(os, "environ", {**os.environ, "M2MAPP_SEED": "9"})
        seeded(4)(fails_under_two)(self)
        self.assertEqual(self.seen, [1, 2, 9])

    def test_logged_errors_fail(self) -> None:
        """A receiver that raised fails the seed, though the port went on."""

        def logs(case: SeededTests, simulation: Simulation) -> None:
            port = simulation.network.attach("gw", {"lan": ["fd00::1/64"]}).open_port("fd00::1", 5683, Received(raises=ZeroDivisionError()))
            port.send(b"x", port.local())
            simulation.scheduler.advance(1)

        error = self.assertRaises(AssertionError, seeded(1)(logs), self)
        self.assertIn("ZeroDivisionError", str(error))
