"""Who has which multicast address, as resources: addresses lent and resting, and what this node has at other nodes. Pure.

Spec section 3, "Addresses"; US 9,450,772, step 203-2.

`/mcAddrPool/<address>` is a global address that is given to a group, here or at another node. `/node/resting/<address>` is one that nobody
has any more and that is not given yet: devices that were away may still listen to it. `/node/held/<name>` is a group, or an address, that
another node keeps for a group of this one: as long as it stands there, that node is owed word when it is not wanted any more.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from m2mapp.formats.shapes import Field, Shape, Wrong, integer
from m2mapp.formats.uris import parse_uri
from m2mapp.groups.group import FanoutSet, is_multicast_address
from m2mapp.model.errors import Fault, MethodNotAllowed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Remove, Resource, Write

POOL: Path = ("mcAddrPool",)
RESTING_AT: Path = ("node", "resting")
HELD_AT: Path = ("node", "held")
LEASE, RESTING, HELD = "mcAddrLease", "restingAddress", "heldElsewhere"
LEASE_S = 86_400.0
"""So long an address is lent; whoever has it asks again before that."""
QUARANTINE_S = 3_600.0
"""So long an address that was given back rests. A restart begins both times anew: they may be longer, and never shorter."""
_VERSIONS = (4, 6)


class Owner(Protocol):
    """Tells this node's own addresses from others (`ledger.AddressLedger`)."""

    def is_global(self, address: str) -> bool:
        """Whether it is of the node's global pool."""

    def is_own(self, address: str) -> bool:
        """Whether it is of any of the node's pools."""


@dataclass(frozen=True, slots=True)
class Held:
    """What another node keeps for a group of this one: a group, or with `address` a lease. `uri` is where it stands there."""

    name: str
    group: str
    uri: str
    address: str = ""


def held_of(resource: Resource) -> Held:
    """What a resource of that type says."""
    document = resource.attributes
    return Held(resource.path[-1], str(document["group"]), str(document["uri"]), str(document.get("address", "")))


def held_name(uri_or_address: str) -> str:
    """The name of the record of a group at another node (by its URI) or of a borrowed address."""
    return uri_or_address if is_multicast_address(uri_or_address) else hashlib.sha256(uri_or_address.encode()).hexdigest()[:32]


def held_record(held: Held) -> Write:
    """The write that makes the record."""
    kept = {"group": held.group, "uri": held.uri, **({"address": held.address} if held.address else {})}
    return Write((*HELD_AT, held.name), HELD, kept)


def user_of(held: Held, sets: Iterable[FanoutSet]) -> FanoutSet | None:
    """The set that uses what is held; None: it is not wanted any more."""
    return next((one for one in sets if (one.address == held.address if held.address else one.group == held.uri)), None)


def address_changes(group_uri: str, before: Sequence[FanoutSet], after: Sequence[FanoutSet], owner: Owner) -> list[Write | Remove]:
    """What is written of the node's own addresses when a group's sets change: global ones are entered as given; those given up rest."""
    had, has = _addresses(before), _addresses(after)
    changes: list[Write | Remove] = [
        Write((*POOL, address), LEASE, {"for": group_uri, "own": True})
        for address in has
        if address not in had and owner.is_global(address)
    ]
    for address in had:
        if address not in has and owner.is_own(address):
            changes += given_up(address) if owner.is_global(address) else [Write((*RESTING_AT, address), RESTING)]
    return changes


def given_up(address: str) -> list[Write | Remove]:
    """The end of a lease: the address rests."""
    return [Remove((*POOL, address)), Write((*RESTING_AT, address), RESTING)]


def held_changes(
    tree: Tree, group: str, before: Sequence[FanoutSet], after: Sequence[FanoutSet], lent: Mapping[str, str]
) -> list[Write | Remove]:
    """The records of what a group's new sets use at other nodes. `lent`: borrowed addresses, and where each lease stands."""
    had, had_groups = _addresses(before), {one.group for one in before}
    wanted = [Held(held_name(one.group), group, one.group) for one in after if one.group and one.group not in had_groups]
    wanted += [Held(address, group, lent[address], address) for address in _addresses(after) if address in lent and address not in had]
    return [held_record(held) for held in wanted if tree.expected((*HELD_AT, held.name)) is None]


def _addresses(sets: Iterable[FanoutSet]) -> dict[str, None]:
    return {one.address: None for one in sets if one.is_multicast or (one.group and is_multicast_address(one.address))}


def _for(value: object) -> str:
    try:
        return parse_uri(value).text()
    except Fault as fault:
        raise Wrong(value, "the URI of the group that the address is for, such as http://g1.example.org/groups/grp11") from fault


ASKED = Shape({"for": Field(_for), "version": Field(integer(min(_VERSIONS), max(_VERSIONS)), max(_VERSIONS))})
"""The document of POST /mcAddrPool. `version`: the IP version, 6 where it is not said."""


def _refuse(name: str, given: Document) -> Document:
    raise MethodNotAllowed("PUT", path_text((name,)), ("GET",))


def describe_lease(resource: Resource, tree: Tree) -> Document:
    """A lease as it is shown, without the time of its end."""
    return {"address": resource.path[-1], "for": resource.attributes["for"]}


_READ = frozenset({Method.GET})
LENDING_TYPES = (
    ResourceType(LEASE, (*POOL, "*"), _refuse, describe_lease, methods=frozenset({Method.GET, Method.DELETE})),
    ResourceType(RESTING, (*RESTING_AT, "*"), _refuse, lambda resource, _: {"address": resource.path[-1]}, methods=_READ),
    ResourceType(HELD, (*HELD_AT, "*"), _refuse, lambda resource, _: resource.attributes, methods=_READ),
)
"""What the node's `Types` are given."""


class Ends:
    """When things end that all last equally long, in monotonic seconds. Every operation costs the same however many there are."""

    def __init__(self, lasts_s: float) -> None:
        self._lasts_s = lasts_s
        self._ends: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def start(self, name: str, now_s: float) -> None:
        """It lasts from now on."""
        self._ends[name] = now_s + self._lasts_s
        self._ends.move_to_end(name)

    def forget(self, name: str) -> None:
        """It is gone; one that is not known is no error."""
        self._ends.pop(name, None)

    def clear(self) -> None:
        """All are gone."""
        self._ends.clear()

    def end_s(self, name: str) -> float | None:
        """When it ends; None for what is not known."""
        return self._ends.get(name)

    def next_end_s(self) -> float | None:
        """When the first one ends; None where there is none."""
        return next(iter(self._ends.values()), None)

    def due(self, now_s: float, limit: int) -> list[str]:
        """Those whose time is over, at most so many."""
        return [name for name, end_s in islice(self._ends.items(), limit) if end_s <= now_s]
