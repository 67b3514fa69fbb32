"""The joined answer."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import RESULTS_CBOR, RESULTS_JSON, load_cbor
from m2mapp.groups.results import GroupResults, MemberResult
from m2mapp.model.errors import NotAcceptable
from m2mapp.model.messages import Method, Status

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
    def test_json_and_cbor(self) -> None:
        """The document of spec section 12, the same in JSON and CBOR, by what is accepted; it is not to be cached."""
        for accept, media_type, load in (
            ((), RESULTS_JSON, json.loads),
            ((RESULTS_CBOR,), RESULTS_CBOR, load_cbor),
            (("application/cbor",), "application/cbor", load_cbor),
            (("application/json",), "application/json", json.loads),
        ):
            response = RESULTS.response(Method.GET, accept)
            self.assertEqual((response.status, response.content_type, response.max_age_s), (Status.CONTENT, media_type, 0))
            self.assertEqual(load(response.payload), DOCUMENT)

    def test_a_write(self) -> None:
        """A write's joined answer is 2.04 with the same document."""
        self.assertEqual(RESULTS.response(Method.PUT, ()).status, Status.CHANGED)

    def test_not_acceptable(self) -> None:
        """What is not offered is refused."""
        self.assertRaises(NotAcceptable, RESULTS.response, Method.GET, ("text/html",))

    def test_complete(self) -> None:
        """It is complete where nobody is silent."""
        whole = GroupResults("g", b"12345678", "", {}, (), 1, 0, 1.0)
        self.assertTrue(whole.document()["complete"])

    def test_unknown(self) -> None:
        """A member that may have acted without its answer having come is `unknown` and silent."""
        found = GroupResults("g", b"12345678", "", {}, ("coap://d1/",), 1, 0, 1.0, unknown=("coap://d1/",)).document()
        self.assertEqual((found["members"], found["silent"]), ({"coap://d1/": {"status": "unknown"}}, ["coap://d1/"]))
