"""Which multicast groups a device has to be in, and which it still has to leave, by host: derived from the tree.

Pure; whoever follows the tree tells it of each change. What one device has to be told costs no look at the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.advertisement import mc_group, mc_group_name
from m2mapp.groups.dialogue import Place
from m2mapp.groups.group import GROUPS, SETS, Join, multicast_address, raw_joins
from m2mapp.groups.index import hosts_of
from m2mapp.groups.leaves import Leave, SetKey, leave_of, leave_path
from m2mapp.model.identifiers import Path
from m2mapp.tree.registrations import Device, Registrations
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Document, Resource

_TO_TELL = frozenset({Join.PENDING.value, Join.FAILED.value})
"""Members in these states are told when the program starts. Later it is only a plan that makes one pending."""


Slot = tuple[str, str]
"""The names of a group and of a set, whatever the set's address: what has one name on the device is told in one sequence."""


class Memberships:
    """The members of each multicast set, and the leaves that are owed. A change costs a comparison for each member that is as before.

    `tree` has the sets and the leaves as they are; `node_name` is what the names of the `mcGroup`s begin with.
    """

    def __init__(self, tree: Tree, registrations: Registrations, node_name: str) -> None:
        self._tree, self._registrations, self._node_name = tree, registrations, node_name
        self._members_at: dict[str, dict[SetKey, dict[str, None]]] = {}
        self._owed_at: dict[str, dict[SetKey, dict[str, int]]] = {}

    def set_changed(self, before: Resource | None, after: Resource | None) -> list[tuple[SetKey, str]]:
        """A fan-out set was this and is that now. The members that have to be told, each with its set."""
        old_key, old = _joins(before)
        new_key, new = _joins(after)
        if new_key != old_key and old_key is not None:
            self._forget(old_key, old)
            old = {}
        elif old_key is not None:
            self._forget(old_key, (uri for uri in old if uri not in new))
        to_tell: list[tuple[SetKey, str]] = []
        for uri, join in new.items() if new_key is not None else ():
            if new_key is None:
                break
            if uri not in old:
                self._members_at.setdefault(parse_uri(uri).host, {}).setdefault(new_key, {})[uri] = None
                if join in _TO_TELL:
                    to_tell.append((new_key, uri))
            elif join != old[uri] and join == Join.PENDING.value:
                to_tell.append((new_key, uri))
        return to_tell

    def leave_changed(self, before: Resource | None, after: Resource | None) -> list[tuple[SetKey, str]]:
        """What is owed was this and is that now. The members whose devices have to be told, each with its set."""
        old = leave_of(before) if before is not None else None
        new = leave_of(after) if after is not None else None
        known = old.members if old is not None else {}
        wanted = new.members if new is not None else {}
        if old is not None:
            self._settle(old, (uri for uri in known if uri not in wanted))
        news: list[tuple[SetKey, str]] = []
        for uri, number in wanted.items():
            if new is not None and known.get(uri) != number:
                self._owed_at.setdefault(parse_uri(uri).host, {}).setdefault(new.key, {})[uri] = number
                news.append((new.key, uri))
        return news

    def wanted(self, device: Device) -> dict[SetKey, list[str]]:
        """The sets that the device is in, each with the members that it has there."""
        found: dict[SetKey, list[str]] = {}
        for host in hosts_of(device):
            for key, uris in self._members_at.get(host, {}).items():
                found.setdefault(key, []).extend(uri for uri in uris if self._is_at(device, uri))
        return {key: uris for key, uris in found.items() if uris}

    def members(self, device: Device, key: SetKey) -> list[str]:
        """The members of one set that the device has."""
        found = (uri for host in hosts_of(device) for uri in self._members_at.get(host, {}).get(key, ()))
        return [uri for uri in found if self._is_at(device, uri)]

    def owed(self, device: Device) -> dict[SetKey, dict[str, int]]:
        """The sets that the device has to leave, each with the members that it had there and the numbers of their leaves."""
        found: dict[SetKey, dict[str, int]] = {}
        for host in hosts_of(device):
            for key, members in self._owed_at.get(host, {}).items():
                mine = {uri: number for uri, number in members.items() if self._is_at(device, uri)}
                if mine:
                    found.setdefault(key, {}).update(mine)
        return found

    def told(self, device: Device, slot: Slot) -> tuple[SetKey, Document | None]:
        """The set as it is now, and the `mcGroup` that a device has to hold of it; None: it has to hold none."""
        resource = self._tree.find((*GROUPS, slot[0], SETS, slot[1]))
        address = multicast_address(resource) if resource is not None else None
        key = (*slot, address or "")
        uris = self.members(device, key)
        return key, mc_group(resource, uris) if resource is not None and uris else None

    def place(self, key: SetKey) -> Place:
        """The set as devices know it: from the set itself, or, where that is gone, from what is owed."""
        found = self._tree.find(set_path(key))
        if found is None or multicast_address(found) != key[2]:
            found = self._tree.find(leave_path(key))
        document: Document = found.attributes if found is not None else {}
        port = document.get("port")
        name = mc_group_name(self._node_name, key[0], key[1])
        return Place(name, key[2], port if isinstance(port, int) else 0, str(document.get("fanoutURI", "")))

    def all_owed(self) -> Iterable[tuple[SetKey, str, int]]:
        """Every leave that is owed: the set, the member, the number."""
        for sets in self._owed_at.values():
            for key, members in sets.items():
                for uri, number in members.items():
                    yield key, uri, number

    def clear(self) -> None:
        """Forget all."""
        self._members_at.clear()
        self._owed_at.clear()

    def _is_at(self, device: Device, uri: str) -> bool:
        """Whether it is this device that has the member: of several with one address it is the one at the port."""
        parsed = parse_uri(uri)
        found = self._registrations.at_host(parsed.host, parsed.port)
        return found is not None and found.name == device.name

    def _forget(self, key: SetKey, uris: Iterable[str]) -> None:
        for uri in uris:
            _drop(self._members_at, key, uri)

    def _settle(self, leave: Leave, uris: Iterable[str]) -> None:
        for uri in uris:
            _drop(self._owed_at, leave.key, uri)


def set_path(key: SetKey) -> Path:
    """Where a set stands, if it is there."""
    return (*GROUPS, key[0], SETS, key[1])


def _joins(resource: Resource | None) -> tuple[SetKey | None, Mapping[str, object]]:
    address = multicast_address(resource) if resource is not None else None
    if resource is None or address is None:
        return None, {}
    return (resource.path[1], resource.path[-1], address), raw_joins(resource)


def _drop(index: dict[str, dict[SetKey, dict[str, int]]] | dict[str, dict[SetKey, dict[str, None]]], key: SetKey, uri: str) -> None:
    host = parse_uri(uri).host
    sets = index.get(host, {})
    members = sets.get(key)
    if members is None:
        return
    members.pop(uri, None)
    if not members:
        del sets[key]
    if not sets:
        index.pop(host, None)
