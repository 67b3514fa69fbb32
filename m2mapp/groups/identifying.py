"""Which group requests get an identifier: the questions of US 9,438,601 (spec section 6), each with its reason.

Pure. What a request that comes with an identifier is, and what is remembered of it, is in `model.seen`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from m2mapp.groups.group import GROUPS
from m2mapp.groups.nested import GroupGraph
from m2mapp.model.identifiers import new_request_id
from m2mapp.model.messages import WRITES, Method, Request
from m2mapp.model.seen import requester_tag

ALWAYS, AUTO = "always", "auto"
_KEPT = 1_000
"""So many groups' answers are kept, until any group changes or more is known of those elsewhere."""


@dataclass(frozen=True, slots=True)
class Identified:
    """Whether a request needs an identifier, and why."""

    needed: bool
    why: str


def questions(graph: GroupGraph, group: str) -> Identified:
    """Whether a read of a group, by its URI in the graph, needs an identifier.

    Has it a sub-group? Is one remote, be it below another? Do they contain each other? Of a remote one it is told what was read of it;
    whether it needs an identifier does not depend on that, since it may be another by the time that the request comes there.
    """
    way: list[tuple[str, Iterator[str]]] = [(group, _groups_in(graph, group))]
    on_way, done = {group}, set[str]()
    while way:
        at, rest = way[-1]
        below = next(rest, None)
        if below is None:
            way.pop()
            on_way.discard(at)
            done.add(at)
        elif graph.name_here(below) is None:
            return Identified(True, f"{below} is a group of another node{_closed(graph, at, below)}")
        elif below in on_way:
            name, other = graph.name_here(at), graph.name_here(below)
            return Identified(True, f"{name} and {other} contain each other" if at != below else f"{name} contains itself")
        elif below not in done:
            on_way.add(below)
            way.append((below, _groups_in(graph, below)))
    return Identified(False, "a read, and its groups are all of this node and end" if len(done) > 1 else "a read, and it has no sub-group")


def _groups_in(graph: GroupGraph, node: str) -> Iterator[str]:
    """The groups that a request to a group goes through next."""
    return (below for below in map(graph.reached_by, graph.members(node)) if below is not None)


def _closed(graph: GroupGraph, node: str, remote: str) -> str:
    """What is known of whether a group of this node and a remote one in it contain each other."""
    if graph.known.of(remote) is None:
        return "; what it contains is not known"
    is_closed = any(remote in circle for circle in graph.circles(node, graph.members(node)))
    return f"; {graph.name_here(node)} and it contain each other" if is_closed else ""


class Identifiers:
    """Gives group requests their identifiers. `node_uri` is the server's address, of which identifiers and tags are made."""

    def __init__(self, graph: GroupGraph, policy: str, node_uri: str) -> None:
        self._graph, self.policy, self._node_uri = graph, policy, node_uri
        self._kept: dict[str, Identified] = {}
        self._kept_at = graph.version

    def asked(self, method: Method, group: str, *, at_servers: bool) -> Identified:
        """Whether a request to a group needs an identifier. `at_servers`: this node has groups for it at other servers."""
        if self.policy == ALWAYS:
            return Identified(True, 'request_id is "always"')
        if method in WRITES:
            return Identified(True, "it is a write")
        if at_servers:
            return Identified(True, "it has a group at another server")
        version = self._graph.version
        if version != self._kept_at or len(self._kept) >= _KEPT:
            self._kept.clear()
            self._kept_at = version
        found = self._kept.get(group)
        if found is None:
            found = self._kept[group] = questions(self._graph, self._graph.uri_of(group))
        return found

    def of(self, request: Request, group: str, *, at_servers: bool) -> bytes | None:
        """The identifier of a request to a group: its own, a new one, or None where it needs none."""
        if request.request_id is not None:
            return request.request_id
        return new_request_id(self._node_uri) if self.asked(request.method, group, at_servers=at_servers).needed else None

    def tag(self, group: str, request_id: bytes | None) -> bytes | None:
        """By what those who are asked know the group that asks."""
        return None if request_id is None else requester_tag(self._node_uri, (*GROUPS, group), request_id)
