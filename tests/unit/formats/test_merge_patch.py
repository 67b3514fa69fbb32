"""JSON Merge Patch: the examples of RFC 7396."""

from __future__ import annotations

import copy
import json
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.merge_patch import merge_patch

APPENDIX_A = (
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def without_nulls(value: object) -> object:
    """The value without members that are null: what a patch of nothing gives."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return value


class MergePatchTests(SynchronousTestCase):
    def test_appendix_a(self) -> None:
        """The fifteen examples of RFC 7396, appendix A."""
        for target, patch, result in APPENDIX_A:
            self.assertEqual(merge_patch(json.loads(target), json.loads(patch)), json.loads(result), (target, patch))

    def test_section_3(self) -> None:
        """The example of RFC 7396, section 3."""
        author = {"givenName": "John", "familyName": "Doe"}
        target = {"title": "Goodbye!", "author": author, "tags": ["example", "sample"], "content": "This will be unchanged"}
        patch = {"title": "Hello!", "phoneNumber": "+01-123-456-7890", "author": {"familyName": None}, "tags": ["example"]}
        expected = {
            "title": "Hello!",
            "author": {"givenName": "John"},
            "tags": ["example"],
            "content": "This will be unchanged",
            "phoneNumber": "+01-123-456-7890",
        }
        self.assertEqual(merge_patch(target, patch), expected)

    def test_documents_that_cannot_be_changed(self) -> None:
        """A stored document, which cannot be changed, is patched like any other."""
        self.assertEqual(merge_patch(MappingProxyType({"a": MappingProxyType({"b": 1, "c": 2})}), {"a": {"b": None}}), {"a": {"c": 2}})

    @given(VALUES, VALUES)
    def test_laws(self, target: object, patch: object) -> None:
        """Neither side is changed, a patch laid twice does what it does once, and on nothing it gives itself without nulls."""
        before = copy.deepcopy((target, patch))
        once = merge_patch(target, patch)
        self.assertEqual((target, patch), before)
        self.assertEqual(merge_patch(once, patch), once)
        self.assertEqual(merge_patch(None, patch), without_nulls(patch))
