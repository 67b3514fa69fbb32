"""Writes what a model measures into the node's own tree, period by period.

One write at a time: the next period begins when the last write is answered. What is measured is in `models`.
"""

from __future__ import annotations

from random import Random

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import new_trace, path_text
from m2mapp.model.interfaces import ICommit
from m2mapp.net.alarm import Alarm
from m2mapp.sim.models import MODELS, Measured
from m2mapp.sim.settings import SimSettings
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import CONTENT, Unit, Write

JITTER = 0.1
"""Each period is up to this part shorter or longer, at random, so that many devices do not write at one instant."""


class SimService(Service):
    """The model of one node. A write that fails is logged, and the next period goes on."""

    name = "sim"
    _log = Logger()

    def __init__(self, tree: Tree, committer: ICommit, reactor: IReactorTime, settings: SimSettings) -> None:
        self._tree, self._committer, self._reactor = tree, committer, reactor
        # Simulated values are to be the same again for the same seed.
        self._random = Random(settings.seed)  # noqa: S311
        self._model = MODELS[settings.model](self._random)
        self._path = settings.path or self._model.path
        self._period_s = settings.period_s
        self._alarm = Alarm(reactor, self._measure)
        self._writing = self._failing = False

    def startService(self) -> None:
        """Write the first value, unless the resource is there already; measure from then on."""
        super().startService()
        if self._writing:
            return  # A write from before a stop: it goes on from there.
        if self._tree.expected(self._path) is None:
            self._write(self._model.first())
        else:
            self._wait()

    def stopService(self) -> None:
        """Measure no more. A write that is under way goes on in the store."""
        super().stopService()
        self._alarm.stop()

    def _measure(self) -> None:
        there = self._tree.expected(self._path)
        measured = self._model.next(self._reactor.seconds(), there.content if there is not None else None)
        if measured is None:
            self._wait()
        else:
            self._write(measured)

    def _write(self, measured: Measured) -> None:
        there = self._tree.expected(self._path)
        attributes = there.attributes if there is not None else {"attributes": dict(self._model.attributes)}
        write = Write(self._path, CONTENT, attributes, measured.content, measured.media_type)
        self._writing = True
        written: Deferred[object] = maybeDeferred(self._committer.commit, Unit((write,), trace=new_trace()))
        written.addCallbacks(self._written, self._failed)
        written.addBoth(self._answered)

    def _written(self, _: object) -> None:
        self._failing = False

    def _failed(self, failure: Failure) -> None:
        if failure.check(Fault) is None:
            self._log.failure("{path} could not be measured", failure, path=path_text(self._path))
        elif not self._failing:
            # A full disk lasts: it is told once, not each period.
            self._log.warn("{path} could not be written: {fault}", path=path_text(self._path), fault=failure.getErrorMessage())
        self._failing = True

    def _answered(self, _: object) -> None:
        self._writing = False
        if self.running:
            self._wait()

    def _wait(self) -> None:
        self._alarm.set(self._period_s * self._random.uniform(1 - JITTER, 1 + JITTER))
