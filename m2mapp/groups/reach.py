"""How the members of a group are reached right now: by which multicast requests, and who alone.

Derived from the fan-out sets and the registrations, and kept until one of them changes: a group is asked more often than it changes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.fanout import MulticastLeg, Target
from m2mapp.groups.group import REACHED, sets_of
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.tree import Tree

MOST_KEPT = 20_000
"""So many members' ways are kept, for the groups that were asked last: about 500 bytes each."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The multicast requests that reach members of a group, and the members that are asked one by one.

    `keepers`: the members whose devices keep request identifiers (spec section 6), as devices do that have taken an `mcGroup`.
    """

    legs: tuple[MulticastLeg, ...]
    alone: tuple[str, ...]
    keepers: frozenset[str] = frozenset()

    @property
    def everybody(self) -> tuple[str, ...]:
        """All members: for what cannot go by multicast."""
        return (*(target.uri for leg in self.legs for target in leg.targets), *self.alone)

    @property
    def size(self) -> int:
        """How many members there are."""
        return sum(len(leg.targets) for leg in self.legs) + len(self.alone)


def reach(tree: Tree, registrations: Registrations, group: str) -> Reach:
    """How the members of a group are reached. One that is the only one of its set to have joined is asked alone."""
    legs: list[MulticastLeg] = []
    alone: list[str] = []
    keepers: list[str] = []
    for one in sets_of(tree, group):
        joined = [uri for uri in one.members if one.joins.get(uri) in REACHED]
        keepers += [uri for uri in joined if _took_mc_group(registrations, uri)]
        if len(joined) > 1:
            targets = tuple(_target(registrations, uri) for uri in joined)
            legs.append(MulticastLeg(one.address, one.port, one.path, targets, one.leisure_s))
            alone += [uri for uri in one.members if one.joins.get(uri) not in REACHED]
        else:
            alone += one.members
    return Reach(tuple(legs), tuple(alone), frozenset(keepers))


class Reaches:
    """The reach of each group, kept until it is void."""

    def __init__(self, tree: Tree, registrations: Registrations, most: int = MOST_KEPT) -> None:
        self._tree, self._registrations, self._most = tree, registrations, most
        self._kept: OrderedDict[str, Reach] = OrderedDict()
        self._size = 0

    def of(self, group: str) -> Reach:
        """How the members of this group are reached."""
        found = self._kept.get(group)
        if found is None:
            found = reach(self._tree, self._registrations, group)
            self._kept[group] = found
            self._size += found.size
            while self._size > self._most and len(self._kept) > 1:
                self._size -= self._kept.popitem(last=False)[1].size
        else:
            self._kept.move_to_end(group)
        return found

    def void(self, group: str) -> None:
        """The group's sets, or the devices of its members, have changed."""
        gone = self._kept.pop(group, None)
        if gone is not None:
            self._size -= gone.size


def _took_mc_group(registrations: Registrations, uri: str) -> bool:
    """Whether the device of a member that has joined did so by an `mcGroup`; one with groups of its own listens to these as it is."""
    parsed = parse_uri(uri)
    device = registrations.at_host(parsed.host, parsed.port)
    return device is not None and not device.fixed_groups


def _target(registrations: Registrations, uri: str) -> Target:
    parsed = parse_uri(uri)
    device = registrations.at_host(parsed.host, parsed.port)
    return Target(uri, device.addresses, device.port) if device is not None else Target(uri, (parsed.host,), parsed.port)
