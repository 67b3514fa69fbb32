"""Members to pick: the resources of registered devices that a text finds, as the URIs that a group would have. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.model.errors import Fault
from m2mapp.tree.registrations import COAP_GROUP_KIND, MC_GROUPS_KIND, SCL, Device
from m2mapp.tree.unit import Resource

MOST_PICKED = 10_000
"""So many members a group has at most."""
SHOWN = 50
_ANY = "coap://any"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One resource of a registered device: the device's name, the resource's URI, and its `rt`."""

    device: str
    uri: str
    rt: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a text finds: the first of them, how many there are, all URIs (bounded), and the URI after which there are more."""

    shown: tuple[Candidate, ...]
    count: int
    uris: tuple[str, ...]
    next: str


def find(registrations: Iterable[Resource], device_of: Callable[[Resource], Device], text: str, path: str, after: str = "") -> Found:
    """What a text finds among devices' names and hosts and their links' paths and `rt`; without a text all.

    `path`: taken for each device that is found, in place of its links; for devices that do not say what they have.
    """
    wanted = text.strip().lower()
    shown: list[Candidate] = []
    uris: list[str] = []
    count, reached = 0, not after
    for one in _candidates(registrations, device_of, wanted, path.strip()):
        count += 1
        if len(uris) < MOST_PICKED:
            uris.append(one.uri)
        if reached and len(shown) <= SHOWN:
            shown.append(one)
        reached = reached or one.uri == after
    more = len(shown) > SHOWN
    return Found(tuple(shown[:SHOWN]), count, tuple(uris), shown[SHOWN - 1].uri if more else "")


def _candidates(registrations: Iterable[Resource], device_of: Callable[[Resource], Device], wanted: str, path: str) -> Iterator[Candidate]:
    for resource in registrations:
        if resource.type != SCL:
            continue
        device = device_of(resource)
        is_found = device.is_found_by(wanted)
        links = [(path, "")] if path else _links(resource)
        base = _base(device)
        for href, rt in links:
            if is_found or wanted in href.lower() or wanted in rt.lower():
                reference = _reference(href)
                if reference:
                    yield Candidate(device.name, base + reference, rt)


def _links(resource: Resource) -> list[tuple[str, str]]:
    """The paths that a device registered, with their `rt`; those by which it is told its groups are no members."""
    links = resource.attributes.get("links")
    found = []
    for link in links if isinstance(links, list | tuple) else ():
        href, rt = str(link.get("href", "")), str(link.get("rt", ""))
        if href.startswith("/") and MC_GROUPS_KIND not in rt and COAP_GROUP_KIND not in rt:
            found.append((href, rt))
    return found


def _base(device: Device) -> str:
    """The URI of a device's root without the slash: by its first host, else its address."""
    host = next(iter((*device.hosts, *device.addresses)), device.name)
    return f"{device.scheme}://{Uri(device.scheme, host.lower(), device.port, ()).authority}"


@lru_cache(maxsize=4096)
def _reference(href: str) -> str:
    """A path, with a query if it has one, in the form that members' URIs have; empty for one that no member can have."""
    try:
        return parse_uri(_ANY + href).text()[len(_ANY) :]
    except Fault:
        return ""
