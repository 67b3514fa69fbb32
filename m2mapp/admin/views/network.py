"""Network: a picture of the gateway, other nodes, devices by prefix, one group at a time laid over it; and the same as tables."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from m2mapp.admin.asking import asked_topic
from m2mapp.admin.groupings import GROUP, GROUPS, MEMBERS, members_in, sets_in
from m2mapp.admin.natural import natural
from m2mapp.admin.network import Layer, Network, Spot, Standing, add_group, counted, network_of
from m2mapp.admin.pages import Answer, Page, Shown
from m2mapp.admin.picture import Draughtsman
from m2mapp.admin.visit import Visit
from m2mapp.model.errors import Fault
from m2mapp.tree.registrations import SCLS

_LISTED = 100
_MOST_DEVICES, _MOST_GROUPS = 10_000, 1_000
_LATELY_S = 5.0
_MOST_SILENT = 5_000
"""So many members of a group are looked at for silence."""


class NetworkPage:
    """The page. It remembers where things are drawn, and for a few seconds who is silent."""

    def __init__(self) -> None:
        self._draughtsman = Draughtsman()
        self._silent: dict[str, tuple[float, list[str]]] = {}

    def page(self) -> Page:
        """The page."""
        return Page("network", "Network", self._show)

    async def _show(self, visit: Visit) -> Answer:
        # Who sees less must not take from others the places of what they see.
        whole = visit.may_read(SCLS) and visit.may_read(GROUPS)
        layer = visit.query("group")
        found = await self._network(visit, layer)
        if layer not in found.layers:
            layer = ""
        prefix, text = visit.query("prefix"), visit.query("find").strip().lower()
        wanted = sorted((spot for spot in found.spots.values() if _is_wanted(spot, prefix, text, layer)), key=_order)
        after = natural(visit.query("after"))
        left = [spot for spot in wanted if _order(spot) > after]
        values: Mapping[str, object] = {
            "picture": (self._draughtsman if whole else Draughtsman()).draw(found, visit.node.name, layer),
            "network": found,
            "layer": layer,
            "asked_topic": asked_topic(layer),
            "layers": sorted(found.layers.values(), key=_order)[:_LISTED],
            "more_layers": max(0, len(found.layers) - _LISTED),
            "prefixes": [(each, len(spots), counted(spots)) for each, spots in sorted(found.prefixes().items())],
            "standings": tuple(Standing),
            "prefix": prefix,
            "find": text,
            "devices": left[:_LISTED],
            "wanted": len(wanted),
            "not_all": len(found.spots) >= _MOST_DEVICES or len(found.layers) >= _MOST_GROUPS,
            "next": left[_LISTED - 1].name if len(left) > _LISTED else "",
            "link": lambda **more: "?" + urlencode({"group": layer, "prefix": prefix, "find": text, **more}),
        }
        return Shown("network.html", values)

    async def _network(self, visit: Visit, layer: str) -> Network:
        """What the visitor may see of it. Who is silent is asked of the group that is looked at, or of all while they are few."""
        devices = visit.children(SCLS, limit=_MOST_DEVICES) if visit.may_read(SCLS) else []
        found = network_of(devices, visit.node.registrations.of, visit.node.peers)
        groups = visit.children(GROUPS, limit=_MOST_GROUPS) if visit.may_read(GROUPS) else []
        sizes = {group.path[-1]: len(members_in(group)) for group in groups if group.type == GROUP}
        few = sum(sizes.values()) <= _MOST_SILENT
        for name, size in sizes.items():
            silent: list[str] = []
            if name == layer:
                silent = await _silent(visit, name)
            elif few and not layer:
                silent = await self._lately_silent(visit, name)
            add_group(found, name, size, sets_in(visit.node.tree, name), silent)
        return found

    async def _lately_silent(self, visit: Visit, name: str) -> list[str]:
        """Who is silent, or was a few seconds ago: so many groups are not gone through for each look at the page."""
        now_s = visit.node.reactor.seconds()
        at_s, silent = self._silent.get(name, (-_LATELY_S, []))
        if now_s - at_s >= _LATELY_S:
            if len(self._silent) >= _MOST_GROUPS:
                self._silent.clear()
            silent = await _silent(visit, name)
            self._silent[name] = now_s, silent
        return silent


def _order(one: Spot | Layer) -> tuple[str, str]:
    return natural(one.name)


async def _silent(visit: Visit, name: str) -> list[str]:
    """The members that did not answer when they were asked last."""
    found: list[str] = []
    after = ""
    for _ in range(_MOST_SILENT // 1000):
        query = (("state", ""), ("limit", "1000"), *((("after", after),) if after else ()))
        try:
            document = await visit.document((*GROUPS, name, MEMBERS), query)
        except Fault:  # It was ended meanwhile: then it is not looked at.
            break
        states = document.get("state")
        known = states.items() if isinstance(states, Mapping) else ()
        found += [uri for uri, state in known if isinstance(state, Mapping) and state.get("silentSince")]
        after = str(document.get("next", ""))
        if not after:
            break
    return found


def _is_wanted(spot: Spot, prefix: str, text: str, layer: str) -> bool:
    if (prefix and spot.prefix != prefix) or (layer and layer not in spot.groups):
        return False
    return not text or spot.device.is_found_by(text)
