"""Which fan-out sets of one plan can have one multicast address (spec section 3, point 5). Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from m2mapp.model.identifiers import Path

IPV6 = 6
TakeAddress = Callable[[int], str | None]
"""Gives a multicast address of an IP version that no other set has; None where the pool is empty."""


@dataclass(frozen=True, slots=True)
class Access:
    """What has to agree for members to share a set: IP version, port, path."""

    version: int
    port: int
    path: Path


@dataclass(frozen=True, slots=True)
class Wide:
    """Global addresses: `take` gives one, `give_back` takes back one that the plan does not use after all, `has` knows them."""

    take: TakeAddress = lambda _: None
    give_back: Callable[[str], None] = lambda _: None
    has: Callable[[str], bool] = lambda _: False


NO_WIDE = Wide()
"""Where there are no global addresses."""


class Shared:
    """The addresses that the sets of one plan have, and what is asked for at each.

    Two sets share an address only where no path of one is the beginning of a path of the other: a device that has only one of the two
    would else take the other's requests for its own, with the rest of the path as suffix.
    """

    def __init__(self) -> None:
        self._paths: dict[str, set[tuple[int, Path]]] = {}
        self._beginnings: dict[str, set[tuple[int, Path]]] = {}

    def fits(self, address: str, access: Access) -> bool:
        """Whether a set with this access can have the address besides those that have it."""
        beginnings = _beginnings(access)
        if (access.port, access.path) in self._beginnings.get(address, ()):
            return False
        return not any(beginning in self._paths.get(address, ()) for beginning in beginnings)

    def add(self, address: str, access: Access) -> None:
        """A set with this access has the address."""
        self._paths.setdefault(address, set()).add((access.port, access.path))
        self._beginnings.setdefault(address, set()).update(_beginnings(access))

    def one_for(self, access: Access, wanted: Callable[[str], bool]) -> str | None:
        """An address of the plan that the set can share, of those that are `wanted`."""
        same_family = (address for address in self._paths if (":" in address) == (access.version == IPV6))
        return next((address for address in same_family if wanted(address) and self.fits(address, access)), None)


def _beginnings(access: Access) -> list[tuple[int, Path]]:
    """The access with each beginning of its path, the whole among them."""
    return [(access.port, access.path[:depth]) for depth in range(len(access.path) + 1)]
