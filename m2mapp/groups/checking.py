"""Comparing what a device holds with what it shall hold, after it was away: one question in place of one request for each group. Pure.

It also finds what is left on a device of groups that this node does not know any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping

from m2mapp.formats.uris import address_key
from m2mapp.groups.dialogue import (
    Place,
    address_of,
    entries_of,
    is_as_told,
    leave_membership,
    leave_named,
    show,
    shown_groups,
    shown_memberships,
)
from m2mapp.model.messages import Answer, Outgoing
from m2mapp.tree.registrations import Device
from m2mapp.tree.unit import Document

MOST_SPARE = 64
"""So many groups that nobody wants are left in one check; the others in the next."""

Checking = Generator[Outgoing, Answer | None, frozenset[Place] | None]
IsOurs = Callable[[str, str], bool]
"""Whether a group of that name (empty: it has none) and address was made by this node."""


def check(device: Device, wanted: Mapping[Place, Document], owed: Collection[Place], is_ours: IsOurs) -> Checking:
    """Ask a device what it holds, and let it leave what is ours and neither wanted nor owed (which is told by itself).

    Returns the places that it holds as it shall; None: it does not say what it holds.
    """
    if device.coap_group:
        return (yield from _check_memberships(device, wanted, owed, is_ours))
    shown = shown_groups((yield show(device)))
    if shown is None:
        return None
    known = {place.name for place in (*wanted, *owed)}
    spare = [name for name, kept in shown.items() if name not in known and is_ours(name, address_key(str(kept["mcAddress"])))]
    for name in spare[:MOST_SPARE]:
        yield leave_named(device, name)
    return frozenset(place for place, document in wanted.items() if any(is_as_told(kept, document) for kept in shown.values()))


def _check_memberships(device: Device, wanted: Mapping[Place, Document], owed: Collection[Place], is_ours: IsOurs) -> Checking:
    kept = shown_memberships((yield show(device)))
    if kept is None:
        return None
    known = {place.address for place in (*wanted, *owed)}
    addresses = {index: address_of(entry) for index, entry in kept.items()}
    spare = [
        index
        for index, address in addresses.items()
        if address is not None and address not in known and is_ours(str(kept[index].get("n", "")), address)
    ]
    for index in spare[:MOST_SPARE]:
        yield leave_membership(device, index)
    return frozenset(place for place in wanted if entries_of(kept, place))
