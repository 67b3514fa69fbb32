"""The tree's page: what it shows of any resource, what it does, and that nothing in a resource becomes part of a page."""

from __future__ import annotations

import json
import re

from m2mapp.admin.audit import AUDIT
from m2mapp.formats.uris import path_uri
from m2mapp.model.errors import StorageFull
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method
from tests.unit.admin.test_site import SiteCase
from tests.unit.fakes import answer_of, ask
from tests.unit.http.harness import SCOPED, VIEWER

HOSTILE = "<script>alert(1)</script>"


class TreeCase(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.visitor = self.house.signed_in()

    def put(self, path: Path, content: bytes, media_type: str = "text/plain") -> None:
        """A write past the pages."""
        answer_of(self.house.built, ask(Method.PUT, "/" + "/".join(path), content, media_type))

    def content(self, *path: str) -> bytes | None:
        """What stands there."""
        found = self.house.built.tree.find(path)
        return found.content if found is not None else None

    def page(self, *path: str) -> str:
        """The page of a resource, which is there."""
        answer = self.visitor.get("/admin/tree" + path_uri(path))
        self.assertEqual(answer.code, 200, path)
        return answer.body.decode()


class ReadTests(TreeCase):
    def test_contents(self) -> None:
        """Text is shown as it is, JSON laid out, bytes in hexadecimal, a long content in its beginning."""
        self.put(("t",), "Grüße".encode(), "text/plain;charset=utf-8")
        self.put(("j",), b'{"a":[1,2]}', "application/json")
        self.put(("b",), bytes([0, 255, 16]), "application/octet-stream")
        self.put(("l",), b"x" * 100_000)
        self.assertIn("Grüße", self.page("t"))
        self.assertIn("&#34;a&#34;: [\n    1,", self.page("j"))
        self.assertIn("00 ff 10", self.page("b"))
        self.assertIn("Only its beginning is shown", self.page("l"))
        self.assertLess(len(self.page("l")), 75_000)
        self.assertNotIn('id="write"', self.page("b"))

    def test_children_in_order(self) -> None:
        """Children that are shown all at once are in the order that people expect."""
        for number in (10, 2, 1):
            self.put(("few", f"d{number}"), b"1")
        self.assertEqual(re.findall("/admin/tree/few/(d[0-9]+)", self.page("few")), ["d1", "d2", "d10"])

    def test_children_in_pages(self) -> None:
        """A large collection is shown in parts, each of which names the next."""
        for number in range(450):
            self.put(("many", f"{number:03}"), b"1")
        first = self.visitor.get("/admin/tree/many").body.decode()
        self.assertEqual(first.count("/admin/tree/many/"), 200)
        last = self.visitor.get("/admin/tree/many?after=399").body.decode()
        self.assertEqual(last.count("/admin/tree/many/"), 50)
        self.assertIn("?after=199", first)
        self.assertNotIn("?after=", last)

    def test_nothing_there(self) -> None:
        """A path at which nothing is says so, with 404, and offers to make it."""
        answer = self.visitor.get("/admin/tree/none")
        self.assertEqual(answer.code, 404)
        self.assertIn(b"There is nothing at /none", answer.body)
        self.assertIn(b"Make it", answer.body)

    def test_nothing_becomes_part_of_a_page(self) -> None:
        """Names, contents and media types that are HTML are text on each page that shows them."""
        self.put((HOSTILE.replace("/", ""), "a\"b'c&d"), HOSTILE.encode(), "text/html")
        self.put(("plain",), HOSTILE.encode())
        pages = [self.page(HOSTILE.replace("/", ""), "a\"b'c&d"), self.page(HOSTILE.replace("/", "")), self.page(), self.page("plain")]
        pages.append(self.visitor.get("/admin/").body.decode())
        pages.append(self.visitor.get("/admin/tree/%3Cscript%3Enone").body.decode())
        for page in pages:
            self.assertNotIn("<script>", page)
            self.assertIn("&lt;script&gt;", page)

    def test_rights(self) -> None:
        """Each sees what a token with these rights could read, and is offered what it could do."""
        self.put(("a", "x"), b"1")
        self.put(("b",), b"1")
        scoped = self.house.signed_in(SCOPED)
        self.assertEqual([scoped.get(f"/admin/tree/{path}").code for path in ("a/x", "b", "")], [200, 403, 403])
        viewer = self.house.signed_in(VIEWER).get("/admin/tree/a/x").body
        self.assertNotIn(b'value="write"', viewer)
        self.assertNotIn(b'value="delete"', viewer)
        self.assertEqual(self.house.signed_in(VIEWER).get("/admin/tree/admin/sessions").code, 403)

    def test_history(self) -> None:
        """The numbers of a resource's history are what its plot draws; what is no number is left out."""
        for content in (b"21", b"off", b"22.5"):
            self.put(("t",), content)
        points = json.loads(self.visitor.get("/admin/history/t").body)
        self.assertEqual([line["values"] for line in points["lines"]], [[21, 22.5]])
        self.assertEqual(len(points["x"]), 2)
        self.assertIn('data-plot="/admin/history/t"', self.page("t"))
        self.put(("t",), b"off")
        self.assertNotIn("data-plot=", self.page("t"))
        self.assertEqual(self.house.signed_in(SCOPED).get("/admin/history/t").code, 403)


class WriteTests(TreeCase):
    def etag(self, *path: str) -> str:
        """The ETag that the page of a resource has in its form."""
        return self.page(*path).partition('name="etag" value="')[2].partition('"')[0]

    def test_write(self) -> None:
        """What is written is told as done when the write was answered."""
        self.put(("t",), b"21")
        answer = self.visitor.post("/admin/tree/t", do="write", content="22", type="text/plain", etag=self.etag("t"))
        self.assertEqual((answer.code, answer.headers["location"]), (303, "/admin/tree/t"))
        self.assertEqual(self.content("t"), b"22")
        self.assertIn("/t is written", self.page("t"))

    def test_somebody_else_wrote_first(self) -> None:
        """A form of before somebody else's write is refused, and shows what stands there now beside what was typed."""
        self.put(("t",), b"21")
        etag = self.etag("t")
        self.put(("t",), b"22")
        answer = self.visitor.post("/admin/tree/t", do="write", content="23", type="text/plain", etag=etag)
        self.assertEqual(answer.code, 412)
        self.assertEqual(self.content("t"), b"22")
        self.assertIn(b">23</textarea>", answer.body)
        self.assertIn(b">22</pre>", answer.body)

    def test_not_kept(self) -> None:
        """A write that could not be kept is told as not done."""
        self.visitor.get("/admin/account")
        self.house.built.committer.fault = StorageFull()
        answer = self.visitor.post("/admin/tree/t", do="write", content="1", type="text/plain")
        self.assertEqual(answer.code, 507)
        self.assertIn(b"Not done:", answer.body)

    def test_gone_before_the_answer(self) -> None:
        """Who goes away before the answer has written all the same, and stands in the audit list."""
        self.house.built.committer.hold()
        client = self.visitor.start_post("/admin/tree/t", do="write", content="1", type="text/plain")
        client.leave()
        self.house.built.committer.release()
        self.assertEqual(self.content("t"), b"1")
        self.assertEqual(self.house.built.committer.journals[AUDIT][-1].body["where"], "/t")

    def test_create(self) -> None:
        """A child is made under the name that was given, or one that the node gives, and never in place of another."""
        self.put(("c", "x"), b"old")
        made = self.visitor.post("/admin/tree/c", do="create", name="a b", content="1", type="text/plain")
        self.assertEqual(made.headers["location"], "/admin/tree/c/a%20b")
        self.assertEqual(self.visitor.post("/admin/tree/c", do="create", name="x", content="1", type="text/plain").code, 409)
        self.assertEqual(self.content("c", "x"), b"old")
        self.assertEqual(self.visitor.post("/admin/tree/c", do="create", name="", content="1", type="text/plain").code, 303)

    def test_make_at_a_path(self) -> None:
        """A resource is made where nothing was; where something came meanwhile it is not replaced."""
        self.assertEqual(self.visitor.post("/admin/tree/n/m", do="write", content="1", type="text/plain", etag="").code, 303)
        self.assertEqual(self.visitor.post("/admin/tree/n/m", do="write", content="2", type="text/plain", etag="").code, 412)
        self.assertEqual(self.content("n", "m"), b"1")

    def test_delete(self) -> None:
        """What is deleted goes with all below it, and the page of what is above follows."""
        self.put(("d", "x"), b"1")
        self.assertIn("with 1 resources below it", self.page("d"))
        self.assertEqual(self.visitor.post("/admin/tree/d", do="delete").headers["location"], "/admin/tree")
        self.assertIsNone(self.house.built.tree.find(("d", "x")))

    def test_whole_resource(self) -> None:
        """Attributes are written with the whole representation, as by HTTP."""
        whole = json.dumps({"content": "1", "contentType": "text/plain", "attributes": {"rt": "temperature"}})
        form = {"content": whole, "type": "application/vnd.m2m.resource+json"}
        self.assertEqual(self.visitor.post("/admin/tree/w", do="write", etag="", **form).code, 303)
        found = self.house.built.tree.find(("w",))
        assert found is not None
        self.assertEqual((found.content, found.attributes.get("attributes")), (b"1", {"rt": "temperature"}))

    def test_go(self) -> None:
        """A path that is typed is gone to; one that is none is told."""
        self.assertEqual(self.visitor.post("/admin/tree", do="go", path="/a b/c").headers["location"], "/admin/tree/a%20b/c")
        self.assertEqual(self.visitor.post("/admin/tree", do="go", path="a").code, 400)
