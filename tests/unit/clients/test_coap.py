"""Requests by CoAP: where they go, and how they are repeated."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.clients.coap import AGAIN_ROUND_TRIPS, FASTEST_S, SLOWEST_S, STEADY, coap_sender, repeats
from m2mapp.coap.client import CoapClient
from m2mapp.coap.transmission import Repeats
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.net.interfaces import Sockaddr


class FakeClient(CoapClient):
    """Records what is sent; `rtt` is what it has seen of everybody."""

    def __init__(self, rtt: float | None = None) -> None:
        self.rtt = rtt
        self.sent: list[tuple[Sockaddr | None, Repeats | None]] = []

    def request(
        self, outgoing: Outgoing, remote: Sockaddr | None = None, *, confirmable: bool = True, repeats: Repeats | None = None
    ) -> Deferred[Answer]:
        self.sent.append((remote, repeats))
        return Deferred()

    def rtt_s(self, remote: Sockaddr) -> float | None:
        return self.rtt


def index_of(name: str) -> int:
    """The index of an interface."""
    if name != "eth1":
        raise OSError(19, "No such device")
    return 7


class SendTests(SynchronousTestCase):
    def test_where(self) -> None:
        """IPv4 and IPv6, with a zone by name or number; an interface that is not there is a failed peer."""
        client = FakeClient()
        send = coap_sender(client, index_of)
        uri = parse_uri("coap://d1/t")
        for host in ("192.0.2.1", "fd00::1", "fe80::1%eth1", "fe80::1%9"):
            send(Outgoing(Method.GET, "coap://d1/t"), uri, host, 5683)
        self.assertEqual(
            [remote for remote, _ in client.sent],
            [("192.0.2.1", 5683), ("fd00::1", 5683, 0, 0), ("fe80::1", 5683, 0, 7), ("fe80::1", 5683, 0, 9)],
        )
        self.failureResultOf(send(Outgoing(Method.GET, "coap://d1/t"), uri, "fe80::1%eth9", 5683), PeerFailed)

    def test_when_it_is_repeated(self) -> None:
        """Group operations follow the round-trip time, where one was seen; everything else RFC 7252."""
        uri = parse_uri("coap://d1/t")
        operation, other = Outgoing(Method.GET, "coap://d1/t", of_group=True), Outgoing(Method.GET, "coap://d1/t")
        found = []
        for client in (FakeClient(), FakeClient(0.1)):
            for outgoing in (operation, other):
                coap_sender(client, index_of)(outgoing, uri, "fd00::1", 5683)
            found += [how for _, how in client.sent]
        self.assertEqual(found, [None, None, Repeats(0.4, 6), None])

    def test_hints(self) -> None:
        """Who asks says what round trip to reckon with where none is known, and whether a copy was lost: then it is repeated sooner."""
        client = FakeClient()
        given = Outgoing(Method.GET, "coap://d1/t", of_group=True, rtt_s=0.1)
        for outgoing in (given, replace(given, again=True)):
            coap_sender(client, index_of)(outgoing, parse_uri("coap://d1/t"), "fd00::1", 5683)
        first_s = AGAIN_ROUND_TRIPS * 0.1
        self.assertEqual([how for _, how in client.sent], [Repeats(0.4, 6), Repeats(first_s, STEADY + 9, STEADY)])

    def test_repeats(self) -> None:
        """Never faster than a fifth of a second, never slower than the RFC, and as often as there is time."""
        self.assertEqual([repeats(rtt, 30.0)[0] for rtt in (0.0, 0.1, 9.0)], [FASTEST_S, 0.4, SLOWEST_S])
        for rtt in (0.001, 0.2, 5.0):
            for timeout_s in (0.0, 0.1, 1.0, 30.0, 3600.0):
                first_s, count, _ = repeats(rtt, timeout_s)
                self.assertLessEqual(first_s * (2**count - 1), timeout_s)
                self.assertGreater(first_s * (2 ** (count + 1) - 1), timeout_s)
