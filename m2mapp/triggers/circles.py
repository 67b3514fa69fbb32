"""Circles that can be seen without running anything: an operation's target is a subject here whose operations lead back. Pure.

What leads through another node, a group or an operation that stands elsewhere is not seen here; it is stopped when it runs (`cause`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import WRITES
from m2mapp.triggers.links import absolute
from m2mapp.triggers.operation import METHODS, Operation

MOST_LOOKED_AT = 1_000
"""So many operations are looked at for one warning at most."""

Own = Callable[[str], Path | None]
"""The path of a URI in this node's tree; None: it is another node's."""
OperationsOf = Callable[[Path], Iterable[Operation]]


def circle_of(operation: Operation, subject: Path, operations_of: OperationsOf, own: Own) -> tuple[str, ...]:
    """The operations of the shortest circle in which a subject's operation is, this one first; empty where none is seen."""
    trails: list[tuple[Operation, ...]] = [(operation,)]
    looked_at: set[Path] = set()
    for trail in trails:
        written = _written(trail[-1], own)
        if written is None:
            continue
        if written == subject:
            return tuple(one.key for one in trail)
        if written in looked_at or len(trails) > MOST_LOOKED_AT:
            continue
        looked_at.add(written)
        trails.extend((*trail, following) for following in operations_of(written))
    return ()


def warning(circle: tuple[str, ...], subject: Path) -> str:
    """What the writer of an operation is told of its circle."""
    around = " -> ".join((*circle, circle[0]))
    return f"a circle: {around}: a change of {path_text(subject)} leads back to it, and ends there"


def _written(operation: Operation, own: Own) -> Path | None:
    """The path of the content here that an operation writes, if it writes one."""
    if METHODS[operation.verb] not in WRITES:
        return None
    return own(absolute(operation.target, operation.uri))
