"""The planner: from a group's members and what is known of their devices to fan-out sets (US 9,450,772, figures 2-A and 2-C).

Pure. Each member gets into exactly one set, and its reason stands in the set's `why`. The questions are asked in the order of spec
section 3. Not responsible for what is known of the devices (`edit`, `elsewhere`), nor for which addresses may share (`sharing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.group import REACHED, AddressType, FanoutSet, Join, is_multicast_address
from m2mapp.groups.sharing import IPV6, NO_WIDE, Access, Shared, TakeAddress, Wide
from m2mapp.model.identifiers import Path, path_text
from m2mapp.tree.registrations import Device
from m2mapp.tree.unit import Resource

ANSWER_BYTES = 100
LINK_BYTES_PER_S = 125_000
"""What RFC 7252, section 8.2 calls S and R: the estimated size of an answer, and the rate of the link (1 Mbit/s)."""
NO_ADDRESS = "no multicast address is left in the pool"
"""The reason of members that wait for an address: they are planned again when one becomes free."""


@dataclass(frozen=True, slots=True)
class GroupServer:
    """Another group server: its URI without a path, and its address where that is known.

    `device`: as it is registered here, where it is: then it can be told to join a multicast address.
    """

    uri: str
    address: str = ""
    device: Device | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its URI, and the device that has it, where its registration is known.

    `local`: it is this node's own. `given` is the URI's text, where that is at hand. `through`: the group server through which the device
    of an outsider is reached. `unknown`: why nothing is known of the device. `is_group`: it is a group itself.
    """

    uri: Uri
    device: Device | None
    local: bool = False
    given: str = ""
    through: GroupServer | None = None
    unknown: str = "its device is not registered here"
    is_group: bool = False

    @property
    def text(self) -> str:
        """The URI as text: the member's name in all documents."""
        return self.given or self.uri.text()


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration and the group's description say.

    `leisure_s`: None is computed from the size of the set. `virtual_path`: the fan-out URI for members with different paths; None for no
    such sets. `group_at` gives, from a group server's URI, that of the group which this group has there; None: it makes none elsewhere.
    """

    multicast_threshold: int = 2
    address_per_set: bool = False
    reliable: bool = False
    leisure_s: float | None = None
    kind: str = "static"
    subgroup_threshold: int = 2
    virtual_path: Path | None = None
    group_at: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True)
class _Sharing:
    """The members of one multicast set that is to be. `reason` is what they have in common."""

    access: Access
    members: list[Member]
    reason: str

    @property
    def has_outsiders(self) -> bool:
        """Whether a local address is not enough: some of its devices belong to other nodes."""
        return any(member.through is not None for member in self.members)


Alone = list[tuple[Member, str]]
"""Members that are asked one by one, with the reason."""


def plan(
    members: Iterable[Member], policy: Policy, kept: Sequence[FanoutSet], take_address: TakeAddress, wide: Wide = NO_WIDE
) -> list[FanoutSet]:
    """The fan-out sets of a group.

    `kept` are the sets that the group has: one that asks for the same keeps its name, its address and its members' joins.
    """
    reason = _one_by_one(policy)
    if reason:
        return _named([_unicast_set(member, reason) for member in members], kept)
    candidates, alone = _candidates(members)
    together, lonely = _sharing(candidates, policy)
    addresses = _Addresses(kept, policy, take_address, wide)
    sets = addresses.of_all(together)
    if sets is None:
        # Not all can have a global address (203-2): the outsiders are another server's (203-3), and what is left is planned without them.
        alone += [(member, "its device belongs to another node, and there is no global address") for member in candidates if member.through]
        together, lonely = _sharing([member for member in candidates if member.through is None], policy)
        sets = addresses.of_all(together) or []
    subgroups, alone = _at_others([*alone, *lonely, *addresses.left_over], policy, kept, take_address)
    return _named([*sets, *subgroups, *(_unicast_set(member, reason) for member, reason in alone)], kept)


def leisure_of(members: int) -> float:
    """Seconds over which so many members spread their answers: S * G / R (RFC 7252, section 8.2)."""
    return round(members * ANSWER_BYTES / LINK_BYTES_PER_S, 3)


def waits_for_address(resource: Resource) -> bool:
    """Whether a fan-out set's resource is the row of a member that waits for a multicast address."""
    why = resource.attributes["why"]
    return isinstance(why, Mapping) and len(why) == 1 and NO_ADDRESS in why.values()


# Figure 2-A: who can be asked together.


def _one_by_one(policy: Policy) -> str:
    """Why nobody is asked by multicast (202-2, and the reliable response); empty: some may be."""
    if policy.reliable:
        return "every member of a reliable group is asked one by one"
    return "" if policy.kind == "static" else f"every member of a {policy.kind} group is asked one by one"


def _candidates(members: Iterable[Member]) -> tuple[list[Member], Alone]:
    """The members that can be multicast, and the others (202-4)."""
    candidates: list[Member] = []
    alone: Alone = []
    for member in members:
        reason = _why_alone(member)
        if reason:
            alone.append((member, reason))
        else:
            candidates.append(member)
    return candidates, alone


def _why_alone(member: Member) -> str:
    device = member.device
    if member.local or member.is_group:
        return f"a {'group' if member.is_group else 'resource'} {'of this node' if member.local else 'at another server'}"
    if member.uri.scheme != "coap":
        return f"{member.uri.scheme} cannot be multicast"
    if device is None:
        return member.unknown
    if not device.multicast_enabled:
        return "its device says that it takes no multicast"
    if not device.addresses or device.scheme != "coap":
        return "its device registered no coap address"
    return "the URI has a query of its own" if member.uri.query else ""


def _sharing(candidates: Iterable[Member], policy: Policy) -> tuple[list[_Sharing], Alone]:
    """The sets that are to be (202-3, 202-5; the cases of 203-10), and those who are too few."""
    same_path: dict[tuple[int, int, Path], list[Member]] = {}
    for member in candidates:
        if member.device is not None:
            same_path.setdefault((_version(member), member.device.port, member.uri.path), []).append(member)
    together: list[_Sharing] = []
    different: dict[tuple[int, int], list[Member]] = {}
    alone: Alone = []
    for (version, port, path), members in same_path.items():
        if _devices(members) >= policy.multicast_threshold:
            together.append(_Sharing(Access(version, port, path), members, "same path"))
            continue
        few = f"fewer than {policy.multicast_threshold} devices share {path_text(path)} over IPv{version}"
        for member in members:
            if policy.virtual_path is not None and _takes_mc_groups(member):
                different.setdefault((version, port), []).append(member)
            else:
                alone.append((member, few))
    for (version, port), members in different.items():
        path = policy.virtual_path or ()
        if _devices(members) >= policy.multicast_threshold:
            together.append(_Sharing(Access(version, port, path), members, f"different paths, mapped from {path_text(path)}"))
        else:
            few = f"fewer than {policy.multicast_threshold} devices could share a virtual URI over IPv{version}"
            alone.extend((member, few) for member in members)
    return together, alone


def _takes_mc_groups(member: Member) -> bool:
    """Whether the device can be told to map a virtual URI: one that only listens to fixed addresses cannot."""
    return member.device is not None and not member.device.fixed_groups and bool(member.device.mc_groups)


def _devices(members: Sequence[Member]) -> int:
    return len({member.device.name for member in members if member.device})


def _version(member: Member) -> int:
    literal = member.uri.address
    if literal is not None:
        return literal.version
    addresses = member.device.addresses if member.device else ()
    return IPV6 if any(":" in address for address in addresses) else 4


# Figure 2-C: their addresses.


class _Addresses:
    """Gives the sets of one plan their addresses. `left_over` are members of sets for which there was none."""

    def __init__(self, kept: Sequence[FanoutSet], policy: Policy, take: TakeAddress, wide: Wide) -> None:
        self._previous = {(one.port, one.path, one.address_type): one for one in kept if one.is_multicast}
        self._policy, self._take, self._wide = policy, take, wide
        self._shared = Shared()
        self._taken: list[str] = []
        self.left_over: Alone = []

    def of_all(self, together: Sequence[_Sharing]) -> list[FanoutSet] | None:
        """The sets, in this order. None where one that has outsiders cannot have a global address: then nothing was taken."""
        given: dict[int, str] = {}
        # Those that need a global address first: the others may share theirs, and never the other way round.
        for index in sorted(range(len(together)), key=lambda place: not self._needs_global(together[place])):
            one = together[index]
            address = _most_fixed(one.members, one.access.version) or self._one_for(one)
            if address is not None:
                given[index] = address
            elif self._needs_global(one):
                self._take_back()
                return None
            else:
                self.left_over.extend((member, NO_ADDRESS) for member in one.members)
        return [self._set(together[index], given[index]) for index in sorted(given)]

    def _needs_global(self, one: _Sharing) -> bool:
        return one.has_outsiders and _most_fixed(one.members, one.access.version) is None

    def _one_for(self, one: _Sharing) -> str | None:
        """The set's address: the one it had, else one of the group's, else a new one."""
        access, needs_global = one.access, self._needs_global(one)
        before = self._before(access)
        address = None
        if before is not None and (self._wide.has(before.address) or not needs_global) and self._shared.fits(before.address, access):
            address = before.address
        if address is None and not self._policy.address_per_set:
            address = self._shared.one_for(access, self._wide.has if needs_global else lambda _: True)
        if address is None:
            address = (self._wide.take if needs_global else self._take)(access.version)
            if address is not None and needs_global:
                self._taken.append(address)
        if address is not None:
            self._shared.add(address, access)
        return address

    def _take_back(self) -> None:
        for address in self._taken:
            self._wide.give_back(address)
        self._taken.clear()
        self._shared = Shared()

    def _before(self, access: Access) -> FanoutSet | None:
        return self._previous.get((access.port, access.path, _multicast_type(access.version)))

    def _set(self, one: _Sharing, address: str) -> FanoutSet:
        access = one.access
        before = self._before(access)
        joined_before = before.joins if before is not None and before.address == address else {}
        domain = "global address" if self._wide.has(address) else "local domain"
        joins: dict[str, Join] = {}
        why: dict[str, str] = {}
        for member in one.members:
            text, fixed = member.text, _fixed(member, access.version)
            if not fixed:
                joins[text], why[text] = joined_before.get(text, Join.PENDING), f"{one.reason}, {domain}"
            elif address in fixed:
                joins[text], why[text] = Join.JOINED, "same path, the address that its device always listens to"
            else:
                joins[text], why[text] = Join.UNSUPPORTED, "its device has another address"
        leisure = leisure_of(len(one.members)) if self._policy.leisure_s is None else self._policy.leisure_s
        return FanoutSet("", _multicast_type(access.version), address, access.port, access.path, tuple(joins), joins, why, leisure)


def _multicast_type(version: int) -> AddressType:
    return AddressType.MULTICAST_IPV6 if version == IPV6 else AddressType.MULTICAST_IPV4


def _most_fixed(sharing: Sequence[Member], version: int) -> str | None:
    """The address that most of the devices that cannot change theirs listen to; None where all can."""
    fixed = Counter(address for member in sharing for address in _fixed(member, version))
    return max(sorted(fixed), key=lambda address: fixed[address]) if fixed else None


def _fixed(member: Member, version: int) -> tuple[str, ...]:
    groups = member.device.fixed_groups if member.device else ()
    return tuple(address for address in groups if (":" in address) == (version == IPV6)) if groups else ()


# Groups at other servers (203-3, 203-6 to 203-9), and who is left.


def _at_others(alone: Alone, policy: Policy, kept: Sequence[FanoutSet], take: TakeAddress) -> tuple[list[FanoutSet], Alone]:
    """The sets that are groups at other servers, and who is asked one by one after all (203-7)."""
    by_server: dict[str, list[Member]] = {}
    for member, _ in alone:
        if member.through is not None and policy.group_at is not None:
            by_server.setdefault(member.through.uri, []).append(member)
    enough = {uri: members for uri, members in by_server.items() if len(members) >= policy.subgroup_threshold}
    sets = [_group_set(policy.group_at(uri), members, kept) for uri, members in enough.items() if policy.group_at is not None]
    left = [
        (member, _why_not_there(member, reason, policy))
        for member, reason in alone
        if not (member.through and member.through.uri in enough)
    ]
    return _joined_servers(sets, [members[0].through for members in enough.values()], policy, kept, take), left


def _why_not_there(member: Member, reason: str, policy: Policy) -> str:
    if member.through is None:
        return reason
    if policy.group_at is None:
        return f"{reason}; a group that was made for another server makes none elsewhere"
    return f"{reason}; fewer than {policy.subgroup_threshold} members are reached through {member.through.uri}"


def _group_set(uri: str, members: Sequence[Member], kept: Sequence[FanoutSet]) -> FanoutSet:
    """The set that is the group of that URI. It counts as there while its members are those that its server was told."""
    parsed = parse_uri(uri)
    through = members[0].through
    texts = tuple(member.text for member in members)
    before = next((one for one in kept if one.group == uri and set(one.members) == set(texts)), None)
    join = before.joins.get(uri, Join.PENDING) if before is not None else Join.PENDING
    address = through.address if through is not None and through.address else parsed.host
    why = dict.fromkeys(texts, f"reached through {through.uri if through is not None else parsed.authority}")
    return FanoutSet("", AddressType.GROUP, address, parsed.port, parsed.path, texts, {uri: join}, why, group=uri)


def _joined_servers(
    sets: Sequence[FanoutSet], servers: Sequence[GroupServer | None], policy: Policy, kept: Sequence[FanoutSet], take: TakeAddress
) -> list[FanoutSet]:
    """Groups at servers that are local member devices get a multicast address, where there are enough of them (203-8, 203-9)."""
    had = {one.group: one for one in kept if one.group}
    askable: dict[Access, list[int]] = {}
    for index, (one, server) in enumerate(zip(sets, servers, strict=True)):
        device = server.device if server is not None else None
        if device is not None and _is_there(one, had.get(one.group)) and not _why_alone(Member(parse_uri(one.group), device)):
            version = IPV6 if any(":" in address for address in device.addresses) else 4
            askable.setdefault(Access(version, one.port, one.path), []).append(index)
    found = list(sets)
    for access, places in askable.items():
        if len(places) < policy.multicast_threshold:
            continue
        before = (had[sets[place].group].address for place in places)
        address = next(filter(is_multicast_address, before), None) or take(access.version)
        for place in places if address is not None else ():
            one = found[place]
            join = one.joins if had[one.group].address == address else {one.group: Join.PENDING}
            found[place] = replace(one, address=str(address), joins=join, leisure_s=leisure_of(len(places)))
    return found


def _is_there(one: FanoutSet, before: FanoutSet | None) -> bool:
    """Whether the group is at its server, with these members: only then is the server told to join an address."""
    return (
        before is not None
        and set(before.members) == set(one.members)
        and (before.joins.get(one.group) in REACHED or is_multicast_address(before.address))
    )


def _unicast_set(member: Member, reason: str) -> FanoutSet:
    device, text = member.device, member.text
    kind = AddressType.UNICAST_IPV6 if _version(member) == IPV6 else AddressType.UNICAST_IPV4
    wanted = (address for address in (device.addresses if device else ()) if (":" in address) == (kind is AddressType.UNICAST_IPV6))
    address, port = next(wanted, member.uri.host), device.port if device else member.uri.port
    kind = AddressType.GROUP if member.is_group else kind
    return FanoutSet("", kind, address, port, member.uri.path, (text,), {}, {text: reason})


def _named(sets: Sequence[FanoutSet], kept: Sequence[FanoutSet]) -> list[FanoutSet]:
    """Names for the sets: a set that asks for the same as one that is kept has its name, the others the next free number."""
    old = {_identity(one): one.name for one in kept}
    used = {old[_identity(one)] for one in sets if _identity(one) in old}
    free = (str(number) for number in range(1, len(sets) + len(kept) + 2) if str(number) not in used)
    return [replace(one, name=old.get(_identity(one)) or next(free)) for one in sets]


def _identity(one: FanoutSet) -> tuple[object, ...]:
    if one.group:
        return (one.address_type, one.group)
    members = () if one.is_multicast else one.members
    return (one.address_type, one.address, one.port, one.path, members)
