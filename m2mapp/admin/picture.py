"""The network picture: where each thing is drawn, as numbers for the template. Pure, and steady: what stays does not move.

Boxes have places that they keep (`places`), devices have such places within their box. A box of more devices than it has places shows
squares instead, each of them the worst of the devices whose names fall into it. Not responsible for what there is (`network`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from m2mapp.admin.network import Network, Server, Spot, Standing, counted
from m2mapp.admin.places import Places

COLUMNS = 3
WIDTH = 960
_LEFT, _GAP, _BOX_WIDTH = 28, 16, 294
_TOP, _GATEWAY_HEIGHT = 16, 44
_SERVER_HEIGHT, _PREFIX_HEIGHT, _HEADER = 62, 148, 44
STEP, _DOT_COLUMNS, _DOT_ROWS = 12, 23, 8
CAPACITY = _DOT_COLUMNS * _DOT_ROWS
"""So many devices are drawn one by one in a box."""
MOST_BOXES = 60
"""So many prefixes are drawn at most; the table has all."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One device, or those of one square: where, how it stands, what is said of it; `marked`: it is in the group looked at."""

    x: int
    y: int
    standing: Standing
    title: str
    marked: bool
    square: bool


@dataclass(frozen=True, slots=True)
class Box:
    """One prefix, or one other node: where, what is written in it, and its devices. `lit`: the group that is looked at is in it."""

    key: str
    x: int
    y: int
    width: int
    height: int
    title: str
    text: str
    lit: bool
    dots: tuple[Dot, ...] = ()
    is_server: bool = False

    @property
    def wire(self) -> str:
        """The line from the gateway: down the rail at the left, along above the row, down to the box (SVG path data)."""
        middle, above = self.x + self.width // 2, self.y - _GAP // 2
        return f"M {_LEFT} {_TOP + _GATEWAY_HEIGHT // 2} H {_LEFT // 2} V {above} H {middle} V {self.y}"


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is drawn; the gateway is a box, too. `left_out`: prefixes that have no room."""

    width: int
    height: int
    gateway: Box
    boxes: tuple[Box, ...]
    left_out: int


class Draughtsman:
    """Draws the network again and again, each thing where it was."""

    def __init__(self) -> None:
        self._servers, self._prefixes = Places(), Places()
        self._dots: dict[str, Places] = {}

    def draw(self, network: Network, node: str, layer: str = "") -> Picture:
        """The picture; `layer` is the group that is looked at."""
        top = _TOP + _GATEWAY_HEIGHT + 2 * _GAP
        servers = self._servers.settle(network.servers)
        boxes = [_server_box(network.servers[uri], place, top, layer) for uri, place in servers.items()]
        top += _rows(servers.values()) * (_SERVER_HEIGHT + _GAP)
        by_prefix = network.prefixes()
        places = self._prefixes.settle(by_prefix)
        drawn = {prefix: place for prefix, place in places.items() if place < MOST_BOXES}
        for gone in [prefix for prefix in self._dots if prefix not in drawn]:
            del self._dots[gone]
        boxes += [self._prefix_box(prefix, by_prefix[prefix], place, top, layer) for prefix, place in drawn.items()]
        height = top + _rows(drawn.values()) * (_PREFIX_HEIGHT + _GAP)
        devices = len(network.spots)
        text = f"{devices} {'device' if devices == 1 else 'devices'}, {len(network.layers)} groups"
        gateway = Box("", _LEFT, _TOP, _BOX_WIDTH, _GATEWAY_HEIGHT, node, text, lit=bool(layer))
        return Picture(WIDTH, height, gateway, tuple(boxes), len(places) - len(drawn))

    def _prefix_box(self, prefix: str, spots: Sequence[Spot], place: int, top: int, layer: str) -> Box:
        x, y = _corner(place, top, _PREFIX_HEIGHT)
        if len(spots) > CAPACITY:
            self._dots.pop(prefix, None)
            dots = _squares(spots, x, y, layer)
        else:
            dots = self._each(prefix, spots, x, y, layer)
        inside = sum(1 for spot in spots if layer in spot.groups) if layer else 0
        text = f"{inside} of {len(spots)} in {layer}" if layer else _words(counted(spots))
        return Box(prefix, x, y, _BOX_WIDTH, _PREFIX_HEIGHT, prefix, text, bool(inside), dots)

    def _each(self, prefix: str, spots: Sequence[Spot], x: int, y: int, layer: str) -> tuple[Dot, ...]:
        places = self._dots.setdefault(prefix, Places()).settle(spot.name for spot in spots)
        if max(places.values(), default=0) >= CAPACITY:
            # There were more devices, and those that stay stand where there is no room any more: they are placed anew.
            self._dots[prefix] = Places()
            places = self._dots[prefix].settle(spot.name for spot in spots)
        return tuple(
            Dot(*_point(places[spot.name], x, y), spot.standing, f"{spot.name}: {_said(spot)}", layer in spot.groups, square=False)
            for spot in spots
        )


def _squares(spots: Sequence[Spot], x: int, y: int, layer: str) -> tuple[Dot, ...]:
    """Devices by their names' hash: a device is in the same square for good."""
    found: dict[int, list[Spot]] = {}
    for spot in spots:
        found.setdefault(crc32(spot.name.encode()) % CAPACITY, []).append(spot)
    dots = []
    for place, some in sorted(found.items()):
        worst, marked = max(spot.standing for spot in some), any(layer in spot.groups for spot in some)
        dots.append(Dot(*_point(place, x, y), worst, _words(counted(some)), marked, square=True))
    return tuple(dots)


def _server_box(server: Server, place: int, top: int, layer: str) -> Box:
    x, y = _corner(place, top, _SERVER_HEIGHT)
    members = f"{server.members} {'member is' if server.members == 1 else 'members are'} reached through it"
    title = f"{server.name} ({server.uri})" if server.name else server.uri
    return Box(server.uri, x, y, _BOX_WIDTH, _SERVER_HEIGHT, title, members, layer in server.groups, is_server=True)


def _corner(place: int, top: int, height: int) -> tuple[int, int]:
    row, column = divmod(place, COLUMNS)
    return _LEFT + column * (_BOX_WIDTH + _GAP), top + row * (height + _GAP)


def _point(place: int, x: int, y: int) -> tuple[int, int]:
    row, column = divmod(place, _DOT_COLUMNS)
    return x + STEP + column * STEP, y + _HEADER + STEP // 2 + row * STEP


def _rows(places: Iterable[int]) -> int:
    """How many rows there are: for the highest place, so that one that goes in the middle leaves the others where they are."""
    return max((place // COLUMNS + 1 for place in places), default=0)


def _words(standings: Mapping[Standing, int]) -> str:
    return ", ".join(f"{standings[one]} {one.word}" for one in sorted(Standing, reverse=True) if standings.get(one))


def _said(spot: Spot) -> str:
    where = f" ({', '.join(sorted(spot.groups)[:5])})" if spot.groups else ""
    return ("silent" if spot.silent else spot.standing.word) + where
