"""The site: who is let in, what may be sent from where, what is told to browsers, and that a fault is a page."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.principal import Right
from tests.unit.admin.harness import House
from tests.unit.http.harness import ADMIN, VIEWER


class SiteCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House()

    def tearDown(self) -> None:
        self.house.stop()
        self.assertEqual(self.house.clock.getDelayedCalls(), [])
        self.assertEqual(self.house.built.errors, [])


class DoorTests(SiteCase):
    def test_every_page_without_signing_in(self) -> None:
        """Whoever has not signed in gets the sign-in page, or is sent there, from each page and whatever is below; nothing else is said."""
        visitor = self.house.visitor()
        listed = [page for page in self.house.admin.site.pages if page.right is not None]
        self.assertGreater(len(listed), 4)
        for page in listed:
            for target in (page.at, f"{page.at}?a=b", *([f"{page.at}/x"] if page.name else [])):
                answer = visitor.get(target)
                self.assertEqual((answer.code, answer.body), (303, b""), target)
                self.assertTrue(answer.headers["location"].startswith("/admin/sign-in?to=%2Fadmin"), target)
                self.assertEqual(visitor.get(target, M2M_Live="1").code, 401, target)
            for do in page.acts:
                self.assertEqual(visitor.post(page.at, do=do).code, 401, page.at)

    def test_open_pages(self) -> None:
        """The sign-in page and the files are open to all."""
        visitor = self.house.visitor()
        page = visitor.get("/admin/sign-in")
        self.assertEqual(page.code, 200)
        files = re.findall(r'(?:href|src)="(/admin/static/[^"]+)"', page.body.decode())
        self.assertGreater(len(files), 3)
        for file in files:
            answer = visitor.get(file)
            self.assertEqual((answer.code, answer.headers["cache-control"]), (200, "public, max-age=31536000, immutable"))

    def test_rights(self) -> None:
        """A viewer sees no page that needs more, nor what it would do."""
        viewer = self.house.signed_in(VIEWER)
        for page in self.house.admin.site.pages:
            expected = 403 if page.right is Right.ADMIN else {200, 404}
            code = viewer.get(page.at).code
            self.assertTrue(code == expected or (isinstance(expected, set) and code in expected), (page.at, code))
        self.assertEqual(viewer.post("/admin/people", do="make-token", name="x", role="admin").code, 403)
        self.assertNotIn(b"/admin/people", viewer.get("/admin/").body)

    def test_headers(self) -> None:
        """Each answer forbids what is not ours: scripts and styles in the page, other hosts, frames; pages are not stored."""
        visitor = self.house.signed_in()
        for target in ("/admin/", "/admin/nothing", "/admin/static/pages.css"):
            headers = visitor.get(target).headers
            self.assertIn("default-src 'none'", headers["content-security-policy"])
            self.assertNotIn("unsafe", headers["content-security-policy"])
            self.assertEqual((headers["x-content-type-options"], headers["x-frame-options"]), ("nosniff", "DENY"))
        self.assertEqual(visitor.get("/admin/").headers["cache-control"], "no-store")

    def test_no_script_or_style_in_pages(self) -> None:
        """No page has what the policy would forbid: a script or style in it, a handler or a style on an element."""
        visitor = self.house.signed_in()
        for page in self.house.admin.site.pages:
            text = visitor.get(page.at).body.decode()
            self.assertNotRegex(text, r"<style|<script(?![^>]*src=)|\son[a-z]+=|\sstyle=")

    def test_cookie(self) -> None:
        """The session's cookie is for the pages alone, for no script, and for no other site's requests."""
        answer = self.house.visitor().post("/admin/sign-in", do="token", token=ADMIN)
        self.assertRegex(answer.headers["set-cookie"], r"^m2mapp-[0-9a-f]{8}=\S+; Path=/admin; HttpOnly; SameSite=Strict; Max-Age=\d+$")

    def test_the_cookie_is_nothing_to_the_resources(self) -> None:
        """A resource is not read by a session's cookie: a page elsewhere can make a browser send no request that counts."""
        visitor = self.house.signed_in()
        self.assertEqual(visitor.get("/").code, 401)

    def test_other_methods(self) -> None:
        """A page takes GET, HEAD and POST."""
        visitor = self.house.signed_in()
        refused = visitor.request("DELETE", "/admin/tree/x")
        self.assertEqual((refused.code, refused.headers["allow"]), (405, "GET, HEAD, POST, OPTIONS"))
        self.assertEqual(visitor.request("OPTIONS", "/admin/tree/x").code, 204)
        head = visitor.request("HEAD", "/admin/")
        self.assertEqual((head.code, head.body), (200, b""))
        self.assertEqual(visitor.get("/admin").headers["location"], "/admin/")
        self.assertEqual(visitor.get("http://gateway.example.org/admin/").code, 200)
        self.assertEqual(visitor.get("/administrators").code, 401)

    def test_malformed_requests(self) -> None:
        """Nonsense is a page with a 4xx, never a 500."""
        visitor = self.house.signed_in()
        for target in ("/admin/tree/%zz", "/admin/tree//x", "/admin/?a=%ff", "/admin/static/../x", "/admin/static/none.js", "/admin/%00"):
            answer = visitor.get(target)
            self.assertTrue(400 <= answer.code < 500, (target, answer.code))
        self.assertEqual(visitor.post("/admin/tree/x", do="nonsense").code, 400)
        self.assertEqual(self.house.visitor().request("GET", "/admin/", Cookie="=;;m2mapp-x=\xff").code, 303)


class ForeignFormTests(SiteCase):
    def test_cross_site(self) -> None:
        """A form of another site, of another port of this host, or without the session's token changes nothing."""
        visitor = self.house.signed_in()
        visitor.get("/admin/account")
        form = {"do": "write", "content": "1"}
        for origin in ("http://evil.example", "http://gateway.example.org:9999", "null"):
            self.assertEqual(visitor.post("/admin/tree/x", origin, **form).code, 403, origin)
        self.assertEqual(visitor.post("/admin/tree/x", csrf="0" * 64, **form).code, 403)
        self.assertIsNone(self.house.built.tree.find(("x",)))
        self.assertEqual(visitor.post("/admin/tree/x", **form).code, 303)
        self.assertEqual(visitor.post("/admin/tree/y", None, **form).code, 303)

    def test_cross_site_sign_in(self) -> None:
        """Nobody is signed in by a form of another site, to act as somebody else without knowing."""
        visitor = self.house.visitor()
        self.assertEqual(visitor.post("/admin/sign-in", "http://evil.example", do="token", token=ADMIN).code, 403)

    def test_fetch_metadata(self) -> None:
        """A browser that says that another site sent the form is believed."""
        visitor = self.house.signed_in()
        client = visitor._send("POST", "/admin/sign-out", b"do=out", {"Sec_Fetch_Site": "cross-site", "Content_Type": "text/plain"})
        self.assertEqual(visitor.answer_to(client).code, 403)

    def test_other_content(self) -> None:
        """A form is a form: what a script of elsewhere could send as text is refused."""
        visitor = self.house.signed_in()
        client = visitor._send("POST", "/admin/tree/x", b"do=write", {"Content_Type": "text/plain"})
        self.assertEqual(visitor.answer_to(client).code, 415)


class FaultTests(SiteCase):
    def test_a_fault_is_a_page_with_the_form_as_it_was(self) -> None:
        """What could not be done is told at the top of the page, and what was typed stands there again, escaped."""
        visitor = self.house.signed_in()
        answer = visitor.post("/admin/tree/x", do="write", content="<b>typed</b>", type="no media type")
        self.assertEqual(answer.code, 400)
        self.assertIn(b"Not done:", answer.body)
        self.assertIn(b"&lt;b&gt;typed&lt;/b&gt;", answer.body)
        self.assertIn(b'value="no media type"', answer.body)

    def test_an_unforeseen_fault(self) -> None:
        """What nobody foresaw is logged with the trace and answered 500, with the trace and nothing else."""
        visitor = self.house.signed_in()
        self.house.unready = None  # type: ignore[assignment]
        answer = visitor.get("/admin/")
        self.assertEqual(answer.code, 500)
        self.assertIn(answer.headers["m2m-trace"].encode(), answer.body)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
