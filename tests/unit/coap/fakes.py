"""What the tests of `m2mapp.coap` build with: a port that records, a handler that says what it is told, an endpoint on a test's clock."""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from m2mapp.coap import things
from m2mapp.coap.context import Context
from m2mapp.coap.message import Message, Options, build, parse
from m2mapp.coap.observer import OnChange
from m2mapp.coap.parameters import Limits, TransmissionParameters
from m2mapp.coap.service import CoapService, make_context
from m2mapp.model.identifiers import Path as Segments
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import Principal, Right
from m2mapp.net.addresses import HostAddress
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, IDatagrams, Sockaddr

VECTORS = Path(__file__).parent / "vectors"
HERE = "fd00::1"
PEER: Sockaddr = ("fd00::d1", 5683, 0, 0)
OTHER: Sockaddr = ("fd00::bad", 5683, 0, 0)
_T = TypeVar("_T")
GROUP = "ff35:30:3ffe:ffff:1::1234"
CONTENT = Response(Status.CONTENT, b"21.5", "text/plain", b"\x01\x02")


def vectors() -> dict[str, bytes]:
    """The real datagrams by the names of their files; each file says where its datagram comes from."""
    return {path.stem: bytes.fromhex(path.read_text().splitlines()[-1]) for path in sorted(VECTORS.glob("*.txt"))}


@implementer(IDatagramPort)
class FakePort:
    """Records what is sent; `sent` has datagram, destination and the address that it leaves from."""

    def __init__(self, host: str, port: int, receiver: IDatagramReceiver) -> None:
        self.receiver = receiver
        self.sent: list[tuple[bytes, Sockaddr, str | None]] = []
        self.groups: list[tuple[bytes, str, int, int]] = []
        self.joined: set[tuple[str, int]] = set()
        self.stopped = False
        self.refuses: set[int] = set()
        self._local: Sockaddr = (host, port) if "." in host else (host, port, 0, 0)

    def send(self, data: bytes, to: Sockaddr, source: str | None = None) -> bool:
        self.sent.append((data, to, source))
        return True

    def send_to_group(self, data: bytes, group: str, port: int, interface: int) -> bool:
        if interface in self.refuses:
            return False
        self.groups.append((data, group, port, interface))
        return True

    def join(self, group: str, interface: int) -> None:
        if interface in self.refuses:
            raise OSError(f"interface {interface} refuses")
        self.joined.add((group, interface))

    def leave(self, group: str, interface: int) -> None:
        self.joined.discard((group, interface))

    def waiting(self) -> int:
        return 0

    def local(self) -> Sockaddr:
        return self._local

    def stop(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)

    def take(self) -> list[Message]:
        """The messages sent since the last time."""
        messages = [parse(data) for data, _, _ in self.sent]
        self.sent.clear()
        return messages


@implementer(IDatagrams)
class FakeDatagrams:
    """Opens fake ports. Interfaces are `eth1` (1) and `eth2` (2)."""

    def __init__(self) -> None:
        self.ports: list[FakePort] = []
        self.taken: set[str] = set()

    def open_port(self, host: str, port: int, receiver: IDatagramReceiver) -> FakePort:
        if host in self.taken:
            raise OSError(f"{host} is taken")
        self.ports.append(FakePort(host, port, receiver))
        return self.ports[-1]

    def interface_index(self, name: str) -> int:
        if name not in ("eth1", "eth2"):
            raise OSError(f"no interface {name}")
        return int(name[-1])

    def interface_addresses(self, name: str) -> tuple[IPv4Interface | IPv6Interface, ...]:
        raise OSError(f"{name} has no addresses here")

    def addresses(self) -> tuple[HostAddress, ...]:
        return ()


@implementer(IHandle)
class FakeHandler:
    """Answers with `answer`: a response, a fault that is raised, a Deferred, or what a function makes of the request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: object = CONTENT
        self.principals = FakePrincipals()

    def handle(self, request: Request) -> object:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(request) if callable(self.answer) else self.answer


class FakePrincipals:
    """Everybody may read (`rights`), is near but for those in `far`, and is called by the address."""

    def __init__(self) -> None:
        self.rights = frozenset({Right.READ})
        self.far: set[str] = set()

    def near(self, source: Sockaddr, interface: int) -> bool:
        return source[0] not in self.far

    def principal(self, source: Sockaddr, interface: int) -> Principal:
        return Principal(f"coap:{source[0]}", self.rights, source=source[0])


class FakeWatch:
    """One watch of a `FakeObservable`."""

    def __init__(self, observable: FakeObservable, on_change: OnChange) -> None:
        self.observable, self.on_change = observable, on_change

    def stop(self) -> None:
        if self in self.observable.watches:
            del self.observable.watches[self]


class FakeObservable:
    """Everything can be observed but what is in `fixed`; `change` is a change of a path. `watches` has what is watched now."""

    def __init__(self) -> None:
        self.watches: dict[FakeWatch, tuple[Segments, bool]] = {}
        self.fixed: set[Segments] = set()
        self.last_number = 100

    def watch(self, path: Segments, on_change: OnChange, *, subtree: bool) -> FakeWatch | None:
        if path in self.fixed:
            return None
        watch = FakeWatch(self, on_change)
        self.watches[watch] = (path, subtree)
        return watch

    def number(self) -> int:
        return self.last_number

    def change(self, *path: str) -> None:
        """One committed change."""
        self.last_number += 1
        for watch, (watched, subtree) in list(self.watches.items()):
            if watched == path or (subtree and path[: len(watched)] == watched):
                watch.on_change()


class Node:
    """A CoAP service on fake ports and a test's clock; `port` is its first."""

    def __init__(
        self,
        listen: tuple[tuple[str, int], ...] = ((HERE, 5683),),
        parameters: TransmissionParameters | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.clock = Clock()
        self.handler = FakeHandler()
        self.datagrams = FakeDatagrams()
        self.metrics = Metrics()
        self.context: Context = make_context(self.clock, self.metrics, random.Random(1), parameters, limits)
        self.principals = FakePrincipals()
        self.observable = FakeObservable()
        self.service = CoapService(listen, ("eth1", "eth2"), self.datagrams, self.handler, self.principals, self.context)
        self.service.observe(self.observable)
        self.service.startService()

    @property
    def port(self) -> FakePort:
        """The first port."""
        return self.datagrams.ports[0]

    def receive(self, message: Message | bytes, source: Sockaddr = PEER, destination: str = HERE, interface: int = 1) -> list[Message]:
        """Receive a datagram; what was sent for it at once."""
        self.port.take()
        self.port.receiver.datagram_received(message if isinstance(message, bytes) else build(message), source, destination, interface)
        return self.port.take()

    def count(self, name: str) -> int:
        """The value of one of the service's counters."""
        return int(getattr(self.context.counters, name).value)

    def stop(self) -> list[object]:
        """Stop; what is still pending then, which must be nothing."""
        self.service.stopService()
        return list(self.clock.getDelayedCalls())


def get(path: str = "temperature", mid: int = 1, options: Iterable[tuple[int, bytes]] = (), mtype: int = things.CON) -> Message:
    """A GET with the token `tok`."""
    return request(things.GET, path, mid, options, mtype=mtype)


def request(
    code: int,
    path: str = "temperature",
    mid: int = 1,
    options: Iterable[tuple[int, bytes]] = (),
    payload: bytes = b"",
    mtype: int = things.CON,
) -> Message:
    """A request with the token `tok`, its options in order."""
    segments = [(things.URI_PATH, segment.encode()) for segment in path.split("/") if segment]
    return Message(mtype, code, mid, b"tok", in_order([*segments, *options]), payload)


def in_order(options: Iterable[tuple[int, bytes]]) -> Options:
    """Options by number."""
    return tuple(sorted(options, key=lambda option: option[0]))


def collect(deferred: Deferred[_T]) -> list[object]:
    """A list that gets the result or failure."""
    results: list[object] = []
    deferred.addBoth(results.append)
    return results
