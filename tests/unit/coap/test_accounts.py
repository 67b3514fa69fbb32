"""Rates: what one source, and one network, may ask, and what becomes of more."""

from __future__ import annotations

from math import inf

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import numbers, things
from m2mapp.coap.accounts import NETWORK_HOSTS, PORTION, Accounts
from m2mapp.coap.message import Message, empty, number_in
from m2mapp.coap.parameters import Limits
from m2mapp.net.interfaces import Sockaddr
from tests.unit.coap.fakes import CONTENT, GROUP, HERE, PEER, Node, get

SLOW = Limits(source_requests_per_s=10, source_burst_s=2.4)
"""24 at once, in three portions; then ten a second."""


def host(index: int, port: int = 5683) -> Sockaddr:
    """A host of one network."""
    return (f"fd00::{index:x}", port, 0, 0)


class AccountTests(SynchronousTestCase):
    def admitted(self, accounts: Accounts, sources: list[Sockaddr], seconds: float, per_s: int, size: int = 10) -> int:
        """How many messages fit, of so many a second that come from these sources in turn."""
        kept = [accounts.of(source) for source in sources]
        found = 0
        for step in range(int(seconds * per_s)):
            account = kept[step % len(kept)]
            assert account is not None
            found += accounts.admits(account, step / per_s, size)
        return found

    def test_rates(self) -> None:
        """A burst, then the rate, of requests and of bytes; a source within its rate is never refused."""
        for limits, per_s, expected in (
            (SLOW, 100, 10 * 60 + 24),
            (Limits(source_requests_per_s=inf, source_bytes_per_s=100, source_burst_s=2.4), 100, 10 * 60 + 24),
            (SLOW, 9, 9 * 60),
        ):
            self.assertLessEqual(abs(self.admitted(Accounts(limits), [PEER], 60, per_s) - expected), PORTION)

    def test_ports_and_addresses(self) -> None:
        """All ports of a host share its account; all hosts of a /64 share sixteen times that."""
        ports = [host(1, port) for port in range(1, 200)]
        self.assertLessEqual(abs(self.admitted(Accounts(SLOW), ports, 10, 1000) - 124), PORTION)
        hosts = [host(index) for index in range(1, 200)]
        self.assertLessEqual(abs(self.admitted(Accounts(SLOW), hosts, 10, 3000) - NETWORK_HOSTS * 124), 200 * PORTION)
        others: list[Sockaddr] = [(f"192.0.2.{index}", 1) for index in range(100)]
        self.assertEqual(self.admitted(Accounts(SLOW), others, 10, 1000), 10_000)

    def test_this_machine(self) -> None:
        """What comes from this machine has no account."""
        accounts = Accounts(SLOW)
        self.assertEqual([accounts.of(source) for source in (("127.0.0.1", 1), ("::1", 1, 0, 0))], [None, None])

    def test_forgotten(self) -> None:
        """Accounts that nobody holds are gone, the network's with its last host's."""
        accounts = Accounts(SLOW)
        one, two = accounts.of(host(1)), accounts.of(host(2))
        self.assertEqual(len(accounts), 3)
        del one
        self.assertEqual(len(accounts), 2)
        del two
        self.assertEqual(len(accounts), 0)


class RateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node(limits=SLOW)

    def tearDown(self) -> None:
        self.assertEqual(self.node.stop(), [])

    def flood(self, count: int, source: Sockaddr = PEER, mtype: int = things.CON, first: int = 0) -> list[Message]:
        """The answers to so many requests at once."""
        return [answer for mid in range(first, first + count) for answer in self.node.receive(get(mid=mid, mtype=mtype), source)]

    def test_told_once(self) -> None:
        """Beyond its rate a source is told 4.29 with Max-Age once a second, and else not answered; another is served (RFC 8516)."""
        answers = self.flood(100)
        codes = [answer.code for answer in answers]
        self.assertEqual((codes.count(things.CONTENT), codes.count(numbers.TOO_MANY_REQUESTS), len(codes)), (24, 1, 25))
        refused = answers[-1]
        self.assertEqual((refused.mtype, refused.mid, refused.token), (things.ACK, 24, b"tok"))
        self.assertEqual((refused.first(things.MAX_AGE), refused.payload), (b"\x01", b""))
        self.assertEqual((len(self.node.handler.requests), self.node.count("over_rate")), (24, 76))
        self.assertEqual(len(self.flood(1, host(2))), 1)
        self.node.clock.advance(1.05)
        self.assertEqual([answer.code for answer in self.flood(40, first=200)].count(numbers.TOO_MANY_REQUESTS), 1)

    def test_comes_again(self) -> None:
        """A request that was not answered is no repetition when it is sent again: it is served then."""
        refused = self.flood(26)[-1]
        self.assertEqual(self.flood(1, first=25), [])
        self.node.clock.advance(number_in(refused.first(things.MAX_AGE) or b""))
        self.assertEqual([answer.code for answer in self.flood(1, first=25)], [things.CONTENT])

    def test_what_was_accepted(self) -> None:
        """The repetition of a request that was accepted is told nothing beyond the rate: its answer is under way, or comes again."""
        answer: Deferred[object] = Deferred()
        self.node.handler.answer = answer
        self.flood(1, first=500)
        self.node.handler.answer = CONTENT
        self.flood(22)
        self.assertEqual(self.node.receive(get(mid=500)), [])
        self.assertEqual(self.node.receive(get(mid=500)), [])
        self.assertEqual(self.node.receive(get(mid=0)), [])
        self.assertGreater(self.node.count("over_rate"), 0)
        answer.callback(CONTENT)
        self.assertEqual([each.code for each in self.node.port.take()], [things.CONTENT])

    def test_non_confirmable_and_group(self) -> None:
        """A non-confirmable request is told by a message of that kind; of a group's requests those beyond the rate are dropped."""
        self.assertEqual(self.flood(30, mtype=things.NON)[-1].code, numbers.TOO_MANY_REQUESTS)
        self.node.port.take()
        for mid in range(100, 200):
            data = b"\x50\x01" + mid.to_bytes(2, "big") + b"\xb1x"
            self.node.port.receiver.datagram_received(data, host(7), GROUP, 1)
        self.assertEqual(self.node.service.server.under_way, 24)
        self.assertEqual(self.node.port.take(), [])

    def test_pings_and_rubbish(self) -> None:
        """Pings, malformed messages and answers that nobody asked for are reset within the rate, of a stranger and of a peer."""
        for kind in (
            lambda mid: empty(things.CON, mid),
            lambda mid: b"\x49\x01" + mid.to_bytes(2, "big"),
            lambda mid: b"\x58\x45" + mid.to_bytes(2, "big") + b"notknown\x60",
        ):
            self.node.clock.advance(60)
            self.node.port.take()
            for mid in range(500):
                self.node.port.receiver.datagram_received(kind(mid), host(mid), HERE, 1)
            self.assertEqual(len(self.node.port.take()), 24)
        self.flood(1, host(8))
        for mid in range(500):
            self.node.port.receiver.datagram_received(empty(things.CON, mid), host(8), HERE, 1)
        self.assertEqual(len(self.node.port.take()), 23)

    def test_payloads_count(self) -> None:
        """What is sent to a source counts as its bytes, also where it is sent again."""
        self.node = Node(limits=Limits(source_bytes_per_s=1_000, source_burst_s=1.0))
        self.node.handler.answer = CONTENT._replace(payload=b"x" * 900)
        self.assertEqual([answer.code for answer in self.flood(9)].count(things.CONTENT), 3)
        self.node.clock.advance(60)
        self.assertEqual(len([answer for _ in range(9) for answer in self.node.receive(get(mid=1)) if answer.payload]), 2)

    def test_under_way(self) -> None:
        """All ports of a host, and all hosts of a network, have so many requests under way and no more; then 4.29."""
        self.node = Node(limits=Limits(requests_per_host=8, requests=40, requests_per_peer=2))
        waiting: list[Deferred[object]] = []

        def wait(_request: object) -> Deferred[object]:
            waiting.append(Deferred())
            return waiting[-1]

        self.node.handler.answer = wait
        for port in range(20):
            self.flood(1, host(1, 1000 + port))
        self.assertEqual(self.node.service.server.under_way, 8)
        for index in range(2, 60):
            self.flood(1, host(index))
        self.assertEqual(self.node.service.server.under_way, 30)
        self.flood(1, ("fd01::1", 1, 0, 0))
        self.assertEqual(self.node.service.server.under_way, 31)
        for each in waiting:
            each.callback(None)
        self.assertEqual(self.node.service.server.under_way, 0)
        self.assertEqual(len(self.flushLoggedErrors()), 31)
        self.node.handler.answer = wait
        self.flood(1, host(1, 1000), first=9)
        self.assertEqual(self.node.service.server.under_way, 1)

    def test_a_thousand_register(self) -> None:
        """A thousand devices of one link that ask at the same moment are all answered, with the usual limits."""
        self.node = Node()
        for index in range(1_000):
            for mid in range(4):
                self.assertEqual([answer.code for answer in self.node.receive(get(mid=mid), host(index + 1))], [things.CONTENT])
        self.assertEqual(self.node.count("over_rate"), 0)
