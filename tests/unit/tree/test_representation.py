"""From resources to bytes: content as stored, whole representations, collections in pages, negotiation, ETags."""

from __future__ import annotations

import json
import random
from urllib.parse import parse_qsl

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import CBOR, JSON, LINK_FORMAT, RESOURCE_CBOR, RESOURCE_JSON, TEXT, load_cbor
from m2mapp.formats.link_format import parse_links
from m2mapp.model.errors import Malformed, NoSuchResource, NotAcceptable
from m2mapp.model.messages import Method, Response
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import EMPTY, Remove, Unit, Write
from tests.unit.fakes import START_MS, Built, answer_of, ask, build_tree

SCL = ResourceType("scl", ("scls", "*"), lambda _, given: given)


class RepresentationCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.built: Built = build_tree([SCL])

    def commit(self, *changes: Write | Remove) -> None:
        self.successResultOf(self.built.committer.commit(Unit(changes)))

    def get(self, path: str, *accept: str, query: tuple[tuple[str, str], ...] = ()) -> Response:
        return answer_of(self.built, ask(Method.GET, path, accept=accept, query=query))


class ContentTests(RepresentationCase):
    def test_as_stored(self) -> None:
        """Content comes back as it was stored, byte by byte, with its media type, its time and its ETag."""
        self.commit(Write(("t",), content=b" 21.5\n", media_type="text/plain;charset=utf-8"))
        self.built.clock.advance(1)
        response = self.get("/t")
        self.assertEqual(
            (response.payload, response.content_type, response.modified_ms), (b" 21.5\n", "text/plain;charset=utf-8", START_MS)
        )
        self.assertEqual(self.get("/t", TEXT), response)
        self.assertEqual(self.get("/t", "*/*"), response)

    def test_whole(self) -> None:
        """The whole representation has content, attributes and times, in JSON and in CBOR alike."""
        self.commit(Write(("t",), attributes={"attributes": {"rt": "temp"}}, content=b"21.5", media_type=TEXT))
        expected = {
            "path": "/t",
            "type": "content",
            "contentType": TEXT,
            "content": "21.5",
            "attributes": {"rt": "temp"},
            "created": "2027-01-15T08:00:00.000Z",
            "modified": "2027-01-15T08:00:00.000Z",
        }
        as_json, as_cbor = self.get("/t", RESOURCE_JSON), self.get("/t", RESOURCE_CBOR)
        self.assertEqual((json.loads(as_json.payload), load_cbor(as_cbor.payload)), (expected, expected))
        self.assertEqual((as_json.content_type, as_cbor.content_type), (RESOURCE_JSON, RESOURCE_CBOR))

    def test_etags(self) -> None:
        """Each representation has its own ETag, and each write changes all of them, also a write of the same content."""
        tags: set[bytes | None] = set()
        for _ in range(3):
            self.commit(Write(("t",), content=b"1", media_type=TEXT))
            tags |= {self.get("/t", *accept).etag for accept in ((), (RESOURCE_JSON,), (RESOURCE_CBOR,))}
        self.assertEqual(len(tags), 9)
        self.assertTrue(all(tag and len(tag) <= 8 for tag in tags))

    def test_negotiation(self) -> None:
        """The first accepted type wins; what there is not is refused with what there is."""
        self.commit(Write(("j",), content=b"{}", media_type=JSON))
        self.assertEqual(self.get("/j", RESOURCE_CBOR, JSON).content_type, RESOURCE_CBOR)
        self.assertEqual(self.get("/j", "text/html", "application/*").content_type, JSON)
        self.assertEqual(self.assertRaises(NotAcceptable, self.get, "/j", TEXT, CBOR).offered, (JSON, RESOURCE_JSON, RESOURCE_CBOR))

    def test_without_media_type(self) -> None:
        """Content without a media type is octets."""
        self.commit(Write(("o",), content=b"\xff"))
        self.assertEqual(self.get("/o").content_type, "application/octet-stream")


class TypedTests(RepresentationCase):
    def test_json_and_cbor(self) -> None:
        """A typed resource has JSON and CBOR representations with volatile attributes, which do not change the ETags."""
        self.commit(Write(("scls", "d1"), "scl", {"port": 5683}))
        before = {accept: self.get("/scls/d1", accept).etag for accept in (JSON, CBOR)}
        self.built.tree.volatile(("scls", "d1"))["lastSeen"] = 5
        self.assertEqual(json.loads(self.get("/scls/d1").payload), {"port": 5683, "lastSeen": 5})
        self.assertEqual(load_cbor(self.get("/scls/d1", CBOR).payload), {"port": 5683, "lastSeen": 5})
        self.assertEqual({accept: self.get("/scls/d1", accept).etag for accept in (JSON, CBOR)}, before)
        self.assertEqual(len(set(before.values())), 2)
        self.assertRaises(NotAcceptable, self.get, "/scls/d1", TEXT)


class CollectionTests(RepresentationCase):
    def test_the_root_and_the_types_collections_are_always_there(self) -> None:
        """The root and the collections of the types can be read before anything was written; other paths are not there."""
        self.assertEqual(json.loads(self.get("/").payload), {"path": "/", "type": "collection", "children": []})
        self.assertEqual(json.loads(self.get("/scls").payload)["children"], [])
        for path in ("/a", "/scls/d1", "/groups", "/node", "/.well-known"):
            self.assertRaises(NoSuchResource, self.get, path)

    def test_children(self) -> None:
        """A collection shows its children by name, in JSON, CBOR and link format."""
        self.commit(Write(("c", "b"), content=b"1"), Write(("c", "a", "x"), content=b"1"))
        shown = json.loads(self.get("/c").payload)
        self.assertEqual(shown, load_cbor(self.get("/c", CBOR).payload))
        self.assertEqual([(child["name"], child["type"]) for child in shown["children"]], [("a", "collection"), ("b", "content")])
        self.assertEqual([link.target for link in parse_links(self.get("/c", LINK_FORMAT).payload.decode())], ["/c/a", "/c/b"])
        self.assertRaises(NotAcceptable, self.get, "/c", TEXT)

    def test_etags(self) -> None:
        """A collection's ETag differs for each representation, and changes when a child comes, changes or goes."""
        tags: list[bytes | None] = []
        for change in (
            Write(("c", "a")),
            Write(("c", "a")),
            Write(("c", "a", "deep")),
            Remove(("c", "a", "deep")),
            Write(("c", "b")),
            Remove(("c", "a")),
        ):
            self.commit(change)
            tags += [self.get("/c", accept).etag for accept in (JSON, CBOR, LINK_FORMAT)]
        self.assertEqual(len(set(tags)), len(tags))
        self.commit(Write(("other",)))
        self.assertIn(self.get("/c").etag, tags)

    def test_a_thousand_children_page_by_page(self) -> None:
        """A collection of 1,000, made in any order, is read page by page by following the next query: each child once, in order."""
        names = [f"n{number}" for number in range(990)] + ["a b", "ä", "*", "~", "%41", "&after=x", "constructor", "A", "\U0001f600", "n"]
        random.Random(3).shuffle(names)
        self.commit(*(Write(("c", name), content=b"", attributes=EMPTY) for name in names))
        for accept in (JSON, LINK_FORMAT):
            found: list[str] = []
            query: tuple[tuple[str, str], ...] | None = (("limit", "37"),)
            while query is not None:
                response = self.get("/c", accept, query=query)
                if accept == JSON:
                    document = json.loads(response.payload)
                    found += [child["name"] for child in document["children"]]
                    self.assertEqual(document.get("next"), dict(response.next_query or ()).get("after"))
                else:
                    links = parse_links(response.payload.decode())
                    further = [link.target for link in links if link.get("rel") == "next"]
                    pairs = tuple(parse_qsl(further[0].partition("?")[2])) if further else None
                    self.assertEqual(pairs, response.next_query)
                    found += [link.target for link in links if link.get("rel") is None]
                query = response.next_query
            self.assertEqual(len(found), 1000)
            if accept == JSON:
                self.assertEqual(found, sorted(names))

    def test_page_sizes(self) -> None:
        """A page has 100 children where nothing is said; the last page, full or not, has no next."""
        self.commit(*(Write(("c", f"{number:03}")) for number in range(100)))
        self.assertIsNone(self.get("/c").next_query)
        self.commit(Write(("c", "100")))
        self.assertEqual(self.get("/c").next_query, (("limit", "100"), ("after", "099")))
        self.assertIsNone(self.get("/c", query=(("limit", "101"),)).next_query)
        self.assertIsNone(self.get("/c", query=(("limit", "1000"),)).next_query)

    def test_strange_pages(self) -> None:
        """A limit that is no number from 1 to 1000 is refused; a page may begin behind any text."""
        self.commit(Write(("c", "a")), Write(("c", "b")))
        for limit in ("0", "1001", "-1", "", "x", "1e2", "010000", "٣", " 5", "5 ", "99999999999999999999", "0" * 5000 + "5"):
            self.assertEqual(self.assertRaises(Malformed, self.get, "/c", query=(("limit", limit),)).field, "limit", limit)
        for after, names in (
            ("", ["a", "b"]),
            ("a", ["b"]),
            ("aa", ["b"]),
            ("b", []),
            ("\0", ["a", "b"]),
            ("/", ["a", "b"]),
            ("\U0010ffff", []),
        ):
            found = json.loads(self.get("/c", query=(("after", after),)).payload)["children"]
            self.assertEqual([child["name"] for child in found], names, after)
