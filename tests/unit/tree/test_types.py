"""Where resource types may stand."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Conflict, Malformed
from m2mapp.model.identifiers import Path
from m2mapp.tree.paths import RESERVED
from m2mapp.tree.types import ANYWHERE, ResourceType, Types, attributes_only, named_as
from m2mapp.tree.unit import COLLECTION, CONTENT, Document, Resource
from tests.unit.fakes import build_tree


def keep(name: str, given: Document) -> Document:
    return given


SCL = ResourceType("scl", ("scls", "*"), keep)
GROUP = ResourceType("group", ("groups", "*"), keep, derived=True)
SET = ResourceType("fanoutSet", ("groups", "*", "fanoutSets", "*"), keep)
NODE = ResourceType("node", ("node",), keep)


class TypesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.types = Types([SCL, GROUP, SET, NODE])

    def test_places(self) -> None:
        """A type is found at its place, with any name where the place has a star; elsewhere there is content."""
        places: tuple[tuple[Path, ResourceType | None], ...] = (
            (("scls", "d1"), SCL),
            (("scls", "*"), SCL),
            (("groups", "g"), GROUP),
            (("groups", "g", "fanoutSets", "1"), SET),
            (("node",), NODE),
            (("temperature",), None),
            (("scl", "d1"), None),
            (("a", "groups", "g"), None),
            ((), None),
        )
        for path, kind in places:
            self.assertIs(self.types.at(path), kind, path)

    def test_anywhere(self) -> None:
        """A type whose place begins so stands below whatever it may be, a reserved name too, but not at the root."""
        operation = ResourceType("operation", (ANYWHERE, "Operations", "*"), keep)
        dependency = ResourceType("dependency", (ANYWHERE, "Operations", "*", "Dependencies", "*"), keep)
        types = Types([SCL, operation, dependency])
        for path, kind in (
            (("t", "Operations", "o"), operation),
            (("a", "b", "Operations", "o"), operation),
            (("scls", "d1", "Operations", "o"), operation),
            (("t", "Operations", "o", "Dependencies", "d"), dependency),
            (("t", "Operations"), None),
            (("Operations", "o"), None),
            (("t", "Operations", "o", "x"), None),
            (("scls", "d1"), SCL),
        ):
            self.assertIs(types.at(path), kind, path)
        self.assertEqual(types.owner(("t", "Operations", "o", "Dependencies", "d")), ("t", "Operations", "o"))
        self.assertEqual(types.owned_collections(), {("scls",)})

    def test_reserved_names(self) -> None:
        """At and below a reserved name nothing stands but the types that have their place there."""
        for path in (
            ("groups",),
            ("scls", "d1", "x"),
            ("groups", "g", "x", "1"),
            ("groups", "g", "fanoutSets"),
            ("node", "x"),
            (".well-known", "x"),
        ):
            self.assertRaises(Conflict, self.types.at, path)
        for name in RESERVED:
            self.assertRaises(Conflict, Types().at, (name,))
            self.assertRaises(Conflict, Types().at, (name, "x"))

    def test_owned_collections(self) -> None:
        """The collections of types are those with one place: that of a type inside another's resources is not among them."""
        self.assertEqual(self.types.owned_collections(), {("scls",), ("groups",)})

    def test_owners(self) -> None:
        """What stands inside a typed resource needs that one, however far above; what stands elsewhere needs nothing."""
        owners: tuple[tuple[Path, Path | None], ...] = (
            (("groups", "g", "fanoutSets", "1"), ("groups", "g")),
            (("scls", "d1", "x", "y"), ("scls", "d1")),
            (("node", "x"), ("node",)),
            (("scls", "d1"), None),
            (("a", "b", "c"), None),
            ((), None),
        )
        for path, owner in owners:
            self.assertEqual(self.types.owner(path), owner, path)

    def test_derived(self) -> None:
        """Collections are derived, and the types that say so; content is not."""
        self.assertEqual(
            [self.types.derived(name) for name in (COLLECTION, "group", "scl", CONTENT, "unknown")], [True, True, False, False, False]
        )
        self.assertEqual((self.types.named("group"), self.types.named(CONTENT)), (GROUP, None))

    def test_names_in_documents(self) -> None:
        """A document may say the name that its path says, and no other; the name is not kept."""
        self.assertEqual(named_as("g", {"name": "g", "a": 1}), {"a": 1})
        self.assertEqual(named_as("g", {"a": 1}), {"a": 1})
        others: tuple[object, ...] = ("h", "", None, 5)
        for other in others:
            self.assertEqual(self.assertRaises(Malformed, named_as, "g", {"name": other}).field, "name")

    def test_plain_description(self) -> None:
        """Where a type says nothing else, its representation is what is kept and the volatile attributes."""
        resource = Resource(("scls", "d1"), "scl", {"port": 1}, None, None, 0, 0, 1)
        tree = build_tree([SCL]).tree
        tree.load([(resource, {"lastSeen": 5})], 1)
        shown: Mapping[str, object] = attributes_only(resource, tree)
        self.assertEqual(shown, {"port": 1, "lastSeen": 5})
