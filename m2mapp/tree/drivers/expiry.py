"""Ends resources whose lifetime is over: one delayed call, for the earliest of them.

It commits the removals and nothing else: a watcher of the tree takes what is removed out of the lifetimes. When they end is counted in
`tree.lifetimes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path, new_trace, path_text
from m2mapp.model.interfaces import ICommit
from m2mapp.tree.lifetimes import Lifetimes
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Remove, Unit, Write

RETRY_S = 10.0
"""So long after a removal that failed (a full disk) it is tried again."""
BATCH = 200
"""So many are ended in one turn of the reactor: thousands that end together do not stall it."""


class Expiry:
    """Removes what `lifetimes` says is over. `moved` is to be called whenever the earliest end may have changed."""

    _log = Logger()

    def __init__(
        self,
        lifetimes: Lifetimes,
        tree: Tree,
        committer: ICommit,
        reactor: IReactorTime,
        on_expired: Callable[[], object] = lambda: None,
        removal: Callable[[Path], Remove | Write | Unit] = Remove,
    ) -> None:
        """`on_expired` is called for each resource that was ended; `removal` says what ends it."""
        self._lifetimes, self._tree, self._committer, self._reactor = lifetimes, tree, committer, reactor
        self._removal = removal
        self._on_expired = on_expired
        self._call: IDelayedCall | None = None
        self._call_at_s = 0.0
        self._running = False

    def start(self) -> None:
        """End them from now on."""
        self._running = True
        self.moved()

    def stop(self) -> None:
        """End none any more; no delayed call is left."""
        self._running = False
        self._cancel()

    def moved(self) -> None:
        """Wait for the earliest end. Called for each that begins: where the end is later than the call, the call stays as it is."""
        if not self._running:
            return
        ends_s = self._lifetimes.next_end_s()
        if ends_s is None or (self._call is not None and self._call_at_s <= ends_s):
            return
        self._cancel()
        now_s = self._reactor.seconds()
        self._call_at_s = max(now_s, ends_s)
        self._call = self._reactor.callLater(self._call_at_s - now_s, self._end_due)

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _end_due(self) -> None:
        self._call = None
        now_s = self._reactor.seconds()
        for path in self._lifetimes.due(now_s, BATCH):
            # Due again in a while, unless the removal is committed before, which forgets the path.
            self._lifetimes.start(path, RETRY_S, now_s)
            self._end(path)
        self.moved()

    def _end(self, path: Path) -> None:
        if self._tree.expected(path) is not self._tree.find(path):
            return  # It is being written or removed: what comes of that decides.
        removal = self._removal(path)
        unit = replace(removal, trace=new_trace()) if isinstance(removal, Unit) else Unit((removal,), trace=new_trace())
        done: Deferred[object] = maybeDeferred(self._committer.commit, unit)
        done.addCallbacks(self._ended, self._failed, callbackArgs=(path, unit.trace), errbackArgs=(path, unit.trace))

    def _ended(self, _: object, path: Path, trace: str) -> None:
        self._on_expired()
        self._log.info("{path} is over", path=path_text(path), trace=trace)

    def _failed(self, failure: Failure, path: Path, trace: str) -> None:
        if failure.check(Fault) is None:
            self._log.failure("{path} is over and could not be removed", failure, path=path_text(path), trace=trace)
            return
        text = "{path} is over and could not be removed, tried again in {pause_s:g} s: {fault}"
        self._log.warn(text, path=path_text(path), pause_s=RETRY_S, fault=failure.getErrorMessage(), trace=trace)
