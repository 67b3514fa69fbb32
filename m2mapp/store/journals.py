"""Journals in SQL: appended to, bounded, dropped with their resource, read. Runs inside the transactions of `store.database`.

What is over a journal's limit, and what a removed resource leaves, is deleted by a later transaction: so a transaction that has to be
undone deleted nothing that counts, and removing a large subtree costs each write little.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable

from m2mapp.store.codec import decode, encode
from m2mapp.store.settings import JournalLimit, StoreSettings
from m2mapp.tree.unit import Change, Entry, journals_ended

MAX_ENTRIES_READ = 1_000
MAX_BYTES_READ = 4 << 20
_KNOWN = 10_000
"""So many journals' sizes are remembered; those of others are counted when they are appended to."""
_DROPS_A_WRITE = 16

# One row for all entries: SQLite gives up the interpreter's lock for each row that it steps to, and beside a busy reactor each time
# costs milliseconds to get it back. The window sums the bytes, so that a few large entries end the answer early.
_READ = """
SELECT group_concat(number || ' ' || at_ms || ' ' || hex(body), char(10)) FROM (
    SELECT number, at_ms, body, sum(length(body)) OVER (ORDER BY number {order} ROWS UNBOUNDED PRECEDING) - length(body) AS before
    FROM (
        SELECT number, at_ms, body FROM entry
        WHERE journal = (SELECT id FROM journal WHERE name = :name) AND number > :after AND number <= :upto AND number > ifnull(
            (SELECT max(upto) FROM dropped WHERE journal = (SELECT id FROM journal WHERE name = :name) AND upto <= :upto), 0)
        ORDER BY number {order} LIMIT :limit
    )
) WHERE before < :bytes
"""


class _Known:
    """What is known of a journal that was appended to lately."""

    __slots__ = ("entries", "journal", "limit", "size_bytes")

    def __init__(self, journal: int, entries: int, size_bytes: int, limit: JournalLimit) -> None:
        self.journal, self.entries, self.size_bytes, self.limit = journal, entries, size_bytes, limit


class Journals:
    """The journals of one database. Memory does not grow with their number. Raises `sqlite3.Error` where SQLite does."""

    def __init__(self, connection: sqlite3.Connection, settings: StoreSettings) -> None:
        self._connection, self._settings = connection, settings
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._over: set[str] = set()
        self._dropping = self._any_dropped()

    def forget(self) -> None:
        """A transaction was rolled back or undone: what is known may be wrong."""
        self._known.clear()
        self._over.clear()
        self._dropping = self._any_dropped()

    def tidy(self) -> None:
        """Delete what earlier transactions left over, a bounded part of it."""
        while self._over:
            self._trim(self._over.pop())
        if self._dropping:
            self._delete_dropped()

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries."""
        rows = []
        for entry in entries:
            body = encode(entry.body)
            known = self._find(entry.journal)
            known.entries += 1
            known.size_bytes += len(body)
            rows.append((known.journal, entry.number, entry.at_ms, body))
            if known.entries * 8 > known.limit.entries * 9 or known.size_bytes * 8 > known.limit.size_bytes * 9:
                self._over.add(entry.journal)
        self._connection.executemany("INSERT INTO entry VALUES (?, ?, ?, ?)", rows)

    def drop(self, changes: Iterable[Change]) -> None:
        """The journals that go with what the changes end."""
        for change in changes:
            for name in journals_ended(change):
                journal = self._identify(name)
                if journal is not None:
                    self._connection.execute("INSERT OR IGNORE INTO dropped VALUES (?, ?)", (journal, change.number))
                    self._dropping = True

    def undo(self, entries: Iterable[Entry], changes: Iterable[Change]) -> None:
        """Delete what `append` and `drop` wrote for these."""
        rows = [(entry.journal, entry.number) for entry in entries]
        delete = "DELETE FROM entry WHERE journal = (SELECT id FROM journal WHERE name = ?) AND number = ?"
        self._connection.executemany(delete, rows)
        drops = [(name, change.number) for change in changes for name in journals_ended(change)]
        self._connection.executemany("DELETE FROM dropped WHERE journal = (SELECT id FROM journal WHERE name = ?) AND upto = ?", drops)

    def _any_dropped(self) -> bool:
        return self._connection.execute("SELECT 1 FROM dropped LIMIT 1").fetchone() is not None

    def _identify(self, name: str) -> int | None:
        row = self._connection.execute("SELECT id FROM journal WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def _find(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is not None:
            self._known.move_to_end(name)
            return known
        journal, limit = self._identify(name), self._settings.journal(name)
        if journal is None:
            cursor = self._connection.execute("INSERT INTO journal(name) VALUES (?)", (name,))
            known = _Known(cursor.lastrowid or 0, 0, 0, limit)
        else:
            counted = self._connection.execute("SELECT count(*), total(length(body)) FROM entry WHERE journal = ?", (journal,))
            entries, size_bytes = counted.fetchone()
            known = _Known(journal, entries, int(size_bytes), limit)
        self._known[name] = known
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return known

    def _trim(self, name: str) -> None:
        """Bring a journal back to its limit, from its oldest end; the newest entry stays."""
        known = self._find(name)
        limit, cut = known.limit, 0
        oldest = self._connection.execute("SELECT number, length(body) FROM entry WHERE journal = ? ORDER BY number", (known.journal,))
        for number, size_bytes in oldest:
            if known.entries <= 1 or (known.entries <= limit.entries and known.size_bytes <= limit.size_bytes):
                break
            known.entries -= 1
            known.size_bytes -= size_bytes
            cut = number
        oldest.close()
        self._connection.execute("DELETE FROM entry WHERE journal = ? AND number <= ?", (known.journal, cut))

    def _delete_dropped(self) -> None:
        rows = self._connection.execute("SELECT journal, upto FROM dropped LIMIT ?", (_DROPS_A_WRITE,)).fetchall()
        for journal, upto in rows:
            name = self._connection.execute("SELECT name FROM journal WHERE id = ?", (journal,)).fetchone()
            self._connection.execute("DELETE FROM entry WHERE journal = ? AND number <= ?", (journal, upto))
            self._connection.execute("DELETE FROM dropped WHERE journal = ? AND upto = ?", (journal, upto))
            left = "SELECT 1 FROM entry WHERE journal = ?1 UNION ALL SELECT 1 FROM dropped WHERE journal = ?1"
            self._connection.execute(f"DELETE FROM journal WHERE id = ?1 AND NOT EXISTS ({left})", (journal,))  # noqa: S608 - a constant
            if name is not None:
                self._known.pop(name[0], None)
        self._dropping = len(rows) == _DROPS_A_WRITE


def read_entries(connection: sqlite3.Connection, name: str, numbers: tuple[int, int], limit: int, *, newest: bool) -> list[Entry]:
    """The entries of a journal with numbers above the first and not above the second of `numbers`, by number.

    At most `limit` (and `MAX_ENTRIES_READ`, `MAX_BYTES_READ`): the first ones, with `newest` the last ones. Raises `sqlite3.Error` and
    `Damaged`.
    """
    after, upto = numbers
    values = {"name": name, "after": after, "upto": upto, "limit": max(0, min(limit, MAX_ENTRIES_READ)), "bytes": MAX_BYTES_READ}
    (text,) = connection.execute(_READ.format(order="DESC" if newest else "ASC"), values).fetchone()
    entries = [_entry(name, line) for line in text.split("\n")] if text else []
    return sorted(entries, key=lambda entry: entry.number)


def _entry(name: str, line: str) -> Entry:
    number, at_ms, body = line.split(" ")
    return Entry(name, int(number), int(at_ms), decode(bytes.fromhex(body)))
