"""Devices: each with its timeline, and what to do about the step that is missing; of a gateway, and of a bootstrap server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from m2mapp.admin.devices import GROUPS, Devices, Member, merged
from m2mapp.admin.natural import natural
from m2mapp.admin.pages import Answer, Page, Shown
from m2mapp.admin.timelines import Found, Heard, Mark, Step, Timeline, bootstrap_steps, timeline
from m2mapp.admin.visit import Visit
from m2mapp.formats.documents import parse_rfc3339
from m2mapp.model.errors import NoSuchResource
from m2mapp.model.identifiers import path_text
from m2mapp.tree.paths import check_path

_DEVICES = ("devices",)
_SHOWN = 50
_OF_BOOTSTRAP = frozenset({"bootstrap requested", "bootstrapped"})
_GROUPS_ASKED = 16
"""Of so many groups the state of one device's members is asked."""
_MARKS = {Mark.DONE: "✓", Mark.WAITING: "…", Mark.MISSING: "✗", Mark.OPEN: "\u2013"}


def devices_page() -> Page:
    """The page of devices; `/admin/devices/<name>` has one, by its name, DUID or address."""
    return Page("devices", "Devices", _show)


async def _show(visit: Visit) -> Answer:
    return await _one(visit) if visit.rest else await _all(visit)


def _roles(visit: Visit) -> frozenset[str]:
    described = visit.node.describe().get("roles")
    return frozenset(str(role) for role in described) if isinstance(described, list | tuple) else frozenset()


def _devices(visit: Visit) -> Devices:
    return Devices(visit.node.tree, visit.may_read, reports="report" in _roles(visit))


# All.


async def _all(visit: Visit) -> Answer:
    wanted, lacking = visit.query("q").strip(), visit.query("missing") == "1"
    devices = _devices(visit)
    after = natural(visit.query("after"))
    names = (name for name in (devices.matching(wanted) if wanted else devices.names()) if natural(name) > after)
    shown = _lacking(devices, list(names)) if lacking else _timelines(devices, list(islice(names, _SHOWN + 1)))
    more = len(shown) > _SHOWN
    del shown[_SHOWN:]
    values: Mapping[str, object] = {
        "timelines": shown,
        "next": shown[-1].found.name if more else None,
        "wanted": wanted,
        "lacking": lacking,
        "total": len(devices.names()),
        "marks": _MARKS,
        "told": await _told(visit, lacking=lacking) if "bootstrap" in _roles(visit) and visit.may_read(_DEVICES) else None,
    }
    return Shown("devices.html", values)


def _timelines(devices: Devices, names: list[str]) -> list[Timeline]:
    founds = devices.founds(names)
    members = devices.members(founds)
    return [timeline(replace(found, groups=merged(members.get(found.name, ())))) for found in founds]


def _lacking(devices: Devices, names: list[str]) -> list[Timeline]:
    """Those that miss a step: as many as are shown, and one more."""
    return list(islice((one for one in _timelines(devices, names) if one.missing is not None), _SHOWN + 1))


async def _told(visit: Visit, *, lacking: bool) -> Mapping[str, object]:
    """A page of the devices that this bootstrap server knows, as it tells them."""
    query = [("limit", str(_SHOWN))]
    query += [("after", visit.query("told"))] if visit.query("told") else []
    query += [("missing", "")] if lacking else []
    return await visit.document(_DEVICES, tuple(query))


# One.


async def _one(visit: Visit) -> Answer:
    if len(visit.rest) != 1:
        raise NoSuchResource(path_text((*_DEVICES, *visit.rest)))
    devices, name = _devices(visit), visit.rest[0]
    found = devices.find(name)
    told = await _of_bootstrap_server(visit, found, name) if "bootstrap" in _roles(visit) and visit.may_read(_DEVICES) else None
    if found is None and told is None:
        raise NoSuchResource(path_text((*_DEVICES, name)))
    members: list[Member] = []
    if found is None:
        chain = bootstrap_steps(told.get("chain"), told.get("missing")) if told is not None else ()
        line = Timeline(Found(name), chain)
    else:
        members = devices.members([found]).get(found.name, [])
        asked = tuple(step for step in bootstrap_steps(told.get("chain"), None) if step.name in _OF_BOOTSTRAP) if told is not None else ()
        heard = await _heard(visit, members)
        line = timeline(replace(found, groups=merged(members), heard=tuple(heard.values()), bootstrap=_between(asked)))
    values: Mapping[str, object] = {"line": line, "members": members, "told": told, "marks": _MARKS, "waited": _waited(visit, line)}
    return Shown("device.html", values, line.found.name)


def _between(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps that the bootstrap server on this node has seen itself; one that it has not seen is no fault: another one may have."""
    return tuple(replace(step, text=step.text or "seen by the bootstrap server of this node") for step in steps)


async def _of_bootstrap_server(visit: Visit, found: Found | None, name: str) -> Mapping[str, object] | None:
    """What the bootstrap server of this node tells of a device, by its name or by one of its addresses."""
    for each in dict.fromkeys((name, *(found.addresses if found is not None else ()))):
        try:
            return await visit.document(check_path((*_DEVICES, each)))
        except NoSuchResource:
            continue
    return None


async def _heard(visit: Visit, members: list[Member]) -> dict[str, Heard]:
    """What groups know of the answers of their members on this device, by the members' URIs."""
    heard: dict[str, Heard] = {}
    for member in members[:_GROUPS_ASKED]:
        group = visit.find((*GROUPS, member.group))
        listed = group.attributes.get("members") if group is not None else None
        if not isinstance(listed, list) or member.uri not in listed:
            continue
        place = listed.index(member.uri)
        query = (("state", ""), ("limit", "1"), *((("after", str(listed[place - 1])),) if place else ()))
        try:
            told = (await visit.document((*GROUPS, member.group, "members"), query)).get("state")
        except NoSuchResource:  # The group, or the member, has gone meanwhile.
            continue
        state = told.get(member.uri) if isinstance(told, Mapping) else None
        if isinstance(state, Mapping):
            heard[member.uri] = Heard(str(state.get("lastHeard") or ""), str(state.get("silentSince") or ""))
    return heard


def _waited(visit: Visit, line: Timeline) -> float | None:
    """For how many seconds the missing step has been missing."""
    return (visit.now_ms - parse_rfc3339(line.since, "since")) / 1000 if line.missing is not None and line.since else None
