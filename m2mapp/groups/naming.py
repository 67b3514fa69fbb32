"""Names that are made of others and have to fit one path segment. Pure."""

from __future__ import annotations

import hashlib

from m2mapp.formats.uris import MAX_PART_BYTES

_DIGEST_CHARACTERS = 32


def fitting(name: str) -> str:
    """The name, if it can be a path segment; one that is too long is cut, and ends with a digest of the whole."""
    whole = name.encode()
    if len(whole) <= MAX_PART_BYTES:
        return name
    digest = hashlib.sha256(whole).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{whole[: MAX_PART_BYTES - len(digest) - 1].decode(errors='ignore')}-{digest}"
