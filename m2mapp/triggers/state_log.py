"""What operations have to know after a restart: small documents by key, in one journal that is written round and round.

A journal forgets its oldest entries, and has no other way to forget. So each entry says from which number on the journal has to be read
(`floor`: the oldest entry that still counts), and what still counts and grows old is written again (`stale`) long before it would be
forgotten. Pure: it makes entries and reads them; who commits them is `drivers.keeping`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from m2mapp.formats.documents import dump_cbor
from m2mapp.tree.unit import OPERATIONS, Append, Document, Entry

ENTRIES, SIZE_BYTES = 65_536, 32 << 20
"""What the store keeps of the journal at least (`store.settings`)."""
AT_ONCE, AT_ONCE_BYTES = 64, 256 * 1024
"""So many old documents, and bytes of them, are written again in one entry at most; one at least."""

Make = Callable[[], Document]
"""Makes a document when it is written: what is kept in memory may be something smaller."""


@dataclass(slots=True)
class _Kept:
    """A document.

    `number` is not above that of its entry. `entries` and `size_bytes` are the log's before it was written, `own_bytes` what its entry
    added to that.
    """

    make: Make
    number: int
    entries: int
    size_bytes: int
    own_bytes: int


class StateLog:
    """The documents that count. What is said to be written counts from `entry` on, what is said to be gone until `settle`.

    `entries` and `size_bytes` are what the journal keeps. `complete` is false until all entries were read: before, entries say that
    the whole journal has to be read.
    """

    def __init__(self, entries: int = ENTRIES, size_bytes: int = SIZE_BYTES) -> None:
        self._kept: dict[str, _Kept] = {}
        self._by_age: list[tuple[int, str]] = []
        """A heap. What does not agree with `_kept` any more is left in it until it comes up."""
        self._entries = self._size_bytes = 0
        self._longest = (entries // 2, size_bytes // 2)
        self.complete = False

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def below(self, prefix: str) -> Iterator[tuple[str, Document]]:
        """The documents whose keys begin so, by age."""
        for number, key in sorted((kept.number, key) for key, kept in self._kept.items() if key.startswith(prefix)):
            kept = self._kept.get(key)
            if kept is not None and kept.number == number:
                yield key, kept.make()

    def entry(self, number: int, puts: Mapping[str, Make], gone: Collection[str] = (), size_bytes: int | None = None) -> Append:
        """What is to be appended to the journal for these documents; its number will be `number` or more.

        Until `settle` what was written before counts too, since this may never be written. `size_bytes`: its size on disk, roughly, where
        that is known.
        """
        body: dict[str, object] = {}
        if puts:
            body["put"] = {key: make() for key, make in puts.items()}
        if gone:
            body["gone"] = list(gone)
        size_bytes = len(dump_cbor(body)) if size_bytes is None else size_bytes
        for key, make in puts.items():
            kept = self._kept.get(key)
            if kept is None:
                self._kept[key] = _Kept(make, number, self._entries, self._size_bytes, size_bytes)
                self._age(number, key)
            else:
                kept.make = make
        body["floor"] = self._floor(number)
        self._entries += 1
        self._size_bytes += size_bytes
        return Append(OPERATIONS, body)

    def settle(self, number: int, puts: Iterable[str], gone: Iterable[str] = ()) -> None:
        """The entry that was made with this number is durable: what these keys were before does not count any more."""
        for key in gone:
            self.drop(key)
        for key in puts:
            kept = self._kept.get(key)
            if kept is not None and kept.number < number:
                kept.number, kept.entries, kept.size_bytes = number, self._entries, self._size_bytes
                self._age(number, key)

    def drop(self, key: str) -> None:
        """Nothing is kept under this key; that it is not known is no error."""
        self._kept.pop(key, None)

    def stale(self) -> dict[str, Make]:
        """What has to be written again, since the journal has grown so much after it: the oldest ones."""
        found: dict[str, Make] = {}
        if not self._is_stale():
            return found
        passed: list[tuple[int, str]] = []
        size_bytes = 0
        while len(found) < AT_ONCE and size_bytes < AT_ONCE_BYTES and self._is_stale():
            passed.append(heappop(self._by_age))
            kept = self._kept[passed[-1][1]]
            found[passed[-1][1]] = kept.make
            size_bytes += kept.own_bytes
        for one in passed:
            heappush(self._by_age, one)
        return found

    def restore(self, entries: Iterable[Entry]) -> None:
        """Read entries, in their order. Documents that came to be since the start stay as they are."""
        for entry in entries:
            size_bytes = len(dump_cbor(entry.body))
            for key, document in _puts(entry.body):
                self._kept[key] = _Kept(_same(document), entry.number, self._entries, self._size_bytes, size_bytes)
                self._age(entry.number, key)
            self._entries += 1
            self._size_bytes += size_bytes
            gone = entry.body.get("gone")
            for key in gone if isinstance(gone, list) else ():
                self.drop(str(key))

    def _floor(self, number: int) -> int:
        if not self.complete:
            return 0
        oldest = self._oldest()
        return number if oldest is None else min(number, oldest.number)

    def _oldest(self) -> _Kept | None:
        """The oldest document that counts."""
        by_age = self._by_age
        while by_age:
            number, key = by_age[0]
            kept = self._kept.get(key)
            if kept is not None and kept.number == number:
                return kept
            heappop(by_age)
        return None

    def _is_stale(self) -> bool:
        """Whether the oldest one has to be written again."""
        oldest = self._oldest()
        if oldest is None:
            return False
        return self._entries - oldest.entries >= self._longest[0] or self._size_bytes - oldest.size_bytes >= self._longest[1]

    def _age(self, number: int, key: str) -> None:
        """A document counts from another number on."""
        heappush(self._by_age, (number, key))
        if len(self._by_age) > 2 * len(self._kept) + AT_ONCE:
            self._by_age = [(kept.number, key) for key, kept in self._kept.items()]
            heapify(self._by_age)


def floor_of(entry: Entry) -> int:
    """From which number on the journal has to be read, by its newest entry."""
    floor = entry.body.get("floor")
    return floor if isinstance(floor, int) else 0


def _puts(body: Document) -> Iterator[tuple[str, Document]]:
    puts = body.get("put")
    for key, document in puts.items() if isinstance(puts, Mapping) else ():
        if isinstance(document, Mapping):
            yield str(key), document


def _same(document: Document) -> Make:
    return lambda: document
