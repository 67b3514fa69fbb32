"""Groups as members of groups: which URIs are groups, what is known of those at other servers, and the circles they make.

Pure (US 9,438,601; spec section 6). Who reads other servers is `drivers.reading`; how a request goes through groups is in `spread`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from m2mapp.formats.documents import bare, load_cbor, load_json
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.group import DYNAMIC, GROUPS, MAX_MEMBERS, MEMBERS_CONTENT, STATIC, TEMPORARY, members_of
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Answer
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Resource

KEEP_S, RETRY_S, SOON_S = 600.0, 20.0, 1.0
"""What was read of a group holds so long; one that could not be read is asked again, where there is need, after the second time, and one
that was not there, and may be made any moment, after the third."""
NOT_THERE = "not there"
MOST_GROUPS, MOST_MEMBERS = 1_000, 100_000
"""So many groups of other servers are remembered, and so many of their members in all: the one read first is forgotten first."""
MOST_CIRCLES, MOST_LOOKED_AT = 16, 256
"""So many circles are told of a group, and so many groups are looked at to find them."""
FRESH_S = 5.0
"""Whoever makes or changes a group is told of circles as they are: what was read longer ago is read again for that."""
_SIGN = f"/{GROUPS[0]}/"
"""What stands in each URI of a group: most members are known for none by that."""
_NOT_THERE = frozenset({"404", "4.04", "410"})
_KINDS = (STATIC, DYNAMIC, TEMPORARY)


def group_in(path: Path) -> tuple[Path, Path] | None:
    """The path of the group that a path leads to, `.../groups/<name>`, and what follows its `membersContent`; None: it leads to none."""
    for at in range(2, len(path)):
        if path[at] == MEMBERS_CONTENT and path[at - 2 : at - 1] == GROUPS:
            return path[:at], path[at + 1 :]
    return (path, ()) if path[-2:-1] == GROUPS else None


def group_path(path: Path) -> Path | None:
    """The path of the group that a path means: `.../groups/<name>`, or its `membersContent`. None: it has another form."""
    found = group_in(path)
    return found[0] if found is not None and not found[1] else None


def group_name(path: Path) -> str | None:
    """The name of this node's group that a path of this node means."""
    whole = group_path(path)
    return whole[1] if whole is not None and len(whole) == 2 else None  # noqa: PLR2004 - /groups/<name>


def group_at(member: str) -> Uri | None:
    """The URI of the group that a member's URI means by its form, in its one form; None for any other member."""
    if _SIGN not in member:
        return None
    uri = parse_uri(member)
    path = group_path(uri.path)
    return Uri(uri.scheme, uri.host, uri.port, path) if path is not None and not uri.query else None


@dataclass(frozen=True, slots=True)
class Known:
    """What a server said of a URI that has the form of a group's: its members; None where it is no group. `why`: it could not be read."""

    members: tuple[str, ...] | None
    why: str = ""


def read_group(answer: Answer | None) -> Known:
    """What the answer to a GET of a group says. A group that is not there yet is a group: two that contain each other begin so."""
    if answer is None:
        return Known((), "no answer")
    if not answer.ok:
        return Known((), NOT_THERE if answer.code in _NOT_THERE else f"answered {answer.code}")
    try:
        document = (load_cbor if "cbor" in bare(answer.content_type) else load_json)(answer.payload)
        members = document.get("members") if isinstance(document, Mapping) and document.get("type") in _KINDS else None
        if not isinstance(members, list):
            return Known(None)
        return Known(tuple(dict.fromkeys(parse_uri(uri, "members").text() for uri in members[:MAX_MEMBERS])))
    except Fault:
        return Known(None)


class KnownGroups:
    """What was read of groups at other servers, by their URIs. Bounded. Times are monotonic seconds."""

    def __init__(self, most: int = MOST_GROUPS, most_members: int = MOST_MEMBERS) -> None:
        self._most, self._most_members = most, most_members
        self._known: OrderedDict[str, tuple[Known, float, float]] = OrderedDict()
        self._size = 0
        self.news = 0
        """How often something new was learned."""

    def __len__(self) -> int:
        return len(self._known)

    def of(self, uri: str) -> Known | None:
        """What is known, be it old; None: it was not asked for."""
        found = self._known.get(uri)
        return found[0] if found is not None else None

    def is_ordinary(self, uri: str) -> bool:
        """Whether its server said that there is something else than a group."""
        known = self.of(uri)
        return known is not None and known.members is None

    def is_due(self, uri: str, now: float, max_age_s: float = KEEP_S) -> bool:
        """Whether it is to be asked for (again). `max_age_s`: so old what was read may be; who could not be read is let be for its time."""
        found = self._known.get(uri)
        return found is None or found[1] <= now or (not found[0].why and found[2] + max_age_s <= now)

    def learned(self, uri: str, known: Known, now: float) -> bool:
        """A server was asked. Whether that is news; what it said before holds while it cannot be asked."""
        before = self.of(uri)
        again_s = now + {"": KEEP_S, NOT_THERE: SOON_S}.get(known.why, RETRY_S)
        if known.why not in ("", NOT_THERE) and before is not None:
            known = before if before.members is None else Known(before.members, known.why)
        self._forget(uri)
        self._known[uri] = known, again_s, now
        self._size += len(known.members or ())
        while len(self._known) > self._most or (self._size > self._most_members and len(self._known) > 1):
            self._forget(next(iter(self._known)))
        is_news = before is None or before.members != known.members
        self.news += is_news
        return is_news

    def _forget(self, uri: str) -> None:
        gone = self._known.pop(uri, None)
        if gone is not None:
            self._size -= len(gone[0].members or ())


class Nesting:
    """The groups of this node that have groups as members: where one of them changes, the circles of the others may."""

    def __init__(self) -> None:
        self._inner: dict[str, tuple[str, ...]] = {}

    def changed(self, before: Resource | None, after: Resource | None) -> list[str]:
        """A group was another before (None: it was not) and is this now (None: it is gone): the groups to be planned again for that."""
        either = after or before
        name = either.path[-1] if either is not None else ""
        had = self._inner.pop(name, ())
        has = tuple(uri for uri in members_of(after) if group_at(uri) is not None) if after is not None else ()
        if has:
            self._inner[name] = has
        return [other for other in self._inner if other != name] if had != has or before is None or after is None else []


class GroupGraph:
    """Groups here and elsewhere as one graph. A node of it is a group's URI; that of a group of this node is as this node gives it.

    Made of `Surroundings`' parts: the tree, which URIs are this node's, the URI of a group here by its name, and what is known of others.
    """

    def __init__(self, tree: Tree, is_own: Callable[[Uri], bool], uri_of: Callable[[str], str], known: KnownGroups) -> None:
        self._tree, self._is_own, self.uri_of, self.known = tree, is_own, uri_of, known

    def node(self, member: str) -> str | None:
        """The group that a member is; None for any other member."""
        uri = group_at(member)
        if uri is None:
            return None
        if self._is_own(uri):
            name = group_name(uri.path)
            return self.uri_of(name) if name is not None else None
        text = uri.text()
        return None if self.known.is_ordinary(text) else text

    @property
    def version(self) -> tuple[int, int]:
        """Another one when a group here has changed, or more is known of those elsewhere."""
        return self._tree.latest(GROUPS), self.known.news

    def reached_by(self, member: str) -> str | None:
        """The group that a request to a member goes through: which it is, or of whose members it is a part. None for any other member."""
        if _SIGN not in member:
            return None
        uri = parse_uri(member)
        found = group_in(uri.path)
        return self.node(Uri(uri.scheme, uri.host, uri.port, found[0]).text()) if found is not None else None

    def name_here(self, node: str) -> str | None:
        """The name of a group of this node; None where it is another server's."""
        uri = group_at(node)
        return group_name(uri.path) if uri is not None and self._is_own(uri) else None

    def is_here(self, node: str) -> bool:
        """Whether this node has the group."""
        name = self.name_here(node)
        return name is not None and self._tree.expected((*GROUPS, name)) is not None

    def members(self, node: str) -> tuple[str, ...]:
        """The members of a group, as far as they are known."""
        name = self.name_here(node)
        if name is None:
            known = self.known.of(node)
            return (known.members or ()) if known is not None else ()
        resource = self._tree.expected((*GROUPS, name))
        return members_of(resource) if resource is not None else ()

    def groups_in(self, members: tuple[str, ...]) -> list[str]:
        """The groups among members, each once."""
        found = (self.node(member) for member in members)
        return list(dict.fromkeys(node for node in found if node is not None))

    def elsewhere(self, members: tuple[str, ...]) -> list[str]:
        """The URIs among members that have the form of another server's group, be they none as far as is known."""
        found = (group_at(member) for member in members)
        return list(dict.fromkeys(uri.text() for uri in found if uri is not None and not self._is_own(uri)))

    def devices_below(self, node: str) -> tuple[str, ...]:
        """All members of a group that are no groups, those of the groups in it too, of whatever server, as far as they are known."""
        found: dict[str, None] = {}
        seen, queue = {node}, deque([node])
        while queue and len(found) < MAX_MEMBERS:
            for member in self.members(queue.popleft()):
                inner = self.node(member)
                if inner is None:
                    found[member] = None
                elif inner not in seen:
                    seen.add(inner)
                    queue.append(inner)
        return tuple(found)

    def circles(self, node: str, members: tuple[str, ...]) -> list[list[str]]:
        """The circles through a group that has these members: for each way back to it the groups on the way, itself at both ends."""
        before: dict[str, str] = {}
        circles: list[list[str]] = []
        queue = deque([node])
        looked_at = 0
        while queue and looked_at < MOST_LOOKED_AT and len(circles) < MOST_CIRCLES:
            at = queue.popleft()
            looked_at += 1
            for inner in self.groups_in(members if at == node else self.members(at)):
                if inner == node:
                    circles.append(_way(before, node, at))
                elif inner not in before:
                    before[inner] = at
                    queue.append(inner)
        return circles[:MOST_CIRCLES]


def _way(before: Mapping[str, str], start: str, end: str) -> list[str]:
    """The way from a group to one that contains it, and back to it."""
    way = [start]
    while end != start:
        way.append(end)
        end = before[end]
    return [*way, start][::-1]
