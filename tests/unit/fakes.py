"""Fakes that every part's tests may use: a committer, a clock, senders of requests, and a tree with all that answers for it.

They record what they were asked and do what the test says. Not here: networks (`net.memory`) and disks (`store.memory`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Interface

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from m2mapp.formats.link_format import Link
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IClock, ICommit, IGathering, IGroupSender, IHandle, IJournals, IRequester
from m2mapp.model.messages import Answer, GroupOutgoing, Method, Outgoing, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NODE
from m2mapp.net.interfaces import AddressState, IHost, IIcmpv6Port, Route
from m2mapp.tree.discovery import Discovery
from m2mapp.tree.drivers.once import Once
from m2mapp.tree.paths import parse_path
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.service import Answered, Dispatcher
from m2mapp.tree.tree import MAX_RESOURCES, Tree
from m2mapp.tree.types import Members, ResourceType, Types
from m2mapp.tree.unit import REQUESTS, Change, Entry, Staged, Unit

START_MS = 1_800_000_000_000
"""The time that a `FakeClock` begins with: 2027-01-15T08:00:00Z."""


@implementer(IClock)
class FakeClock:
    """A wall clock that stands still until the test moves it."""

    def __init__(self, at_ms: int = START_MS) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms

    def advance(self, ms: int) -> None:
        """Step by so many milliseconds; back, if they are negative."""
        self.at_ms += ms


@implementer(ICommit, IJournals)
class FakeCommitter:
    """Commits to a tree without a disk: at once; or, after `hold()`, when `release()` is called; or not at all, with `fault` set.

    `units` are all that were asked for, `journals` all entries that were committed. As in the store, what is staged is applied in
    order, then its writer is answered, then the watchers are told.
    """

    def __init__(self, tree: Tree, clock: IClock) -> None:
        self.units: list[Unit] = []
        self.journals: dict[str, list[Entry]] = {}
        self.fault: Fault | None = None
        self._tree, self._clock = tree, clock
        self._holding = False
        self._held: list[tuple[Staged, Deferred[tuple[Change, ...]]]] = []
        self._untold: list[Staged] = []
        self._answering = False

    def commit(self, unit: Unit) -> Deferred[tuple[Change, ...]]:
        self.units.append(unit)
        if self.fault is not None:
            return fail(self.fault)
        try:
            staged = self._tree.stage(unit, self._clock.now_ms())
        except Fault as fault:
            return fail(fault)
        if self._holding:
            answer: Deferred[tuple[Change, ...]] = Deferred()
            self._held.append((staged, answer))
            return answer
        self._apply(staged)
        self._tell()
        return succeed(staged.changes)

    def hold(self) -> None:
        """Leave what is committed from now on pending."""
        self._holding = True

    def release(self) -> None:
        """Commit all that is held, and what comes from now on at once."""
        self._holding = False
        held, self._held = self._held, []
        for staged, _ in held:
            self._apply(staged)
        self._answering = True
        for staged, answer in held:
            answer.callback(staged.changes)
        self._answering = False
        self._tell()

    def fail_held(self, fault: Fault) -> None:
        """The disk failed: all that is held is dropped, and its writers are told so. What comes from now on is committed at once."""
        self._holding = False
        held, self._held = self._held, []
        self._tree.drop_pending()
        for _, answer in held:
            answer.errback(fault)

    def read_journal(self, name: str, after: int = 0, limit: int = 100, newest: bool = False) -> Deferred[list[Entry]]:
        entries = self.journals.get(name, [])
        return succeed(entries[-limit:] if newest else [entry for entry in entries if entry.number > after][:limit])

    def _apply(self, staged: Staged) -> None:
        self._tree.apply(staged)
        for entry in staged.entries:
            self.journals.setdefault(entry.journal, []).append(entry)
        self._untold.append(staged)

    def _tell(self) -> None:
        # A writer that is being answered may commit again: its watchers are told after those of what was committed before.
        while self._untold and not self._answering:
            self._tree.tell(self._untold.pop(0))


@implementer(IRequester)
class RecordingRequester:
    """Records what is sent. `reply` answers at once where it gives an answer or a fault; else the test does, by the request's place."""

    def __init__(self, reply: Callable[[Outgoing], Answer | Fault | None] = lambda _: None) -> None:
        self.sent: list[Outgoing] = []
        self._reply = reply
        self._waiting: dict[int, Deferred[Answer]] = {}

    def send(self, outgoing: Outgoing) -> Deferred[Answer]:
        self.sent.append(outgoing)
        reply = self._reply(outgoing)
        if isinstance(reply, Fault):
            return fail(reply)
        if reply is not None:
            return succeed(reply)
        place = len(self.sent) - 1

        def forget(_: Deferred[Answer]) -> None:
            self._waiting.pop(place, None)

        waiting: Deferred[Answer] = Deferred(forget)
        self._waiting[place] = waiting
        return waiting

    @property
    def waiting(self) -> list[int]:
        """The places in `sent` of the requests that have no answer yet and were not cancelled."""
        return sorted(self._waiting)

    def answer(self, place: int, answer: Answer | Fault) -> None:
        """Answer the request that stands at this place in `sent`, or let it fail."""
        waiting = self._waiting.pop(place)
        if isinstance(answer, Fault):
            waiting.errback(answer)
        else:
            waiting.callback(answer)


@implementer(IGathering)
class RecordedGathering:
    """What one group request gathers: the test calls `answer`. Answers after `close()` are counted in `late` and go nowhere."""

    def __init__(self, outgoing: GroupOutgoing, on_answer: Callable[[Answer], None], sent: int) -> None:
        self.outgoing, self.sent = outgoing, sent
        self.closed, self.late = False, 0
        self._on_answer = on_answer

    def answer(self, answer: Answer) -> None:
        """A member's answer arrives."""
        if self.closed:
            self.late += 1
        else:
            self._on_answer(answer)

    def close(self) -> None:
        self.closed = True


@implementer(IGroupSender)
class RecordingGroupSender:
    """Records group requests. `datagrams` is how many leave for each; with `fault` set none does and it is raised."""

    def __init__(self, datagrams: int = 1) -> None:
        self.gatherings: list[RecordedGathering] = []
        self.datagrams = datagrams
        self.fault: Fault | None = None

    def send_to_group(self, outgoing: GroupOutgoing, on_answer: Callable[[Answer], None]) -> RecordedGathering:
        if self.fault is not None:
            raise self.fault
        gathering = RecordedGathering(outgoing, on_answer, self.datagrams)
        self.gatherings.append(gathering)
        return gathering


@dataclass(frozen=True, slots=True)
class Built:
    """A tree with all that answers for it. `errors` is what watchers raised."""

    tree: Tree
    types: Types
    rules: ResourceRules
    clock: FakeClock
    committer: FakeCommitter
    discovery: Discovery
    dispatcher: Dispatcher
    errors: list[Exception] = field(default_factory=list)


def build_tree(
    types: Iterable[ResourceType] = (),
    *,
    routes: Mapping[Path, IHandle] | None = None,
    fixed_links: Iterable[Link] = (),
    on_multicast: Callable[[Request], Answered] = lambda _: None,
    max_resources: int = MAX_RESOURCES,
    members: Members | None = None,
) -> Built:
    """An empty tree with its rules, a `FakeCommitter` with its `FakeClock`, discovery and a dispatcher."""
    errors: list[Exception] = []
    kinds = Types(types, members)
    tree = Tree(kinds.derived, errors.append, max_resources)
    clock = FakeClock()
    committer = FakeCommitter(tree, clock)
    rules = ResourceRules(tree, kinds)
    discovery = Discovery(tree, fixed_links)
    once = Once(lambda: clock.now_ms() / 1000, committer, REQUESTS, Metrics())
    dispatcher = Dispatcher(rules, committer, discovery, routes or {}, on_multicast, once)
    return Built(tree, kinds, rules, clock, committer, discovery, dispatcher, errors)


def ask(method: Method, path: str, payload: bytes = b"", content_type: str | None = None, **more: object) -> Request:
    """A request of the node itself, which may do all, with the path as text; `more` are further fields of `Request`."""
    given: dict[str, object] = {"principal": NODE, **more}
    return Request(method, parse_path(path), payload=payload, content_type=content_type, **given)  # type: ignore[arg-type]


def answer_of(built: Built, request: Request) -> Response:
    """The dispatcher's answer, which has to be there already. Raises the `Fault` that it fails with."""
    answered = built.dispatcher.handle(request)
    if isinstance(answered, Deferred):
        outcome: list[Response] = []
        failures: list[BaseException] = []
        answered.addCallbacks(outcome.append, lambda failure: failures.append(failure.value))
        if failures:
            raise failures[0]
        if not outcome:
            raise AssertionError("the answer is not there yet")
        return outcome[0]
    if answered is None:
        raise AssertionError("silence")
    return answered


@implementer(IIcmpv6Port)
class RecordingIcmpv6Port:
    """An ICMPv6 socket that records what is sent and joined; the test calls `receive(data, source, interface)`."""

    def __init__(self, types: tuple[int, ...], receive: Callable[[bytes, str, int], None]) -> None:
        self.types, self.receive = types, receive
        self.sent: list[tuple[bytes, str, int]] = []
        self.joined: set[tuple[str, int]] = set()
        self.stopped = False

    def join(self, group: str, interface: int) -> None:
        self.joined.add((group, interface))

    def send(self, data: bytes, to: str, interface: int) -> bool:
        self.sent.append((data, to, interface))
        return True

    def stop(self) -> None:
        self.stopped = True


@implementer(IHost)
class FakeHost:
    """A host that records.

    `addresses` are those that were set, by interface index and address, with their lifetimes; `routes` those that are there, with theirs.
    """

    def __init__(self, *, forwarding: bool = True) -> None:
        self.forwarding, self.carrier = forwarding, True
        self.ports: list[RecordingIcmpv6Port] = []
        self.addresses: dict[tuple[int, str], tuple[int, int]] = {}
        self.routes: dict[Route, int] = {}
        self.fault: OSError | None = None
        self.states: list[AddressState] = []
        """What `address_state` says next, one at a time; then what is set."""

    def open_icmpv6(self, types: tuple[int, ...], receive: Callable[[bytes, str, int], None]) -> RecordingIcmpv6Port:
        self.ports.append(RecordingIcmpv6Port(types, receive))
        return self.ports[-1]

    def link_layer_address(self, name: str) -> bytes:
        return b"\x02\0\0\0\0\x01"

    def has_carrier(self, name: str) -> bool:
        return self.carrier

    def forwards(self, name: str) -> bool:
        return self.forwarding

    def set_address(self, interface: int, address: IPv6Interface, preferred_s: int, valid_s: int) -> Deferred[None]:
        if self.fault is not None:
            return fail(self.fault)
        self.addresses[interface, str(address)] = (preferred_s, valid_s)
        return succeed(None)

    def set_route(self, route: Route, valid_s: int) -> Deferred[None]:
        if self.fault is not None:
            return fail(self.fault)
        for other in [other for other in self.routes if other.prefix == route.prefix and bool(other.gateway) == bool(route.gateway)]:
            del self.routes[other]
        self.routes[route] = valid_s
        return succeed(None)

    def follows(self, route: Route) -> Deferred[bool]:
        return succeed(route in self.routes) if self.fault is None else fail(self.fault)

    def remove_route(self, route: Route) -> Deferred[None]:
        if self.fault is not None:
            return fail(self.fault)
        self.routes.pop(route, None)
        return succeed(None)

    def remove_address(self, interface: int, address: IPv6Interface) -> Deferred[None]:
        self.addresses.pop((interface, str(address)), None)
        return succeed(None)

    def address_state(self, interface: int, address: IPv6Address) -> AddressState:
        there = any(of == interface and given.partition("/")[0] == str(address) for of, given in self.addresses)
        return self.states.pop(0) if self.states else AddressState.READY if there else AddressState.ABSENT
