"""DHCP unique identifiers (RFC 9915, section 11): bytes that name a client or a server, compared as bytes and nothing more.

Responsible for making this node's own and for the length of any. Not responsible for where it is kept.
"""

from __future__ import annotations

from struct import pack
from typing import Final
from uuid import UUID

SHORTEST, LONGEST = 3, 130
"""Bytes of a DUID: two of type, then at least one and at most 128 (RFC 9915, section 11.1)."""
_UUID: Final = 4


def new_duid(uuid: UUID) -> bytes:
    """A DUID-UUID (RFC 6355): a box has no clock at its first start, and its interfaces may be changed."""
    return pack("!H", _UUID) + uuid.bytes


def is_duid(data: bytes) -> bool:
    """Whether bytes have the length of a DUID; what is in it is its maker's affair."""
    return SHORTEST <= len(data) <= LONGEST
