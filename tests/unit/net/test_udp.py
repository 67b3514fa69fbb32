"""The real UDP ports, on the loopback interface; what needs other interfaces is in tests/system/test_net.py."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.internet import reactor as global_reactor  # noqa: TID251 - the one test of a port in a real reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from m2mapp.model.metrics import Counter, Metrics
from m2mapp.net import reading, sockets, udp
from m2mapp.net.interfaces import IDatagramPort, IDatagrams
from m2mapp.net.reading import DATAGRAMS_PER_READ, Reactor, Reader
from m2mapp.net.udp import Port, SystemDatagrams
from tests.unit.net.fakes import ReadingReactor, Received

LO = socket.if_nametoindex("lo")
GROUP = "239.192.7.1"
ANY_IPV4 = "0.0.0.0"  # noqa: S104 - a port on all addresses is what some of these tests are about
_IP_RECVERR = 11
_hosts = itertools.count(1)


def own_host() -> str:
    """A loopback address that no other test uses, nor another run at the same time."""
    return f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}.{next(_hosts)}"


class PortCase(SynchronousTestCase):
    """A reactor, the metrics, and ports that are closed at the end."""

    def setUp(self) -> None:
        self.reactor = ReadingReactor()
        self.metrics = Metrics()
        self.datagrams = SystemDatagrams(self.reactor, self.metrics)

    def tearDown(self) -> None:
        for reader in list(self.reactor.readers):
            cast(Reader, reader).close()

    def open(self, host: str, port: int = 0) -> tuple[Port, Received]:
        received = Received()
        return self.datagrams.open_port(host, port, received), received

    def counted(self, name: str, **labels: str) -> int:
        for found, _, instruments in self.metrics.collect():
            if found == name:
                instrument = instruments.get(tuple(sorted(labels.items())))
                return instrument.value if isinstance(instrument, Counter) else 0
        return 0

    def refused(self, reason: str) -> int:
        return self.counted("m2mapp_net_send_failures_total", reason=reason)

    def why(self, function: Callable[..., object], *arguments: object) -> int | None:
        error: OSError = self.assertRaises(OSError, function, *arguments)
        return error.errno


class UnicastTests(PortCase):
    def test_interfaces(self) -> None:
        """Ports and their opener provide the interfaces that they say they do."""
        verifyObject(IDatagrams, self.datagrams)
        verifyObject(IDatagramPort, self.open("127.0.0.1")[0])

    def test_ipv6(self) -> None:
        """A datagram comes with its source as a 4-tuple, its destination and the loopback's index, and the answer goes back to it."""
        one, at_one = self.open("::")
        two, at_two = self.open("::1")
        self.assertTrue(two.send(b"ask", ("::1", one.local()[1], 0, 0)))
        self.reactor.read_until(lambda: bool(at_one.datagrams))
        source = ("::1", two.local()[1], 0, 0)
        self.assertEqual(at_one.datagrams, [(b"ask", source, "::1", LO)])
        self.assertTrue(one.send(b"answer", at_one.datagrams[0][1]))
        self.reactor.read_until(lambda: bool(at_two.datagrams))
        self.assertEqual(at_two.payloads, [b"answer"])

    def test_one_interface(self) -> None:
        """A wildcard port of one interface receives what comes in there; nobody else may have its number there, or everywhere."""
        port, received = self.open("::%lo")
        number = port.local()[1]
        self.open("::1")[0].send(b"ask", ("::1", number, 0, 0))
        self.reactor.read_until(lambda: bool(received.datagrams))
        self.assertEqual(received.datagrams[0][2:], ("::1", LO))
        for host in ("::%lo", "::"):
            self.assertEqual(self.why(self.open, host, number), errno.EADDRINUSE)

    def test_ipv4(self) -> None:
        """The destination is the address that was asked, also on a wildcard port; an answer can leave from it."""
        one, at_one = self.open(ANY_IPV4)
        two, at_two = self.open("127.0.0.1")
        asked = own_host()
        two.send(b"", (asked, one.local()[1]))
        self.reactor.read_until(lambda: bool(at_one.datagrams))
        self.assertEqual(at_one.datagrams, [(b"", two.local(), asked, LO)])
        one.send(b"answer", two.local(), source=asked)
        self.reactor.read_until(lambda: bool(at_two.datagrams))
        self.assertEqual(at_two.datagrams[0][1], (asked, one.local()[1]))

    def test_largest(self) -> None:
        """The largest datagram passes whole; one byte more is refused and counted."""
        one, at_one = self.open("127.0.0.1")
        largest = os.urandom(65507)
        self.assertTrue(one.send(largest, one.local()))
        self.reactor.read_until(lambda: bool(at_one.datagrams))
        self.assertEqual(at_one.payloads, [largest])
        self.assertFalse(one.send(largest + b"x", one.local()))
        self.assertEqual(self.refused("too-large"), 1)

    def test_dual_stack_on_one_number(self) -> None:
        """0.0.0.0 can be bound beside "::" on the same port."""
        one, _ = self.open("::")
        self.assertEqual(self.open(ANY_IPV4, one.local()[1])[0].local(), (ANY_IPV4, one.local()[1]))

    def test_hosts_that_are_none(self) -> None:
        """What cannot be bound is refused with the kernel's number and the value."""
        for host, number in [("gateway.example", errno.EINVAL), ("fe80::1%nowhere", errno.ENODEV), ("127.0.0.1%lo", errno.EINVAL)]:
            self.assertEqual(self.why(self.datagrams.open_port, host, 0, Received()), number, host)
        self.assertEqual(self.why(self.datagrams.open_port, "192.0.2.1", 0, Received()), errno.EADDRNOTAVAIL)
        self.assertEqual(self.reactor.readers, {})

    def test_hop_limit_range(self) -> None:
        """A hop limit that no datagram can carry is refused."""
        for hop_limit in (0, 256):
            self.assertRaises(ValueError, SystemDatagrams, self.reactor, self.metrics, hop_limit)


class ExclusiveTests(PortCase):
    def test_same_address_twice(self) -> None:
        """A port that is open cannot be opened again, neither by us nor by a program that asks to share it."""
        host = own_host()
        one, _ = self.open(host)
        number = one.local()[1]
        self.assertEqual(self.why(self.datagrams.open_port, host, number, Received()), errno.EADDRINUSE)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.assertEqual(self.why(stranger.bind, (host, number)), errno.EADDRINUSE)

    def test_stays_exclusive_after_a_join(self) -> None:
        """A wildcard port whose groups need more sockets is still not to be shared."""
        one, _ = self.open(ANY_IPV4)
        for last in range(1, 31):
            one.join(f"239.192.8.{last}", LO)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.assertEqual(self.why(stranger.bind, (ANY_IPV4, one.local()[1])), errno.EADDRINUSE)


class SendTests(PortCase):
    def test_what_is_no_unicast_address(self) -> None:
        """Names, groups, other families and zoneless link-local addresses are not sent to, and counted."""
        four, _ = self.open("127.0.0.1")
        six, _ = self.open("::1")
        self.assertFalse(four.send(b"x", ("localhost", 5683)))
        self.assertFalse(four.send(b"x", ("a\0b", 5683)))
        self.assertFalse(four.send(b"x", ("239.1.2.3", 5683)))
        self.assertFalse(four.send(b"x", ("::1", 5683, 0, 0)))
        self.assertFalse(four.send(b"x", ("127.0.0.1", 70000)))
        self.assertFalse(six.send(b"x", ("ff02::1", 5683, 0, LO)))
        self.assertFalse(six.send(b"x", ("fe80::1", 5683, 0, 0)))
        self.assertFalse(six.send(b"x", ("127.0.0.1", 5683)))
        self.assertEqual(self.refused("address"), 8)
        self.assertEqual(self.counted("m2mapp_net_datagrams_sent_total"), 0)

    def test_zone_is_asked_for_each_time(self) -> None:
        """That a link-local host was reached by its zone does not make it known without one."""
        six, _ = self.open("::")
        six.send(b"x", ("fe80::1", 5683, 0, LO))
        refused = self.refused("address")
        self.assertFalse(six.send(b"x", ("fe80::1", 5683, 0, 0)))
        self.assertEqual(self.refused("address"), refused + 1)

    def test_many_hosts(self) -> None:
        """What is remembered of hosts, and of the addresses to leave from, is bounded; what leaves from one arrives from there."""
        one, _ = self.open(ANY_IPV4)
        two, at_two = self.open("127.0.0.1")
        for number in range(udp.KNOWN_HOSTS + 10):
            place = f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"
            one.send(b"x", (place, two.local()[1]), place)
        self.assertLessEqual(len(one._unicast), udp.KNOWN_HOSTS)
        self.assertLessEqual(len(one._leaving), udp.KNOWN_HOSTS)
        for _ in range(2):
            self.assertTrue(one.send(b"x", two.local(), "127.9.9.9"))
        self.reactor.read_all()
        self.assertEqual([source[0] for _, source, *_ in at_two.datagrams], ["127.9.9.9"] * 2)

    def test_groups_that_are_none(self) -> None:
        """A unicast address, another family, or no interface: not sent to as a group."""
        four, _ = self.open("127.0.0.1")
        for group, interface in [("127.0.0.1", LO), ("ff05::1", LO), ("", LO), (GROUP, 0)]:
            self.assertFalse(four.send_to_group(b"x", group, 5683, interface), group)
        self.assertEqual(self.refused("address"), 4)

    def test_buffer_full(self) -> None:
        """A socket that takes no more: False and counted, and nothing waits to be sent later."""
        one, _ = self.open("127.0.0.1")

        class Full:
            def sendto(self, data: bytes, to: object) -> int:
                raise BlockingIOError(errno.EAGAIN, "full")

        real = one._main.sock
        one._main.sock = cast(socket.socket, Full())
        self.assertFalse(one.send(b"x", ("127.0.0.1", 9)))
        one._main.sock = real
        self.assertEqual(self.refused("buffer-full"), 1)

    def test_nobody_listens(self) -> None:
        """A refusal by ICMP of what was sent neither closes the port nor reaches the sender."""
        one, at_one = self.open("127.0.0.1")
        gone, _ = self.open("127.0.0.1")
        nowhere = gone.local()
        self.successResultOf(gone.stop())
        self.assertTrue(one.send(b"x", nowhere))
        self.assertTrue(one.send(b"y", one.local()))
        self.reactor.read_until(lambda: bool(at_one.datagrams))
        self.assertEqual(at_one.payloads, [b"y"])


class ReadTests(PortCase):
    def test_bounded_reads(self) -> None:
        """A flood is read in steps: after so many datagrams the reactor gets its turn, and nothing is lost."""
        one, at_one = self.open("127.0.0.1")
        for number in range(DATAGRAMS_PER_READ + 1):
            one.send(struct.pack("!H", number), one.local())
        self.reactor.read_once()
        self.assertEqual(len(at_one.datagrams), DATAGRAMS_PER_READ)
        self.reactor.read_once()
        self.assertEqual(at_one.payloads, [struct.pack("!H", number) for number in range(DATAGRAMS_PER_READ + 1)])

    def test_taken_before_it_is_dealt_with(self) -> None:
        """What arrives while datagrams are dealt with finds the receive buffer empty, and all are handed on in their order."""
        one, at_one = self.open("127.0.0.1")
        left: list[int] = []
        at_one.then = lambda: left.append(sockets.receive_queue(one._main.sock))
        for number in range(300):
            one.send(struct.pack("!H", number), one.local())
        self.reactor.read_once()
        self.assertEqual((len(left), set(left), one.waiting()), (DATAGRAMS_PER_READ, {0}, 300 - DATAGRAMS_PER_READ))
        self.reactor.read_all()
        self.assertEqual((at_one.payloads, one.waiting()), ([struct.pack("!H", number) for number in range(300)], 0))
        self.assertEqual((one._main.taken_bytes, self.reactor.getDelayedCalls()), (0, []))

    def test_room_for_what_is_taken(self) -> None:
        """So much is taken and no more: the rest waits in the socket's buffer, and is not lost there."""
        one, at_one = self.open("127.0.0.1")
        self.patch(reading, "TAKEN_BYTES", 1000)
        for _ in range(100):
            one.send(bytes(100), one.local())
        self.reactor.read_once()
        self.assertLessEqual(one._main.taken_bytes, 1000)
        self.assertGreater(sockets.receive_queue(one._main.sock), 0)
        self.reactor.read_all()
        self.assertEqual(len(at_one.datagrams), 100)

    def test_stop_with_datagrams_taken(self) -> None:
        """A port that stops forgets what it took, and nothing is pending."""
        one, at_one = self.open("127.0.0.1")
        for _ in range(DATAGRAMS_PER_READ + 1):
            one.send(b"x", one.local())
        self.reactor.read_once()
        self.successResultOf(one.stop())
        self.reactor.read_all()
        self.assertEqual((len(at_one.datagrams), self.reactor.getDelayedCalls()), (DATAGRAMS_PER_READ, []))

    def test_receiver_that_raises(self) -> None:
        """Each raise is counted, the log has one line in ten seconds, the rest of the datagrams are handed over."""
        one, at_one = self.open("127.0.0.1")
        at_one.raises = ZeroDivisionError()
        for _ in range(5):
            one.send(b"x", one.local())
        self.reactor.read_all()
        self.assertEqual(len(at_one.datagrams), 5)
        self.assertEqual(self.counted("m2mapp_net_receiver_errors_total"), 5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.reactor.advance(11)
        one.send(b"x", one.local())
        self.reactor.read_all()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop_within_a_read(self) -> None:
        """A receiver that stops its port gets nothing more, though more has arrived."""
        one, at_one = self.open("127.0.0.1")
        at_one.then = one.stop
        for _ in range(3):
            one.send(b"x", one.local())
        self.reactor.read_once()
        self.assertEqual(len(at_one.datagrams), 1)
        self.assertEqual(self.reactor.readers, {})
        self.assertEqual(self.counted("m2mapp_net_receive_errors_total"), 0)

    def test_pending_error(self) -> None:
        """An error in place of a datagram is counted, and the datagrams behind it are read."""
        one, at_one = self.open("127.0.0.1")
        gone, _ = self.open("127.0.0.1")
        nowhere = gone.local()
        self.successResultOf(gone.stop())
        one._main.sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        one.send(b"x", nowhere)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"y", one.local())
        self.reactor.read_until(lambda: bool(at_one.datagrams))
        self.assertEqual(at_one.payloads, [b"y"])
        self.assertEqual(self.counted("m2mapp_net_receive_errors_total"), 1)

    def test_error_condition_without_data(self) -> None:
        """A reactor that drops the reader for an error condition gets it back; a stopped port does not come back."""
        one, at_one = self.open("127.0.0.1")
        reader = one._main
        self.reactor.removeReader(reader)
        reader.connectionLost(Failure(ConnectionDone()))
        one.send(b"x", one.local())
        self.reactor.read_all()
        self.assertEqual(at_one.payloads, [b"x"])
        self.successResultOf(one.stop())
        reader.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.reactor.readers, {})

    def test_overflow_is_counted(self) -> None:
        """Datagrams that the kernel dropped for want of buffer are counted with the next one that arrives."""
        one, at_one = self.open("127.0.0.1")
        one._main.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(100):
            one.send(b"x" * 100, one.local())
        self.reactor.read_all()
        one.send(b"last", one.local())
        self.reactor.read_all()
        arrived = len(at_one.datagrams)
        self.assertLess(arrived, 101)
        self.assertEqual(self.counted("m2mapp_net_datagrams_lost_total"), 101 - arrived)

    def test_many_destinations(self) -> None:
        """What is remembered of destinations is bounded, whatever addresses a sender picks."""
        one, at_one = self.open(ANY_IPV4)
        two, _ = self.open("127.0.0.1")
        for number in range(reading.KNOWN_ARRIVALS + 10):
            two.send(b"x", (f"127.9.{number // 250}.{1 + number % 250}", one.local()[1]))
        self.reactor.read_all()
        self.assertEqual(len(at_one.datagrams), reading.KNOWN_ARRIVALS + 10)
        self.assertLessEqual(len(one._main._known), reading.KNOWN_ARRIVALS)

    def test_burst(self) -> None:
        """A thousand answers that arrive at once are all read, with the buffer that was granted to this process."""
        one, at_one = self.open("127.0.0.1")
        if sockets.receive_buffer(one._main.sock) < 1024 * 1024:
            self.skipTest("net.core.rmem_max is small here and CAP_NET_ADMIN is missing")
        for number in range(1000):
            self.assertTrue(one.send(struct.pack("!H", number) + bytes(98), one.local()))
        self.reactor.read_all()
        self.assertEqual(len(set(at_one.payloads)), 1000)
        self.assertEqual(self.counted("m2mapp_net_datagrams_received_total"), 1000)
        self.assertEqual(self.counted("m2mapp_net_datagrams_lost_total"), 0)

    def test_gauges(self) -> None:
        """The memory that waits to be read and the smallest buffer can be seen; stopped ports are out of both."""
        one, _ = self.open("127.0.0.1")
        gauges = {name: next(iter(instruments.values())) for name, _, instruments in self.metrics.collect()}
        waiting, smallest = (gauges[f"m2mapp_net_receive_{what}_bytes"] for what in ("queue", "buffer"))
        assert callable(waiting)
        assert callable(smallest)
        self.assertEqual(waiting(), 0)
        one.send(b"x" * 100, one.local())
        self.assertGreaterEqual(waiting(), 100)
        self.assertGreaterEqual(smallest(), 100_000)
        self.successResultOf(one.stop())
        self.assertEqual((waiting(), smallest()), (0, 0))


class GroupTests(PortCase):
    def send(self, group: str, port: int, data: bytes = b"all") -> None:
        sender, _ = self.open("127.0.0.1")
        self.assertTrue(sender.send_to_group(data, group, port, LO))

    def test_thirty_members_of_one_host(self) -> None:
        """Each of thirty ports bound to its own address gets one copy, with the group as destination, and can answer by unicast."""
        sender, answers = self.open("127.0.0.1")
        first, received = self.open(own_host())
        members = [(first, received)] + [self.open(own_host(), first.local()[1]) for _ in range(29)]
        for port, _ in members:
            port.join(GROUP, LO)
        sender.send_to_group(b"ask", GROUP, first.local()[1], LO)
        self.reactor.read_all()
        for port, at_member in members:
            self.assertEqual(at_member.datagrams, [(b"ask", sender.local(), GROUP, LO)])
            port.send(b"answer", at_member.datagrams[0][1])
        self.reactor.read_all()
        self.assertEqual(sorted(source for _, source, _, _ in answers.datagrams), sorted(port.local() for port, _ in members))

    def test_wildcard_member(self) -> None:
        """A wildcard port joins on its own socket: what comes in is told apart by destination."""
        port, received = self.open(ANY_IPV4)
        port.join(GROUP, LO)
        self.assertEqual(len(self.reactor.readers), 1)
        self.send(GROUP, port.local()[1])
        self.reactor.read_all()
        self.assertEqual([(data, where, interface) for data, _, where, interface in received.datagrams], [(b"all", GROUP, LO)])

    def test_more_groups_than_one_socket_takes(self) -> None:
        """A wildcard port is a member of fifty groups, though the kernel allows one socket twenty."""
        port, received = self.open(ANY_IPV4)
        groups = [f"239.192.9.{last}" for last in range(1, 51)]
        for group in groups:
            port.join(group, LO)
        of_one_socket = int(Path("/proc/sys/net/ipv4/igmp_max_memberships").read_text())
        self.assertEqual(len(self.reactor.readers), 1 + max(0, 50 - of_one_socket))
        for group in groups:
            self.send(group, port.local()[1], group.encode())
        self.reactor.read_all()
        self.assertEqual(sorted(received.payloads), sorted(group.encode() for group in groups))
        for group in groups:
            port.leave(group, LO)
        self.send(groups[0], port.local()[1])
        self.send(groups[49], port.local()[1])
        self.reactor.read_all()
        self.assertEqual(len(received.datagrams), 50)

    def test_thousands_of_groups(self) -> None:
        """A wildcard port is a member of more groups of IPv6 than one socket has memory for, and leaves them all."""
        port, _ = self.open("::")
        # 56 bytes of memory for a socket's options each: 2,340 where that is 128 kB.
        memory = int(Path("/proc/sys/net/core/optmem_max").read_text())
        groups = [f"ff15::9:{number:x}" for number in range(1, memory // 55 + 1)]
        packed = {socket.inet_pton(socket.AF_INET6, group).hex() for group in groups}

        def joined() -> set[str]:
            return packed & {line.split()[2] for line in Path("/proc/self/net/igmp6").read_text().splitlines()}

        for group in groups:
            port.join(group, LO)
        self.assertGreater(len(self.reactor.readers), 1)
        self.assertEqual(joined(), packed)
        for group in groups:
            port.leave(group, LO)
        self.assertEqual((len(self.reactor.readers), joined()), (1, set()))

    def test_only_what_was_joined(self) -> None:
        """A group that another port of this host joined does not come to one that did not."""
        member, _ = self.open(ANY_IPV4)
        member.join(GROUP, LO)
        other, received = self.open(ANY_IPV4)
        other.join("239.192.7.2", LO)
        self.send(GROUP, other.local()[1])
        self.reactor.read_all()
        self.assertEqual(received.datagrams, [])

    def test_join_and_leave_again(self) -> None:
        """Joining twice gives one copy; leaving twice is no error; after leaving nothing comes, after joining again it does."""
        for host in (ANY_IPV4, own_host()):
            port, received = self.open(host)
            port.join(GROUP, LO)
            port.join(GROUP, LO)
            self.send(GROUP, port.local()[1])
            self.reactor.read_all()
            port.leave(GROUP, LO)
            port.leave(GROUP, LO)
            port.leave("no address", LO)
            self.send(GROUP, port.local()[1])
            self.reactor.read_all()
            port.join(GROUP, LO)
            self.send(GROUP, port.local()[1], b"again")
            self.reactor.read_all()
            self.assertEqual(received.payloads, [b"all", b"again"], host)

    def test_joins_that_fail(self) -> None:
        """What cannot be joined raises with the reason, and leaves no socket behind."""
        for host in (ANY_IPV4, own_host()):
            port, _ = self.open(host)
            readers = len(self.reactor.readers)
            for group, interface, number in [
                ("10.0.0.1", LO, errno.EINVAL),
                ("ff05::1", LO, errno.EINVAL),
                (GROUP, 0, errno.ENODEV),
                (GROUP, 2**31 - 7, errno.ENODEV),
            ]:
                self.assertEqual(self.why(port.join, group, interface), number, (host, group, interface))
            self.assertEqual(len(self.reactor.readers), readers)

    def test_stop(self) -> None:
        """A stopped port, with its group sockets, is closed, sends nothing, joins nothing; stopping again is no error."""
        port, received = self.open(own_host())
        port.join(GROUP, LO)
        self.successResultOf(port.stop())
        self.successResultOf(port.stop())
        self.assertEqual(self.reactor.readers, {})
        self.assertFalse(port.send(b"x", ("127.0.0.1", 9)))
        self.assertFalse(port.send_to_group(b"x", GROUP, 9, LO))
        self.assertEqual(self.refused("closed"), 2)
        self.assertEqual(self.why(port.join, GROUP, LO), errno.EBADF)
        port.leave(GROUP, LO)
        self.assertEqual(received.datagrams, [])
        again, _ = self.open(port.local()[0], port.local()[1])
        self.assertEqual(again.local(), port.local())


class RealReactorTests(TestCase):
    def test_group_answered_in_a_real_reactor(self) -> None:
        """In Twisted's reactor a member answers a group request, and both ports stop within the call that receives."""
        datagrams = SystemDatagrams(cast(Reactor, global_reactor), Metrics())
        asker, member = Received(), Received()
        asking = datagrams.open_port("127.0.0.1", 0, asker)
        answering = datagrams.open_port(own_host(), 0, member)
        answering.join(GROUP, LO)
        done: Deferred[None] = Deferred()
        member.then = lambda: answering.send(b"answer", member.datagrams[0][1])

        def finish() -> None:
            answering.stop()
            asking.stop().chainDeferred(done)

        asker.then = finish
        asking.send_to_group(b"ask", GROUP, answering.local()[1], LO)
        done.addCallback(lambda _: self.assertEqual(asker.payloads, [b"answer"]))
        return done  # type: ignore[return-value]  # trial waits for it
