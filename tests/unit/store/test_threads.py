"""The store's own threads, on a real reactor."""

from __future__ import annotations

import sys
import threading

from twisted.internet import reactor as _reactor  # noqa: TID251 - threads need a real one
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import TestCase

from m2mapp.store.threads import StoreThreads


def fail() -> None:
    """What a blocking call may do."""
    raise OSError(5, "Input/output error")


class ThreadTests(TestCase):
    async def test_calls(self) -> None:
        """A call runs in another thread; its result, or what it raised, comes back; after a stop they can be started again."""
        threads = StoreThreads(IReactorFromThreads(_reactor))
        for _ in range(2):
            threads.start()
            self.assertNotEqual(await threads.run(threading.get_ident), threading.get_ident())
            await self.assertFailure(threads.run(fail), OSError)
            threads.stop()
        threads.stop()

    def test_switching(self) -> None:
        """While they run Python switches between threads soon enough for a busy reactor; afterwards as before."""
        before = sys.getswitchinterval()
        threads = StoreThreads(IReactorFromThreads(_reactor))
        threads.start()
        threads.start()
        threads.stop()
        self.assertLess(sys.getswitchinterval(), 0.001)
        threads.stop()
        self.assertEqual(sys.getswitchinterval(), before)
        self.assertRaises(RuntimeError, threads.run, fail)

    async def test_two_at_once(self) -> None:
        """A call that takes long keeps no other one from running."""
        threads = StoreThreads(IReactorFromThreads(_reactor))
        threads.start()
        self.addCleanup(threads.stop)
        go = threading.Event()
        first: Deferred[bool] = threads.run(lambda: go.wait(60))
        await threads.run(go.set)
        self.assertTrue(await first)

    def test_not_running(self) -> None:
        """Before the start nothing is taken."""
        self.assertRaises(RuntimeError, StoreThreads(IReactorFromThreads(_reactor)).run, fail)
