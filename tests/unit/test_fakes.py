"""The fakes stand for what they say: they provide the interfaces, and do what the real ones do."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.model.errors import NoSuchResource, PeerFailed, StorageFailed
from m2mapp.model.interfaces import IClock, ICommit, IGathering, IGroupSender, IJournals, IRequester
from m2mapp.model.messages import Answer, GroupOutgoing, Method, Outgoing
from m2mapp.tree.unit import CHANGES, Change, Requirement, Unit, Write
from tests.unit.fakes import FakeClock, RecordingGroupSender, RecordingRequester, build_tree

ASKED = Outgoing(Method.GET, "coap://d1/t")


def write(name: str) -> Unit:
    return Unit((Write((name,), content=b"1"),))


class CommitterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.built = build_tree()
        self.committer, self.tree = self.built.committer, self.built.tree

    def test_interfaces(self) -> None:
        """It commits and reads journals; the clock is a clock."""
        self.assertTrue(verifyObject(ICommit, self.committer) and verifyObject(IJournals, self.committer))
        self.assertTrue(verifyObject(IClock, self.built.clock))

    def test_at_once(self) -> None:
        """A unit is committed at once, at the clock's time; one that may not be fails."""
        self.built.clock.advance(5)
        (change,) = self.successResultOf(self.committer.commit(write("a")))
        self.assertEqual((change.at_ms, len(self.tree)), (FakeClock().now_ms() + 5, 1))
        self.failureResultOf(self.committer.commit(Unit(requires=(Requirement(("b",), exists=True),))), NoSuchResource)

    def test_order(self) -> None:
        """All that is held is applied, then the writers are answered in order, then the watchers told; what they cause comes after."""
        seen: list[str] = []

        def answered(changes: tuple[Change, ...]) -> None:
            seen.append(f"answered {changes[0].path[0]} of {len(self.tree)}")
            if changes[0].path == ("a",):
                self.committer.commit(write("c"))

        self.tree.watch((), lambda change: seen.append(f"told {change.path[0]}"), subtree=True)
        self.committer.hold()
        for name in ("a", "b"):
            self.committer.commit(write(name)).addCallback(answered)
        self.assertEqual((seen, len(self.tree)), ([], 0))
        self.committer.release()
        self.assertEqual(seen, ["answered a of 2", "answered b of 3", "told a", "told b", "told c"])

    def test_failures(self) -> None:
        """What is held can fail, and what comes afterwards is taken; with a fault set all fails."""
        self.committer.hold()
        lost = [self.committer.commit(write(name)) for name in ("a", "b")]
        self.committer.fail_held(StorageFailed())
        for one in lost:
            self.failureResultOf(one, StorageFailed)
        self.committer.fault = StorageFailed()
        self.failureResultOf(self.committer.commit(write("a")), StorageFailed)
        self.committer.fault = None
        self.successResultOf(self.committer.commit(write("a")))
        self.assertEqual((len(self.tree), len(self.committer.units)), (1, 4))

    def test_journals(self) -> None:
        """Entries are read by number, the first after one, or the newest."""
        for name in ("a", "b", "c"):
            self.committer.commit(write(name))

        def numbers(after: int = 0, limit: int = 100, newest: bool = False) -> list[int]:
            return [entry.number for entry in self.successResultOf(self.committer.read_journal(CHANGES, after, limit, newest))]

        self.assertEqual((numbers(), numbers(after=1), numbers(limit=1), numbers(limit=2, newest=True)), ([1, 2, 3], [2, 3], [1], [2, 3]))


class SenderTests(SynchronousTestCase):
    def test_requester(self) -> None:
        """Requests are recorded and answered by the test, or at once by `reply`; one that is cancelled waits no more."""
        requester = RecordingRequester()
        self.assertTrue(verifyObject(IRequester, requester))
        first, second, third = (requester.send(ASKED) for _ in range(3))
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.assertEqual(requester.waiting, [0, 1])
        requester.answer(1, Answer("2.05"))
        requester.answer(0, PeerFailed())
        self.assertEqual((self.successResultOf(second).code, requester.waiting, requester.sent), ("2.05", [], [ASKED] * 3))
        self.failureResultOf(first, PeerFailed)
        replies = iter([Answer("2.04"), PeerFailed(), None])
        ready = RecordingRequester(lambda _: next(replies))
        self.assertEqual(self.successResultOf(ready.send(ASKED)).code, "2.04")
        self.failureResultOf(ready.send(ASKED), PeerFailed)
        self.assertNoResult(ready.send(ASKED))

    def test_group_sender(self) -> None:
        """Group requests are recorded; answers go to who gathers until it closes, and are counted as late after that."""
        sender, answers = RecordingGroupSender(datagrams=2), list[Answer]()
        outgoing = GroupOutgoing(Method.GET, "ff05::1", ("t",))
        gathering = sender.send_to_group(outgoing, answers.append)
        self.assertTrue(verifyObject(IGroupSender, sender) and verifyObject(IGathering, gathering))
        gathering.answer(Answer("2.05", source="fd00::1"))
        gathering.close()
        gathering.answer(Answer("2.05", source="fd00::2"))
        self.assertEqual(([answer.source for answer in answers], gathering.late, gathering.sent), (["fd00::1"], 1, 2))
        sender.fault = PeerFailed("no interface")
        self.assertRaises(PeerFailed, sender.send_to_group, outgoing, answers.append)
        self.assertEqual([one.outgoing for one in sender.gatherings], [outgoing])
