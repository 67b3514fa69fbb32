"""Paths, trace ids and request identifiers: how things are named inside the program.

A trace id is the 32 hexadecimal digits of a W3C Trace Context `trace-id`; a request identifier is 8 bytes (US 9,438,601).
"""

from __future__ import annotations

import hashlib
import secrets

Path = tuple[str, ...]
"""A path in the resource tree: its segments, decoded. The root is the empty tuple."""

REQUEST_ID_BYTES = 8


def path_text(path: Path) -> str:
    """The path as people read it: `/groups/grp7`, without percent-encoding."""
    return "/" + "/".join(path)


def new_trace() -> str:
    """A new trace id: 32 hexadecimal digits, not all zero."""
    return secrets.token_hex(16)


def new_request_id(server_address: str) -> bytes:
    """A new request identifier: 8 bytes of a SHA-256 over the server's address and a random number (spec section 6)."""
    return hashlib.sha256(server_address.encode() + secrets.token_bytes(16)).digest()[:REQUEST_ID_BYTES]
