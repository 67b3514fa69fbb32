"""Which group requests get an identifier: the questions of US 9,438,601 (spec section 6), each with its reason.

Pure. What a request that comes with an identifier is, and what is remembered of it, is in `model.seen`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.group import GROUPS, MEMBERS_CONTENT, members_of
from m2mapp.model.identifiers import new_request_id
from m2mapp.model.messages import WRITES, Method, Request
from m2mapp.model.seen import requester_tag
from m2mapp.tree.tree import Tree

ALWAYS, AUTO = "always", "auto"
_KEPT = 1_000
"""So many groups' answers are kept, until any group changes."""


@dataclass(frozen=True, slots=True)
class NamedGroup:
    """A member that is a group: of this node by its name, or of another one (None)."""

    uri: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Identified:
    """Whether a request needs an identifier, and why."""

    needed: bool
    why: str


def subgroup_in(member: str, is_own: Callable[[Uri], bool]) -> NamedGroup | None:
    """The group that a member's URI names, as the group or by its `membersContent` with whatever follows; None where it names none.

    Of another node's URI its form is all that is known without asking for it.
    """
    if f"/{GROUPS[0]}/" not in member and f"/{MEMBERS_CONTENT}" not in member:
        return None
    uri = parse_uri(member)
    path = uri.path
    is_content = MEMBERS_CONTENT in path[1:]
    if is_own(uri):
        is_group = path[:1] == GROUPS and (len(path) == 2 or path[2:3] == (MEMBERS_CONTENT,))  # noqa: PLR2004 - /groups/<name>
        return NamedGroup(member, path[1]) if is_group else None
    return NamedGroup(member, None) if is_content or path[-2:-1] == GROUPS else None


def questions(group: str, subgroups_of: Callable[[str], Iterator[NamedGroup]]) -> Identified:
    """Whether a read of a group needs an identifier. `subgroups_of` gives the groups among the members of one of this node's, by its name.

    Has it a sub-group? Is one remote, be it below another? Then nobody here knows what that has in it, and the document does not ask on. Do
    groups of this node contain each other?
    """
    way: list[tuple[str, Iterator[NamedGroup]]] = [(group, subgroups_of(group))]
    on_way, done = {group}, set[str]()
    while way:
        name, rest = way[-1]
        below = next(rest, None)
        if below is None:
            way.pop()
            on_way.discard(name)
            done.add(name)
        elif below.name is None:
            return Identified(True, f"{below.uri} is a group of another node")
        elif below.name in on_way:
            return Identified(True, f"{name} and {below.name} contain each other" if name != below.name else f"{name} contains itself")
        elif below.name not in done:
            on_way.add(below.name)
            way.append((below.name, subgroups_of(below.name)))
    return Identified(False, "a read, and its groups are all of this node and end" if len(done) > 1 else "a read, and it has no sub-group")


class Identifiers:
    """Gives group requests their identifiers. `node_uri` is the server's address, of which identifiers and tags are made."""

    def __init__(self, tree: Tree, is_own: Callable[[Uri], bool], policy: str, node_uri: str) -> None:
        self._tree, self._is_own, self.policy, self._node_uri = tree, is_own, policy, node_uri
        self._kept: dict[str, Identified] = {}
        self._kept_at = -1

    def asked(self, method: Method, group: str, *, at_servers: bool) -> Identified:
        """Whether a request to a group needs an identifier. `at_servers`: this node has groups for it at other servers."""
        if self.policy == ALWAYS:
            return Identified(True, 'request_id is "always"')
        if method in WRITES:
            return Identified(True, "it is a write")
        if at_servers:
            return Identified(True, "it has a group at another server")
        number = self._tree.latest(GROUPS)
        if number != self._kept_at or len(self._kept) >= _KEPT:
            self._kept.clear()
            self._kept_at = number
        found = self._kept.get(group)
        if found is None:
            found = self._kept[group] = questions(group, self._subgroups_of)
        return found

    def of(self, request: Request, group: str, *, at_servers: bool) -> bytes | None:
        """The identifier of a request to a group: its own, a new one, or None where it needs none."""
        if request.request_id is not None:
            return request.request_id
        return new_request_id(self._node_uri) if self.asked(request.method, group, at_servers=at_servers).needed else None

    def tag(self, group: str, request_id: bytes | None) -> bytes | None:
        """By what those who are asked know the group that asks."""
        return None if request_id is None else requester_tag(self._node_uri, (*GROUPS, group), request_id)

    def _subgroups_of(self, name: str) -> Iterator[NamedGroup]:
        resource = self._tree.find((*GROUPS, name))
        found = map(partial(subgroup_in, is_own=self._is_own), members_of(resource) if resource is not None else ())
        return (one for one in found if one is not None)
