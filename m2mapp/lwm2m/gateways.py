"""What the bootstrap server keeps of gateways: `/gateways/<name>`, and `/gateways/<name>/devices/<duid>` for what each has reported. Pure.

Responsible for the shape of reports, for who may claim an address, and for what an answer to a read of object 33050 comes to. Not
responsible for where reports come from (`drivers.gateways`, `drivers.observing`), nor for what is joined with them (`joined`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from itertools import islice
from typing import Final

from m2mapp.formats.documents import parse_rfc3339, rfc3339
from m2mapp.formats.shapes import Check, Field, Shape, Wrong, integer, list_of, table_of, text
from m2mapp.lwm2m.devices import MAX_INSTANCES, RESOURCES
from m2mapp.lwm2m.steps import GIVEN, IN_GROUPS, REGISTERED, SEEN_BY_GATEWAY
from m2mapp.lwm2m.tlv import Kind, MalformedTlv, Value, decode, parse, split
from m2mapp.model.errors import Conflict, Malformed, MethodNotAllowed
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Resource, Write

GATEWAYS: Final[Path] = ("gateways",)
DEVICES_OF_GATEWAY: Final = "devices"
GATEWAY, REPORTED_DEVICE = "gateway", "reportedDevice"
MAX_GATEWAYS: Final = 1_000
MAX_REPORTED: Final = 100_000
"""So many devices are reported by all gateways together at most."""
INSTANCES_A_TURN: Final = 100
"""So many instances are read in one turn of the reactor: about 10 ms."""
_FAULTS_TOLD: Final = 5
MAX_DUID_BYTES: Final = 130
MAX_LEASES, MAX_GROUPS = 16, 256
PUSHED, READ = "push", "lwm2m"
"""How a report came: whoever pushes says more, and what is read from its object does not replace that."""
VIA, REPORTED_AT, REPORT = "via", "reportedAt", "report"
_DUID: Final = re.compile(r"(?:[0-9a-f]{2}){1,130}")


def _time(value: object) -> str | None:
    if value is None:
        return None
    try:
        return rfc3339(parse_rfc3339(value, "time"))
    except Malformed as fault:
        raise Wrong(value, fault.expected) from fault


def _address(value: object) -> str:
    try:
        address = IPv6Address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, "an IPv6 address such as fd00::d1") from error
    if address.is_multicast or address.is_unspecified or address.scope_id is not None:
        raise Wrong(value, "a unicast IPv6 address without zone")
    return str(address)


def _short(value: object) -> str | None:
    return None if value is None else text(value)


def _map_of(names: Iterable[str] | None, check: Check, most: int) -> Check:
    """A document of at most so many members, each of which the check takes; with `names`: named like these."""
    known = None if names is None else frozenset(names)

    def checked(value: object) -> dict[str, object]:
        if not isinstance(value, Mapping) or len(value) > most:
            raise Wrong(value, f"an object of at most {most} members")
        for name in value:
            if (known is not None and name not in known) or len(name) > 1024:  # noqa: PLR2004 - as `text`
                raise Wrong(name, f"one of {', '.join(sorted(known or ()))}" if known is not None else "a name of at most 1024 characters")
        return {name: check(item) for name, item in value.items()}

    return checked


_iaid = integer(0, 0xFFFFFFFF)
_LEASE = Shape(
    {
        "iaid": Field(_iaid),
        "address": Field(_address),
        "givenAt": Field(_time, None),
        "validUntil": Field(_time, None),
        "bootstrapURI": Field(_short, None),
    }
)
_REPORT = Shape(
    {
        "leases": Field(list_of(table_of(_LEASE), least=1, most=MAX_LEASES)),
        "endpoint": Field(_short, None),
        "steps": Field(_map_of(SEEN_BY_GATEWAY, _time, len(SEEN_BY_GATEWAY)), {}),
        "ended": Field(_map_of(SEEN_BY_GATEWAY, _time, len(SEEN_BY_GATEWAY)), {}),
        "groups": Field(_map_of(None, text, MAX_GROUPS), {}),
    }
)


def check_report(duid: str, given: object) -> Document:
    """A report of one device as it is kept. Raises `Malformed`, naming the field."""
    if not _DUID.fullmatch(duid):
        raise Malformed("duid", duid, "a DUID in hexadecimal digits, lower case, of 1 to 130 bytes (RFC 9915, section 11.1)")
    if not isinstance(given, Mapping):
        raise Malformed(duid, given, 'a document with leases, such as {"leases": [{"iaid": 1, "address": "fd00::d1"}]}')
    return _REPORT.check(given)


def reported_path(gateway: str, duid: str) -> Path:
    """Where what a gateway reports of a device stands."""
    return (*GATEWAYS, gateway, DEVICES_OF_GATEWAY, duid)


def report_of(resource: Resource) -> Document:
    """What a gateway has reported."""
    report = resource.attributes[REPORT]
    return report if isinstance(report, Mapping) else {}


def addresses_of(resource: Resource) -> dict[str, Mapping[str, object]]:
    """The addresses in a report, with their leases."""
    leases = report_of(resource)["leases"]
    return {str(lease["address"]): lease for lease in leases} if isinstance(leases, list | tuple) else {}


def _refuse(name: str, _: Document) -> Document:
    raise MethodNotAllowed("PUT", f"the gateway {name}", ("DELETE", "GET"))


_METHODS: Final = frozenset({Method.GET, Method.DELETE})
GATEWAY_TYPES: Final = (
    ResourceType(GATEWAY, (*GATEWAYS, "*"), _refuse, methods=_METHODS),
    ResourceType(REPORTED_DEVICE, (*GATEWAYS, "*", DEVICES_OF_GATEWAY, "*"), _refuse, methods=_METHODS),
)


class Claims:
    """Which gateway each reported address is of: derived from the tree. The first that reports it has it as long as its lease is valid."""

    def __init__(self) -> None:
        self._reports: dict[str, dict[Path, Resource]] = {}

    def changed(self, before: Resource | None, after: Resource | None) -> None:
        """A report was this and is that now."""
        if before is not None:
            for address in addresses_of(before):
                reports = self._reports[address]
                del reports[before.path]
                if not reports:
                    del self._reports[address]
        if after is not None:
            for address in addresses_of(after):
                self._reports.setdefault(address, {})[after.path] = after

    def clear(self) -> None:
        """Forget everything."""
        self._reports.clear()

    def at(self, address: str) -> Resource | None:
        """The latest report of an address."""
        return max(self._reports.get(address, {}).values(), key=lambda each: each.version, default=None)

    def check(self, gateway: str, report: Document, now_ms: int) -> None:
        """Raise `Conflict` where the report names an address that another gateway has given and that is valid still."""
        leases = report["leases"]
        for lease in leases if isinstance(leases, list | tuple) else ():
            address = str(lease["address"])
            for path, other in self._reports.get(address, {}).items():
                holder = path[len(GATEWAYS)]
                if holder != gateway and _is_valid(addresses_of(other)[address], now_ms):
                    raise Conflict(f"{address} is an address that the gateway {holder} has given, and it is valid still")


def _is_valid(lease: Mapping[str, object], now_ms: int) -> bool:
    until = lease.get("validUntil")
    return until is None or parse_rfc3339(until, "validUntil") > now_ms


def write_of(gateway: str, duid: str, report: Document, via: str, before: Resource | None, now_ms: int) -> Write | None:
    """What keeps a report; None where it is what was reported last. The time of the first report of an address stays."""
    reported_at: object = rfc3339(now_ms)
    if before is not None:
        if report_of(before) == report and before.attributes[VIA] == via:
            return None
        if addresses_of(before).keys() & {str(lease["address"]) for lease in _leases(report)}:
            reported_at = before.attributes[REPORTED_AT]
    return Write(reported_path(gateway, duid), REPORTED_DEVICE, {REPORT: report, VIA: via, REPORTED_AT: reported_at})


def _leases(report: Document) -> Iterable[Mapping[str, object]]:
    leases = report["leases"]
    return leases if isinstance(leases, list | tuple) else ()


@dataclass(frozen=True, slots=True)
class Found:
    """What is new in an answer: reports by DUID (None: gone); whether there are no others; why instances are none."""

    reports: Mapping[str, Document | None]
    whole: bool
    faults: tuple[str, ...]


class ObjectReader:
    """What one gateway's object 33050 says, answer by answer (TLV). An instance that is as before is not looked at again.

    `size` is how many bytes of answers are remembered for that.
    """

    def __init__(self) -> None:
        self.size = 0
        self._instances: dict[bytes, tuple[str, dict[str, object]]] = {}
        self._of_duid: dict[str, tuple[bytes, ...]] | None = None

    def forget(self) -> None:
        """What was read is not known any more: the next answer is read as if it were the first."""
        self._instances, self._of_duid, self.size = {}, None, 0

    def read(self, data: bytes) -> Iterator[Found | None]:
        """What is new in an answer, at the end; before that None for each part of the work, which another turn of the reactor may do.

        Raises `Malformed` for what is no TLV of the object.
        """
        instances: dict[bytes, tuple[str, dict[str, object]]] = {}
        of_duid: dict[str, tuple[bytes, ...]] = {}
        faults: list[str] = []
        for place, (number, raw) in enumerate(_raw_instances(data), 1):
            if not place % INSTANCES_A_TURN:
                yield None
            try:
                found = self._instances.get(raw) or _report_in(raw)
                instances[raw] = found
                of_duid[found[0]] = (*of_duid.get(found[0], ())[: MAX_LEASES - 1], raw)
            except (MalformedTlv, Malformed) as fault:
                faults.append(f"instance {number}: {fault}")
        before, self._instances, self._of_duid, self.size = self._of_duid, instances, of_duid, len(data)
        known = before or {}
        reports: dict[str, Document | None] = {duid: None for duid in known if duid not in of_duid}
        for duid, raws in of_duid.items():
            if known.get(duid) != raws:
                parts = [instances[raw][1] for raw in raws]
                reports[duid] = {**parts[-1], "leases": [lease for part in parts for lease in _leases(part)]}
        yield Found(reports, before is None, tuple(faults[:_FAULTS_TOLD]))


def _raw_instances(data: bytes) -> Iterable[tuple[int, bytes]]:
    try:
        entries = list(islice(split(data), MAX_INSTANCES + 1))
    except MalformedTlv as error:
        raise Malformed("body", data[:16].hex(), f"TLV ({error})") from error
    for kind, number, raw in entries:
        if kind is not Kind.OBJECT_INSTANCE:
            raise Malformed("body", kind.name, "instances of an object")
        yield number, raw


def _report_in(raw: bytes) -> tuple[str, dict[str, object]]:
    """The DUID, and the report with one lease, that an instance's resources come to; unknown resources do not count."""
    values: dict[int, Value] = {}
    for entry in parse(raw):
        if entry.identifier in RESOURCES and isinstance(entry.value, bytes):
            values[entry.identifier] = decode(entry.value, RESOURCES[entry.identifier][1])
    duid = values.get(1)
    if not isinstance(duid, bytes) or not 1 <= len(duid) <= MAX_DUID_BYTES:
        raise Malformed("1", duid, f"a DUID of 1 to {MAX_DUID_BYTES} bytes: resource 1 is mandatory")
    given_at, registered_at, in_groups_at = (_wall(values.get(number)) for number in (2, 7, 8))
    try:
        lease = {
            "iaid": _iaid(values.get(5, 0)),
            "address": _address(values.get(0)),
            "givenAt": given_at,
            "validUntil": _wall(values.get(3)),
            "bootstrapURI": _short(values.get(4)),
        }
        endpoint = _short(values.get(6))
    except Wrong as wrong:
        raise Malformed(duid.hex(), wrong.value, wrong.expected) from wrong
    steps = {name: at for name, at in ((GIVEN, given_at), (REGISTERED, registered_at), (IN_GROUPS, in_groups_at)) if at is not None}
    return duid.hex(), {"leases": [lease], "endpoint": endpoint, "steps": steps, "ended": {}, "groups": {}}


def _wall(seconds: Value | None) -> str | None:
    """A time of the object (seconds since 1970) as the tree has times. Raises `Malformed` for one that no calendar has."""
    if not isinstance(seconds, int):
        return None
    try:
        return rfc3339(seconds * 1000)
    except (OverflowError, ValueError) as error:
        raise Malformed("time", seconds, "seconds since 1970 within four-digit years") from error
