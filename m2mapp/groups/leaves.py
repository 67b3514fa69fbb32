"""What devices still have to leave: the resources `/leaves/<name>`, committed together with the edit of a group that causes them.

Responsible for what is owed by an edit and for the shape of the record. Pure. Not responsible for telling the devices
(`drivers.advertise`) nor for crossing out what they have confirmed (`drivers.leaving`).

A record is kept for each fan-out set and address: so a device that is away, or a gateway that is killed between the edit and the
advertisement, costs nothing but time. While a record is there its address is not given to another set (`ledger`): a device that has not
left would take the other set's requests for its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.group import FanoutSet, Join
from m2mapp.groups.naming import fitting
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Remove, Resource, Write

LEAVES: Path = ("leaves",)
LEAVE = "leave"
SetKey = tuple[str, str, str]
"""A fan-out set while it has one address: the group's name, the set's, and the address."""


@dataclass(frozen=True, slots=True)
class Leave:
    """What is owed for one set: each member whose device has to leave, with the number of the edit since when.

    A member that comes and goes again has another number: what was confirmed for the first leave does not cross out the second.
    """

    key: SetKey
    members: Mapping[str, int]


def leave_of(resource: Resource) -> Leave:
    """The leaves that a resource of that type keeps."""
    document = resource.attributes
    members = document["members"]
    known = {str(uri): number for uri, number in members.items() if isinstance(number, int)} if isinstance(members, Mapping) else {}
    return Leave((str(document["group"]), str(document["set"]), str(document["fanoutAddress"])), known)


def leave_path(key: SetKey) -> Path:
    """Where the leaves of a set are kept."""
    return (*LEAVES, fitting("-".join(key)))


def owed(
    tree: Tree, registrations: Registrations, group: str, before: Sequence[FanoutSet], after: Sequence[FanoutSet] = ()
) -> list[Write | Remove]:
    """What an edit that makes of the sets `before` the sets `after` leaves to be told, to be committed with it.

    A member whose device is known to hold nothing of ours (it takes no groups, or cannot change its own) owes nothing.
    """
    stays = {(one.name, one.address): frozenset(one.members) for one in after if one.is_multicast}
    changes: list[Write | Remove] = []
    for one in before:
        there = stays.get((one.name, one.address), frozenset())
        gone = [uri for uri in one.members if uri not in there and _may_hold(registrations, one, uri)] if one.is_multicast else []
        if gone:
            changes.append(_added(tree, (group, one.name, one.address), one, gone))
    return changes


def without(resource: Resource, confirmed: Mapping[str, int]) -> Write | Remove | None:
    """The record without the members that have left; None where they are not in it, or not by that number."""
    leave = leave_of(resource)
    left = {uri: number for uri, number in leave.members.items() if confirmed.get(uri) != number}
    if len(left) == len(leave.members):
        return None
    return Write(resource.path, LEAVE, {**resource.attributes, "members": left}) if left else Remove(resource.path)


def _may_hold(registrations: Registrations, one: FanoutSet, uri: str) -> bool:
    if one.joins.get(uri) is Join.UNSUPPORTED:
        return False
    parsed = parse_uri(uri)
    device = registrations.at_host(parsed.host, parsed.port)
    return device is None or not device.fixed_groups


def _added(tree: Tree, key: SetKey, one: FanoutSet, gone: Iterable[str]) -> Write:
    path = leave_path(key)
    kept = tree.expected(path)
    members = dict(leave_of(kept).members) if kept is not None else {}
    members.update(dict.fromkeys(gone, tree.next_number))
    document: Document = {
        "group": key[0],
        "set": key[1],
        "addressType": one.address_type.value,
        "fanoutAddress": key[2],
        "port": one.port,
        "fanoutURI": path_text(one.path),
        "members": members,
    }
    return Write(path, LEAVE, document)


def _refuse(name: str, given: Document) -> Document:
    raise MethodNotAllowed("PUT", path_text((*LEAVES, name)), ("DELETE", "GET"))


LEAVE_TYPE = ResourceType(LEAVE, (*LEAVES, "*"), _refuse, methods=frozenset({Method.GET, Method.DELETE}))
"""DELETE: whoever may write says that the devices are gone for good, and are not to be told."""
