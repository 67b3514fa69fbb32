"""Entity tags: one byte for the representation, then the number of the change that it shows (spec section 2: at most 8 bytes)."""

from __future__ import annotations

from m2mapp.model.messages import ANY_ETAG, Conditions

CONTENT_TAG, JSON_TAG, CBOR_TAG, LINKS_TAG = 1, 2, 3, 4
_NUMBER_BYTES = 7
_WHOLE_TAGS = (bytes((JSON_TAG,)), bytes((CBOR_TAG,)))


def etag(representation: int, version: int) -> bytes:
    """The ETag of one representation of a resource at a version."""
    return bytes((representation,)) + version.to_bytes(max(1, (version.bit_length() + 7) // 8), "big")


def names_version(tag: bytes, version: int) -> bool:
    """Whether an ETag is that of any representation of this version."""
    return 1 < len(tag) <= _NUMBER_BYTES + 1 and int.from_bytes(tag[1:], "big") == version and tag == etag(tag[0], version)


def of_whole(tags: tuple[bytes, ...], version: int, shown: int) -> tuple[bytes, ...]:
    """The tags as they are held against a content resource of this version, whose whole representation shows a later change.

    The whole representation's tag counts for the resource; one of it as it was before counts for nothing.
    """

    def counts_for(tag: bytes) -> bytes:
        if tag[:1] not in _WHOLE_TAGS or tag == ANY_ETAG:
            return tag
        return etag(CONTENT_TAG, version) if names_version(tag, shown) else b""

    return tuple(map(counts_for, tags))


def hold(conditions: Conditions, version: int | None) -> bool:
    """Whether If-Match and If-None-Match hold of a resource at this version; None: there is no resource (RFC 9110, 13.1)."""
    if conditions.if_match and not _any_names(conditions.if_match, version):
        return False
    return not (conditions.if_none_match and _any_names(conditions.if_none_match, version))


def _any_names(tags: tuple[bytes, ...], version: int | None) -> bool:
    return version is not None and any(tag == ANY_ETAG or names_version(tag, version) for tag in tags)
