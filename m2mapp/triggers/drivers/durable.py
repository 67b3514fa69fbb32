"""What of operations outlasts the process, as one part: feed, recorder, what waits for targets, and the keeper under them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from m2mapp.model.identifiers import Path
from m2mapp.model.metrics import Metrics
from m2mapp.triggers.drivers.feed import Feed
from m2mapp.triggers.drivers.ground import Ground
from m2mapp.triggers.drivers.keeping import Keeper
from m2mapp.triggers.drivers.recording import Recorder
from m2mapp.triggers.drivers.returning import Away


class Durable:
    """Feed, recorder and what waits, of one node.

    `concerns`: whether operations are tied to a path. `exists`: whether an operation of this node (by its path as text, or a URI) is still
    there. `keeper` keeps more over a restart for whoever asks. Before `start` the feed's `handler` and `again` of `away` are to be set.
    """

    def __init__(
        self,
        ground: Ground,
        reactor: IReactorTime,
        metrics: Metrics,
        concerns: Callable[[Path], bool],
        exists: Callable[[str], bool],
        workers: int,
    ) -> None:
        self.keeper = keeper = Keeper(ground.tree, ground.committer, ground.journals, reactor)
        self.recorder = recorder = Recorder(keeper, ground, reactor, metrics, exists, self._is_open)
        self.feed = Feed(
            keeper=keeper,
            concerns=concerns,
            reactor=reactor,
            metrics=metrics,
            workers=workers,
            settled=recorder.settled,
            forget=lambda number: recorder.forget(number, self.away.operations(number)),
        )
        self.away = Away(
            keeper=keeper,
            tree=ground.tree,
            registrations=ground.registrations,
            reactor=reactor,
            clock=ground.clock,
            note=recorder.note,
            settled=recorder.settled,
            forget=lambda number, operation: None if self.feed.is_open(number) else recorder.forget_run(number, operation),
            metrics=metrics,
        )
        ground.tree.follower = self.feed

    def restore(self) -> Deferred[None]:
        """Read what was kept before the last stop; what had left and must not be repeated is recorded as interrupted.

        Fails where the store cannot be read: then nothing is handed on, and nothing is forgotten.
        """
        return self.keeper.restore().addCallback(lambda _: self._take_over())

    def start(self) -> None:
        """Hand on what waits, and follow. Called once the node is restored."""
        self.keeper.start()
        self.recorder.start()
        self.away.start()
        self.feed.start()

    def stop(self) -> Deferred[None]:
        """Hand on nothing any more; fires when all is written."""
        self.feed.stop()
        self.away.stop()
        self.recorder.stop()
        return self.keeper.stop()

    def _is_open(self, number: int, operation: str) -> bool:
        """Whether an operation may be evaluated again for a change: that it was has to be known until then."""
        return self.feed.is_open(number) or operation in self.away.operations(number)

    def _take_over(self) -> None:
        self.recorder.restore()
        self.feed.restore()
        self.away.restore()
        self.recorder.forget_others(self.feed.numbers() | self.away.numbers())
