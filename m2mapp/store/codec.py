"""Documents, paths and sizes as the store writes them. The only place that knows that they are CBOR on disk."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from sys import intern

import cbor2

from m2mapp.model.errors import Malformed
from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import EMPTY, Document, Resource, Unit, Write

Row = tuple[str, str, bytes | None, bytes | None, str | None, int, int, int, int]
"""A row of the resource table, in the order of its columns."""

_UNIT_BYTES = 400
"""What a unit, or a part of it, costs in memory and on disk beside what it carries, roughly."""


class Damaged(ValueError):  # noqa: N818 - a fact, not a mistake of the program
    """What was read is not what was written."""


def encode(document: Mapping[str, object]) -> bytes:
    """A document in CBOR. Raises `ValueError`, `TypeError` or `RecursionError` where it is none."""
    return cbor2.dumps(document if type(document) is dict else dict(document))


def decode(data: bytes) -> Document:
    """The document. Raises `Damaged`."""
    try:
        document = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, RecursionError) as error:
        raise Damaged("not CBOR") from error
    if not isinstance(document, dict):
        raise Damaged("not a document")
    return document


def path_key(path: Path) -> str:
    """A path as the key of a table."""
    return "/".join(path)


def key_path(key: str) -> Path:
    """The path of a key; equal segments are one string in memory."""
    return tuple(map(intern, key.split("/"))) if key else ()


def seal(row: tuple[str, str, bytes | None, bytes | None, str | None, int, int, int]) -> int:
    """The checksum of a resource's row."""
    key, kind, attributes, content, media_type, created_ms, modified_ms, version = row
    head = f"{key}\0{kind}\0{media_type}\0{created_ms}\0{modified_ms}\0{version}\0{attributes is None}{content is None}"
    return zlib.crc32(content or b"", zlib.crc32(attributes or b"", zlib.crc32(head.encode())))


def resource_row(resource: Resource) -> Row:
    """The row of a resource."""
    attributes = encode(resource.attributes) if resource.attributes else None
    parts = (
        *(path_key(resource.path), resource.type, attributes, resource.content, resource.media_type),
        *(resource.created_ms, resource.modified_ms, resource.version),
    )
    return (*parts, seal(parts))


def row_resource(row: Row) -> Resource:
    """The resource of a row. Raises `Damaged`."""
    key, kind, attributes, content, media_type, created_ms, modified_ms, version, sealed = row
    if sealed != seal(row[:8]):
        raise Damaged(f"the row of /{key} does not match its checksum")
    return Resource(
        key_path(key),
        intern(kind),
        EMPTY if attributes is None else decode(attributes),
        content,
        None if media_type is None else intern(media_type),
        created_ms,
        created_ms if modified_ms == created_ms else modified_ms,
        version,
    )


def weigh(unit: Unit) -> int:
    """How many bytes a unit takes, roughly. Raises `Malformed` where a part could not be written and read again, so that it fails alone."""
    size = _UNIT_BYTES + _weigh_text("trace", unit.trace)
    for part in unit.changes:
        key = path_key(part.path)
        size += _UNIT_BYTES + _weigh_text("path", key)
        if isinstance(part, Write):
            size += len(part.content or b"") + _weigh_text("media type", part.media_type or "") + _weigh_text("type", part.type)
            size += _weigh_document("attributes", part.attributes) if part.attributes else 0
    for append in unit.appends:
        size += _UNIT_BYTES + _weigh_text("journal", append.journal) + _weigh_document("journal entry", append.body)
    return size if unit.record is None else size + _UNIT_BYTES


def _weigh_text(field: str, text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise Malformed(field, text, "text that can be written as UTF-8") from error


def _weigh_document(field: str, document: Document) -> int:
    try:
        data = encode(document)
        decode(data)
    except (ValueError, TypeError, RecursionError, cbor2.CBORError) as error:
        raise Malformed(field, document, f"a document that CBOR can say: {error}") from error
    return len(data)
