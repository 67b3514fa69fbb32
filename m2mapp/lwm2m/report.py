"""What a gateway reports of a device: the document, and the resource `/node/reports/<duid>` that keeps it until it is confirmed. Pure.

Responsible for both, and for the order in which reports wait. The resource is the queue: what was seen is on disk before it is sent, each
device waits once, with its latest state, which has every step that came to be. Not responsible for sending (`pushing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sortedcontainers import SortedDict

from m2mapp.formats.documents import parse_rfc3339, rfc3339
from m2mapp.lwm2m.followed import REACHED, Seen
from m2mapp.lwm2m.steps import GIVEN, IN_GROUPS, REGISTERED
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.tree.node import REPORTS
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Remove, Resource, Write

REPORT: Final = "report"
QUEUED, REPORTED_AT, REFUSED = "queued", "reportedAt", "refused"
_KEPT_OF_LEASE: Final = ("iaid", "address", "givenAt", "validUntil", "bootstrapURI")


def report(seen: Seen, before: Document | None, now_ms: int) -> Document | None:
    """What is reported of a device that is seen so, where `before` was last; None where it has no lease any more.

    A step has the time since when it holds. `ended` has those that held and do not any more. The time of the address is that at which it
    was given first, however often it was renewed since.
    """
    if not seen.leases:
        return None
    leases = [{name: lease.get(name) for name in _KEPT_OF_LEASE} for lease in seen.leases]
    steps: dict[str, object] = {GIVEN: _given(leases, before, now_ms)}
    if seen.registered_ms is not None:
        steps[REGISTERED] = rfc3339(seen.registered_ms)
    groups = dict(seen.groups or {})
    if groups and all(state in REACHED for state in groups.values()):
        steps[IN_GROUPS] = _part(before, "steps").get(IN_GROUPS, rfc3339(now_ms))
    had, ended = _part(before, "steps"), _part(before, "ended")
    gone = {name: rfc3339(now_ms) for name in had if name not in steps} | dict(ended)
    return {
        "leases": leases,
        "endpoint": seen.endpoint or (before or {}).get("endpoint"),
        "steps": steps,
        "ended": {name: at for name, at in gone.items() if name not in steps},
        "groups": groups,
    }


def _part(document: Document | None, name: str) -> Mapping[str, object]:
    part = document.get(name) if document is not None else None
    return part if isinstance(part, Mapping) else {}


def _addresses(document: Document | None) -> set[object]:
    leases = document.get("leases") if document is not None else None
    return {lease.get("address") for lease in leases} if isinstance(leases, list | tuple) else set()


def _given(leases: list[dict[str, object]], before: Document | None, now_ms: int) -> object:
    known = _part(before, "steps").get(GIVEN)
    if known is not None and _addresses(before) & {lease["address"] for lease in leases}:
        return known
    times = [str(lease["givenAt"]) for lease in leases if lease["givenAt"] is not None]
    return min(times, key=lambda text: parse_rfc3339(text, "givenAt"), default=rfc3339(now_ms))


def _not_written(name: str, _: Document) -> Document:
    raise MethodNotAllowed("PUT", path_text((*REPORTS, name)), ("GET",))


REPORT_TYPE: Final = ResourceType(REPORT, (*REPORTS, "*"), _not_written, methods=frozenset({Method.GET}))


def noted(duid: str, document: Document | None, before: Resource | None, number: int) -> Write | Remove | None:
    """What writes down that this is to be reported of a device now; None where it is what was written down last.

    `number` is its place in the queue, unless it waits already. A device that is gone and of which nothing was ever confirmed waits all the
    same: the server may have what was sent last.
    """
    kept = before.attributes if before is not None else {}
    if before is None and document is None:
        return None
    if before is not None and kept.get("report") == document:
        return None
    waits = kept.get(QUEUED)
    attributes = {"report": document, QUEUED: number if waits is None else waits, REPORTED_AT: kept.get(REPORTED_AT)}
    return Write((*REPORTS, duid), REPORT, attributes)


def confirmed(resource: Resource, at_ms: int) -> Write | Remove:
    """What writes down that the server has it; of a device that is gone nothing is kept any more."""
    if resource.attributes.get("report") is None:
        return Remove(resource.path)
    return Write(resource.path, REPORT, {"report": resource.attributes["report"], QUEUED: None, REPORTED_AT: rfc3339(at_ms)})


def refused(resource: Resource, why: str) -> Write | Remove:
    """What writes down that the server does not take it, and why: it waits no more, until the device's state is another."""
    if resource.attributes.get("report") is None:
        return Remove(resource.path)
    return Write(resource.path, REPORT, {**resource.attributes, QUEUED: None, REPORTED_AT: None, REFUSED: why[:500]})


def queued_again(resource: Resource, number: int) -> Write:
    """What makes a report wait that the server may not have any more."""
    return Write(resource.path, REPORT, {**resource.attributes, QUEUED: number})


def leases_of(duid: str, document: Document | None) -> dict[Path, Document]:
    """The leases in a report, each by DUID and IAID, with all that object 33050 says of it."""
    leases = document.get("leases") if document is not None else None
    steps = _part(document, "steps")
    common = {
        "duid": duid,
        "endpoint": (document or {}).get("endpoint"),
        "registeredAt": steps.get(REGISTERED),
        "inGroupsAt": steps.get(IN_GROUPS),
    }
    found = leases if isinstance(leases, list | tuple) else ()
    return {(duid, str(lease["iaid"])): {**lease, **common} for lease in found}


class Queue:
    """The devices whose reports wait, in the order in which they began to: derived from the resources."""

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}
        self._waiting = SortedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, duid: str, resource: Resource | None) -> None:
        """A device's report is this now."""
        before = self._number_of.pop(duid, None)
        if before is not None:
            self._waiting.pop((before, duid), None)
        number = resource.attributes.get(QUEUED) if resource is not None else None
        if isinstance(number, int):
            self._number_of[duid] = number
            self._waiting[number, duid] = None

    def first(self, most: int) -> list[str]:
        """The DUIDs of the first, in order."""
        return [duid for _, duid in self._waiting.islice(0, most)]

    def clear(self) -> None:
        """Forget everything: the tree is not followed any more."""
        self._number_of.clear()
        self._waiting.clear()
