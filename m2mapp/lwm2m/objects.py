"""Instances of LwM2M objects as payloads: TLV, SenML JSON and SenML CBOR (OMA TS-LightweightM2M-Core 1.1, section 7.4).

Responsible for the content formats and which of them a client is written to in. Not responsible for which instances there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from m2mapp.formats import senml
from m2mapp.formats.documents import SENML_CBOR, SENML_JSON, dump_cbor, dump_json
from m2mapp.lwm2m.tlv import Entry, Kind, build, encode
from m2mapp.model.errors import Malformed

TLV: Final = "application/vnd.oma.lwm2m+tlv"
FORMATS: Final[Mapping[int, str]] = {11542: TLV, 110: SENML_JSON, 112: SENML_CBOR}
"""The content formats that clients are written to in, by number: the first is what a client of LwM2M 1.0 has."""
_LARGEST_FORMAT: Final = 0xFFFF

Resources = Mapping[int, str | int | bool | bytes | Mapping[int, int]]
"""The resources of one instance, by number, in the order in which they are written. A mapping: a multiple resource, by its instances."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of an object, with its resources."""

    object: int
    number: int
    resources: Resources

    @property
    def path(self) -> str:
        """Its path: `/0/1`."""
        return f"/{self.object}/{self.number}"


def formats(preferred: str | None) -> tuple[str, ...]:
    """The media types to write in, those that are tried first first, by what a client says in `pct` (1.1, section 6.1.7.1).

    It is the number of a Content-Format. A client that says nothing is one of 1.0: TLV. One that names a format that is not known here
    is tried with the others. Raises `Malformed` for what is no number.
    """
    if preferred is None:
        return tuple(FORMATS.values())
    if not (preferred.isascii() and preferred.isdecimal()) or int(preferred[:6]) > _LARGEST_FORMAT:
        raise Malformed("pct", preferred, "the number of a Content-Format, such as 11542, 110 or 112")
    first = FORMATS.get(int(preferred))
    return tuple(FORMATS.values()) if first is None else (first, *(other for other in FORMATS.values() if other != first))


def payload(instance: Instance, media_type: str) -> bytes:
    """The payload that writes an instance, or that a read of it gives, in one of `FORMATS`."""
    if media_type == TLV:
        return build(_entries(instance))
    return senml.build(_records(instance), media_type, instance.path + "/")


def payload_of_object(instances: Iterable[Instance], media_type: str) -> bytes:
    """What a read of a whole object gives, in one of `FORMATS`; also where it has no instances, of which RFC 8428 has no pack."""
    found = tuple(instances)
    if media_type == TLV:
        return build(Entry(Kind.OBJECT_INSTANCE, instance.number, _entries(instance)) for instance in found)
    if not found:
        return dump_json([]) if media_type == SENML_JSON else dump_cbor([])
    return pack(found, media_type)


def pack(instances: Iterable[Instance], media_type: str) -> bytes:
    """One SenML pack of several instances, as a Bootstrap-Pack is (OMA TS-LightweightM2M-Core 1.2, section 6.1.6)."""
    return senml.build((record for instance in instances for record in _records(instance)), media_type)


def _entries(instance: Instance) -> tuple[Entry, ...]:
    return tuple(_entry(number, value) for number, value in instance.resources.items())


def _entry(number: int, value: str | int | bool | bytes | Mapping[int, int]) -> Entry:
    if not isinstance(value, Mapping):
        return Entry(Kind.RESOURCE, number, encode(value))
    return Entry(Kind.MULTIPLE_RESOURCE, number, tuple(Entry(Kind.RESOURCE_INSTANCE, one, encode(each)) for one, each in value.items()))


def _records(instance: Instance) -> Iterable[senml.Record]:
    for number, value in instance.resources.items():
        if isinstance(value, Mapping):
            yield from (senml.Record(f"{instance.path}/{number}/{one}", each) for one, each in value.items())
        else:
            yield senml.Record(f"{instance.path}/{number}", value)
