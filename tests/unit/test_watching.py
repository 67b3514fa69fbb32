"""The command `python -m m2mapp.coap`: what it asks of a gateway, what it prints, and how it says what keeps it from doing so."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.watching import main

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PROBLEM = b'{"detail": "peer: \'d1\' is not an address"}'
REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(PROBLEM), PROBLEM)


def chunk(text: str) -> bytes:
    """A piece of a stream."""
    return b"%x\r\n%s\r\n" % (len(text), text.encode())


LINES = chunk("data: -- times are UTC\n\n") + chunk(":\n\n") + chunk("data: 12:00:00.000 one\n\ndata: 12:00") + chunk(":00.001 two\n\n")
END = b"0\r\n\r\n"


class Gateway:
    """One connection of a gateway: answers with bytes, then waits for the client to go, or closes. `asked` is what it was asked."""

    def __init__(self, answer: bytes, *, stays: bool) -> None:
        self.asked = b""
        self._answer, self._stays = answer, stays
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(10)
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError), self._listening.accept()[0] as connection:
            connection.settimeout(10)
            while b"\r\n\r\n" not in self.asked:
                self.asked += connection.recv(4096)
            connection.sendall(self._answer)
            if self._stays:
                connection.recv(1)

    def close(self) -> None:
        """It has served its one connection."""
        self._thread.join()
        self._listening.close()


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.out, self.err = io.StringIO(), io.StringIO()

    def config(self, port: int, more: str = "[coap]\n") -> str:
        """A configuration file, with the token of a first start beside it."""
        (self.folder / "admin.token").write_text("secret-token-of-a-test\n")
        file = self.folder / "gateway.toml"
        http = f'[http]\nlisten = ["tcp:{port}"]\n' if port else ""
        file.write_text(f'[node]\nname = "g1.example.org"\nstate_dir = "{self.folder}"\n{http}{more}')
        return str(file)

    @contextlib.contextmanager
    def gateway(self, answer: bytes, *, stays: bool = True) -> Iterator[Gateway]:
        """A gateway that serves one connection."""
        found = Gateway(answer, stays=stays)
        try:
            yield found
        finally:
            found.close()

    def run_it(self, file: str, *arguments: str) -> int:
        """Run the command; its exit code."""
        with contextlib.redirect_stderr(self.err):
            return main(["--config", file, *arguments], self.out)

    def test_lines(self) -> None:
        """Lines come out as they came in, without signs of life; remarks do not count, and the command ends after the count."""
        with self.gateway(HEAD + LINES) as gateway:
            self.assertEqual(self.run_it(self.config(gateway.port), "--count", "2"), 0)
        self.assertEqual(self.out.getvalue(), "-- times are UTC\n12:00:00.000 one\n12:00:00.001 two\n")
        self.assertIn(b"GET /node/wire HTTP/1.1\r\n", gateway.asked)
        self.assertIn(b"Authorization: Bearer secret-token-of-a-test\r\n", gateway.asked)

    def test_filters(self) -> None:
        """The filters go into the query, percent-encoded; after the seconds it ends."""
        arguments = ("--peer", "fe80::1%eth1", "--group", "ff05::fd", "--path", "/a b", "--hide-payload", "--seconds", "0.2")
        with self.gateway(HEAD + LINES) as gateway:
            self.assertEqual(self.run_it(self.config(gateway.port), *arguments), 0)
        self.assertIn(b"GET /node/wire?peer=fe80%3A%3A1%25eth1&group=ff05%3A%3Afd&path=%2Fa%20b&payload=hide HTTP", gateway.asked)

    def test_named(self) -> None:
        """A gateway that is named by its URI is asked without a configuration; what is no URI of one is told."""
        self.config(0)
        token = str(self.folder / "admin.token")
        with self.gateway(HEAD + LINES) as gateway:
            self.assertEqual(main(["--gateway", f"http://127.0.0.1:{gateway.port}", "--token", token, "--count", "1"], self.out), 0)
        self.assertIn("one\n", self.out.getvalue())
        for uri in ("coap://127.0.0.1", "127.0.0.1:8080"):
            with contextlib.redirect_stderr(self.err):
                self.assertEqual(main(["--gateway", uri, "--token", token], self.out), 1)
            self.assertIn(f"--gateway {uri}: ", self.err.getvalue())

    def test_gateway_ends(self) -> None:
        """A gateway that stops, or goes, is told after what it said."""
        for answer in (HEAD + LINES + END, HEAD + LINES):
            with self.gateway(answer, stays=False) as gateway:
                self.assertEqual(self.run_it(self.config(gateway.port)), 1)
        self.assertEqual(self.out.getvalue().count("two"), 2)
        self.assertEqual(self.err.getvalue().count("m2mapp.coap: the gateway "), 2)

    def test_refused(self) -> None:
        """What the gateway refuses is told in its words; an answer that is none of a gateway is told too."""
        for answer, expected in ((REFUSAL, "the gateway refuses: peer: 'd1' is not an address"), (b"SSH-2.0\r\n", "no gateway answers")):
            with self.gateway(answer, stays=False) as gateway:
                self.assertEqual(self.run_it(self.config(gateway.port), "--peer", "d1"), 1)
            self.assertIn(expected, self.err.getvalue())
        self.assertEqual(self.out.getvalue(), "")

    def test_nobody_there(self) -> None:
        """A gateway that does not run, no token, no CoAP, no HTTP, a faulty file: one line each."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = int(taken.getsockname()[1])
        self.assertEqual(self.run_it(self.config(port)), 1)
        self.assertEqual(self.run_it(self.config(port, "")), 1)
        self.assertEqual(self.run_it(self.config(0)), 1)
        file = self.config(port)
        (self.folder / "admin.token").unlink()
        self.assertEqual(self.run_it(file), 1)
        self.assertEqual(self.run_it(self.config(port, "[nothing]\n")), 78)
        said = self.err.getvalue().splitlines()
        for line, expected in zip(said, ("is it running", "no table [coap]", "use --gateway", "first started", "[nothing]"), strict=True):
            self.assertIn(expected, line)

    def test_arguments(self) -> None:
        """Numbers that make no sense are refused."""
        for argument in (("--count", "0"), ("--count", "x"), ("--seconds", "-1"), ("--seconds", "inf"), ("--gateway", "http://h")):
            with contextlib.redirect_stderr(self.err), self.assertRaises(SystemExit):
                main(argument)
