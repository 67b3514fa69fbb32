"""Following the registrations."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.drivers.replan import AFTER_S, RETRY_S, Replanner
from m2mapp.groups.group import GROUP
from m2mapp.groups.index import MemberIndex
from m2mapp.model.errors import NotSupported, Overloaded, StorageFailed
from m2mapp.registry.scl import SCL_TYPE, check
from m2mapp.tree.registrations import SCL, SCLS
from m2mapp.tree.unit import Remove, Resource, Unit, Write
from tests.unit.fakes import build_tree
from tests.unit.groups.parts import uri_at


class Parts:
    """A replanner that runs, of groups a (d1, d2), b (d2) and c (d3)."""

    def __init__(self) -> None:
        self.built, self.clock = build_tree((SCL_TYPE,)), Clock()
        self.planned: list[str] = []
        self.registered: list[str] = []
        self.outcome: Exception | None = None
        index = MemberIndex()
        for name, numbers in (("a", (1, 2)), ("b", (2,)), ("c", (3,))):
            kept = {"members": [uri_at(number) for number in numbers]}
            index.changed(None, Resource(("groups", name), GROUP, kept, None, None, 0, 0, 1))
        self.replanner = Replanner(self.clock, self.built.tree, index, self.plan, lambda device: self.registered.append(device.name))
        self.replanner.start()

    def plan(self, name: str) -> Deferred[None]:
        self.planned.append(name)
        return fail(self.outcome) if self.outcome is not None else succeed(None)

    def register(self, number: int, **more: object) -> None:
        """A device registers."""
        given = {"hosts": [f"d{number}.example.org"], **more}
        self.built.committer.commit(Unit((Write((*SCLS, f"d{number}"), SCL, check("", given)),)))


class ReplanTests(SynchronousTestCase):
    def test_gathered(self) -> None:
        """Devices that register together lead to one plan of each group that has them as members, and of no other."""
        parts = Parts()
        parts.register(2)
        parts.register(1)
        self.assertEqual((parts.planned, parts.replanner.depth, parts.registered), ([], 2, ["d2", "d1"]))
        parts.clock.advance(AFTER_S)
        parts.clock.pump([0.0] * 3)
        self.assertEqual((parts.planned, parts.clock.getDelayedCalls()), (["a", "b"], []))

    def test_the_same_words(self) -> None:
        """A device that registers with the same words is told of its groups; nothing is planned for it."""
        parts = Parts()
        parts.register(3)
        parts.clock.advance(AFTER_S)
        parts.register(3)
        self.assertEqual((parts.registered, parts.planned, parts.clock.getDelayedCalls()), (["d3", "d3"], ["c"], []))

    def test_gone_and_renamed(self) -> None:
        """A registration that ends, or takes another host, concerns the groups of what it was before, too."""
        parts = Parts()
        parts.register(3)
        parts.clock.advance(AFTER_S)
        parts.register(3, hosts=["d1.example.org"])
        parts.clock.advance(AFTER_S)
        parts.clock.advance(0.0)
        self.assertEqual(parts.planned, ["c", "c", "a"])
        parts.built.committer.commit(Unit((Remove((*SCLS, "d3")),)))
        parts.clock.advance(AFTER_S)
        self.assertEqual((parts.planned[3:], parts.registered), (["a"], ["d3", "d3"]))

    def test_failures(self) -> None:
        """A plan that fails is made again later; one that has a bug is logged, and the others are made all the same."""
        parts = Parts()
        parts.outcome = StorageFailed("broken")
        parts.register(2)
        parts.clock.advance(AFTER_S)
        parts.outcome = None
        parts.clock.pump([RETRY_S, 0.0])
        self.assertEqual(parts.planned, ["a", "b", "a", "b"])
        parts.outcome = ValueError("a bug")
        parts.register(3)
        parts.clock.advance(AFTER_S)
        self.assertEqual((len(self.flushLoggedErrors(ValueError)), parts.clock.getDelayedCalls()), (1, []))

    def test_what_cannot_be_planned(self) -> None:
        """A group that cannot be planned as it is waits for nothing."""
        parts = Parts()
        parts.outcome = NotSupported("a group in a group")
        parts.register(3)
        parts.clock.pump([AFTER_S, 0.0])
        self.assertEqual((parts.planned, parts.clock.getDelayedCalls()), (["c"], []))

    def test_no_turn(self) -> None:
        """Where too many edits of a group wait, its plan is made later."""
        parts = Parts()
        planned: list[str] = []

        def refuse(name: str) -> Deferred[None]:
            planned.append(name)
            raise Overloaded

        parts.replanner._plan = refuse
        parts.register(3)
        parts.clock.pump([AFTER_S, RETRY_S, 0.0])
        self.assertEqual(planned, ["c", "c"])
        parts.replanner.stop()

    def test_stop(self) -> None:
        """After a stop nothing is pending, and nobody is followed; after a start again."""
        parts = Parts()
        parts.register(1)
        parts.replanner.stop()
        parts.register(2)
        self.assertEqual((parts.clock.getDelayedCalls(), parts.replanner.depth, parts.registered), ([], 0, ["d1"]))
        parts.replanner.start()
        parts.register(3)
        parts.clock.advance(AFTER_S)
        self.assertEqual(parts.planned, ["c"])
