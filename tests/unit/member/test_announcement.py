"""Advertisements to many: who is named, and what is none."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import CBOR, JSON, dump_cbor
from m2mapp.formats.uris import Uri
from m2mapp.member.announcement import MAX_NAMED, Announcement, announced
from m2mapp.model.errors import Fault, Malformed, UnsupportedMediaType

OWN, OTHER = "coap://d1.example.org", "coap://d2.example.org"
JOIN = {"name": "g1-g-1", "mcAddress": "ff35::1", "fanoutURI": "/t", "leisure": 0.5}


def is_own(uri: Uri) -> bool:
    return uri.host == "d1.example.org"


def told(document: object) -> Announcement | None:
    """What the document says to d1."""
    return announced(dump_cbor(document), CBOR, is_own)


class AnnouncementTests(SynchronousTestCase):
    def test_join(self) -> None:
        """The mcGroup has what the advertisement says, and of the members those of this device, each path once."""
        members = [f"{OTHER}/t", f"{OWN}/t", f"{OWN}/u", f"{OWN}/t"]
        document = {"mcAddress": "ff35::1", "fanoutURI": "/t", "leisure": 0.5, "memberList": ["/t", "/u"]}
        self.assertEqual(told({**JOIN, "members": members}), Announcement("g1-g-1", document, 0.5))

    def test_leave(self) -> None:
        """Who is named leaves."""
        self.assertEqual(told({"name": "g1-g-1", "leisure": 2, "leave": [f"{OWN}/t"]}), Announcement("g1-g-1", None, 2.0))

    def test_not_named(self) -> None:
        """Who is not named is not told anything."""
        self.assertIsNone(told({**JOIN, "members": [f"{OTHER}/t"]}))
        self.assertIsNone(told({"name": "g1-g-1", "leave": [f"{OTHER}/t"]}))

    def test_bad_ones(self) -> None:
        """Each fault names its field."""
        for document, field in (
            ({"members": [f"{OWN}/t"]}, "name"),
            ({"name": "a/b", "members": [f"{OWN}/t"]}, "name"),
            ({"name": "a"}, "members"),
            ({"name": "a", "members": [f"{OWN}/t"], "leave": [f"{OWN}/t"]}, "members"),
            ({"name": "a", "members": ["/t"]}, "members[0]"),
            ({"name": "a", "members": []}, "members"),
            ({"name": "a", "leisure": -1, "leave": [f"{OWN}/t"]}, "leisure"),
            ({"name": "a", "leave": [f"{OWN}/{number}" for number in range(MAX_NAMED + 1)]}, "leave"),
        ):
            self.assertEqual(self.assertRaises(Malformed, told, document).field, field)
        self.assertRaises(UnsupportedMediaType, announced, b"x", "text/plain", is_own)

    @given(st.binary(max_size=60), st.sampled_from([CBOR, JSON, None]))
    def test_any_bytes(self, payload: bytes, media_type: str | None) -> None:
        """Whatever comes is an advertisement, none for this node, or a fault."""
        with contextlib.suppress(Fault):
            announced(payload, media_type, is_own)
