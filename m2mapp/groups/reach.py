"""How the members of a group are reached right now: by which multicast requests, and who alone.

Derived from the fan-out sets and the registrations, and kept until one of them changes: a group is asked more often than it changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.fanout import MulticastLeg, Target
from m2mapp.groups.group import MEMBERS_CONTENT, REACHED, FanoutSet, is_multicast_address, sets_of
from m2mapp.groups.nested import group_at, group_name
from m2mapp.groups.subgroup import Subgroup, content_uri
from m2mapp.model.identifiers import Path
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.tree import Tree

MOST_KEPT = 20_000
"""So many members' ways are kept, for the groups that were asked last: about 500 bytes each."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The multicast requests that reach members of a group, and the members that are asked one by one.

    A group at another server is asked like one member, by the URI of its `membersContent`; `subgroups` says for whom it answers.
    `keepers`: the members whose devices keep request identifiers (spec section 6), as devices do that have taken an `mcGroup`, and groups
    at other servers. `here`: the members that are groups of this node, each with its group's name (`spread` goes through them).
    """

    legs: tuple[MulticastLeg, ...]
    alone: tuple[str, ...]
    keepers: frozenset[str] = frozenset()
    subgroups: tuple[Subgroup, ...] = ()
    here: tuple[tuple[str, str], ...] = ()

    @property
    def everybody(self) -> tuple[str, ...]:
        """All members: for what cannot go by multicast."""
        return (*(uri for leg in self.legs for uri in leg.uris), *self.alone)

    @property
    def size(self) -> int:
        """How many members there are."""
        return sum(len(leg.targets) for leg in self.legs) + len(self.alone) + sum(len(one.members) for one in self.subgroups)


def reach(tree: Tree, registrations: Registrations, is_own: Callable[[Uri], bool], group: str) -> Reach:
    """How the members of a group are reached. One that is the only one of its set to have joined is asked alone."""
    legs: list[MulticastLeg] = []
    alone: list[str] = []
    keepers: list[str] = []
    others: list[FanoutSet] = []
    here: list[tuple[str, str]] = []
    given: dict[str, Subgroup] = {}
    for one in sets_of(tree, group):
        if one.is_given_group:
            _enter_given(one.members[0], is_own, here, given)
        elif one.group:
            # Until its server has confirmed the group, its members are asked like any other. It has when it is told to join an address.
            if one.joins.get(one.group) in REACHED or is_multicast_address(one.address):
                others.append(one)
            else:
                alone += one.members
        else:
            _enter_members(registrations, one, legs, alone, keepers)
    together, one_by_one = _servers(registrations, others)
    subgroups = (*(Subgroup(content_uri(one.group), one.members) for one in others), *given.values())
    return Reach((*legs, *together), (*alone, *one_by_one, *given), frozenset((*keepers, *given)), subgroups, tuple(here))


def _enter_given(member: str, is_own: Callable[[Uri], bool], here: list[tuple[str, str]], given: dict[str, Subgroup]) -> None:
    """A member that is a group: of this node, or at another server, which answers for it."""
    uri = group_at(member)
    name = group_name(uri.path) if uri is not None and is_own(uri) else None
    if name is not None:
        here.append((member, name))
    elif uri is not None:
        content = content_uri(uri.text())
        given[content] = Subgroup(content, (), member)


def _enter_members(registrations: Registrations, one: FanoutSet, legs: list[MulticastLeg], alone: list[str], keepers: list[str]) -> None:
    """The members of a set that is no group."""
    joined = [uri for uri in one.members if one.joins.get(uri) in REACHED]
    keepers += [uri for uri in joined if _took_mc_group(registrations, uri)]
    if len(joined) > 1:
        targets = tuple(_target(registrations, uri) for uri in joined)
        legs.append(MulticastLeg(one.address, one.port, one.path, targets, one.leisure_s))
        alone += [uri for uri in one.members if one.joins.get(uri) not in REACHED]
    else:
        alone += one.members


def _servers(registrations: Registrations, groups: Sequence[FanoutSet]) -> tuple[list[MulticastLeg], list[str]]:
    """Groups at other servers: those whose servers have joined one multicast address are asked together, the others one by one."""
    places: dict[tuple[str, int, Path], list[FanoutSet]] = {}
    alone: list[str] = []
    for one in groups:
        if one.joins.get(one.group) in REACHED and is_multicast_address(one.address):
            places.setdefault((one.address, one.port, one.path), []).append(one)
        else:
            alone.append(content_uri(one.group))
    legs: list[MulticastLeg] = []
    for (address, port, path), found in places.items():
        if len(found) > 1:
            targets = tuple(_target(registrations, content_uri(one.group)) for one in found)
            legs.append(MulticastLeg(address, port, (*path, MEMBERS_CONTENT), targets, found[0].leisure_s, servers=True))
        else:
            alone += [content_uri(one.group) for one in found]
    return legs, alone


class Reaches:
    """The reach of each group, kept until it is void."""

    def __init__(self, tree: Tree, registrations: Registrations, is_own: Callable[[Uri], bool], most: int = MOST_KEPT) -> None:
        self._tree, self._registrations, self._is_own, self._most = tree, registrations, is_own, most
        self._kept: OrderedDict[str, Reach] = OrderedDict()
        self._size = 0

    def of(self, group: str) -> Reach:
        """How the members of this group are reached."""
        found = self._kept.get(group)
        if found is None:
            found = reach(self._tree, self._registrations, self._is_own, group)
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
