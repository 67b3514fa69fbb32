"""The resource API: what of a request reaches the handler, and how its answers and faults reach the client."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.http.connection import ChannelFactory
from m2mapp.http.limits import HttpLimits
from m2mapp.http.lines import LinePages
from m2mapp.http.resource import Edge, Parts
from m2mapp.model.errors import Conflict, Forbidden, LoopDetected, MethodNotAllowed, NoSuchResource, Overloaded, PeerFailed, Unauthenticated
from m2mapp.model.interfaces import IClock, IHandle, IJournals
from m2mapp.model.messages import ANY_ETAG, Conditions, Method, Request, Response, Status
from m2mapp.model.principal import NOBODY, Right
from tests.unit.http.harness import ADMIN, HOST, VIEWER, Client, FakeClock, FakeHandler, FakeJournals, Node, encode

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class EdgeCase(SynchronousTestCase):
    """A node and a client for each test, which has to end with nothing pending."""

    limits = HttpLimits()

    def setUp(self) -> None:
        self.node = Node(self.limits)
        self.handler = self.node.handler
        self.client = self.node.client()

    def tearDown(self) -> None:
        self.node.close()
        self.assertEqual(self.node.clock.getDelayedCalls(), [])
        self.assertEqual((self.node.connections.requests, self.node.connections.body_bytes), (0, 0))


class FakesTests(SynchronousTestCase):
    def test_fakes(self) -> None:
        """What stands for the node here provides the same interfaces."""
        verifyObject(IHandle, FakeHandler())
        verifyObject(IJournals, FakeJournals())
        verifyObject(IClock, FakeClock())


class RequestTests(EdgeCase):
    def test_what_the_handler_gets(self) -> None:
        """Path, query, payload, fields, principal, trace and deadline are those of the request."""
        self.node.clock.advance(100)
        answer = self.client.request(
            "PUT",
            "/caf%C3%A9/x?name=a%26b&flag",
            b"21",
            Content_Type="Text/Plain; Charset=UTF-8",
            Accept="text/plain;q=0.1, application/json",
            If_Match='"0105"',
            If_None_Match='W/"0106", *',
            traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
            M2M_Request_Id="9f86d081884c7d65",
            M2M_Requester="0102030405060708",
            M2M_Cause="/a/Operations/x, /b/Operations/y",
            M2M_Deadline="2.5",
        )
        self.assertEqual(answer.code, 400)  # '*' beside a tag is none
        self.client.request("PUT", "/caf%C3%A9/x?name=a%26b&flag", b"21", If_Match='"0105"', If_None_Match="*", M2M_Deadline="2.5")
        (request,) = self.handler.requests
        self.assertEqual((request.method, request.path), (Method.PUT, ("café", "x")))
        self.assertEqual(request.query, (("name", "a&b"), ("flag", "")))
        self.assertEqual((request.payload, request.content_type, request.accept), (b"21", None, ()))
        self.assertEqual(request.conditions, Conditions((b"\x01\x05",), (ANY_ETAG,)))
        self.assertEqual((request.principal.name, request.principal.source), ("admin", HOST))
        self.assertEqual(request.deadline, 102.5)

    def test_own_fields(self) -> None:
        """Trace, identifier and cause are handed on, and the trace comes back."""
        answer = self.client.request(
            "POST",
            "/",
            b"x",
            Content_Type="Text/Plain; Charset=UTF-8",
            Accept="text/plain;q=0.1, application/json",
            traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
            M2M_Request_Id="9f86d081884c7d65",
            M2M_Requester="0102030405060708",
            M2M_Cause="/a/Operations/x, /b/Operations/y",
        )
        (request,) = self.handler.requests
        self.assertEqual((request.trace, answer.headers["m2m-trace"]), (TRACE, TRACE))
        self.assertEqual((request.request_id, request.requester), (bytes.fromhex("9f86d081884c7d65"), bytes(range(1, 9))))
        self.assertEqual(request.cause, ("/a/Operations/x", "/b/Operations/y"))
        self.assertEqual((request.content_type, request.accept), ("text/plain;charset=utf-8", ("application/json", "text/plain")))
        self.assertEqual((request.path, request.deadline, request.multicast, request.source), ((), None, None, None))

    def test_without_a_token(self) -> None:
        """A request without a token comes from nobody; who that is not enough for says so, with a challenge."""
        self.handler.outcome = Unauthenticated("who are you")
        answer = self.client.request("GET", "/a", token=None)
        self.assertIs(self.handler.requests[0].principal, NOBODY)
        self.assertEqual((answer.code, answer.headers["www-authenticate"]), (401, 'Bearer realm="m2mapp"'))

    def test_forbidden_without_a_token(self) -> None:
        """Who has shown nothing and may not is asked to show something; who has shown a token is forbidden."""
        self.handler.outcome = Forbidden("no")
        self.assertEqual(self.client.request("GET", "/a", token=None).code, 401)
        self.assertEqual(self.client.request("GET", "/a", token=VIEWER).code, 403)

    def test_wrong_token(self) -> None:
        """A wrong token is refused here, and reaches nobody; the next request of the connection is looked at anew."""
        self.assertEqual(self.client.request("GET", "/a").code, 200)
        answer = self.client.request("GET", "/a", token=ADMIN + "x")
        self.assertEqual((answer.code, len(self.handler.requests)), (401, 1))
        self.assertNotIn(ADMIN, answer.body.decode())
        self.assertEqual(self.client.request("GET", "/a", token=VIEWER).code, 200)
        self.assertEqual(self.handler.requests[1].principal.name, "viewer")
        self.assertEqual(self.client.request("GET", "/a", token=None).code, 200)
        self.assertIs(self.handler.requests[2].principal, NOBODY)

    def test_bad_input(self) -> None:
        """Each bad input is a 4xx that names the field; nothing reaches the handler; the connection goes on."""
        for target, fields, code, field in [
            ("/a/../b", {}, 400, "path"),
            ("/a//b", {}, 400, "path"),
            ("/a/", {}, 400, "path"),
            ("/a" * 5000, {}, 413, "path"),
            ("/%ff", {}, 400, "path"),
            ("/%00", {}, 400, "path"),
            ("/a%2fb", {}, 400, "path"),
            ("a", {}, 400, "path"),
            ("/a?%", {}, 400, "query"),
            ("/a?" + "x&" * 100, {}, 413, "query"),
            ("/a", {"Accept": "nonsense"}, 400, "Accept"),
            ("/a", {"Content_Type": "nonsense"}, 400, "Content-Type"),
            ("/a", {"If_Match": "nonsense"}, 400, "If-Match"),
            ("/a", {"If_None_Match": "nonsense"}, 400, "If-None-Match"),
            ("/a", {"M2M_Request_Id": "12"}, 400, "M2M-Request-Id"),
            ("/a", {"M2M_Request_Id": "9f86d081884c7d65, 9f86d081884c7d65"}, 400, "M2M-Request-Id"),
            ("/a", {"M2M_Request_Id": "ab" * 5_000}, 400, "M2M-Request-Id"),
            ("/a", {"M2M_Requester": "12"}, 400, "M2M-Requester"),
            ("/a", {"M2M_Cause": ",".join("abcdefghijklmnopq")}, 413, "M2M-Cause"),
            ("/a", {"M2M_Deadline": "soon"}, 400, "M2M-Deadline"),
            ("/a", {"Content_Range": "bytes 0-1/2"}, 400, "Content-Range"),
            ("/a", {"If_Unmodified_Since": "x"}, 400, "If-Unmodified-Since"),
            ("/a", {"hOST": "other"}, 400, "Host"),
        ]:
            answer = self.client.request("PUT", target, b"x", **fields)
            self.assertEqual((answer.code, answer.json().get("field")), (code, field), (target[:20], fields))
            self.assertEqual(answer.json()["trace"], answer.headers["m2m-trace"])
        self.assertEqual(self.handler.requests, [])
        self.assertEqual(self.client.request("GET", "/a").code, 200)

    def test_coded_bodies(self) -> None:
        """A body in a content coding is refused: it would be stored as what it is not."""
        self.assertEqual(self.client.request("PUT", "/a", b"x", Content_Encoding="gzip").code, 415)
        self.assertEqual(self.client.request("PUT", "/a", b"x", Content_Encoding="identity").code, 200)

    def test_host(self) -> None:
        """HTTP/1.1 needs a Host, and a good one."""
        for line, code in [
            (b"", 400),
            (b"Host: a/b\r\n", 400),
            (b"Host: [::1]:80\r\n", 200),
            (b"Host: \r\n", 200),
            (b"Host: g1:8080\r\n", 200),
        ]:
            self.client.send(b"GET /a HTTP/1.1\r\n" + line + b"\r\n")
            self.assertEqual(self.client.answers()[0].code, code, line)

    def test_absolute_form(self) -> None:
        """A target with scheme and authority is one of this node."""
        self.client.request("GET", "http://gateway.example.org/a/b?c=d")
        self.assertEqual((self.handler.requests[0].path, self.handler.requests[0].query), (("a", "b"), (("c", "d"),)))

    def test_other_methods(self) -> None:
        """OPTIONS says what there is; methods that HTTP does not share with the tree are not supported."""
        for target in ("*", "/a"):
            answer = self.client.request("OPTIONS", target, token=None)
            self.assertEqual((answer.code, answer.headers["allow"]), (204, "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS"))
        self.assertEqual(self.client.request("OPTIONS", "/..").code, 400)
        for method in ("TRACE", "CONNECT", "get", "BREW"):
            self.assertEqual(self.client.request(method, "/a").code, 501)
        self.assertEqual(self.handler.requests, [])


class AnswerTests(EdgeCase):
    def test_head(self) -> None:
        """HEAD asks the handler to GET, and is answered without a body."""
        got = self.client.request("GET", "/a")
        head = self.client.request("HEAD", "/a")
        self.assertEqual(self.handler.requests[1].method, Method.GET)
        self.assertEqual({**head.headers, "m2m-trace": ""}, {**got.headers, "m2m-trace": ""})
        self.handler.outcome = NoSuchResource("/a")
        self.assertEqual(self.client.request("HEAD", "/a").code, 404)

    def test_not_modified(self) -> None:
        """A GET whose If-None-Match names the representation gets 304; the condition stays at the edge."""
        for tags, code in [('"0105"', 304), ('W/"0105"', 304), ("*", 304), ('"0106", "0105"', 304), ('"0106"', 200)]:
            answer = self.client.request("GET", "/a", If_None_Match=tags)
            self.assertEqual((answer.code, answer.headers["etag"]), (code, '"0105"'), tags)
        self.assertEqual(self.handler.requests[0].conditions, Conditions())

    def test_if_match_of_a_get(self) -> None:
        """A GET whose If-Match does not name the representation gets 412."""
        for tags, code in [('"0105"', 200), ("*", 200), ('W/"0105"', 412), ('"0106"', 412)]:
            self.assertEqual(self.client.request("GET", "/a", If_Match=tags).code, code, tags)
        self.handler.outcome = Response(Status.CONTENT, b"x")
        self.assertEqual(self.client.request("GET", "/a", If_Match='"0105"').code, 412)

    def test_writes(self) -> None:
        """Created with its Location, changed and deleted without a body."""
        self.handler.outcome = Response(Status.CREATED, etag=b"\x01\x07", location=("a", "b c"))
        answer = self.client.request("POST", "/a", b"x")
        self.assertEqual((answer.code, answer.headers["location"], answer.headers["etag"]), (201, "/a/b%20c", '"0107"'))
        self.handler.outcome = Response(Status.CHANGED, etag=b"\x01\x08")
        self.assertEqual(self.client.request("PUT", "/a", b"x").code, 204)
        self.handler.outcome = Response(Status.DELETED)
        self.assertEqual(self.client.request("DELETE", "/a").code, 204)

    def test_later(self) -> None:
        """An answer may come later; it is counted until then."""
        later: Deferred[Response] = Deferred()
        self.handler.outcome = later
        self.client.send(encode("PUT", "/a", b"x"))
        self.assertEqual((self.client.received(), self.node.connections.requests), (b"", 1))
        later.callback(Response(Status.CHANGED))
        self.assertEqual((self.client.answers()[0].code, self.node.connections.requests), (204, 0))
        self.handler.outcome = succeed(Response(Status.CONTENT, b"now"))
        self.assertEqual(self.client.request("GET", "/a").body, b"now")

    def test_faults(self) -> None:
        """Faults become problem details, whether raised or failed with."""
        self.handler.outcome = Conflict("/a is taken")
        answer = self.client.request("PUT", "/a?secret=1", b"x")
        self.assertEqual((answer.code, answer.json()["detail"], answer.json()["instance"]), (409, "/a is taken", "/a"))
        self.handler.outcome = fail(PeerFailed("n1 is silent"))
        self.assertEqual(self.client.request("GET", "/a").code, 502)
        self.handler.outcome = MethodNotAllowed("PUT", "/a", ("GET",))
        self.assertEqual(self.client.request("PUT", "/a", b"x").headers["allow"], "GET, HEAD, OPTIONS")
        self.handler.outcome = Overloaded("later", 9)
        self.assertEqual(self.client.request("GET", "/a").headers["retry-after"], "9")

    def test_what_is_logged(self) -> None:
        """A fault of this node or of its peers is a warning; a loop, which ends each request through a circle of groups, is not."""
        events: list[LogEvent] = []
        observer = cast("ILogObserver", events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for outcome, level in ((PeerFailed("n1 is silent"), LogLevel.warn), (LoopDetected("it was here"), LogLevel.debug)):
            self.handler.outcome = outcome
            self.client.request("GET", "/a")
            self.assertEqual([event["log_level"] for event in events if event.get("kind") == outcome.kind], [level])
            events.clear()

    def test_errors_that_nobody_foresaw(self) -> None:
        """They are 500 with the trace; what they say stays in the log."""
        for outcome in (ValueError("secret inside"), fail(ValueError("secret inside")), None):
            self.handler.outcome = outcome
            answer = self.client.request("GET", "/a")
            self.assertEqual((answer.code, answer.json()["type"]), (500, "urn:m2mapp:problem:internal"))
            self.assertNotIn("secret", answer.body.decode())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_client_that_leaves(self) -> None:
        """An answer that nobody awaits any longer is cancelled, and nothing is logged."""
        cancelled: list[object] = []
        self.handler.outcome = Deferred(cancelled.append)
        self.client.send(encode("GET", "/a"))
        self.client.leave()
        self.assertEqual((len(cancelled), self.node.connections.requests), (1, 0))

    def test_error_after_the_client_left(self) -> None:
        """An error that nobody foresaw is logged also where nobody is left to be told."""
        self.handler.outcome = Deferred(lambda waiting: waiting.errback(ValueError("for the test")))
        self.client.send(encode("GET", "/a"))
        self.client.leave()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_answer_that_cannot_be_finished(self) -> None:
        """An error after the answer was begun cuts the connection: a second answer would be read as the next one's."""

        def begun(request: Request) -> Response:
            handling = self.client.channel.handling
            assert handling is not None
            handling.startedWriting = 1
            raise Conflict("too late")

        self.handler.outcome = begun
        self.client.send(encode("GET", "/a"))
        self.assertEqual((self.client.transport.aborted, self.client.received()), (True, b""))

    def test_log(self) -> None:
        """Where requests are logged, each line bears trace, source, principal, status; neither query nor token."""
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.client.request("GET", "/a?secret=1")
        self.assertEqual(events, [])
        parts = Parts(self.handler, self.node.tokens, self.node.streams, {}, LinePages({}, self.node.streams.outlets))
        edge = Edge(parts, self.node.connections, self.node.clock, self.node.metrics, log_requests=True)
        client = Client(ChannelFactory(self.node.connections, edge.serve))
        answer = client.request("GET", "/a?secret=1")
        client.leave()
        line = formatEvent(events[0])
        self.assertEqual(line, f"{answer.headers['m2m-trace']} {HOST} admin GET /a 200 0.0 ms")

    def test_late(self) -> None:
        """An answer that does not come is no longer awaited a little after the caller's deadline."""
        self.handler.outcome = Deferred()
        self.client.send(encode("GET", "/a", M2M_Deadline="5"))
        self.node.sweep(6)
        self.assertEqual(self.client.received(), b"")
        self.node.sweep(2)
        self.assertEqual(self.client.answers()[0].code, 504)
        self.assertTrue(self.client.open)

    def test_never(self) -> None:
        """Without a deadline there is the service's own."""
        self.handler.outcome = Deferred()
        self.client.send(encode("GET", "/a"))
        self.node.sweep(302)
        self.assertEqual(self.client.answers()[0].code, 504)

    def test_counted(self) -> None:
        """Answers are counted by method and code, with the time that they took."""
        self.client.request("GET", "/a")
        self.client.request("BREW", "/a")
        metrics = self.node.metrics
        self.assertEqual(metrics.counter("m2mapp_http_requests_total", "", method="GET", code="200").value, 1)
        self.assertEqual(metrics.counter("m2mapp_http_requests_total", "", method="other", code="501").value, 1)
        self.assertEqual(sum(metrics.histogram("m2mapp_http_request_seconds", "").counts), 2)


class LoadTests(EdgeCase):
    limits = HttpLimits(requests=8, requests_per_source=3)

    def test_of_one_source(self) -> None:
        """A source may await so many answers; another one still gets its own."""
        self.handler.outcome = lambda request: Deferred()
        for _ in range(3):
            self.node.client().send(encode("PUT", "/a", b"x"))
        self.assertEqual(self.client.request("PUT", "/a", b"x").code, 429)
        self.assertEqual(self.client.request("GET", "/a").code, 429)
        self.handler.outcome = Response(Status.CONTENT)
        self.assertEqual(self.node.client("192.0.2.99").request("GET", "/a").code, 200)

    def test_of_all(self) -> None:
        """Reads are refused first, then writes; health is always told."""
        self.handler.outcome = lambda request: Deferred()
        for number in range(6):
            self.node.client(f"198.51.100.{number}").send(encode("GET", "/a"))
        answer = self.client.request("GET", "/a")
        self.assertEqual((answer.code, answer.headers["retry-after"]), (503, "1"))
        for number in range(2):
            self.node.client(f"203.0.113.{number}").send(encode("PUT", "/a", b"x"))
        self.assertEqual(self.client.request("PUT", "/a", b"x").code, 503)
        self.assertEqual(self.client.request("GET", "/healthz", token=None).code, 200)


class PageTests(EdgeCase):
    def test_health(self) -> None:
        """Health is told to all, also to who shows a wrong token, and cannot be written."""
        for token in (None, ADMIN, "wrong-token-for-tests"):
            self.assertEqual(self.client.request("GET", "/healthz", token=token).body, b"ok\n")
        self.assertEqual(self.client.request("HEAD", "/healthz").headers["content-length"], "3")
        answer = self.client.request("PUT", "/healthz", b"x")
        self.assertEqual((answer.code, answer.headers["allow"]), (405, "GET, HEAD, OPTIONS"))

    def test_readiness(self) -> None:
        """Readiness is told with its reasons to who may read."""
        self.assertEqual(self.client.request("GET", "/readyz", token=None).code, 401)
        self.assertEqual(self.client.request("GET", "/readyz", token=VIEWER).json(), {"ready": True, "reasons": []})
        self.node.unready.append("the store is full")
        answer = self.client.request("GET", "/readyz")
        self.assertEqual((answer.code, answer.json()), (503, {"ready": False, "reasons": ["the store is full"]}))

    def test_rights(self) -> None:
        """Every role may read here: the fixture's roles are those of the model."""
        self.client.request("GET", "/a", token=VIEWER)
        self.assertTrue(self.handler.requests[0].principal.may(Right.READ, ("a",)))
