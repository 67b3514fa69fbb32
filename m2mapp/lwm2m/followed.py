"""What a gateway's tree has of each device that it gave an address: leases, registration, groups. Pure.

Responsible for which devices, by DUID, a change of the tree concerns. Whoever follows the tree tells it of each change. Not responsible
for what is reported of them (`report`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.tree.registrations import SCL, SCLS, Device, Registrations, device_of
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Document, Resource

LEASES: Final[Path] = ("leases",)
GROUPS: Final[Path] = ("groups",)
_LEASE, _FANOUT_SET = "lease", "fanoutSet"
_BOUND: Final = "bound"
ONE_BY_ONE: Final = "one by one"
"""How a member of a fan-out set stands that nobody has to tell of a multicast group."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of one device. `leases` are their documents by IAID; `registered_ms` is since when it is registered, as `endpoint`.

    `groups`: how it stands in each group that it is in, by the group's path; of several members the one that is least far.
    """

    leases: tuple[Document, ...] = ()
    endpoint: str = ""
    registered_ms: int | None = None
    groups: Mapping[str, str] | None = None


class Followed:
    """The devices with an address of this gateway, as the tree has them."""

    def __init__(self, tree: Tree, registrations: Registrations) -> None:
        self._tree, self._registrations = tree, registrations
        self._leases: dict[str, dict[Path, Document]] = {}
        self._at_address: dict[str, dict[Path, str]] = {}
        self._members_at: dict[str, dict[tuple[Path, str], str]] = {}

    def load(self) -> list[str]:
        """Take what the tree has. The DUIDs of all devices."""
        for resource in (*self._tree.walk(LEASES), *self._tree.walk(GROUPS)):
            self._take(None, resource)
        return list(self._leases)

    def changed(self, change: Change) -> set[str]:
        """A change of the tree: the DUIDs of the devices that it concerns."""
        return self._take(change.before, change.after)

    def seen(self, duid: str) -> Seen:
        """What there is of a device; without leases where it has none any more."""
        leases = self._leases.get(duid, {})
        documents = tuple(leases[path] for path in sorted(leases))
        addresses = [str(lease["address"]) for lease in documents]
        device = next(filter(None, map(self._registrations.at_address, addresses)), None)
        hosts = {*addresses, *(_hosts_of(device) if device is not None else ())}
        resource = self._tree.find((*SCLS, device.name)) if device is not None else None
        return Seen(
            documents,
            device.name if device is not None else "",
            resource.created_ms if resource is not None else None,
            self._groups(hosts),
        )

    def _groups(self, hosts: Iterable[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for host in sorted(hosts):
            for (group, _), state in sorted(self._members_at.get(host, {}).items()):
                name = "/" + "/".join(group)
                if name not in found or found[name] in REACHED:
                    found[name] = state
        return found

    def _take(self, before: Resource | None, after: Resource | None) -> set[str]:
        kind = (after or before or _NOTHING).type
        if kind == _LEASE:
            return self._take_lease(before, after)
        if kind == SCL:
            devices = (device_of(each) for each in (before, after) if each is not None and each.type == SCL)
            return self._with(address for device in devices for address in device.addresses)
        if kind == _FANOUT_SET:
            return self._take_set(before, after)
        return set()

    def _take_lease(self, before: Resource | None, after: Resource | None) -> set[str]:
        touched = set()
        for resource, there in ((before, False), (after, True)):
            if resource is None or resource.type != _LEASE or resource.attributes.get("state") != _BOUND:
                continue
            duid, address = str(resource.attributes["duid"]), str(resource.attributes["address"])
            touched.add(duid)
            if there:
                self._leases.setdefault(duid, {})[resource.path] = resource.attributes
                self._at_address.setdefault(address, {})[resource.path] = duid
                continue
            leases = self._leases.get(duid, {})
            leases.pop(resource.path, None)
            if not leases:
                self._leases.pop(duid, None)
            at_address = self._at_address.get(address, {})
            at_address.pop(resource.path, None)
            if not at_address:
                self._at_address.pop(address, None)
        return touched

    def _take_set(self, before: Resource | None, after: Resource | None) -> set[str]:
        old, new = _members(before), _members(after)
        group = (after or before or _NOTHING).path[:2]
        hosts = set()
        for uri in {uri for uri, state in new.items() if old.get(uri) != state} | (old.keys() - new.keys()):
            host = _host_of(uri)
            hosts.add(host)
            at_host = self._members_at.setdefault(host, {})
            if uri in new:
                at_host[group, uri] = new[uri]
            elif before is not None and at_host.get((group, uri)) == old[uri]:
                del at_host[group, uri]
            if not at_host:
                del self._members_at[host]
        return {duid for host in hosts for duid in self._at(host)}

    def _at(self, host: str) -> set[str]:
        device = self._registrations.here(host)
        return self._with((host, *(device.addresses if device is not None else ())))

    def _with(self, addresses: Iterable[str]) -> set[str]:
        return {duid for address in addresses for duid in self._at_address.get(address, {}).values()}


REACHED: Final = frozenset({"joined", "proven", "unsupported", ONE_BY_ONE})
"""A member in one of these states is in its group: it has joined, or is asked one by one for good."""
_NOTHING = Resource((), "", {}, None, None, 0, 0, 0)


def _members(resource: Resource | None) -> dict[str, str]:
    """The members of a fan-out set and how far each is."""
    if resource is None or resource.type != _FANOUT_SET:
        return {}
    members, joins = resource.attributes.get("memberList"), resource.attributes.get("joins")
    states = joins if isinstance(joins, Mapping) else {}
    return {str(uri): str(states.get(uri, ONE_BY_ONE)) for uri in members} if isinstance(members, list | tuple) else {}


def _host_of(uri: str) -> str:
    try:
        return parse_uri(uri).host
    except Fault:
        return ""


def _hosts_of(device: Device) -> tuple[str, ...]:
    return (*(host.lower() for host in device.hosts), *device.addresses, device.name)
