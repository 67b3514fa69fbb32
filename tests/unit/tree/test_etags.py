"""Entity tags, and whether conditions hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.messages import ANY_ETAG, UNCONDITIONAL, Conditions
from m2mapp.tree.etags import CBOR_TAG, CONTENT_TAG, JSON_TAG, LINKS_TAG, etag, hold, names_version, of_whole

TAGS = (CONTENT_TAG, JSON_TAG, CBOR_TAG, LINKS_TAG)
VERSIONS = st.integers(0, 2**56 - 1)


class EtagTests(SynchronousTestCase):
    def test_of_whole(self) -> None:
        """A whole representation's tag counts for the resource if it shows the last change; that of the content as it does anyway."""
        for kind in (JSON_TAG, CBOR_TAG):
            self.assertEqual(of_whole((etag(kind, 9),), 5, 9), (etag(CONTENT_TAG, 5),))
            self.assertEqual(of_whole((etag(kind, 5), etag(kind, 8)), 5, 9), (b"", b""))
        self.assertEqual(of_whole((etag(CONTENT_TAG, 5), ANY_ETAG), 5, 9), (etag(CONTENT_TAG, 5), ANY_ETAG))

    @given(VERSIONS, VERSIONS)
    def test_tags_tell_versions_and_representations_apart(self, one: int, other: int) -> None:
        """Tags have at most 8 bytes, differ for each representation, and name their own version and no other."""
        tags = [etag(kind, one) for kind in TAGS]
        self.assertEqual(len(set(tags)), len(TAGS))
        for tag in tags:
            self.assertTrue(1 < len(tag) <= 8)
            self.assertTrue(names_version(tag, one))
            self.assertEqual(names_version(tag, other), one == other)

    @given(st.binary(max_size=10), VERSIONS)
    def test_any_bytes(self, tag: bytes, version: int) -> None:
        """Bytes that a peer made up name a version only if they are a tag of it."""
        self.assertEqual(names_version(tag, version), len(tag) > 1 and tag == etag(tag[0], version))

    def test_zeros_in_front_are_another_tag(self) -> None:
        """The number is written without zeros in front: a longer spelling of it is not the tag."""
        self.assertFalse(names_version(b"\x01\x00\x05", 5))
        self.assertTrue(names_version(b"\x01\x05", 5))


class ConditionTests(SynchronousTestCase):
    def test_no_conditions(self) -> None:
        """Without conditions all holds, whether there is something or not."""
        self.assertTrue(hold(UNCONDITIONAL, 5))
        self.assertTrue(hold(UNCONDITIONAL, None))

    def test_if_match(self) -> None:
        """If-Match holds where one of the tags names the version, in whichever representation; nothing matches nothing."""
        for kind in TAGS:
            self.assertTrue(hold(Conditions(if_match=(b"\x01\x01", etag(kind, 5))), 5))
        self.assertFalse(hold(Conditions(if_match=(etag(JSON_TAG, 4),)), 5))
        self.assertFalse(hold(Conditions(if_match=(etag(JSON_TAG, 5),)), None))
        self.assertTrue(hold(Conditions(if_match=(ANY_ETAG,)), 5))
        self.assertFalse(hold(Conditions(if_match=(ANY_ETAG,)), None))

    def test_if_none_match(self) -> None:
        """If-None-Match holds where none of the tags names the version; `*` where there is nothing."""
        self.assertFalse(hold(Conditions(if_none_match=(etag(CBOR_TAG, 5),)), 5))
        self.assertTrue(hold(Conditions(if_none_match=(etag(CBOR_TAG, 4),)), 5))
        self.assertTrue(hold(Conditions(if_none_match=(ANY_ETAG,)), None))
        self.assertFalse(hold(Conditions(if_none_match=(ANY_ETAG,)), 5))

    def test_both(self) -> None:
        """Where both are given, both have to hold."""
        self.assertFalse(hold(Conditions((etag(1, 5),), (etag(2, 5),)), 5))
        self.assertTrue(hold(Conditions((etag(1, 5),), (etag(2, 4),)), 5))
