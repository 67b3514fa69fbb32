"""Devices as they are registered, each made out once: pages that show thousands look at them again and again. Pure.

Nothing is told of a change: what is remembered counts as long as the tree has that very resource.
"""

from __future__ import annotations

from m2mapp.tree.registrations import Device, device_of
from m2mapp.tree.unit import Resource

_MOST = 20_000


class KnownDevices:
    """The devices of registrations."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Resource, Device]] = {}

    def of(self, resource: Resource) -> Device:
        """The device that a resource of the type `scl` describes."""
        name = resource.path[-1]
        known = self._known.get(name)
        if known is not None and known[0] is resource:
            return known[1]
        if len(self._known) >= _MOST:
            self._known.clear()
        device = device_of(resource)
        self._known[name] = resource, device
        return device
