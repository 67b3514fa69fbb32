"""What the pages say of groups: how their members are reached and how many have joined, from the documents of fan-out sets. Pure.

The same is made of sets that there are and of those that a plan would have. It reads documents, as they stand in the tree and on the wire
(spec section 12), since no page knows the group server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from m2mapp.model.identifiers import Path
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Resource

GROUPS: Path = ("groups",)
GROUP, SETS, MEMBERS, CONTENT = "group", "fanoutSets", "members", "membersContent"
LEAVES: Path = ("leaves",)
_REACHED = ("joined", "proven")

Document = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Joins:
    """How many members have joined their multicast address, are awaited, could not, and are asked one by one without one."""

    joined: int = 0
    pending: int = 0
    failed: int = 0
    alone: int = 0

    @property
    def grade(self) -> str:
        """How that stands: `bad`, `warning` or `good`."""
        return "bad" if self.failed else "warning" if self.pending else "good"

    @property
    def words(self) -> str:
        """The same as a person reads it."""
        parts = [
            f"{count} {word}"
            for count, word in (
                (self.joined, "joined"),
                (self.pending, "being told to join"),
                (self.failed, "could not join"),
                (self.alone, "asked one by one"),
            )
            if count
        ]
        return ", ".join(parts) or "nobody"


@dataclass(frozen=True, slots=True)
class Because:
    """Members of one way that have the same reason."""

    why: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which members are reached: a multicast address, a group at another server, or one by one (then `to` is empty).

    `path`: the fan-out URI; `leisure_s`: over how long the answers are spread.
    """

    kind: str
    name: str
    to: str
    path: str
    leisure_s: float
    joins: Joins
    reasons: tuple[Because, ...]

    @property
    def size(self) -> int:
        """How many members go this way."""
        return sum(len(one.members) for one in self.reasons)


def sets_in(tree: Tree, name: str) -> list[Document]:
    """The fan-out sets of a group of this node, with their names and what is volatile of them. Rights are the caller's to check."""
    found = tree.children((*GROUPS, name, SETS))
    return [{"name": one.path[-1], **one.attributes, **tree.volatile(one.path)} for one in found]


def members_in(resource: Resource) -> tuple[str, ...]:
    """The member URIs of a group's resource."""
    return texts(resource.attributes.get("members"))


def texts(value: object) -> tuple[str, ...]:
    """The texts of a list in a document."""
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()


def pairs(value: object) -> dict[str, str]:
    """The texts of an object in a document."""
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, Mapping) else {}


def is_alone(one: Document) -> bool:
    """Whether a set is a member that is asked by itself."""
    kind = str(one.get("addressType"))
    return kind.startswith("unicast") or (kind == "group" and not one.get("group"))


def joins_of(sets: Iterable[Document]) -> Joins:
    """How the members of sets stand."""
    states: Counter[object] = Counter()
    alone = 0
    for one in sets:
        if is_alone(one):
            alone += 1
            continue
        joins = one.get("joins")
        states.update(joins.values() if isinstance(joins, Mapping) else ())
    return Joins(sum(states[word] for word in _REACHED), states["pending"], states["failed"], alone + states["unsupported"])


def ways_of(sets: Iterable[Document]) -> list[Way]:
    """The ways of a group: each set that is shared, then one for all who are asked one by one."""
    shared: list[Document] = []
    alone: list[Document] = []
    for one in sets:
        (alone if is_alone(one) else shared).append(one)
    found = [_way(one) for one in shared]
    if alone:
        found.append(Way("one by one", "", "", "", 0.0, joins_of(alone), _reasons(alone)))
    return found


def _way(one: Document) -> Way:
    kind, leisure = str(one.get("addressType")), one.get("leisure")
    to = str(one.get("group") or one.get("fanoutAddress", ""))
    path = str(one.get("fanoutURI", "")) if kind != "group" else ""
    leisure_s = float(leisure) if isinstance(leisure, int | float) else 0.0
    return Way(kind, str(one.get("name", "")), to, path, leisure_s, joins_of((one,)), _reasons((one,)))


def _reasons(sets: Iterable[Document]) -> tuple[Because, ...]:
    by_reason: dict[str, list[str]] = {}
    for one in sets:
        why = pairs(one.get("why"))
        for uri in texts(one.get("memberList")):
            by_reason.setdefault(why.get(uri, ""), []).append(uri)
    return tuple(Because(why, tuple(members)) for why, members in by_reason.items())


@dataclass(frozen=True, slots=True)
class Place:
    """Where one member stands: its set (empty: one by one), its reason, and why its join failed and when it is tried again."""

    set: str
    why: str
    failure: str = ""
    next: str = ""


def places_of(sets: Iterable[Document]) -> dict[str, Place]:
    """The place of each member, by its URI."""
    found: dict[str, Place] = {}
    for one in sets:
        why, failures = pairs(one.get("why")), one.get("failures")
        name = "" if is_alone(one) else str(one.get("name"))
        for uri in texts(one.get("memberList")):
            failure = failures.get(uri) if isinstance(failures, Mapping) else None
            told = pairs(failure)
            found[uri] = Place(name, why.get(uri, ""), told.get("why", ""), told.get("next", ""))
    return found


def owed_in(tree: Tree, name: str) -> frozenset[str]:
    """The members that are not in a group any more and whose devices have still to leave it."""
    records = (one.attributes for one in tree.children(LEAVES))
    return frozenset(uri for record in records if record.get("group") == name for uri in pairs(record.get("members")))
