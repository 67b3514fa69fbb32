"""Where calls that wait for the disk run: threads of the store's own, so that nothing else's waiting (a name look-up's) delays a flush."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")

_THREADS = 2
"""One for flushes, one for what is read from journals meanwhile. More serve no store; many stores that share them may want some."""
_SWITCH_S = 0.0001
"""How long a thread waits for the interpreter before it insists. A reactor under load gives it up more often than Python's 5 ms, for
moments too short to catch, and each time the waiting begins anew: a flush of 1 ms then took up to a second."""


class RunBlocking(Protocol):
    """Runs a call that may wait for the disk."""

    def __call__(self, call: Callable[[], T], /) -> Deferred[T]:
        """A Deferred of what the call returns, or raises; it fires on the reactor's thread."""


class StoreThreads:
    """The threads of one store, or of several that share them: they end when each that started them has stopped them.

    They may be started and stopped again and again; nothing runs before or after.
    """

    def __init__(self, reactor: IReactorFromThreads, most: int = _THREADS) -> None:
        self._reactor, self._most = reactor, most
        self._pool: ThreadPool | None = None
        self._users = 0
        self._switch_s = 0.0

    def start(self) -> None:
        """Begin to take calls. Python switches between threads sooner from now on, until the stop."""
        self._users += 1
        if self._pool is None:
            self._switch_s = sys.getswitchinterval()
            sys.setswitchinterval(min(_SWITCH_S, self._switch_s))
            self._pool = ThreadPool(0, self._most, "m2mapp-store")
            self._pool.start()

    def run(self, call: Callable[[], T], /) -> Deferred[T]:
        """Run a call in one of the threads; see `RunBlocking`."""
        if self._pool is None:
            raise RuntimeError("the store's threads are not running")
        done: Deferred[T] = deferToThreadPool(self._reactor, self._pool, call)
        return done

    def stop(self) -> None:
        """End the threads, where nobody else has started them. What they run is waited for."""
        self._users = max(0, self._users - 1)
        if self._pool is not None and not self._users:
            self._pool.stop()
            self._pool = None
            sys.setswitchinterval(self._switch_s)
