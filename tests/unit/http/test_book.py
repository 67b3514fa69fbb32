"""The book of connections: what each source holds, in number, bytes and time."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from m2mapp.http.book import Phase, host_of
from m2mapp.http.limits import HttpLimits
from tests.unit.http.cases import HEAD, PUT, ConnectionCase
from tests.unit.http.harness import HOST


class BodyBudgetTests(ConnectionCase):
    limits = HttpLimits(bodies_bytes=4000, body_bytes=3000)

    def test_of_all(self) -> None:
        """Bodies that are held together may not exceed their budget; what was given back can be used again."""
        clients = [self.node.client(f"192.0.2.{number}") for number in range(1, 6)]
        for client in clients:
            client.send(PUT + b"Content-Length: 1000\r\n\r\n" + b"x" * 900)
        self.assertEqual([client.transport.value()[9:12] for client in clients], [b""] * 4 + [b"503"])
        clients[0].leave()
        late = self.node.client("192.0.2.9")
        late.send(PUT + b"Content-Length: 900\r\n\r\n" + b"x" * 900)
        self.assertEqual(late.answers()[0].code, 200)

    def test_of_one_source(self) -> None:
        """One source holds at most a quarter of it."""
        self.node.client().send(PUT + b"Content-Length: 1000\r\n\r\n" + b"x" * 900)
        second = self.node.client()
        second.send(PUT + b"Content-Length: 200\r\n\r\n" + b"x" * 200)
        self.assertEqual(self.refusal(second).code, 429)


class TimeTests(ConnectionCase):
    def test_idle(self) -> None:
        """A connection on which nothing happens is closed without a word; one with requests is not."""
        idle, busy = self.node.client(), self.node.client()
        for _ in range(5):
            self.node.sweep(20)
            if busy.open:
                busy.request("GET", "/a")
        self.assertEqual((idle.open, idle.received(), busy.open), (False, b"", True))

    def test_trickled_head(self) -> None:
        """A head has to arrive within its time, however often a byte comes."""
        client = self.node.client()
        client.send(HEAD)
        for _ in range(11):
            client.send(b"X: y\r\n")
            self.node.sweep(1)
        answer = self.refusal(client)
        self.assertEqual((answer.code, answer.json()["type"]), (408, "urn:m2mapp:problem:deadline-passed"))

    def test_trickled_request_line(self) -> None:
        """So has the request line."""
        client = self.node.client()
        for _ in range(62):
            client.send(b"G")
            self.node.sweep(1)
        self.assertFalse(client.open)

    def test_trickled_body(self) -> None:
        """So has the body."""
        client = self.node.client()
        client.send(PUT + b"Content-Length: 1000\r\n\r\n")
        for _ in range(21):
            client.send(b"x")
            self.node.sweep(1)
        self.assertEqual(self.refusal(client).code, 408)

    def test_refused_client_that_goes_on_sending(self) -> None:
        """What a refused client still sends is thrown away; the end does not wait for it."""
        client = self.node.client()
        client.send(b"nonsense\r\n")
        for _ in range(3):
            client.send(b"x" * 100_000)
            self.node.sweep(1)
        self.assertFalse(client.open)

    def test_close_that_does_not_end(self) -> None:
        """A connection that cannot be flushed is aborted in the end."""
        client = self.node.client()
        client.send(b"nonsense\r\n")
        client.transport.takes_nothing = True
        self.node.sweep(6)
        self.assertTrue(client.transport.aborted)

    def test_one_bad_connection_does_not_stop_the_sweep(self) -> None:
        """Each connection is looked at, whatever another one raises."""
        bad, idle = self.node.client(), self.node.client()

        def broken() -> Phase:
            raise RuntimeError("for the test")

        bad.channel.phase = broken  # type: ignore[method-assign]
        self.node.sweep(61)
        self.assertFalse(idle.open)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 61)


class NumberTests(ConnectionCase):
    limits = HttpLimits(connections=4, connections_per_source=2)

    def test_of_one_source(self) -> None:
        """One address may have so many connections; another one is not touched by that, also not over IPv4-mapped IPv6."""
        self.node.client()
        second = self.node.client(f"::ffff:{HOST}")
        third = self.node.client()
        self.assertEqual(self.refusal(third).code, 429)
        self.assertEqual(self.node.client("2001:db8::1").request("GET", "/healthz").code, 200)
        second.leave()
        self.assertEqual(self.node.client().request("GET", "/healthz").code, 200)

    def test_of_all(self) -> None:
        """Above the limit connections are told 503; far above it they are closed without a word."""
        for number in range(4):
            self.node.client(f"192.0.2.{number + 1}")
        told = self.node.client("192.0.2.100")
        for number in range(63):
            self.node.client(f"198.51.100.{number}")
        silent = self.node.client("192.0.2.200")
        self.assertEqual((silent.transport.aborted, silent.received()), (True, b""))
        answer = self.refusal(told)
        self.assertEqual((answer.code, answer.headers["retry-after"]), (503, "1"))

    def test_names_of_sources(self) -> None:
        """A source is its address; an IPv4 address is the same over both protocols; all on a Unix socket are one."""
        for address, host in [
            (IPv4Address("TCP", HOST, 1), HOST),
            (IPv6Address("TCP", f"::ffff:{HOST}", 1), HOST),
            (IPv6Address("TCP", "::ffff:x", 1), "::ffff:x"),
            (IPv6Address("TCP", "fe80::1%eth1", 1), "fe80::1%eth1"),
            (UNIXAddress("socket"), "local"),
        ]:
            self.assertEqual(host_of(address), host)


class MetricTests(ConnectionCase):
    def test_refusals_are_counted(self) -> None:
        """Each refusal counts under its kind."""
        self.refused(b"nonsense\r\n")
        self.assertEqual(self.node.metrics.counter("m2mapp_http_refused_total", "", kind="malformed").value, 1)
