"""The committed tree in memory: nodes with their children in order. Knows nothing of types, checks or pending writes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sortedcontainers import SortedList

from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import Change, Document, Resource

_SORT_ON_DEMAND = 64
"""Up to so many children are sorted each time that they are listed; more are kept in order from their first listing on."""


class _Node:
    __slots__ = ("children", "latest", "order", "resource", "volatile")

    def __init__(self) -> None:
        self.resource: Resource | None = None
        self.children: dict[str, _Node] | None = None
        self.order: SortedList | None = None
        self.latest = 0
        self.volatile: dict[str, object] | None = None


class Nodes:
    """Resources by path. Every operation costs the depth of the path; listing also what is listed."""

    def __init__(self) -> None:
        self._root = _Node()
        self._floor = 0
        self.count = 0

    def find(self, path: Path) -> Resource | None:
        """The resource at a path, or None."""
        node = self._node(path)
        return node.resource if node else None

    def latest(self, path: Path) -> int:
        """The number of the last change at or below a path that has something; after a start at least that of the last one before it."""
        node = self._node(path)
        return max(node.latest, self._floor) if node else self._floor

    def children(self, path: Path, after: str | None = None, limit: int | None = None) -> list[Resource]:
        """The resources right below a path in the order of their names, from the name after `after` on, at most `limit`."""
        node = self._node(path)
        if node is None or not node.children:
            return []
        if node.order is None and len(node.children) > _SORT_ON_DEMAND:
            node.order = SortedList(node.children)
        if node.order is not None:
            names: Iterator[str] = node.order.irange(minimum=after, inclusive=(False, True))
        else:
            names = iter(sorted(name for name in node.children if after is None or name > after))
        children = node.children
        return list(islice((found for name in names if (found := children[name].resource) is not None), limit))

    def walk(self, path: Path) -> Iterator[Resource]:
        """The resource at a path and all below it, parents first, siblings in no particular order."""
        start = self._node(path)
        nodes = [start] if start else []
        while nodes:
            node = nodes.pop()
            if node.resource is not None:
                yield node.resource
            if node.children:
                nodes.extend(node.children.values())

    def volatile(self, path: Path) -> dict[str, object]:
        """The volatile attributes of a resource, to read and to change. A new empty one where there is no resource."""
        node = self._node(path)
        if node is None or node.resource is None:
            return {}
        if node.volatile is None:
            node.volatile = {}
        return node.volatile

    def load(self, resource: Resource, volatile: Document | None = None) -> None:
        """Put a resource as it was on disk, while the node starts."""
        node = self._make(resource.path, resource.version)
        self.count += node.resource is None
        node.resource = resource
        if volatile:
            node.volatile = dict(volatile)

    def loaded(self, last_number: int) -> None:
        """All is loaded: what was deleted before the start is in no node, so every later version is above this number."""
        self._floor = last_number

    def apply(self, change: Change) -> None:
        """Make one change. A removal expects that what is below goes by changes of its own, before or after."""
        if change.after is not None:
            node = self._make(change.path, change.number)
            self.count += node.resource is None
            node.resource = change.after
            return
        trail = self._trail(change.path)
        if trail is None or trail[-1].resource is None:
            return
        self.count -= 1
        trail[-1].resource = None
        trail[-1].volatile = None
        for node in trail:
            node.latest = change.number
        self._prune(change.path, trail)

    def _node(self, path: Path) -> _Node | None:
        node = self._root
        for segment in path:
            if node.children is None or (child := node.children.get(segment)) is None:
                return None
            node = child
        return node

    def _trail(self, path: Path) -> list[_Node] | None:
        trail = [self._root]
        for segment in path:
            children = trail[-1].children
            if children is None or segment not in children:
                return None
            trail.append(children[segment])
        return trail

    def _make(self, path: Path, number: int) -> _Node:
        node = self._root
        node.latest = max(node.latest, number)
        for segment in path:
            if node.children is None:
                node.children = {}
            child = node.children.get(segment)
            if child is None:
                child = node.children[segment] = _Node()
                if node.order is not None:
                    node.order.add(segment)
            node = child
            node.latest = max(node.latest, number)
        return node

    @staticmethod
    def _prune(path: Path, trail: list[_Node]) -> None:
        for depth in range(len(path), 0, -1):
            node, parent = trail[depth], trail[depth - 1]
            if node.resource is not None or node.children:
                return
            if parent.children is not None:
                del parent.children[path[depth - 1]]
                if parent.order is not None:
                    parent.order.remove(path[depth - 1])
