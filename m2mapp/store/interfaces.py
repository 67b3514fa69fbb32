"""What the committer needs of a place that keeps the tree: SQLite (`store.database`), or memory (`store.memory`) in simulations.

One caller at a time: `write` and `undo` run on the reactor's thread and are short; what is called blocking waits for the disk and
runs in a thread. Never two of them together, but for `read_journal`, which may run beside all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zope.interface import Interface

from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import Document, Entry, Resource, Staged

Volatile = Sequence[tuple[Path, Mapping[str, object]]]
"""Paths with all their volatile attributes."""


class IDatabase(Interface):
    """Keeps resources, volatile attributes and journals."""

    def open() -> None:
        """Blocking. Make ready to write; it may have been closed before. Raises `StoreRefused`."""

    def close() -> None:
        """Blocking. Everything written is durable afterwards; closing twice is no error. Raises a `Fault` where the disk failed."""

    def load() -> tuple[Iterator[tuple[Resource, Document | None]], int]:
        """Blocking, before `open` or after it. The resources, each with its volatile attributes where it has any, and the last number.

        Raises `StoreRefused`, the iterator too.
        """

    def write(units: Sequence[Staged], volatile: Volatile = ()) -> None:
        """Write units and volatile attributes as one transaction; durable after the next `flush`.

        Raises `StorageFull` or `StorageFailed`, with nothing written.
        """

    def flush() -> None:
        """Blocking. Make durable what was written. Raises `StorageFull` or `StorageFailed`: then only `undo` and `repair` help."""

    def undo() -> None:
        """After a failed flush: write that none of it was. Nothing to do is no error. Raises `StorageFull` or `StorageFailed`."""

    def repair() -> None:
        """Blocking. After `undo`: make it durable, trusting nothing that was written since the last good flush. Raises as `flush`."""

    def needs_tidy() -> bool:
        """Whether `tidy` is due."""

    def tidy() -> None:
        """Blocking. Take the write-ahead log over into the database. What was written must be flushed. Raises as `flush`."""

    def make_room() -> None:
        """Blocking. The disk is full: give the reserve free. Raises as `flush`."""

    def has_room() -> bool:
        """Blocking. Whether there is room again for more than removals, with the reserve set aside anew."""

    def read_journal(name: str, upto: int, after: int, limit: int, newest: bool) -> list[Entry]:
        """Blocking. The entries of a journal with numbers above `after` and not above `upto`, by number.

        At most `limit`: the first ones, with `newest` the last ones. Fewer where they are large: at least one, up to 4 MB.
        Raises `StorageFailed`.
        """
