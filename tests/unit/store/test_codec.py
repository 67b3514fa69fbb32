"""Rows and documents as they stand on disk."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Malformed
from m2mapp.store.codec import Damaged, decode, encode, key_path, path_key, resource_row, row_resource, weigh
from m2mapp.tree.unit import EMPTY, Append, Document, Resource, Unit, Write

RESOURCE = Resource(("a", "bé"), "content", {"x": [1, None, {"y": b"z"}]}, b"21.5", "text/plain", 5, 7, 9)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")) | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner), max_leaves=8)


class DocumentTests(SynchronousTestCase):
    @given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES))
    def test_round_trip(self, document: dict[str, object]) -> None:
        """A document is read as it was written."""
        self.assertEqual(decode(encode(document)), document)

    def test_a_read_only_view_is_a_document(self) -> None:
        """What is only a mapping is written like a dict, inside too."""
        view: Document = MappingProxyType({"a": MappingProxyType({"b": 1})})
        self.assertEqual(decode(encode(view)), {"a": {"b": 1}})

    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever stands on the disk is a document or `Damaged`."""
        try:
            self.assertIsInstance(decode(data), dict)
        except Damaged:
            return

    def test_no_document(self) -> None:
        """Good CBOR that is no document is damage: nothing else was ever written."""
        self.assertRaises(Damaged, decode, b"\x01")


class RowTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """A resource is read as it was written; the root, without attributes and content, too."""
        root = Resource((), "collection", EMPTY, None, None, 1, 1, 1)
        for resource in (RESOURCE, root, replace(RESOURCE, content=b"", attributes={})):
            self.assertEqual(row_resource(resource_row(resource)), resource)

    def test_equal_parts_are_shared(self) -> None:
        """Type, media type, segments and empty attributes of two rows are the same objects: a large tree holds them once."""
        rows = [
            (*row[:2], row[2], *row[3:]) for row in (resource_row(replace(RESOURCE, attributes={}, version=number)) for number in (1, 2))
        ]
        one, two = (row_resource(("".join(list(row[0])), "".join(list(row[1])), *row[2:])) for row in rows)
        self.assertIs(one.type, two.type)
        self.assertIs(one.path[1], two.path[1])
        self.assertIs(one.attributes, EMPTY)

    def test_a_changed_row_is_damaged(self) -> None:
        """The checksum covers every column."""
        row = resource_row(RESOURCE)
        others = ("x", "x", encode({"x": 2}), b"21.6", "text/html", 6, 8, 10, row[8] ^ 1)
        for column, other in enumerate(others):
            changed = (*row[:column], other, *row[column + 1 :])
            self.assertRaises(Damaged, row_resource, changed)

    def test_nothing_is_not_empty(self) -> None:
        """No content and an empty content have different checksums."""
        self.assertRaises(Damaged, row_resource, (*resource_row(replace(RESOURCE, content=None))[:3], b"", *resource_row(RESOURCE)[4:]))

    def test_keys(self) -> None:
        """A path and its key name each other."""
        for path in ((), ("a",), ("a", "b c", "é")):
            self.assertEqual(key_path(path_key(path)), path)


class WeighTests(SynchronousTestCase):
    def test_counts_what_is_carried(self) -> None:
        """Content, attributes and entries count with their bytes."""
        light = weigh(Unit((Write(("a",)),), (Append("log", {}),)))
        heavy = weigh(Unit((Write(("a",), content=bytes(1000), attributes={"x": bytes(1000)}),), (Append("log", {"x": bytes(1000)}),)))
        self.assertGreater(heavy, light + 3000)

    def test_what_cannot_be_written_is_refused(self) -> None:
        """Text that is no UTF-8, things that are no documents: each is `Malformed` and names the field."""
        lone = "\ud800"
        units = {
            "attributes": Unit((Write(("a",), attributes={"x": lone}),)),
            "path": Unit((Write((lone,)),)),
            "media type": Unit((Write(("a",), media_type=lone),)),
            "type": Unit((Write(("a",), type=lone),)),
            "journal": Unit(appends=(Append(lone, {}),)),
            "journal entry": Unit(appends=(Append("log", {"x": object()}),)),
            "trace": Unit(trace=lone),
        }
        for field, bad in units.items():
            self.assertEqual(self.assertRaises(Malformed, weigh, bad).field, field)

    def test_what_cannot_be_read_again_is_refused(self) -> None:
        """A document so deep that it could be written but never loaded would keep the node from starting."""
        deep: list[object] = []
        for _ in range(500):
            deep = [deep]
        error = self.assertRaises(Malformed, weigh, Unit((Write(("a",), attributes={"x": deep}),)))
        self.assertEqual(error.field, "attributes")
