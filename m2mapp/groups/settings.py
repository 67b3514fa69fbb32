"""The settings of the group server: the table `[groups]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, choice, integer, list_of, number, text
from m2mapp.formats.uris import parse_uri
from m2mapp.groups.identifying import ALWAYS, AUTO
from m2mapp.model.errors import Fault, Malformed
from m2mapp.tree.paths import parse_path

Network = IPv4Network | IPv6Network
UNICAST, MULTICAST, BROADCAST = "unicast", "multicast", "broadcast"
"""How devices are told of their groups (spec section 3)."""
GLOBAL_SCOPE = 0xE
"""The scope of global addresses (RFC 4291, section 2.7)."""
_PLACE_OF_GROUP = "{group}"
_LONGEST_VIRTUAL_URI = 512
"""Bytes: with a group's name in it, it is a path still."""
_ADMINISTRATIVELY_SCOPED, _LINK_LOCAL = IPv4Network("239.0.0.0/8"), IPv4Network("224.0.0.0/24")


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How groups are planned and asked.

    `local_pool` empty: derived from the interface's prefix (`pool.derived_pool`). `global_pool` is handed out to others too, as
    `/mcAddrPool`; `address_server` is the `/mcAddrPool` of the node that has the global addresses, where this one has none; empty: nobody.

    `advertise` says how devices are told of their groups (`announcement`); `advertise_group` names the group that those joined
    beforehand who are told by multicast.
    """

    local_pool: tuple[Network, ...] = ()
    multicast_threshold: int = 2
    address_per_set: bool = False
    deadline_s: float = 30.0
    global_pool: tuple[Network, ...] = ()
    address_server: str = ""
    subgroup_threshold: int = 2
    virtual_uri: str = "/well-known/{group}"
    advertise: str = UNICAST
    advertise_group: str = ""
    request_id: str = AUTO


def _pool(value: object) -> Network:
    try:
        network = ip_network(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, f"a range of multicast addresses such as ff35:30:3ffe:ffff:1::8000:0/112 ({error})") from error
    if not network.is_multicast:
        raise Wrong(value, "a range of multicast addresses: within ff00::/8 or 224.0.0.0/4")
    return network


def _global_pool(value: object) -> Network:
    network = _pool(value)
    if isinstance(network, IPv6Network):
        scope = int(network.network_address) >> 112 & 0xF
        if network.prefixlen < 16 or scope != GLOBAL_SCOPE:  # noqa: PLR2004 - the scope is the last part of the first 16 bits
            raise Wrong(
                value, "a range of global scope, such as ff3e:30:3ffe:ffff:1::8000:0/112: the scope is the fourth digit, e (RFC 4291)"
            )
    elif network.subnet_of(_ADMINISTRATIVELY_SCOPED) or network.subnet_of(_LINK_LOCAL):
        raise Wrong(value, "a range of global scope: neither in 239.0.0.0/8 (RFC 2365) nor in 224.0.0.0/24 (RFC 5771)")
    return network


def _address_server(value: object) -> str:
    if value == "":
        return ""
    try:
        uri = parse_uri(value)
    except Fault as fault:
        raise Wrong(value, "a URI such as http://n1.example.com/mcAddrPool, or empty") from fault
    if not uri.path or uri.query:
        raise Wrong(value, "the URI of a pool, such as http://n1.example.com/mcAddrPool, without a query")
    return uri.text()


def _virtual_uri(value: object) -> str:
    text = value if isinstance(value, str) else ""
    try:
        path = parse_path(text)
    except Fault as fault:
        raise Wrong(value, f"a path such as /well-known/{_PLACE_OF_GROUP} ({fault.detail})") from fault
    if len(text.encode()) > _LONGEST_VIRTUAL_URI:
        raise Wrong(value, f"a path of at most {_LONGEST_VIRTUAL_URI} bytes")
    if path.count(_PLACE_OF_GROUP) != 1 or _PLACE_OF_GROUP in "".join(path).replace(_PLACE_OF_GROUP, "", 1):
        raise Wrong(value, f"a path one segment of which is {_PLACE_OF_GROUP}, in whose place the group's name is put")
    return text


_SHAPE = Shape(
    {
        "local_pool": Field(list_of(_pool, most=16), ()),
        "global_pool": Field(list_of(_global_pool, most=16), ()),
        "address_server": Field(_address_server, ""),
        "multicast_threshold": Field(integer(1, 10_000), 2),
        "subgroup_threshold": Field(integer(1, 10_000), 2),
        "address_per_set": Field(boolean, False),
        "virtual_uri": Field(_virtual_uri, "/well-known/{group}"),
        "deadline_s": Field(number(0.1, 3600), 30.0),
        "advertise": Field(choice(UNICAST, MULTICAST, BROADCAST), UNICAST),
        "advertise_group": Field(text, ""),
        "request_id": Field(choice(AUTO, ALWAYS), AUTO),
    }
)


def read(table: Mapping[str, object], where: str) -> tuple[GroupSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key."""
    values, faults = _SHAPE.read(table, where)
    if faults:
        return GroupSettings(), faults
    pools = {name: _networks(values.pop(name)) for name in ("local_pool", "global_pool")}
    settings = GroupSettings(**pools, **values)  # type: ignore[arg-type]  # the shape has checked each value's type
    return settings, _across(settings, where)


def _networks(value: object) -> tuple[Network, ...]:
    return tuple(one for one in value if isinstance(one, IPv4Network | IPv6Network)) if isinstance(value, list) else ()


def _across(settings: GroupSettings, where: str) -> list[Malformed]:
    """What must hold between the keys."""
    faults = [
        Malformed(f"{where}global_pool", wide, f"apart from local_pool, which has {local}: an address is of one domain")
        for wide in settings.global_pool
        for local in settings.local_pool
        if wide.version == local.version and wide.overlaps(local)
    ]
    if settings.advertise == MULTICAST and not settings.advertise_group:
        faults.append(Malformed(f"{where}advertise_group", "", "the name of the group that devices joined beforehand (advertise)"))
    if settings.global_pool and settings.address_server:
        faults.append(
            Malformed(f"{where}address_server", settings.address_server, "empty where global_pool has addresses of this node's own")
        )
    return faults
