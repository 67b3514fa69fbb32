"""How one request goes through groups in groups: those of this node become one request to all their members, each asked once.

Pure (US 9,438,601: a local sub-group; spec section 6). A group at another server is asked like one member, by its `membersContent`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from m2mapp.groups.fanout import MulticastLeg
from m2mapp.groups.reach import Reach
from m2mapp.model.errors import TooLarge

MOST_MEMBERS = 20_000
"""So many members one request has at most, in all groups of this node that it goes through."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One request's way: whom it asks, the groups of this node that it goes through, how often it came to one again.

    `asked_before`: members that this node asks already, for the same request that came by another way. `refused`: the members that are
    groups of this node which it does not go through, each with the status to show for it.
    """

    reach: Reach
    groups: tuple[str, ...]
    loops: int = 0
    asked_before: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


def spread(group: str, reach_of: Callable[[str], Reach], enter: Callable[[str], str], asked: dict[str, None]) -> Spread:
    """The way of a request to a group.

    `enter` says whether a group in it is gone through now: empty where it is, `loop` where the request was there before, else the status
    that its member shows. `asked` are the URIs that are asked already; those of this way are added. Raises `TooLarge`.
    """
    first = reach_of(group)
    reaches, names, refused = {group: first}, deque([first]), []
    loops, size = 0, first.size
    while names:
        for member, name in names.popleft().here:
            status = "loop" if name in reaches else enter(name)
            if status == "loop":
                loops += 1
            elif status:
                refused.append((member, status))
            else:
                reaches[name] = reach_of(name)
                names.append(reaches[name])
                size += reaches[name].size
            if size > MOST_MEMBERS:
                raise TooLarge("groups in the group", MOST_MEMBERS, "members in all")
    if len(reaches) == 1 and not asked:
        asked.update(dict.fromkeys(first.everybody))
        return Spread(first, (group,), loops, (), tuple(refused))
    found = _join(list(reaches.values()), asked)
    return Spread(found.reach, tuple(reaches), loops + found.loops, found.asked_before, tuple(refused))


def _join(reaches: Sequence[Reach], asked: dict[str, None]) -> Spread:
    """One reach of several, in which nobody is asked twice."""
    joiner = _Joiner(asked, frozenset().union(*(one.keepers for one in reaches)))
    for reach in reaches:
        for leg in reach.legs:
            joiner.add_leg(leg)
    for reach in reaches:
        joiner.alone += joiner.new(reach.alone)
    subgroups = {one.uri: one for reach in reaches for one in reach.subgroups}
    mine = [one for one in subgroups.values() if one.uri in joiner.mine]
    answers_for = [uri for one in subgroups.values() if one.uri in joiner.before and not one.given for uri in one.members]
    before = tuple(uri for uri in joiner.before if uri not in subgroups)
    asked.update(joiner.mine)
    reach = Reach(tuple(joiner.legs), tuple(joiner.alone), joiner.keepers, tuple(mine))
    return Spread(reach, (), len(joiner.before) - len(before), (*before, *answers_for))


class _Joiner:
    """Takes the legs and members of several groups, each member once. `before`: those that were `asked` by another way."""

    def __init__(self, asked: Mapping[str, None], keepers: frozenset[str]) -> None:
        self._asked, self.keepers = asked, keepers
        self.mine: dict[str, None] = {}
        self.before: dict[str, None] = {}
        self.legs: list[MulticastLeg] = []
        self.alone: list[str] = []

    def new(self, uris: Iterable[str]) -> list[str]:
        """Those of them that are asked for the first time."""
        found = []
        for uri in uris:
            if uri in self._asked:
                self.before[uri] = None
            elif uri not in self.mine:
                self.mine[uri] = None
                found.append(uri)
        return found

    def add_leg(self, leg: MulticastLeg) -> None:
        """A multicast request reaches also those who were asked already: it is sent where these know a request that they had."""
        new = set(self.new(leg.uris))
        if len(new) == len(leg.targets):
            self.legs.append(leg)
        elif len(new) > 1 and all(uri in new or uri in self.keepers for uri in leg.uris):
            self.legs.append(replace(leg, targets=tuple(target for target in leg.targets if target.uri in new)))
        else:
            self.alone += [uri for uri in leg.uris if uri in new]
