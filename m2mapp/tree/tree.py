"""The tree: what is committed, and what is pending on top of it.

A unit is staged (checked against both, numbered), written by the store, then applied; or dropped. Readers, watchers and ETags
see what is committed. Not responsible for flushing (`store`), for what a request means (`tree.resources`), nor for clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sortedcontainers import SortedList

from m2mapp.model.errors import Conflict, NoSuchResource, PreconditionFailed, TooLarge
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IFollow
from m2mapp.tree.etags import hold
from m2mapp.tree.nodes import Nodes
from m2mapp.tree.paths import below, starts_with
from m2mapp.tree.unit import (
    CHANGES,
    COLLECTION,
    CONTENT,
    Change,
    Document,
    Entry,
    Remove,
    Requirement,
    Resource,
    Staged,
    Unit,
    Write,
    values_journal,
)
from m2mapp.tree.watch import OnChange, Watch, Watchers

MAX_RESOURCES = 1_000_000


class Tree:
    """One node's resources.

    `derived` says of a type whether its representation shows what stands below it, so that its version is the subtree's.
    `on_error` is told what a watcher raised.
    """

    def __init__(self, derived: Callable[[str], bool], on_error: Callable[[Exception], None], max_resources: int = MAX_RESOURCES) -> None:
        self._nodes = Nodes()
        # What stands at a path once all that is pending is done, and how many pending changes the path has.
        self._pending: dict[Path, tuple[Resource | None, int]] = {}
        # Its paths in order, from when somebody asks what is pending below a path until nothing is pending.
        self._pending_order: SortedList | None = None
        self._expected_count = 0
        self._watchers = Watchers(on_error)
        self._derived = derived
        self._max_resources = max_resources
        self._number = 0
        self.committed_number = 0
        self.follower: IFollow | None = None
        """What adds entries of its own to units that are staged; set once, before the start."""

    # What is committed.

    def find(self, path: Path) -> Resource | None:
        """The committed resource at a path, or None."""
        return self._nodes.find(path)

    def get(self, path: Path) -> Resource:
        """The committed resource at a path; raises `NoSuchResource`."""
        found = self._nodes.find(path)
        if found is None:
            raise NoSuchResource(path_text(path))
        return found

    def children(self, path: Path, after: str | None = None, limit: int | None = None) -> list[Resource]:
        """The committed resources right below a path, by name, from the name after `after` on, at most `limit`."""
        return self._nodes.children(path, after, limit)

    def walk(self, path: Path = ()) -> Iterator[Resource]:
        """The committed resource at a path and all below it, parents first."""
        return self._nodes.walk(path)

    def version(self, resource: Resource) -> int:
        """The version that the resource's representations show: its own, or its subtree's where they show that."""
        return self._nodes.latest(resource.path) if self._derived(resource.type) else resource.version

    def latest(self, path: Path) -> int:
        """The number of the last committed change at or below a path."""
        return self._nodes.latest(path)

    def volatile(self, path: Path) -> dict[str, object]:
        """The volatile attributes at a path: to read, and to change where the resource is."""
        return self._nodes.volatile(path)

    def watch(self, path: Path, on_change: OnChange, *, subtree: bool = False) -> Watch:
        """Be told of every change at a path, with `subtree` also below it, that is committed from now on: once each, in order."""
        return self._watchers.add(path, on_change, since=self.committed_number, subtree=subtree)

    def __len__(self) -> int:
        """How many resources are committed."""
        return self._nodes.count

    @property
    def next_number(self) -> int:
        """The number that the next staged change will bear. Unique, so it also serves to name what has no name."""
        return self._number + 1

    # Starting.

    def load(self, resources: Iterable[tuple[Resource, Document | None]], last_number: int) -> None:
        """Take over what is on disk: resources with their volatile attributes, and the last number given."""
        for resource, volatile in resources:
            self._nodes.load(resource, volatile)
        self._nodes.loaded(last_number)
        self._number = self.committed_number = last_number
        self._expected_count = self._nodes.count

    # Staging, applying, dropping.

    def expected(self, path: Path) -> Resource | None:
        """What will stand at a path if all that is pending succeeds."""
        pending = self._pending.get(path)
        return pending[0] if pending else self._nodes.find(path)

    def stage(self, unit: Unit, now_ms: int) -> Staged:
        """Check a unit against what is committed and pending, and number its changes.

        Raises a `Fault` and changes nothing where a requirement does not hold or the tree is full.
        """
        for requirement in unit.requires:
            self._check(requirement)
        drafts = self._drafts(unit)
        befores = [self.expected(path) for path in drafts]
        growth = sum((after is not None) - (before is not None) for after, before in zip(drafts.values(), befores, strict=True))
        if growth > 0 and self._expected_count + growth > self._max_resources:
            raise TooLarge("resources", self._max_resources, "resources in the tree")
        drafted = zip(drafts.items(), befores, strict=True)
        changes = tuple([self._change(path, write, before, (now_ms, unit.trace)) for (path, write), before in drafted])
        entries = [entry for change in changes for entry in _entries(change)]
        appends = unit.appends if self.follower is None else (*unit.appends, *self.follower.staged(unit, changes))
        for append in appends if unit.record is None else (*appends, unit.record(changes)):
            self._number += 1
            entries.append(Entry(append.journal, self._number, now_ms, append.body))
        for change in changes:
            held = self._pending.get(change.path)
            if held is None and self._pending_order is not None:
                self._pending_order.add(change.path)
            self._pending[change.path] = (change.after, held[1] + 1 if held else 1)
        self._expected_count += growth
        return Staged(changes, tuple(entries), self._number)

    def apply(self, staged: Staged) -> None:
        """The unit is durable: readers see it from now on. `tell` is called afterwards."""
        for change in staged.changes:
            self._nodes.apply(change)
            after, count = self._pending[change.path]
            if count > 1:
                self._pending[change.path] = (after, count - 1)
            else:
                self._forget_pending(change.path)
        self.committed_number = staged.last_number

    def tell(self, staged: Staged) -> None:
        """Tell the watchers of the unit's changes, in their order, and the follower after them."""
        for change in staged.changes:
            self._watchers.tell(change)
        if self.follower is not None:
            self.follower.committed(staged.last_number)

    def drop_pending(self) -> None:
        """Nothing that is pending will be: what was staged rests on it and is dropped with it. Numbers are not given again."""
        self._pending.clear()
        self._pending_order = None
        self._expected_count = self._nodes.count
        if self.follower is not None:
            self.follower.dropped()

    # Parts.

    def _check(self, requirement: Requirement) -> None:
        path = requirement.path
        there = self.expected(path)
        if requirement.exists is True and there is None:
            raise NoSuchResource(path_text(path))
        if requirement.exists is False and there is not None:
            raise Conflict(f"{path_text(path)} is taken")
        conditions = requirement.conditions
        if not (conditions.if_match or conditions.if_none_match):
            return
        if not hold(conditions, self._expected_version(path, there)):
            raise PreconditionFailed(f"{path_text(path)} is not as If-Match or If-None-Match says")

    def _expected_version(self, path: Path, there: Resource | None) -> int | None:
        """The version that conditions are checked against; None where nothing will stand. The root always stands."""
        if there is None and path:
            return None
        if there is not None and not self._derived(there.type):
            return there.version
        # What is pending below gives a version that nobody has seen yet.
        return self._nodes.latest(path) if next(self._pending_at(path), None) is None else self._number + 1

    def _pending_at(self, path: Path) -> Iterator[Path]:
        """The paths at and below this one that have pending changes."""
        if self._pending_order is None:
            self._pending_order = SortedList(self._pending)
        found: Iterator[Path] = self._pending_order.irange(*below(path), inclusive=(True, False))
        return found

    def _forget_pending(self, path: Path) -> None:
        del self._pending[path]
        if not self._pending:
            self._pending_order = None
        elif self._pending_order is not None:
            self._pending_order.remove(path)

    def _drafts(self, unit: Unit) -> dict[Path, Write | None]:
        """What the unit leaves at each path: a write, or None for a removal; ancestors added, later parts winning."""
        drafts: dict[Path, Write | None] = {}
        for part in unit.changes:
            if isinstance(part, Remove):
                self._draft_removal(part.path, drafts)
                continue
            for depth in range(1, len(part.path)):
                above = part.path[:depth]
                if (drafts[above] if above in drafts else self.expected(above)) is None:
                    drafts[above] = Write(above, COLLECTION)
            drafts.pop(part.path, None)  # Numbered in the order of the unit, also where it stands in place of what the unit removes.
            drafts[part.path] = part
        return drafts

    def _draft_removal(self, path: Path, drafts: dict[Path, Write | None]) -> None:
        gone = {resource.path for resource in self._nodes.walk(path)}
        gone.update(self._pending_at(path))
        for other in [other for other in drafts if starts_with(other, path)]:
            del drafts[other]
        for other in sorted(gone):
            if self.expected(other) is not None:
                drafts[other] = None

    def _change(self, path: Path, write: Write | None, before: Resource | None, told: tuple[int, str]) -> Change:
        self._number += 1
        (now_ms, trace), after = told, None
        if write is not None:
            created = before.created_ms if before else now_ms
            after = Resource(path, write.type, write.attributes, write.content, write.media_type, created, now_ms, self._number)
        return Change(self._number, path, before, after, now_ms, trace)


def _entries(change: Change) -> list[Entry]:
    after = change.after
    body: dict[str, object] = {"path": path_text(change.path), "kind": change.kind, "trace": change.trace}
    if after is None:
        return [Entry(CHANGES, change.number, change.at_ms, body)]
    body["type"] = after.type
    entries = [Entry(CHANGES, change.number, change.at_ms, body)]
    if after.type == CONTENT:
        value = {"content": after.content or b"", "contentType": after.media_type, "trace": change.trace}
        entries.append(Entry(values_journal(change.path), change.number, change.at_ms, value))
    return entries
