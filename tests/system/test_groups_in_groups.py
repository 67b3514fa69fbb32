"""Groups within groups on a real network that loses one datagram in five: five group servers, four devices, each request once.

The servers 1 to 4 are nodes of one process, the fifth, which is killed, is a process of its own; the devices are nodes of a third. Each
shape of groups is there twice: its servers speak CoAP with each other, or HTTP with each other's tokens. All is shown on one network, by
reads and writes of all shapes at the same time: most of the time goes by with waiting for those that do not answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.http_calls import Caller
from tests.system.libcoap import coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import Site
from tests.system.programs import Program, Tables, write_config

RUNS = 100 if os.environ.get("M2MAPP_SOAK") == "1" else 5
LOSS = 0.2
_SKIP = skip_reason("coap-client-notls", "curl", "iptables", "ip6tables", "ss")
_DEADLINE_S = 3.0
_PORT = 8080
_SERVERS, _DEVICES = range(1, 6), range(1, 5)
_ROOT = "/r"
"""What the groups have of each device; each request is to a resource of its own below it."""


def _server(number: int) -> str:
    return f"fd00:1::{number}"


def _device(number: int) -> str:
    return f"fd00:1::d{number}"


def _member(number: int) -> str:
    return f"coap://[{_device(number)}]{_ROOT}"


NOBODY: dict[str, object] = {"members": {}, "silent": [_member(number) for number in _DEVICES]}
"""What there is to check where a caller is told that nobody answered in time."""

Members = dict[int, list[int | str]]
"""The groups of one shape, by their servers: the devices by their numbers, the groups of other servers as `g<server>`."""

SHAPES: dict[str, Members] = {
    "example": {1: [1, 2, "g2"], 2: [1, 3, "g1"]},
    "ring": {n: [*([n] if n in _DEVICES else []), f"g{n % 5 + 1}"] for n in _SERVERS},
    "mesh": {n: [1, n, *(f"g{m}" for m in range(1, 5) if m != n)] for n in range(1, 5)},
    "itself": {1: [1, 2, "g1"]},
}


def _group(shape: str, scheme: str) -> str:
    return f"/groups/{shape}-{scheme}"


class Nodes(Program):
    """Nodes in one process, each with an address of its own, that any neighbour may use by CoAP, and by HTTP with a token."""

    def __init__(self, place: Host, folder: Path, name: str, tables: dict[str, Tables]) -> None:
        self.folder = folder
        files = folder / f"{name}.d"
        files.mkdir()
        for address, more in tables.items():
            label = address.rpartition("::")[2]
            whole: Tables = {
                "node": {"name": f"n{label}.example.org", "state_dir": str(folder / f"{label}-state")},
                "coap": {"listen": [f"[{address}]:5683"], "interfaces": ["eth0"]},
                "coap.access": {"write": ["link"]},
                "http": {"listen": [f"tcp6:{_PORT}:interface={address}".replace(address, address.replace(":", r"\:"))]},
                **more,
            }
            write_config(files / f"{label}.toml", whole)
        super().__init__(place, folder, name, files)


def _token_file(folder: Path, address: str) -> Path:
    return folder / f"{address.rpartition('::')[2]}-state" / "admin.token"


@dataclass(frozen=True)
class _Network:
    """The servers and the devices, and what the devices wrote down of what was done."""

    site: Site
    place: Host
    last: Nodes
    streams: tuple[Path, ...]
    unanswered: list[str]

    def call(
        self,
        server: int,
        method: str,
        path: str,
        body: str = "",
        deadline_s: float = _DEADLINE_S,
        content_type: str = "text/plain",
    ) -> dict[str, object]:
        """A request to a server by HTTP; the document that answers it."""
        token = _token_file(self.site.folder, _server(server)).read_text().strip()
        headers = {"M2M-Deadline": str(deadline_s)}
        with Caller(self.place, _server(server), _PORT, token) as caller:
            reply = caller.request(method, path, body or None, content_type if body else "", headers)
        assert reply.status < 300 or reply.status == 504, reply
        if reply.status == 504:
            return NOBODY
        return reply.json() if reply.body else {}

    def call_coap(self, server: int, method: str, path: str, body: str = "") -> dict[str, object]:
        """The same by CoAP, with libcoap's client."""
        uri = f"coap://[{_server(server)}]{path}"
        more = ("-t", "0") if body else ()
        try:
            reply = coap_client(self.place, method.lower(), uri, "-A", "65012", *more, payload=body)
        except AssertionError as error:  # The client gave up: every copy of the answer was lost. Asking again would be another request.
            self.unanswered.append(str(error))
            return NOBODY
        assert reply.code.startswith("2.") or reply.code == "5.04", reply
        return dict(json.loads(reply.payload)) if reply.code != "5.04" else NOBODY

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """Within this, one datagram in five is lost on its way to a server or a device."""
        hosts = [self.site.lab_host(name) for name in ("servers", "devices")]
        for host in hosts:
            host.lose(LOSS)
        yield
        for host in hosts:
            host.run(["ip6tables", "-F", "INPUT"])
            host.run(["iptables", "-F", "INPUT"])

    def make(self, shape: str, scheme: str) -> None:
        """Make the groups of a shape, whose servers know each other by this scheme, until all are told that they are in circles.

        One whose members are not there yet when it is made is told so when it is made again.
        """
        left = dict(SHAPES[shape])

        def all_made() -> bool:
            for server, members in list(left.items()):
                uris = [_member(one) if isinstance(one, int) else self._group_uri(int(one[1:]), shape, scheme) for one in members]
                self.call(server, "PUT", _group(shape, scheme), json.dumps({"members": uris}), content_type="application/json")
                if "circles" in self.call(server, "GET", _group(shape, scheme)):
                    del left[server]
            time.sleep(0.2)
            return not left

        wait_until(all_made, 60, f"{shape} by {scheme}")

    @staticmethod
    def _group_uri(server: int, shape: str, scheme: str) -> str:
        port = f":{_PORT}" if scheme == "http" else ""
        return f"{scheme}://[{_server(server)}]{port}{_group(shape, scheme)}"

    def done(self) -> Counter[tuple[str, str, str]]:
        """How often each device wrote which value where, as its event stream says."""
        found: Counter[tuple[str, str, str]] = Counter()
        for number, stream in zip(_DEVICES, self.streams, strict=True):
            for line in stream.read_text().splitlines():
                if line.startswith("data: {") and '"path"' in line:
                    event = json.loads(line.removeprefix("data: "))
                    found[_member(number), str(event["path"]), str(event.get("content"))] += 1
        return found


@contextlib.contextmanager
def _network() -> Iterator[_Network]:
    with Site() as site:
        folder = site.folder
        servers = site.host("servers", [f"{_server(number)}/64" for number in _SERVERS])
        devices = site.host("devices", [f"{_device(number)}/64" for number in _DEVICES])
        peers: Tables = {
            f"peers.n{number}": {"uri": f"http://[{_server(number)}]:{_PORT}", "token_file": str(_token_file(folder, _server(number)))}
            for number in _SERVERS
        }
        groups: Tables = {"groups": {"deadline_s": _DEADLINE_S}}
        first = Nodes(servers, folder, "first", {_server(number): {**groups, **peers} for number in range(1, 5)})
        last = Nodes(servers, folder, "last", {_server(5): {**groups, **peers}})
        things = Nodes(devices, folder, "things", {_device(number): {"member": {}} for number in _DEVICES})
        for program in (first, last, things):
            site.add(program)
            program.start(wait=False)
        site.ready()
        puts = [Call("PUT", f"{_member(number)}/start", b"0", 0) for number in _DEVICES]
        wait_until(lambda: {answer.code for answer in call_aiocoap(servers, *puts)} <= {"2.01", "2.04"}, what="the devices")
        streams = []
        for number in _DEVICES:
            token = _token_file(folder, _device(number)).read_text().strip()
            head = ["-H", f"Authorization: Bearer {token}", "-H", "Accept: text/event-stream"]
            log = folder / f"events-{number}"
            devices.popen(["curl", "-sN", "-g", *head, f"http://[{_device(number)}]:{_PORT}{_ROOT}?subtree"], log=log)
            streams.append(log)
        yield _Network(site, servers, last, tuple(streams), [])


@dataclass(frozen=True)
class _Operated:
    """What came of one operation: the joined answer, who was to be reached, and of a write the path and the value."""

    shown: dict[str, object]
    reached: frozenset[str]
    wrote: tuple[str, str] | None


def _operate(network: _Network, shape: str, scheme: str, where: tuple[int, str], run: int, *, is_read: bool) -> _Operated:
    """One read or write of a shape at a server, to a resource of that name, over HTTP and CoAP by turns."""
    server, name = where
    target, value = f"{_group(shape, scheme)}/membersContent/{name}", "" if is_read else f"{name} {run}"
    method = "GET" if is_read else ("PUT", "POST")[run % 3 % 2]
    if (run + is_read) % 2:
        shown = network.call_coap(server, method, target, value)
    else:
        began_s = time.monotonic()
        shown = network.call(server, method, target, value)
        assert time.monotonic() - began_s < _DEADLINE_S + 2.0, shown
    return _Operated(shown, _reached(shape), None if is_read else (f"{_ROOT}/{name}", value))


def _reached(shape: str) -> frozenset[str]:
    return frozenset(_member(one) for inner in SHAPES[shape].values() for one in inner if isinstance(one, int))


class GroupsInGroupsTests(SynchronousTestCase):
    skip = _SKIP

    def test_under_loss(self) -> None:
        """Each shape by both protocols, read and written, and a server killed: in time, each write once, each answer once."""
        with _network() as network:
            shapes = [(shape, scheme) for shape in SHAPES for scheme in ("coap", "http")]
            with ThreadPoolExecutor(2 * len(shapes)) as threads:
                list(threads.map(lambda one: network.make(*one), shapes))
                list(threads.map(lambda one: self.check_whole(network, *one), shapes))
                self.check_killed_without_loss(network, threads)
                with network.losing():
                    operated = [
                        threads.submit(self.operate_shape, network, shape, scheme, is_read=is_read)
                        for shape, scheme in shapes
                        for is_read in (False, True)
                    ]
                    self.check(network, [one for operations in operated for one in operations.result()])
                    for run in range(1, RUNS):
                        self.check(network, self.operate_and_kill(network, threads, run))
            self.assertEqual(set(network.done().values()), {1})
            self.assertLessEqual(len(network.unanswered), 2 * RUNS, network.unanswered)

    def check_whole(self, network: _Network, shape: str, scheme: str) -> None:
        """Without loss everybody answers."""
        whole = network.call(1, "PUT", f"{_group(shape, scheme)}/membersContent/{shape}-{scheme}", "first")
        self.assertEqual((set(whole["members"]), whole["silent"], whole["complete"]), (_reached(shape), [], True))  # type: ignore[call-overload]

    def operate_shape(self, network: _Network, shape: str, scheme: str, *, is_read: bool) -> list[_Operated]:
        """All runs of reads, or of writes, of a shape, each at the next of its servers."""
        found = []
        for run in range(RUNS):
            where = (run % len(SHAPES[shape]) + 1, f"{shape}-{scheme}")
            found.append(_operate(network, shape, scheme, where, run, is_read=is_read))
        return found

    def operate_and_kill(self, network: _Network, threads: ThreadPoolExecutor, run: int) -> list[_Operated]:
        """The fifth server of the ring dies while requests that go over it are under way, and is there again."""
        kinds = [(scheme, is_read) for scheme in ("coap", "http") for is_read in (False, True)]
        under_way = [
            threads.submit(_operate, network, "ring", scheme, (3, f"killed-{scheme}"), run, is_read=is_read) for scheme, is_read in kinds
        ]
        network.last.kill()
        network.last.start()
        return [operated.result() for operated in under_way]

    def check_killed_without_loss(self, network: _Network, threads: ThreadPoolExecutor) -> None:
        """Who is reached without the server that was killed is told, and the device behind it is named."""
        for scheme in ("coap", "http"):
            network.call(1, "PUT", f"{_group('ring', scheme)}/membersContent/killed-{scheme}", "first")
        operations = self.operate_and_kill(network, threads, 0)
        self.check(network, operations)
        for one in operations:
            self.assertLessEqual({_member(3), _member(4)}, set(one.shown["members"]), one.shown)  # type: ignore[call-overload]

    def check(self, network: _Network, operations: list[_Operated]) -> None:
        """Each device stands once, as one that answered or as one that did not; what it answered to a write it has done, once."""
        to_be_done = set()
        for one in operations:
            members, silent, looped = one.shown["members"], one.shown["silent"], one.shown.get("looped", [])
            assert isinstance(members, dict)
            assert isinstance(silent, list)
            assert isinstance(looped, list)
            answered = {uri for uri, entry in members.items() if str(entry["status"])[:1] == "2"}
            self.assertEqual(answered | {uri for uri in (*silent, *looped) if uri in one.reached}, one.reached, one.shown)
            self.assertEqual(answered & {*silent, *looped}, set(), one.shown)
            to_be_done |= {(uri, *one.wrote) for uri in answered} if one.wrote is not None else set()
        wait_until(lambda: to_be_done <= set(network.done()), what="what the devices tell of what they have done")
        self.assertLessEqual(set(network.done().values()), {1})
