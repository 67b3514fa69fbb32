"""coaps beside plain CoAP, and beside libcoap on OpenSSL: handshakes, and GETs by sessions that are there, on loopback.

`python -m tests.bench.coaps` starts each server in turn and prints its processor time for one handshake and for one GET. The clients are
this program's own sessions, in one process, which need about as long as a server: answers a second would say more of them than of it.
"""

from __future__ import annotations

import math
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from m2mapp.coap.dtls.address import Wanted
from m2mapp.coap.dtls.contexts import ClientContexts, Judge
from m2mapp.coap.dtls.credentials import Identity, load_certificates, load_chain, load_key
from m2mapp.coap.dtls.session import Session, State
from tests.bench.coap_get import Load, processor_s, request, wait_until_serving
from tests.bench.report import Row, table
from tests.certificates import issue

HANDSHAKES = 300
GETS = 6_000
SESSIONS = 48
_PATIENCE_S = 1.0
_TRIES = 5


@dataclass(frozen=True)
class Result:
    """Microseconds of a server's processor time: for a handshake, for a GET by a session, for a GET by plain CoAP."""

    handshake_us: float
    secure_us: float
    plain_us: float


class Client:
    """One session from one socket."""

    def __init__(self, contexts: ClientContexts, address: tuple[str, int], pin: bytes) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(address)
        self.socket.settimeout(_PATIENCE_S)
        judge = Judge(Wanted("bench", pin))
        self.session = Session(contexts.connection(judge), judge)
        self.session.start()
        self._flush()

    def establish(self) -> None:
        """Finish the handshake. Raises `OSError` where the server says nothing more."""
        while self.session.state is State.HANDSHAKE:
            self.session.receive(self.socket.recv(4096))
            self._flush()
        if self.session.state is State.ENDED:
            raise OSError(self.session.why)

    def ask(self, path: bytes) -> None:
        """Send one GET."""
        self.session.send(request(random.randrange(65536), path))
        self._flush()

    def answered(self) -> None:
        """Take its answer. Raises `OSError`."""
        for _ in range(_TRIES):
            if self.session.receive(self.socket.recv(4096)):
                return
        raise OSError("no answer")

    def close(self) -> None:
        """End the session."""
        self.session.close("done")
        self._flush()
        self.socket.close()

    def _flush(self) -> None:
        for datagram in self.session.take_output():
            self.socket.send(datagram)


def serve(folder: str, port: int) -> None:
    """Run this program's CoAP service with a handler that gives one fixed answer: plain at the port, coaps at the next."""
    from twisted.internet import reactor as installed

    from m2mapp.coap.access import Principals
    from m2mapp.coap.dtls.settings import CoapsSettings
    from m2mapp.coap.parameters import Limits
    from m2mapp.coap.service import CoapService, make_context
    from m2mapp.coap.settings import AccessSettings
    from m2mapp.model.messages import Request, Response, Status
    from m2mapp.model.metrics import Metrics
    from m2mapp.net.clock import make_monotonic
    from m2mapp.net.udp import SystemDatagrams

    class Fixed:
        def handle(self, _request: Request) -> Response:
            return Response(Status.CONTENT, b"21.5", "text/plain", b"\x01\x02\x03\x04")

    reactor: object = installed
    make_monotonic(reactor)
    metrics = Metrics()
    # One host begins more handshakes here than a gateway lets one begin.
    context = make_context(reactor, metrics, limits=Limits(handshakes_per_s=math.inf))  # type: ignore[arg-type]
    access = Principals(AccessSettings(), lambda _source, _interface: True, lambda _address: False, context.names)
    service = CoapService((("127.0.0.1", port),), (), SystemDatagrams(reactor, metrics), Fixed(), access, context)  # type: ignore[arg-type]
    identity = Identity(load_chain(f"{folder}/bench.pem"), load_key(f"{folder}/bench.key"))
    service.secure(CoapsSettings((("127.0.0.1", port + 1),), identity))
    service.startService()
    reactor.run()  # type: ignore[attr-defined]


def measure(command: Callable[[int], list[str]], path: bytes, pin: bytes) -> Result:
    """Start a server, measure it, stop it."""
    port = _two_free_ports()
    plain, secure = ("127.0.0.1", port), ("127.0.0.1", port + 1)
    contexts = ClientContexts(None, ())
    with subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:

        def cost(count: int, work: Callable[[], object]) -> float:
            before = processor_s(server.pid)
            work()
            return (processor_s(server.pid) - before) / count * 1e6

        def shake() -> None:
            for _ in range(HANDSHAKES):
                client = Client(contexts, secure, pin)
                client.establish()
                client.close()

        def get() -> None:
            for _ in range(GETS // SESSIONS):
                for client in clients:
                    client.ask(path)
                for client in clients:
                    client.answered()

        load = Load(plain, path)
        try:
            wait_until_serving(plain, path)
            handshake_us = cost(HANDSHAKES, shake)
            clients = [Client(contexts, secure, pin) for _ in range(SESSIONS)]
            for client in clients:
                client.establish()
            secure_us = cost(GETS, get)
            load.run(GETS // 10)
            plain_us = cost(GETS * 3, lambda: load.run(GETS * 3))
        finally:
            load.close()
            server.send_signal(signal.SIGKILL)
    return Result(handshake_us, secure_us, plain_us)


def _two_free_ports() -> int:
    """A UDP port that is free now, as is the one behind it."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                other.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def main(arguments: list[str]) -> None:
    """Serve, if started as the server; else measure and print."""
    if arguments:
        serve(arguments[0], int(arguments[1]))
        return
    with tempfile.TemporaryDirectory(prefix="m2m-") as folder:
        certificate, key = issue("bench").write(Path(folder), "bench")
        pin = load_certificates(str(certificate))[0].public_bytes(Encoding.DER)
        ours = measure(lambda port: [sys.executable, "-W", "ignore", "-m", "tests.bench.coaps", folder, str(port)], b"temperature", pin)
        libcoap = shutil.which("coap-server-openssl")
        files = ["-n", "-c", str(certificate), "-j", str(key)]
        peer = measure(lambda port: [str(libcoap), "-A", "127.0.0.1", "-p", str(port), *files], b"", pin) if libcoap else None
    rows = []
    for what, name in (("handshake", "handshake_us"), ("GET by a session", "secure_us"), ("GET by plain CoAP", "plain_us")):
        own, theirs = getattr(ours, name), getattr(peer, name) if peer is not None else None
        rows.append(Row(f"{what}, us of processor time", own, "libcoap 4.3 on OpenSSL", theirs, own / theirs if theirs else None))
    print(table(rows), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
