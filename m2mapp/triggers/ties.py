"""Which operations a subject has: those in its `Operations`, and the URIs that it names. Derived from the tree, never a second truth.

What is found is kept until an operation of the subject, or a dependency of one, changes; nothing is kept of other subjects. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from m2mapp.formats.uris import path_uri
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.principal import Principal
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Document, Resource
from m2mapp.triggers.author import author_in
from m2mapp.triggers.operation import Operation, operation_of
from m2mapp.triggers.places import DEPENDENCIES, DEPENDENCY_TYPE, OPERATION_TYPE, OPERATIONS, subject_of
from m2mapp.triggers.selection import by_priority

TIES = "ties"
"""The attribute of a subject that keeps the URIs of its operations, and who wrote them."""
_REMEMBERED = 65_536
_TYPES = frozenset({OPERATION_TYPE, DEPENDENCY_TYPE})


class Ties:
    """The operations of the subjects of one tree. `node_uri` is the URI of this node, without a path.

    `on_gone` is told the path of an operation that is no more.
    """

    def __init__(self, tree: Tree, node_uri: str) -> None:
        self._tree, self._node_uri = tree, node_uri
        self._of: dict[Path, tuple[Operation, ...]] = {}
        self._known: dict[Path, tuple[Resource, int, Operation]] = {}
        self.on_gone: Callable[[str], None] = lambda _: None
        tree.watch((), self._on_change, subtree=True)

    def concerns(self, path: Path) -> bool:
        """Whether a content resource has operations, or soon will: writes that are pending count."""
        tree = self._tree
        if tree.expected((*path, OPERATIONS)) is not None:
            return True
        resource = tree.expected(path)
        return resource is not None and TIES in resource.attributes

    def here(self, subject: Path) -> tuple[Operation, ...]:
        """The operations in a subject's collection, in the order in which they run."""
        kept = self._of.get(subject)
        if kept is not None:
            return kept
        children = [child for child in self._tree.children((*subject, OPERATIONS)) if child.type == OPERATION_TYPE]
        if not children:
            return ()
        children.sort(key=lambda child: (child.created_ms, child.version))
        found = by_priority(self.operation(child) for child in children)
        if len(self._of) >= _REMEMBERED:
            self._of.clear()
        self._of[subject] = found
        return found

    def _on_change(self, change: Change) -> None:
        """What a change makes of what is kept: nothing, unless it is of an operation or a dependency."""
        resource = change.after or change.before
        if resource is None or resource.type not in _TYPES:
            return
        self._of.pop(subject_of(change.path) or (), None)
        if change.after is None and resource.type == OPERATION_TYPE:
            self._known.pop(change.path, None)
            self.on_gone(path_text(change.path))

    def operation(self, resource: Resource) -> Operation:
        """The operation that a resource keeps, with the dependencies below it."""
        path = resource.path
        number = self._tree.latest((*path, DEPENDENCIES)) if self._tree.find((*path, DEPENDENCIES)) is not None else 0
        kept = self._known.get(path)
        if kept is not None and kept[0] is resource and kept[1] == number:
            return kept[2]
        document = {**resource.attributes, "dependencies": dependencies_of(self._tree, path)}
        found = operation_of(self._node_uri + path_uri(path), document, author_in(resource.attributes), path)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[path] = resource, number, found
        return found


def dependencies_of(tree: Tree, operation: Path) -> list[Document]:
    """The documents of the dependencies below an operation, each with its name, in the order in which they were written."""
    below = [child for child in tree.children((*operation, DEPENDENCIES)) if child.type == DEPENDENCY_TYPE]
    below.sort(key=lambda child: child.version)
    return [{"name": child.path[-1], **child.attributes} for child in below]


def named_uris(attributes: Document) -> tuple[tuple[str, ...], Principal]:
    """The URIs of operations that a subject names in its attributes, and who wrote them there."""
    ties = attributes.get(TIES)
    if not isinstance(ties, Mapping):
        return (), author_in({})
    return tuple(cast("list[str]", ties["operationURIs"])), author_in(ties)
