"""The settings of the group server: the table `[groups]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, choice, integer, list_of, number, text
from m2mapp.model.errors import Malformed

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How groups are planned and asked. `local_pool` empty: derived from the interface's prefix (`pool.derived_pool`).

    `advertise` says how devices are told of their groups (`announcement.MODES`); `advertise_group` names the group that those joined
    beforehand who are told by multicast.
    """

    local_pool: tuple[Network, ...] = ()
    multicast_threshold: int = 2
    address_per_set: bool = False
    deadline_s: float = 30.0
    advertise: str = "unicast"
    advertise_group: str = ""


def _pool(value: object) -> Network:
    try:
        network = ip_network(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, f"a range of multicast addresses such as ff35:30:3ffe:ffff:1::8000:0/112 ({error})") from error
    if not network.is_multicast:
        raise Wrong(value, "a range of multicast addresses: within ff00::/8 or 224.0.0.0/4")
    return network


_SHAPE = Shape(
    {
        "local_pool": Field(list_of(_pool, most=16), ()),
        "multicast_threshold": Field(integer(1, 10_000), 2),
        "address_per_set": Field(boolean, False),
        "deadline_s": Field(number(0.1, 3600), 30.0),
        "advertise": Field(choice("unicast", "multicast", "broadcast"), "unicast"),
        "advertise_group": Field(text, ""),
    }
)


def read(table: Mapping[str, object], where: str) -> tuple[GroupSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key."""
    values, faults = _SHAPE.read(table, where)
    if faults:
        return GroupSettings(), faults
    if values["advertise"] == "multicast" and not values["advertise_group"]:
        return GroupSettings(), [
            Malformed(f"{where}advertise_group", "", "the name of the group that devices joined beforehand (advertise)")
        ]
    pool = values.pop("local_pool")
    networks = tuple(network for network in pool if isinstance(network, IPv4Network | IPv6Network)) if isinstance(pool, list) else ()
    return GroupSettings(local_pool=networks, **values), []  # type: ignore[arg-type]  # the shape has checked each value's type
