"""What requests to plain resources mean: PUT, POST, PATCH, DELETE on content, collections and types."""

from __future__ import annotations

import json
from collections.abc import Mapping

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import CBOR, JSON, MERGE_PATCH, OCTETS, RESOURCE_CBOR, RESOURCE_JSON, TEXT, load_cbor
from m2mapp.formats.shapes import Field, Shape, integer
from m2mapp.model.errors import (
    Conflict,
    Fault,
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    PreconditionFailed,
    StorageFull,
    TooLarge,
    UnsupportedMediaType,
)
from m2mapp.model.messages import ANY_ETAG, Conditions, Method, Request, Response, Status
from m2mapp.model.principal import NODE
from m2mapp.tree.paths import RESERVED
from m2mapp.tree.resources import MAX_CONTENT_BYTES, written
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import COLLECTION, CONTENT, Change, Document, Remove, Resource, Unit, Write
from tests.unit.fakes import Built, answer_of, ask, build_tree

_PORT = Shape({"port": Field(integer(1, 65535), 5683), "lifetime": Field(integer(1, 1000), 60)})


def check_scl(name: str, document: Document) -> Document:
    return _PORT.check(document)


SCL = ResourceType("scl", ("scls", "*"), check_scl)
GROUP = ResourceType("group", ("groups", "*"), lambda _, document: document, derived=True)
SET = ResourceType("set", ("groups", "*", "sets", "*"), lambda _, document: document, methods=frozenset({Method.GET, Method.PUT}))


class RulesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.built: Built = build_tree([SCL, GROUP, SET])

    def do(self, method: Method, path: str, payload: bytes = b"", content_type: str | None = None, **more: object) -> Response:
        return answer_of(self.built, ask(method, path, payload, content_type, **more))

    def put(self, path: str, payload: bytes = b"", content_type: str | None = None, **more: object) -> Response:
        return self.do(Method.PUT, path, payload, content_type, **more)

    def post(self, path: str, payload: bytes = b"", content_type: str | None = None, **more: object) -> Response:
        return self.do(Method.POST, path, payload, content_type, **more)

    def patch_it(self, path: str, value: object, content_type: str = MERGE_PATCH, **more: object) -> Response:
        payload = cbor2.dumps(value) if content_type.endswith("cbor") else json.dumps(value).encode()
        return self.do(Method.PATCH, path, payload, content_type, **more)

    def delete(self, path: str) -> Response:
        return self.do(Method.DELETE, path)

    def found(self, path: str) -> Resource:
        return self.built.tree.get(tuple(path[1:].split("/")))

    def read(self, path: str, **more: object) -> Response:
        return self.do(Method.GET, path, b"", None, **more)

    def whole(self, path: str) -> dict[str, object]:
        shown: dict[str, object] = json.loads(self.do(Method.GET, path, accept=(RESOURCE_JSON,)).payload)
        return shown

    def state(self) -> list[Resource]:
        return sorted(self.built.tree.walk(), key=lambda resource: resource.path)

    def refused(
        self, error: type[Fault], method: Method, path: str, payload: bytes = b"", content_type: str | None = None, **more: object
    ) -> Fault:
        """The request fails with this fault and changes nothing, neither what is committed nor what is pending."""
        before, number = self.state(), self.built.tree.next_number
        fault: Fault = self.assertRaises(error, self.do, method, path, payload, content_type, **more)
        self.assertEqual((self.state(), self.built.tree.next_number), (before, number))
        return fault


class PutTests(RulesCase):
    def test_create_and_replace(self) -> None:
        """PUT on a free path creates, with its Location; on a taken one it replaces; both answers have the ETag of what is there."""
        created = self.put("/a/t", b"21", TEXT)
        self.assertEqual((created.status, created.location), (Status.CREATED, ("a", "t")))
        self.assertEqual(created.etag, self.do(Method.GET, "/a/t").etag)
        replaced = self.put("/a/t", b"22", TEXT)
        self.assertEqual((replaced.status, replaced.location), (Status.CHANGED, None))
        self.assertEqual(replaced.etag, self.do(Method.GET, "/a/t").etag)
        self.assertEqual((self.found("/a/t").content, self.found("/a").type), (b"22", COLLECTION))

    def test_media_types(self) -> None:
        """Content keeps its media type; without one it is text if it can be read, else octets."""
        cases = ((b"21", None, TEXT), (b"", None, TEXT), (b"a\tb\r\n", None, TEXT), (b"\xff", None, OCTETS), (b"a\0", None, OCTETS))
        for payload, given_type, kept in (
            *cases,
            (b"x", "image/png", "image/png"),
            (b"\xe4", "text/plain;charset=latin1", "text/plain;charset=latin1"),
        ):
            self.put("/t", payload, given_type)
            self.assertEqual((self.found("/t").content, self.found("/t").media_type), (payload, kept))

    def test_media_types_that_lie(self) -> None:
        """Content that is not what its media type says is refused."""
        for payload, media_type in (
            (b"{", JSON),
            (b"{}", CBOR),
            (b"", JSON),
            (b"\xff", TEXT),
            (b"NaN", "application/senml+json"),
            (b"\x81", "application/x+cbor"),
        ):
            self.assertEqual(getattr(self.refused(Malformed, Method.PUT, "/t", payload, media_type), "field", ""), "body")

    def test_media_types_that_are_none(self) -> None:
        """A media type that is none, or that of a whole representation inside one, is refused."""
        for media_type in ("", "text", "a/b\r\nX: y", "text/plain; ä=b", RESOURCE_JSON, RESOURCE_CBOR):
            whole = json.dumps({"content": {}, "contentType": media_type}).encode()
            self.assertEqual(getattr(self.refused(Malformed, Method.PUT, "/t", whole, RESOURCE_JSON), "field", ""), "contentType")
            if media_type not in (RESOURCE_JSON, RESOURCE_CBOR):
                self.assertEqual(getattr(self.refused(Malformed, Method.PUT, "/t", b"x", media_type), "field", ""), "Content-Type")

    def test_too_large(self) -> None:
        """Content of more than 1 MiB is refused."""
        self.put("/t", b"x" * MAX_CONTENT_BYTES, OCTETS)
        self.refused(TooLarge, Method.PUT, "/t", b"x" * (MAX_CONTENT_BYTES + 1), OCTETS)

    def test_paths_that_cannot_be(self) -> None:
        """A path that passed an edge unseen is refused here."""
        for path in (("a", ".."), ("a", ""), ("a\0",), ("a",) * 40):
            self.assertRaises(Fault, answer_of, self.built, Request(Method.PUT, path, payload=b"1", principal=NODE))
        self.assertEqual(self.state(), [])

    def test_content_keeps_its_attributes(self) -> None:
        """New content leaves the attributes as they are; a new whole representation does not."""
        self.put("/t", json.dumps({"content": "1", "attributes": {"rt": "x"}}).encode(), RESOURCE_JSON)
        self.put("/t", b"2", TEXT)
        self.assertEqual((self.whole("/t")["content"], self.whole("/t")["attributes"]), ("2", {"rt": "x"}))
        self.put("/t", json.dumps({"content": "3"}).encode(), RESOURCE_JSON)
        self.assertNotIn("attributes", self.whole("/t"))

    def test_content_in_place_of_a_collection(self) -> None:
        """Content may take the place of a collection; what is below stays."""
        self.put("/t/Operations/x", b"1")
        self.assertEqual(self.put("/t", b"21").status, Status.CHANGED)
        self.assertEqual((self.found("/t").type, self.found("/t/Operations/x").content), (CONTENT, b"1"))

    def test_reserved_names(self) -> None:
        """At reserved names and below them nothing can be put but what has its type there; nothing is made in passing."""
        for name in RESERVED:
            for path in (f"/{name}", f"/{name}/x/y/z"):
                self.refused(MethodNotAllowed if path in ("/scls", "/groups") else Conflict, Method.PUT, path, b"1", TEXT)
        self.refused(Conflict, Method.PUT, "/scls/d1/x", b"1", TEXT)
        self.refused(NoSuchResource, Method.PUT, "/groups/g/sets/1", b"{}", JSON)
        self.refused(MethodNotAllowed, Method.PUT, "/", b"1", TEXT)

    def test_names_that_only_look_special(self) -> None:
        """Names that mean something elsewhere are names here."""
        for name in ("constructor", "__proto__", "*", "-", "...", "scls ", "SCLS", "null", "a.b", "%2F", "?", "C:"):
            self.put(f"/{name}", b"1")
            self.put(f"/x/{name}/y", b"1")
        self.assertEqual(len(self.built.tree), 12 * 3 + 1)

    def test_conditions(self) -> None:
        """If-None-Match `*` creates only; If-Match writes what was read only; a lost race is told, and changes nothing."""
        create_only = Conditions(if_none_match=(ANY_ETAG,))
        first = self.put("/t", b"1", conditions=create_only)
        self.refused(PreconditionFailed, Method.PUT, "/t", b"2", conditions=create_only)
        seen = Conditions(if_match=(first.etag or b"",))
        self.put("/t", b"2", conditions=seen)
        self.refused(PreconditionFailed, Method.PUT, "/t", b"3", conditions=seen)
        self.refused(PreconditionFailed, Method.PUT, "/nothing", b"3", conditions=Conditions(if_match=(ANY_ETAG,)))

    def test_etags_of_all_representations_match(self) -> None:
        """If-Match takes the ETag of whichever representation the writer has read."""
        self.put("/t", b"1", TEXT)
        for accept in (TEXT, RESOURCE_JSON, RESOURCE_CBOR):
            tag = self.do(Method.GET, "/t", accept=(accept,)).etag or b""
            self.put("/t", b"1", TEXT, conditions=Conditions(if_match=(tag,)))


class WholeTests(RulesCase):
    def test_put_and_get(self) -> None:
        """A whole representation put in JSON or CBOR comes back in both; what is read can be put again."""
        document = {"content": {"a": [1]}, "contentType": JSON, "attributes": {"rt": "x", "obs": True, "sz": 5, "title": "ä"}}
        self.put("/t", json.dumps(document).encode(), RESOURCE_JSON)
        self.put("/u", cbor2.dumps(document), RESOURCE_CBOR)
        for path in ("/t", "/u"):
            self.assertEqual({name: self.whole(path)[name] for name in document}, document)
            read = self.do(Method.GET, path, accept=(RESOURCE_CBOR,)).payload
            self.assertEqual(self.put(path, read, RESOURCE_CBOR).status, Status.CHANGED)
            self.assertEqual(load_cbor(self.do(Method.GET, path, accept=(RESOURCE_CBOR,)).payload), load_cbor(read))
        self.assertEqual(self.found("/t").content, b'{"a":[1]}')

    def test_content_of_each_kind(self) -> None:
        """Content in a whole representation is text, base64, or whatever JSON says."""
        cases: tuple[tuple[Mapping[str, object], bytes, str], ...] = (
            ({"content": "on"}, b"on", TEXT),
            ({"content": {"base64": "/w=="}}, b"\xff", OCTETS),
            ({"content": {"base64": "/w=="}, "contentType": "image/png"}, b"\xff", "image/png"),
            ({"content": 21.5}, b"21.5", JSON),
            ({"content": None, "contentType": None}, b"null", JSON),
            ({"content": "on", "contentType": JSON}, b'"on"', JSON),
        )
        for document, content, media_type in cases:
            self.put("/t", json.dumps(document).encode(), RESOURCE_JSON)
            self.assertEqual((self.found("/t").content, self.found("/t").media_type), (content, media_type))
        self.put("/t", cbor2.dumps({"content": b"\xff"}), RESOURCE_CBOR)
        self.assertEqual((self.found("/t").content, self.found("/t").media_type), (b"\xff", OCTETS))

    def test_refused(self) -> None:
        """Unknown members, missing content, wrong types: the field is named, and what would be right."""
        cases: tuple[tuple[object, str], ...] = (
            ({}, "content"),
            ({"content": "x", "colour": 1}, "colour"),
            ({"content": "x", "contentType": 5}, "contentType"),
            ({"content": 1, "contentType": TEXT}, "content"),
            ({"content": {"base64": "?"}}, "content.base64"),
            ({"content": "x", "attributes": []}, "attributes"),
            ({"content": "x", "attributes": {"a b": 1}}, "attributes"),
            ({"content": "x", "attributes": {"": 1}}, "attributes"),
            ({"content": "x", "attributes": {"href": "/x"}}, "attributes"),
            ({"content": "x", "attributes": {"rt": None}}, "attributes.rt"),
            ({"content": "x", "attributes": {"rt": ["a"]}}, "attributes.rt"),
            ({"content": "x", "attributes": {"rt": "a\nb"}}, "attributes.rt"),
            ({"content": "x", "attributes": {"rt": "a" * 1025}}, "attributes.rt"),
            ({"content": "x", "attributes": {f"a{number}": 1 for number in range(33)}}, "attributes"),
            ({"content": "x", "name": "other"}, "name"),
            ([], "body"),
            ("x", "body"),
        )
        for document, field in cases:
            fault = self.refused(Malformed, Method.PUT, "/t", json.dumps(document).encode(), RESOURCE_JSON)
            self.assertEqual(getattr(fault, "field", ""), field, document)
        self.refused(Malformed, Method.PUT, "/t", b"{", RESOURCE_JSON)
        self.refused(Malformed, Method.PUT, "/t", b"{}", RESOURCE_CBOR)


class PostTests(RulesCase):
    def test_named_by_the_query(self) -> None:
        """A child is named by the query, below a collection and below the root, with its Location."""
        self.put("/c/x", b"1")
        for path, location in (("/c", ("c", "n 1")), ("/", ("n 1",))):
            created = self.post(path, b"5", TEXT, query=(("name", "n 1"),))
            self.assertEqual((created.status, created.location), (Status.CREATED, location))
        self.assertEqual(self.found("/c/n 1").content, b"5")

    def test_named_by_the_document(self) -> None:
        """A whole representation, and a typed document, may say the name."""
        self.put("/c/x", b"1")
        self.assertEqual(self.post("/c", b'{"name":"n","content":"1"}', RESOURCE_JSON).location, ("c", "n"))
        self.assertEqual(self.post("/scls", b'{"name":"d1","port":1}', JSON).location, ("scls", "d1"))
        self.assertEqual(self.found("/scls/d1").attributes, {"port": 1, "lifetime": 60})
        self.refused(Malformed, Method.POST, "/scls", b'{"name":"d2"}', JSON, query=(("name", "d3"),))

    def test_named_by_the_server(self) -> None:
        """Without a name the server gives one, a new one each time, also where somebody has taken the next."""
        self.put("/c/x", b"1")
        made = [self.post("/c", b"1").location for _ in range(3)]
        ahead = self.built.tree.next_number + 1
        self.put(f"/c/{ahead}", b"taken")
        self.assertEqual(self.built.tree.next_number, ahead)
        made.append(self.post("/c", b"1").location)
        self.assertEqual(len(set(made)), 4)
        self.assertEqual(self.found(f"/c/{ahead}").content, b"taken")
        self.assertEqual(len(self.post("/scls", b"{}", JSON).location or ()), 2)

    def test_taken(self) -> None:
        """A name that is taken, or is about to be, is a conflict."""
        self.put("/c/x", b"1")
        self.refused(Conflict, Method.POST, "/c", b"2", query=(("name", "x"),))
        self.built.committer.hold()
        pending = self.built.dispatcher.handle(ask(Method.POST, "/c", b"3", query=(("name", "y"),)))
        self.refused(Conflict, Method.POST, "/c", b"4", query=(("name", "y"),))
        self.built.committer.release()
        assert isinstance(pending, Deferred)
        self.assertEqual(self.successResultOf(pending).status, Status.CREATED)

    def test_names_that_cannot_be(self) -> None:
        """A name that is no path segment is refused as `name`, as is one that makes the path too long, or is reserved."""
        self.put("/c/x", b"1")
        for name in ("", ".", "..", "a/b", "a\0"):
            self.assertEqual(getattr(self.refused(Malformed, Method.POST, "/c", b"1", query=(("name", name),)), "field", ""), "name")
        self.refused(TooLarge, Method.POST, "/c", b"1", query=(("name", "x" * 256),))
        self.refused(Conflict, Method.POST, "/", b"1", query=(("name", "groups"),))
        for payload in (b'{"name":5,"content":""}', b'{"name":["a"],"content":""}', b'{"name":null,"content":""}'):
            self.assertEqual(getattr(self.refused(Malformed, Method.POST, "/c", payload, RESOURCE_JSON), "field", ""), "name")

    def test_content(self) -> None:
        """POST on a content resource makes the payload its newest content, and leaves its attributes."""
        self.put("/t", b'{"content":"1","attributes":{"rt":"x"}}', RESOURCE_JSON)
        answer = self.post("/t", b"22", TEXT)
        self.assertEqual((answer.status, answer.location), (Status.CHANGED, None))
        self.assertEqual((self.whole("/t")["content"], self.whole("/t")["attributes"]), ("22", {"rt": "x"}))
        self.refused(PreconditionFailed, Method.POST, "/t", b"3", conditions=Conditions(if_match=(b"\x01\x63",)))

    def test_on_nothing_and_on_what_is_going(self) -> None:
        """POST on what is not there, or is about to go, finds nothing, and does not make it again."""
        self.refused(NoSuchResource, Method.POST, "/nothing", b"1")
        self.put("/c/x", b"1")
        self.put("/t", b"1")
        self.built.committer.hold()
        self.built.dispatcher.handle(ask(Method.DELETE, "/c"))
        self.built.dispatcher.handle(ask(Method.DELETE, "/t"))
        for path in ("/c", "/t", "/c/x"):
            self.refused(NoSuchResource, Method.POST, path, b"1")
        self.built.committer.release()
        self.assertEqual(self.state(), [])

    def test_on_typed_resources(self) -> None:
        """A typed resource has no children to be made by POST; the methods that it takes are told."""
        self.put("/scls/d1", b"{}", JSON)
        fault = self.refused(MethodNotAllowed, Method.POST, "/scls/d1", b"{}", JSON)
        self.assertEqual(getattr(fault, "allowed", ()), ("DELETE", "GET", "PATCH", "PUT"))

    def test_conditions_are_the_collections(self) -> None:
        """If-Match on POST is held against the collection: a child that was made meanwhile refuses it."""
        self.put("/c/x", b"1")
        seen = Conditions(if_match=(self.do(Method.GET, "/c").etag or b"",))
        self.post("/c", b"1", conditions=seen)
        self.refused(PreconditionFailed, Method.POST, "/c", b"1", conditions=seen)
        root = Conditions(if_match=(self.do(Method.GET, "/").etag or b"",))
        self.post("/", b"1", conditions=root)
        self.refused(PreconditionFailed, Method.POST, "/", b"1", conditions=root)


class PatchTests(RulesCase):
    def test_json_content(self) -> None:
        """A merge patch changes JSON content by RFC 7396, and keeps media type and attributes."""
        self.put("/t", b'{"content":{"a":1,"b":{"c":2}},"contentType":"application/x+json","attributes":{"rt":"x"}}', RESOURCE_JSON)
        answer = self.patch_it("/t", {"a": None, "b": {"d": 3}})
        self.assertEqual((answer.status, self.found("/t").content), (Status.CHANGED, b'{"b":{"c":2,"d":3}}'))
        self.assertEqual((self.found("/t").media_type, self.whole("/t")["attributes"]), ("application/x+json", {"rt": "x"}))
        self.patch_it("/t", [1])
        self.assertEqual(self.found("/t").content, b"[1]")

    def test_whole(self) -> None:
        """A patch of the whole representation changes attributes and content, in JSON and in CBOR; what it does not name stays."""
        self.put("/t", b"21", TEXT)
        self.patch_it("/t", {"attributes": {"rt": "x", "if": "y"}}, RESOURCE_JSON)
        self.patch_it("/t", {"attributes": {"rt": None}, "content": "22"}, RESOURCE_CBOR)
        self.assertEqual(
            (self.whole("/t")["content"], self.whole("/t")["attributes"], self.found("/t").media_type), ("22", {"if": "y"}, TEXT)
        )
        self.patch_it("/t", {"attributes": None}, RESOURCE_JSON)
        self.assertNotIn("attributes", self.whole("/t"))

    def test_bytes_stay_bytes(self) -> None:
        """A patch of the attributes leaves content of every kind as it was, byte by byte."""
        for content, media_type in (
            (b"\xff\0", OCTETS),
            (b"\x81\x41\xff", CBOR),
            (b'{"base64":"AQ=="}', JSON),
            (b"1e2", JSON),
            (b"\xe4", "text/plain;charset=latin1"),
        ):
            self.put("/t", content, media_type)
            self.patch_it("/t", {"attributes": {"rt": "x"}}, RESOURCE_JSON)
            kept = self.found("/t").content or b""
            self.assertEqual(json.loads(kept) if media_type == JSON else kept, json.loads(content) if media_type == JSON else content)
            self.assertEqual(self.found("/t").media_type, media_type)

    def test_typed(self) -> None:
        """A typed resource is patched as a document and checked again, defaults filled in."""
        self.put("/scls/d1", b'{"port":1,"lifetime":5}', JSON)
        self.patch_it("/scls/d1", {"port": 2, "lifetime": None})
        self.assertEqual(self.found("/scls/d1").attributes, {"port": 2, "lifetime": 60})
        self.assertEqual(getattr(self.refused(Malformed, Method.PATCH, "/scls/d1", b'{"port":0}', MERGE_PATCH), "field", ""), "port")
        self.refused(Malformed, Method.PATCH, "/scls/d1", b'{"x":0}', MERGE_PATCH)
        self.refused(Malformed, Method.PATCH, "/scls/d1", b"[]", MERGE_PATCH)

    def test_refused(self) -> None:
        """Patches of other types, of what is not JSON, of collections, and of nothing are refused."""
        self.put("/t", b"21", TEXT)
        self.put("/c/x", b"{}", JSON)
        self.refused(UnsupportedMediaType, Method.PATCH, "/t", b"{}", JSON)
        self.refused(UnsupportedMediaType, Method.PATCH, "/t", b"{}", None)
        self.assertEqual(
            getattr(self.refused(UnsupportedMediaType, Method.PATCH, "/t", b"{}", MERGE_PATCH), "taken", ()), (RESOURCE_JSON, RESOURCE_CBOR)
        )
        self.refused(Malformed, Method.PATCH, "/c/x", b"{", MERGE_PATCH)
        self.refused(Malformed, Method.PATCH, "/t", b'{"colour":1}', RESOURCE_JSON)
        self.refused(Malformed, Method.PATCH, "/t", b'{"content":null}', RESOURCE_JSON)
        for path in ("/c", "/", "/scls"):
            self.refused(MethodNotAllowed, Method.PATCH, path, b"{}", MERGE_PATCH)
        self.refused(NoSuchResource, Method.PATCH, "/nothing", b"{}", MERGE_PATCH)

    def test_patches_that_grow_too_large(self) -> None:
        """A patch after which the content would be too large is refused."""
        self.put("/t", b'{"a":"' + b"x" * (MAX_CONTENT_BYTES - 20) + b'"}', JSON)
        self.refused(TooLarge, Method.PATCH, "/t", b'{"b":"xxxxxxxxxxxxxxxxxxxxxxxxxx"}', MERGE_PATCH)

    def test_on_what_is_pending(self) -> None:
        """Two patches at once are laid one upon the other: none is lost."""
        self.put("/t", b"{}", JSON)
        self.built.committer.hold()
        for name in ("a", "b"):
            self.built.dispatcher.handle(ask(Method.PATCH, "/t", b'{"%s":1}' % name.encode(), MERGE_PATCH))
        self.built.committer.release()
        self.assertEqual(self.found("/t").content, b'{"a":1,"b":1}')

    def test_on_what_is_going(self) -> None:
        """A patch of what is about to go finds nothing."""
        self.put("/t", b"{}", JSON)
        self.built.committer.hold()
        self.built.dispatcher.handle(ask(Method.DELETE, "/t"))
        self.refused(NoSuchResource, Method.PATCH, "/t", b"{}", MERGE_PATCH)
        self.built.committer.release()

    def test_conditions(self) -> None:
        """If-Match is held against what is committed and pending."""
        tag = self.put("/t", b"{}", JSON).etag or b""
        self.patch_it("/t", {"a": 1}, conditions=Conditions(if_match=(tag,)))
        self.refused(PreconditionFailed, Method.PATCH, "/t", b"{}", MERGE_PATCH, conditions=Conditions(if_match=(tag,)))


class DeleteTests(RulesCase):
    def test_subtree(self) -> None:
        """DELETE takes the whole subtree, of content and of collections; afterwards there is nothing."""
        self.put("/t", b"1")
        self.put("/t/Operations/x", b"1")
        self.assertEqual(self.delete("/t").status, Status.DELETED)
        self.assertEqual(self.state(), [])
        self.refused(NoSuchResource, Method.DELETE, "/t")
        self.refused(NoSuchResource, Method.GET, "/t/Operations/x")

    def test_root_and_reserved_names(self) -> None:
        """The root, the reserved names and the collections of types cannot be deleted."""
        for path in ("/", *(f"/{name}" for name in RESERVED)):
            self.refused(MethodNotAllowed, Method.DELETE, path)

    def test_below_reserved_names(self) -> None:
        """What is below a typed resource and is not there is not found; what its owner made there is not deleted from outside."""
        self.put("/scls/d1", b"{}", JSON)
        self.refused(NoSuchResource, Method.DELETE, "/scls/d1/x")
        self.refused(NoSuchResource, Method.DELETE, "/scls/d2")
        self.refused(NoSuchResource, Method.DELETE, "/bs/x")
        self.put("/groups/g", b"{}", JSON)
        self.successResultOf(self.built.committer.commit(Unit((Write(("groups", "g", "sets", "1"), "set", {}),))))
        self.refused(MethodNotAllowed, Method.DELETE, "/groups/g/sets/1")
        self.refused(MethodNotAllowed, Method.DELETE, "/groups/g/sets")
        self.assertEqual(self.delete("/groups/g").status, Status.DELETED)
        self.assertEqual([resource.path for resource in self.state()], [("groups",), ("scls",), ("scls", "d1")])

    def test_conditions_and_races(self) -> None:
        """DELETE with If-Match takes only what was read; of two at once the second finds nothing."""
        tag = self.put("/t", b"1").etag or b""
        self.put("/t", b"2")
        self.refused(PreconditionFailed, Method.DELETE, "/t", conditions=Conditions(if_match=(tag,)))
        self.built.committer.hold()
        first = self.built.dispatcher.handle(ask(Method.DELETE, "/t"))
        self.refused(NoSuchResource, Method.DELETE, "/t")
        self.built.committer.release()
        assert isinstance(first, Deferred)
        self.assertEqual(self.successResultOf(first).status, Status.DELETED)


class TypedTests(RulesCase):
    def test_put_checks_the_document(self) -> None:
        """A typed resource takes documents in JSON and CBOR that pass its check; others are refused with the field named."""
        self.assertEqual(self.put("/scls/d1", b'{"port":1,"name":"d1"}', JSON).location, ("scls", "d1"))
        self.put("/scls/d1", cbor2.dumps({"port": 2}), CBOR)
        self.assertEqual(self.found("/scls/d1").attributes, {"port": 2, "lifetime": 60})
        for payload, field in ((b'{"port":"1"}', "port"), (b'{"x":1}', "x"), (b'{"name":"d2"}', "name"), (b"[]", "body"), (b"{", "body")):
            self.assertEqual(getattr(self.refused(Malformed, Method.PUT, "/scls/d1", payload, JSON), "field", ""), field)
        for media_type in (None, TEXT, OCTETS):
            self.refused(UnsupportedMediaType, Method.PUT, "/scls/d1", b"{}", media_type)

    def test_methods(self) -> None:
        """A method that the type does not take is refused with those that it takes."""
        self.put("/groups/g", b"{}", JSON)
        self.put("/groups/g/sets/1", b"{}", JSON)
        for method in (Method.DELETE, Method.PATCH):
            fault = self.refused(MethodNotAllowed, method, "/groups/g/sets/1", b"{}", MERGE_PATCH)
            self.assertEqual(getattr(fault, "allowed", ()), ("GET", "PUT"))

    def test_etag_of_a_derived_type(self) -> None:
        """The answer to a write of a derived type with something below it in one unit has the ETag that a reader then sees."""
        unit = Unit((Write(("groups", "g"), "group", {"a": 1}), Write(("groups", "g", "sets", "1"), "set", {})))
        changes: tuple[Change, ...] = self.successResultOf(self.built.committer.commit(unit))
        answer = written(("groups", "g"))(changes)
        self.assertEqual(answer.etag, self.do(Method.GET, "/groups/g").etag)
        self.patch_it("/groups/g", {"a": 2}, conditions=Conditions(if_match=(answer.etag or b"",)))


class FailureTests(RulesCase):
    def test_a_failed_commit_answers_so(self) -> None:
        """When the disk fails, the writers are told, nothing is changed, and the next write is taken."""
        self.put("/t", b"1")
        before = self.state()
        self.built.committer.hold()
        waiting = [self.built.dispatcher.handle(request) for request in (ask(Method.PUT, "/t", b"2"), ask(Method.PUT, "/u", b"2"))]
        self.built.committer.fail_held(StorageFull("no room"))
        for answer in waiting:
            assert isinstance(answer, Deferred)
            self.failureResultOf(answer, StorageFull)
        self.assertEqual(self.state(), before)
        self.assertIsNone(self.built.tree.expected(("u",)))
        self.assertEqual(self.put("/u", b"3").status, Status.CREATED)

    @given(
        st.sampled_from(list(Method)),
        st.sampled_from(
            ["/", "/t", "/c", "/c/n", "/scls", "/scls/d1", "/groups", "/groups/g", "/groups/g/sets/1", "/rd", "/.well-known/x"]
        ),
        st.binary(max_size=30) | st.text('{}[]":,contentTypeattributes null', max_size=40).map(str.encode),
        st.sampled_from([None, TEXT, JSON, CBOR, MERGE_PATCH, RESOURCE_JSON, RESOURCE_CBOR, OCTETS, "x", "text/plain;charset=x"]),
        st.lists(st.tuples(st.sampled_from(["name", "limit", "after", "x"]), st.text(max_size=5)), max_size=2).map(tuple),
        st.lists(st.sampled_from([TEXT, JSON, CBOR, "*/*", ""]), max_size=2).map(tuple),
    )
    def test_any_request(
        self,
        method: Method,
        path: str,
        payload: bytes,
        content_type: str | None,
        query: tuple[tuple[str, str], ...],
        accept: tuple[str, ...],
    ) -> None:
        """Any request is answered or refused with a fault that is no internal error; a refused one changes nothing."""
        before, number = self.state(), self.built.tree.next_number
        try:
            self.do(method, path, payload, content_type, query=query, accept=accept)
        except Fault as fault:
            self.assertNotEqual(fault.kind, "internal")
            self.assertEqual((self.state(), self.built.tree.next_number), (before, number))
        stray = [one for one in self.state() if one.path[0] in RESERVED and self.built.types.named(one.type) is None and len(one.path) > 1]
        self.assertEqual([one.path[2:] for one in stray if one.path[0] != "groups"], [])

    def test_a_failing_store_from_the_beginning(self) -> None:
        """A committer that takes nothing fails the request with its fault; removals and writes of capabilities likewise."""
        self.built.committer.fault = StorageFull("no room")
        self.refused(StorageFull, Method.PUT, "/t", b"1")
        self.failureResultOf(self.built.committer.commit(Unit((Remove(("t",)),))), StorageFull)


class ReadAgainTests(RulesCase):
    def test_unchanged(self) -> None:
        """What did not change is answered with the same response, for each Accept its own."""
        self.put("/t", b"21.5", TEXT)
        plain, whole = self.read("/t"), self.read("/t", accept=(RESOURCE_JSON,))
        self.assertIs(self.read("/t"), plain)
        self.assertIs(self.read("/t", accept=(RESOURCE_JSON,)), whole)
        self.assertEqual((plain.content_type, whole.content_type), (TEXT, RESOURCE_JSON))

    def test_changed(self) -> None:
        """A write is seen by the next read, also after a removal, and when it writes the same."""
        self.put("/t", b"21.5", TEXT)
        first = self.read("/t")
        self.put("/t", b"21.5", TEXT)
        second = self.read("/t")
        self.assertNotEqual(second.etag, first.etag)
        self.put("/t", b"22", TEXT)
        self.assertEqual(self.read("/t").payload, b"22")
        self.delete("/t")
        self.assertRaises(NoSuchResource, self.read, "/t")
        self.put("/t", b"23", OCTETS)
        self.assertEqual((self.read("/t").payload, self.read("/t").content_type), (b"23", OCTETS))

    def test_bounds(self) -> None:
        """So many responses are kept, and none that is large."""
        self.put("/t", b"21.5", TEXT)
        for number in range(1500):
            self.read("/t", accept=(TEXT, f"text/{number}"))
        self.assertLessEqual(len(self.built.rules._rendered), 1024)
        self.put("/large", bytes(1025), OCTETS)
        self.assertIsNot(self.read("/large"), self.read("/large"))
