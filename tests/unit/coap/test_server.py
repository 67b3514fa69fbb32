"""Requests over CoAP: what the handler is asked, and what goes back."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from m2mapp.coap import numbers, things
from m2mapp.coap.message import Message, build, empty, parse, uint
from m2mapp.coap.parameters import Limits
from m2mapp.model import errors
from m2mapp.model.messages import ANY_ETAG, Conditions, Method, Response, Status
from tests.unit.coap.cases import ServerCase
from tests.unit.coap.fakes import CONTENT, OTHER, PEER, Node, get, request, vectors

ETAG = b"\x01\x02"


class RequestTests(ServerCase):
    def test_get(self) -> None:
        """A GET of libcoap's client is a request with path, query, principal, source and trace; the answer is piggybacked."""
        answer = self.node.receive(vectors()["libcoap-get"])[0]
        self.assertEqual((answer.mtype, answer.code, answer.token), (things.ACK, things.CONTENT, b"\x01"))
        self.assertEqual(answer.options, ((things.ETAG, ETAG), (things.CONTENT_FORMAT, b"")))
        self.assertEqual(answer.payload, b"21.5")
        asked = self.asked()
        self.assertEqual((asked.method, asked.path), (Method.GET, ("sensors", "temperature")))
        self.assertEqual(asked.query, (("unit", "c"), ("max", "")))
        self.assertEqual((asked.principal.name, asked.source), ("coap:fd00::d1", ("fd00::d1", 5683)))
        self.assertRegex(asked.trace, "^[0-9a-f]{32}$")
        self.assertIsNone(asked.multicast)

    def test_non_confirmable(self) -> None:
        """A non-confirmable request is answered by a non-confirmable message with an ID of its own."""
        answer = self.ask(get(mid=77, mtype=things.NON))
        self.assertEqual((answer.mtype, answer.code, answer.token), (things.NON, things.CONTENT, b"tok"))

    def test_traces_differ(self) -> None:
        """Each request has a trace id of its own."""
        for mid in range(20):
            self.node.receive(get(mid=mid))
        self.assertEqual(len({asked.trace for asked in self.node.handler.requests}), 20)

    def test_methods(self) -> None:
        """Each code is its method; the success code follows the method, whatever the handler calls it (RFC 7252, section 5.9.1)."""
        expected = {
            things.GET: (Method.GET, "2.05"),
            things.POST: (Method.POST, "2.04"),
            things.PUT: (Method.PUT, "2.04"),
            things.DELETE: (Method.DELETE, "2.02"),
            numbers.PATCH: (Method.PATCH, "2.04"),
            numbers.IPATCH: (Method.PATCH, "2.04"),
        }
        for code, (method, text) in expected.items():
            answer = self.ask(request(code, mid=code))
            self.assertEqual((self.asked().method, numbers.code_text(answer.code)), (method, text))

    def test_unknown_method(self) -> None:
        """FETCH and unassigned methods are 4.05, piggybacked (RFC 7252, section 5.8)."""
        for code in (numbers.FETCH, 8, 31):
            answer = self.ask(request(code, mid=code))
            self.assertEqual((answer.mtype, answer.code), (things.ACK, things.METHOD_NOT_ALLOWED))

    def test_statuses(self) -> None:
        """Each status is its code; a location is Location-Path."""
        self.node.handler.answer = Response(Status.CREATED, location=("rd", "4521"), etag=ETAG)
        answer = self.ask(request(things.POST, mid=1))
        self.assertEqual(answer.code, things.CREATED)
        self.assertEqual(answer.options, ((things.ETAG, ETAG), (things.LOCATION_PATH, b"rd"), (things.LOCATION_PATH, b"4521")))
        for mid, (status, code) in enumerate(((Status.DELETED, 66), (Status.VALID, 67), (Status.CHANGED, 68)), 2):
            self.node.handler.answer = Response(status, max_age_s=300)
            answer = self.ask(request(things.PUT, mid=mid))
            self.assertEqual((answer.code, answer.options), (code, ((things.MAX_AGE, uint(300)),)))

    def test_conditions(self) -> None:
        """If-Match, also the empty one, and If-None-Match."""
        self.ask(request(things.PUT, mid=1, options=[(things.IF_MATCH, b"ab"), (things.IF_MATCH, b"cd")]))
        self.assertEqual(self.asked().conditions, Conditions(if_match=(b"ab", b"cd")))
        self.ask(request(things.PUT, mid=2, options=[(things.IF_MATCH, b"")]))
        self.assertEqual(self.asked().conditions, Conditions(if_match=(ANY_ETAG,)))
        self.ask(request(things.PUT, mid=3, options=[(things.IF_NONE_MATCH, b"")]))
        self.assertEqual(self.asked().conditions, Conditions(if_none_match=(ANY_ETAG,)))

    def test_valid(self) -> None:
        """A GET that names the ETag of the answer gets 2.03 without payload (RFC 7252, section 5.10.6.2)."""
        answer = self.ask(get(mid=1, options=[(things.ETAG, b"old"), (things.ETAG, ETAG)]))
        self.assertEqual((answer.code, answer.options, answer.payload), (things.VALID, ((things.ETAG, ETAG),), b""))
        self.assertEqual(self.ask(get(mid=2, options=[(things.ETAG, b"old")])).code, things.CONTENT)

    def test_own_options(self) -> None:
        """Request identifier, cause and deadline."""
        options = [(numbers.REQUEST_ID, b"12345678"), (numbers.CAUSE, b"/a/b"), (numbers.CAUSE, b"/c"), (numbers.DEADLINE, uint(2500))]
        self.node.clock.advance(10)
        self.ask(get(options=options))
        self.assertEqual((self.asked().request_id, self.asked().cause, self.asked().deadline), (b"12345678", ("/a/b", "/c"), 12.5))

    def test_too_many_causes(self) -> None:
        """More causes than may be are refused, not cut: what was cut could not end a circle."""
        answer = self.ask(get(options=[(numbers.CAUSE, b"%d" % index) for index in range(17)]))
        self.assertEqual(answer.code, things.REQUEST_ENTITY_TOO_LARGE)
        self.assertIn(b"M2M-Cause", answer.payload)

    def test_media_types(self) -> None:
        """Content-Format and Accept are media types; unknown ones are 4.15 and 4.06, and nothing is asked."""
        self.ask(request(things.PUT, mid=1, options=[(things.CONTENT_FORMAT, uint(50)), (things.ACCEPT, uint(60))], payload=b"{}"))
        self.assertEqual((self.asked().content_type, self.asked().accept), ("application/json", ("application/cbor",)))
        self.assertEqual(self.ask(get(mid=2, options=[(things.ACCEPT, uint(9999))])).code, things.NOT_ACCEPTABLE)
        answer = self.ask(request(things.PUT, mid=3, options=[(things.CONTENT_FORMAT, uint(9999))]))
        self.assertEqual(answer.code, things.UNSUPPORTED_CONTENT_FORMAT)
        self.assertIn(b"9999", answer.payload)
        self.assertEqual(len(self.node.handler.requests), 1)

    def test_octets(self) -> None:
        """A media type without a number is served as 42, and is what Accept 42 gets; one with a number is not (spec section 2)."""
        self.node.handler.answer = Response(Status.CONTENT, b"\x00", "application/x-own")
        self.assertEqual(self.ask(get(mid=1)).first(things.CONTENT_FORMAT), uint(42))
        self.assertEqual(self.ask(get(mid=2, options=[(things.ACCEPT, uint(42))])).code, things.CONTENT)
        self.assertEqual(self.asked().accept, ("application/octet-stream", "*/*"))
        self.node.handler.answer = CONTENT
        self.assertEqual(self.ask(get(mid=3, options=[(things.ACCEPT, uint(42))])).code, things.NOT_ACCEPTABLE)

    def test_content_format_without_payload(self) -> None:
        """An empty content has its media type; an answer that has no content has none."""
        self.node.handler.answer = Response(Status.CONTENT, b"", "text/plain")
        self.assertEqual(self.ask(get(mid=1)).options, ((things.CONTENT_FORMAT, b""),))
        self.node.handler.answer = Response(Status.CHANGED, b"", "text/plain")
        self.assertEqual(self.ask(request(things.PUT, mid=2)).options, ())


class OptionTests(ServerCase):
    def test_unknown_critical(self) -> None:
        """4.02 to a confirmable request, with the option named; a Reset to a non-confirmable one (RFC 7252, section 5.4.1)."""
        answer = self.ask(get(mid=1, options=[(9, b"\x01")]))
        self.assertEqual(answer.code, things.BAD_OPTION)
        self.assertIn(b"option 9", answer.payload)
        self.assertEqual(self.node.receive(get(mid=2, options=[(9, b"\x01")], mtype=things.NON)), [Message(things.RST, 0, 2)])
        self.assertEqual(self.node.receive(get(mid=2, options=[(9, b"\x01")], mtype=things.NON)), [Message(things.RST, 0, 2)])
        self.assertEqual(self.node.handler.requests, [])

    def test_unknown_elective(self) -> None:
        """Elective options that are unknown, repeated or of a wrong size are ignored."""
        odd = [(10, b"x"), (numbers.DEADLINE, b"12345"), (things.CONTENT_FORMAT, b"\x32"), (things.CONTENT_FORMAT, b"\x3c")]
        self.assertEqual(self.ask(request(things.PUT, mid=1, options=odd)).code, things.CHANGED)
        self.assertEqual((self.asked().deadline, self.asked().content_type), (None, "application/json"))

    def test_ill_sized_identifiers(self) -> None:
        """An identifier or a requester's tag of a wrong size, or a second one, is 4.00 with its name: the handler sees none."""
        for number in (numbers.REQUEST_ID, numbers.REQUESTER):
            for mid, values in enumerate(([b""], [b"1234567"], [b"x" * 1000], [b"12345678"] * 2)):
                answer = self.ask(request(things.PUT, mid=mid + 10 * (number & 32), options=[(number, value) for value in values]))
                self.assertEqual(answer.code, things.BAD_REQUEST)
                self.assertIn(numbers.option_name(number).encode(), answer.payload)
        self.assertEqual(self.node.handler.requests, [])

    def test_critical_of_a_wrong_kind(self) -> None:
        """Critical options of a wrong size, or repeated where once is all, are like unknown ones (RFC 7252, sections 5.4.3 and 5.4.5)."""
        for mid, options in enumerate(
            (
                [(things.ACCEPT, b"\0\0\0")],
                [(things.ACCEPT, b""), (things.ACCEPT, b"")],
                [(things.URI_HOST, b"")],
                [(things.URI_PATH, b"x" * 256)],
            )
        ):
            self.assertEqual(self.ask(get(mid=mid, options=options)).code, things.BAD_OPTION, options)

    def test_proxy(self) -> None:
        """Proxy-Uri of libcoap's client, and Proxy-Scheme: 5.05."""
        self.assertEqual(self.ask(get(mid=1, options=[(things.PROXY_URI, b"coap://example.org/x")])).code, things.PROXYING_NOT_SUPPORTED)
        self.assertEqual(self.ask(get(mid=2, options=[(things.PROXY_SCHEME, b"http")])).code, things.PROXYING_NOT_SUPPORTED)

    def test_utf8(self) -> None:
        """Uri-Path, Uri-Query and M2M-Cause that are not UTF-8 are 4.00 and named; nothing is asked."""
        for mid, (number, name) in enumerate(
            ((things.URI_PATH, b"Uri-Path"), (things.URI_QUERY, b"Uri-Query"), (numbers.CAUSE, b"M2M-Cause"))
        ):
            answer = self.ask(get(mid=mid, options=[(number, b"\xff\xfe")]))
            self.assertEqual(answer.code, things.BAD_REQUEST)
            self.assertIn(name, answer.payload)
        self.assertEqual(self.node.handler.requests, [])

    def test_a_path_of_ten_thousand_levels(self) -> None:
        """Thousands of options are refused, not read."""
        answer = self.ask(get("/".join("a" * 10_000)))
        self.assertEqual(answer.code, things.REQUEST_ENTITY_TOO_LARGE)

    def test_known_and_ignored(self) -> None:
        """Uri-Host, Uri-Port, Hop-Limit, Echo, Request-Tag: known or elective, and without consequence for a GET."""
        options = [
            (things.URI_HOST, b"g1.example.org"),
            (things.URI_PORT, uint(5683)),
            (numbers.HOP_LIMIT, b"\x10"),
            (numbers.ECHO, b"xyz"),
            (numbers.REQUEST_TAG, b"t"),
        ]
        self.assertEqual(self.ask(get(options=options)).code, things.CONTENT)


class FaultTests(ServerCase):
    def test_every_fault(self) -> None:
        """A fault raised and a fault that a Deferred fails with are answered alike, with the trace that the handler got."""
        fault = errors.NoSuchResource("/x")
        self.node.handler.answer = fault
        answer = self.ask(get(mid=1))
        self.assertEqual(answer.code, things.NOT_FOUND)
        self.assertEqual(answer.payload.decode(), f"not-found: there is no resource at /x (trace {self.asked().trace})")
        failed: Deferred[Response] = Deferred()
        failed.errback(fault)
        self.node.handler.answer = failed
        self.assertEqual(self.ask(get(mid=2)).code, things.NOT_FOUND)

    def test_a_failing_handler(self) -> None:
        """What a handler raises by mistake is 5.00 and is logged; the payload says nothing of it."""
        self.node.handler.answer = ZeroDivisionError("secret")
        answer = self.ask(get(mid=1))
        self.assertEqual(answer.code, things.INTERNAL_SERVER_ERROR)
        self.assertNotIn(b"secret", answer.payload)
        failed: Deferred[Response] = Deferred()
        failed.errback(ZeroDivisionError())
        self.node.handler.answer = failed
        self.assertEqual(self.ask(get(mid=2)).code, things.INTERNAL_SERVER_ERROR)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(self.node.count("failed"), 2)

    def test_an_answer_that_cannot_be_told(self) -> None:
        """A handler whose answer is none, or cannot be encoded, is 5.00."""
        for mid, answer in enumerate((None, "text", Response(Status.CONTENT, b"x", "text/plain", location=("\ud800",)))):
            self.node.handler.answer = answer if not isinstance(answer, str) else lambda _request: 5
            self.assertEqual(self.ask(get(mid=mid)).code, things.INTERNAL_SERVER_ERROR)
        self.assertEqual(len(self.flushLoggedErrors()), 3)


class SeparateTests(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.result: Deferred[Response] = Deferred()
        self.node.handler.answer = self.result

    def test_soon(self) -> None:
        """A Deferred that fires in time is answered in the acknowledgement."""
        self.assertEqual(self.node.receive(get()), [])
        self.node.clock.advance(0.4)
        self.result.callback(CONTENT)
        self.assertEqual([message.mtype for message in self.node.port.take()], [things.ACK])

    def test_late(self) -> None:
        """After half a second an empty acknowledgement, later a confirmable response, repeated until it is acknowledged."""
        self.node.receive(get(mid=5))
        self.node.clock.advance(0.5)
        self.assertEqual(self.node.port.take(), [Message(things.ACK, 0, 5)])
        self.assertEqual(self.node.receive(get(mid=5)), [Message(things.ACK, 0, 5)])
        self.result.callback(CONTENT)
        (separate,) = self.node.port.take()
        self.assertEqual((separate.mtype, separate.code, separate.token), (things.CON, things.CONTENT, b"tok"))
        self.node.clock.advance(3)
        self.assertEqual(self.node.port.take(), [separate])
        self.node.receive(empty(things.ACK, separate.mid))
        self.node.clock.advance(100)
        self.assertEqual(self.node.port.take(), [])

    def test_late_with_a_deadline(self) -> None:
        """A requester that waits for so long is told sooner that it is heard; the answer is repeated within its time, and no longer."""
        self.node.receive(get(mid=5, options=[(numbers.DEADLINE, uint(2500))]))
        self.node.clock.advance(0.1)
        self.assertEqual(self.node.port.take(), [Message(things.ACK, 0, 5)])
        self.node.clock.advance(2.15)
        self.result.callback(CONTENT)
        self.assertEqual(len(self.node.port.take()), 1)
        self.node.clock.pump([0.05] * 6)
        self.assertEqual([message.mtype for message in self.node.port.take()], [things.CON] * 2)
        self.node.clock.advance(100)
        self.assertEqual(self.node.port.take(), [])

    def test_late_non_confirmable(self) -> None:
        """A non-confirmable request is not acknowledged, however late the answer is."""
        self.node.receive(get(mtype=things.NON))
        self.node.clock.advance(10)
        self.assertEqual(self.node.port.take(), [])
        self.result.callback(CONTENT)
        self.assertEqual([message.mtype for message in self.node.port.take()], [things.NON])

    def test_too_many_separate_answers(self) -> None:
        """Separate answers to a peer that acknowledges none wait in a bounded queue; those beyond it are counted and not sent."""
        self.node = Node(limits=Limits(waiting_per_peer=2))
        pending: list[Deferred[Response]] = [Deferred() for _ in range(5)]
        unused = iter(pending)
        self.node.handler.answer = lambda _request: next(unused)
        for mid in range(5):
            self.node.receive(get(mid=mid))
        self.node.clock.advance(1)
        for deferred in pending:
            deferred.callback(CONTENT)
        self.assertEqual((self.node.count("refused"), self.node.service.server.under_way), (2, 0))

    def test_answer_after_the_end(self) -> None:
        """An answer that comes when the service has stopped goes nowhere and harms nothing."""
        self.node.receive(get())
        self.node.stop()
        self.result.callback(CONTENT)
        self.assertEqual((self.node.port.take(), self.node.service.server.under_way), ([], 0))


class LimitTests(ServerCase):
    def test_of_one_source(self) -> None:
        """One source has so many requests under way and no more: 4.29 with Max-Age; another source is served."""
        self.node = Node(limits=Limits(requests_per_peer=3))
        pending: list[Deferred[Response]] = [Deferred() for _ in range(4)]
        unused = iter(pending)
        self.node.handler.answer = lambda _request: next(unused)
        for mid in range(3):
            self.assertEqual(self.node.receive(get(mid=mid)), [])
        refused = self.ask(get(mid=3))
        self.assertEqual((refused.code, refused.first(things.MAX_AGE)), (numbers.TOO_MANY_REQUESTS, b"\x01"))
        self.assertEqual(self.node.receive(get(mid=3), OTHER), [])
        for deferred in pending:
            deferred.callback(CONTENT)
        self.assertEqual(self.node.service.server.under_way, 0)
        self.node.handler.answer = CONTENT
        self.assertEqual(self.ask(get(mid=4)).code, things.CONTENT)

    def test_of_all(self) -> None:
        """All together have so many and no more: 5.03 with Max-Age."""
        self.node = Node(limits=Limits(requests=2))
        self.node.handler.answer = lambda _request: Deferred()
        for index in range(2):
            self.assertEqual(self.node.receive(get(), (f"fd00:{index}::1", 5683, 0, 0)), [])
        refused = self.ask(get())
        self.assertEqual((refused.code, refused.first(things.MAX_AGE)), (things.SERVICE_UNAVAILABLE, b"\x01"))
        self.assertEqual(self.node.count("refused"), 1)


class NoResponseTests(ServerCase):
    def test_unicast(self) -> None:
        """What No-Response does not want is not sent; a confirmable request is acknowledged all the same (RFC 7967, section 2)."""
        self.assertEqual(self.node.receive(get(mid=1, options=[(numbers.NO_RESPONSE, b"\x02")])), [Message(things.ACK, 0, 1)])
        self.assertEqual(self.node.receive(get(mid=2, options=[(numbers.NO_RESPONSE, b"\x02")], mtype=things.NON)), [])
        self.assertEqual(self.ask(get(mid=3, options=[(numbers.NO_RESPONSE, b"\x18")])).code, things.CONTENT)
        self.node.handler.answer = errors.NoSuchResource("/x")
        self.assertEqual(self.ask(get(mid=4, options=[(numbers.NO_RESPONSE, b"\x02")])).code, things.NOT_FOUND)
        self.assertEqual(self.node.receive(get(mid=5, options=[(numbers.NO_RESPONSE, b"\x08")], mtype=things.NON)), [])
        self.assertEqual(self.node.count("suppressed"), 3)


class RepliesTests(ServerCase):
    def test_where_replies_go(self) -> None:
        """An answer goes to the address and port that asked, with the zone."""
        source = ("fe80::5", 40000, 0, 3)
        self.node.port.receiver.datagram_received(build(get()), source, "fe80::1", 3)
        self.assertEqual([to for _, to, _ in self.node.port.sent], [source])
        self.assertEqual(parse(self.node.port.sent[0][0]).code, things.CONTENT)
        self.assertNotEqual(source, PEER)
