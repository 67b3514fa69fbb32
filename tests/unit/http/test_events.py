"""Event streams: what is told live, what is replayed after a gap, and what a slow reader costs."""

from __future__ import annotations

from m2mapp.tree.etags import CONTENT_TAG, JSON_TAG, etag
from m2mapp.tree.unit import Remove, Write
from tests.unit.http.cases import StreamCase, parse_stream
from tests.unit.http.harness import ADMIN, SCOPED


class LiveTests(StreamCase):
    def test_head(self) -> None:
        """The stream says its type, is not to be stored, and tells where it begins."""
        reader = self.open("/a")
        self.assertEqual(reader.body(), b"retry: 2000\nid: 3\n\n")
        self.assertIn(b"HTTP/1.1 200 OK", reader.head)
        self.assertIn(b"Content-Type: text/event-stream\r\n", reader.head + b"\r\n")
        self.assertIn(b"Cache-Control: no-store", reader.head)
        self.assertIn(b"M2M-Trace: ", reader.head)

    def test_changes_of_a_resource(self) -> None:
        """A change comes with all that section 12 of the specification lists; those of others do not come."""
        reader = self.open("/a")
        change = self.node.put("/a", "2½\n".encode(), "text/plain;charset=utf-8")
        self.node.put("/b/c", b"3")
        self.node.put("/a/below", b"4")
        self.node.commit(Remove(("a",)))
        first, second = reader.events()
        self.assertEqual(
            first,
            (
                "change",
                change.number,
                {
                    "path": "/a",
                    "kind": "changed",
                    "etag": etag(CONTENT_TAG, change.number).hex(),
                    "at": "2027-01-15T08:00:00.123Z",
                    "trace": "f" * 32,
                    "contentType": "text/plain;charset=utf-8",
                    "content": "2½\n",
                },
            ),
        )
        self.assertEqual(second[2], {"path": "/a", "kind": "deleted", "at": "2027-01-15T08:00:00.123Z", "trace": "f" * 32})

    def test_subtree(self) -> None:
        """With `?subtree` what is below is told too, collections as well; `?subtree=false` is none."""
        below, only = self.open("/b?subtree"), self.open("/b?subtree=false")
        self.node.put("/b/d/e", b"5")
        self.node.put("/bb", b"6")
        self.assertEqual([(data["path"], data["kind"]) for _, _, data in below.events()], [("/b/d", "created"), ("/b/d/e", "created")])
        self.assertEqual(only.events(), [])

    def test_root(self) -> None:
        """The root's subtree is everything; its events bear the representation's ETag where there is no content."""
        reader = self.open("/?subtree")
        change, _ = self.node.commit(Write(("x", "y"), content=b"7"))
        first = reader.events()[0]
        self.assertEqual(first[2]["etag"], etag(JSON_TAG, change.number).hex())
        self.assertNotIn("content", first[2])

    def test_content_in_documents(self) -> None:
        """JSON and CBOR stand as what they say, other bytes as base64."""
        reader = self.open("/a")
        self.node.put("/a", b'{"t": [1, "x"]}', "application/json")
        self.node.put("/a", b"\xa1\x61t\x01", "application/cbor")
        self.node.put("/a", b"\x00\xff", "application/octet-stream")
        self.assertEqual([data["content"] for _, _, data in reader.events()], [{"t": [1, "x"]}, {"t": 1}, {"base64": "AP8="}])

    def test_heartbeat(self) -> None:
        """A comment every 15 seconds keeps the stream alive."""
        reader = self.open("/a")
        reader.body()
        self.node.clock.advance(15)
        self.assertEqual(reader.body(), b":\n\n")
        self.node.sweep(400)
        self.assertTrue(reader.client.open)

    def test_http_1_0(self) -> None:
        """A client of HTTP/1.0 gets the stream without chunks, to the end of the connection."""
        client = self.node.client()
        client.send(f"GET /a HTTP/1.0\r\nAuthorization: Bearer {ADMIN}\r\nAccept: text/event-stream\r\n\r\n".encode())
        self.node.put("/a", b"2")
        head, _, body = client.received().partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head)
        self.assertEqual(parse_stream(body)[0][2]["content"], "2")

    def test_client_that_leaves(self) -> None:
        """A stream ends with its connection."""
        reader = self.open("/a")
        reader.client.leave()
        self.node.put("/a", b"2")
        self.assertEqual(self.gauge("m2mapp_http_streams"), 0)

    def test_end_of_all(self) -> None:
        """When the service stops its streams end in good order, and the connections with them."""
        reader = self.open("/a")
        self.node.streams.outlets.close_all()
        reader.body()
        reader.client.settle()
        self.assertEqual((reader.ended, reader.client.open), (True, False))


class RefusalTests(StreamCase):
    def test_rights(self) -> None:
        """Who may not read there gets no stream."""
        self.assertEqual(self.refused("/a", token=None), 401)
        self.assertEqual(self.refused("/b/c", token=SCOPED), 403)
        self.assertEqual(self.refused("/?subtree", token=SCOPED), 403)
        self.assertIn(b"200 OK", self.open("/a?subtree", token=SCOPED).client.received())

    def test_nothing_there(self) -> None:
        """There is no stream of what is not there; who comes back to one after a deletion gets its end told."""
        self.assertEqual(self.refused("/nothing"), 404)
        self.node.commit(Remove(("a",)))
        events = self.open("/a", Last_Event_ID="1").events()
        self.assertEqual([data["kind"] for _, _, data in events], ["deleted"])

    def test_bad_asks(self) -> None:
        """What is no number of a change, or no flag, is refused."""
        for target, fields in [
            ("/a?subtree=maybe", {}),
            ("/a?last-event-id=x", {}),
            ("/a", {"Last_Event_ID": "-1"}),
            ("/a", {"Last_Event_ID": "1" * 19}),
        ]:
            self.assertEqual(self.refused(target, **fields), 400)

    def test_numbers(self) -> None:
        """Streams are limited for a source and in all; one that ended makes room."""
        readers = [self.open("/a") for _ in range(3)]
        client = self.node.client()
        self.assertEqual(client.request("GET", "/a", Accept="text/event-stream").code, 429)
        other = self.open("/a", host="192.0.2.8")
        self.assertEqual(self.refused("/a"), 503)
        readers[0].client.leave()
        self.assertEqual(client.request("GET", "/a").code, 200)
        other.client.leave()
        self.assertIn(b"200 OK", self.open("/a").client.received())
