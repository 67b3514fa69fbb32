"""The group advertisement: what a device is told about a fan-out set, and what its answer means (spec section 3). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from m2mapp.formats.documents import CBOR, dump_cbor
from m2mapp.formats.uris import MAX_PART_BYTES, Uri, parse_uri
from m2mapp.groups.group import Join, multicast_address
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.tree.registrations import Device
from m2mapp.tree.unit import Document, Resource

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
FAILED_AFTER = 5
"""After so many attempts without an answer a member is shown as failed; it is told again all the same."""
TIMEOUT_S = 20.0
_DOES_NOT_KNOW = frozenset({"4.04", "4.05", "5.01"})
_IS_GONE = "4.04"


@dataclass(frozen=True, slots=True)
class Told:
    """What comes of one attempt: the new state of the join (None: as before), and after what pause to try again (None: done)."""

    join: Join | None
    pause_s: float | None


def mc_group_name(node_name: str, group: str, set_name: str) -> str:
    """The name of the `mcGroup` on the device: it bears the node's name, so that two group servers do not collide."""
    return short_name(f"{node_name}-{group}-{set_name}")


def short_name(name: str) -> str:
    """The name as a path segment: one that would be too long is cut, and ends with a digest of the whole."""
    whole = name.encode()
    if len(whole) <= MAX_PART_BYTES:
        return name
    digest = hashlib.sha256(whole).hexdigest()[:32]
    return f"{whole[: MAX_PART_BYTES - len(digest) - 1].decode(errors='ignore')}-{digest}"


def mc_group(resource: Resource, uris: Iterable[str]) -> Document | None:
    """The `mcGroup` of a fan-out set for a device that has these of its members; None for a unicast row.

    Members that have the same path on the device (by two names of it) are one to the device.
    """
    address = multicast_address(resource)
    if address is None:
        return None
    return {
        "mcAddress": address,
        "fanoutURI": resource.attributes["fanoutURI"],
        "memberList": list(dict.fromkeys(path_text(parse_uri(uri).path) for uri in uris)),
        "leisure": resource.attributes["leisure"],
    }


def join_request(device: Device, name: str, document: Document) -> Outgoing:
    """The request that tells a device to join: PUT of the `mcGroup`. The device has an address."""
    return Outgoing(Method.PUT, _uri(device, name), dump_cbor(document), CBOR, timeout_s=TIMEOUT_S)


def leave_request(device: Device, name: str) -> Outgoing:
    """The request that tells a device to leave."""
    return Outgoing(Method.DELETE, _uri(device, name), timeout_s=TIMEOUT_S)


def after_join(answer: Answer | None, attempts: int) -> Told:
    """What the answer to the join request means; None: there was none. `attempts` counts this one."""
    if answer is not None and answer.ok:
        return Told(Join.JOINED, None)
    if answer is not None and answer.code in _DOES_NOT_KNOW:
        return Told(Join.UNSUPPORTED, None)
    failed = Join.FAILED if answer is not None or attempts >= FAILED_AFTER else None
    return Told(failed, pause_s(attempts))


def after_leave(answer: Answer | None, attempts: int) -> Told:
    """What the answer to the leave request means: done where the group is gone; else again, until it was tried often enough."""
    return Told(None, None if is_left(answer) or attempts >= FAILED_AFTER else pause_s(attempts))


def is_left(answer: Answer | None) -> bool:
    """Whether the answer to the leave request says that the device has left."""
    return answer is not None and (answer.ok or answer.code == _IS_GONE)


def pause_s(attempts: int) -> float:
    """Seconds until the next attempt: growing, at most a minute."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 16))


def _uri(device: Device, name: str) -> str:
    path = tuple(segment for segment in device.mc_groups.split("/") if segment)
    return Uri("coap", device.addresses[0], device.port, (*path, name)).text()
