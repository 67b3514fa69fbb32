"""Event streams after a gap, and for slow readers: every change once, in order, or the word to read again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.http.limits import HttpLimits
from m2mapp.model.errors import StorageFailed
from m2mapp.tree.unit import CHANGES, Append, Staged, Unit, Write
from tests.unit import examples
from tests.unit.http.cases import Reader, StreamCase
from tests.unit.http.harness import NOW_MS, Node, encode


class ReplayTests(StreamCase):
    def test_after_a_gap(self) -> None:
        """Who names the last event gets all that came after it, with the contents of then, and goes on live."""
        for value in (b"2", b"3"):
            self.node.put("/a", value)
        self.node.put("/b/c", b"x")
        for fields, target in [({"Last_Event_ID": "1"}, "/a"), ({}, "/a?last-event-id=1")]:
            reader = self.open(target, **fields)
            self.node.put("/a", b"4")
            self.assertEqual([data["content"] for _, _, data in reader.events()][:2], ["2", "3"])
            self.node.put("/a", b"5")
            self.assertEqual([data["content"] for _, _, data in reader.events()], ["5"])
            reader.client.leave()

    def test_nothing_missed(self) -> None:
        """Who missed nothing is told nothing until something changes."""
        reader = self.open("/a", Last_Event_ID=str(self.node.tree.committed_number))
        self.assertEqual(reader.body(), b"retry: 2000\n\n")
        self.node.put("/a", b"2")
        self.assertEqual(len(reader.events()), 1)

    def test_no_gap_and_no_repeat(self) -> None:
        """What is committed while the journal is read comes once, in its order."""
        self.node.put("/a", b"2")
        self.node.journals.hold = True
        reader = self.open("/a", Last_Event_ID="1")
        self.node.put("/a", b"3")
        for value in range(4, 10):
            self.node.put("/a", b"%d" % value)
            self.node.journals.let_go()
        self.node.journals.hold = False
        while self.node.journals.held:
            self.node.journals.let_go()
        self.node.put("/a", b"10")
        self.assertEqual([data["content"] for _, _, data in reader.events()], [str(value) for value in range(2, 11)])

    def staged(self, content: bytes) -> Staged:
        """A write that the journals show already, and the tree not yet."""
        staged = self.node.tree.stage(Unit((Write(("a",), content=content, media_type="text/plain"),)), NOW_MS)
        for entry in staged.entries:
            self.node.journals.entries[entry.journal].append(entry)
        return staged

    def test_what_is_not_committed_yet(self) -> None:
        """An entry that the journal shows before its change is committed comes when it is, once."""
        change = self.node.put("/a", b"2")
        staged = self.staged(b"early")
        reader = self.open("/a", Last_Event_ID="1")
        self.assertEqual(reader.numbers(), [change.number])
        self.node.tree.apply(staged)
        self.node.tree.tell(staged)
        self.assertEqual(reader.numbers(), [staged.last_number])

    def test_told_late(self) -> None:
        """A change that was replayed before its watchers are told of it is not sent again."""
        self.node.journals.hold = True
        reader = self.open("/a", Last_Event_ID="1")
        staged = self.staged(b"2")
        self.node.tree.apply(staged)
        while self.node.journals.held:
            self.node.journals.let_go()
        self.assertEqual(reader.numbers(), [staged.last_number])
        self.node.tree.tell(staged)
        self.node.put("/a", b"3")
        self.assertEqual(reader.numbers(), [staged.last_number + 1])

    def test_many(self) -> None:
        """A long gap is read page by page."""
        for value in range(450):
            self.node.put("/a" if value % 2 else "/b/c", b"%d" % value)
        reader = self.open("/?subtree", Last_Event_ID="3")
        contents: list[object] = []
        while events := reader.events():
            contents += [data["content"] for _, _, data in events]
        self.assertEqual(contents, [str(value) for value in range(450)])

    def test_too_old(self) -> None:
        """Who comes back after the journal has dropped what was missed reads again; then the stream goes on."""
        for value in range(10):
            self.node.put("/a", b"%d" % value)
        self.node.journals.forget_before(CHANGES, 8)
        now = self.node.tree.committed_number
        reader = self.open("/a", Last_Event_ID="2")
        self.assertEqual(reader.events(), [("reset", now, {"from": now})])
        self.node.put("/a", b"next")
        self.assertEqual(reader.numbers(), [now + 1])
        self.assertEqual(self.open("/a", Last_Event_ID="7").numbers()[0], 8)

    def test_too_old_meanwhile(self) -> None:
        """So does who was in time, when the journal drops entries while a slow reader keeps the replay waiting."""
        for value in range(210):
            self.node.put("/a", b"%d" % value + b"x" * 1000)
        reader = self.open("/a", Last_Event_ID="3")
        last = reader.numbers()[-1]
        assert last is not None
        self.assertLess(last, 200)
        now = self.node.tree.committed_number
        self.node.journals.forget_before(CHANGES, now - 2)
        found = []
        while events := reader.events():
            found += events
        self.assertEqual([number for _, number, _ in found], [*range(last + 1, 204), now])
        self.assertEqual(found[-1], ("reset", now, {"from": now}))

    def test_the_oldest_possible(self) -> None:
        """From 0 on everything is there as long as nothing was dropped."""
        self.assertEqual(self.open("/?subtree", Last_Event_ID="0").numbers(), [1, 2, 3])

    def test_of_another_time(self) -> None:
        """A number that this tree has not reached is none of its own: read again."""
        self.assertEqual(self.open("/a", Last_Event_ID="1000").events()[0][0], "reset")

    def test_numbers_of_other_journals(self) -> None:
        """Numbers that went to other journals are no gap."""
        self.node.commit(appends=(Append("audit", {}),))
        self.assertEqual(self.open("/a", Last_Event_ID="4").events(), [])
        self.assertEqual(self.open("/a", Last_Event_ID="3").events(), [])

    def test_content_that_is_forgotten(self) -> None:
        """A value that no journal holds any longer is left out of its event; the event comes."""
        old = self.node.put("/a", b"2")
        self.node.put("/a", b"3")
        self.node.journals.forget_before("values/a", old.number + 1)
        first, second = self.open("/a", Last_Event_ID="3").events()
        self.assertNotIn("content", first[2])
        self.assertEqual(second[2]["content"], "3")

    def test_client_that_leaves_meanwhile(self) -> None:
        """A replay ends with its connection."""
        self.node.journals.hold = True
        reader = self.open("/a", Last_Event_ID="1")
        reader.client.leave()
        self.node.journals.let_go()
        self.assertEqual(self.node.journals.held, [])

    def test_journal_that_fails(self) -> None:
        """A stream whose replay fails ends; the client comes back. What nobody foresaw is logged."""
        for error, logged in [(StorageFailed("for the test"), 0), (RuntimeError("for the test"), 1)]:
            self.node.journals.fail = error
            reader = self.open("/a", Last_Event_ID="1")
            reader.body()
            reader.client.settle()
            self.assertEqual((reader.ended, reader.client.open), (True, False))
            self.assertEqual(len(self.flushLoggedErrors()), logged)


class SlowReaderTests(StreamCase):
    def test_waiting(self) -> None:
        """Some events wait for a reader that is slow."""
        reader = self.open("/a")
        self.node.put("/a", b"x" * 70_000)
        for value in range(4):
            self.node.put("/a", b"%d" % value)
        self.assertEqual(len(reader.events()), 1)
        self.assertEqual([data["content"] for _, _, data in reader.events()], ["0", "1", "2", "3"])
        self.node.put("/a", b"live")
        self.assertEqual(len(reader.events()), 1)

    def test_too_slow(self) -> None:
        """With too many waiting the stream ends; the client comes back to where it was."""
        reader = self.open("/a")
        large = self.node.put("/a", b"x" * 70_000)
        for value in range(6):
            self.node.put("/a", b"%d" % value)
        self.assertEqual(reader.numbers(), [large.number])
        reader.client.settle()
        self.assertEqual((reader.ended, reader.client.open), (True, False))
        self.assertEqual(self.node.metrics.counter("m2mapp_http_stream_overflows_total", "").value, 1)
        again = self.open("/a", Last_Event_ID=str(large.number))
        self.assertEqual([data["content"] for _, _, data in again.events()], [str(value) for value in range(6)])

    def test_too_much(self) -> None:
        """Bytes that wait are limited too; a single large event is not what ends a stream."""
        reader = self.open("/a")
        self.node.put("/a", b"x" * 70_000)
        self.node.put("/a", b"\x01" * 300_000)  # six characters each in JSON
        self.assertTrue(reader.client.open)
        self.node.put("/a", b"y")
        reader.body()
        reader.client.settle()
        self.assertFalse(reader.client.open)

    def test_replay_waits(self) -> None:
        """A replay does not run ahead of its reader."""
        for value in range(20):
            self.node.put("/a", b"%d" % value + b"x" * 40_000)
        reader = self.open("/a", Last_Event_ID="3")
        self.assertEqual(len(reader.events()), 2)
        seen = 2
        while more := reader.events():
            seen += len(more)
        self.assertEqual(seen, 20)
        self.node.put("/a", b"live")
        self.assertEqual(len(reader.events()), 1)

    def test_reader_that_is_gone(self) -> None:
        """A reader that takes nothing for three heartbeats is cut off."""
        reader = self.open("/a")
        self.node.put("/a", b"x" * 70_000)
        self.node.clock.pump([15] * 3)
        self.assertTrue(reader.client.transport.aborted)
        reader.client.settle()


class Follower:
    """A client that follows a resource: it keeps what it saw, and comes back where it was when the stream ends."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.seen = [1]
        self.names: set[str] = set()
        self.reader = self._connect()

    def _connect(self) -> Reader:
        client = self.node.client()
        client.send(encode("GET", "/a", Accept="text/event-stream", Last_Event_ID=str(self.seen[-1])))
        return Reader(client)

    def read(self) -> None:
        for name, number, _ in self.reader.events():
            assert number is not None
            self.names.add(name)
            self.seen.append(number)
        self.reader.client.settle()
        if not self.reader.client.open:
            self.reader = self._connect()

    def drop(self) -> None:
        self.reader.client.leave()
        self.read()


class AnyOrderTests(SynchronousTestCase):
    @settings(max_examples=examples(25))
    @given(st.lists(st.sampled_from(["write", "let go", "read", "drop"]), max_size=40))
    def test_every_change_once(self, steps: list[str]) -> None:
        """However writes, journal reads, slow reading and reconnections interleave: each change once, in order, without a reset."""
        node = Node(HttpLimits(stream_events=3))
        node.put("/a", b"0")
        node.journals.hold = True
        follower = Follower(node)
        does = {
            "write": lambda: node.put("/a", b"x" * 30_000),
            "let go": node.journals.let_go,
            "read": follower.read,
            "drop": follower.drop,
        }
        for step in steps:
            does[step]()
        node.journals.hold = False
        for _ in range(3 * len(steps) + 3):
            node.journals.let_go()
            follower.read()
        self.assertEqual(follower.seen, list(range(1, node.tree.committed_number + 1)))
        self.assertLessEqual(follower.names, {"change"})
        node.close()
        node.journals.let_go()
        self.assertEqual(node.clock.getDelayedCalls(), [])
