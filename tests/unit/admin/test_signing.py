"""Signing in: the one-time code, passwords, tokens, sessions and their end, guessing, and what the audit list says of it."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.admin.audit import AUDIT, AUDIT_REFUSED
from m2mapp.admin.guessing import FORGOTTEN_S, LONGEST_S, REFUSED_AFTER, Guessing
from m2mapp.admin.passwords import check_new, is_right, kept
from m2mapp.admin.sessions import IDLE_S
from m2mapp.admin.sessions import LONGEST_S as SESSION_S
from m2mapp.model.errors import Malformed, TooManyRequests
from m2mapp.model.messages import Method
from tests.unit.admin.harness import PASSWORD, Visitor, cheap_passwords
from tests.unit.admin.test_site import SiteCase
from tests.unit.fakes import answer_of, ask
from tests.unit.http.harness import ADMIN, VIEWER, Client, encode

OTHER = "another few words"


class SigningCase(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        cheap_passwords(self.patch)

    def first(self, name: str = "anna") -> Visitor:
        """The first user, signed in."""
        visitor = self.house.visitor()
        form = {"code": self.house.code, "name": name, "password": PASSWORD, "repeat": PASSWORD}
        self.assertEqual(visitor.post("/admin/sign-in", do="first", **form).code, 303)
        return visitor

    def sign_in(self, visitor: Visitor, name: str, password: str) -> int:
        """The status of a sign-in, however long it takes."""
        client = visitor.start_post("/admin/sign-in", do="password", name=name, password=password)
        self.house.clock.advance(LONGEST_S)
        return visitor.answer_to(client).code

    def audit(self) -> list[tuple[object, ...]]:
        """Who did what to what, and what came of it."""
        journals = self.house.built.committer.journals
        return [
            (entry.body["who"], entry.body["what"], entry.body["where"], entry.body["outcome"])
            for entry in (*journals.get(AUDIT, []), *journals.get(AUDIT_REFUSED, []))
        ]


class FirstStartTests(SigningCase):
    def test_code(self) -> None:
        """Who has the code makes the first user and is signed in; the code is good once, and its file goes."""
        code = self.house.code
        self.assertRegex(code, r"^[2-9A-Z]{4}(-[2-9A-Z]{4}){3}\n$")
        self.assertIn(b"First sign-in", self.house.visitor().get("/admin/sign-in").body)
        anna = self.first()
        self.assertIn(b"anna", anna.get("/admin/").body)
        self.assertIn(("user anna", "made the first user", "anna", "done"), self.audit())
        form = {"code": code, "name": "bert", "password": PASSWORD, "repeat": PASSWORD}
        self.assertEqual(self.house.visitor().post("/admin/sign-in", do="first", **form).code, 401)
        self.assertNotIn(b"First sign-in", self.house.visitor().get("/admin/sign-in").body)
        self.house.restart()
        self.assertRaises(FileNotFoundError, lambda: self.house.code)

    def test_wrong_code(self) -> None:
        """A wrong code makes nobody; however the right one is typed, it is right."""
        form = {"name": "anna", "password": PASSWORD, "repeat": PASSWORD}
        visitor = self.house.visitor()
        self.assertEqual(visitor.post("/admin/sign-in", do="first", code="AAAA-AAAA-AAAA-AAAA", **form).code, 401)
        self.assertEqual(self.house.built.tree.children(("admin", "users")), [])
        typed = self.house.code.replace("-", " ").lower()
        client = visitor.start_post("/admin/sign-in", do="first", code=typed, **form)
        self.house.clock.advance(LONGEST_S)
        self.assertEqual(visitor.answer_to(client).code, 303)

    def test_code_is_kept_until_it_is_used(self) -> None:
        """A second start before the first sign-in has the same code."""
        code = self.house.code
        self.house.restart()
        self.assertEqual(self.house.code, code)


class TargetTests(SigningCase):
    def test_where_it_goes_on(self) -> None:
        """After signing in one is at the page that was asked for, and never elsewhere."""
        for to, expected in (
            ("/admin/tree/a%20b?after=x", "/admin/tree/a%20b?after=x"),
            ("//evil.example", "/admin/"),
            ("https://evil.example", "/admin/"),
            ("/admin/\\evil.example", "/admin/"),
            ("/admin//evil.example", "/admin/"),
            ("/admin/\r\nSet-Cookie: a=b", "/admin/"),
            ("", "/admin/"),
        ):
            answer = self.house.visitor().post("/admin/sign-in", do="token", token=ADMIN, to=to)
            self.assertEqual((answer.code, answer.headers["location"]), (303, expected))


class PasswordTests(SigningCase):
    def test_sign_in_and_out(self) -> None:
        """A user signs in with the password; after signing out the cookie opens nothing."""
        self.first()
        visitor = self.house.visitor()
        self.assertEqual(self.sign_in(visitor, "anna", PASSWORD), 303)
        self.assertEqual(visitor.get("/admin/").code, 200)
        cookie = visitor.cookie
        self.assertEqual(visitor.post("/admin/sign-out", do="out").code, 303)
        self.assertTrue(visitor.cookie.endswith("="))
        visitor.cookie = cookie
        self.assertEqual(visitor.get("/admin/").code, 303)

    def test_wrong(self) -> None:
        """A wrong password and an unknown user get the same answer, and stand in the audit list."""
        self.first()
        bodies = []
        for name in ("anna", "nobody"):
            visitor = self.house.visitor()
            client = visitor.start_post("/admin/sign-in", do="password", name=name, password=OTHER)
            self.house.clock.advance(LONGEST_S)
            answer = visitor.answer_to(client)
            self.assertEqual(answer.code, 401)
            bodies.append(re.sub(rb'value="\w+"', b"", answer.body))
            self.assertIn((f"user {name}", "tried to sign in", "", "refused"), self.audit())
        self.assertEqual(*bodies)

    def test_wrong_ones_are_slow(self) -> None:
        """Each failure makes the next answer later; one address tries one at a time, and is refused after many."""
        self.first()
        clock, waits = self.house.clock, []
        for _ in range(REFUSED_AFTER):
            visitor = self.house.visitor()
            client = visitor.start_post("/admin/sign-in", do="password", name="anna", password=OTHER)
            began = clock.seconds()
            while not client.transport.value():
                if clock.seconds() == began:
                    self.assertEqual(self.house.visitor().post("/admin/sign-in", do="token", token=ADMIN).code, 429)
                clock.advance(0.25)
            visitor.answer_to(client)
            waits.append(clock.seconds() - began)
        self.assertEqual(waits[:7], [0, 0.25, 0.5, 1, 2, 4, 8])
        self.assertEqual(set(waits[7:]), {LONGEST_S})
        answer = self.house.visitor().post("/admin/sign-in", do="password", name="anna", password=PASSWORD)
        self.assertEqual(answer.code, 429)
        clock.advance(FORGOTTEN_S)
        self.assertEqual(self.sign_in(self.house.visitor(), "anna", PASSWORD), 303)

    def test_stop_while_one_waits(self) -> None:
        """A stop ends the waiting of those who guess; one who goes away while waiting has failed all the same."""
        self.first()
        self.sign_in(self.house.visitor(), "anna", OTHER)
        client = self.house.visitor().start_post("/admin/sign-in", do="password", name="anna", password=OTHER)
        client.leave()
        self.house.clock.advance(LONGEST_S)
        self.assertEqual(self.audit().count(("user anna", "tried to sign in", "", "refused")), 2)
        self.house.visitor().start_post("/admin/sign-in", do="password", name="anna", password=OTHER)
        self.house.restart()
        self.assertEqual(len(self.house.clock.getDelayedCalls()), 1)

    def test_own_password(self) -> None:
        """Who knows the old password sets a new one; the user's other sessions end, this one does not."""
        anna = self.first()
        other = self.house.visitor()
        self.sign_in(other, "anna", PASSWORD)
        wrong = anna.post("/admin/account", do="set-password", old=OTHER, password=OTHER, repeat=OTHER)
        self.assertEqual(wrong.code, 403)
        self.assertEqual(anna.post("/admin/account", do="set-password", old=PASSWORD, password=OTHER, repeat=OTHER).code, 303)
        self.assertEqual((anna.get("/admin/").code, other.get("/admin/").code), (200, 303))
        self.assertEqual(self.sign_in(self.house.visitor(), "anna", PASSWORD), 401)
        self.assertEqual(self.sign_in(self.house.visitor(), "anna", OTHER), 303)

    def test_what_a_password_has_to_be(self) -> None:
        """Short ones, the name, and one letter again and again are refused, and not repeated in the answer."""
        for password in ("short", "annaannaanna", "aaaaaaaaaaaaaa", "x" * 300):
            fault = self.assertRaises(Malformed, check_new, password, "anna")
            self.assertNotIn(password, fault.detail)
        self.assertEqual(check_new(PASSWORD, "anna"), PASSWORD)

    def test_what_is_kept(self) -> None:
        """What is kept of a password is salted, says nothing of it, and is that password's alone."""
        first, second = kept(PASSWORD), kept(PASSWORD)
        self.assertNotEqual(first, second)
        self.assertNotIn(PASSWORD, first)
        self.assertTrue(is_right(PASSWORD, first))
        for wrong, stored in ((OTHER, first), (PASSWORD, None), (PASSWORD, "nonsense"), (PASSWORD, "scrypt$x$8$1$$")):
            self.assertFalse(is_right(wrong, stored))


class PeopleTests(SigningCase):
    def test_users(self) -> None:
        """A user is made, given another role, and removed, and may at each moment do what is said then."""
        anna = self.first()
        form = {"name": "bert", "role": "viewer", "scopes": "/a /b", "password": OTHER, "repeat": OTHER}
        self.assertEqual(anna.post("/admin/people", do="make-user", **form).code, 303)
        self.assertEqual(anna.post("/admin/people", do="make-user", **form).code, 409)
        bert = self.house.visitor()
        self.sign_in(bert, "bert", OTHER)
        self.assertEqual(bert.post("/admin/tree/a/x", do="write", content="1").code, 403)
        anna.post("/admin/people", do="change-user", user="bert", role="operator", scopes="/a")
        self.assertEqual(bert.post("/admin/tree/a/x", do="write", content="1").code, 303)
        self.assertEqual(bert.post("/admin/tree/b/x", do="write", content="1").code, 403)
        self.assertEqual(bert.get("/admin/people").code, 403)
        anna.post("/admin/people", do="remove-user", user="bert")
        self.assertEqual(bert.get("/admin/").code, 303)
        self.assertIn(("user anna", "removed the user", "bert", "done"), self.audit())
        self.assertIn(("user bert", "PUT", "/a/x", "done"), self.audit())

    def test_an_administrator_of_a_part(self) -> None:
        """Who is administrator of a part makes nobody who may do more."""
        anna = self.first()
        anna.post("/admin/people", do="make-user", name="bert", role="admin", scopes="/a", password=OTHER, repeat=OTHER)
        bert = self.house.visitor()
        self.sign_in(bert, "bert", OTHER)
        self.assertEqual(bert.get("/admin/people").code, 403)
        form = {"name": "eve", "role": "admin", "scopes": "", "password": OTHER, "repeat": OTHER}
        self.assertEqual(bert.post("/admin/people", do="make-user", **form).code, 403)
        overview = bert.get("/admin/").body
        self.assertNotIn(b"/admin/people", overview)
        self.assertNotIn(b"What is wrong", overview)
        self.assertEqual(bert.get("/admin/plots/traffic.json").code, 403)

    def test_bad_input(self) -> None:
        """A name, role or scope that is none is told, and nothing is made."""
        anna = self.first()
        good = {"name": "bert", "role": "viewer", "scopes": "", "password": OTHER, "repeat": OTHER}
        for wrong in ({"name": "a/b"}, {"name": ""}, {"role": "king"}, {"scopes": "nowhere"}, {"repeat": "x"}, {"scopes": "/a " * 65}):
            self.assertEqual(anna.post("/admin/people", do="make-user", **{**good, **wrong}).code, 400, wrong)
        self.assertEqual(len(self.house.built.tree.children(("admin", "users"))), 1)
        for do, key in (("remove-user", "user"), ("remove-token", "token"), ("end-session", "session"), ("set-password", "user")):
            answer = anna.post("/admin/people", **{"do": do, key: "none", "password": OTHER, "repeat": OTHER})
            self.assertEqual(answer.code, 404, do)

    def test_tokens(self) -> None:
        """A token is shown once, does what its role and scope say, and is worth nothing once it is taken back, nor what it opened."""
        anna = self.first()
        answer = anna.post("/admin/people", do="make-token", name="meter", role="operator", scopes="/a")
        found = re.search(rb'id="new-token">([^<]+)<', answer.body)
        assert found is not None
        token = found[1].decode()
        self.assertNotIn(found[1], anna.get("/admin/people").body)
        program = Client(self.house.factory)
        self.assertEqual(program.request("PUT", "/a/x", b"1", token).code, 201)
        self.assertEqual(program.request("PUT", "/b/x", b"1", token).code, 403)
        self.assertEqual(self.house.signed_in(token).get("/admin/tree/a/x").code, 200)
        person = self.house.signed_in(token)
        self.house.restart()
        program = Client(self.house.factory)
        self.assertEqual(program.request("PUT", "/a/x", b"2", token).code, 204)
        self.assertEqual(person.get("/admin/tree/a/x").code, 200)
        self.assertEqual(anna.post("/admin/people", do="remove-token", token="meter").code, 303)
        self.assertEqual(program.request("PUT", "/a/x", b"3", token).code, 401)
        self.assertEqual(person.get("/admin/tree/a/x").code, 303)

    def test_nothing_secret_is_shown(self) -> None:
        """Neither what is kept of a password nor of a token or a session is in any representation, nor in a stream of all changes."""
        watcher = Client(self.house.factory)
        watcher.send(encode("GET", "/?subtree", b"", VIEWER, Accept="text/event-stream"))
        anna = self.first()
        anna.post("/admin/people", do="make-token", name="meter", role="viewer")
        tree = self.house.built.tree
        secret = [str(value) for one in tree.walk(("admin",)) for key, value in one.attributes.items() if key in ("password", "digest")]
        self.assertEqual(len(secret), 2)
        shown = [anna.get(f"/admin/tree/{'/'.join(one.path)}").body for one in tree.walk(("admin",))]
        shown += [answer_of(self.house.built, ask(Method.GET, "/" + "/".join(one.path))).payload for one in tree.walk(("admin",))]
        for one in secret:
            self.assertFalse(any(one.encode() in text for text in shown))
        self.house.built.committer.fault = None
        self.assertNotIn(b"/admin", watcher.received().partition(b"\r\n\r\n")[2])
        watcher.leave()

    def test_made_by_the_pages_alone(self) -> None:
        """Nobody writes a user into the tree past the pages."""
        anna = self.first()
        answer = anna.post("/admin/tree/admin/users/eve", do="write", content="{}", type="application/json")
        self.assertEqual(answer.code, 405)
        self.assertEqual(anna.post("/admin/tree/admin/users/anna", do="delete").code, 303)
        self.assertEqual(anna.get("/admin/").code, 303)


class SessionTests(SigningCase):
    def test_a_session_outlives_a_restart(self) -> None:
        """After a restart the browser is still signed in, and its forms are still good."""
        anna = self.first()
        anna.get("/admin/account")
        self.house.restart()
        self.assertEqual(anna.post("/admin/tree/x", do="write", content="1").code, 303)

    def test_idle(self) -> None:
        """A session that is not used for hours ends, and its record goes."""
        anna = self.first()
        self.house.clock.advance(IDLE_S - 1)
        self.assertEqual(anna.get("/admin/").code, 200)
        self.house.clock.advance(IDLE_S)
        self.assertEqual(anna.get("/admin/").code, 303)
        self.house.clock.advance(10)
        self.assertEqual(self.house.built.tree.children(("admin", "sessions")), [])

    def test_longest(self) -> None:
        """A session ends after a month, however much it is used; also if the node was restarted."""
        anna = self.first()
        self.house.built.clock.advance(int(SESSION_S * 1000) - 1000)
        self.house.restart()
        self.assertEqual(anna.get("/admin/").code, 200)
        self.house.clock.advance(2)
        self.assertEqual(anna.get("/admin/").code, 303)

    def test_a_clock_that_steps_back(self) -> None:
        """A wall clock that was years ahead when the session began ends none."""
        anna = self.first()
        self.house.built.clock.advance(-10 * 365 * 86_400_000)
        self.house.restart()
        self.assertEqual(anna.get("/admin/").code, 200)

    def test_ended_by_somebody_else(self) -> None:
        """An administrator ends a session of somebody else."""
        anna, viewer = self.first(), self.house.signed_in(VIEWER)
        session = next(one for one in self.house.built.tree.children(("admin", "sessions")) if "viewer" in str(one.attributes["account"]))
        self.assertEqual(anna.post("/admin/people", do="end-session", session=session.path[-1]).code, 303)
        self.assertEqual(viewer.get("/admin/").code, 303)

    def test_nothing_is_said_before_it_is_kept(self) -> None:
        """The browser has its session when that is durable, not before."""
        visitor = self.house.visitor()
        self.house.built.committer.hold()
        client = visitor.start_post("/admin/sign-in", do="token", token=ADMIN)
        self.assertEqual(client.transport.value(), b"")
        self.house.built.committer.release()
        self.assertEqual(visitor.answer_to(client).code, 303)


class GuessingTests(SynchronousTestCase):
    def test_by_account(self) -> None:
        """One account that is tried from many places is answered slowly, and refuses nobody."""
        guessing = Guessing()
        for number in range(2000):
            guessing.begin(f"source {number}", "user anna", 0.0)
            guessing.end(f"source {number}", "user anna", 0.0, right=False)
        self.assertEqual(guessing.begin("elsewhere", "user anna", 1.0), LONGEST_S)

    def test_by_network(self) -> None:
        """An IPv6 host has as many addresses as it likes: those of one /64 count as one; IPv4 addresses each for itself."""
        guessing = Guessing()
        for number in range(REFUSED_AFTER):
            guessing.begin(f"2001:db8::{number:x}", f"user {number}", 0.0)
            guessing.end(f"2001:db8::{number:x}", f"user {number}", 0.0, right=False)
        self.assertRaises(TooManyRequests, guessing.begin, "2001:db8::ffff", "user x", 1.0)
        self.assertEqual(guessing.begin("2001:db8:0:1::1", "user y", 1.0), 0.0)
        self.assertEqual(guessing.begin("192.0.2.1", "user z", 1.0), 0.0)

    def test_right_is_forgotten(self) -> None:
        """Who is right begins anew."""
        guessing = Guessing()
        for right in (False, False, True):
            guessing.begin("s", "a", 0.0)
            guessing.end("s", "a", 0.0, right=right)
        self.assertEqual(guessing.begin("s", "a", 0.0), 0.0)
        self.assertRaises(TooManyRequests, guessing.begin, "s", "b", 0.0)
