"""One socket for a group, whichever nodes of the process have joined it: on the loopback interface."""

from __future__ import annotations

import errno
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.metrics import Counter, Metrics
from m2mapp.net import sockets
from m2mapp.net.group_sockets import GroupSockets
from m2mapp.net.interfaces import Sockaddr
from m2mapp.net.reading import Reader
from m2mapp.net.udp import Port, SystemDatagrams
from tests.unit.net.fakes import ReadingReactor, Received
from tests.unit.net.test_udp import LO, own_host

GROUP, OTHER_GROUP = "239.192.11.1", "239.192.11.2"


class GroupSocketsTests(SynchronousTestCase):
    """Three nodes of one process, each with a port of its own on one number."""

    def setUp(self) -> None:
        self.reactor = ReadingReactor()
        self.groups = GroupSockets(self.reactor)
        self.metrics = [Metrics() for _ in range(3)]
        self.received = [Received() for _ in range(3)]
        self.ports: list[Port] = []
        for metrics, received in zip(self.metrics, self.received, strict=True):
            number = self.ports[0].local()[1] if self.ports else 0
            self.ports.append(SystemDatagrams(self.reactor, metrics, groups=self.groups).open_port(own_host(), number, received))
            self.addCleanup(self.ports[-1].stop)
        self.sender = SystemDatagrams(self.reactor, Metrics()).open_port(own_host(), 0, Received())
        self.addCleanup(self.sender.stop)
        self.alone = len(self.reactor.readers)

    def join_all(self) -> None:
        for port in self.ports:
            port.join(GROUP, LO)

    def send(self, data: bytes = b"all", group: str = GROUP) -> None:
        self.assertTrue(self.sender.send_to_group(data, group, self.ports[0].local()[1], LO))
        self.reactor.read_all()

    def counted(self, name: str) -> list[int]:
        """What each node has counted."""
        found = [{name: instruments for name, _, instruments in metrics.collect()}[name] for metrics in self.metrics]
        return [sum(one.value for one in instruments.values() if isinstance(one, Counter)) for instruments in found]

    def shared(self) -> Reader:
        """The one socket of the group."""
        return next(cast(Reader, reader) for reader in self.reactor.readers if cast(Reader, reader).sock.getsockname()[0] == GROUP)

    def test_one_socket(self) -> None:
        """Three members take one socket; each gets what is sent to the group, once, and counts it as its own."""
        self.join_all()
        self.assertEqual(len(self.reactor.readers), self.alone + 1)
        self.send()
        self.assertEqual([received.datagrams for received in self.received], [[(b"all", self.sender.local(), GROUP, LO)]] * 3)
        self.assertEqual(self.counted("m2mapp_net_datagrams_received_total"), [1, 1, 1])

    def test_leave_and_join_again(self) -> None:
        """Who has left gets nothing more, also when leaving twice; with the last the socket goes, and who joins then has a new one."""
        self.join_all()
        for port in self.ports[:2]:
            port.leave(GROUP, LO)
            port.leave(GROUP, LO)
        self.send()
        self.assertEqual([received.payloads for received in self.received], [[], [], [b"all"]])
        self.ports[2].leave(GROUP, LO)
        self.assertEqual(len(self.reactor.readers), self.alone)
        self.ports[0].join(GROUP, LO)
        self.send(b"again")
        self.assertEqual([received.payloads for received in self.received], [[b"again"], [], [b"all"]])

    def test_one_stops(self) -> None:
        """A port that is stopped, be it the one that opened the socket, takes it from no other."""
        self.join_all()
        self.ports[0].stop()
        self.send()
        self.assertEqual([received.payloads for received in self.received], [[], [b"all"], [b"all"]])

    def test_one_raises(self) -> None:
        """A receiver that raises is counted and logged at its node; the others get theirs."""
        self.join_all()
        self.received[0].raises = ValueError("no")
        self.send()
        self.assertEqual([received.payloads for received in self.received], [[b"all"]] * 3)
        self.assertEqual(self.counted("m2mapp_net_receiver_errors_total"), [1, 0, 0])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stopped_by_another(self) -> None:
        """A member that is stopped while a datagram is handed round, after it was taken, gets none."""
        self.join_all()
        self.received[0].then = self.ports[1].stop
        self.send()
        self.assertEqual([received.payloads for received in self.received], [[b"all"], [], [b"all"]])

    def test_losses_are_everyones(self) -> None:
        """An error that the shared socket reports, and what it lost, each node counts."""
        self.join_all()
        reader = self.shared()
        reader._count_overflow(3)
        reader._receive_failed(OSError(errno.ENETDOWN, "down"))
        self.assertEqual(self.counted("m2mapp_net_datagrams_lost_total"), [3, 3, 3])
        self.assertEqual(self.counted("m2mapp_net_receive_errors_total"), [1, 1, 1])

    def test_told_apart(self) -> None:
        """Another group has another socket, and a member of one gets nothing of the other."""
        self.ports[0].join(GROUP, LO)
        self.ports[1].join(OTHER_GROUP, LO)
        self.assertEqual(len(self.reactor.readers), self.alone + 2)
        self.send()
        self.send(b"other", OTHER_GROUP)
        self.assertEqual([received.payloads for received in self.received], [[b"all"], [b"other"], []])

    def test_cannot_be_opened(self) -> None:
        """Where there is no descriptor left for a socket, the join says so, nothing is kept, and it can be tried again."""
        whole = sockets.open_socket

        def full(family: sockets.Family, address: Sockaddr, shared: bool, device: int = 0) -> object:
            raise OSError(errno.EMFILE, "Too many open files")

        patched = self.patch(sockets, "open_socket", full)
        self.assertRaises(OSError, self.ports[0].join, GROUP, LO)
        patched.restore()
        self.assertIs(sockets.open_socket, whole)
        self.join_all()
        self.send()
        self.assertEqual([received.payloads for received in self.received], [[b"all"]] * 3)
