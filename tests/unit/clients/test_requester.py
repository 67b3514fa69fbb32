"""One sender for all URIs: here, by a scheme, or not at all."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.clients.names import Names, OwnUris
from m2mapp.clients.requester import LOOK_UP_S, Requester
from m2mapp.formats.uris import Uri
from m2mapp.model.errors import DeadlinePassed, Malformed, NoSuchResource, NotSupported, Overloaded, PeerFailed
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer, Method, Outgoing, Request, Response, Status
from m2mapp.model.principal import NODE
from m2mapp.tree.registrations import Registrations
from tests.unit.fakes import build_tree


class Parts:
    """A requester whose `coap` records, whose node answers by `reply`, and whose resolver the test answers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sent: list[tuple[Outgoing, str, int]] = []
        self.answers: list[Deferred[Answer]] = []
        self.asked: list[Request] = []
        self.looked_up: list[Deferred[list[str]]] = []
        self.reply: Response | Deferred[Response] | Exception = Response(Status.CONTENT, b"1", "text/plain")
        names = Names(Registrations(build_tree().tree), {}, self.resolve)
        self.requester = Requester(self.clock, OwnUris(("g1",), lambda _: False), names, {"coap": self.send})
        self.requester.connect(self.answer_here)

    def resolve(self, _: str) -> Deferred[list[str]]:
        self.looked_up.append(Deferred())
        return self.looked_up[-1]

    def send(self, outgoing: Outgoing, _: Uri, host: str, port: int) -> Deferred[Answer]:
        self.sent.append((outgoing, host, port))
        self.answers.append(Deferred())
        return self.answers[-1]

    def answer_here(self, request: Request) -> Response | Deferred[Response]:
        self.asked.append(request)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def get(uri: str, **more: object) -> Outgoing:
    """A GET that waits 30 s."""
    return Outgoing(Method.GET, uri, **more)  # type: ignore[arg-type]


class HereTests(SynchronousTestCase):
    def test_everything_arrives(self) -> None:
        """An own URI goes to the dispatcher with all that the request has; its answer has the code that CoAP would give."""
        parts = Parts()
        parts.clock.advance(100.0)
        parts.reply = Response(Status.CREATED, b"1", "text/plain", b"\x01\x02", ("a b", "c"))
        outgoing = Outgoing(Method.PUT, "coap://g1/a/b?x=1", b"on", "text/plain", "a/b", 5.0, "ab" * 16, b"12345678", ("c",), NODE)
        answer = self.successResultOf(parts.requester.send(outgoing))
        self.assertEqual(
            parts.asked,
            [
                Request(
                    Method.PUT,
                    ("a", "b"),
                    (("x", "1"),),
                    b"on",
                    "text/plain",
                    ("a/b",),
                    principal=NODE,
                    trace="ab" * 16,
                    deadline=105.0,
                    request_id=b"12345678",
                    cause=("c",),
                )
            ],
        )
        self.assertEqual(answer, Answer("2.01", b"1", "text/plain", location="/a%20b/c", etag=b"\x01\x02"))
        self.assertEqual((parts.sent, parts.clock.getDelayedCalls()), ([], []))

    def test_every_status(self) -> None:
        """Each status has its code."""
        parts = Parts()
        codes = []
        for status in Status:
            parts.reply = Response(status)
            codes.append(self.successResultOf(parts.requester.send(get("coap://g1/"))).code)
        self.assertEqual(sorted(codes), ["2.01", "2.02", "2.03", "2.04", "2.05"])

    def test_faults_are_answers(self) -> None:
        """A fault, raised or failed with, is an answer with its code and detail, as from any other node."""
        parts = Parts()
        for reply in (NoSuchResource("/a"), fail(NoSuchResource("/a"))):
            parts.reply = reply
            answer = self.successResultOf(parts.requester.send(get("coap://g1/a")))
            self.assertEqual((answer.code, answer.payload, answer.content_type), ("4.04", b"there is no resource at /a", "text/plain"))

    def test_a_bug(self) -> None:
        """What nobody foresaw fails the request, and is not raised at whoever sends."""
        parts = Parts()
        for reply in (ValueError("a bug"), fail(ValueError("a bug"))):
            parts.reply = reply
            self.failureResultOf(parts.requester.send(get("coap://g1/a")), ValueError)

    def test_too_slow(self) -> None:
        """An answer that does not come in time is no answer; what comes later goes nowhere; nothing is pending."""
        parts = Parts()
        waiting: Deferred[Response] = Deferred()
        parts.reply = waiting
        done = parts.requester.send(get("coap://g1/a", timeout_s=2.0))
        parts.clock.advance(1.9)
        self.assertNoResult(done)
        parts.clock.advance(0.2)
        self.failureResultOf(done, DeadlinePassed)
        waiting.callback(Response(Status.CONTENT))
        self.assertEqual(parts.clock.getDelayedCalls(), [])

    def test_in_time(self) -> None:
        """One that comes in time says how long it took."""
        parts = Parts()
        waiting: Deferred[Response] = Deferred()
        parts.reply = waiting
        done = parts.requester.send(get("coap://g1/a", timeout_s=2.0))
        parts.clock.advance(1.5)
        waiting.callback(Response(Status.CONTENT))
        self.assertEqual((self.successResultOf(done).elapsed_s, parts.clock.getDelayedCalls()), (1.5, []))


class ThereTests(SynchronousTestCase):
    def test_by_address(self) -> None:
        """A URI with an address goes by its scheme, as it is."""
        parts = Parts()
        done = parts.requester.send(get("coap://[fd00::1]:7/a"))
        self.assertEqual(parts.sent, [(get("coap://[fd00::1]:7/a"), "fd00::1", 7)])
        parts.answers[0].callback(Answer("2.05"))
        self.assertEqual(self.successResultOf(done).code, "2.05")

    def test_by_name(self) -> None:
        """A name is looked up first; the time that this took is taken from the request's."""
        parts = Parts()
        done = parts.requester.send(get("coap://n1.example.com/a", timeout_s=9.0))
        parts.clock.advance(2.0)
        parts.looked_up[0].callback(["fd00::9"])
        [(outgoing, host, port)] = parts.sent
        self.assertEqual((outgoing.timeout_s, host, port), (7.0, "fd00::9", 5683))
        parts.answers[0].callback(Answer("2.05"))
        self.successResultOf(done)
        self.assertEqual(parts.clock.getDelayedCalls(), [])

    def test_a_look_up_without_end(self) -> None:
        """A look-up that gives nothing ends in time: the request's, or ten seconds; what it gives later goes nowhere."""
        for timeout_s in (2.0, 60.0):
            parts = Parts()
            done = parts.requester.send(get("coap://n1.example.com/a", timeout_s=timeout_s))
            parts.clock.advance(min(timeout_s, LOOK_UP_S) + 0.1)
            self.assertIn("n1.example.com", self.failureResultOf(done, PeerFailed).value.detail)
            parts.looked_up[0].callback(["fd00::9"])
            self.assertEqual((parts.sent, parts.clock.getDelayedCalls()), ([], []))

    def test_cancelled(self) -> None:
        """A request whose caller goes away is cancelled wherever it is."""
        parts = Parts()
        done = parts.requester.send(get("coap://n1.example.com/a"))
        done.cancel()
        self.failureResultOf(done, CancelledError)
        done = parts.requester.send(get("coap://[fd00::1]/a"))
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(parts.clock.getDelayedCalls(), [])

    def test_cannot_be_sent(self) -> None:
        """No URI, and a scheme that nobody sends, fail without being raised."""
        parts = Parts()
        self.failureResultOf(parts.requester.send(get("no uri")), Malformed)
        fault = self.failureResultOf(parts.requester.send(get("https://[fd00::1]/")), NotSupported).value
        self.assertIn("https", fault.detail)

    def test_a_sender_that_fails(self) -> None:
        """What the scheme's sender says is the answer, faults too."""
        parts = Parts()
        done = parts.requester.send(get("coap://[fd00::1]/a"))
        parts.answers[0].errback(Overloaded())
        self.failureResultOf(done, Overloaded)

    def test_interface(self) -> None:
        """It is an `IRequester`."""
        verifyObject(IRequester, Parts().requester)
