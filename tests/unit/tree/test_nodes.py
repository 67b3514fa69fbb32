"""The committed tree by itself: finding, listing, numbers of the last change, volatile attributes."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.identifiers import Path
from m2mapp.tree.nodes import Nodes
from m2mapp.tree.unit import COLLECTION, EMPTY, Change, Resource


def resource(path: Path, version: int = 1) -> Resource:
    return Resource(path, COLLECTION, EMPTY, None, None, 0, 0, version)


class NodesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.nodes = Nodes()
        self.number = 0

    def put(self, *paths: Path) -> None:
        for path in paths:
            self.number += 1
            self.nodes.apply(Change(self.number, path, None, resource(path, self.number), 0, ""))

    def remove(self, *paths: Path) -> None:
        for path in paths:
            self.number += 1
            self.nodes.apply(Change(self.number, path, self.nodes.find(path), None, 0, ""))

    def names(self, path: Path, after: str | None = None, limit: int | None = None) -> list[str]:
        return [child.path[-1] for child in self.nodes.children(path, after, limit)]

    def test_find(self) -> None:
        """What was put is found at its path, and nothing elsewhere."""
        self.put(("a",), ("a", "b"))
        found = self.nodes.find(("a", "b"))
        self.assertEqual(found and found.version, 2)
        for path in ((), ("b",), ("a", "c"), ("a", "b", "c")):
            self.assertIsNone(self.nodes.find(path))
        self.assertEqual(self.nodes.count, 2)

    def test_replacing_does_not_count_twice(self) -> None:
        """A resource that is written again is still one; a removal of what is not there changes nothing."""
        self.put(("a",), ("a",))
        self.remove(("b",), ("a", "b"))
        self.assertEqual(self.nodes.count, 1)

    def test_latest_is_the_subtrees(self) -> None:
        """A path's latest number is that of the last write or removal at or below it, and not of its siblings."""
        self.put(("a",), ("a", "b"), ("c",), ("a", "d"))
        self.assertEqual([self.nodes.latest(path) for path in ((), ("a",), ("a", "b"), ("c",))], [4, 4, 2, 3])
        self.remove(("a", "b"))
        self.assertEqual([self.nodes.latest(path) for path in ((), ("a",), ("c",))], [5, 5, 3])

    def test_latest_after_a_start(self) -> None:
        """After a start no subtree shows a number below the last one given: what was deleted before is in no node any more."""
        self.nodes.load(resource(("a",), 3))
        self.nodes.load(resource(("a", "b"), 4))
        self.nodes.loaded(9)
        self.assertEqual(self.nodes.latest(("a",)), 9)
        self.number = 9
        self.put(("c",))
        self.assertEqual([self.nodes.latest(path) for path in ((), ("a",), ("c",))], [10, 9, 10])

    def test_order_of_few_and_many_children(self) -> None:
        """Children are listed by name, few or many, whatever order they came and went in."""
        chance = random.Random(7)
        for size in (5, 64, 65, 300):
            names = [f"n{number}" for number in range(size)]
            chance.shuffle(names)
            self.put((str(size),), *((str(size), name) for name in names))
            self.assertEqual(self.names((str(size),)), sorted(names))
            gone = names[: size // 2]
            self.remove(*((str(size), name) for name in gone))
            self.put((str(size), "n00"))
            self.assertEqual(self.names((str(size),)), sorted({*names, "n00"} - set(gone)))

    def test_pages(self) -> None:
        """A page begins behind the name given, also one that is not there, and has at most so many; strange names are only names."""
        for size in (10, 100):
            path = (f"c{size}",)
            self.put(path, *((*path, f"{number:03}") for number in range(size)))
            self.assertEqual(self.names(path, "002", 3), ["003", "004", "005"])
            self.assertEqual(self.names(path, "0025", 2), ["003", "004"])
            self.assertEqual(self.names(path, "", 1), ["000"])
            self.assertEqual(self.names(path, "zzz"), [])
            self.assertEqual(self.names(path, "\U0010ffff"), [])
            self.assertEqual(len(self.names(path, "\0")), size)

    def test_walk(self) -> None:
        """A walk gives the resource and all below it once, parents first; of a path that is not there, nothing."""
        paths: list[Path] = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "d"), ("e",)]
        self.put(*paths)
        walked = [found.path for found in self.nodes.walk(())]
        self.assertEqual(sorted(walked), paths)
        for path in walked:
            self.assertTrue(len(path) == 1 or walked.index(path[:-1]) < walked.index(path))
        self.assertEqual(sorted(found.path for found in self.nodes.walk(("a", "b"))), paths[1:3])
        self.assertEqual(list(self.nodes.walk(("x",))), [])

    def test_children_without_a_resource_above(self) -> None:
        """A page is full although nodes without a resource lie between; they are not listed."""
        self.nodes.load(resource(("c", "a", "deep")))
        for name in ("b", "d"):
            self.nodes.load(resource(("c", name)))
        self.assertEqual(self.names(("c",), None, 2), ["b", "d"])

    def test_nothing_is_kept_of_what_went(self) -> None:
        """When a subtree is gone, in whatever order, its nodes are gone, and the counts with them."""
        paths: list[Path] = [("a",), ("a", "b"), ("a", "b", "c")]
        for order in (paths, paths[::-1]):
            self.put(*paths)
            self.remove(*order)
            self.assertEqual((self.nodes.count, list(self.nodes.walk(())), self.names(())), (0, [], []))

    def test_volatile(self) -> None:
        """Volatile attributes stay over writes, and go with the resource, also if something still stands below it."""
        self.put(("a",), ("a", "b"))
        self.nodes.volatile(("a",))["lastSeen"] = 5
        self.put(("a",))
        self.assertEqual(self.nodes.volatile(("a",)), {"lastSeen": 5})
        self.remove(("a",))
        self.assertEqual(self.nodes.volatile(("a",)), {})
        self.nodes.volatile(("a",))["lastSeen"] = 6
        self.nodes.volatile(("nowhere",))["lastSeen"] = 6
        self.put(("a",))
        self.assertEqual((self.nodes.volatile(("a",)), self.nodes.volatile(("nowhere",))), ({}, {}))

    def test_loaded_volatile_attributes_are_a_copy(self) -> None:
        """What was loaded can be changed without changing what it was loaded from."""
        given = {"lastSeen": 1}
        self.nodes.load(resource(("a",)), given)
        self.nodes.volatile(("a",))["lastSeen"] = 2
        self.assertEqual((given, self.nodes.volatile(("a",))), ({"lastSeen": 1}, {"lastSeen": 2}))
