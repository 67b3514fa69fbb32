"""The planner: from a group's members and what is known of their devices to fan-out sets (US 9,450,772, figures 2-A and 2-C).

Pure. Each member gets into exactly one set, and its reason stands in the set's `why`. What a later version adds (virtual URIs, global
addresses, groups at other servers, dynamic and temporary groups) is not planned here yet: those members are asked one by one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """One member: its URI, and the device that has it, where that is registered here. `local`: it is this node's own resource."""

    uri: Uri
    device: Device | None
    local: bool = False

    @property
    def text(self) -> str:
        """The URI as text: the member's name in all documents."""
        return self.uri.text()


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration and the group's description say. `leisure_s`: None is computed from the size of the set."""

    multicast_threshold: int = 2
    address_per_set: bool = False
    reliable: bool = False
    leisure_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Access:
    """What has to agree for members to share a set: IP version, port, path."""

    version: int
    port: int
    path: Path


TakeAddress = Callable[[int], str | None]
"""Gives a multicast address of an IP version that no other set has; None where the pool is empty."""


def plan(members: Iterable[Member], policy: Policy, kept: Sequence[FanoutSet], take_address: TakeAddress) -> list[FanoutSet]:
    """The fan-out sets of a group.

    `kept` are the sets that the group has: one that asks for the same keeps its name, its address and its members' joins.
    """
    together, alone = _sort(members, policy)
    previous = {(one.port, one.path, one.address_type): one for one in kept if one.is_multicast}
    sets: list[FanoutSet] = []
    shared: dict[int, str] = {}
    for access, sharing in together.items():
        kind = AddressType.MULTICAST_IPV6 if access.version == IPV6 else AddressType.MULTICAST_IPV4
        before = previous.get((access.port, access.path, kind))
        address = _address(access, sharing, before, shared, take_address)
        if address is None:
            alone.extend((member, "no multicast address is left in the pool") for member in sharing)
            continue
        if not policy.address_per_set:
            shared[access.version] = address
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
        reason = "every member of a reliable group is asked one by one" if policy.reliable else _why_alone(member)
        if reason or member.device is None:
            alone.append((member, reason))
        else:
            together[_Access(_version(member), member.device.port, member.uri.path)].append(member)
    for access, sharing in list(together.items()):
        if len({member.device.name for member in sharing if member.device}) < policy.multicast_threshold:
            reason = f"fewer than {policy.multicast_threshold} devices share {path_text(access.path)} over IPv{access.version}"
            alone.extend((member, reason) for member in together.pop(access))
    return dict(together), alone


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


def _address(
    access: _Access, sharing: Sequence[Member], before: FanoutSet | None, shared: Mapping[int, str], take_address: TakeAddress
) -> str | None:
    """The set's address: one that a device cannot change, else the one it had, else the group's, else a new one."""
    fixed = Counter(address for member in sharing for address in _fixed(member, access.version))
    if fixed:
        return max(sorted(fixed), key=lambda address: fixed[address])
    if before is not None:
        return before.address
    return shared.get(access.version) or take_address(access.version)


def _fixed(member: Member, version: int) -> tuple[str, ...]:
    groups = member.device.fixed_groups if member.device else ()
    return tuple(address for address in groups if (":" in address) == (version == IPV6))


def _multicast_set(access: _Access, sharing: Sequence[Member], address: str, before: FanoutSet | None, policy: Policy) -> FanoutSet:
    joins: dict[str, Join] = {}
    why: dict[str, str] = {}
    same = before is not None and before.address == address
    for member in sharing:
        fixed = _fixed(member, access.version)
        if fixed:
            joins[member.text] = Join.JOINED if address in fixed else Join.UNSUPPORTED
            why[member.text] = (
                "same path, the address that its device always listens to" if address in fixed else "its device has another address"
            )
        else:
            joins[member.text] = before.joins.get(member.text, Join.PENDING) if same and before else Join.PENDING
            why[member.text] = "same path, local domain"
    leisure = leisure_of(len(sharing)) if policy.leisure_s is None else policy.leisure_s
    kind = AddressType.MULTICAST_IPV6 if access.version == IPV6 else AddressType.MULTICAST_IPV4
    return FanoutSet("", kind, address, access.port, access.path, tuple(joins), joins, why, leisure)


def _unicast_set(member: Member, reason: str) -> FanoutSet:
    kind = AddressType.UNICAST_IPV6 if _version(member) == IPV6 else AddressType.UNICAST_IPV4
    addresses = member.device.addresses if member.device else ()
    wanted = [address for address in addresses if (":" in address) == (kind is AddressType.UNICAST_IPV6)]
    return FanoutSet(
        "", kind, (wanted or [member.uri.host])[0], member.uri.port, member.uri.path, (member.text,), {}, {member.text: reason}
    )


def _named(sets: Sequence[FanoutSet], kept: Sequence[FanoutSet]) -> list[FanoutSet]:
    """Names for the sets: a set that asks for the same as one that is kept has its name, the others the next free number."""
    old = {_identity(one): one.name for one in kept}
    used = {old[_identity(one)] for one in sets if _identity(one) in old}
    free = (str(number) for number in range(1, len(sets) + len(kept) + 2) if str(number) not in used)
    return [replace(one, name=old.get(_identity(one)) or next(free)) for one in sets]


def _identity(one: FanoutSet) -> tuple[object, ...]:
    members = () if one.is_multicast else one.members
    return (one.address_type, one.address, one.port, one.path, members)
