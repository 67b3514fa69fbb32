"""The group advertisement: what a device is told about a fan-out set, and what its answer means (spec section 3). Pure.

In which words a device is told, and how many requests that takes, is in `dialogue`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.group import Join, multicast_address
from m2mapp.groups.naming import fitting
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Answer
from m2mapp.tree.unit import Document, Resource

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LONGEST_LEAVE_PAUSE_S = 600.0
"""A device that does not say that it has left is told again all the same, but less often: nobody waits for it."""
SPREAD = 0.25
"""A pause is up to this part longer, at random: devices that were away together are not all told at one instant."""
FAILED_AFTER = 5
"""After so many attempts without an answer a member is shown as failed; it is told again all the same."""
_DOES_NOT_KNOW = frozenset({"4.04", "4.05", "5.01", "404", "405", "501"})
_IS_GONE = frozenset({"4.04", "404", "410"})


@dataclass(frozen=True, slots=True)
class Told:
    """What comes of one attempt: the new state of the join (None: as before), and after what pause to try again (None: done).

    `why` is the reason of a failure, for people.
    """

    join: Join | None
    pause_s: float | None
    why: str = ""


def mc_group_name(node_name: str, group: str, set_name: str) -> str:
    """The name of the `mcGroup` on the device: it bears the node's name, so that two group servers do not collide."""
    return fitting(f"{node_name}-{group}-{set_name}")


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


def after_join(answer: Answer | None, attempts: int) -> Told:
    """What the answer to the request to join means; None: there was none. `attempts` counts this one."""
    if answer is not None and answer.ok:
        return Told(Join.JOINED, None)
    if answer is not None and answer.code in _DOES_NOT_KNOW:
        return Told(Join.UNSUPPORTED, None)
    failed = Join.FAILED if answer is not None or attempts >= FAILED_AFTER else None
    return Told(failed, pause_s(attempts), _reason(answer))


def after_leave(answer: Answer | None, attempts: int) -> Told:
    """What the answer to the request to leave means: done where the group is gone, else again, for as long as the device is registered."""
    return Told(None, None) if is_left(answer) else Told(None, pause_s(attempts, LONGEST_LEAVE_PAUSE_S), _reason(answer))


def is_left(answer: Answer | None) -> bool:
    """Whether the answer to the request to leave says that the device has left, or was never in."""
    return answer is not None and (answer.ok or answer.code in _IS_GONE)


def pause_s(attempts: int, longest_s: float = LONGEST_PAUSE_S) -> float:
    """Seconds until the next attempt: growing, up to the longest."""
    return min(longest_s, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 16))


def _reason(answer: Answer | None) -> str:
    if answer is None:
        return "no answer"
    said = answer.payload[:200].decode(errors="replace")
    return f"answered {answer.code}: {said}" if said.isprintable() and said else f"answered {answer.code}"
