"""What a path may be (spec section 2). Percent-encoding belongs to the edges: here segments are decoded text."""

from __future__ import annotations

from m2mapp.model.errors import Malformed, TooLarge
from m2mapp.model.identifiers import Path

MAX_LEVELS = 32
MAX_SEGMENT_BYTES = 255
"""The longest Uri-Path option (RFC 7252, section 5.10)."""
MAX_PATH_BYTES = 1024

RESERVED = frozenset(
    [
        *("admin", "bs", "coap-group", "devices", "gateways", "groups", "healthz", "leases", "leaves", "mcAddrPool", "mcGroups", "metrics"),
        *("bspack", "node", "prefixes", "rd", "readyz", "scls", "timers", ".well-known"),
    ]
)
"""Names at the root that only the part of the program that owns them may make."""


def check_segment(segment: str, field: str = "path") -> str:
    """The segment, if it can be one; raises `Malformed` (naming `field`) or `TooLarge`."""
    if segment in ("", ".", ".."):
        raise Malformed(field, segment, "a path segment: not empty, not '.' and not '..'")
    if "/" in segment or not segment.isprintable():
        raise Malformed(field, segment, "a path segment: printable, without '/'")
    # What is printable has no lone surrogates: it can be written as UTF-8.
    if len(segment if segment.isascii() else segment.encode()) > MAX_SEGMENT_BYTES:
        raise TooLarge(field, MAX_SEGMENT_BYTES, "bytes a path segment")
    return segment


def check_path(path: Path, field: str = "path") -> Path:
    """The path, if it can be one; raises `Malformed` or `TooLarge`, naming `field`."""
    if len(path) > MAX_LEVELS:
        raise TooLarge(field, MAX_LEVELS, "path segments")
    size = 0
    for segment in path:
        check_segment(segment, field)
        size += 1 + len(segment if segment.isascii() else segment.encode())
    if size > MAX_PATH_BYTES:
        raise TooLarge(field, MAX_PATH_BYTES, "bytes a path")
    return path


def parse_path(text: str, field: str = "path") -> Path:
    """A path from its text (`/groups/grp7`, not percent-encoded). Raises `Malformed` or `TooLarge`, naming `field`."""
    if not text.startswith("/"):
        raise Malformed(field, text, "a path that begins with '/'")
    if text == "/":
        return ()
    if len(text) > MAX_PATH_BYTES:
        raise TooLarge(field, MAX_PATH_BYTES, "bytes a path")
    return check_path(tuple(text[1:].split("/")), field)


def starts_with(path: Path, prefix: Path) -> bool:
    """Whether the path is the prefix or stands below it, segment by segment."""
    return path[: len(prefix)] == prefix


def below(path: Path) -> tuple[Path, Path | None]:
    """The bounds of a path and all below it in the order of paths: the first is within, the second is not. None: no upper bound."""
    if not path:
        return (), None
    # No text lies between a segment and the same with a NUL behind it.
    return path, (*path[:-1], path[-1] + "\0")
