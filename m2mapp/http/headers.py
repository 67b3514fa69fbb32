"""What stands in a request's target and header fields, as values: strict, bounded, pure.

Every fault is `Malformed` or `TooLarge` and names the field. Not responsible for what the values mean to a resource.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from m2mapp.formats.uris import decoded
from m2mapp.model.errors import Malformed, TooLarge
from m2mapp.model.identifiers import REQUEST_ID_BYTES, Path, new_trace
from m2mapp.model.messages import ANY_ETAG
from m2mapp.tree.paths import MAX_PATH_BYTES, check_path

Fields = Mapping[bytes, bytes]
"""Header fields by name as twisted.web writes it (`M2m-Cause`), several of one name joined by a comma (RFC 9110, 5.3)."""

MAX_QUERY_BYTES, MAX_PAIRS = 4096, 64
MAX_CAUSES, MAX_CAUSE_CHARACTERS = 16, 255
MAX_RANGES, MAX_TAGS = 32, 32
MAX_DEADLINE_S = 86_400.0
NO_ETAG = bytes(9)
"""Stands for an entity tag that is none of ours: longer than any, so that it never matches."""

_CACHED_BYTES = 256
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, 5.6.2
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})((?:[ \t]*+;[ \t]*+(?:{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))?)*)")
"""White space is taken possessively: no text makes the match try more than one way."""
_PARAMETER = re.compile(rf"({_TOKEN})=({_TOKEN}|{_QUOTED})")
_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_ENTITY_TAG = re.compile(rb'[ \t]*(W/)?"([!#-~\x80-\xff]*)"[ \t]*(?:,|\Z)')
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_REQUEST_ID = re.compile(rb"[0-9A-Fa-f]{%d}" % (2 * REQUEST_ID_BYTES))
_SECONDS = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """The path and the query, still encoded, of a request target in origin or absolute form (RFC 9112, 3.2). Raises `Malformed`."""
    if not target.startswith(b"/"):
        scheme, separator, rest = target.partition(b"://")
        if scheme.lower() not in (b"http", b"https") or not separator:
            raise Malformed("path", _text(target), "a path that begins with '/'")
        slash, mark = rest.find(b"/"), rest.find(b"?")
        target = rest[slash:] if slash >= 0 and (mark < 0 or slash < mark) else b"/" + (rest[mark:] if mark >= 0 else b"")
    path, _, query = target.partition(b"?")
    return path, query


def parse_path(raw: bytes) -> Path:
    """The decoded path. Raises `Malformed` or `TooLarge`, naming `path`."""
    return _short_path(raw) if len(raw) <= _CACHED_BYTES else _decode_path(raw)


def parse_query(raw: bytes) -> tuple[tuple[str, str], ...]:
    """The decoded pairs in their order; a bare key has an empty value, `+` is itself (RFC 3986). Raises `Malformed` or `TooLarge`."""
    if not raw:
        return ()
    if len(raw) > MAX_QUERY_BYTES:
        raise TooLarge("query", MAX_QUERY_BYTES)
    pieces = [piece for piece in raw.split(b"&") if piece]
    if len(pieces) > MAX_PAIRS:
        raise TooLarge("query", MAX_PAIRS, "pairs")
    pairs = []
    for piece in pieces:
        key, _, value = piece.partition(b"=")
        if not key:
            raise Malformed("query", _text(piece), "a pair of key and value")
        pairs.append((_decode(key, "query"), _decode(value, "query")))
    return tuple(pairs)


def parse_media_type(raw: bytes | None, field: str = "Content-Type") -> str | None:
    """A media type as it is kept: type, subtype, parameter names and charset in lower case (RFC 9110, 8.3.1). Raises `Malformed`."""
    return None if raw is None else _media_type(raw[:_CACHED_BYTES], field)


def parse_accept(raw: bytes | None) -> tuple[str, ...]:
    """The media ranges of `Accept`, the preferred first; empty where any will do (RFC 9110, 12.5.1). Raises `Malformed`, `TooLarge`.

    Ranges of weight 0 are left out; where nothing is left, nothing is acceptable and the range stays that no type is in.
    """
    if raw is None or raw == b"*/*":
        return ()
    return _short_accept(raw) if len(raw) <= _CACHED_BYTES else _accept(raw)


def parse_if_match(raw: bytes | None) -> tuple[bytes, ...]:
    """The tags of `If-Match`; weak ones match nothing (RFC 9110, 13.1.1). Raises `Malformed` or `TooLarge`."""
    return _entity_tags(raw, "If-Match", weak_match=False)


def parse_if_none_match(raw: bytes | None) -> tuple[bytes, ...]:
    """The tags of `If-None-Match`, weak ones like strong ones (RFC 9110, 13.1.2). Raises `Malformed` or `TooLarge`."""
    return _entity_tags(raw, "If-None-Match", weak_match=True)


def trace_of(traceparent: bytes | None) -> str:
    """The trace id of a valid `traceparent` (W3C Trace Context, 3.2), else a new one: an invalid one is ignored, as it says there."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[4]):
        return new_trace()
    if not match[2].strip(b"0") or not match[3].strip(b"0"):
        return new_trace()
    return match[2].decode()


def parse_request_id(raw: bytes | None, field: str = "M2M-Request-Id") -> bytes | None:
    """The request identifier of `M2M-Request-Id`: 16 hexadecimal digits, once (spec section 6); `M2M-Requester` too. Raises `Malformed`."""
    if raw is None:
        return None
    if not _REQUEST_ID.fullmatch(raw):
        raise Malformed(field, _text(raw), f"{2 * REQUEST_ID_BYTES} hexadecimal digits")
    return bytes.fromhex(raw.decode())


def parse_cause(raw: bytes | None) -> tuple[str, ...]:
    """The operations of `M2M-Cause`, comma-separated, at most 16 (spec section 6). Raises `Malformed` or `TooLarge`."""
    if raw is None:
        return ()
    causes = [piece.strip(b" \t") for piece in raw.split(b",", MAX_CAUSES + 1)]
    causes = [cause for cause in causes if cause]
    if len(causes) > MAX_CAUSES:
        raise TooLarge("M2M-Cause", MAX_CAUSES, "operations")
    for cause in causes:
        if len(cause) > MAX_CAUSE_CHARACTERS or not cause.isascii() or not cause.decode("ascii").isprintable():
            raise Malformed("M2M-Cause", _text(cause), f"an operation's URI of at most {MAX_CAUSE_CHARACTERS} characters")
    return tuple(cause.decode("ascii") for cause in causes)


def parse_deadline(raw: bytes | None) -> float | None:
    """The seconds of `M2M-Deadline` (spec section 4), at most a day. Raises `Malformed`."""
    if raw is None:
        return None
    if not _SECONDS.fullmatch(raw) or (seconds := float(raw)) > MAX_DEADLINE_S:
        raise Malformed("M2M-Deadline", _text(raw), f"seconds from 0 to {MAX_DEADLINE_S:g}, such as 2.5")
    return seconds


def _text(raw: bytes) -> str:
    return raw[:128].decode("utf-8", "replace")


def _decode(raw: bytes, field: str) -> str:
    if b"%" not in raw and raw.isascii():
        return raw.decode("ascii")
    if not raw.isascii():
        raise Malformed(field, _text(raw), "ASCII: other characters are percent-encoded UTF-8 (RFC 3986)")
    if _BAD_PERCENT.search(raw):
        raise Malformed(field, _text(raw), "percent-encoded: two hexadecimal digits after '%'")
    text = decoded(raw.decode("ascii"), field, _text(raw))
    if any(character < " " for character in text):
        raise Malformed(field, _text(raw), "text without control characters")
    return text


def _decode_path(raw: bytes) -> Path:
    if raw == b"/":
        return ()
    if not raw.startswith(b"/"):
        raise Malformed("path", _text(raw), "a path that begins with '/'")
    if b"#" in raw:
        raise Malformed("path", _text(raw), "a path without a fragment")
    if len(raw) > 3 * MAX_PATH_BYTES:
        raise TooLarge("path", MAX_PATH_BYTES, "characters a path")
    return check_path(tuple(_decode(piece, "path") for piece in raw[1:].split(b"/")))


_short_path = lru_cache(maxsize=2048)(_decode_path)


@lru_cache(maxsize=256)
def _media_type(raw: bytes, field: str) -> str:
    match = _MEDIA_TYPE.fullmatch(raw.decode("latin-1"))
    if match is None or "*" in match[1] or len(raw) == _CACHED_BYTES:
        raise Malformed(field, _text(raw), f"a media type such as text/plain, of less than {_CACHED_BYTES} characters")
    parts = [match[1].lower()]
    for name, value in _PARAMETER.findall(match[2]):
        parts.append(f"{name.lower()}={value.lower() if name.lower() == 'charset' else value}")
    return ";".join(parts)


def _accept(raw: bytes) -> tuple[str, ...]:
    text = raw.decode("latin-1")
    pieces = [piece.strip(" \t") for piece in text.split(",", MAX_RANGES)]
    if len(pieces) > MAX_RANGES:
        raise TooLarge("Accept", MAX_RANGES, "media ranges")
    weighed = [_range(piece) for piece in pieces if piece]
    # Python's sort is stable: what weighs the same stays in the client's order.
    wanted = [kind for weight, kind in sorted(weighed, key=lambda pair: -pair[0]) if weight > 0]
    if wanted and wanted[0] == "*/*":
        return ()
    return tuple(wanted) if wanted or not weighed else ("nothing/acceptable",)


_short_accept = lru_cache(maxsize=256)(_accept)


def _range(piece: str) -> tuple[float, str]:
    match = _MEDIA_TYPE.fullmatch(piece)
    if match is None:
        raise Malformed("Accept", piece, "a list of media ranges such as application/json, text/*;q=0.5")
    weight, kept = 1.0, [match[1].lower()]
    for name, value in _PARAMETER.findall(match[2]):
        if name.lower() != "q":
            kept.append(f"{name.lower()}={value.lower() if name.lower() == 'charset' else value}")
        elif _WEIGHT.fullmatch(value):
            weight = float(value)
        else:
            raise Malformed("Accept", piece, "a media range whose q is from 0 to 1, with at most three decimals")
    return weight, ";".join(kept)


def _entity_tags(raw: bytes | None, field: str, *, weak_match: bool) -> tuple[bytes, ...]:
    if raw is None:
        return ()
    if raw.strip(b" \t") == b"*":
        return (ANY_ETAG,)
    tags: list[bytes] = []
    position = 0
    while position < len(raw):
        match = _ENTITY_TAG.match(raw, position)
        if match is None:
            raise Malformed(field, _text(raw), 'a list of entity tags such as "0105d2", or *')
        if len(tags) == MAX_TAGS:
            raise TooLarge(field, MAX_TAGS, "entity tags")
        tags.append(_tag_bytes(match[2]) if weak_match or not match[1] else NO_ETAG)
        position = match.end()
    if not tags:
        raise Malformed(field, "", 'a list of entity tags such as "0105d2", or *')
    return tuple(tags)


def _tag_bytes(opaque: bytes) -> bytes:
    try:
        tag = bytes.fromhex(opaque.decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        return NO_ETAG
    # bytes.fromhex skips white space and takes capitals; our tags have neither, and tags compare character by character.
    # One byte would be `ANY_ETAG` for "2a", which is a tag like any other.
    return tag if len(tag) > 1 and tag.hex().encode() == opaque else NO_ETAG
