"""The dispatcher: rights first, then whoever owns the path, then the tree's own rules."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from m2mapp.model.errors import Forbidden, MethodNotAllowed, NoSuchResource, StorageFull, Unauthenticated
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Method, Multicast, Request, Response, Status
from m2mapp.model.principal import NOBODY, NODE, Principal, Right
from m2mapp.tree.node import NodePage
from tests.unit.fakes import answer_of, ask, build_tree


@implementer(IHandle)
class Recorder:
    """Answers with its name, and keeps what it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[Request] = []

    def handle(self, request: Request) -> Response:
        self.asked.append(request)
        return Response(Status.CONTENT, self.name.encode())


class RoutingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.groups, self.members = Recorder("groups"), Recorder("members")
        self.heard: list[Request] = []

        def on_multicast(request: Request) -> Response | None:
            self.heard.append(request)
            return Response(Status.CONTENT) if request.path == ("lamp",) else None

        routes = {("groups",): self.groups, ("groups", "g", "members"): self.members}
        self.built = build_tree(routes=routes, on_multicast=on_multicast)

    def test_interface(self) -> None:
        """The dispatcher handles requests like any other that does."""
        self.assertTrue(verifyObject(IHandle, self.built.dispatcher))

    def test_the_longest_route_answers(self) -> None:
        """A request goes to the route with the longest path at or above its own, and unchanged; without a route to the tree."""
        for path, name in (
            ("/groups", b"groups"),
            ("/groups/g", b"groups"),
            ("/groups/g/members", b"members"),
            ("/groups/g/members/x/y", b"members"),
            ("/groups/h/members", b"groups"),
        ):
            request = ask(Method.GET, path)
            self.assertEqual(answer_of(self.built, request).payload, name)
            self.assertIs({b"groups": self.groups, b"members": self.members}[name].asked[-1], request)
        self.assertRaises(NoSuchResource, answer_of, self.built, ask(Method.GET, "/groups2"))

    def test_rights_come_first(self) -> None:
        """Who has no right is refused before anybody is asked, also where there is nothing."""
        reader = Principal("x", frozenset({Right.READ}))
        self.assertRaises(Unauthenticated, self.built.dispatcher.handle, ask(Method.GET, "/groups", principal=NOBODY))
        self.assertRaises(Forbidden, self.built.dispatcher.handle, ask(Method.POST, "/groups", principal=reader))
        self.assertRaises(Unauthenticated, self.built.dispatcher.handle, ask(Method.GET, "/nothing", principal=NOBODY))
        self.assertEqual(self.groups.asked, [])

    def test_discovery(self) -> None:
        """Discovery answers GET to those who may discover, and nothing else."""
        finder = Principal("x", frozenset({Right.DISCOVER}))
        self.assertEqual(answer_of(self.built, ask(Method.GET, "/.well-known/core", principal=finder)).status, Status.CONTENT)
        self.assertRaises(Forbidden, self.built.dispatcher.handle, ask(Method.GET, "/groups", principal=finder))
        refused = self.assertRaises(MethodNotAllowed, self.built.dispatcher.handle, ask(Method.PUT, "/.well-known/core", b"x"))
        self.assertEqual(refused.allowed, ("GET",))

    def test_multicast(self) -> None:
        """A request to a multicast address goes to whoever answers for the member role, who may be silent, and not to the tree."""
        group = Multicast("ff05::1", 2)
        answer_of(self.built, ask(Method.PUT, "/t", b"1"))
        self.assertIsNone(self.built.dispatcher.handle(ask(Method.GET, "/t", multicast=group)))
        self.assertIsNotNone(self.built.dispatcher.handle(ask(Method.GET, "/lamp", multicast=group)))
        self.assertEqual(len(self.heard), 2)

    def test_discovery_by_multicast(self) -> None:
        """All CoAP Nodes may be asked for discovery by those on the link; others are refused like elsewhere."""
        group = Multicast("ff05::fd", 2)
        answer = self.built.dispatcher.handle(ask(Method.GET, "/.well-known/core", multicast=group))
        self.assertIsInstance(answer, Response)
        self.assertRaises(
            Unauthenticated, self.built.dispatcher.handle, ask(Method.GET, "/.well-known/core", multicast=group, principal=NOBODY)
        )
        self.assertEqual(self.heard, [])

    def test_writes_are_answered_when_they_are_durable(self) -> None:
        """A read is answered at once; a write when it is committed, or with the fault that kept it from that."""
        self.built.committer.hold()
        done, lost = (self.built.dispatcher.handle(ask(Method.PUT, path, b"1")) for path in ("/a", "/b"))
        assert isinstance(done, Deferred)
        assert isinstance(lost, Deferred)
        self.assertNoResult(done)
        self.assertRaises(NoSuchResource, self.built.dispatcher.handle, ask(Method.GET, "/a"))
        self.built.committer.release()
        self.assertEqual((self.successResultOf(done).status, self.successResultOf(lost).status), (Status.CREATED, Status.CREATED))
        self.assertIsInstance(self.built.dispatcher.handle(ask(Method.GET, "/a")), Response)
        self.built.committer.fault = StorageFull()
        refused = self.built.dispatcher.handle(ask(Method.DELETE, "/a"))
        assert isinstance(refused, Deferred)
        self.failureResultOf(refused, StorageFull)

    def test_the_trace_is_kept(self) -> None:
        """The trace id of the request stands in the unit, in the change and in the journal."""
        answer_of(self.built, ask(Method.PUT, "/a", b"1", trace="abc"))
        self.assertEqual([unit.trace for unit in self.built.committer.units], ["abc"])
        self.assertEqual([entry.body["trace"] for entry in self.built.committer.journals["changes"]], ["abc"])


class NodePageTests(SynchronousTestCase):
    def test_page(self) -> None:
        """`/node` shows the document as it is now, with an ETag of its version, and takes nothing but GET."""
        state = {"version": 1}
        page = NodePage(lambda: dict(state), lambda: state["version"])
        self.assertTrue(verifyObject(IHandle, page))
        first = page.handle(ask(Method.GET, "/node"))
        state["version"] = 2
        second = page.handle(ask(Method.GET, "/node", principal=NODE))
        self.assertEqual((first.payload, second.payload), (b'{"version":1}', b'{"version":2}'))
        self.assertNotEqual(first.etag, second.etag)
        self.assertEqual(self.assertRaises(MethodNotAllowed, page.handle, ask(Method.PUT, "/node")).allowed, ("GET",))
