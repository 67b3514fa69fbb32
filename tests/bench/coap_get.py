"""CoAP GET: this program's server beside aiocoap's and libcoap's, by one load generator, on loopback.

`python -m tests.bench.coap_get` starts each server in turn, sends it the same confirmable requests from several sources with a window of
requests under way, and prints answers a second and the server's processor time for an answer, the best of three runs. All is bounded and
ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.gateway import Gateway

REQUESTS = 20_000
RUNS = 3
SOURCES = 16
WINDOW = 48
PATIENCE_S = 2.0
START_S = 10.0
PAYLOAD = b"21.5"


@dataclass(frozen=True)
class Result:
    """What one server did: answers a second, microseconds of its processor time for an answer, requests without answer."""

    name: str
    answers_per_s: float
    processor_us: float
    lost: int


def serve_m2mapp(host: str, port: int) -> None:
    """Run this program's CoAP service with a handler that gives one fixed answer."""
    from twisted.internet import reactor as installed

    from m2mapp.coap.access import Principals
    from m2mapp.coap.service import CoapService, make_context
    from m2mapp.coap.settings import AccessSettings
    from m2mapp.model.messages import Request, Response, Status
    from m2mapp.model.metrics import Metrics
    from m2mapp.net.clock import make_monotonic
    from m2mapp.net.udp import SystemDatagrams

    class Fixed:
        def handle(self, _request: Request) -> Response:
            return Response(Status.CONTENT, PAYLOAD, "text/plain", b"\x01\x02\x03\x04")

    reactor: object = installed
    make_monotonic(reactor)
    metrics = Metrics()
    context = make_context(reactor, metrics)  # type: ignore[arg-type]
    access = Principals(AccessSettings(), lambda _source, _interface: True, lambda _address: False, context.names)
    service = CoapService(((host, port),), (), SystemDatagrams(reactor, metrics), Fixed(), access, context)  # type: ignore[arg-type]
    service.startService()
    reactor.run()  # type: ignore[attr-defined]


def serve_aiocoap(host: str, port: int) -> None:
    """Run an aiocoap server with a resource that gives one fixed answer."""
    from aiocoap import Context, Message, resource

    class Fixed(resource.Resource):  # type: ignore[misc]  # aiocoap has no types
        async def render_get(self, _request: object) -> Message:
            return Message(payload=PAYLOAD)

    async def run() -> None:
        site = resource.Site()
        site.add_resource(["temperature"], Fixed())
        await Context.create_server_context(site, bind=(host, port))
        await asyncio.Event().wait()

    asyncio.run(run())


def request(mid: int, path: bytes) -> bytes:
    """A confirmable GET with a token of 4 bytes."""
    options = bytes((0xB0 | len(path),)) + path if path else b""
    return struct.pack("!BBHI", 0x44, 1, mid, random.getrandbits(32)) + options


class Load:
    """Sends requests from several sources, a window of them at a time.

    It never sleeps while it waits: to wake a sleeping process costs its peer, who sends, 20 us, and would be measured as the server's.
    """

    def __init__(self, address: tuple[str, int], path: bytes) -> None:
        self._path = path
        self._sources = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOURCES)]
        self._mids = [random.randrange(65536) for _ in self._sources]
        self._poller = select.epoll()
        self._by_fd = {source.fileno(): index for index, source in enumerate(self._sources)}
        for source in self._sources:
            source.connect(address)
            source.setblocking(False)
            self._poller.register(source, select.EPOLLIN)

    def close(self) -> None:
        """Close the sockets."""
        self._poller.close()
        for source in self._sources:
            source.close()

    def run(self, count: int) -> tuple[float, int]:
        """Send so many requests. Seconds taken, and how many had no answer."""
        sent = got = lost = 0
        began = heard = time.monotonic()
        while got + lost < count:
            while sent < count and sent - got - lost < WINDOW:
                self._send(sent % SOURCES)
                sent += 1
            ready = self._poller.poll(0)
            for fd, _ in ready:
                self._sources[self._by_fd[fd]].recv(2048)
                got += 1
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE_S:
                lost += sent - got - lost
        return time.monotonic() - began, lost

    def _send(self, index: int) -> None:
        self._mids[index] = (self._mids[index] + 1) & 0xFFFF
        self._sources[index].send(request(self._mids[index], self._path))


def processor_s(pid: int) -> float:
    """Processor time of a process so far, user and system."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A UDP port that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_serving(address: tuple[str, int], path: bytes) -> None:
    """Ask until there is an answer. Raises `TimeoutError`."""
    deadline = time.monotonic() + START_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        while time.monotonic() < deadline:
            probe.sendto(request(random.randrange(65536), path), address)
            try:
                probe.recv(2048)
            except OSError:
                continue
            return
    raise TimeoutError(f"nothing serves {address}")


def measure(name: str, command: Callable[[int], list[str]], path: bytes, count: int) -> Result:
    """Start a server, measure, stop it."""
    port = free_port()
    with subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            return measure_running(name, server.pid, port, path, count)
        finally:
            server.send_signal(signal.SIGKILL)


def measure_running(name: str, pid: int, port: int, path: bytes, count: int) -> Result:
    """Warm a server up and measure it: of several runs the best, since what else the machine does only takes away."""
    load = Load(("127.0.0.1", port), path)
    results = []
    try:
        wait_until_serving(("127.0.0.1", port), path)
        load.run(count // 10)
        for _ in range(RUNS):
            before = processor_s(pid)
            took, lost = load.run(count)
            used = processor_s(pid) - before
            results.append(Result(name, (count - lost) / took, used / max(1, count - lost) * 1e6, lost))
    finally:
        load.close()
    return max(results, key=lambda result: result.answers_per_s)


def measure_gateway(count: int) -> Result:
    """A whole gateway: rights, tree and all, with the content written beforehand."""
    with Gateway() as gateway:
        gateway.ask("PUT", "/temperature", 21.5)
        return measure_running("m2mapp, a whole gateway", gateway.process.pid, gateway.coap_port, b"temperature", count)


def own(role: str, host: str) -> Callable[[int], list[str]]:
    """The command that runs one of the servers of this file."""
    return lambda port: [sys.executable, "-W", "ignore", "-m", "tests.bench.coap_get", role, host, str(port)]


def run(count: int = REQUESTS) -> list[Result]:
    """All servers, one after another."""
    results = [
        measure("m2mapp", own("m2mapp", "127.0.0.1"), b"temperature", count * 3),
        measure("m2mapp on 0.0.0.0", own("m2mapp", "0.0.0.0"), b"temperature", count * 3),  # noqa: S104 - the case of a gateway
        measure_gateway(count * 3),
        measure("aiocoap", own("aiocoap", "127.0.0.1"), b"temperature", count // 4),
    ]
    libcoap = shutil.which("coap-server-notls")
    if libcoap is not None:
        results.append(measure("libcoap", lambda port: [libcoap, "-A", "127.0.0.1", "-p", str(port)], b"", count * 3))
    return results


def main(arguments: list[str]) -> None:
    """Serve, if started as one of the servers; else measure and print."""
    if arguments:
        {"m2mapp": serve_m2mapp, "aiocoap": serve_aiocoap}[arguments[0]](arguments[1], int(arguments[2]))
        return
    results = run()
    base = {result.name: result for result in results}["aiocoap"]
    print(f"{'server':24} {'answers/s':>10} {'us each':>8} {'to aiocoap':>11} {'lost':>5}")
    for result in results:
        ratio = result.answers_per_s / base.answers_per_s
        print(f"{result.name:24} {result.answers_per_s:10.0f} {result.processor_us:8.1f} {ratio:11.1f} {result.lost:5}")


if __name__ == "__main__":
    main(sys.argv[1:])
