"""The group advertisement: what a device is told about a fan-out set, and what its answer means (spec section 3). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from m2mapp.formats.documents import CBOR, dump_cbor
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.group import FanoutSet, Join
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.tree.registrations import Device

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
FAILED_AFTER = 5
"""After so many attempts without an answer a member is shown as failed; it is told again all the same."""
TIMEOUT_S = 20.0
_DOES_NOT_KNOW = frozenset({"4.04", "4.05", "5.01"})


@dataclass(frozen=True, slots=True)
class Told:
    """What comes of one attempt: the new state of the join (None: as before), and after what pause to try again (None: done)."""

    join: Join | None
    pause_s: float | None


def mc_group_name(node_name: str, group: str, set_name: str) -> str:
    """The name of the `mcGroup` on the device: it bears the node's name, so that two group servers do not collide."""
    return f"{node_name}-{group}-{set_name}"


def join_request(device: Device, name: str, one: FanoutSet, uris: list[str]) -> Outgoing:
    """The request that tells a device to join: PUT of the `mcGroup` with the device's own members."""
    document = {
        "mcAddress": one.address,
        "fanoutURI": path_text(one.path),
        "memberList": [path_text(parse_uri(uri).path) for uri in uris],
        "leisure": one.leisure_s,
    }
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
    """What the answer to the leave request means: any answer ends it, silence until it was tried often enough."""
    return Told(None, None if answer is not None or attempts >= FAILED_AFTER else pause_s(attempts))


def pause_s(attempts: int) -> float:
    """Seconds until the next attempt: growing, at most a minute."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 16))


def _uri(device: Device, name: str) -> str:
    path = tuple(segment for segment in device.mc_groups.split("/") if segment)
    return Uri("coap", device.addresses[0], device.port, (*path, name)).text()
