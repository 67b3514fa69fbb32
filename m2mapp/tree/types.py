"""Resource types: where each may stand, what its document has to be, and what its representation shows.

The parts of the program bring their types (`ResourceType`); the tree knows two of its own: content resources and plain collections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from m2mapp.model.errors import Conflict, Malformed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method, Request
from m2mapp.tree.paths import RESERVED
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import COLLECTION, Document, Remove, Resource, Write

Check = Callable[[str, Document], Document]
"""From the resource's name and the document that was given to the attributes that are kept. Raises `Malformed`."""

Describe = Callable[[Resource, Tree], Mapping[str, object]]
"""From a resource to the document that represents it."""

ANY = "*"
ANYWHERE = "**"
"""As the first segment of a place: any path of one segment or more. What follows has to begin with a name."""
ALL_METHODS = frozenset(Method)


def attributes_only(resource: Resource, tree: Tree) -> Document:
    """The document of a type that shows just what is kept, and its volatile attributes."""
    return {**resource.attributes, **tree.volatile(resource.path)}


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One type. `place` is where it stands, `*` for any name but the first: `("scls", "*")`, `("groups", "*", "fanoutSets", "*")`.

    A place that begins with `ANYWHERE` is below whatever it may be: `("**", "Operations", "*")`.
    `derived`: its representation shows what stands below it. `methods`: what the tree's own handling takes there.
    """

    name: str
    place: Path
    check: Check
    describe: Describe = attributes_only
    derived: bool = False
    methods: frozenset[Method] = ALL_METHODS


@dataclass(frozen=True, slots=True)
class Members:
    """Further members of the whole representation of a content resource, which a part of the program brings (spec section 2).

    `names`: what they are called. `collection`: the name of a collection below the resource that they show. `attribute`: where the
    resource keeps what it keeps of them. `keep`: from the resource's path, those that were given and the request to what is kept there
    (None: nothing) and to further writes of the same unit. `settable`: from what is kept to the members that a merge patch is laid upon.
    `show`: what is shown of them.
    """

    names: frozenset[str]
    collection: str
    attribute: str
    keep: Callable[[Path, Document, Request], tuple[object, tuple[Write | Remove, ...]]]
    settable: Callable[[object], Document]
    show: Callable[[Resource, Tree], Document]

    def version(self, resource: Resource, tree: Tree) -> int:
        """The number of the last change that the whole representation shows."""
        below = (*resource.path, self.collection)
        return resource.version if tree.find(below) is None else max(resource.version, tree.latest(below))


class Types:
    """The types that this node has; `members` are those of content resources' whole representations beside the tree's own."""

    def __init__(self, types: Iterable[ResourceType] = (), members: Members | None = None) -> None:
        self.members = members
        self._by_name = {kind.name: kind for kind in types}
        self._by_place = {kind.place: kind for kind in self._by_name.values() if kind.place[0] != ANYWHERE}
        self._anywhere = tuple((kind.place[1:], kind) for kind in self._by_name.values() if kind.place[0] == ANYWHERE)
        self._marks = frozenset(suffix[0] for suffix, _ in self._anywhere)
        self._roots = frozenset(place[0] for place in self._by_place)
        self._collections = frozenset(place[:-1] for place in self._by_place if place[-1] == ANY and ANY not in place[:-1])
        self._derived = {COLLECTION} | {kind.name for kind in self._by_name.values() if kind.derived}

    def derived(self, name: str) -> bool:
        """Whether the type's representation shows its subtree."""
        return name in self._derived

    def named(self, name: str) -> ResourceType | None:
        """The type of that name; None for the tree's own two."""
        return self._by_name.get(name)

    def at(self, path: Path) -> ResourceType | None:
        """The type that may stand at a path; None: content. Raises `Conflict` where the name is reserved and nothing may stand."""
        kind = self._standing_at(path)
        if kind is None and path and path[0] in RESERVED:
            raise Conflict(f"{path_text(path)}: the name /{path[0]} is reserved and takes no resource there")
        return kind

    def owner(self, path: Path) -> Path | None:
        """The nearest path above at which a type stands: without that resource nothing may be made here. None: there is no such path."""
        above = (path[:depth] for depth in range(len(path) - 1, 0, -1))
        return next((one for one in above if self._standing_at(one) is not None), None)

    def owned_collections(self) -> frozenset[Path]:
        """The collections whose children have a type of their own: they are there from the start and cannot be deleted."""
        return self._collections

    def _standing_at(self, path: Path) -> ResourceType | None:
        if not self._marks.isdisjoint(path):
            return next((kind for suffix, kind in self._anywhere if _ends_with(path, suffix)), None)
        if not path or path[0] not in self._roots:
            return None
        return self._by_place.get(path) or self._by_place.get((*path[:-1], ANY)) or self._matching(path)

    def _matching(self, path: Path) -> ResourceType | None:
        for place, kind in self._by_place.items():
            if len(place) == len(path) and _fits(path, place):
                return kind
        return None


def _fits(path: Path, place: Path) -> bool:
    return all(wanted in (ANY, segment) for wanted, segment in zip(place, path, strict=True))


def _ends_with(path: Path, suffix: Path) -> bool:
    return len(path) > len(suffix) and _fits(path[-len(suffix) :], suffix)


def named_as(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """The document without its `name`, which has to be that of its path. Raises `Malformed`."""
    if given.get("name", name) != name:
        raise Malformed("name", given["name"], f"the name in the path, {name!r}, or left out")
    return {key: value for key, value in given.items() if key != "name"}
