"""What the store's tests begin with: a tree, units, a disk that fails when told, a committer whose blocking calls the test lets happen."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path as FilePath
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from m2mapp.model.identifiers import Path
from m2mapp.model.metrics import Metrics
from m2mapp.store.committer import Committer
from m2mapp.store.interfaces import IDatabase
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Append, Change, Document, Remove, Resource, Staged, Unit, Write
from tests.unit.fakes import START_MS, FakeClock

T = TypeVar("T")
Content = dict[Path, tuple[str, dict[str, object], bytes | None]]


def raise_it(error: Exception) -> None:
    """Give this to a tree as `on_error`, so that no watcher's fault is overlooked."""
    raise error


def build_tree() -> Tree:
    """An empty tree in which nothing is derived."""
    return Tree(lambda _type: False, raise_it)


def put(*segments: str, content: bytes | None = b"21.5", attributes: Document | None = None, type: str = "content") -> Write:
    """A write to a path."""
    return Write(tuple(segments), type, attributes or {}, content, "text/plain" if content is not None else None)


def unit(*changes: Write | Remove, appends: Iterable[Append] = ()) -> Unit:
    """A unit of these."""
    return Unit(changes, tuple(appends), trace="0af7651916cd43dd8448eb211c80319c")


def stage(tree: Tree, *changes: Write | Remove, appends: Iterable[Append] = (), apply: bool = True) -> Staged:
    """Stage a unit, and apply it to the tree at once, as it will be."""
    staged = tree.stage(unit(*changes, appends=appends), START_MS)
    if apply:
        tree.apply(staged)
    return staged


def resources(tree: Tree) -> dict[Path, Resource]:
    """All that is committed."""
    return {found.path: found for found in tree.walk()}


def loaded(database: IDatabase) -> dict[Path, Resource]:
    """All that a database loads."""
    return {found.path: found for found, _ in database.load()[0]}


def copy_state(source: FilePath, target: FilePath) -> FilePath:
    """The files of a state directory as they are now, elsewhere: what a killed process leaves. The log's index does not count."""
    found = [path for path in source.iterdir() if path.is_file() and not path.name.endswith("-shm")]
    target.mkdir()
    for path in found:
        shutil.copy(path, target / path.name)
    return target


class FailingSync:
    """Stands for `os.fdatasync`: fails as often as told, with the error number told; counts."""

    def __init__(self) -> None:
        self.failures = 0
        self.number = 5
        self.count = 0

    def __call__(self, descriptor: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(self.number, os.strerror(self.number))
        self.count += 1
        os.fdatasync(descriptor)


class Threads:
    """Stands for the store's threads: blocking calls wait until the test lets them happen, or happen at once."""

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.waiting: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()

    def run(self, call: Callable[[], T], /) -> Deferred[T]:
        if self.at_once:
            return maybeDeferred(call)
        done: Deferred[T] = Deferred()
        self.waiting.append((call, done))
        return done

    def step(self) -> None:
        """Let the oldest call happen."""
        call, done = self.waiting.popleft()
        maybeDeferred(call).chainDeferred(done)

    def finish(self) -> None:
        """Let all happen, and what comes of it."""
        while self.waiting:
            self.step()


class Store:
    """A committer with all that it stands on."""

    def __init__(self, database: IDatabase, at_once: bool = True) -> None:
        self.database = database
        self.tree, self.clock, self.reactor = build_tree(), FakeClock(), Clock()
        self.threads, self.metrics = Threads(at_once), Metrics()
        self.tree.load(*database.load())
        database.open()
        self.committer = Committer(self.tree, database, self.clock, self.reactor, self.threads.run, self.metrics)
        self.told: list[int] = []
        self.tree.watch((), lambda change: self.told.append(change.number), subtree=True)

    def commit(self, *changes: Write | Remove, appends: Iterable[Append] = ()) -> Deferred[tuple[Change, ...]]:
        return self.committer.commit(unit(*changes, appends=appends))

    def close(self) -> None:
        """End in order, so that nothing is left pending."""
        self.threads.at_once = True
        stopped: list[object] = []
        self.committer.stop().addCallback(stopped.append)
        self.threads.finish()
        assert stopped == [None]
        self.database.close()
        assert self.reactor.getDelayedCalls() == []
