"""The book of joins: gathered, written once, never over what somebody else has written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.drivers.gathered import GATHER_LARGE_S, GATHER_S, RETRY_S
from m2mapp.groups.drivers.joins import JoinBook
from m2mapp.groups.group import FANOUT_SET, FanoutSet, Join, group_types, sets_of
from m2mapp.model.errors import StorageFailed
from m2mapp.tree.unit import Remove, Unit, Write
from tests.unit.fakes import Built, build_tree
from tests.unit.groups.parts import FIRST_ADDRESS, SECOND_ADDRESS, build_set, uri_at

KEY = ("g", "1", FIRST_ADDRESS)
PATH = ("groups", "g", "fanoutSets", "1")


def write(built: Built, one: FanoutSet) -> None:
    """Write a set of group g."""
    built.committer.commit(Unit((Write((*PATH[:-1], one.name), FANOUT_SET, one.document()),)))


def build_book(members: Iterable[int] = (1, 2)) -> tuple[JoinBook, Built, Clock]:
    """A book that runs, and a group g with a set of these members."""
    built, clock = build_tree(group_types(lambda name: name)), Clock()
    write(built, build_set([uri_at(number) for number in members]))
    book = JoinBook(clock, built.tree, built.committer)
    book.start()
    return book, built, clock


def joins(built: Built) -> dict[str, Join]:
    """The joins of the first set."""
    return dict(sets_of(built.tree, "g")[0].joins)


class JoinBookTests(SynchronousTestCase):
    def test_gathered(self) -> None:
        """What is learned within a moment is one unit; the newest of a member counts; strangers to the set do not."""
        book, built, clock = build_book()
        before = len(built.committer.units)
        book.note(KEY, [uri_at(1), uri_at(9)], Join.JOINED)
        clock.advance(GATHER_S / 2)
        book.note(KEY, [uri_at(1)], Join.PROVEN)
        book.note(KEY, [uri_at(2)], Join.FAILED)
        clock.advance(GATHER_S / 2)
        self.assertEqual(len(built.committer.units) - before, 1)
        self.assertEqual(joins(built), {uri_at(1): Join.PROVEN, uri_at(2): Join.FAILED})
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_nothing_new(self) -> None:
        """What is known already is not written."""
        book, built, clock = build_book()
        before = len(built.committer.units)
        book.note(KEY, [uri_at(1)], Join.PENDING)
        clock.advance(1.0)
        self.assertEqual(len(built.committer.units), before)

    def test_several_sets(self) -> None:
        """All sets are one unit."""
        book, built, clock = build_book()
        write(built, build_set([uri_at(1, "/x")], name="2", path=("x",)))
        book.note(KEY, [uri_at(1)], Join.JOINED)
        book.note(("g", "2", FIRST_ADDRESS), [uri_at(1, "/x")], Join.JOINED)
        clock.advance(1.0)
        self.assertEqual(len(built.committer.units[-1].changes), 2)

    def test_another_address(self) -> None:
        """What was learned of the set's old address says nothing about the new one."""
        book, built, clock = build_book()
        book.note(KEY, [uri_at(1)], Join.JOINED)
        write(built, build_set([uri_at(1)], address=SECOND_ADDRESS))
        clock.advance(1.0)
        self.assertEqual(joins(built), {uri_at(1): Join.PENDING})

    def test_a_set_that_is_gone_stays_gone(self) -> None:
        """A join that is written late does not bring back a set, nor a group, that is deleted or is just being deleted."""
        for held in (False, True):
            book, built, clock = build_book()
            book.note(KEY, [uri_at(1)], Join.JOINED)
            if held:
                built.committer.hold()
            built.committer.commit(Unit((Remove(("groups", "g")),)))
            clock.advance(1.0)
            built.committer.release()
            self.assertIsNone(built.tree.find(("groups", "g")))
            self.assertIsNone(built.tree.find(PATH))

    def test_beside_an_edit(self) -> None:
        """A join is written on top of an edit that is not committed yet: neither is lost."""
        book, built, clock = build_book()
        built.committer.hold()
        write(built, build_set([uri_at(1), uri_at(2), uri_at(3)]))
        book.note(KEY, [uri_at(1)], Join.JOINED)
        clock.advance(1.0)
        built.committer.release()
        self.assertEqual(joins(built), {uri_at(1): Join.JOINED, uri_at(2): Join.PENDING, uri_at(3): Join.PENDING})

    def test_a_failing_disk(self) -> None:
        """What could not be written is tried again; what was learned meanwhile is newer."""
        book, built, clock = build_book()
        built.committer.fault = StorageFailed("broken")
        book.note(KEY, [uri_at(1), uri_at(2)], Join.JOINED)
        clock.advance(GATHER_S)
        book.note(KEY, [uri_at(2)], Join.FAILED)
        built.committer.fault = None
        clock.advance(RETRY_S)
        self.assertEqual(joins(built), {uri_at(1): Join.JOINED, uri_at(2): Join.FAILED})

    def test_stop(self) -> None:
        """After a stop nothing is taken, written or pending, not even when a commit fails then; after a start it goes on."""
        book, built, clock = build_book()
        built.committer.hold()
        book.note(KEY, [uri_at(1)], Join.JOINED)
        clock.advance(GATHER_S)
        book.note(KEY, [uri_at(2)], Join.JOINED)
        book.stop()
        book.note(KEY, [uri_at(2)], Join.JOINED)
        built.committer.fail_held(StorageFailed("broken"))
        self.assertEqual(clock.getDelayedCalls(), [])
        book.start()
        book.note(KEY, [uri_at(2)], Join.JOINED)
        clock.advance(1.0)
        self.assertEqual(joins(built), {uri_at(1): Join.PENDING, uri_at(2): Join.JOINED})

    def test_large_sets_are_written_less_often(self) -> None:
        """Each write costs the whole set, so more is gathered for one of a large set."""
        book, built, clock = build_book(range(1, 1001))
        book.note(KEY, [uri_at(1)], Join.JOINED)
        clock.advance(GATHER_S)
        self.assertEqual(joins(built)[uri_at(1)], Join.JOINED)
        before = len(built.committer.units)
        book.note(KEY, [uri_at(2)], Join.JOINED)
        clock.advance(GATHER_S)
        self.assertEqual(len(built.committer.units), before)
        clock.advance(1000 * GATHER_LARGE_S)
        self.assertEqual(len(built.committer.units), before + 1)

    def test_everything_else_stays(self) -> None:
        """Only the joins of the set change."""
        book, built, clock = build_book()
        one = build_set([uri_at(1), uri_at(2)])
        book.note(KEY, [uri_at(2)], Join.JOINED)
        clock.advance(1.0)
        self.assertEqual(sets_of(built.tree, "g"), [replace(one, joins={uri_at(1): Join.PENDING, uri_at(2): Join.JOINED})])
