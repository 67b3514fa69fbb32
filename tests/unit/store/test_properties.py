"""Tree, committer and database against a plain dict, under flushes that fail, a disk that is full, and crashes."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path as FilePath

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred

from m2mapp.model.identifiers import Path
from m2mapp.store.committer import RETRY_S
from m2mapp.store.database import Database
from m2mapp.store.interfaces import IDatabase
from m2mapp.store.memory import MemoryDatabase
from m2mapp.store.settings import StoreSettings
from m2mapp.tree.unit import Change, Remove, Write
from tests.unit import examples
from tests.unit.store.build import FailingSync, Store, copy_state, loaded

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple)
CHANGES = st.lists(st.one_of(PATHS.map(Remove), st.builds(Write, PATHS, content=st.binary(max_size=3))), min_size=1, max_size=4)
Model = dict[Path, bytes | None]
QUICK = settings(max_examples=examples(20), stateful_step_count=40, suppress_health_check=list(HealthCheck))


def apply(model: Model, changes: list[Write | Remove]) -> Model:
    """What a unit leaves of a plain dict."""
    after = dict(model)
    for change in changes:
        if isinstance(change, Remove):
            after = {path: content for path, content in after.items() if path[: len(change.path)] != change.path}
        else:
            for depth in range(1, len(change.path)):
                after.setdefault(change.path[:depth], None)
            after[change.path] = change.content
    return after


class Machine(RuleBasedStateMachine):
    """`answered` is the dict after the last answered write, `asked` the dicts after each that waits for its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: Model = {}
        self.asked: list[Model] = []
        self.unsure: list[Model] = []
        self.store = Store(self.make(), at_once=False)

    def make(self) -> IDatabase:
        self.memory = MemoryDatabase(random.Random(5))
        return self.memory

    def crash(self) -> IDatabase:
        self.memory.crash()
        return self.memory

    def fail_flushes(self, count: int) -> None:
        self.memory.fail_flushes = count

    @rule(changes=CHANGES)
    def commit(self, changes: list[Write | Remove]) -> None:
        """Ask for a write."""
        base = self.asked[-1] if self.asked else self.answered
        after = apply(base, changes)
        writable = self.store.committer.writable
        done: Deferred[tuple[Change, ...]] = self.store.commit(*changes)
        if not writable:
            done.addErrback(lambda _: None)
            return
        self.asked.append(after)
        done.addCallbacks(lambda _: self.succeed(after), lambda _: self.fail())

    def succeed(self, after: Model) -> None:
        """Writes are answered in the order in which they were asked for."""
        assert self.asked.pop(0) is after
        self.answered, self.unsure = after, []

    def fail(self) -> None:
        """One that fails takes all that rest on it along; the disk may or may not have it, until that is repaired."""
        self.unsure.append(self.asked.pop(0))

    @rule()
    @precondition(lambda self: self.store.threads.waiting)
    def step(self) -> None:
        """Let the disk do one thing."""
        self.store.threads.step()

    @rule(count=st.integers(1, 3))
    def break_disk(self, count: int) -> None:
        """The next flushes fail."""
        self.fail_flushes(count)

    @rule()
    def wait(self) -> None:
        """Time for another try."""
        self.store.reactor.advance(RETRY_S)

    @rule()
    def kill(self) -> None:
        """The process is killed and started again: all that was answered, then a beginning of what was asked for, and nothing else."""
        possible = [self.answered, *self.asked, *([] if self.store.committer.writable else self.unsure)]
        self.store.threads.waiting.clear()
        for delayed in self.store.reactor.getDelayedCalls():
            delayed.cancel()
        self.store = Store(self.crash(), at_once=False)
        self.fail_flushes(0)
        found = self.contents()
        assert found in possible, (found, possible)
        self.answered, self.asked, self.unsure = found, [], []

    def contents(self) -> Model:
        """What readers see."""
        return {resource.path: resource.content for resource in self.store.tree.walk()}

    @invariant()
    def readers_see_what_was_answered(self) -> None:
        """No more and no less."""
        assert self.contents() == self.answered

    def teardown(self) -> None:
        """In the end the disk works, and has what was answered."""
        self.fail_flushes(0)
        self.store.threads.finish()
        self.store.reactor.advance(RETRY_S)
        self.store.close()
        assert {path: resource.content for path, resource in loaded(self.store.database).items()} == self.answered


class SqliteMachine(Machine):
    """The same on files: a crash is a copy of them."""

    def make(self) -> IDatabase:
        self.folder = FilePath(tempfile.mkdtemp())
        self.copies = 0
        (self.folder / "0").mkdir()
        return self.open_at("0")

    def open_at(self, name: str) -> Database:
        self.sync = FailingSync()
        return Database(self.folder / name, StoreSettings(wal_bytes=20_000, reserve_bytes=40_000), sync=self.sync)

    def crash(self) -> IDatabase:
        self.copies += 1
        old, new = self.folder / str(self.copies - 1), self.folder / str(self.copies)
        copy_state(old, new)
        self.sync.failures = 0
        self.store.database.close()
        shutil.rmtree(old)
        return self.open_at(str(self.copies))

    def fail_flushes(self, count: int) -> None:
        self.sync.failures = count

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)


MemoryTests = Machine.TestCase
MemoryTests.settings = QUICK
SqliteTests = SqliteMachine.TestCase
SqliteTests.settings = settings(QUICK, max_examples=examples(8))
