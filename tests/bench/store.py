"""What a durable write costs, and where: SQL on the reactor's thread with a flush elsewhere, SQL and flush in a writer thread, memory.

Also: loading a tree of 1,000, 10,000 and 100,000 resources, and memory for each. Prints tables in Markdown; the ratios come from one run.
`python -m tests.bench.store [folder]`: the folder is on the disk that is measured.
"""

from __future__ import annotations

import gc
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from zope.interface import implementer

from m2mapp.model.interfaces import IClock
from m2mapp.model.metrics import Metrics
from m2mapp.store.committer import Committer
from m2mapp.store.database import Database
from m2mapp.store.interfaces import IDatabase, Volatile
from m2mapp.store.memory import MemoryDatabase
from m2mapp.store.service import StoreService
from m2mapp.store.threads import RunBlocking, StoreThreads
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Staged, Unit, Write

reactor: Any = _reactor
ROOT = Path(__file__).resolve().parents[2]
WRITERS = 64
PATHS = 10_000
BUSY_S = 0.002
REACTOR = {"idle": None, "half busy": BUSY_S, "saturated": 0.0}
"""What the reactor does beside: nothing, or 2 ms of work and then a pause of so many seconds."""
TICK_S = 0.01


@implementer(IClock)
class WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class ThreadDatabase(Database):
    """The other way: the transaction runs with its flush in a thread, SQLite syncing each commit (`synchronous=FULL`)."""

    def open(self) -> None:
        super().open()
        self._parts()[0].execute("PRAGMA synchronous = FULL")
        self._held: tuple[Sequence[Staged], Volatile] = ((), ())

    def write(self, units: Sequence[Staged], volatile: Volatile = ()) -> None:
        self._held = units, volatile

    def flush(self) -> None:
        held, self._held = self._held, ((), ())
        if held[0]:
            super().write(*held)
        self._unflushed.clear()


class NextTurn(Committer):
    """Waits for the next turn of the reactor before it begins, so that the writes of one turn share a flush."""

    _called = False

    def _start(self) -> None:
        if not self._called:
            self._called = True
            self._reactor.callLater(0, self._really)

    def _really(self) -> None:
        self._called = False
        super()._start()


@dataclass(frozen=True, slots=True)
class Figures:
    """Commits a second; milliseconds of commit and of reactor lag (median, 99 in 100, most)."""

    per_s: float
    commit_ms: tuple[float, float, float]
    lag_ms: tuple[float, float, float]


def spread(seconds: list[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum in milliseconds."""
    ordered = sorted(seconds)
    return tuple(1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99, 1.0))  # type: ignore[return-value]


def at_once(call: Callable[[], Any], /) -> Deferred[Any]:
    """Runs blocking calls on the spot: right for memory only."""
    try:
        return succeed(call())
    except Exception as error:  # noqa: BLE001 - it belongs to who waits
        return fail(error)


class Load:
    """So many writers, each of which writes again as soon as it is answered, for some seconds; and what keeps the reactor busy."""

    def __init__(self, committer: Committer, writers: int, pause_s: float | None, length_s: float) -> None:
        self._committer, self._writers, self._pause_s = committer, writers, pause_s
        self._end = time.perf_counter() + length_s
        self._length_s = length_s
        self._chance = random.Random(1)
        self._commits: list[float] = []
        self._lags: list[float] = []

    def run(self) -> Deferred[Figures]:
        """Run; what was measured."""
        self._tick(None)
        if self._pause_s is not None:
            self._burn(self._pause_s)
        writers = [self._writer(Deferred()) for _ in range(self._writers)]
        return DeferredList(writers, fireOnOneErrback=True).addCallback(lambda _: self._figures())

    def _figures(self) -> Figures:
        return Figures(len(self._commits) / self._length_s, spread(self._commits), spread(self._lags))

    def _writer(self, done: Deferred[None]) -> Deferred[None]:
        now = time.perf_counter()
        if now > self._end:
            done.callback(None)
            return done
        path = ("devices", f"d{self._chance.randrange(PATHS):05}", "temperature")
        committed = self._committer.commit(Unit((Write(path, content=b"21.5", media_type="text/plain"),), trace="0" * 32))

        def again(_: object) -> None:
            self._commits.append(time.perf_counter() - now)
            # As an HTTP client would: its next request is another turn's.
            reactor.callLater(0, self._writer, done)

        committed.addCallback(again).addErrback(lambda failure: done.errback(failure))
        return done

    def _tick(self, due: float | None) -> None:
        now = time.perf_counter()
        if due is not None:
            self._lags.append(max(0.0, now - due))
        if now < self._end:
            reactor.callLater(TICK_S, self._tick, now + TICK_S)

    def _burn(self, pause_s: float) -> None:
        until = time.perf_counter() + BUSY_S
        while time.perf_counter() < until:
            pass
        if until < self._end:
            reactor.callLater(pause_s, self._burn, pause_s)


async def measure_way(
    folder: Path, database: IDatabase, run_blocking: RunBlocking, kind: type[Committer], plan: tuple[int, float | None, float]
) -> Figures:
    """One way, with so many writers, what the reactor does beside, for some seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = Tree(lambda _: False, lambda error: print(error, file=sys.stderr))
    database.open()
    tree.load(*database.load())
    committer = kind(tree, database, WallClock(), reactor, run_blocking, Metrics())
    writers, pause_s, length_s = plan
    await Load(committer, WRITERS, None, length_s / 4).run()
    figures = await Load(committer, writers, pause_s, length_s).run()
    await committer.stop()
    database.close()
    shutil.rmtree(folder)
    return figures


async def compare_ways(folder: Path, length_s: float) -> str:
    """The table of ways."""
    head = "| way | writers | reactor | commits/s (of memory only) | commit ms: median, 99 %, most | reactor lag ms: the same |"
    lines = [head, "|---|---|---|---|---|---|"]
    threads = StoreThreads(reactor)
    threads.start()
    # Whatever comes of it, threads that run on would keep the process from ending.
    reactor.addSystemEventTrigger("during", "shutdown", threads.stop)
    for writers in (1, WRITERS):
        for state, pause_s in REACTOR.items():
            memory = 0.0
            ways: list[tuple[str, IDatabase, RunBlocking, type[Committer]]] = [
                ("memory only", MemoryDatabase(random.Random(1)), at_once, Committer),
                ("SQL on the reactor, flush in a thread", Database(folder / "t"), threads.run, Committer),
                ("the same, from the next turn on", Database(folder / "t"), threads.run, NextTurn),
                ("SQL and flush in a thread", ThreadDatabase(folder / "t"), threads.run, Committer),
            ]
            for name, database, run_blocking, kind in ways:
                found = await measure_way(folder / "t", database, run_blocking, kind, (writers, pause_s, length_s))
                memory = memory or found.per_s
                commit, lag = (", ".join(f"{figure:.2f}" for figure in figures) for figures in (found.commit_ms, found.lag_ms))
                lines.append(f"| {name} | {writers} | {state} | {found.per_s:,.0f} ({found.per_s / memory:.2f}) | {commit} | {lag} |")
    return "\n".join(lines)


def resident_bytes() -> int:
    """The memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def write_resources(folder: Path, count: int) -> None:
    """A state directory with so many resources: collections of four content resources each."""
    database = Database(folder)
    folder.mkdir(parents=True, exist_ok=True)
    database.open()
    tree = Tree(lambda _: False, lambda error: print(error, file=sys.stderr))
    for first in range(0, count // 5, 100):
        paths = [
            (f"d{device:06}", name) for device in range(first, min(first + 100, count // 5)) for name in ("temp", "hum", "rssi", "volt")
        ]
        staged = tree.stage(Unit(tuple(Write(path, content=b"21.5", media_type="text/plain") for path in paths)), 1_700_000_000_000 + first)
        database.write([staged])
        tree.apply(staged)
    database.flush()
    database.close()


def measure_loading(folder: Path) -> str:
    """Load what is there into a new tree, in this process: one line of a table."""
    gc.collect()
    before = resident_bytes()
    began = time.perf_counter()
    tree = Tree(lambda _: False, lambda error: print(error, file=sys.stderr))
    StoreService(folder, tree, WallClock(), reactor, Metrics()).open()
    took = time.perf_counter() - began
    gc.collect()
    return f"| {len(tree):,} | {1e3 * took:,.0f} | {(resident_bytes() - before) / len(tree):,.0f} |"


def measure_loading_apart(folder: Path, count: int) -> str:
    """The same in a process of its own, so that its memory is only that."""
    write_resources(folder, count)
    command = [sys.executable, "-m", "tests.bench.store", "--load", str(folder)]
    line = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    shutil.rmtree(folder)
    return line


async def report(folder: Path, length_s: float) -> str:
    """All tables."""
    ways = await compare_ways(folder, length_s)
    loading = [measure_loading_apart(folder / "l", count) for count in (1_000, 10_000, 100_000)]
    head = ["| resources | lock, check and load: ms | resident bytes each |", "|---|---|---|"]
    return "\n".join([ways, "", *head, *loading])


def main(folder: Path, length_s: float = 2.5) -> None:
    """Print the report."""

    def finish(result: object) -> None:
        print(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(report(folder, length_s)).addBoth(finish))
    reactor.run()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        print(measure_loading(Path(sys.argv[2])))
    else:
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as scratch:
            main(Path(scratch))
