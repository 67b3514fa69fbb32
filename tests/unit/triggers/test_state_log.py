"""The state log: what counts after any number of writes, removals and lost units is what a reader of the bounded journal finds."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.tree.unit import OPERATIONS, Append, Document, Entry
from m2mapp.triggers.state_log import StateLog, floor_of

KEYS = ("a", "b", "c", "d")
LIMIT = 40
"""What the journal of these tests keeps, in entries."""


def entry(number: int, append: Append) -> Entry:
    return Entry(append.journal, number, 0, append.body)


def read(journal: list[Entry]) -> StateLog:
    """What a start finds in a journal that has forgotten all but its newest entries: read from where the newest says."""
    log = StateLog(LIMIT)
    kept = journal[-LIMIT:]
    if kept:
        log.restore(one for one in kept if one.number >= floor_of(kept[-1]))
    log.complete = True
    return log


def state(log: StateLog) -> dict[str, Document]:
    return dict(log.below(""))


class Model:
    """A log whose entries may be lost, beside a plain dict of what is durable."""

    def __init__(self) -> None:
        self.log = StateLog(LIMIT)
        self.log.complete = True
        self.journal: list[Entry] = []
        self.number = 0
        self.durable: dict[str, Document] = {}

    def write(self, puts: dict[str, int], gone: set[str], lost: bool) -> None:
        """One unit, with what has grown old: committed, or lost, and then written again by the next one that is not."""
        documents: dict[str, Document] = {key: {"value": value} for key, value in puts.items()}
        makes = {**self.log.stale(), **{key: (lambda one=one: one) for key, one in documents.items()}}  # type: ignore[misc]
        for key in gone:
            makes.pop(key, None)
        self.number += 2
        append = self.log.entry(self.number, makes, gone)
        self.number += 1
        if lost:
            for key in puts.keys() - self.durable.keys():
                self.log.drop(key)
            for key in puts.keys() & self.durable.keys():
                self.log.entry(self.number, {key: lambda key=key: self.durable[key]})  # type: ignore[misc]
            return
        self.journal.append(entry(self.number, append))
        self.log.settle(self.number - 1, makes, gone)
        self.durable.update(documents)
        for key in gone:
            self.durable.pop(key, None)


class StateLogTests(SynchronousTestCase):
    def test_the_journal_is_read_from_the_oldest_that_counts(self) -> None:
        """Each entry says from where on it has to be read: the number of the oldest document that counts."""
        log = StateLog()
        log.complete = True
        first = log.entry(10, {"a": lambda: {"value": 1}})
        self.assertEqual(first.journal, OPERATIONS)
        log.settle(10, ["a"])
        second = log.entry(20, {"b": lambda: {"value": 2}})
        log.settle(20, ["b"])
        third = log.entry(30, {}, ["a"])
        self.assertEqual([one.body["floor"] for one in (first, second, third)], [10, 10, 10])
        log.settle(30, (), ["a"])
        self.assertEqual(log.entry(40, {}).body["floor"], 20)

    def test_before_all_is_read(self) -> None:
        """Until the journal was read an entry says that all of it counts."""
        log = StateLog()
        self.assertEqual(log.entry(10, {"a": lambda: {"value": 1}}).body["floor"], 0)

    def test_what_grows_old_is_written_again(self) -> None:
        """A document that stays while others come and go is in reach of a reader after any number of entries."""
        model = Model()
        model.write({"a": 1}, set(), lost=False)
        for number in range(500):
            model.write({"b": number}, set(), lost=False)
        self.assertEqual(state(read(model.journal)), {"a": {"value": 1}, "b": {"value": 499}})

    def test_memory_does_not_grow_with_what_is_gone(self) -> None:
        """However many documents come and go behind one that stays, what is remembered of their age is bounded by those that are there."""
        log = StateLog()
        log.complete = True
        log.entry(1, {"old": lambda: {}})
        for number in range(2, 5_000):
            log.entry(number, {f"k{number}": lambda: {}}, size_bytes=10)
            log.drop(f"k{number}")
        self.assertLess(len(log._by_age), 100)
        self.assertEqual(log.entry(5_000, {}).body["floor"], 1)

    def test_bytes_count_too(self) -> None:
        """A few large entries make what was before them old as many small ones do."""
        log = StateLog(1_000, 20_000)
        log.complete = True
        log.entry(1, {"a": lambda: {"value": 1}})
        self.assertEqual(list(log.stale()), [])
        for number, key in ((2, "b"), (3, "c")):
            log.entry(number, {key: lambda: {"value": "x" * 6_000}})
        self.assertEqual(list(log.stale()), ["a", "b"])

    @given(st.integers(0, 2**32), st.integers(1, 150))
    def test_any_history(self, seed: int, units: int) -> None:
        """Whatever is written, removed or lost, a start finds what is durable."""
        random, model = Random(seed), Model()
        for _ in range(units):
            puts = {key: random.randrange(9) for key in KEYS if random.random() < 0.2}
            gone = {key for key in KEYS if key not in puts and key in model.durable and random.random() < 0.1}
            model.write(puts, gone, lost=random.random() < 0.1)
        self.assertEqual(state(read(model.journal)), model.durable)

    def test_what_is_none_is_passed_over(self) -> None:
        """Entries that are not of this form count for nothing."""
        log = StateLog()
        log.restore([Entry(OPERATIONS, 1, 0, {"put": {"a": 5, "b": ["c"]}, "gone": "a"}), Entry(OPERATIONS, 2, 0, {})])
        self.assertEqual((len(log), floor_of(Entry(OPERATIONS, 3, 0, {}))), (0, 0))
