"""Staging against what is committed and pending, applying in order, dropping; what watchers are told of it."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from m2mapp.model.errors import Conflict, NoSuchResource, PreconditionFailed, TooLarge
from m2mapp.model.interfaces import IFollow
from m2mapp.model.messages import ANY_ETAG, Conditions
from m2mapp.tree.etags import CONTENT_TAG, JSON_TAG, etag
from m2mapp.tree.paths import parse_path
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import (
    CHANGES,
    COLLECTION,
    CONTENT,
    Append,
    Change,
    Remove,
    Requirement,
    Staged,
    Unit,
    Write,
    values_journal,
)

DERIVED = "derived"


def write(path: str, content: bytes = b"1", kind: str = CONTENT) -> Write:
    return Write(parse_path(path), kind, content=content if kind == CONTENT else None)


def remove(path: str) -> Remove:
    return Remove(parse_path(path))


class TreeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.errors: list[Exception] = []
        self.tree = self.build()

    def build(self, max_resources: int = 1000) -> Tree:
        return Tree(lambda kind: kind in (COLLECTION, DERIVED), self.errors.append, max_resources)

    def stage(self, *changes: Write | Remove, requires: tuple[Requirement, ...] = (), now_ms: int = 0) -> Staged:
        return self.tree.stage(Unit(changes, requires=requires), now_ms)

    def commit(self, *changes: Write | Remove, requires: tuple[Requirement, ...] = (), now_ms: int = 0) -> Staged:
        staged = self.stage(*changes, requires=requires, now_ms=now_ms)
        self.tree.apply(staged)
        self.tree.tell(staged)
        return staged

    def state(self) -> dict[str, object]:
        """All that is committed: the content, or the type, by path."""
        return {"/" + "/".join(found.path): found.content if found.type == CONTENT else found.type for found in self.tree.walk()}


@implementer(IFollow)
class Follower:
    """Notes each content in a journal, and refuses what the test says."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.fault: TooLarge | None = None

    def staged(self, unit: Unit, changes: Sequence[Change]) -> Sequence[Append]:
        if self.fault is not None:
            raise self.fault
        self.heard.append(("staged", unit.principal, [change.path for change in changes]))
        return [Append("notes", {"number": change.number}) for change in changes]

    def committed(self, last_number: int) -> None:
        self.heard.append(last_number)

    def dropped(self) -> None:
        self.heard.append("dropped")


class FollowerTests(TreeCase):
    def setUp(self) -> None:
        super().setUp()
        self.follower = self.tree.follower = Follower()

    def test_provides(self) -> None:
        """The fake is what the tree asks for."""
        self.assertTrue(verifyObject(IFollow, self.follower))

    def test_its_entries_are_the_units(self) -> None:
        """What the follower notes is in the unit, numbered behind its changes; it hears of the commit after the watchers."""
        self.tree.watch((), lambda change: self.follower.heard.append(change.number), subtree=True)
        staged = self.tree.stage(Unit((write("/a"),), principal="who", record=lambda _: Append("record", {})), 0)
        self.assertEqual([(entry.journal, entry.number) for entry in staged.entries[-2:]], [("notes", 2), ("record", 3)])
        self.assertEqual(staged.entries[-2].body, {"number": 1})
        self.tree.apply(staged)
        self.tree.tell(staged)
        self.assertEqual(self.follower.heard, [("staged", "who", [("a",)]), 1, 3])

    def test_it_may_refuse(self) -> None:
        """What it refuses changes nothing; what was checked before it is not asked of it."""
        self.follower.fault = TooLarge("room", 1)
        self.assertRaises(TooLarge, self.stage, write("/a"))
        self.assertEqual((self.tree.expected(("a",)), self.state()), (None, {}))
        self.assertRaises(NoSuchResource, self.stage, write("/a"), requires=(Requirement(("b",), exists=True),))
        self.follower.fault = None
        self.commit(write("/a"))
        self.assertEqual(self.state(), {"/a": b"1"})

    def test_what_is_dropped(self) -> None:
        """It hears that what is pending will never be."""
        self.stage(write("/a"))
        self.tree.drop_pending()
        self.assertEqual(self.follower.heard[-1], "dropped")


class StagingTests(TreeCase):
    def test_staged_is_not_seen(self) -> None:
        """What is staged is expected and not seen; once it is applied it is seen."""
        staged = self.stage(write("/a"))
        self.assertIsNone(self.tree.find(("a",)))
        self.assertRaises(NoSuchResource, self.tree.get, ("a",))
        expected = self.tree.expected(("a",))
        self.assertEqual((len(self.tree), expected and expected.version), (0, 1))
        self.tree.apply(staged)
        self.assertEqual(self.tree.get(("a",)), expected)
        self.assertEqual((len(self.tree), self.tree.committed_number), (1, 1))

    def test_missing_ancestors_become_collections(self) -> None:
        """A write makes the collections above it, parents first; they are changes like others, and are not made again."""
        staged = self.commit(write("/a/b/c"))
        self.assertEqual(
            [(change.path, change.kind) for change in staged.changes],
            [(("a",), "created"), (("a", "b"), "created"), (("a", "b", "c"), "created")],
        )
        self.assertEqual(self.state(), {"/a": COLLECTION, "/a/b": COLLECTION, "/a/b/c": b"1"})
        self.assertEqual([change.path for change in self.commit(write("/a/b/d")).changes], [("a", "b", "d")])

    def test_pending_ancestors_are_not_made_again(self) -> None:
        """An ancestor that a pending unit makes is not made a second time by the next."""
        first, second = self.stage(write("/a/b")), self.stage(write("/a/c"))
        self.assertEqual([change.path for change in second.changes], [("a", "c")])
        self.tree.apply(first)
        self.tree.apply(second)
        self.assertEqual(self.state(), {"/a": COLLECTION, "/a/b": b"1", "/a/c": b"1"})

    def test_content_may_have_something_below(self) -> None:
        """A write below a content resource leaves that as it is."""
        self.commit(write("/t", b"21"))
        self.commit(write("/t/Operations/x"))
        self.assertEqual(self.state(), {"/t": b"21", "/t/Operations": COLLECTION, "/t/Operations/x": b"1"})

    def test_numbers(self) -> None:
        """Changes and appended entries are numbered without repetition, in the unit's order; the last is the unit's."""
        unit = Unit((write("/a"), write("/b")), (Append("audit", {"who": "x"}), Append("audit", {"who": "y"})))
        staged = self.tree.stage(unit, 5)
        self.assertEqual([change.number for change in staged.changes], [1, 2])
        audit = [entry for entry in staged.entries if entry.journal == "audit"]
        self.assertEqual([(entry.number, entry.at_ms, entry.body) for entry in audit], [(3, 5, {"who": "x"}), (4, 5, {"who": "y"})])
        self.assertEqual(staged.last_number, 4)
        self.tree.apply(staged)
        self.assertEqual((self.tree.committed_number, self.tree.next_number), (4, 5))

    def test_unit_without_changes(self) -> None:
        """A unit of entries alone changes no resource and moves the number on."""
        staged = self.tree.stage(Unit((), (Append("audit", {}),)), 0)
        self.tree.apply(staged)
        self.assertEqual((staged.changes, self.tree.committed_number, len(self.tree)), ((), 1, 0))

    def test_journal_entries_of_changes(self) -> None:
        """Each change is in the journal of changes; a content's value also in the journal of its values; a removal only in the first."""
        entries = self.tree.stage(Unit((write("/a/t", b"21"),), trace="abc"), 7).entries
        self.assertEqual(
            [(entry.journal, entry.number) for entry in entries], [(CHANGES, 1), (CHANGES, 2), (values_journal(("a", "t")), 2)]
        )
        self.assertEqual(entries[1].body, {"path": "/a/t", "kind": "created", "trace": "abc", "type": CONTENT})
        self.assertEqual(entries[2].body, {"content": b"21", "contentType": None, "trace": "abc"})
        gone = self.tree.stage(Unit((remove("/a/t"),)), 7).entries
        self.assertEqual([(entry.journal, entry.body["kind"]) for entry in gone], [(CHANGES, "deleted")])

    def test_times(self) -> None:
        """The time of creation stays over writes, also over one that is pending; a clock that steps back changes nothing else."""
        first, second = self.stage(write("/a"), now_ms=1000), self.stage(write("/a"), now_ms=-5)
        self.tree.apply(first)
        self.tree.apply(second)
        found = self.tree.get(("a",))
        self.assertEqual((found.created_ms, found.modified_ms, found.version), (1000, -5, 2))

    def test_change_shows_before_and_after(self) -> None:
        """A change has what stood before, pending writes included, and what stands after."""
        first, second, third = self.stage(write("/a", b"1")), self.stage(write("/a", b"2")), self.stage(remove("/a"))
        kinds = [staged.changes[0].kind for staged in (first, second, third)]
        self.assertEqual(kinds, ["created", "changed", "deleted"])
        self.assertIs(second.changes[0].before, first.changes[0].after)
        self.assertIs(third.changes[0].before, second.changes[0].after)

    def test_later_parts_of_a_unit_win(self) -> None:
        """Two writes of one path in a unit are one change, and so are a removal and a write."""
        self.commit(write("/a", b"0"))
        staged = self.commit(write("/a", b"1"), write("/a", b"2"), remove("/a"), write("/a", b"3"))
        self.assertEqual([(change.path, change.kind) for change in staged.changes], [(("a",), "changed")])
        self.assertEqual(self.state(), {"/a": b"3"})

    def test_full_tree(self) -> None:
        """A full tree takes no new resource, pending ones counted; it takes writes of what is there, and new ones for removed ones."""
        self.tree = self.build(max_resources=2)
        self.commit(write("/a"))
        pending = self.stage(write("/b"))
        self.assertRaises(TooLarge, self.stage, write("/c"))
        self.stage(write("/b", b"2"))
        self.tree.drop_pending()
        self.commit(write("/b"))
        self.commit(write("/a", b"new"))
        self.assertRaises(TooLarge, self.stage, write("/c"))
        self.assertRaises(TooLarge, self.stage, remove("/a"), write("/c/d"))
        self.commit(remove("/a"), write("/c"))
        self.assertEqual(self.state(), {"/b": b"1", "/c": b"1"})
        self.assertEqual(len(pending.changes), 1)

    def test_refused_unit_changes_nothing(self) -> None:
        """A unit that is refused leaves no pending change and takes no number."""
        self.commit(write("/a"))
        number = self.tree.next_number
        self.assertRaises(NoSuchResource, self.stage, write("/b"), requires=(Requirement(("c",), exists=True),))
        self.assertEqual((self.tree.next_number, self.tree.expected(("b",))), (number, None))


class RemovalTests(TreeCase):
    def test_subtree(self) -> None:
        """A removal takes the resource and all below it, each as a change of its own, and nothing beside it."""
        self.commit(write("/a/b/c"), write("/a/d"), write("/ab"))
        staged = self.commit(remove("/a"))
        self.assertEqual(
            sorted((change.path, change.kind) for change in staged.changes),
            [(path, "deleted") for path in [("a",), ("a", "b"), ("a", "b", "c"), ("a", "d")]],
        )
        self.assertEqual((self.state(), len(self.tree)), ({"/ab": b"1"}, 1))

    def test_pending_children_go_too(self) -> None:
        """A removal also takes what is pending below."""
        self.commit(write("/a/b"))
        pending = self.stage(write("/a/c/d"))
        gone = self.stage(remove("/a"))
        self.assertEqual(sorted(change.path for change in gone.changes), [("a",), ("a", "b"), ("a", "c"), ("a", "c", "d")])
        self.tree.apply(pending)
        self.assertIn("/a/c/d", self.state())
        self.tree.apply(gone)
        self.assertEqual(self.state(), {})

    def test_what_is_pending_removed_is_not_removed_twice(self) -> None:
        """A removal of a subtree, part of which a pending removal takes, takes the rest; of nothing, it is no change."""
        self.commit(write("/a/b"), write("/a/c"))
        self.stage(remove("/a/b"))
        self.assertEqual(sorted(change.path for change in self.stage(remove("/a")).changes), [("a",), ("a", "c")])
        self.assertEqual(self.stage(remove("/a")).changes, ())
        self.assertEqual(self.stage(remove("/nothing")).changes, ())

    def test_write_below_a_pending_removal(self) -> None:
        """A write below a path whose removal is pending makes the path anew, as a collection."""
        self.commit(write("/a", b"old"), write("/a/b"))
        gone, new = self.stage(remove("/a")), self.stage(write("/a/c"))
        self.assertEqual([(change.path, change.kind) for change in new.changes], [(("a",), "created"), (("a", "c"), "created")])
        self.tree.apply(gone)
        self.tree.apply(new)
        self.assertEqual(self.state(), {"/a": COLLECTION, "/a/c": b"1"})

    def test_removal_and_write_below_in_one_unit(self) -> None:
        """In one unit a removal and a write below it leave the path as a collection with that child alone."""
        self.commit(write("/a", b"old"), write("/a/b/x"), write("/a/c"))
        staged = self.commit(remove("/a"), write("/a/b/y"))
        kinds = {"/".join(change.path): change.kind for change in staged.changes}
        self.assertEqual(kinds, {"a": "changed", "a/b": "changed", "a/b/x": "deleted", "a/b/y": "created", "a/c": "deleted"})
        self.assertEqual(self.state(), {"/a": COLLECTION, "/a/b": COLLECTION, "/a/b/y": b"1"})

    def test_write_and_removal_in_one_unit(self) -> None:
        """In one unit a removal also takes what the unit wrote below it before; what was only drafted is no change."""
        self.commit(write("/a"))
        staged = self.commit(write("/a/b"), write("/c/d"), remove("/a"), remove("/c/d"))
        self.assertEqual([(change.path, change.kind) for change in staged.changes], [(("c",), "created"), (("a",), "deleted")])
        self.assertEqual(self.state(), {"/c": COLLECTION})

    def test_everything(self) -> None:
        """A removal of the root takes all that there is."""
        self.commit(write("/a/b"), write("/c"))
        self.commit(remove("/"))
        self.assertEqual((self.state(), len(self.tree)), ({}, 0))


class RequirementTests(TreeCase):
    def refused(self, error: type[Exception], requirement: Requirement) -> None:
        self.assertRaises(error, self.stage, requires=(requirement,))

    def taken(self, requirement: Requirement) -> None:
        self.stage(requires=(requirement,))

    def test_exists(self) -> None:
        """A requirement that something is there, or is not, is held against what is pending as well."""
        there, free = Requirement(("a",), exists=True), Requirement(("a",), exists=False)
        self.refused(NoSuchResource, there)
        self.taken(free)
        made = self.stage(write("/a"))
        self.taken(there)
        self.refused(Conflict, free)
        self.tree.apply(made)
        self.refused(Conflict, free)
        self.stage(remove("/a"))
        self.refused(NoSuchResource, there)
        self.taken(free)

    def test_lost_race(self) -> None:
        """Of two writers that both saw the first version, the one that comes second is refused while the other is still pending."""
        self.commit(write("/a"))
        seen = Requirement(("a",), Conditions(if_match=(etag(CONTENT_TAG, 1),)))
        winner = self.stage(write("/a", b"winner"), requires=(seen,))
        self.assertRaises(PreconditionFailed, self.stage, write("/a", b"loser"), requires=(seen,))
        self.tree.apply(winner)
        self.refused(PreconditionFailed, seen)
        self.assertEqual(self.state(), {"/a": b"winner"})

    def test_the_race_is_open_again_when_the_winner_is_dropped(self) -> None:
        """When the pending write fails, what the other saw is still true."""
        self.commit(write("/a"))
        seen = Requirement(("a",), Conditions(if_match=(etag(CONTENT_TAG, 1),)))
        self.stage(write("/a"), requires=(seen,))
        self.tree.drop_pending()
        self.taken(seen)

    def test_create_only(self) -> None:
        """If-None-Match `*` is refused where something is or is about to be, and holds where it is about to go."""
        free = Requirement(("a",), Conditions(if_none_match=(ANY_ETAG,)))
        self.taken(free)
        made = self.stage(write("/a"))
        self.refused(PreconditionFailed, free)
        self.tree.apply(made)
        self.stage(remove("/a"))
        self.taken(free)
        self.refused(PreconditionFailed, Requirement(("a",), Conditions(if_match=(ANY_ETAG,))))

    def test_derived_types_count_what_is_below(self) -> None:
        """Of a resource that shows its subtree, conditions are held against the subtree, pending changes included."""
        for kind in (DERIVED, COLLECTION):
            self.commit(remove("/"))
            self.commit(write("/g", kind=kind), write("/g/x"))
            seen = Requirement(("g",), Conditions(if_match=(etag(JSON_TAG, self.tree.version(self.tree.get(("g",)))),)))
            self.taken(seen)
            self.stage(write("/h"))
            self.taken(seen)
            self.stage(write("/g/x", b"2"))
            self.refused(PreconditionFailed, seen)
            self.taken(Requirement(("g",), Conditions(if_match=(ANY_ETAG,))))
            self.tree.drop_pending()
            self.taken(seen)
            self.commit(remove("/g/x"))
            self.refused(PreconditionFailed, seen)

    def test_other_types_do_not_count_what_is_below(self) -> None:
        """Of a content resource, conditions are held against its own writes alone."""
        self.commit(write("/t"))
        seen = Requirement(("t",), Conditions(if_match=(etag(CONTENT_TAG, 1),)))
        self.stage(write("/t/Operations/x"))
        self.taken(seen)

    def test_the_root_is_always_there(self) -> None:
        """Conditions on the root are held against the whole tree, also while nothing is in it."""
        self.taken(Requirement((), Conditions(if_match=(ANY_ETAG,))))
        self.taken(Requirement((), Conditions(if_match=(etag(JSON_TAG, 0),))))
        self.commit(write("/a"))
        self.refused(PreconditionFailed, Requirement((), Conditions(if_match=(etag(JSON_TAG, 0),))))
        self.taken(Requirement((), Conditions(if_match=(etag(JSON_TAG, 1),))))


class VersionTests(TreeCase):
    def test_a_collection_changes_with_its_children(self) -> None:
        """A collection's version changes when a child comes, changes or goes, also deep below; that of content does not."""
        self.commit(write("/c/t"), write("/c/t/below"))
        versions = []
        for change in (write("/c/new"), write("/c/t"), write("/c/t/below", b"2"), remove("/c/t/below"), remove("/c/new")):
            self.commit(change)
            versions.append(self.tree.version(self.tree.get(("c",))))
        self.assertEqual(versions, sorted(set(versions)))
        self.assertEqual(self.tree.version(self.tree.get(("c", "t"))), self.tree.get(("c", "t")).version)

    def test_deletion_before_a_restart(self) -> None:
        """A collection whose child was deleted has another version after a restart than before the deletion; content keeps its own."""
        self.commit(write("/c/a"), write("/c/b"))
        before = self.tree.version(self.tree.get(("c",)))
        self.commit(remove("/c/b"))
        kept, last = list(self.tree.walk()), self.tree.committed_number
        self.tree = self.build()
        self.tree.load([(resource, None) for resource in kept], last)
        self.assertGreater(self.tree.version(self.tree.get(("c",))), before)
        self.assertEqual(self.tree.version(self.tree.get(("c", "a"))), 2)
        self.assertEqual((self.tree.next_number, self.tree.committed_number, len(self.tree)), (last + 1, last, 2))

    def test_numbers_go_on_after_dropping(self) -> None:
        """Numbers of a dropped unit are not given again: nobody can take one for the other."""
        dropped = self.stage(write("/a"))
        self.tree.drop_pending()
        self.assertGreater(self.commit(write("/a")).changes[0].number, dropped.last_number)

    def test_a_full_loaded_tree(self) -> None:
        """What was loaded counts for the limit; a tree that is above it takes writes of what is there, and removals."""
        self.commit(write("/a"), write("/b"))
        kept = [(resource, None) for resource in self.tree.walk()]
        self.tree = self.build(max_resources=2)
        self.tree.load(kept, 2)
        self.assertRaises(TooLarge, self.stage, write("/c"))
        self.tree = self.build(max_resources=1)
        self.tree.load(kept, 2)
        self.assertRaises(TooLarge, self.stage, write("/c"))
        self.commit(write("/a", b"2"))
        self.commit(remove("/b"))
        self.assertEqual(self.state(), {"/a": b"2"})


class TellingTests(TreeCase):
    def test_told_after_commit_only(self) -> None:
        """Watchers are told of what was committed, once, in order, and not of what was dropped."""
        told: list[int] = []
        self.tree.watch((), lambda change: told.append(change.number), subtree=True)
        self.stage(write("/dropped"))
        self.tree.drop_pending()
        first, second = self.stage(write("/a/b")), self.stage(write("/c"))
        self.tree.apply(first)
        self.tree.apply(second)
        self.assertEqual(told, [])
        self.tree.tell(first)
        self.tree.tell(second)
        self.assertEqual(told, [2, 3, 4])

    def test_begun_between_commit_and_telling(self) -> None:
        """A watcher that begins when a change is already seen is not told of it, and is told of the one after."""
        told: list[int] = []
        staged = self.stage(write("/a"))
        self.tree.apply(staged)
        self.tree.watch(("a",), lambda change: told.append(change.number))
        self.tree.tell(staged)
        self.commit(write("/a"))
        self.assertEqual(told, [2])

    def test_the_tree_shows_the_change_that_is_told(self) -> None:
        """When a watcher is told, readers already see the change."""
        seen: list[bool] = []
        self.tree.watch(("a",), lambda change: seen.append(self.tree.find(("a",)) is change.after))
        self.commit(write("/a"))
        self.commit(remove("/a"))
        self.assertEqual(seen, [True, True])

    def test_a_watcher_that_writes(self) -> None:
        """A watcher may stage a unit; with a second watcher, both see one order."""
        orders: tuple[list[int], list[int]] = ([], [])

        def copy(change: Change) -> None:
            orders[0].append(change.number)
            if change.path == ("a",):
                self.commit(write("/b"))

        self.tree.watch((), copy, subtree=True)
        self.tree.watch((), lambda change: orders[1].append(change.number), subtree=True)
        self.commit(write("/a"))
        self.assertEqual((orders, self.errors), (([1, 2], [1, 2]), []))
