"""The store as a service: refuses at the door, loads the tree, starts and stops in order.

`open` runs before the process detaches, so that a refusal is told to who starts it; SQLite's locks do not outlive that fork, so the
file is closed again and opened anew in `startService`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger

from m2mapp.model.errors import Fault
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
    """

    name = "store"
    _log = Logger()

    def __init__(
        self, state_dir: Path, tree: Tree, clock: IClock, reactor: IReactorTime, metrics: Metrics, settings: StoreSettings | None = None
    ) -> None:
        self._state_dir, self._tree = state_dir, tree
        self._lock = StateLock(state_dir)
        self._database = Database(state_dir, settings)
        self._threads = StoreThreads(IReactorFromThreads(reactor))
        self._loaded = False
        self.committer = Committer(tree, self._database, clock, reactor, self._threads.run, metrics)
        self.committer.stop()

    def open(self) -> None:
        """Blocking. Take the directory's lock, see to the file, load the tree. Raises `StoreRefused`, and holds nothing then."""
        make_state_dir(self._state_dir)
        self._lock.acquire()
        try:
            self._open_and_load()
            self._database.close()
        except Fault as fault:
            self._lock.release()
            raise StoreRefused(f"{self._database.path}: {fault}; see that the disk has room and works") from fault
        except BaseException:
            self._database.close()
            self._lock.release()
            raise

    def startService(self) -> None:
        """Open the file and take writes. Raises `StoreRefused`; also where another process wrote since the tree was loaded."""
        self._lock.acquire()
        try:
            self._open_and_load()
        except BaseException:
            self._database.close()
            self._lock.release()
            raise
        self._threads.start()
        self.committer.start()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Take no further writes, flush those that were taken, save the volatile attributes, close the file, give the lock up."""
        super().stopService()
        stopped = self.committer.stop()
        stopped.addCallback(lambda _: self._threads.run(self._database.close))
        stopped.addErrback(lambda failure: self._log.failure("the store was not closed in order", failure))
        stopped.addCallback(lambda _: self._stopped())
        return stopped

    def _open_and_load(self) -> None:
        self._database.open()
        resources, last_number = self._database.load()
        if not self._loaded:
            self._tree.load(resources, last_number)
            self._loaded = True
        elif last_number != self._tree.committed_number:
            raise StoreRefused(f"{self._database.path}: another process wrote to it; start the program anew")

    def _stopped(self) -> None:
        self._threads.stop()
        self._lock.release()
