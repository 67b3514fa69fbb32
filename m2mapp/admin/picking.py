"""Members to pick: the resources of registered devices that a text finds, as the URIs that a group would have. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.model.errors import Fault
from m2mapp.tree.registrations import SCL, Device, device_of
from m2mapp.tree.unit import Resource

MOST_PICKED = 10_000
"""So many members a group has at most."""


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


def find(registrations: Iterable[Resource], text: str, path: str, after: str = "", most: int = 50) -> Found:
    """What a text finds among devices' names and hosts and their links' paths and `rt`; without a text all.

    `path`: taken for each device that is found, in place of its links; for devices that do not say what they have.
    """
    wanted = text.strip().lower()
    shown: list[Candidate] = []
    uris: list[str] = []
    count, reached = 0, not after
    for one in _candidates(registrations, wanted, path.strip()):
        count += 1
        if len(uris) < MOST_PICKED:
            uris.append(one.uri)
        if reached and len(shown) <= most:
            shown.append(one)
        reached = reached or one.uri == after
    more = len(shown) > most
    return Found(tuple(shown[:most]), count, tuple(uris), shown[most - 1].uri if more else "")


def _candidates(registrations: Iterable[Resource], wanted: str, path: str) -> Iterator[Candidate]:
    for resource in registrations:
        if resource.type != SCL:
            continue
        device = device_of(resource)
        is_found = any(wanted in name.lower() for name in (device.name, *device.hosts, *device.addresses))
        links = [(path, "")] if path else _links(resource)
        for href, rt in links:
            if is_found or wanted in href.lower() or wanted in rt.lower():
                uri = _uri(device, href)
                if uri:
                    yield Candidate(device.name, uri, rt)


def _links(resource: Resource) -> list[tuple[str, str]]:
    """The paths that a device registered, with their `rt`; those by which it is told its groups are no members."""
    links = resource.attributes.get("links")
    found = []
    for link in links if isinstance(links, list | tuple) else ():
        href, rt = str(link.get("href", "")), str(link.get("rt", ""))
        if href.startswith("/") and not {"m2m.mcgroups", "core.gp"} & set(rt.split()):
            found.append((href, rt))
    return found


def _uri(device: Device, href: str) -> str:
    """The URI of a device's resource, by its first host, else its address; empty for a reference that no member can have."""
    host = next(iter((*device.hosts, *device.addresses)), device.name)
    try:
        return parse_uri(Uri(device.scheme, host.lower(), device.port, ()).text().rstrip("/") + href).text()
    except Fault:
        return ""
