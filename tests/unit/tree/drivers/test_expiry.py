"""`tree.drivers.expiry`, as the registry uses it: one delayed call ends what is over, and a store that fails does not stop it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import StorageFull
from m2mapp.tree.drivers.expiry import BATCH, RETRY_S
from m2mapp.tree.unit import Remove
from tests.unit.registry.parts import Node, put, register


class ExpiryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()
        self.addCleanup(self.node.service.stopService)

    def names(self) -> list[str]:
        return [resource.path[-1] for resource in self.node.tree.children(("scls",))]

    def add(self, name: str, lifetime_s: int) -> None:
        self.successResultOf(self.node.ask(put(f"/scls/{name}", b'{"lifetime": %d}' % lifetime_s)))

    def test_one_delayed_call_for_all(self) -> None:
        """However many registrations there are, one delayed call waits, for the earliest of them."""
        self.add("late", 100)
        self.add("early", 10)
        self.add("middle", 50)
        self.assertEqual([call.getTime() for call in self.node.clock.getDelayedCalls()], [10.0])
        self.node.clock.advance(10)
        self.assertEqual((self.names(), [call.getTime() for call in self.node.clock.getDelayedCalls()]), (["late", "middle"], [50.0]))

    def test_failed_removal_is_tried_again(self) -> None:
        """With a full disk the registration stays, and goes once there is room; the others are tried all the same."""
        self.add("d1", 10)
        self.add("d2", 10)
        self.node.committer.fault = StorageFull()
        self.node.clock.advance(10)
        self.assertEqual((self.names(), len(self.node.committer.units[3:])), (["d1", "d2"], 2))
        self.node.committer.fault = None
        self.node.clock.advance(RETRY_S - 0.1)
        self.assertEqual(self.names(), ["d1", "d2"])
        self.node.clock.advance(0.1)
        self.assertEqual((self.names(), self.node.clock.getDelayedCalls()), ([], []))

    def test_committer_that_raises_is_logged(self) -> None:
        """What nobody foresaw is logged with its traceback and does not stop the loop."""
        self.add("d1", 10)

        def commit(unit: object) -> None:
            raise ZeroDivisionError

        self.node.committer.commit, kept = commit, self.node.committer.commit  # type: ignore[method-assign, assignment]
        self.node.clock.advance(10)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.node.committer.commit = kept  # type: ignore[method-assign]
        self.node.clock.advance(RETRY_S)
        self.assertEqual(self.names(), [])

    def test_registration_that_is_being_renewed_stays(self) -> None:
        """A registration whose renewal is on its way to the disk when its time is over is not ended."""
        self.add("d1", 10)
        self.node.committer.hold()
        renewed = self.node.ask(register("ep=d1&lt=100"))
        self.node.clock.advance(10)
        self.node.committer.release()
        self.successResultOf(renewed)
        self.assertEqual([unit for unit in self.node.committer.units if unit.changes == (Remove(("scls", "d1")),)], [])
        self.node.clock.advance(99.9)
        self.assertEqual(self.names(), ["d1"])

    def test_renewal_after_the_removal_began(self) -> None:
        """A registration that comes while the old one is being removed stands afterwards, with its own lifetime."""
        self.add("d1", 10)
        self.node.committer.hold()
        self.node.clock.advance(10)
        renewed = self.node.ask(register("ep=d1&lt=100"))
        self.node.committer.release()
        self.successResultOf(renewed)
        self.node.clock.advance(99.9)
        self.assertEqual(self.names(), ["d1"])
        self.node.clock.advance(0.2)
        self.assertEqual(self.names(), [])

    def test_many_at_once_are_ended_in_turns(self) -> None:
        """Registrations that end together are removed in several turns of the reactor, all of them."""
        for number in range(BATCH + 50):
            self.add(f"d{number}", 10)
        pauses: list[float] = []
        later = self.node.clock.callLater

        def recorded(delay: float, call: Callable[..., object], *arguments: object) -> IDelayedCall:
            pauses.append(delay)
            return later(delay, call, *arguments)

        self.patch(self.node.clock, "callLater", recorded)
        self.node.clock.advance(10)
        self.assertEqual((self.names(), pauses, self.node.clock.getDelayedCalls()), ([], [0.0], []))
