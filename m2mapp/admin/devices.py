"""The devices of a gateway, from what its tree has of them: leases, registrations, groups. Joined by address; nothing is kept.

Responsible for which devices there are and for what there is of each. What that means is in `timelines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from m2mapp.admin.natural import in_order
from m2mapp.admin.timelines import ONE_BY_ONE, Found
from m2mapp.formats.uris import address_key
from m2mapp.model.identifiers import Path
from m2mapp.tree.node import REPORTS
from m2mapp.tree.registrations import SCL, SCLS
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Resource

LEASES: Path = ("leases",)
GROUPS: Path = ("groups",)
_SETS = "fanoutSets"
_LEASE = "lease"
_MULTICAST = "multicast"
_COAP = 5683
MayRead = Callable[[Path], bool]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group on a device: the group's name, the member's URI, how far it is in joining."""

    group: str
    uri: str
    state: str


class Devices:
    """What a visitor may see of the devices, as the tree is now: made anew for each visit."""

    def __init__(self, tree: Tree, may_read: MayRead, *, reports: bool) -> None:
        """`reports`: this node reports its devices to a bootstrap server."""
        self._tree, self._reports = tree, reports and may_read(REPORTS)
        self._leases: dict[str, list[Resource]] = {}
        for lease in tree.walk(LEASES) if may_read(LEASES) else ():
            if lease.type == _LEASE and lease.attributes.get("state") != "declined":
                self._leases.setdefault(str(lease.attributes["duid"]), []).append(lease)
        self._scls = {one.path[-1]: one for one in tree.children(SCLS) if one.type == SCL} if may_read(SCLS) else {}
        self._at = {address: name for name, one in self._scls.items() for address in _texts(one.attributes.get("addresses"))}
        self._groups = tree.children(GROUPS) if may_read(GROUPS) else []

    def names(self) -> list[str]:
        """All devices in order: one that is registered by its name there, one that is not by its DUID."""
        registered = set(self._scls)
        others = {duid for duid, leases in self._leases.items() if self._registration(leases) is None}
        return in_order(registered | others)

    def matching(self, wanted: str) -> list[str]:
        """The devices with this text in their name, DUID, host or address, in order."""
        text = wanted.lower()
        owned = self._owned()
        return [name for name in self.names() if text in self._searched(name, owned)]

    def find(self, name: str) -> Found | None:
        """What there is of a device, found by its name, its DUID or an address; its groups are not looked at (`with_groups`)."""
        key = address_key(name)
        duid = name.lower() if name.lower() in self._leases else self._owner(key)
        if name not in self._scls and duid:
            name = self._registration(self._leases[duid]) or duid
        elif name not in self._scls and key in self._at:
            name = self._at[key]
        return self.founds([name])[0] if name in self._scls or name in self._leases else None

    def founds(self, names: Iterable[str]) -> list[Found]:
        """What there is of devices, which are there, by the names that `names` gives, without their groups."""
        owned = self._owned()
        return [self._found(name, name if name in self._leases else owned.get(name, "")) for name in names]

    def members(self, founds: Iterable[Found]) -> dict[str, list[Member]]:
        """The members of groups on these devices, by the device's name; one look at all fan-out sets."""
        # Several devices may be at one host, each at its port.
        places = [(host, self._port(found), found.name) for found in founds for host in self._hosts(found)]
        at_port, of_host = {(host, port): name for host, port, name in places}, {host: name for host, _, name in places}
        members: dict[str, list[Member]] = {}
        for group in self._groups:
            for one in self._tree.children((*group.path, _SETS)):
                joins, listed = one.attributes.get("joins"), one.attributes.get("memberList")
                states = joins if isinstance(joins, Mapping) else {}
                together = str(one.attributes.get("addressType")).startswith(_MULTICAST)
                for uri in listed if isinstance(listed, list | tuple) else ():
                    host, port = place_of(str(uri))
                    name = at_port.get((host, port)) or of_host.get(host)
                    if name is not None:
                        state = str(states.get(uri, "pending")) if together else ONE_BY_ONE
                        members.setdefault(name, []).append(Member(group.path[-1], str(uri), state))
        return members

    def _found(self, name: str, duid: str) -> Found:
        scl, leases = self._scls.get(name), self._leases.get(duid, [])
        report = self._tree.find((*REPORTS, duid)) if self._reports and duid else None
        seen = self._tree.volatile(scl.path).get("lastSeen") if scl is not None else None
        addresses = _texts(scl.attributes.get("addresses")) if scl is not None else tuple(map(_address, leases))
        return Found(
            name=name,
            duid=duid,
            leases=tuple(lease.attributes for lease in leases),
            registered_ms=scl.created_ms if scl is not None else None,
            seen_ms=seen if isinstance(seen, int) else None,
            addresses=addresses,
            report=(report.attributes if report is not None else {}) if self._reports else None,
        )

    def _hosts(self, found: Found) -> set[str]:
        scl = self._scls.get(found.name)
        hosts = _texts(scl.attributes.get("hosts")) if scl is not None else ()
        return {found.name.lower(), *hosts, *found.addresses}

    def _port(self, found: Found) -> int:
        scl = self._scls.get(found.name)
        port = scl.attributes.get("port") if scl is not None else None
        return port if isinstance(port, int) else _COAP

    def _registration(self, leases: Iterable[Resource]) -> str | None:
        """The name by which the device with these leases is registered."""
        return next((self._at[key] for key in map(_address, leases) if key in self._at), None)

    def _owned(self) -> dict[str, str]:
        """The DUIDs of registered devices by their names."""
        pairs = ((self._registration(leases), duid) for duid, leases in self._leases.items())
        return {name: duid for name, duid in pairs if name is not None}

    def _owner(self, key: str) -> str:
        """The DUID that has an address."""
        return next((duid for duid, leases in self._leases.items() if key in map(_address, leases)), "")

    def _searched(self, name: str, owned: Mapping[str, str]) -> str:
        duid = name if name in self._leases else owned.get(name, "")
        scl = self._scls.get(name)
        hosts = (*_texts(scl.attributes.get("hosts")), *_texts(scl.attributes.get("addresses"))) if scl is not None else ()
        return " ".join((name, unquote(name), duid, *hosts, *map(_address, self._leases.get(duid, ())))).lower()


def merged(members: Iterable[Member]) -> dict[str, str]:
    """How a device stands in each of its groups: of several members the one that is least far."""
    found: dict[str, str] = {}
    for member in members:
        if member.group not in found or found[member.group] in ("joined", "proven", ONE_BY_ONE):
            found[member.group] = member.state
    return found


def place_of(uri: str) -> tuple[str, int]:
    """The host of a member's URI, which is canonical, and the port: that of CoAP where none is named."""
    authority = uri.partition("://")[2].partition("/")[0].lower()
    host, _, port = authority[1:].partition("]") if authority.startswith("[") else authority.partition(":")
    port = port.removeprefix(":")
    return host, int(port) if port.isdecimal() else _COAP


def _address(lease: Resource) -> str:
    """As it was written, which is the canonical form of addresses in registrations too."""
    return str(lease.attributes["address"])


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()
