"""Sensor Measurement Lists (RFC 8428) as JSON and CBOR: a pack of bytes to resolved records, and records to a pack.

Responsible for the labels, for base values, and for refusing what is no pack, naming the record and the field. Not responsible for what
the names mean. Decimal fractions (CBOR tag 4), XML, EXI and streams (SensML) are not taken.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from m2mapp.formats.documents import MEDIA_TYPES_KNOWN, SENML_CBOR, SENML_JSON, bare, dump_cbor, dump_json, load_json, load_labelled
from m2mapp.model.errors import Malformed, UnsupportedMediaType

VERSION = 10
"""The version of RFC 8428, section 4.1: what a pack has that says nothing; a higher one is refused."""
ABSOLUTE_S = 1 << 28
"""A time of at least so many seconds is absolute, since 1970 UTC; a smaller one counts from now (RFC 8428, section 4.5.3)."""
LABELS: Mapping[int, str] = {
    -6: "bs",
    -5: "bv",
    -4: "bu",
    -3: "bt",
    -2: "bn",
    -1: "bver",
    0: "n",
    1: "u",
    2: "v",
    3: "vs",
    4: "vb",
    5: "s",
    6: "t",
    7: "ut",
    8: "vd",
}
"""The labels of CBOR (RFC 8428, section 6, table 4)."""

Value = int | float | str | bool | bytes

_NUMBER_OF = {name: number for number, name in LABELS.items()}
_VALUES = ("v", "vs", "vb", "vd")
_NAME = re.compile(r"[A-Za-z0-9/][A-Za-z0-9\-:./_]*")
"""Names that begin with a slash are taken besides those of RFC 8428: LwM2M writes the paths of its objects so."""
_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9\-:./_]")
_NAME_SAYS = "a name of letters, digits and - : . / _ that begins with a letter, digit or / (RFC 8428, section 4.5.1)"
_MAX_NAME = 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One resolved record (RFC 8428, section 4.6): its whole name and what was measured. It has a value, a sum, or both.

    `time_s`: as `ABSOLUTE_S` says; 0 is now. `update_s`: within so many seconds there will be a newer one.
    """

    name: str
    value: Value | None = None
    unit: str | None = None
    time_s: int | float = 0
    sum: int | float | None = None
    update_s: int | float | None = None

    @property
    def number(self) -> int | float | None:
        """The value, where that is a number."""
        return self.value if isinstance(self.value, int | float) and not isinstance(self.value, bool) else None

    def at_ms(self, now_ms: int) -> int:
        """Wall-clock milliseconds of the measurement, for one that was received at `now_ms`."""
        at = round(self.time_s * 1000)
        return at if self.time_s >= ABSOLUTE_S else now_ms + at


@lru_cache(maxsize=MEDIA_TYPES_KNOWN)
def is_senml(media_type: str | None) -> bool:
    """Whether the media type is a pack that is read here."""
    return bare(media_type) in (SENML_JSON, SENML_CBOR)


def name_of(text: str) -> str:
    """A text as a name can hold it: brackets of addresses are left out, any other character that a name cannot have is `_`."""
    clean = _NOT_OF_A_NAME.sub("_", text.replace("[", "").replace("]", ""))
    return clean if _NAME.fullmatch(clean) else f"x{clean}"


def parse(payload: bytes, media_type: str | None, field: str = "body") -> tuple[Record, ...]:
    """The resolved records of a pack, in its order. Raises `Malformed`, naming record and field, or `UnsupportedMediaType`."""
    kind = bare(media_type)
    if kind not in (SENML_JSON, SENML_CBOR):
        raise UnsupportedMediaType(media_type, (SENML_JSON, SENML_CBOR))
    pack = load_json(payload, field) if kind == SENML_JSON else load_labelled(payload, LABELS, field)
    if not isinstance(pack, list) or not pack:
        raise Malformed(field, pack, "a SenML pack: a list of at least one record")
    base: dict[str, object] = {}
    records = []
    for index, item in enumerate(pack):
        if not isinstance(item, dict):
            raise Malformed(f"{field}[{index}]", item, "a SenML record: an object with fields such as n and v")
        records.append(_resolved(item, base, f"{field}[{index}]"))
    return tuple(records)


def build(records: Iterable[Record], media_type: str, base_name: str = "") -> bytes:
    """The pack of the records, of which there is at least one; all names begin with `base_name`, which is written once.

    Raises `Malformed` for a record that no pack can hold, `UnsupportedMediaType`.
    """
    kind = bare(media_type)
    if kind not in (SENML_JSON, SENML_CBOR):
        raise UnsupportedMediaType(media_type, (SENML_JSON, SENML_CBOR))
    pack = [_fields(record, base_name, f"record[{index}]", text=kind == SENML_JSON) for index, record in enumerate(records)]
    if not pack:
        raise Malformed("records", "none", "at least one record")
    if base_name:
        pack[0] = {"bn": base_name, **pack[0]}
    if kind == SENML_JSON:
        return dump_json(pack)
    return dump_cbor([{_NUMBER_OF[name]: value for name, value in item.items()} for item in pack])


def _resolved(item: Mapping[str, object], base: dict[str, object], where: str) -> Record:
    """One record with the base values that hold for it; those that it sets hold for those after it (RFC 8428, section 4.6)."""
    _check_fields(item, where)
    base.update({name: item[name] for name in ("bn", "bt", "bu", "bv", "bs") if name in item})
    name = f"{base.get('bn', '')}{item.get('n', '')}"
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise Malformed(f"{where}.n", name, _NAME_SAYS)
    unit = item.get("u", base.get("bu"))
    update = item.get("ut")
    return Record(
        name,
        _value(item, base, where),
        str(unit) if unit is not None else None,
        _total(base.get("bt", 0), item.get("t", 0), f"{where}.t"),
        _total(base.get("bs", 0), item.get("s", 0), f"{where}.s") if "s" in item or "bs" in item else None,
        None if update is None else _number(update),
    )


def _value(item: Mapping[str, object], base: Mapping[str, object], where: str) -> Value | None:
    given = [name for name in _VALUES if name in item]
    if len(given) > 1:
        raise Malformed(where, ", ".join(given), "a record with one value (RFC 8428, section 4.2)")
    if not given:
        if "bv" in item:
            return _number(item["bv"])
        if "s" in item or "bs" in item:
            return None
        raise Malformed(where, ", ".join(item) or "an empty record", "a record with one of v, vs, vb, vd or s")
    value = item[given[0]]
    if given[0] == "v":
        return _total(base.get("bv", 0), value, f"{where}.v")
    if given[0] == "vd" and isinstance(value, str):
        return _data(value, f"{where}.vd")
    return value if isinstance(value, str | bool | bytes) else None


def _check_fields(item: Mapping[str, object], where: str) -> None:
    """Every known field has a value of its sort; one whose name ends with `_` has to be understood (RFC 8428, section 4.4)."""
    for name, value in item.items():
        expected = _EXPECTED.get(name)
        if expected is None:
            if name.endswith("_"):
                raise Malformed(f"{where}.{name}", value, "a field that is known here: its name says that it must be understood")
        elif isinstance(value, bool) is not (name == "vb") or not isinstance(value, expected[0]):
            raise Malformed(f"{where}.{name}", value, expected[1])
    version = item.get("bver", VERSION)
    if isinstance(version, int) and not 0 < version <= VERSION:
        raise Malformed(f"{where}.bver", version, f"a version from 1 to {VERSION}")


_EXPECTED: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(("bt", "bv", "bs", "v", "s", "t", "ut"), ((int, float), "a number")),
    **dict.fromkeys(("bn", "bu", "n", "u", "vs"), (str, "text")),
    "bver": (int, "a whole number"),
    "vb": (bool, "true or false"),
    "vd": ((str, bytes), "data: base64url in JSON, a byte string in CBOR"),
}


def _total(base: object, value: object, where: str) -> int | float:
    total = _number(base) + _number(value)
    if not math.isfinite(total):
        raise Malformed(where, total, "a number that, with its base value, a 64-bit float can hold")
    return total


def _number(value: object) -> int | float:
    return value if isinstance(value, int | float) else 0


def _data(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(where, text, "base64url without padding (RFC 8428, section 5)") from error


def _fields(record: Record, base_name: str, where: str, *, text: bool) -> dict[str, object]:
    """The fields of one record, with what is not the default."""
    if len(record.name) > _MAX_NAME or not _NAME.fullmatch(record.name) or not record.name.startswith(base_name):
        raise Malformed(f"{where}.n", record.name, f"{_NAME_SAYS}, beginning with {base_name!r}")
    if record.value is None and record.sum is None:
        raise Malformed(where, record.name, "a record with a value or a sum")
    fields: dict[str, object] = {"n": record.name[len(base_name) :]} if record.name != base_name else {}
    if record.unit is not None:
        fields["u"] = record.unit
    value = record.value
    if isinstance(value, bool):
        fields["vb"] = value
    elif isinstance(value, int | float):
        fields["v"] = value
    elif isinstance(value, str):
        fields["vs"] = value
    elif value is not None:
        fields["vd"] = base64.urlsafe_b64encode(value).decode().rstrip("=") if text else value
    fields |= {"s": record.sum} if record.sum is not None else {}
    fields |= {"t": record.time_s} if record.time_s else {}
    fields |= {"ut": record.update_s} if record.update_s is not None else {}
    return fields
