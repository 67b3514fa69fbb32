"""Group advertisements to many devices at once, naming those that are meant (spec section 3, modes `multicast` and `broadcast`). Pure.

`broadcast` goes to All CoAP Nodes of the links (IPv6 has no other broadcast); `multicast` to the addresses of a group of this node whose
members are the devices' `/mcGroups`: they joined it beforehand like any other. What the devices make of it is in
`member.announcement`, where the document is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from m2mapp.formats.documents import dump_cbor
from m2mapp.formats.uris import DEFAULT_PORTS, parse_uri
from m2mapp.groups.dialogue import Place
from m2mapp.groups.group import REACHED, sets_of
from m2mapp.groups.index import hosts_of
from m2mapp.groups.plan import leisure_of
from m2mapp.groups.settings import BROADCAST, MULTICAST
from m2mapp.model.identifiers import Path, path_text
from m2mapp.tree.registrations import Device
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Document

ALL_COAP_NODES = {6: "ff02::fd", 4: "224.0.1.187"}
"""RFC 7252, section 12.8; of IPv6 the link's."""
MOST_BYTES = 1024
"""So large is one advertisement at most: it has to fit a datagram."""
MC_GROUPS: Path = ("mcGroups",)


@dataclass(frozen=True, slots=True)
class Addressee:
    """One device that is meant, with its members in the set; `document` None: it is to leave."""

    device: Device
    uris: tuple[str, ...]
    document: Document | None


@dataclass(frozen=True, slots=True)
class Channel:
    """Where an advertisement goes, and by what it is heard."""

    address: str
    port: int


def listeners(tree: Tree, group: str) -> dict[str, Channel]:
    """By host: where those hear advertisements that have joined this group with their `/mcGroups`."""
    return {
        parse_uri(uri).host: Channel(one.address, one.port)
        for one in (sets_of(tree, group) if group else ())
        if one.is_multicast and one.path == MC_GROUPS
        for uri, join in one.joins.items()
        if join in REACHED
    }


def channel(mode: str, joined: Mapping[str, Channel], device: Device) -> Channel | None:
    """Where this device hears advertisements; None: it has to be told alone."""
    if device.coap_group or device.scheme != "coap" or device.mc_groups != path_text(MC_GROUPS) or not device.addresses:
        return None
    if mode == MULTICAST:
        return next((joined[host] for host in hosts_of(device) if host in joined), None)
    if mode != BROADCAST or device.port != DEFAULT_PORTS["coap"]:
        return None
    return Channel(ALL_COAP_NODES[6 if ":" in device.addresses[0] else 4], device.port)


def leisure_s(addressees: Sequence[Addressee]) -> float:
    """Over how many seconds those who are named spread their answers: the group's leisure, or for a leave what their number asks for."""
    document = addressees[0].document
    given = document.get("leisure") if document is not None else None
    return given if isinstance(given, float) else leisure_of(len(addressees))


def payloads(place: Place, addressees: Sequence[Addressee]) -> Iterator[tuple[bytes, list[Addressee]]]:
    """The advertisements, each with those that it names: all of them join, or all leave."""
    leisure = leisure_s(addressees)
    part: list[Addressee] = []
    whole = b""
    for one in addressees:
        longer = _payload(place, [*part, one], leisure)
        if part and len(longer) > MOST_BYTES:
            yield whole, part
            part, longer = [], _payload(place, [one], leisure)
        part.append(one)
        whole = longer
    if part:
        yield whole, part


def _payload(place: Place, addressees: list[Addressee], leisure: float) -> bytes:
    uris = [uri for one in addressees for uri in one.uris]
    document = addressees[0].document
    if document is None:
        return dump_cbor({"name": place.name, "leisure": leisure, "leave": uris})
    return dump_cbor({**{key: value for key, value in document.items() if key != "memberList"}, "name": place.name, "members": uris})
