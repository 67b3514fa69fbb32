"""Which multicast addresses are in use: by the fan-out sets in the tree, and promised to units that are not committed yet.

Derived from the tree, which is the only record; whoever follows the tree tells it of each set that comes and goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from m2mapp.groups.group import multicast_address
from m2mapp.groups.pool import Network, next_address
from m2mapp.tree.unit import Resource


class Taking:
    """Takes addresses for one unit (a `plan.TakeAddress`). Call `dropped` where the unit is not committed."""

    def __init__(self, ledger: AddressLedger) -> None:
        self._ledger = ledger
        self._mine: list[str] = []

    def __call__(self, version: int) -> str | None:
        """An address of that IP version which nobody else has or was promised; None where the pool is empty."""
        address = self._ledger.promise(version)
        if address is not None:
            self._mine.append(address)
        return address

    def dropped(self) -> None:
        """The unit will not be: its addresses are free again."""
        for address in self._mine:
            self._ledger.release(address)
        self._mine.clear()


class AddressLedger:
    """The addresses in use. `pool` gives the ranges that new ones are taken from."""

    def __init__(self, pool: Callable[[], tuple[Network, ...]]) -> None:
        self._pool = pool
        self._taken: Counter[str] = Counter()
        self._promised: set[str] = set()
        self._last: dict[int, str] = {}

    def promise(self, version: int) -> str | None:
        """An address that nobody has; it is kept until a set with it is entered, or it is released."""
        address = next_address(self._pool(), version, self._is_used, self._last.get(version))
        if address is not None:
            self._promised.add(address)
            self._last[version] = address
        return address

    def release(self, address: str) -> None:
        """What was promised is not needed."""
        self._promised.discard(address)

    def entered(self, resource: Resource) -> None:
        """A fan-out set is in the tree."""
        address = multicast_address(resource)
        if address is not None:
            self._taken[address] += 1
            self._promised.discard(address)

    def left(self, resource: Resource) -> None:
        """A fan-out set is not in the tree any more, or not as it was."""
        address = multicast_address(resource)
        if address is not None:
            self._taken[address] -= 1
            if self._taken[address] <= 0:
                del self._taken[address]

    def _is_used(self, address: str) -> bool:
        return address in self._taken or address in self._promised
