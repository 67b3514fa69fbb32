"""Payloads that a bootstrap server writes, as instances of the objects Security (0) and Server (1): TLV, SenML JSON, SenML CBOR.

Pure (OMA TS-LightweightM2M-Core 1.1, section 7.4 and appendix E). The other direction is `objects`. Responsible for the types of the
resources; what is not known here is passed over, as a client does with resources that it does not have. Not responsible for what is done
with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from m2mapp.formats import senml
from m2mapp.formats.documents import bare
from m2mapp.lwm2m.accounts import SECURITY, SERVER
from m2mapp.lwm2m.objects import FORMATS, TLV, Instance
from m2mapp.lwm2m.tlv import Entry, Kind, MalformedTlv, Type, decode, parse
from m2mapp.model.errors import Malformed, UnsupportedMediaType

MAX_NUMBER: Final = 65_534
"""The highest number of an instance: 65535 is reserved (section 7.1)."""
RESOURCES: Final[Mapping[int, Mapping[int, Type]]] = {
    SECURITY: {
        0: Type.STRING,
        1: Type.BOOLEAN,
        2: Type.INTEGER,
        3: Type.OPAQUE,
        4: Type.OPAQUE,
        5: Type.OPAQUE,
        10: Type.INTEGER,
        11: Type.INTEGER,
    },
    SERVER: {0: Type.INTEGER, 1: Type.INTEGER, 6: Type.BOOLEAN, 7: Type.STRING},
}
"""The resources that count here, by object and number, with their types (appendices E.1 and E.2)."""
_NATIVE: Final[Mapping[Type, type]] = {Type.STRING: str, Type.BOOLEAN: bool, Type.INTEGER: int, Type.OPAQUE: bytes}

Value = str | int | bool | bytes


def instances_in(payload: bytes, media_type: str | None, number: int, instance: int | None = None) -> tuple[Instance, ...]:
    """The instances that a write to an object, or to one of its instances, has. Raises `Malformed` or `UnsupportedMediaType`."""
    kind = bare(media_type)
    if kind not in FORMATS.values():
        raise UnsupportedMediaType(media_type, tuple(FORMATS.values()))
    found = _of_tlv(payload, number, instance) if kind == TLV else _of_senml(payload, kind, number, instance)
    return tuple(Instance(number, each, resources) for each, resources in sorted(found.items()))


def _of_tlv(payload: bytes, number: int, instance: int | None) -> dict[int, dict[int, Value]]:
    try:
        entries = parse(payload)
        alone = [entry for entry in entries if entry.kind is not Kind.OBJECT_INSTANCE]
        if instance is not None and alone:
            return {instance: _resources(entries, number)}
        found = {entry.identifier: _resources(_within(entry), number) for entry in entries if entry not in alone}
    except MalformedTlv as error:
        raise Malformed("body", str(error), f"TLV of the object {number}") from error
    if alone or set(found) - {instance if instance is not None else each for each in found} or max(found, default=0) > MAX_NUMBER:
        raise Malformed("body", f"instances {sorted(found)}", f"instances of the object {number}, as the path says")
    return found


def _within(entry: Entry) -> tuple[Entry, ...]:
    return entry.value if isinstance(entry.value, tuple) else ()


def _resources(entries: Iterable[Entry], number: int) -> dict[int, Value]:
    known = RESOURCES[number]
    found: dict[int, Value] = {}
    for entry in entries:
        kind = known.get(entry.identifier)
        if kind is not None and entry.kind is Kind.RESOURCE and isinstance(entry.value, bytes):
            value = decode(entry.value, kind)
            if isinstance(value, str | int | bool | bytes):
                found[entry.identifier] = value
    return found


def _of_senml(payload: bytes, media_type: str, number: int, instance: int | None) -> dict[int, dict[int, Value]]:
    found: dict[int, dict[int, Value]] = {}
    for record in senml.parse(payload, media_type):
        parts = record.name.strip("/").split("/")
        if not all(part.isascii() and part.isdecimal() and len(part) <= 5 for part in parts):  # noqa: PLR2004 - 65534 at most
            raise Malformed("body", record.name, "names such as /0/1/0")
        place = [int(part) for part in parts]
        if len(place) < 3 or place[0] != number or place[1] != (place[1] if instance is None else instance):  # noqa: PLR2004 - a resource
            raise Malformed("body", record.name, f"the name of a resource of {_place(number, instance)}")
        resources = found.setdefault(place[1], {})
        kind = RESOURCES[number].get(place[2])
        if kind is not None and len(place) == 3:  # noqa: PLR2004 - no instance of a resource: none here has any
            resources[place[2]] = _typed(record, kind)
    if max(found) > MAX_NUMBER:
        raise Malformed("body", max(found), f"an instance from 0 to {MAX_NUMBER}")
    return found


def _typed(record: senml.Record, kind: Type) -> Value:
    value = record.value
    if kind is Type.INTEGER and isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = isinstance(value, _NATIVE[kind]) and isinstance(value, bool) is (kind is Type.BOOLEAN)
    if value is None or isinstance(value, float) or not fits:
        raise Malformed(record.name, value, f"a value of the type {kind.value}")
    return value


def _place(number: int, instance: int | None) -> str:
    return f"/{number}" if instance is None else f"/{number}/{instance}"
