"""The planner: from a group's members and what is known of their devices to fan-out sets (US 9,450,772, figures 2-A and 2-C).

Pure. Each member gets into exactly one set, and its reason stands in the set's `why`. What a later version adds (virtual URIs, global
addresses, groups at other servers) is not planned here yet: those members are asked one by one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from m2mapp.formats.uris import Uri
from m2mapp.groups.group import AddressType, FanoutSet, Join
from m2mapp.model.identifiers import Path, path_text
from m2mapp.tree.registrations import Device

IPV6 = 6
ANSWER_BYTES = 100
LINK_BYTES_PER_S = 125_000
"""What RFC 7252, section 8.2 calls S and R: the estimated size of an answer, and the rate of the link (1 Mbit/s)."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its URI, and the device that has it, where that is registered here.

    `local`: it is this node's own resource. `given` is the URI's text, where that is at hand.
    """

    uri: Uri
    device: Device | None
    local: bool = False
    given: str = ""

    @property
    def text(self) -> str:
        """The URI as text: the member's name in all documents."""
        return self.given or self.uri.text()


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration and the group's description say. `leisure_s`: None is computed from the size of the set."""

    multicast_threshold: int = 2
    address_per_set: bool = False
    reliable: bool = False
    leisure_s: float | None = None
    kind: str = "static"


@dataclass(frozen=True, slots=True)
class _Access:
    """What has to agree for members to share a set: IP version, port, path."""

    version: int
    port: int
    path: Path


TakeAddress = Callable[[int], str | None]
"""Gives a multicast address of an IP version that no other set has; None where the pool is empty."""


class _Shared:
    """The addresses that the sets of one plan have, and what is asked for at each.

    Two sets share an address only where no path of one is the beginning of a path of the other: a device that has only one of the two
    would else take the other's requests for its own, with the rest of the path as suffix.
    """

    def __init__(self) -> None:
        self._paths: dict[str, set[tuple[int, Path]]] = {}
        self._beginnings: dict[str, set[tuple[int, Path]]] = {}

    def fits(self, address: str, access: _Access) -> bool:
        """Whether a set with this access can have the address besides those that have it."""
        beginnings = _beginnings(access)
        if (access.port, access.path) in self._beginnings.get(address, ()):
            return False
        return not any(beginning in self._paths.get(address, ()) for beginning in beginnings)

    def add(self, address: str, access: _Access) -> None:
        """A set with this access has the address."""
        self._paths.setdefault(address, set()).add((access.port, access.path))
        self._beginnings.setdefault(address, set()).update(_beginnings(access))

    def one_for(self, access: _Access) -> str | None:
        """An address of the plan that the set can share."""
        same_family = (address for address in self._paths if (":" in address) == (access.version == IPV6))
        return next((address for address in same_family if self.fits(address, access)), None)


def plan(members: Iterable[Member], policy: Policy, kept: Sequence[FanoutSet], take_address: TakeAddress) -> list[FanoutSet]:
    """The fan-out sets of a group.

    `kept` are the sets that the group has: one that asks for the same keeps its name, its address and its members' joins.
    """
    together, alone = _sort(members, policy)
    previous = {(one.port, one.path, one.address_type): one for one in kept if one.is_multicast}
    sets: list[FanoutSet] = []
    shared = _Shared()
    for access, sharing in together.items():
        before = previous.get((access.port, access.path, _multicast_type(access.version)))
        fixed = _most_fixed(sharing, access.version)
        address = fixed or _address(access, before, shared, policy, take_address)
        if address is None:
            alone.extend((member, "no multicast address is left in the pool") for member in sharing)
            continue
        if not fixed:
            shared.add(address, access)
        sets.append(_multicast_set(access, sharing, address, before, policy))
    sets.extend(_unicast_set(member, reason) for member, reason in alone)
    return _named(sets, kept)


def leisure_of(members: int) -> float:
    """Seconds over which so many members spread their answers: S * G / R (RFC 7252, section 8.2)."""
    return round(members * ANSWER_BYTES / LINK_BYTES_PER_S, 3)


def _sort(members: Iterable[Member], policy: Policy) -> tuple[dict[_Access, list[Member]], list[tuple[Member, str]]]:
    together: defaultdict[_Access, list[Member]] = defaultdict(list)
    alone: list[tuple[Member, str]] = []
    for member in members:
        reason = _one_by_one(policy) or _why_alone(member)
        if reason or member.device is None:
            alone.append((member, reason))
        else:
            together[_Access(_version(member), member.device.port, member.uri.path)].append(member)
    for access, sharing in list(together.items()):
        if len({member.device.name for member in sharing if member.device}) < policy.multicast_threshold:
            reason = f"fewer than {policy.multicast_threshold} devices share {path_text(access.path)} over IPv{access.version}"
            alone.extend((member, reason) for member in together.pop(access))
    return dict(together), alone


def _one_by_one(policy: Policy) -> str:
    """Why nobody is asked by multicast; empty: some may be."""
    if policy.reliable:
        return "every member of a reliable group is asked one by one"
    return "" if policy.kind == "static" else f"every member of a {policy.kind} group is asked one by one"


def _why_alone(member: Member) -> str:
    device = member.device
    if member.local:
        return "a resource of this node"
    if member.uri.scheme != "coap":
        return f"{member.uri.scheme} cannot be multicast"
    if device is None:
        return "its device is not registered here"
    if not device.multicast_enabled:
        return "its device says that it takes no multicast"
    if not device.addresses or device.scheme != "coap":
        return "its device registered no coap address"
    return "the URI has a query of its own" if member.uri.query else ""


def _version(member: Member) -> int:
    literal = member.uri.address
    if literal is not None:
        return literal.version
    addresses = member.device.addresses if member.device else ()
    return IPV6 if any(":" in address for address in addresses) else 4


def _beginnings(access: _Access) -> list[tuple[int, Path]]:
    """The access with each beginning of its path, the whole among them."""
    return [(access.port, access.path[:depth]) for depth in range(len(access.path) + 1)]


def _multicast_type(version: int) -> AddressType:
    return AddressType.MULTICAST_IPV6 if version == IPV6 else AddressType.MULTICAST_IPV4


def _most_fixed(sharing: Sequence[Member], version: int) -> str | None:
    """The address that most of the devices that cannot change theirs listen to; None where all can."""
    fixed = Counter(address for member in sharing for address in _fixed(member, version))
    return max(sorted(fixed), key=lambda address: fixed[address]) if fixed else None


def _address(access: _Access, before: FanoutSet | None, shared: _Shared, policy: Policy, take_address: TakeAddress) -> str | None:
    """The set's address: the one it had, else one of the group's, else a new one."""
    if before is not None and shared.fits(before.address, access):
        return before.address
    return (None if policy.address_per_set else shared.one_for(access)) or take_address(access.version)


def _fixed(member: Member, version: int) -> tuple[str, ...]:
    groups = member.device.fixed_groups if member.device else ()
    return tuple(address for address in groups if (":" in address) == (version == IPV6))


def _multicast_set(access: _Access, sharing: Sequence[Member], address: str, before: FanoutSet | None, policy: Policy) -> FanoutSet:
    joins: dict[str, Join] = {}
    why: dict[str, str] = {}
    joined_before = before.joins if before is not None and before.address == address else {}
    for member in sharing:
        text, fixed = member.text, _fixed(member, access.version)
        if not fixed:
            joins[text], why[text] = joined_before.get(text, Join.PENDING), "same path, local domain"
        elif address in fixed:
            joins[text], why[text] = Join.JOINED, "same path, the address that its device always listens to"
        else:
            joins[text], why[text] = Join.UNSUPPORTED, "its device has another address"
    leisure = leisure_of(len(sharing)) if policy.leisure_s is None else policy.leisure_s
    return FanoutSet("", _multicast_type(access.version), address, access.port, access.path, tuple(joins), joins, why, leisure)


def _unicast_set(member: Member, reason: str) -> FanoutSet:
    device, text = member.device, member.text
    kind = AddressType.UNICAST_IPV6 if _version(member) == IPV6 else AddressType.UNICAST_IPV4
    wanted = (address for address in (device.addresses if device else ()) if (":" in address) == (kind is AddressType.UNICAST_IPV6))
    address, port = next(wanted, member.uri.host), device.port if device else member.uri.port
    return FanoutSet("", kind, address, port, member.uri.path, (text,), {}, {text: reason})


def _named(sets: Sequence[FanoutSet], kept: Sequence[FanoutSet]) -> list[FanoutSet]:
    """Names for the sets: a set that asks for the same as one that is kept has its name, the others the next free number."""
    old = {_identity(one): one.name for one in kept}
    used = {old[_identity(one)] for one in sets if _identity(one) in old}
    free = (str(number) for number in range(1, len(sets) + len(kept) + 2) if str(number) not in used)
    return [replace(one, name=old.get(_identity(one)) or next(free)) for one in sets]


def _identity(one: FanoutSet) -> tuple[object, ...]:
    members = () if one.is_multicast else one.members
    return (one.address_type, one.address, one.port, one.path, members)
