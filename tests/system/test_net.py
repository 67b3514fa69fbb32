"""The real UDP ports on links of their own: destination, interface, zone, hop limit, membership, bursts. In network namespaces."""

from __future__ import annotations

import json
import socket
import struct
from ipaddress import IPv6Interface
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.metrics import Counter, Metrics
from m2mapp.net import host as host_module
from m2mapp.net.addresses import OnLink
from m2mapp.net.reading import Reader
from m2mapp.net.udp import Port, SystemDatagrams
from tests.system import namespaces
from tests.system.namespaces import Host, Lab, skip_reason, wait_until
from tests.unit.net.fakes import ReadingReactor, Received

GROUP = "ff35:30:fd00:1::1234"
LINK_GROUP = "ff02::fd"
ANY_IPV4 = "0.0.0.0"  # noqa: S104 - in a namespace
_SKIP = skip_reason()


class Node:
    """The datagrams of one host, opened from this process."""

    def __init__(self, host: Host, reactor: ReadingReactor) -> None:
        self.host = host
        self.metrics = Metrics()
        self.datagrams = SystemDatagrams(reactor, self.metrics)
        self.ports: list[Port] = []

    def open(self, address: str, port: int = 5683) -> tuple[Port, Received]:
        received = Received()
        with self.host.entered():
            self.ports.append(self.datagrams.open_port(address, port, received))
        return self.ports[-1], received

    def index(self, name: str = "eth0") -> int:
        with self.host.entered():
            return self.datagrams.interface_index(name)

    def join(self, port: Port, group: str, interface: str = "eth0") -> None:
        with self.host.entered():
            port.join(group, self.index(interface))

    def count(self, name: str) -> int:
        counters = next(instruments for found, _, instruments in self.metrics.collect() if found == name)
        return sum(counter.value for counter in counters.values() if isinstance(counter, Counter))


class LabCase(SynchronousTestCase):
    """A gateway with two links, and a host on each of them."""

    skip = _SKIP

    def setUp(self) -> None:
        self.reactor = ReadingReactor()
        self.lab = self.enterContext(Lab())
        self.addCleanup(self.close_ports)
        gateway = self.lab.host("gw", ["fd00:1::1/64", "10.1.0.1/16"], link="lan1")
        gateway.connect("lan2", ["fd00:2::1/64", "10.2.0.1/16"], "eth1")
        self.gateway = Node(gateway, self.reactor)
        self.one = Node(self.lab.host("one", ["fd00:1::d1/64", "10.1.0.2/16"], link="lan1"), self.reactor)
        self.two = Node(self.lab.host("two", ["fd00:2::d2/64", "10.2.0.2/16"], link="lan2"), self.reactor)

    def close_ports(self) -> None:
        for node in (self.gateway, self.one, self.two):
            for port in node.ports:
                port.stop()
            node.ports.clear()


class UnicastTests(LabCase):
    def test_destination_and_interface(self) -> None:
        """A wildcard port tells by which interface and to which address a datagram came."""
        _, received = self.gateway.open("::")
        for node, host in ((self.one, "fd00:1::1"), (self.two, "fd00:2::1")):
            node.open("::")[0].send(b"x", (host, 5683, 0, 0))
        self.reactor.read_until(lambda: len(received.datagrams) == 2)
        eth0, eth1 = self.gateway.index("eth0"), self.gateway.index("eth1")
        self.assertEqual(
            [datagram[1:] for datagram in received.datagrams],
            [
                (("fd00:1::d1", 5683, 0, 0), "fd00:1::1", eth0),
                (("fd00:2::d2", 5683, 0, 0), "fd00:2::1", eth1),
            ],
        )

    def test_ports_beside_each_other(self) -> None:
        """Two wildcard ports of one number, each on its own interface: each gets what comes in by that one, groups too."""
        (one, at_one), (two, at_two) = self.gateway.open("::%eth0"), self.gateway.open("::%eth1")
        for port, name in ((one, "eth0"), (two, "eth1")):
            self.gateway.join(port, GROUP, name)
        for node, host in ((self.one, "fd00:1::1"), (self.two, "fd00:2::1")):
            sender, _ = node.open("::")
            sender.send(b"x", (host, 5683, 0, 0))
            sender.send_to_group(b"g", GROUP, 5683, node.index())
        self.reactor.read_until(lambda: len(at_one.datagrams) + len(at_two.datagrams) == 4)
        self.assertEqual(
            [[(data, source[0]) for data, source, _, _ in received.datagrams] for received in (at_one, at_two)],
            [[(b"x", "fd00:1::d1"), (b"g", "fd00:1::d1")], [(b"x", "fd00:2::d2"), (b"g", "fd00:2::d2")]],
        )

    def test_address_that_was_without_end(self) -> None:
        """An address set by hand that is given a lifetime keeps its on-link route for so long: a kernel was seen to end it at once."""
        name, address = self.gateway.index(), IPv6Interface("fd00:1::1/64")
        with self.gateway.host.entered():
            host_module._set(name, address, {"preferred": 3600, "valid": 7200})
        (route,) = json.loads(self.gateway.host.ip("-j", "-6", "route", "show", "fd00:1::/64"))
        self.assertTrue(7000 < route["expires"] <= 7200, route)

    def test_zone(self) -> None:
        """A link-local source has the zone of the interface that it came in by, and the answer goes out there."""
        port, received = self.gateway.open("::")
        two, answered = self.two.open(f"{self.two.host.link_local()}%eth0")
        two.send(b"ask", (self.gateway.host.link_local("eth1"), 5683, 0, self.two.index()))
        self.reactor.read_until(lambda: bool(received.datagrams))
        source = received.datagrams[0][1]
        self.assertEqual(source, (self.two.host.link_local(), 5683, 0, self.gateway.index("eth1")))
        self.assertTrue(port.send(b"answer", source))
        self.reactor.read_until(lambda: bool(answered.datagrams))
        self.assertEqual(answered.datagrams[0][1], (self.gateway.host.link_local("eth1"), 5683, 0, self.two.index()))

    def test_chosen_source(self) -> None:
        """An answer leaves from the address that was asked, also where another one is nearer."""
        port, received = self.gateway.open("::")
        two, answered = self.two.open("::")
        self.two.host.ip("route", "add", "fd00:1::/64", "via", "fd00:2::1")
        two.send(b"ask", ("fd00:1::1", 5683, 0, 0))
        self.reactor.read_until(lambda: bool(received.datagrams))
        _, source, destination, _ = received.datagrams[0]
        port.send(b"answer", source, source=destination)
        self.reactor.read_until(lambda: bool(answered.datagrams))
        self.assertEqual(answered.datagrams[0][1], ("fd00:1::1", 5683, 0, 0))

    def test_interface_goes_down(self) -> None:
        """While the interface is down nothing is sent, which is counted; when it is up again the same port and membership go on."""
        port, received = self.gateway.open("::")
        self.gateway.join(port, GROUP)
        self.gateway.host.ip("link", "set", "eth0", "down")
        self.assertFalse(port.send_to_group(b"x", GROUP, 5683, self.gateway.index()))
        self.assertEqual(self.gateway.count("m2mapp_net_send_failures_total"), 1)
        self.gateway.host.ip("link", "set", "eth0", "up")
        one, _ = self.one.open("::")

        def arrived() -> bool:
            one.send_to_group(b"again", GROUP, 5683, self.one.index())
            self.reactor.read_once()
            return b"again" in received.payloads

        wait_until(arrived, what="a datagram after the interface came up again")

    def test_addresses(self) -> None:
        """The addresses of an interface, and the neighbours on its link, also those whose prefix comes late."""
        with self.gateway.host.entered():
            found = {str(address) for address in self.gateway.datagrams.interface_addresses("eth1")}
            on_link = OnLink(self.gateway.datagrams, ["eth1"])
        self.assertEqual(found, {"fd00:2::1/64", "10.2.0.1/16", f"{self.gateway.host.link_local('eth1')}/64"})
        self.assertTrue(on_link.contains(("fd00:2::d2", 1, 0, 0)))
        self.assertTrue(on_link.contains(("fe80::7", 1, 0, self.gateway.index("eth1"))))
        self.assertFalse(on_link.contains(("fe80::7", 1, 0, self.gateway.index("eth0"))))
        self.assertFalse(on_link.contains(("fd00:1::d1", 1, 0, 0)))
        self.assertTrue(on_link.own("fd00:1::1"))
        self.gateway.host.add_addresses(["fd00:3::1/64"], "eth1")
        with self.gateway.host.entered():
            on_link.refresh()
        self.assertTrue(on_link.contains(("fd00:3::7", 1, 0, 0)))


class GroupTests(LabCase):
    def test_joined_on_one_interface(self) -> None:
        """A group joined on one interface comes in by that one only, though another program joined it on the other."""
        for address in ("::", "fd00:1::1"):
            port, received = self.gateway.open(address)
            other, at_other = self.gateway.open("::", 5684)
            self.gateway.join(port, GROUP, "eth0")
            self.gateway.join(other, GROUP, "eth1")
            for node in (self.one, self.two):
                sender, _ = node.open("::", 0)
                for number in (5683, 5684):
                    sender.send_to_group(node.host.name.encode(), GROUP, number, node.index())
            self.reactor.read_until(lambda of=(received, at_other): all(one.datagrams for one in of))  # type: ignore[misc]
            self.reactor.read_all()
            self.assertEqual([(data, where) for data, _, where, _ in received.datagrams], [(b"one", GROUP)])
            self.assertEqual([(data, where) for data, _, where, _ in at_other.datagrams], [(b"two", GROUP)])
            self.close_ports()

    def test_sent_out_of_one_interface(self) -> None:
        """A group request goes out of the interface named, from the port's address, with the hop limit of its scope."""
        port, _ = self.gateway.open("fd00:1::1")
        for interface, node in (("eth0", self.one), ("eth1", self.two)):
            for group in (GROUP, LINK_GROUP):
                with self.gateway.host.capture("udp") as here, node.host.capture("udp port 5683") as there:
                    self.assertTrue(port.send_to_group(b"ask", group, 5683, self.gateway.index(interface)))
                hops = 1 if group == LINK_GROUP else 8
                self.assertEqual(len(there.lines), 1, there.lines)
                self.assertIn(f"hlim {hops}", there.lines[0])
                self.assertIn(f"fd00:1::1.5683 > {group}.5683", there.lines[0])
                self.assertEqual(len(here.lines), 1 if interface == "eth0" else 0, here.lines)

    def test_members_of_one_host(self) -> None:
        """Thirty IPv6 members in one host, each with its own address: one datagram on the wire, thirty answers, each from its own."""
        hosts = [f"fd00:1::{number:x}" for number in range(0x101, 0x11F)]
        self.one.host.add_addresses(f"{host}/64" for host in hosts)
        port, answers = self.gateway.open("fd00:1::1")
        members = [self.one.open(host) for host in hosts]
        for member, _ in members:
            self.one.join(member, GROUP)
            self.one.join(member, LINK_GROUP)
        for group in (GROUP, LINK_GROUP):
            answers.datagrams.clear()
            with self.one.host.capture(f"dst {group} and udp") as capture:
                port.send_to_group(b"ask", group, 5683, self.gateway.index())
                for member, received in members:
                    self.reactor.read_until(lambda received=received: bool(received.datagrams))  # type: ignore[misc]
                    (data, source, destination, interface) = received.datagrams.pop()
                    self.assertEqual((data, destination, interface), (b"ask", group, self.one.index()))
                    member.send(b"answer", source)
                self.reactor.read_until(lambda: len(answers.datagrams) == 30)
            self.assertEqual(sorted(source[0] for _, source, _, _ in answers.datagrams), sorted(hosts))
            self.assertEqual(len(capture.lines), 1, capture.lines)

    def test_many_groups(self) -> None:
        """A port is a member of 50 IPv4 and 200 IPv6 groups, wildcard or not, and gets each of them once."""
        for address, pattern, count in [
            (ANY_IPV4, "239.192.1.{}", 50),
            ("10.1.0.1", "239.192.1.{}", 50),
            ("::", "ff35:30:fd00:1::{:x}", 200),
            ("fd00:1::1", "ff35:30:fd00:1::{:x}", 200),
        ]:
            port, received = self.gateway.open(address)
            groups = [pattern.format(number) for number in range(1, count + 1)]
            for group in groups:
                self.gateway.join(port, group)
            sender, _ = self.one.open(ANY_IPV4 if "." in pattern else "::")
            for group in groups:
                sender.send_to_group(group.encode(), group, 5683, self.one.index())
            self.reactor.read_until(lambda received=received, count=count: len(received.datagrams) >= count)  # type: ignore[misc]
            self.reactor.read_all()
            self.assertEqual(sorted(where for _, _, where, _ in received.datagrams), sorted(groups))
            self.close_ports()

    def test_own_copy(self) -> None:
        """A sender that is a member gets its own request, with the interface that it went out of; over IPv4 too."""
        for address, group in (("fd00:2::1", GROUP), ("10.2.0.1", "239.192.1.1"), ("::", GROUP), (ANY_IPV4, "239.192.1.1")):
            port, received = self.gateway.open(address)
            self.gateway.join(port, group, "eth1")
            port.send_to_group(b"x", group, 5683, self.gateway.index("eth1"))
            self.reactor.read_until(lambda received=received: bool(received.datagrams))  # type: ignore[misc]
            self.assertEqual([datagram[2:] for datagram in received.datagrams], [(group, self.gateway.index("eth1"))], address)
            self.close_ports()


class BurstTests(LabCase):
    def test_thousand_answers(self) -> None:
        """A thousand answers that arrive before the first is read: all sent, all read, none lost."""
        _, received = self.gateway.open("fd00:1::1")
        sender, _ = self.one.open("::")
        for number in range(1000):
            self.assertTrue(sender.send(struct.pack("!H", number) + bytes(98), ("fd00:1::1", 5683, 0, 0)))
        self.reactor.read_until(lambda: len(received.datagrams) == 1000)
        self.assertEqual(len(set(received.payloads)), 1000)
        self.assertEqual(self.gateway.count("m2mapp_net_datagrams_lost_total"), 0)


class LabTests(SynchronousTestCase):
    """The lab itself."""

    skip = _SKIP

    def test_nothing_is_left(self) -> None:
        """After the lab its namespaces are gone and its processes ended, one that ignores being asked too; the test's own is untouched."""
        with Lab() as lab:
            host = lab.host("a", ["fd00:1::1/64"])
            stubborn = host.popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
            names = host.run(["ip", "-o", "link"]).stdout
            self.assertIn("eth0", names)
            self.assertEqual(host.interface_index("lo"), socket.if_nametoindex("lo"))
            namespace = host.namespace
            self.patch(namespaces, "END_S", 0.2)
        self.assertIsNotNone(stubborn.returncode)
        with self.assertRaises(FileNotFoundError), host.entered():
            self.fail(f"{namespace} is still there")

    def test_loss(self) -> None:
        """A host that is told to lose everything gets nothing; one that loses nothing gets all."""
        reason = skip_reason("iptables", "ip6tables")
        if reason:
            self.skipTest(reason)
        reactor = ReadingReactor()
        with Lab() as lab:
            one, two = (Node(lab.host(name, [f"fd00:1::{number}/64"]), reactor) for number, name in enumerate("ab", start=1))
            port, _ = one.open("::")
            _, received = two.open("::")
            port.send(b"x", ("fd00:1::2", 5683, 0, 0))
            reactor.read_until(lambda: bool(received.datagrams))
            two.host.lose(1.0)
            port.send(b"y", ("fd00:1::2", 5683, 0, 0))
            reactor.read_all()
            for reader in list(reactor.readers):
                cast(Reader, reader).close()
        self.assertEqual(received.payloads, [b"x"])
