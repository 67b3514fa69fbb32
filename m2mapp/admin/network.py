"""The network as this node knows it: devices by prefix, other nodes, groups; and how each device stands. Pure.

A device is in the groups that have a member on it. Not responsible for where it is drawn (`picture`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from ipaddress import ip_address, ip_network

from m2mapp.admin.groupings import Document, is_alone, joins_of, pairs, texts
from m2mapp.admin.natural import natural
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault
from m2mapp.tree.registrations import SCL, Device
from m2mapp.tree.unit import Resource

_BITS = {4: 24, 6: 64}
NOWHERE = "no address"


class Standing(IntEnum):
    """How a device stands, the worst last."""

    IDLE = 0
    GOOD = 1
    WAITING = 2
    BAD = 3

    @property
    def word(self) -> str:
        """The same for a person."""
        return ("in no group", "in order", "joining", "silent or not joined")[self]


@dataclass(slots=True)
class Spot:
    """One device: its prefix, since when it is registered, how it stands, the groups it is in; `through` which node, if another's."""

    device: Device
    prefix: str
    since_ms: int
    standing: Standing = Standing.IDLE
    silent: bool = False
    groups: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Its endpoint name."""
        return self.device.name

    def worsen(self, standing: Standing) -> None:
        """It stands so, if it did not stand worse."""
        self.standing = max(self.standing, standing)


@dataclass(slots=True)
class Server:
    """Another node: its URI without a path, its name where the file has one, how many members are reached through it, of which groups."""

    uri: str
    name: str = ""
    members: int = 0
    groups: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Layer:
    """One group: how many members, of them on devices here and elsewhere, and how they stand."""

    name: str
    members: int
    here: int
    words: str
    grade: str


@dataclass(slots=True)
class Network:
    """All of it. `spots` by the device's name, `servers` by URI, `layers` by the group's name."""

    spots: dict[str, Spot] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)

    def prefixes(self) -> dict[str, list[Spot]]:
        """The devices of each prefix, those first that were first registered."""
        found: dict[str, list[Spot]] = {}
        for spot in sorted(self.spots.values(), key=lambda spot: (spot.since_ms, natural(spot.name))):
            found.setdefault(spot.prefix, []).append(spot)
        return found

    def spot_of(self, uri: str) -> Spot | None:
        """The device that has a member, if it is registered here."""
        return self.spots.get(self.hosts.get(host_of(uri), ""))


def network_of(registrations: Iterable[Resource], device_of: Callable[[Resource], Device], peers: Mapping[str, str]) -> Network:
    """The devices and the other nodes; groups come with `add_group`."""
    found = Network(servers={uri.rstrip("/"): Server(uri.rstrip("/"), name) for name, uri in peers.items()})
    for resource in registrations:
        if resource.type != SCL:
            continue
        device = device_of(resource)
        found.spots[device.name] = Spot(device, prefix_of(device.addresses), resource.created_ms)
        for host in (device.name, *device.hosts, *device.addresses):
            found.hosts[host.lower()] = device.name
    return found


def add_group(network: Network, name: str, members: int, sets: Iterable[Document], silent: Iterable[str] = ()) -> None:
    """A group is there, with its fan-out sets, and members of which it is known that they are silent."""
    known = list(sets)
    here = 0
    for one in known:
        server = _server_of(one)
        if server:
            there = network.servers.setdefault(server, Server(server))
            there.members += len(texts(one.get("memberList")))
            there.groups.add(name)
            continue
        for uri, standing in _standings(one):
            spot = network.spot_of(uri)
            if spot is not None:
                here += 1
                spot.groups.add(name)
                spot.worsen(standing)
    for uri in silent:
        spot = network.spot_of(uri)
        if spot is not None:
            spot.silent = True
            spot.worsen(Standing.BAD)
    joins = joins_of(known)
    network.layers[name] = Layer(name, members, here, joins.words, joins.grade)


def _server_of(one: Document) -> str:
    """The node whose group a set is, or which has the member that is a group; empty for a set of devices."""
    if one.get("addressType") != "group":
        return ""
    uri = str(one.get("group") or next(iter(texts(one.get("memberList"))), ""))
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _standings(one: Document) -> Iterator[tuple[str, Standing]]:
    if is_alone(one):
        for uri in texts(one.get("memberList")):
            yield uri, Standing.GOOD
        return
    for uri, join in pairs(one.get("joins")).items():
        yield uri, {"pending": Standing.WAITING, "failed": Standing.BAD}.get(join, Standing.GOOD)


@lru_cache(maxsize=20_000)
def host_of(uri: str) -> str:
    """The host that a URI names, in lower case; empty for what is none."""
    try:
        return parse_uri(uri).host
    except Fault:
        return ""


@lru_cache(maxsize=20_000)
def prefix_of(addresses: tuple[str, ...]) -> str:
    """The prefix of a device's first address that is no link-local one: /64, or /24 of IPv4."""
    found = NOWHERE
    for text in addresses:
        address = ip_address(text.partition("%")[0])
        found = str(ip_network(f"{address}/{_BITS[address.version]}", strict=False))
        if not address.is_link_local:
            return found
    return found


def counted(spots: Iterable[Spot]) -> Counter[Standing]:
    """How many of them stand how."""
    return Counter(spot.standing for spot in spots)
