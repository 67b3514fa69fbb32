"""Which multicast addresses are in use: by fan-out sets, lent to other nodes, resting, and promised to units not committed yet.

Derived from the tree, which is the only record; whoever follows the tree tells it of each resource that comes and goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType

from m2mapp.groups.group import FANOUT_SET, multicast_address
from m2mapp.groups.leaves import LEAVE
from m2mapp.groups.lending import LEASE, RESTING
from m2mapp.groups.pool import Network, next_address
from m2mapp.groups.sharing import Wide
from m2mapp.tree.unit import Resource


class Taking:
    """Takes addresses for one unit (a `sharing.TakeAddress`), and remembers what its plan would have needed to know.

    Call `dropped` where the unit is not committed. `lent` are the global addresses that another node lent this group, each with where
    its lease stands.
    """

    def __init__(self, ledger: AddressLedger, lent: Mapping[str, str] = MappingProxyType({})) -> None:
        self.ledger, self.lent = ledger, lent
        self._mine: list[str] = []
        self.needs = Needs()

    def __call__(self, version: int) -> str | None:
        """An address of the local domain that nobody else has or was promised; None where the pool is empty."""
        address = self._kept(self.ledger.promise(version))
        self.needs.address = self.needs.address or address is None
        return address

    @property
    def wide(self) -> Wide:
        """The same for global addresses: those that were lent, else those of the node's own pool."""
        return Wide(self._take_wide, self._give_back, lambda address: address in self.lent or self.ledger.is_global(address))

    def begin_again(self, lent: Mapping[str, str]) -> None:
        """What was decided does not count: it is decided again, with these addresses lent."""
        self.dropped()
        self.lent, self.needs = lent, Needs()

    def dropped(self) -> None:
        """The unit will not be: its addresses are free again."""
        for address in self._mine:
            self.ledger.release(address)
        self._mine.clear()

    def _take_wide(self, version: int) -> str | None:
        lent = next((address for address in self.lent if address not in self._mine and ip_address(address).version == version), None)
        if lent is not None:
            self._mine.append(lent)
            return lent
        address = self._kept(self.ledger.promise_global(version))
        if address is None:
            self.needs.global_version = version
        return address

    def _give_back(self, address: str) -> None:
        self.ledger.release(address)
        self._mine.remove(address)

    def _kept(self, address: str | None) -> str | None:
        if address is not None:
            self._mine.append(address)
        return address


@dataclass(slots=True)
class Needs:
    """What a plan was made without: hosts of which it is not known whose they are, a local address, a global one (its IP version).

    `groups`: the URIs of groups that are members, whose own members elsewhere decide which circles there are; `fresh`: as they are now,
    for somebody who is told of circles.
    """

    hosts: dict[str, None] = field(default_factory=dict)
    groups: dict[str, None] = field(default_factory=dict)
    fresh: bool = False
    address: bool = False
    global_version: int = 0


class AddressLedger:
    """The addresses in use. `pool` gives the ranges of the local domain that new ones are taken from, `wide_pool` the global ones."""

    def __init__(self, pool: Callable[[], tuple[Network, ...]], wide_pool: tuple[Network, ...] = ()) -> None:
        self._pool, self._wide_pool = pool, wide_pool
        self._taken: Counter[str] = Counter()
        self._promised: set[str] = set()
        self._last: dict[tuple[int, bool], str] = {}

    def promise(self, version: int) -> str | None:
        """An address of the local domain that nobody has; it is kept until a set with it is entered, or it is released."""
        return self._promise(self._pool(), version, wide=False)

    def promise_global(self, version: int) -> str | None:
        """The same for a global address."""
        return self._promise(self._wide_pool, version, wide=True)

    def release(self, address: str) -> None:
        """What was promised is not needed."""
        self._promised.discard(address)

    def is_global(self, address: str) -> bool:
        """Whether the address is of this node's own global pool."""
        return _within(address, self._wide_pool)

    def is_own(self, address: str) -> bool:
        """Whether the address is of one of this node's pools: when nobody has it any more it rests before it is given again."""
        return self.is_global(address) or _within(address, self._pool())

    def is_used(self, address: str) -> bool:
        """Whether anybody has the address, or was promised it, or it rests."""
        return address in self._taken or address in self._promised

    def entered(self, resource: Resource) -> None:
        """A fan-out set, a lease, a resting address, or an address that devices have still to leave is in the tree."""
        address = _address_of(resource)
        if address is not None:
            self._taken[address] += 1
            self._promised.discard(address)

    def left(self, resource: Resource) -> None:
        """It is not in the tree any more, or not as it was."""
        address = _address_of(resource)
        if address is not None:
            self._taken[address] -= 1
            if self._taken[address] <= 0:
                del self._taken[address]

    def _promise(self, pool: tuple[Network, ...], version: int, *, wide: bool) -> str | None:
        address = next_address(pool, version, self.is_used, self._last.get((version, wide)))
        if address is not None:
            self._promised.add(address)
            self._last[version, wide] = address
        return address


def _address_of(resource: Resource) -> str | None:
    if resource.type in (FANOUT_SET, LEAVE):
        return multicast_address(resource)
    return resource.path[-1] if resource.type in (LEASE, RESTING) else None


def _within(address: str, pool: tuple[Network, ...]) -> bool:
    if not pool:
        return False
    parsed = ip_address(address)
    return any(parsed.version == network.version and parsed in network for network in pool)
