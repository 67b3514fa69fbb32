"""What a group is and what its fan-out sets are: their resource types, and the values that the planner and the fan-out work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from m2mapp.formats.documents import parse_rfc3339, rfc3339
from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, choice, list_of, number
from m2mapp.formats.uris import parse_query, parse_uri
from m2mapp.model.errors import Fault, Malformed, MethodNotAllowed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType, attributes_only
from m2mapp.tree.unit import Document, Resource

GROUPS: Path = ("groups",)
GROUP, FANOUT_SET = "group", "fanoutSet"
SETS, MEMBERS, MEMBERS_CONTENT = "fanoutSets", "members", "membersContent"
STATIC, DYNAMIC, TEMPORARY = "static", "dynamic", "temporary"
MAX_MEMBERS = 10_000
MAX_PAIRS = 16
"""So many pairs a query has at most."""
FAILURES = "failures"
"""The volatile attribute of a fan-out set that says whose join failed, why, and when it is tried next."""


class AddressType(Enum):
    """How the members of a fan-out set are reached (spec section 12)."""

    MULTICAST_IPV6 = "multicast-ipv6"
    MULTICAST_IPV4 = "multicast-ipv4"
    UNICAST_IPV6 = "unicast-ipv6"
    UNICAST_IPV4 = "unicast-ipv4"
    GROUP = "group"


MULTICAST_TYPES = frozenset({AddressType.MULTICAST_IPV6, AddressType.MULTICAST_IPV4})
_ADDRESSED_NAMES = frozenset(kind.value for kind in (*MULTICAST_TYPES, AddressType.GROUP))


class Join(Enum):
    """How far a member's device is in joining its set's multicast group (spec section 3)."""

    PENDING = "pending"
    JOINED = "joined"
    PROVEN = "proven"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


REACHED = frozenset({Join.JOINED, Join.PROVEN})
"""Members in these states are asked by multicast; the others one by one, so that a group is whole from its first second."""


@dataclass(frozen=True, slots=True)
class FanoutSet:
    """One fan-out set as it is kept: `/groups/<group>/fanoutSets/<name>`. `path` is the fan-out URI.

    A set of the type `group` is a group at another server: `group` is its URI, and the one key of `joins`, which say whether it is there.
    Without `group` it is one member that is a group itself, of this node or at another server, which this node did not make there.
    """

    name: str
    address_type: AddressType
    address: str
    port: int
    path: Path
    members: tuple[str, ...]
    joins: Mapping[str, Join]
    why: Mapping[str, str]
    leisure_s: float = 0.0
    group: str = ""

    @property
    def is_multicast(self) -> bool:
        """Whether the set has a multicast address."""
        return self.address_type in MULTICAST_TYPES

    @property
    def is_given_group(self) -> bool:
        """Whether the set is a member that is a group."""
        return self.address_type is AddressType.GROUP and not self.group

    def document(self) -> Document:
        """The set as it is kept and shown, without its name."""
        return {
            "addressType": self.address_type.value,
            "fanoutAddress": self.address,
            "port": self.port,
            "fanoutURI": path_text(self.path),
            "memberList": list(self.members),
            "joins": {uri: join.value for uri, join in self.joins.items()},
            "why": dict(self.why),
            "leisure": self.leisure_s,
            **({"group": self.group} if self.group else {}),
        }


def multicast_address(resource: Resource) -> str | None:
    """The multicast address of the fan-out set that a resource keeps; None for one without. Does not look at the members.

    A group at another server has one where its server is told to join like a device.
    """
    document = resource.attributes
    if document["addressType"] not in _ADDRESSED_NAMES:
        return None
    address = str(document["fanoutAddress"])
    return address if document["addressType"] != AddressType.GROUP.value or is_multicast_address(address) else None


def is_multicast_address(text: str) -> bool:
    """Whether text, which may be a host name too, is a multicast address."""
    try:
        return ip_address(text).is_multicast
    except ValueError:
        return False


def raw_joins(resource: Resource) -> Mapping[str, object]:
    """How far the members of a fan-out set's resource are in joining: URIs and values of `Join`, as they are kept."""
    joins = resource.attributes["joins"]
    return joins if isinstance(joins, Mapping) else {}


def set_of(resource: Resource) -> FanoutSet:
    """The fan-out set that a resource of that type keeps."""
    document = resource.attributes
    joins, why = document["joins"], document["why"]
    path = str(document["fanoutURI"])
    members, port, leisure = document["memberList"], document["port"], document["leisure"]
    return FanoutSet(
        name=resource.path[-1],
        address_type=AddressType(document["addressType"]),
        address=str(document["fanoutAddress"]),
        port=port if isinstance(port, int) else 0,
        path=tuple(path[1:].split("/")) if path != "/" else (),
        members=tuple(str(uri) for uri in members) if isinstance(members, list) else (),
        joins={str(uri): Join(join) for uri, join in joins.items()} if isinstance(joins, Mapping) else {},
        why={str(uri): str(reason) for uri, reason in why.items()} if isinstance(why, Mapping) else {},
        leisure_s=float(leisure) if isinstance(leisure, int | float) else 0.0,
        group=str(document.get("group", "")),
    )


def sets_of(tree: Tree, group: str) -> list[FanoutSet]:
    """The committed fan-out sets of a group, by name."""
    return [set_of(resource) for resource in tree.children((*GROUPS, group, SETS))]


def expected_sets(tree: Tree, group: str) -> list[FanoutSet]:
    """The fan-out sets of a group with the joins that are being written; for whoever alone makes and ends sets of this group."""
    expected = [tree.expected(resource.path) for resource in tree.children((*GROUPS, group, SETS))]
    return [set_of(resource) for resource in expected if resource is not None]


def members_of(resource: Resource) -> tuple[str, ...]:
    """The member URIs of a group."""
    members = resource.attributes["members"]
    return tuple(str(uri) for uri in members) if isinstance(members, list) else ()


def _member(value: object) -> str:
    try:
        return parse_uri(value).text()
    except Fault as fault:
        raise Wrong(value, fault.expected if isinstance(fault, Malformed) else fault.detail) from fault


def _expires(value: object) -> str:
    try:
        return rfc3339(parse_rfc3339(value, "expires"))
    except Malformed as fault:
        raise Wrong(value, fault.expected) from fault


def _query(value: object) -> str:
    expected = f"1 to {MAX_PAIRS} pairs such as rt=temperature&d=floor1"
    try:
        pairs = parse_query(value if isinstance(value, str) else "", "query")
    except Fault as fault:
        raise Wrong(value, fault.expected if isinstance(fault, Malformed) else fault.detail) from fault
    if not 1 <= len(pairs) <= MAX_PAIRS or not all(name and wanted for name, wanted in pairs):
        raise Wrong(value, expected)
    if any(name in ("page", "count") for name, _ in pairs):
        raise Wrong(value, f"{expected}; without page and count, since every match is a member")
    return str(value)


check_members = list_of(_member, least=1, most=MAX_MEMBERS)

_SHAPE = Shape(
    {
        "type": Field(choice(STATIC, DYNAMIC, TEMPORARY), STATIC),
        "reliable": Field(boolean, False),
        "members": Field(check_members, None),
        "query": Field(_query, None),
        "expires": Field(_expires, None),
        "leisure": Field(number(0.0, 3600.0), None),
        "for": Field(_member, None),
        "advertise": Field(choice("unicast", "multicast", "broadcast"), None),
    }
)
_READ_ONLY = ("uri", "state", "fanoutSets", "leftOut", "circles", "created", "modified")
_WHAT = {"members": "the members' URIs", "query": "the query that finds the members", "expires": "when it ends"}
_NEEDS = {STATIC: ("members",), DYNAMIC: ("query",), TEMPORARY: ("members", "expires")}
"""What a group of each type is described by; what the others need besides, it does not have."""


def check_group(name: str, given: Document) -> Document:
    """A group's document as it is kept: URIs in one form, each member once. Raises `Malformed`.

    A dynamic group has a query in place of members: who its members are is found by the caller.
    """
    values = _SHAPE.check({key: value for key, value in given.items() if key not in (*_READ_ONLY, "name")})
    kind = str(values["type"])
    for key in ("members", "query", "expires"):
        if key in _NEEDS[kind] and values[key] is None:
            raise Malformed(key, "nothing", f"given: {_WHAT[key]} of a {kind} group")
        if key not in _NEEDS[kind] and values[key] is not None:
            raise Malformed(key, values[key], f"left out: a {kind} group has {' and '.join(_NEEDS[kind])}")
    members = values["members"]
    values["members"] = list(dict.fromkeys(members)) if isinstance(members, list) else []
    return {key: value for key, value in values.items() if value is not None}


def expires_ms(resource: Resource) -> int | None:
    """When a group ends, in milliseconds of the wall clock; None for one that does not end by itself, and for what is no group."""
    expires = resource.attributes.get("expires") if resource.type == GROUP else None
    return parse_rfc3339(expires, "expires") if expires is not None else None


def _refuse(name: str, given: Document) -> Document:
    raise MethodNotAllowed("PUT", f"/groups/.../{SETS}/{name}", ("GET",))


def _describe_set(resource: Resource, tree: Tree) -> Document:
    shown: dict[str, object] = {"name": resource.path[-1], **attributes_only(resource, tree)}
    failures, joins = shown.pop(FAILURES, None), raw_joins(resource)
    if isinstance(failures, Mapping):
        # Those that are no members any more are not shown; nor are those that have joined by another way meanwhile.
        waiting = (Join.PENDING.value, Join.FAILED.value)
        shown[FAILURES] = {uri: failure for uri, failure in failures.items() if joins.get(uri) in waiting}
    return shown


def group_types(group_uri: Callable[[str], str]) -> tuple[ResourceType, ...]:
    """The resource types of groups; `group_uri` gives a group's URI from its name."""

    def describe(resource: Resource, tree: Tree) -> Document:
        name = resource.path[-1]
        sets = tree.children((*resource.path, SETS))
        joining = any(Join.PENDING.value in raw_joins(one).values() for one in sets)
        return {
            "name": name,
            **resource.attributes,
            "uri": group_uri(name),
            "state": "joining" if joining else "ready",
            "fanoutSets": [_describe_set(one, tree) for one in sets],
        }

    read_only = frozenset({Method.GET})
    return (
        ResourceType(GROUP, (*GROUPS, "*"), check_group, describe, derived=True),
        ResourceType(FANOUT_SET, (*GROUPS, "*", SETS, "*"), _refuse, _describe_set, methods=read_only),
    )
