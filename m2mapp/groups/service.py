"""The group server: answers at `/groups`, starts and stops what tells the devices, runs fan-outs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.formats.documents import choose
from m2mapp.formats.uris import parse_uri
from m2mapp.groups import edit
from m2mapp.groups.drivers.advertise import Advertiser
from m2mapp.groups.drivers.fanout import Operation, RunningFanOut
from m2mapp.groups.drivers.joins import JoinBook
from m2mapp.groups.edit import Surroundings
from m2mapp.groups.fanout import FanOut, MulticastLeg, Target
from m2mapp.groups.group import FANOUT_SET, GROUPS, MEMBERS, MEMBERS_CONTENT, REACHED, FanoutSet, Join, members_of, set_of, sets_of
from m2mapp.groups.pool import Network, next_address
from m2mapp.groups.results import OFFERED, GroupResults
from m2mapp.groups.seen import SeenRequests
from m2mapp.model.errors import DeadlinePassed, Fault, LoopDetected, MethodNotAllowed, NotSupported, Overloaded
from m2mapp.model.identifiers import Path, new_request_id, path_text
from m2mapp.model.interfaces import ICommit, IGroupSender, IHandle, IRequester
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.tree.registrations import SCL, SCLS, device_of
from m2mapp.tree.representation import document_response
from m2mapp.tree.resources import Decision, ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.unit import Append, Change, Unit
from m2mapp.tree.watch import Watch

MAX_UNDER_WAY = 64
"""So many group requests may be under way at once."""
ONE_DATAGRAM_BYTES = 1024
"""A larger payload does not go by multicast, which has no Block1 (spec section 4)."""
REPLAN_AFTER_S = 0.5

_log = Logger(namespace="m2mapp.groups")


@dataclass(frozen=True, slots=True)
class GroupNode:
    """What the group server needs of the node around it. `pool` gives the multicast addresses that it may use."""

    name: str
    around: Surroundings
    pool: Callable[[], tuple[Network, ...]]
    rules: ResourceRules
    committer: ICommit
    requester: IRequester
    group_sender: IGroupSender


@implementer(IHandle)
class GroupService(Service):
    """Answers every request at and below `/groups`."""

    def __init__(self, reactor: IReactorTime, node: GroupNode, metrics: Metrics) -> None:
        self._reactor, self._node, self._around, self._tree = reactor, node, node.around, node.around.tree
        self._book = JoinBook(reactor, self._tree, node.committer)
        self._advertiser = Advertiser(reactor, node.requester, self._tree, self._around.registrations, self._book, node.name)
        self._seen = SeenRequests()
        self._running: set[RunningFanOut] = set()
        self._taken: dict[str, int] = {}
        self._promised: set[str] = set()
        self._watches: list[Watch] = []
        self._replan: set[str] = set()
        self._groups_at: dict[str, set[str]] = {}
        self._replan_call: IDelayedCall | None = None
        self._requests = metrics.counter("m2mapp_group_requests_total", "Group requests begun.")
        self._silent = metrics.counter("m2mapp_group_silent_members_total", "Members that did not answer a group request.")
        self._latency = metrics.histogram("m2mapp_group_request_seconds", "Time from a group request to its joined answer.")
        metrics.gauge("m2mapp_group_requests_under_way", "Group requests under way.", lambda: len(self._running))
        metrics.gauge("m2mapp_group_advertisements_waiting", "Advertisements not confirmed.", lambda: self._advertiser.depth)
        self._observe_tree()

    def startService(self) -> None:
        """Tell the devices what they were not told before the last stop."""
        super().startService()
        self._advertiser.start()
        self._watches.append(self._tree.watch(SCLS, self._on_registration, subtree=True))

    def stopService(self) -> None:
        """End what is under way: callers get what came so far."""
        super().stopService()
        for watch in self._watches[1:]:
            watch.stop()
        del self._watches[1:]
        if self._replan_call is not None and self._replan_call.active():
            self._replan_call.cancel()
        self._advertiser.stop()
        self._book.stop()
        for running in list(self._running):
            running.stop()

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """Answer a request at `/groups` or below; raises, or fails with, a `Fault`."""
        path = request.path
        if len(path) <= 2:  # noqa: PLR2004 - /groups and /groups/<name>
            return self._handle_group(request)
        self._tree.get(path[:2])
        if path[2] == MEMBERS_CONTENT:
            return self._fan_out(request, path[1], path[3:])
        if path[2] == MEMBERS and len(path) == 3:  # noqa: PLR2004 - /groups/<name>/members
            return self._handle_members(request)
        return execute(self._node.committer, self._node.rules.decide(request))

    def groups_of(self, device: str) -> list[str]:
        """The paths of the groups that have a member on a device, by its registration's name."""
        found = self._around.registrations.named(device)
        hosts = (*found.hosts, *found.addresses, found.name) if found is not None else ()
        names = {group for host in hosts for group in self._groups_at.get(host, ())}
        return [path_text((*GROUPS, name)) for name in sorted(names) if self._tree.find((*GROUPS, name)) is not None]

    # Groups and their members.

    def _handle_group(self, request: Request) -> Response | Deferred[Response]:
        if request.method is Method.GET or (len(request.path) == 1 and request.method is not Method.POST):
            return execute(self._node.committer, self._node.rules.decide(request))
        decide: Callable[..., Decision]
        if len(request.path) == 1:
            decide = edit.created
        elif request.method is Method.DELETE:
            return execute(self._node.committer, edit.removed(self._around, request))
        elif request.method is Method.POST:
            raise MethodNotAllowed("POST", path_text(request.path), ("GET", "PUT", "PATCH", "DELETE"))
        else:
            decide = edit.put if request.method is Method.PUT else edit.patched
        return self._commit(lambda take: decide(self._around, request, take))

    def _handle_members(self, request: Request) -> Response | Deferred[Response]:
        if request.method is Method.GET:
            group = self._tree.get(request.path[:2])
            return document_response({"members": list(members_of(group))}, request.accept, self._tree.version(group))
        if request.method is Method.PATCH:
            raise MethodNotAllowed("PATCH", path_text(request.path), ("GET", "PUT", "POST", "DELETE"))
        return self._commit(lambda take: edit.members_changed(self._around, request, take))

    def _commit(self, decide: Callable[[Callable[[int], str | None]], Decision]) -> Response | Deferred[Response]:
        with self._taking() as (take, release):
            answered = execute(self._node.committer, decide(take))
        if isinstance(answered, Deferred):
            answered.addBoth(release)
        return answered

    @contextmanager
    def _taking(self) -> Iterator[tuple[Callable[[int], str | None], Callable[[Response], Response]]]:
        """What takes addresses for one unit, and what to call once the unit is committed or dropped."""
        mine: set[str] = set()

        def take(version: int) -> str | None:
            address = next_address(self._node.pool(), version, self._taken.keys() | self._promised)
            if address is not None:
                mine.add(address)
                self._promised.add(address)
            return address

        def release(result: Response) -> Response:
            self._promised.difference_update(mine)
            return result

        try:
            yield take, release
        except Exception:
            self._promised.difference_update(mine)
            raise

    # Following the tree.

    def _observe_tree(self) -> None:
        for group in self._tree.children(GROUPS):
            self._index_members(group.path[1], members_of(group))
            for one in sets_of(self._tree, group.path[1]):
                self._count(one, 1)
        self._watches.append(self._tree.watch(GROUPS, self._on_change, subtree=True))

    def _on_change(self, change: Change) -> None:
        for resource, amount in ((change.before, -1), (change.after, 1)):
            if resource is None:
                continue
            if resource.type == FANOUT_SET:
                self._count(set_of(resource), amount)
            elif len(resource.path) == 2 and amount > 0:  # noqa: PLR2004 - /groups/<name>
                self._index_members(resource.path[1], members_of(resource))

    def _count(self, one: FanoutSet, amount: int) -> None:
        if one.is_multicast:
            count = self._taken.get(one.address, 0) + amount
            if count > 0:
                self._taken[one.address] = count
            else:
                self._taken.pop(one.address, None)

    def _index_members(self, group: str, uris: tuple[str, ...]) -> None:
        for uri in uris:
            self._groups_at.setdefault(parse_uri(uri).host, set()).add(group)

    def _on_registration(self, change: Change) -> None:
        resource = change.after or change.before
        if resource is None or resource.type != SCL:
            return
        after = device_of(change.after) if change.after is not None else None
        before = device_of(change.before) if change.before is not None else None
        if after == before:
            return
        if after is not None:
            self._advertiser.device_is_back(after)
        for device in (before, after):
            for host in (*device.hosts, *device.addresses, device.name) if device else ():
                self._replan |= self._groups_at.get(host, set())
        if self._replan and (self._replan_call is None or not self._replan_call.active()):
            self._replan_call = self._reactor.callLater(REPLAN_AFTER_S, self._plan_again)

    def _plan_again(self) -> None:
        names, self._replan = self._replan, set()
        for name in names:
            with self._taking() as (take, release):
                unit = edit.planned_again(self._around, name, take)
            if unit is None:
                continue
            done: Deferred[object] = self._node.committer.commit(unit)
            done.addBoth(release)
            done.addErrback(self._replan_failed, name)

    def _replan_failed(self, failure: Failure, name: str) -> None:
        _log.warn("group {name} could not be planned again: {why}", name=name, why=failure.getErrorMessage())
        self._replan.add(name)
        if self.running and (self._replan_call is None or not self._replan_call.active()):
            self._replan_call = self._reactor.callLater(10 * REPLAN_AFTER_S, self._plan_again)

    # Fan-out.

    def _fan_out(self, request: Request, group: str, suffix: Path) -> Deferred[Response]:
        if request.method is Method.PATCH:
            raise MethodNotAllowed("PATCH", path_text(request.path), ("GET", "PUT", "POST", "DELETE"))
        if request.query_value("aggregate") is not None:
            raise NotSupported("aggregate: aggregates of group answers are not made by this version")
        choose(request.accept, OFFERED)
        if len(self._running) >= MAX_UNDER_WAY:
            raise Overloaded(f"{MAX_UNDER_WAY} group requests are under way")
        now = self._reactor.seconds()
        request_id = request.request_id or new_request_id(self._node.name)
        if not self._seen.first_time(request_id, request.method, request.path, now):
            raise LoopDetected(f"the request {request_id.hex()} was here before")
        deadline = now + self._around.settings.deadline_s
        if request.deadline is not None:
            deadline = min(deadline, request.deadline)
        if deadline <= now:
            raise DeadlinePassed("no time is left for the group's members")
        machine = self._machine(request, group, now, deadline)
        running = RunningFanOut(
            self._reactor,
            (self._node.group_sender, self._node.requester),
            Operation(group, request, suffix, request_id),
            machine,
            lambda uris: self._on_proven(group, uris),
        )
        self._requests.add()
        self._running.add(running)
        done = running.start()
        done.addBoth(self._ended, running, now)
        return done.addCallback(self._answer, request)

    def _machine(self, request: Request, group: str, now: float, deadline: float) -> FanOut:
        legs: list[MulticastLeg] = []
        alone: list[str] = []
        for one in sets_of(self._tree, group):
            reached: list[str] = []
            for uri in one.members:
                by_multicast = one.joins.get(uri) in REACHED and len(request.payload) <= ONE_DATAGRAM_BYTES
                (reached if by_multicast else alone).append(uri)
            if len(reached) == 1:
                alone += reached
            elif reached:
                targets = tuple(self._target(uri) for uri in reached)
                legs.append(MulticastLeg(one.address, one.port, one.path, targets, one.leisure_s))
        return FanOut(request.method, tuple(legs), tuple(alone), now, deadline)

    def _target(self, uri: str) -> Target:
        parsed = parse_uri(uri)
        device = self._around.registrations.at_host(parsed.host)
        return Target(uri, device.addresses if device else (parsed.host,), parsed.port)

    def _on_proven(self, group: str, uris: list[str]) -> None:
        for one in sets_of(self._tree, group):
            news = [uri for uri in uris if one.joins.get(uri) is Join.JOINED]
            if news:
                self._book.note((group, one.name), news, Join.PROVEN)

    def _ended(self, result: GroupResults | Failure, running: RunningFanOut, started: float) -> GroupResults | Failure:
        self._running.discard(running)
        self._latency.observe(self._reactor.seconds() - started)
        return result

    def _answer(self, results: GroupResults, request: Request) -> Response:
        self._silent.add(len(results.silent))
        body = {
            "who": request.principal.name,
            "method": request.method.value,
            "path": path_text(request.path),
            "requestId": results.request_id.hex(),
            "trace": request.trace,
            "ms": round(results.ms, 1),
            "silent": list(results.silent),
            "statuses": {uri: result.status for uri, result in results.members.items()},
            "datagrams": {"sent": results.sent, "received": results.received},
        }
        done: Deferred[object] = self._node.committer.commit(Unit(appends=(Append(f"groups/{results.group}", body),)))
        done.addErrback(self._not_recorded, request.trace)
        return results.response(request.method, request.accept)

    @staticmethod
    def _not_recorded(failure: Failure, trace: str) -> None:
        reason = failure.value.detail if isinstance(failure.value, Fault) else failure.getErrorMessage()
        _log.warn("{trace} the record of a group request could not be kept: {reason}", trace=trace, reason=reason)
