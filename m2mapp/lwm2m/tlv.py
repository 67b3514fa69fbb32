"""The TLV format of LwM2M (OMA TS-LightweightM2M 1.0, section 6.4.3): bytes to entries and back, and the values in them.

Responsible for the format: `parse`, `build`, and `MalformedTlv` for all that is none. Not responsible for what a number means in an
object. Written without construct: the width of each field stands in the bits of the byte before it, and that is all there is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, NamedTuple

MAX_ENTRIES: Final = 4096
"""Entries of one document, at all levels together."""
MAX_IDENTIFIER: Final = 0xFFFF
MAX_LENGTH: Final = 0xFFFFFF
_WIDE_IDENTIFIER: Final = 0x20
_LONGEST_INLINE: Final = 7


class MalformedTlv(ValueError):  # noqa: N818 - a fact, not a mistake of the program
    """These bytes are no TLV, or no value of the type that is wanted."""


class Kind(IntEnum):
    """What an entry is: bits 7 and 6 of its first byte."""

    OBJECT_INSTANCE = 0
    RESOURCE_INSTANCE = 1
    MULTIPLE_RESOURCE = 2
    RESOURCE = 3


class Type(Enum):
    """The data types (appendix C). `TIME` is seconds since 1970, `LINK` an object and one of its instances."""

    STRING = "String"
    INTEGER = "Integer"
    FLOAT = "Float"
    BOOLEAN = "Boolean"
    OPAQUE = "Opaque"
    TIME = "Time"
    LINK = "Objlnk"


class Link(NamedTuple):
    """A link to an instance of an object."""

    object: int
    instance: int


Value = str | int | float | bool | bytes | Link


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its kind, its number, and the bytes of its value, or the entries in it.

    An object instance holds resources, a multiple resource holds resource instances; the other two kinds hold bytes.
    """

    kind: Kind
    identifier: int
    value: bytes | tuple[Entry, ...]


_WITHIN: Final[dict[Kind, frozenset[Kind]]] = {
    Kind.OBJECT_INSTANCE: frozenset({Kind.RESOURCE, Kind.MULTIPLE_RESOURCE}),
    Kind.MULTIPLE_RESOURCE: frozenset({Kind.RESOURCE_INSTANCE}),
}
"""What may stand in what; anything may stand at the top."""


def parse(data: bytes) -> tuple[Entry, ...]:
    """The entries that the bytes say, to the last byte. Raises `MalformedTlv`."""
    return _parse(data, frozenset(Kind), [MAX_ENTRIES])


def split(data: bytes) -> Iterator[tuple[Kind, int, bytes]]:
    """Kind, number and bytes of each entry at the top, whatever is in it. Raises `MalformedTlv` where one is cut."""
    at = 0
    while at < len(data):
        kind, identifier, begin, end = _header(data, at)
        yield kind, identifier, data[begin:end]
        at = end


def build(entries: Iterable[Entry]) -> bytes:
    """The bytes of the entries, in the shortest form. Raises `MalformedTlv` for what no TLV can hold."""
    return b"".join(map(_build, entries))


def _parse(data: bytes, allowed: frozenset[Kind], left: list[int]) -> tuple[Entry, ...]:
    entries = []
    at = 0
    while at < len(data):
        kind, identifier, begin, end = _header(data, at)
        left[0] -= 1
        if left[0] < 0:
            raise MalformedTlv(f"more than {MAX_ENTRIES} entries")
        if kind not in allowed:
            raise MalformedTlv(f"byte {at}: {kind.name} stands where none may")
        value = data[begin:end]
        within = _WITHIN.get(kind)
        entries.append(Entry(kind, identifier, value if within is None else _parse(value, within, left)))
        at = end
    return tuple(entries)


def _header(data: bytes, at: int) -> tuple[Kind, int, int, int]:
    """Kind and number of the entry that begins there, and where its value begins and ends."""
    first = data[at]
    begin = at + 1 + (2 if first & _WIDE_IDENTIFIER else 1)
    identifier = int.from_bytes(data[at + 1 : begin], "big")
    of_length = first >> 3 & 3
    length = first & _LONGEST_INLINE if not of_length else int.from_bytes(data[begin : begin + of_length], "big")
    begin += of_length
    if begin + length > len(data):  # also where the header itself is cut: the end of it is behind the end of the data
        raise MalformedTlv(f"byte {at}: an entry of {length} bytes is cut")
    return Kind(first >> 6), identifier, begin, begin + length


def _build(entry: Entry) -> bytes:
    within = _WITHIN.get(entry.kind)
    if isinstance(entry.value, bytes) is not (within is None):
        raise MalformedTlv(f"{entry.kind.name} {entry.identifier} holds {'bytes' if within is None else 'entries'}")
    if within is None or isinstance(entry.value, bytes):
        value = entry.value if isinstance(entry.value, bytes) else b""
    elif {inner.kind for inner in entry.value} <= within:
        value = build(entry.value)
    else:
        raise MalformedTlv(f"{entry.kind.name} {entry.identifier} holds what it may not")
    if not 0 <= entry.identifier <= MAX_IDENTIFIER or len(value) > MAX_LENGTH:
        raise MalformedTlv(f"entry {entry.identifier} of {len(value)} bytes: at most {MAX_IDENTIFIER} and {MAX_LENGTH}")
    wide = entry.identifier > 0xFF  # noqa: PLR2004 - one byte
    size = b"" if len(value) <= _LONGEST_INLINE else len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    first = entry.kind << 6 | (_WIDE_IDENTIFIER if wide else 0) | len(size) << 3 | (0 if size else len(value))
    return bytes((first,)) + entry.identifier.to_bytes(2 if wide else 1, "big") + size + value


# -- values (appendix C) -----------------------------------------------------------------------------------------------------


def encode(value: Value) -> bytes:
    """The bytes of a value; whole numbers in 1, 2, 4 or 8 bytes. Raises `MalformedTlv` for one that does not fit."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Link):
        return struct.pack("!HH", *value)
    if isinstance(value, float):
        return struct.pack("!d", value)
    for width in (1, 2, 4, 8):
        if -(1 << width * 8 - 1) <= value < 1 << width * 8 - 1:
            return int(value).to_bytes(width, "big", signed=True)
    raise MalformedTlv(f"{value:#x} has more than 64 bits")


def decode(data: bytes, kind: Type) -> Value:
    """The value of that type that the bytes say. Raises `MalformedTlv`."""
    if kind is Type.OPAQUE:
        return data
    if kind is Type.STRING:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise MalformedTlv("a string that is not UTF-8") from error
    if len(data) not in _WIDTHS[kind]:
        raise MalformedTlv(f"{kind.value} of {len(data)} bytes, not of {' or '.join(map(str, _WIDTHS[kind]))}")
    if kind is Type.LINK:
        return Link(*struct.unpack("!HH", data))
    if kind is Type.FLOAT:
        number: float = struct.unpack("!f" if len(data) == 4 else "!d", data)[0]  # noqa: PLR2004 - a single
        return number
    value = int.from_bytes(data, "big", signed=True)
    if kind is not Type.BOOLEAN:
        return value
    if value not in (0, 1):
        raise MalformedTlv(f"the boolean {value}, which is neither 0 nor 1")
    return bool(value)


_WIDTHS: Final[dict[Type, tuple[int, ...]]] = {
    Type.INTEGER: (1, 2, 4, 8),
    Type.TIME: (1, 2, 4, 8),
    Type.FLOAT: (4, 8),
    Type.BOOLEAN: (1,),
    Type.LINK: (4,),
}
