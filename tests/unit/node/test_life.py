"""The life of a node: its parts in order, one after another, and what happens when one of them cannot start."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.settings import CoapSettings
from m2mapp.config import NodeSettings, Settings
from m2mapp.node.life import CannotStart, Node
from m2mapp.store.errors import StoreRefused
from tests.unit.fakes import build_tree


class Part(Service):
    """Records what it is told; `stopping` is what its stop waits for; `fault` keeps it from starting."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self.told = name, told
        self.stopping: Deferred[None] | None = None
        self.fault: Exception | None = None
        self.privileged_fault: Exception | None = None

    def privilegedStartService(self) -> None:
        self.told.append(f"privileged {self.name}")
        if self.privileged_fault is not None:
            raise self.privileged_fault

    def startService(self) -> None:
        if self.fault is not None:
            raise self.fault
        super().startService()
        self.told.append(f"start {self.name}")

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        self.told.append(f"stop {self.name}")
        return self.stopping


class LifeTests(SynchronousTestCase):
    def build(self, *names: str) -> tuple[Node, list[str]]:
        """A node with these parts, and a late one; `prepared` is fired by the test."""
        told: list[str] = []
        built = build_tree()
        node = Node(Settings(NodeSettings("g1", (), "/s"), coap=CoapSettings()), built.tree, built.dispatcher)
        node.parts = tuple(Part(name, told) for name in names)
        node.late = (Part("late", told),)
        self.prepared: Deferred[None] = Deferred()
        node.prepare = lambda: self.prepared
        return node, told

    def part(self, node: Node, number: int) -> Part:
        """The part of that number."""
        found = node.parts[number]
        assert isinstance(found, Part)
        return found

    def test_in_order(self) -> None:
        """Parts start in order and stop in the opposite one, each when the one before it is done; late ones when the node is prepared."""
        node, told = self.build("a", "b")
        node.privilegedStartService()
        node.startService()
        self.assertEqual((told, node.prepared), (["privileged a", "privileged b", "start a", "start b"], False))
        self.prepared.callback(None)
        self.assertEqual((told[4:], node.prepared), (["start late"], True))
        waiting: Deferred[None] = Deferred()
        self.part(node, 1).stopping = waiting
        told.clear()
        done = node.stopService()
        self.assertEqual((told, node.prepared), (["stop late", "stop b"], False))
        waiting.callback(None)
        self.assertEqual(told[2:], ["stop a"])
        self.successResultOf(done)

    def test_again(self) -> None:
        """After a stop it starts again; what was prepared for the first start does not start late parts twice."""
        node, told = self.build("a")
        first = self.prepared
        node.startService()
        self.successResultOf(node.stopService())
        told.clear()
        self.prepared = Deferred()
        node.startService()
        first.callback(None)
        self.prepared.callback(None)
        self.assertEqual(told, ["start a", "start late"])

    def test_stopped_before_it_is_prepared(self) -> None:
        """What is ready when the node has stopped already starts nothing."""
        node, told = self.build("a")
        node.startService()
        self.successResultOf(node.stopService())
        self.prepared.callback(None)
        self.assertEqual((told, node.prepared), (["start a", "stop a"], False))

    def test_not_prepared(self) -> None:
        """A preparation that fails is logged; the node runs and is not ready."""
        node, _ = self.build("a")
        node.startService()
        self.prepared.errback(ValueError("broken"))
        self.assertEqual((len(self.flushLoggedErrors(ValueError)), node.prepared), (1, False))

    def test_a_part_that_cannot_start(self) -> None:
        """Those that have started are stopped, the last first; a taken port is told with node, part and reason."""
        for fault, expected in (
            (OSError(98, "Address already in use"), "g1: [c] Address already in use"),
            (CannotListenError("127.0.0.1", 80, OSError(98, "Address already in use")), "g1: [c] Couldn't listen on 127.0.0.1:80: "),
        ):
            node, told = self.build("a", "b", "c", "d")
            self.part(node, 2).fault = fault
            reason = self.assertRaises(CannotStart, node.startService)
            self.assertTrue(str(reason).startswith(expected), str(reason))
            self.assertEqual((told, node.running), (["start a", "start b", "stop b", "stop a"], 0))

    def test_a_store_that_is_refused(self) -> None:
        """What another part raises is raised as it is; a part that does not stop then is logged."""
        node, _ = self.build("a", "b")
        self.part(node, 1).fault = StoreRefused("in use")
        stuck: Deferred[None] = Deferred()
        self.part(node, 0).stopping = stuck
        self.assertRaises(StoreRefused, node.startService)
        stuck.errback(ValueError("stuck"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_privileged_part_that_cannot_start(self) -> None:
        """So is a port that is taken before the process gives up its rights."""
        node, told = self.build("a", "b")
        self.part(node, 0).privileged_fault = PermissionError(13, "Permission denied")
        self.assertEqual(str(self.assertRaises(CannotStart, node.privilegedStartService)), "g1: [a] Permission denied")
        self.assertEqual(told, ["privileged a"])

    def test_a_part_that_does_not_stop_in_order(self) -> None:
        """It is logged, and the others are stopped."""
        node, told = self.build("a", "b")
        node.startService()
        broken: Deferred[None] = Deferred()
        self.part(node, 1).stopping = broken
        done = node.stopService()
        broken.errback(ValueError("stuck"))
        self.successResultOf(done)
        self.assertEqual((told[-1], len(self.flushLoggedErrors(ValueError))), ("stop a", 1))

    def test_parts_by_class(self) -> None:
        """A part is found by its class; one that is not there is said to be none."""
        node, _ = self.build("a")
        self.assertIs(node.part(Part), node.parts[0])
        self.assertRaises(LookupError, node.part, Node)
