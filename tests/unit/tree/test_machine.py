"""The tree as a stateful machine against two plain dicts: what is committed, and what is expected."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Conflict, NoSuchResource, PreconditionFailed
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import ANY_ETAG, Conditions
from m2mapp.tree.etags import CONTENT_TAG, JSON_TAG, etag
from m2mapp.tree.paths import starts_with
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from m2mapp.tree.unit import COLLECTION, CONTENT, Change, Remove, Requirement, Staged, Unit, Write
from m2mapp.tree.watch import Watch
from tests.unit import examples

State = dict[Path, tuple[bytes | None, int]]
"""What stands at each path: its content, None for a collection, and its version."""

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple)
WRITES = st.builds(lambda path, content: Write(path, CONTENT, content=content), PATHS, st.binary(max_size=2))
PARTS = st.lists(WRITES | st.builds(Remove, PATHS), min_size=1, max_size=4)
DERIVED = Types().derived


def shape_after(state: State, parts: list[Write | Remove]) -> dict[Path, bytes | None]:
    """What stands where after the parts, told in the plainest way."""
    after = {path: content for path, (content, _) in state.items()}
    for part in parts:
        if isinstance(part, Remove):
            after = {path: content for path, content in after.items() if not starts_with(path, part.path)}
        else:
            for depth in range(1, len(part.path)):
                after.setdefault(part.path[:depth], None)
            after[part.path] = part.content
    return after


def changed(state: State, changes: tuple[Change, ...]) -> None:
    """Make the changes in the dict."""
    for change in changes:
        if change.after is None:
            del state[change.path]
        else:
            state[change.path] = (change.after.content, change.number)


class Listener:
    """A watcher and what it should have heard."""

    def __init__(self, tree: Tree, path: Path, subtree: bool) -> None:
        self.path, self.subtree = path, subtree
        self.heard: list[Change] = []
        self.due: list[Change] = []
        self.watch: Watch = tree.watch(path, self.heard.append, subtree=subtree)

    def concerns(self, change: Change) -> bool:
        return starts_with(change.path, self.path) if self.subtree else change.path == self.path


class TreeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []
        self.tree = Tree(DERIVED, self.errors.append)
        self.committed: State = {}
        self.expected: State = {}
        self.staged: list[Staged] = []
        self.latest: dict[Path, int] = {}
        self.floor = 0
        self.number = 0
        self.listeners: list[Listener] = []

    @rule(parts=PARTS)
    def stage(self, parts: list[Write | Remove]) -> None:
        self.took(self.tree.stage(Unit(tuple(parts)), 0), parts)

    def took(self, staged: Staged, parts: list[Write | Remove]) -> None:
        after = shape_after(self.expected, parts)
        written = {part.path for part in parts if isinstance(part, Write)}
        for change in staged.changes:
            before = self.expected.get(change.path)
            assert (change.before is None) == (before is None), change
            assert change.before is None or (change.before.content, change.before.version) == before
            assert change.number > self.number
            self.number = change.number
            assert change.after is None or change.path in written or change.after.type == COLLECTION
        assert len({change.path for change in staged.changes}) == len(staged.changes)
        changed(self.expected, staged.changes)
        assert {path: content for path, (content, _) in self.expected.items()} == after
        self.number = max(self.number, staged.last_number)
        self.staged.append(staged)

    @rule(path=PATHS, exists=st.booleans())
    def require_existence(self, path: Path, exists: bool) -> None:
        unit = Unit((Write(path, content=b"r"),), requires=(Requirement(path, exists=exists),))
        self.try_stage(unit, (path in self.expected) == exists, NoSuchResource if exists else Conflict)

    @rule(path=PATHS, seen=st.sampled_from(["committed", "any", "free"]))
    def require_version(self, path: Path, seen: str) -> None:
        there = path in self.expected
        if seen == "committed":
            if path not in self.committed:
                return
            resource = self.tree.get(path)
            tag = etag(CONTENT_TAG if resource.type == CONTENT else JSON_TAG, self.tree.version(resource))
            conditions = Conditions(if_match=(tag,))
            holds = there and self.unchanged(path)
        else:
            conditions = Conditions(if_match=(ANY_ETAG,)) if seen == "any" else Conditions(if_none_match=(ANY_ETAG,))
            holds = there == (seen == "any")
        self.try_stage(Unit((Write(path, content=b"v"),), requires=(Requirement(path, conditions),)), holds, PreconditionFailed)

    def unchanged(self, path: Path) -> bool:
        """Whether what a reader sees of the path is what will stand there: of a collection, with all below it."""
        pending = [change for staged in self.staged for change in staged.changes]
        if self.expected[path][0] is None:
            return not any(starts_with(change.path, path) for change in pending)
        return self.expected[path] == self.committed[path]

    def try_stage(self, unit: Unit, holds: bool, error: type[Exception]) -> None:
        if holds:
            self.took(self.tree.stage(unit, 0), list(unit.changes))
            return
        number = self.tree.next_number
        try:
            self.tree.stage(unit, 0)
        except error:
            assert self.tree.next_number == number
        else:
            raise AssertionError(f"{unit} was taken")

    @precondition(lambda self: self.staged)
    @rule(count=st.integers(1, 3))
    def apply(self, count: int) -> None:
        """A flush of several units: all are applied, then all are told."""
        batch, self.staged = self.staged[:count], self.staged[count:]
        for staged in batch:
            self.tree.apply(staged)
            changed(self.committed, staged.changes)
            for change in staged.changes:
                for depth in range(len(change.path) + 1):
                    self.latest[change.path[:depth]] = change.number
                for listener in self.listeners:
                    if listener.concerns(change):
                        listener.due.append(change)
            assert self.tree.committed_number == staged.last_number
        for staged in batch:
            self.tree.tell(staged)

    @precondition(lambda self: self.staged)
    @rule()
    def drop(self) -> None:
        self.tree.drop_pending()
        self.staged.clear()
        self.expected = dict(self.committed)

    @rule()
    def restart(self) -> None:
        kept = [(resource, None) for resource in self.tree.walk()]
        last = self.tree.committed_number
        self.tree = Tree(DERIVED, self.errors.append)
        self.tree.load(kept, last)
        self.staged.clear()
        self.listeners.clear()
        self.expected, self.floor, self.number = dict(self.committed), last, last

    @rule(path=PATHS | st.just(()), subtree=st.booleans())
    def watch(self, path: Path, subtree: bool) -> None:
        self.listeners.append(Listener(self.tree, path, subtree))

    @precondition(lambda self: self.listeners)
    @rule()
    def unwatch(self) -> None:
        self.listeners.pop(0).watch.stop()

    @invariant()
    def readers_see_what_is_committed(self) -> None:
        assert {found.path: (found.content, found.version) for found in self.tree.walk()} == self.committed
        assert len(self.tree) == len(self.committed)

    @invariant()
    def expectations_agree(self) -> None:
        for path in {*self.expected, *self.committed}:
            resource = self.tree.expected(path)
            assert (None if resource is None else (resource.content, resource.version)) == self.expected.get(path)

    @invariant()
    def children_are_in_order(self) -> None:
        for path in {(), *self.committed}:
            names = [child.path[-1] for child in self.tree.children(path)]
            assert names == sorted(found[-1] for found in self.committed if found[:-1] == path and found)

    @invariant()
    def versions_agree(self) -> None:
        for path, (content, version) in self.committed.items():
            latest = max(self.latest[path], self.floor)
            assert self.tree.latest(path) == latest
            assert self.tree.version(self.tree.get(path)) == (latest if content is None else version)

    @invariant()
    def watchers_heard_everything_once(self) -> None:
        for listener in self.listeners:
            assert listener.heard == listener.due
        assert self.errors == []


class TreeTests(SynchronousTestCase):
    def test_any_sequence(self) -> None:
        """Whatever is staged, applied, dropped, restarted and watched, in whatever order, tree and dicts agree after each step."""
        run_state_machine_as_test(TreeMachine, settings=settings(max_examples=examples(), stateful_step_count=40))
