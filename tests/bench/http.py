"""HTTP GET beside a bare twisted.web resource: `python -m tests.bench.http`, about 40 seconds, needs `wrk`.

Each server has its own process and answers with the same bytes; they are measured in turns, so that both see the same machine.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import Request as TwistedRequest
from twisted.web.server import Site
from zope.interface import implementer

from m2mapp.http.service import HttpParts, HttpService
from m2mapp.http.tokens import Tokens
from m2mapp.model.interfaces import ICommit, IHandle
from m2mapp.model.messages import Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.tree.discovery import Discovery
from m2mapp.tree.drivers.once import Once
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.service import Dispatcher
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from m2mapp.tree.unit import REQUESTS, Change, Unit, Write
from tests.bench.report import Row, table
from tests.unit.http.harness import ADMIN, NOW_MS, PRINCIPALS, FakeClock, FakeJournals

PATH = "/buildings/b1/temperature"
BODY = b"21.5"
SERVERS = {"bare": "bare twisted.web resource", "edge": "edge with a fixed handler", "tree": "dispatcher and tree of 10,000"}
CONNECTIONS = (1, 64)
ROUNDS, SECONDS = 3, 2
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")


class Bare(Resource):
    """The least that twisted.web can be asked for."""

    isLeaf = True

    def render_GET(self, request: TwistedRequest) -> bytes:
        request.setHeader(b"Content-Type", b"text/plain")
        return BODY


@implementer(IHandle)
class Fixed:
    """Answers everything with the same content."""

    response = Response(Status.CONTENT, BODY, "text/plain", b"\x01\x05", modified_ms=NOW_MS)

    def handle(self, request: Request) -> Response:
        return self.response


class QuietSite(Site):
    """A site without its access log."""

    def log(self, request: HttpRequest) -> None:
        """Write nothing."""


@implementer(ICommit)
class Nothing:
    """Commits nothing: only GET is asked here."""

    def commit(self, unit: Unit) -> Deferred[tuple[Change, ...]]:
        raise NotImplementedError


def tree_handler(tree: Tree) -> IHandle:
    """The dispatcher over a tree of 10,000 contents."""
    types = Types(())
    changes = tuple(
        Write(("buildings", f"b{number % 100}", f"sensor{number}"), content=BODY, media_type="text/plain") for number in range(10_000)
    )
    staged = tree.stage(Unit((*changes, Write(tuple(PATH[1:].split("/")), content=BODY, media_type="text/plain"))), NOW_MS)
    tree.apply(staged)
    once = Once(lambda: 0.0, Nothing(), REQUESTS, Metrics())
    handler: IHandle = Dispatcher(ResourceRules(tree, types), Nothing(), Discovery(tree, ()), {}, lambda request: None, once)
    return handler


def our_factory(handler: Callable[[Tree], IHandle]) -> ServerFactory:
    """Our HTTP service over a handler."""
    tree = Tree(lambda kind: False, lambda error: None)
    parts = HttpParts(handler(tree), tree, FakeJournals(), Tokens(PRINCIPALS, reactor, 3), Metrics(), FakeClock(), list)
    return HttpService(reactor, (), parts).factory


def serve(server: str) -> None:
    """Run one server until its parent ends it; the port is the first line of the output."""
    if server == "bare":
        made = cast(ServerFactory, QuietSite(Bare()))
    else:
        made = our_factory((lambda tree: Fixed()) if server == "edge" else tree_handler)
    address = reactor.listenTCP(0, made, interface="127.0.0.1").getHost()
    assert isinstance(address, IPv4Address)
    sys.stdout.write(f"{address.port}\n")
    sys.stdout.flush()
    reactor.run()


def wrk(port: int, connections: int) -> float:
    """Requests a second. Raises where an answer was not 200."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-H", f"Authorization: Bearer {ADMIN}", f"http://127.0.0.1:{port}{PATH}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS + 30).stdout
    rate = _RATE.search(output)
    if rate is None or _BAD.search(output):
        raise RuntimeError(output)
    return float(rate[1])


def processor_s(pid: int) -> float:
    """The processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(servers: dict[str, subprocess.Popen[str]]) -> dict[tuple[str, int], tuple[float, float]]:
    """By server and connections: requests a second and microseconds of processor a request, the medians of rounds in turns."""
    ports = {server: int(process.stdout.readline()) for server, process in servers.items() if process.stdout}
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for connections in CONNECTIONS:
            for server, process in servers.items():
                before = processor_s(process.pid)
                rate = wrk(ports[server], connections)
                spent_us = (processor_s(process.pid) - before) / (rate * SECONDS) * 1e6
                found.setdefault((server, connections), []).append((rate, spent_us))
    return {
        key: (statistics.median(rate for rate, _ in rounds), statistics.median(spent for _, spent in rounds))
        for key, rounds in found.items()
    }


def main() -> list[Row]:
    """The rows of the report."""
    servers = {
        server: subprocess.Popen([sys.executable, "-m", "tests.bench.http", "--serve", server], stdout=subprocess.PIPE, text=True)
        for server in SERVERS
    }
    try:
        found = measure(servers)
    finally:
        for process in servers.values():
            process.kill()
            process.communicate()
    rows = []
    for connections in CONNECTIONS:
        theirs, their_us = found["bare", connections]
        for server, what in SERVERS.items():
            ours, us = found[server, connections]
            if server != "bare":
                note = f"processor a request: {us:.0f} us, the peer's {their_us:.0f} us"
                rows.append(Row(f"HTTP GET, {what}, {connections} connections (1/s)", ours, SERVERS["bare"], theirs, ours / theirs, note))
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        print(table(main()))
