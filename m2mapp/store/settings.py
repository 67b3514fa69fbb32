"""How much the store keeps and when it tidies up. Values only; `config` reads what a user can set."""

from __future__ import annotations

from dataclasses import dataclass

from m2mapp.tree.unit import CHANGES, OPERATIONS, RECORDS, REQUESTS, VALUES

_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class JournalLimit:
    """What one journal keeps at least, in entries and in bytes of their bodies, unless it has had less. An eighth more may be there.

    The newest entry is kept whatever its size.
    """

    entries: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Limits of the store.

    `wal_bytes`: once the write-ahead log is longer it is taken over into the database and begun anew.
    `reserve_bytes`: so much is set aside on disk at most, and given free when the disk is full so that this, and removals, go on; a store
    with a short log sets less aside. Not under `wal_bytes`.
    """

    values: JournalLimit = JournalLimit(100, 256 * 1024)
    changes: JournalLimit = JournalLimit(10_000, 16 * _MB)
    others: JournalLimit = JournalLimit(1_000, 4 * _MB)
    requests: JournalLimit = JournalLimit(50_000, 16 * _MB)
    operations: JournalLimit = JournalLimit(65_536, 32 * _MB)
    records: JournalLimit = JournalLimit(200, 256 * 1024)
    wal_bytes: int = 4 * _MB
    reserve_bytes: int = 6 * _MB

    def journal(self, name: str) -> JournalLimit:
        """The limit that holds for the journal of this name."""
        if name == CHANGES:
            return self.changes
        kind = name.split("/", 1)[0]
        if kind == VALUES:
            return self.values
        if kind == REQUESTS:
            return self.requests
        if kind == RECORDS:
            return self.records
        return self.operations if kind == OPERATIONS else self.others
