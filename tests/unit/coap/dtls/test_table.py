"""Who must go where there are too many sessions."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.dtls.table import Pace, SessionTable
from m2mapp.coap.parameters import Limits
from m2mapp.net.interfaces import Sockaddr

LIMITS = Limits(handshakes=4, handshakes_per_host=2, sessions=4, sessions_per_host=2)


@dataclass(eq=False)
class Entry:
    remote: Sockaddr
    certified: bool = False
    used_at: float = 0.0


def entry(host: int, port: int = 1, *, certified: bool = False) -> Entry:
    return Entry((f"fd00::{host}", port, 0, 0), certified)


class PaceTests(SynchronousTestCase):
    def test_pace(self) -> None:
        """A host may begin so many in a second, and twice as many at once after a rest; others do not wait for it."""
        pace = Pace(10.0)
        begun = [sum(pace.may(("fd00::1", 0), now_s) for _ in range(100)) for now_s in (100.0, 101.0, 101.05, 200.0)]
        self.assertEqual(begun, [21, 10, 0, 21])
        self.assertTrue(pace.may(("fd00::2", 0), 100.0))

    def test_memory_is_bounded(self) -> None:
        """Hosts that are made up do not fill the memory."""
        pace = Pace(10.0)
        for number in range(5_000):
            self.assertTrue(pace.may((f"fd00::{number}", 0), 1.0))
        self.assertEqual(len(pace), 4_096)


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.table: SessionTable[Entry] = SessionTable(LIMITS)

    def establish(self, entry: Entry) -> tuple[bool, list[Entry]]:
        """A handshake that is begun and done."""
        self.table.begin(entry)
        return self.table.establish(entry)

    def test_handshakes(self) -> None:
        """Too many handshakes of a host push out its oldest; too many in all, the oldest of all; sessions stay."""
        session = entry(9)
        self.assertEqual(self.establish(session), (True, []))
        first, second, third = entry(1, 1), entry(1, 2), entry(1, 3)
        self.assertEqual([self.table.begin(one) for one in (first, second, third)], [[], [], [first]])
        others = [entry(2), entry(3), entry(4)]
        self.assertEqual([self.table.begin(one) for one in others], [[], [], [second]])
        self.assertEqual((self.table.handshakes, len(self.table)), (4, 1))

    def test_the_same_address(self) -> None:
        """A new handshake takes the place of the one before; the session stays until the new one is done."""
        old, halfway, new = entry(1), entry(1), entry(1)
        self.establish(old)
        self.table.begin(halfway)
        self.assertEqual(self.table.begin(new), [halfway])
        self.assertIs(self.table.established(old.remote), old)
        self.assertEqual(self.table.establish(new), (True, [old]))
        self.assertIs(self.table.established(old.remote), new)
        self.table.remove(old)
        self.assertIs(self.table.established(old.remote), new)

    def test_full(self) -> None:
        """Where there is no room the session used longest ago goes; of a host with too many, one of its own."""
        old, used, *_ = entries = [entry(host) for host in range(1, 5)]
        for one in entries:
            self.establish(one)
        self.table.used(old, 1.0)
        self.assertEqual(self.establish(entry(5)), (True, [used]))
        self.table.remove(old)
        mine = [entry(6, 1), entry(6, 2), entry(6, 3)]
        self.establish(mine[0])
        self.table.remove(entries[2])
        self.establish(mine[1])
        self.assertEqual(self.establish(mine[2]), (True, [mine[0]]))

    def test_certificates_first(self) -> None:
        """Who showed no certificate pushes out nobody who did, but is pushed out by who does."""
        anonymous, certified = entry(1), [entry(host, certified=True) for host in range(2, 6)]
        self.establish(anonymous)
        for one in certified[:3]:
            self.establish(one)
        self.assertEqual(self.establish(certified[3]), (True, [anonymous]))
        self.assertEqual(self.establish(entry(7)), (False, []))
        self.assertEqual(self.establish(entry(8, certified=True)), (True, [certified[0]]))
        self.assertEqual(len(self.table), 4)

    def test_unused(self) -> None:
        """Sessions that nothing used for a time are named, those used longest ago first."""
        one, two, three = entry(1), entry(2, certified=True), entry(3)
        for each in (one, two, three):
            self.establish(each)
        self.table.used(one, 5.0)
        self.assertEqual(self.table.idle_since(), 0.0)
        self.assertEqual(self.table.unused(10.0, 9.0), [])
        self.assertEqual(self.table.unused(10.0, 10.0), [three, two])
        self.assertEqual(self.table.all(), [three, one, two])
