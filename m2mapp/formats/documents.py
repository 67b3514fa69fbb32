"""Documents as JSON (RFC 8259) and CBOR (RFC 8949), and how content stands inside one (spec section 12).

Whatever a peer sends either becomes a value or raises `Malformed`: depth is limited, NaN, repeated keys and whole numbers of more than
64 bits are refused, and so are the tags of CBOR, some of which make a small payload large. How many bytes are taken is the edges' matter.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from io import BytesIO
from itertools import chain
from types import MappingProxyType
from typing import Never

import cbor2

from m2mapp.model.errors import Malformed, NotAcceptable, UnsupportedMediaType

JSON = "application/json"
CBOR = "application/cbor"
MERGE_PATCH = "application/merge-patch+json"
RESOURCE_JSON = "application/vnd.m2m.resource+json"
RESOURCE_CBOR = "application/vnd.m2m.resource+cbor"
RESULTS_JSON = "application/vnd.m2m.group-results+json"
RESULTS_CBOR = "application/vnd.m2m.group-results+cbor"
SENML_JSON = "application/senml+json"
SENML_CBOR = "application/senml+cbor"
NDJSON = "application/x-ndjson"
LINK_FORMAT = "application/link-format"
TEXT = "text/plain"
OCTETS = "application/octet-stream"

MAX_DEPTH = 32
LEAST_INTEGER, GREATEST_INTEGER = -(1 << 63), (1 << 64) - 1
"""Whole numbers that every part keeps exactly: 64 bits, as CBOR has them without tags (RFC 8949, 3.1)."""

_KINDS = frozenset({type(None), bool, int, float, str, bytes, list, dict})
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|\"[ !#-\[\]-~]*\"))*[ \t]*;?")
_MAX_MEDIA_TYPE = 255
MEDIA_TYPES_KNOWN = 256
"""So many media types are looked at once: the same few stand beside every content."""
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_DOCUMENT = "a document: maps with text keys, lists, text, numbers, byte strings, true, false and null"


def bare(media_type: str | None) -> str:
    """A media type without its parameters, in lower case; the empty string for none."""
    return media_type.partition(";")[0].strip().lower() if media_type else ""


@lru_cache(maxsize=MEDIA_TYPES_KNOWN)
def is_json(media_type: str | None) -> bool:
    """Whether the media type is JSON or has the +json suffix (RFC 6839)."""
    kind = bare(media_type)
    return kind == JSON or kind.endswith("+json")


@lru_cache(maxsize=MEDIA_TYPES_KNOWN)
def is_cbor(media_type: str | None) -> bool:
    """Whether the media type is CBOR or has the +cbor suffix (RFC 8949, 9.5)."""
    kind = bare(media_type)
    return kind == CBOR or kind.endswith("+cbor")


@lru_cache(maxsize=MEDIA_TYPES_KNOWN)
def is_text(media_type: str | None) -> bool:
    """Whether the media type is text that is written in UTF-8: text/*, with no other charset, or link format."""
    kind = bare(media_type)
    if not kind.startswith("text/"):
        return kind == LINK_FORMAT
    charset = _CHARSET.search(media_type or "")
    return charset is None or charset.group(1).lower() in ("utf-8", "utf8", "us-ascii")


def check_media_type(value: str, field: str = "contentType") -> str:
    """The media type, if it is one with its parameters (RFC 9110, 8.3.1), in at most 255 characters. Raises `Malformed`."""
    if len(value) > _MAX_MEDIA_TYPE or not _MEDIA_TYPE.fullmatch(value):
        raise Malformed(field, value, "a media type such as text/plain")
    return value


def load_json(payload: bytes, field: str = "body") -> object:
    """The value that JSON bytes say. Raises `Malformed`, naming `field`."""
    try:
        text = payload.decode()
        value = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(field, _start(payload), f"JSON ({error})") from error
    _check_document(value, field)
    if "\\ud" in text or "\\uD" in text:
        _check_surrogates(value, field)
    return value


def dump_json(value: object) -> bytes:
    """JSON bytes of a document; byte strings stand as `{"base64": ...}`."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_json_default, allow_nan=False).encode()


def load_cbor(payload: bytes, field: str = "body") -> object:
    """The value that CBOR bytes say, if a document can hold it. Raises `Malformed`, naming `field`."""
    value = _decoded(payload, field)
    _check_document(value, field)
    return value


def load_labelled(payload: bytes, labels: Mapping[int, str], field: str = "body") -> object:
    """As `load_cbor`, for a list of maps whose keys may be numbers, as SenML has them: each stands for the name in `labels`.

    A number that is none of these becomes its text, unless that is a name in the same map. Raises `Malformed`, naming `field`.
    """
    value = _decoded(payload, field, text_keys=False)
    if isinstance(value, list):
        value = [_labelled(item, labels, field) if isinstance(item, dict) else item for item in value]
    _check_document(value, field)
    return value


def _labelled(item: dict[object, object], labels: Mapping[int, str], field: str) -> dict[object, object]:
    named = {(labels.get(key, str(key)) if type(key) is int else key): value for key, value in item.items()}
    if len(named) != len(item):
        raise Malformed(field, next(iter(item)), "a map that has each label once, as a number or as text")
    return named


def _decoded(payload: bytes, field: str, *, text_keys: bool = True) -> object:
    """What one CBOR item says, which may be more than a document can hold."""
    stream = BytesIO(payload)
    try:
        value = cbor2.CBORDecoder(
            stream,
            semantic_decoders=_NO_TAGS,
            max_depth=MAX_DEPTH + 1,
            allow_duplicate_keys=False,
            strict_hashable_types=text_keys,
        ).decode()
    except (cbor2.CBORDecodeError, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise Malformed(field, payload[:16].hex(), f"CBOR ({_reason(error)})") from error
    if stream.tell() != len(payload):
        raise Malformed(field, payload[:16].hex(), "one CBOR item and nothing after it")
    found: object = value
    return found


def dump_cbor(value: object) -> bytes:
    """CBOR bytes of a document."""
    return cbor2.dumps(value, default=_cbor_default)


def load_document(payload: bytes, media_type: str | None, field: str = "body") -> dict[str, object]:
    """The document in a payload, JSON or CBOR by its media type. Raises `UnsupportedMediaType` or `Malformed`."""
    if is_json(media_type):
        value = load_json(payload, field)
    elif is_cbor(media_type):
        value = load_cbor(payload, field)
    else:
        raise UnsupportedMediaType(media_type, (JSON, CBOR))
    if not isinstance(value, dict):
        raise Malformed(field, _start(payload), "an object with named members")
    return value


def choose(accept: tuple[str, ...], offered: tuple[str, ...]) -> str:
    """The media type to answer with: the first accepted of those offered, or the first offered where any will do.

    Parameters of media types do not count. Raises `NotAcceptable`.
    """
    if not accept:
        return offered[0]
    for wanted in accept:
        kind = bare(wanted)
        for media_type in offered:
            offer = bare(media_type)
            if kind in (offer, "*/*") or (kind.endswith("/*") and offer.startswith(kind[:-1])):
                return media_type
    raise NotAcceptable(offered)


def content_value(content: bytes, media_type: str | None) -> object:
    """Content as it stands inside a document: text as a string, JSON and CBOR as what they say, other bytes as base64."""
    try:
        if is_json(media_type):
            return load_json(content)
        if is_cbor(media_type):
            return load_cbor(content)
        if is_text(media_type):
            return content.decode()
    except (Malformed, UnicodeDecodeError):
        pass  # It is not what its media type says: then it is bytes.
    return {"base64": base64.b64encode(content).decode()}


def content_bytes(value: object, media_type: str | None, field: str = "content") -> tuple[bytes, str]:
    """The bytes and media type of content that stands inside a document; the inverse of `content_value`. Raises `Malformed`.

    Without a media type, text is text/plain, `{"base64": ...}` is octets and anything else is JSON. With that of JSON or CBOR
    the value is always what they say, never base64.
    """
    structured = is_json(media_type) or is_cbor(media_type)
    if isinstance(value, dict) and set(value) == {"base64"} and not structured:
        return _from_base64(value["base64"], field + ".base64"), media_type or OCTETS
    if isinstance(value, bytes) and not structured:
        return value, media_type or OCTETS
    if isinstance(value, str) and not structured:
        return value.encode(), media_type or TEXT
    if media_type is None or is_json(media_type):
        return dump_json(value), media_type or JSON
    if is_cbor(media_type):
        return dump_cbor(value), media_type
    raise Malformed(field, value, f"a string or base64, as {bare(media_type)} has it")


def rfc3339(at_ms: int) -> str:
    """Wall-clock milliseconds as RFC 3339 in UTC, with `Z`."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03}Z"


@lru_cache(maxsize=64)
def _second(at_s: int) -> str:
    """Times come many of a second together."""
    return (_EPOCH + timedelta(seconds=at_s)).isoformat(timespec="seconds").replace("+00:00", "")


def parse_rfc3339(text: object, field: str) -> int:
    """Milliseconds since 1970 UTC of an RFC 3339 time. Raises `Malformed`, naming `field`."""
    expected = "a time such as 2027-01-01T00:00:00Z"
    if not isinstance(text, str) or not _RFC3339.fullmatch(text):
        raise Malformed(field, text, expected)
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise Malformed(field, text, expected) from error
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return document


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _no_tag(*_: object) -> Never:
    raise ValueError("a document has no tags")


# The tags that cbor2 knows; what it does not know comes back as a tag, which no document holds.
_NO_TAGS = dict.fromkeys((*range(6), 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799), _no_tag)


def _reason(error: Exception) -> str:
    return str(error.__cause__ or error)


def _check_document(value: object, field: str) -> None:
    """Check level by level, each in a few passes: item by item, a payload of a megabyte would stop the reactor for half a second."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        kinds = set(map(type, level))
        if not kinds <= _KINDS:
            raise Malformed(field, next(item for item in level if type(item) not in _KINDS), _NO_DOCUMENT)
        _check_numbers(level, kinds, field)
        below: list[object] = []
        if list in kinds:
            below.extend(chain.from_iterable(item for item in level if type(item) is list))
        if dict in kinds:
            maps = [item for item in level if type(item) is dict]
            if set(map(type, chain.from_iterable(maps))) - {str}:
                raise Malformed(field, next(key for key in chain.from_iterable(maps) if not isinstance(key, str)), _NO_DOCUMENT)
            below.extend(chain.from_iterable(item.values() for item in maps))
        if not below:
            return
        level = below
    raise Malformed(field, "...", f"a document of at most {MAX_DEPTH} levels")


def _check_numbers(level: list[object], kinds: set[type], field: str) -> None:
    if int in kinds:
        whole = [item for item in level if type(item) is int]
        for extreme in (min(whole), max(whole)):
            if not LEAST_INTEGER <= extreme <= GREATEST_INTEGER:
                raise Malformed(field, hex(extreme), "a whole number of at most 64 bits")
    if float in kinds:
        for item in level:
            if type(item) is float and not math.isfinite(item):
                raise Malformed(field, item, "a finite number")


def _check_surrogates(value: object, field: str) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = str(error.object)[error.start : error.end]
        raise Malformed(field, found, "text that can be written as UTF-8 (a lone surrogate cannot)") from error


def _from_base64(value: object, field: str) -> bytes:
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except ValueError:
        pass  # The message of binascii speaks of its own insides.
    raise Malformed(field, value, "base64 (RFC 4648)")


def _json_default(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(f"a document cannot hold {type(value).__name__}")


def _cbor_default(_: cbor2.CBOREncoder, value: object) -> Never:
    raise TypeError(f"a document cannot hold {type(value).__name__}")


def _start(payload: bytes) -> str:
    return payload[:64].decode(errors="replace")
