"""The store as a service: refuses at the door, loads the tree, starts and stops in order.

`open` runs before the process detaches, so that a refusal is told to who starts it. SQLite's locks do not outlive that fork: the file
is opened to write in `startService` only.
"""

from __future__ import annotations

import gc
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger

from m2mapp.model.interfaces import IClock
from m2mapp.model.metrics import Metrics
from m2mapp.store.committer import Committer
from m2mapp.store.database import Database
from m2mapp.store.errors import StoreRefused
from m2mapp.store.files import make_state_dir
from m2mapp.store.lock import StateLock
from m2mapp.store.settings import StoreSettings
from m2mapp.store.threads import StoreThreads
from m2mapp.tree.tree import Tree


class StoreService(Service):
    """Keeps one tree in one state directory. `committer` makes changes durable and reads journals, while the service runs.

    The order of use: make one, `open` it, start it; it may be stopped and started again. The reactor also runs calls from threads.
    `threads` are those that wait for the disk, where stores share them; by default it has its own.
    """

    name = "store"
    _log = Logger()

    def __init__(  # noqa: PLR0913 - what it stands on, and two that are seldom given
        self,
        state_dir: Path,
        tree: Tree,
        clock: IClock,
        reactor: IReactorTime,
        metrics: Metrics,
        settings: StoreSettings | None = None,
        *,
        threads: StoreThreads | None = None,
    ) -> None:
        self._state_dir, self._tree = state_dir, tree
        self._lock = StateLock(state_dir)
        self._database = Database(state_dir, settings)
        self._threads = threads or StoreThreads(IReactorFromThreads(reactor))
        self.committer = Committer(tree, self._database, clock, reactor, self._threads.run, metrics)
        self.committer.stop()
        self._loaded: tuple[tuple[int, int], ...] | None = None

    def open(self) -> None:
        """Blocking. Take the directory's lock, see to the file, load the tree. Raises `StoreRefused`, and holds nothing then."""
        make_state_dir(self._state_dir)
        self._lock.acquire()
        try:
            self._load()
            self._loaded = self._database.stamp()
        except BaseException:
            self._lock.release()
            raise

    def startService(self) -> None:
        """Open the file and take writes. Raises `StoreRefused`, also where the file is not the tree: another process wrote to it since."""
        self._lock.acquire()
        try:
            if self._loaded is None or self._database.stamp() != self._loaded:
                raise StoreRefused(f"{self._database.path}: it may have been written to since it was loaded; start the program anew")
            self._database.open()
        except BaseException:
            self._lock.release()
            raise
        self._threads.start()
        self.committer.start()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Take no further writes, flush those that were taken, save the volatile attributes, close the file, give the lock up."""
        runs = bool(self.running)
        super().stopService()
        stopped = self.committer.stop()
        if not runs:
            return stopped.addCallback(lambda _: self._lock.release())
        self._loaded = None
        stopped.addCallback(lambda _: self._threads.run(self._database.close))
        stopped.addCallback(lambda _: self._remember())
        stopped.addErrback(lambda failure: self._log.failure("the store was not closed in order", failure))
        stopped.addCallback(lambda _: self._stopped())
        return stopped

    def _load(self) -> None:
        resources, last_number = self._database.load()
        # Nothing that is loaded is garbage: looking for some would take as long as the loading.
        collects = gc.isenabled()
        gc.disable()
        try:
            self._tree.load(resources, last_number)
        finally:
            if collects:
                gc.enable()

    def _remember(self) -> None:
        """What was closed in order is what the tree holds."""
        if not self.committer.failing:
            self._loaded = self._database.stamp()

    def _stopped(self) -> None:
        self._threads.stop()
        self._lock.release()
