"""The devices of a bootstrap server as one view: what gateways reported, joined with what then happened here, by IPv6 address. Pure.

Responsible for which devices there are, by what names they are found, and for the steps of each: times, the one that is missing, since when
and what to do. Not responsible for keeping any of it: whoever follows the tree tells it of changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sortedcontainers import SortedDict

from m2mapp.formats.documents import parse_rfc3339, rfc3339
from m2mapp.formats.uris import address_key
from m2mapp.lwm2m.gateways import GATEWAYS, REPORTED_AT, Claims, addresses_of, report_of
from m2mapp.lwm2m.record import BOOTSTRAPPED, BOOTSTRAPPED_AT, DEVICES, REQUESTED, STATE, finish_was_lost
from m2mapp.lwm2m.steps import ADVICE, GIVEN, IN_GROUPS, REGISTERED, REPORTED, STEPS
from m2mapp.model.identifiers import Path
from m2mapp.tree.registrations import SCLS, Registrations
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Document, Resource

NOT_ASKED: Final = "not bootstrapped"
"""The state of a device that was reported and has never asked to be bootstrapped."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device: the record of its bootstrap, what a gateway reported of it, or both."""

    name: str
    record: Resource | None = None
    reported: Resource | None = None

    @property
    def modified_ms(self) -> int:
        """When something of it was written last, in the wall clock's milliseconds."""
        return max(each.modified_ms for each in (self.record, self.reported) if each is not None)


class Joined:
    """All devices. One that has asked is named by its endpoint, one that has not by its DUID."""

    def __init__(self, tree: Tree, registrations: Registrations) -> None:
        self._tree, self._registrations = tree, registrations
        self.claims = Claims()
        self._records: dict[str, dict[str, None]] = {}
        self._of_duid: dict[str, dict[Path, None]] = {}
        self._names = SortedDict()

    def clear(self) -> None:
        """Forget everything: the tree is not followed any more."""
        self.claims.clear()
        for index in (self._records, self._of_duid, self._names):
            index.clear()

    def report_changed(self, before: Resource | None, after: Resource | None) -> None:
        """What a gateway has reported of a device was this and is that now."""
        self.claims.changed(before, after)
        path = (after or before).path  # type: ignore[union-attr]  # one of them is there
        duid = path[-1]
        reports = self._of_duid.setdefault(duid, {})
        if after is not None:
            reports[path] = None
        else:
            reports.pop(path, None)
            if not reports:
                del self._of_duid[duid]
        self._look(duid)

    def record_changed(self, before: Resource | None, after: Resource | None) -> None:
        """The record of a bootstrap was this and is that now."""
        for resource, there in ((before, False), (after, True)):
            if resource is None:
                continue
            name, address = resource.path[-1], address_of(resource)
            at_address = self._records.setdefault(address, {})
            if there:
                at_address[name] = None
            else:
                at_address.pop(name, None)
                if not at_address:
                    del self._records[address]
            self._names.pop(name, None)
            for reported in filter(None, [self.claims.at(address)]):
                self._look(reported.path[-1])
        if after is not None:
            self._names[after.path[-1]] = None

    def find(self, name: str) -> Device | None:
        """The device of that name: an endpoint, a DUID in hexadecimal, or an address that it has."""
        record = self._tree.find((*DEVICES, name))
        if record is not None:
            return Device(name, record, self.claims.at(address_of(record)))
        reported = self._reported(name.lower()) or self.claims.at(address_key(name))
        if reported is not None:
            record = self._record_of(reported)
            return Device(record.path[-1] if record is not None else reported.path[-1], record, reported)
        endpoints = self._records.get(address_key(name))
        return Device(last, self._tree.find((*DEVICES, last))) if endpoints and (last := next(reversed(endpoints))) else None

    def names(self, after: str | None, most: int) -> list[str]:
        """The names of the devices behind a name, in order, at most so many."""
        start = 0 if after is None else self._names.bisect_right(after)
        return list(self._names.islice(start, start + most))

    def __len__(self) -> int:
        """How many devices there are."""
        return len(self._names)

    def document(self, device: Device, now_ms: int) -> Document:
        """What is known of a device: its record, the report of it, all steps in `chain`, and the one that is `missing`."""
        record, reported = device.record, device.reported
        kept: Mapping[str, object] = record.attributes if record is not None else {"state": NOT_ASKED, "steps": []}
        found: dict[str, object] = {**kept}
        if reported is not None:
            found |= {
                "gateway": reported.path[len(GATEWAYS)],
                "duid": reported.path[-1],
                "leases": list(addresses_of(reported).values()),
                "groups": report_of(reported)["groups"],
            }
        chain = self._chain(device)
        found["chain"] = chain
        if finish_was_lost(kept) and _mended(chain):
            found |= {STATE: BOOTSTRAPPED, "why": "Its answers to Finish were lost; it has registered since."}
        missing = self._missing(chain, device, now_ms)
        return {**found, "missing": missing}

    def _chain(self, device: Device) -> list[dict[str, object]]:
        record, reported = device.record, device.reported
        report = report_of(reported) if reported is not None else {}
        steps, ended = (_mapping(report.get(name)) for name in ("steps", "ended"))
        asked = record.attributes.get("steps") if record is not None else None
        times = {
            GIVEN: steps.get(GIVEN),
            REPORTED: reported.attributes[REPORTED_AT] if reported is not None else None,
            REQUESTED: next((each["at"] for each in asked if each["step"] == REQUESTED), None) if isinstance(asked, list) else None,
            BOOTSTRAPPED: record.attributes.get(BOOTSTRAPPED_AT) if record is not None else None,
            REGISTERED: steps.get(REGISTERED) or self._registered_at(device),
            IN_GROUPS: steps.get(IN_GROUPS),
        }
        return [{"step": step, "at": times[step], **({"ended": ended[step]} if step in ended else {})} for step in STEPS]

    def _registered_at(self, device: Device) -> str | None:
        """Since when it is registered at this node itself."""
        addresses = [address_of(device.record)] if device.record is not None else []
        addresses += addresses_of(device.reported) if device.reported is not None else []
        for address in addresses:
            known = self._registrations.at_address(address)
            resource = self._tree.find((*SCLS, known.name)) if known is not None else None
            if resource is not None:
                return rfc3339(resource.created_ms)
        return None

    def _missing(self, chain: list[dict[str, object]], device: Device, now_ms: int) -> dict[str, object] | None:
        """The first step that did not come, since the last one before it, or else the first of those that came."""
        groups = report_of(device.reported)["groups"] if device.reported is not None else None
        expected = [step for step in STEPS if step != IN_GROUPS or groups]
        if not self._of_duid:  # no gateway reports to this server
            expected = [step for step in expected if step not in (GIVEN, REPORTED)]
        times = {str(link["step"]): link["at"] for link in chain}
        missing = next((step for step in expected if times[step] is None), None)
        if missing is None:
            return None
        place = STEPS.index(missing)
        done = [at for at in (times[step] for step in reversed(STEPS[:place])) if at is not None]
        later = [at for at in (times[step] for step in STEPS[place:]) if at is not None]
        since = next(iter((*done, *later)), rfc3339(now_ms))
        waited_s = max(0, now_ms - parse_rfc3339(since, "since")) // 1000
        return {"step": missing, "since": since, "forSeconds": waited_s, "do": ADVICE[missing]}

    def _reported(self, duid: str) -> Resource | None:
        """The latest report of a device: one that moved may stand at two gateways for a while."""
        found = (self._tree.find(path) for path in self._of_duid.get(duid, ()))
        return max(filter(None, found), key=lambda each: each.version, default=None)

    def _record_of(self, reported: Resource) -> Resource | None:
        for address in addresses_of(reported):
            for name in reversed(self._records.get(address, {})):
                record = self._tree.find((*DEVICES, name))
                if record is not None:
                    return record
        return None

    def _look(self, duid: str) -> None:
        """A device that is reported is named by its DUID as long as it has no record."""
        reported = self._reported(duid)
        if reported is not None and not any(address in self._records for address in addresses_of(reported)):
            self._names[duid] = None
        elif self._tree.find((*DEVICES, duid)) is None:
            self._names.pop(duid, None)


def _mended(chain: list[dict[str, object]]) -> bool:
    """A device that registered after its request was bootstrapped, by then at the latest: the chain says so. Whether it did."""
    times = {str(link["step"]): link["at"] for link in chain}
    requested, registered = times[REQUESTED], times[REGISTERED]
    if requested is None or registered is None or parse_rfc3339(registered, REGISTERED) < parse_rfc3339(requested, REQUESTED):
        return False
    chain[STEPS.index(BOOTSTRAPPED)]["at"] = registered
    return True


def address_of(record: Resource) -> str:
    """The address that a device has asked from, without a zone, to compare addresses by."""
    return address_key(str(record.attributes["address"]).partition("%")[0])


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
