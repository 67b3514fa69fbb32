"""The joined answer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.results import GroupResults, MemberResult

RESULTS = GroupResults(
    group="grp7",
    request_id=bytes.fromhex("9f86d081884c7d65"),
    trace="ab" * 16,
    members={
        "coap://d1.example.org/xx/aa": MemberResult("2.05", b"21.5", "text/plain", "multicast", 12.06),
        "coap://d2.example.org/xx/aa": MemberResult("4.04", b"", None, "repair", 700.0),
        "coap://d3.example.org/xx/aa": MemberResult("2.05", b"\xff", "image/png", "unicast", 1.0),
        "coap://d4.example.org/xx/aa": MemberResult("2.05", b'{"t":1}', "application/json", "unicast", 1.0),
    },
    silent=("coap://d9.example.org/xx/aa",),
    sent=4,
    received=4,
    ms=714.25,
)
DOCUMENT = {
    "group": "/groups/grp7",
    "requestId": "9f86d081884c7d65",
    "trace": "ab" * 16,
    "complete": False,
    "datagrams": {"sent": 4, "received": 4},
    "ms": 714.2,
    "silent": ["coap://d9.example.org/xx/aa"],
    "loops": 0,
    "members": {
        "coap://d1.example.org/xx/aa": {"status": "2.05", "via": "multicast", "ms": 12.1, "contentType": "text/plain", "content": "21.5"},
        "coap://d2.example.org/xx/aa": {"status": "4.04", "via": "repair", "ms": 700.0},
        "coap://d3.example.org/xx/aa": {
            "status": "2.05",
            "via": "unicast",
            "ms": 1.0,
            "contentType": "image/png",
            "content": {"base64": "/w=="},
        },
        "coap://d4.example.org/xx/aa": {
            "status": "2.05",
            "via": "unicast",
            "ms": 1.0,
            "contentType": "application/json",
            "content": {"t": 1},
        },
    },
}


class ResultsTests(SynchronousTestCase):
    def test_the_document(self) -> None:
        """The document of spec section 12."""
        self.assertEqual(RESULTS.document(), DOCUMENT)

    def test_complete(self) -> None:
        """It is complete where nobody is silent."""
        whole = GroupResults("g", b"12345678", "", {}, (), 1, 0, 1.0)
        self.assertTrue(whole.document()["complete"])

    def test_unknown(self) -> None:
        """A member that may have acted without its answer having come is `unknown` and silent."""
        found = GroupResults("g", b"12345678", "", {}, ("coap://d1/",), 1, 0, 1.0, unknown=("coap://d1/",)).document()
        self.assertEqual((found["members"], found["silent"]), ({"coap://d1/": {"status": "unknown"}}, ["coap://d1/"]))

    def test_no_media_type(self) -> None:
        """A content of which its sender says no media type is text where it can be read as such, else bytes; null says that it did not."""
        for content, shown in (
            (b"21.5\n", "21.5\n"),
            ("9 \u00b0C".encode(), "9 \u00b0C"),
            (b"\x00\x01", {"base64": "AAE="}),
            (b"\xff", {"base64": "/w=="}),
        ):
            entry = MemberResult("2.05", content, None, "multicast", 1.0).entry()
            self.assertEqual((entry["contentType"], entry["content"]), (None, shown))
