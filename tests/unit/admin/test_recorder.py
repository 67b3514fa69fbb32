"""Who changes what by HTTP is entered in the audit list, soon, and what is done again and again as one entry."""

from __future__ import annotations

from zope.interface import implementer

from m2mapp.admin.audit import AUDIT
from m2mapp.admin.recorder import AGAIN_S, SOON_S, Recorder
from m2mapp.model.errors import StorageFull
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Method, Request, Response, Status
from tests.unit.admin.test_site import SiteCase
from tests.unit.fakes import ask
from tests.unit.http.harness import SCOPED, Client


@implementer(IHandle)
class _Done:
    """Does whatever is asked."""

    def handle(self, request: Request) -> Response:
        return Response(Status.CHANGED)


class RecorderTests(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = Client(self.house.factory)

    def entries(self) -> list[tuple[object, ...]]:
        """Who did what to what."""
        return [(one.body["who"], one.body["what"], one.body["where"]) for one in self.house.built.committer.journals.get(AUDIT, [])]

    def test_soon_and_once(self) -> None:
        """A write is entered within a second; the same again and again is one more entry, ten minutes later, with its number."""
        clock = self.house.clock
        for _ in range(3):
            self.client.request("PUT", "/a", b"1")
        self.assertEqual(self.entries(), [])
        clock.advance(SOON_S)
        self.assertEqual(self.entries(), [("admin", "PUT (3 times)", "/a")])
        for _ in range(5):
            self.client.request("PUT", "/a", b"1")
        self.client.request("DELETE", "/a")
        clock.advance(SOON_S)
        self.assertEqual(self.entries()[1:], [("admin", "DELETE", "/a")])
        clock.advance(AGAIN_S)
        self.assertEqual(self.entries()[2:], [("admin", "PUT (5 times)", "/a")])
        clock.advance(2 * AGAIN_S)
        self.assertEqual(len(self.entries()), 3)

    def test_what_was_made(self) -> None:
        """Of what was made the entry has the path at which it stands."""
        self.client.request("PUT", "/c/x", b"1")
        self.client.request("POST", "/c?name=y", b"1")
        self.house.clock.advance(SOON_S)
        self.assertEqual(self.entries()[1:], [("admin", "POST", "/c/y")])

    def test_what_is_not_entered(self) -> None:
        """Reads, and what was refused, are no changes."""
        self.client.request("GET", "/")
        self.assertEqual(self.client.request("PUT", "/b", b"1", SCOPED).code, 403)
        self.assertEqual(self.client.request("PUT", "/b", b"1", None).code, 401)
        self.house.clock.advance(SOON_S)
        self.assertEqual(self.entries(), [])

    def test_what_only_asks(self) -> None:
        """What asks what a write would do is no change; a name or a query that looks like it hides no write."""
        recorder = Recorder(_Done(), self.house.built.committer, self.house.clock, self.house.metrics)
        explain = (("explain", ""),)
        recorder.handle(ask(Method.POST, "/groups/g", query=explain))
        recorder.handle(ask(Method.POST, "/a/Operations/x/evaluate"))
        recorder.handle(ask(Method.PUT, "/a/evaluate"))
        recorder.handle(ask(Method.PUT, "/b", query=explain))
        recorder.stop()
        self.assertEqual([where for _, _, where in self.entries()], ["/a/evaluate", "/b"])

    def test_stop(self) -> None:
        """A stop enters what was not entered yet."""
        self.client.request("PUT", "/a", b"1")
        self.house.restart()
        self.assertEqual(self.entries(), [("admin", "PUT", "/a")])

    def test_no_room(self) -> None:
        """While very many different writes are counted further ones are counted in a metric only, and a full store hurts nobody."""
        for number in range(1003):
            self.client.request("PUT", f"/many/{number}", b"1")
        left_out = self.house.metrics.counter("m2mapp_audit_left_out_total", "")
        self.assertEqual(left_out.value, 3)
        self.house.built.committer.fault = StorageFull()
        self.house.clock.advance(SOON_S)
        self.assertEqual(self.entries(), [])
