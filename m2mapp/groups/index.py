"""Which groups have a member at a host: derived from the groups in the tree. Pure; whoever follows the tree tells it of changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.group import members_of
from m2mapp.tree.registrations import Device
from m2mapp.tree.unit import Resource


def hosts_of(device: Device) -> tuple[str, ...]:
    """What the URIs of a device's resources can have as their host."""
    return tuple(dict.fromkeys((*(host.lower() for host in device.hosts), *device.addresses, device.name)))


class MemberIndex:
    """Hosts to the names of the groups that have members there. A change costs the members that came or went."""

    def __init__(self) -> None:
        self._groups_at: dict[str, Counter[str]] = {}

    def changed(self, before: Resource | None, after: Resource | None) -> None:
        """A group was another before (None: it was not) and is this now (None: it is gone)."""
        old = dict.fromkeys(members_of(before)) if before is not None else {}
        new = dict.fromkeys(members_of(after)) if after is not None else {}
        for uri in new:
            if uri not in old and after is not None:
                self._groups_at.setdefault(parse_uri(uri).host, Counter())[after.path[-1]] += 1
        for uri in old:
            if uri not in new and before is not None:
                self._leave(parse_uri(uri).host, before.path[-1])

    def groups_at(self, hosts: Iterable[str]) -> list[str]:
        """The names of the groups that have a member at one of the hosts, sorted."""
        return sorted({group for host in hosts for group in self._groups_at.get(host, ())})

    def hosts(self) -> list[str]:
        """All hosts that are known."""
        return list(self._groups_at)

    def __len__(self) -> int:
        """How many hosts are known."""
        return len(self._groups_at)

    def _leave(self, host: str, group: str) -> None:
        groups = self._groups_at.get(host)
        if groups is None:
            return
        groups[group] -= 1
        if groups[group] <= 0:
            del groups[group]
        if not groups:
            del self._groups_at[host]
