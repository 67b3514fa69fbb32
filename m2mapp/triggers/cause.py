"""What set a request off: the operations passed through, so that a circle of operations ends (spec section 6, `M2M-Cause`). Pure.

An operation is known by its URI, on whichever node it stands; one that finds itself in the cause of a change does not run for that change,
nor does any when the list is full. Nodes that do not know the header or the option lose it: circles through them are not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from m2mapp.formats.uris import path_uri
from m2mapp.model.identifiers import Path

MOST = 16
"""How many operations a cause lists at most, as the HTTP header and the CoAP option do."""
LONGEST = 80
"""A longer identity is cut, and a digest stands for the rest: the cause has to fit into a datagram beside a payload."""
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Stopped:
    """An operation may not run for a change, and why; `circle` has the operations of the circle, empty where there is none."""

    why: str
    circle: tuple[str, ...] = ()


def identity(node_uri: str, operation: Path) -> str:
    """By what an operation is known in a cause: its URI, printable ASCII without commas and spaces, at most `LONGEST` characters."""
    uri = node_uri + path_uri(operation).replace(",", "%2C")
    if len(uri) <= LONGEST:
        return uri
    return f"{uri[: LONGEST - _DIGITS - 1]}~{sha256(uri.encode()).hexdigest()[:_DIGITS]}"


def extended(cause: tuple[str, ...], operation: str) -> tuple[str, ...] | Stopped:
    """The cause of what an operation sends for a change that has this one; or why it may not send."""
    if operation in cause:
        circle = cause[cause.index(operation) :]
        return Stopped(f"a circle: {' -> '.join((*circle, operation))}", circle)
    if len(cause) >= MOST:
        return Stopped(f"{MOST} operations led to this change one by one, and it sets off no more")
    return (*cause, operation)
