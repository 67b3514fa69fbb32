"""What every place that keeps the tree does: one suite, run on SQLite and on the one in memory."""

from __future__ import annotations

import os
import random
from pathlib import Path as FilePath

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.model.errors import StorageFailed
from m2mapp.store.database import Database
from m2mapp.store.interfaces import IDatabase
from m2mapp.store.memory import MemoryDatabase
from m2mapp.store.settings import JournalLimit, StoreSettings
from m2mapp.tree.unit import NOTHING, RUNS, Append, Entry, Remove, records_journal
from tests.unit.store.build import FailingSync, build_tree, loaded, put, resources, stage

SETTINGS = StoreSettings(values=JournalLimit(8, 100_000), changes=JournalLimit(16, 100_000), others=JournalLimit(8, 100_000))
ALL = 1 << 40


class Shared:
    """Hides the suite from those who look for test cases: only what inherits it is run."""

    class DatabaseSuite(SynchronousTestCase):
        """`make` and `again` say which database it is."""

        database: IDatabase

        def make(self) -> IDatabase:
            raise NotImplementedError

        def again(self) -> IDatabase:
            """What the next process finds, after an orderly end."""
            raise NotImplementedError

        def break_flushes(self, count: int) -> None:
            raise NotImplementedError

        def setUp(self) -> None:
            self.tree = build_tree()
            self.database = self.make()
            self.database.open()

        def tearDown(self) -> None:
            self.database.close()

        def read(self, name: str, after: int = 0, limit: int = 100, newest: bool = False, upto: int = ALL) -> list[Entry]:
            return self.database.read_journal(name, upto, after, limit, newest)

        def numbers(self, name: str, after: int = 0, limit: int = 100, newest: bool = False, upto: int = ALL) -> list[int]:
            return [entry.number for entry in self.read(name, after, limit, newest, upto)]

        def test_interface(self) -> None:
            """It is what the committer asks for."""
            self.assertTrue(verifyObject(IDatabase, self.database))

        def test_what_was_written_is_loaded(self) -> None:
            """Resources with all that they hold, and the last number, come back; a removed one does not."""
            units = [
                stage(self.tree, put("a", "b", attributes={"x": [1, {"y": b"z"}]}), put("c", content=None, type="thing")),
                stage(self.tree, put("a", "b", content=b"22"), put("é", content=b"")),
                stage(self.tree, Remove(("c",))),
            ]
            self.database.write(units[:2])
            self.database.write(units[2:])
            self.database.flush()
            self.assertEqual(loaded(self.again()), resources(self.tree))
            self.assertEqual(self.database.load()[1], self.tree.committed_number)

        def test_created_changed_and_removed_in_one_transaction(self) -> None:
            """Of several changes to one path the last one counts."""
            self.database.write([stage(self.tree, put("a")), stage(self.tree, Remove(("a",))), stage(self.tree, put("a", content=b"2"))])
            self.database.write([stage(self.tree, put("b")), stage(self.tree, Remove(("b",)))])
            self.database.flush()
            self.assertEqual(loaded(self.again()), resources(self.tree))

        def test_volatile_attributes(self) -> None:
            """They are loaded with their resource, replaced whole, and go with it."""
            self.database.write([stage(self.tree, put("a"), put("b"))], [(("a",), {"lastSeen": 1}), (("b",), {"lastSeen": 2})])
            self.database.write([], [(("a",), {"lastSeen": 3, "from": "x"})])
            self.database.write([stage(self.tree, Remove(("b",)))])
            self.database.write([stage(self.tree, put("b"))])
            found = {resource.path: volatile for resource, volatile in self.again().load()[0]}
            self.assertEqual(found, {("a",): {"lastSeen": 3, "from": "x"}, ("b",): None})

        def test_a_journal_is_read_from_both_ends(self) -> None:
            """The first entries after a number, or the last ones, never more than asked for and never above the committed number."""
            staged = [stage(self.tree, appends=[Append("log", {"n": count})]) for count in range(6)]
            self.database.write(staged)
            first, *_, last = numbers = [one.last_number for one in staged]
            self.assertEqual([entry.body["n"] for entry in self.read("log")], [0, 1, 2, 3, 4, 5])
            self.assertEqual(self.read("log")[0], staged[0].entries[0])
            self.assertEqual(self.numbers("log", limit=2), numbers[:2])
            self.assertEqual(self.numbers("log", limit=2, newest=True), numbers[-2:])
            self.assertEqual(self.numbers("log", after=numbers[2]), numbers[3:])
            self.assertEqual(self.numbers("log", after=numbers[2], limit=2, newest=True), numbers[-2:])
            self.assertEqual(self.numbers("log", upto=last - 1, newest=True), numbers[:-1])
            self.assertEqual(self.numbers("log", after=last), [])
            self.assertEqual(self.numbers("log", limit=0), [])
            self.assertEqual(self.numbers("log", limit=-5, newest=True), [])
            self.assertEqual(self.numbers("nothing"), [])
            self.assertEqual(self.numbers("log", after=-5, upto=first), [first])

        def test_the_tree_keeps_two_journals(self) -> None:
            """Each change stands in `changes`, each value of a content resource in its own journal."""
            self.database.write([stage(self.tree, put("a", "t", content=b"1")), stage(self.tree, put("a", "t", content=b"2"))])
            self.assertEqual([entry.body["content"] for entry in self.read("values/a/t")], [b"1", b"2"])
            self.assertEqual([entry.body["path"] for entry in self.read("changes")], ["/a", "/a/t", "/a/t"])

        def test_a_journal_is_bounded(self) -> None:
            """It keeps what it has to, and never more than an eighth and one write above; each journal by itself."""
            for count in range(100):
                self.database.write([stage(self.tree, put("t", content=b"%d" % count), appends=[Append("log", {"n": count})])])
                for name, limit in (("values/t", 8), ("log", 8), ("changes", 16)):
                    kept = len(self.read(name, limit=1000))
                    self.assertGreaterEqual(kept, min(count + 1, limit))
                    self.assertLessEqual(kept, limit + limit // 8 + 2)
            self.assertEqual([entry.body["n"] for entry in self.read("log", newest=True, limit=8)], list(range(92, 100)))

        def test_the_values_go_with_their_resource(self) -> None:
            """A removed resource's values are gone at once, for one that is made again at the same path too; others stay."""
            self.database.write([stage(self.tree, put("a", content=b"1"), put("b"))])
            self.database.write([stage(self.tree, Remove(("a",)))])
            self.assertEqual(self.read("values/a"), [])
            self.database.write([stage(self.tree, put("a", content=b"2"))])
            self.assertEqual([entry.body["content"] for entry in self.read("values/a")], [b"2"])
            self.database.write([stage(self.tree, Remove(("a",))), stage(self.tree, put("a", content=b"3"))])
            self.assertEqual([entry.body["content"] for entry in self.read("values/a")], [b"3"])
            self.database.write([stage(self.tree, put("a", content=None, type="thing"))])
            self.assertEqual(self.read("values/a"), [])
            self.assertEqual(len(self.read("values/b")), 1)

        def test_records_go_with_their_resource(self) -> None:
            """What a removed resource of another type did is gone too, and stays where the resource is written anew."""
            appends = [Append(records_journal(kind, "/a/b"), {"n": 1}) for kind in (RUNS, NOTHING)]
            self.database.write([stage(self.tree, put("a", "b", content=None, type="thing"), appends=appends)])
            self.database.write([stage(self.tree, put("a", "b", content=None, type="thing"))])
            self.assertEqual([len(self.read(f"records/{kind}/a/b")) for kind in (RUNS, NOTHING)], [1, 1])
            self.database.write([stage(self.tree, Remove(("a",)))])
            self.database.write([stage(self.tree, put("a", "b", content=None, type="thing"))])
            self.assertEqual([len(self.read(f"records/{kind}/a/b")) for kind in (RUNS, NOTHING)], [0, 0])

        def test_a_removal_that_is_not_committed_hides_nothing(self) -> None:
            """Who reads up to a number before the removal still sees the values."""
            self.database.write([stage(self.tree, put("a", content=b"1"))])
            before = self.tree.committed_number
            self.database.write([stage(self.tree, Remove(("a",)))])
            self.assertEqual([entry.body["content"] for entry in self.read("values/a", upto=before)], [b"1"])

        def test_undone(self) -> None:
            """After a failed flush `undo` leaves everything as it was: resources, journals, what a removal dropped, the next numbers."""
            self.database.write([stage(self.tree, put("a", content=b"1"), put("b"))], [(("b",), {"lastSeen": 1})])
            self.database.flush()
            before = resources(self.tree)
            lost = [
                stage(self.tree, put("a", content=b"2"), put("new"), apply=False),
                stage(self.tree, Remove(("b",)), put("a", content=b"3"), appends=[Append("log", {})], apply=False),
            ]
            self.tree.drop_pending()
            self.break_flushes(1)
            self.database.write(lost)
            self.assertRaises(StorageFailed, self.database.flush)
            self.database.undo()
            self.database.repair()
            self.assertEqual(loaded(self.again()), before)
            self.assertEqual([entry.body["content"] for entry in self.read("values/a")], [b"1"])
            self.assertEqual(len(self.read("values/b")), 1)
            self.assertEqual(self.read("log"), [])
            self.assertEqual(self.read("values/new"), [])
            self.assertGreaterEqual(self.database.load()[1], lost[-1].last_number)
            self.database.write([stage(self.tree, put("a", content=b"4"))])
            self.assertEqual([entry.body["content"] for entry in self.read("values/a")], [b"1", b"4"])

        def test_nothing_to_undo(self) -> None:
            """Undoing when all was flushed changes nothing."""
            self.database.write([stage(self.tree, put("a"))])
            self.database.flush()
            self.database.undo()
            self.assertEqual(loaded(self.again()), resources(self.tree))

        def test_closed(self) -> None:
            """What is closed takes nothing and says so; closing twice is no error; it can be opened again."""
            self.database.write([stage(self.tree, put("a"))])
            for _ in range(2):
                self.database.close()
            self.assertRaises(StorageFailed, self.database.write, [stage(self.tree, put("b"), apply=False)])
            self.assertRaises(StorageFailed, self.database.flush)
            self.assertRaises(StorageFailed, self.read, "changes")
            self.tree.drop_pending()
            self.database.open()
            self.assertEqual(loaded(self.database), resources(self.tree))
            self.assertEqual(len(self.read("values/a")), 1)

        def test_tidied(self) -> None:
            """Tidying up, and asking for room, change nothing that is kept."""
            self.database.write([stage(self.tree, put("a"))])
            self.database.flush()
            self.assertFalse(self.database.needs_tidy())
            self.database.tidy()
            self.database.make_room()
            self.assertTrue(self.database.has_room())
            self.database.write([stage(self.tree, put("b"))])
            self.assertEqual(loaded(self.again()), resources(self.tree))


class SqliteTests(Shared.DatabaseSuite):
    def make(self) -> IDatabase:
        self.folder = FilePath(self.mktemp())
        self.folder.mkdir()
        self.sync = FailingSync()
        return Database(self.folder, SETTINGS, sync=self.sync)

    def again(self) -> IDatabase:
        self.database.close()
        self.database = Database(self.folder, SETTINGS, sync=self.sync)
        self.database.open()
        return self.database

    def break_flushes(self, count: int) -> None:
        self.sync.failures = count

    def files(self) -> int:
        """How many descriptors of the database's files are open."""
        names = [os.readlink(entry) for entry in FilePath("/proc/self/fd").iterdir() if entry.is_symlink()]
        return sum(str(self.folder.absolute()) in name for name in names)

    def test_who_reads_often_keeps_files_open(self) -> None:
        """The connection that reads is kept when a node has read often; each read is told the same, and sees what was written since."""
        opened = self.files()
        kept = []
        for count in range(20):
            self.database.write([stage(self.tree, appends=[Append("log", {"n": count})])])
            self.assertEqual(self.read("log", limit=1, newest=True)[0].body["n"], count)
            kept.append(self.files() - opened)
        # The system's locks on the database are lost with any descriptor of it, so that SQLite keeps that one for the next to read.
        self.assertEqual((kept[0], kept[-1]), (1, 2))

    def test_not_read_when_closed(self) -> None:
        """A closed database is not opened again by who reads."""
        self.read("log")
        self.database.close()
        self.assertRaises(StorageFailed, self.read, "log")
        self.assertEqual(self.files(), 0)


class MemoryTests(Shared.DatabaseSuite):
    def make(self) -> IDatabase:
        self.memory = MemoryDatabase(random.Random(1), SETTINGS)
        return self.memory

    def again(self) -> IDatabase:
        self.memory.close()
        self.memory.crash()
        self.memory.open()
        return self.memory

    def break_flushes(self, count: int) -> None:
        self.memory.fail_flushes = count
