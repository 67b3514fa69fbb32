"""Group requests under way: admitted, run, told to their callers, recorded. One for each request to `membersContent`.

An operation is its own: a caller that goes away ends a read, but not a write, which goes on to its end and its record. Not responsible for
whom to ask (`reach`) nor for when (`fanout`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.documents import NDJSON
from m2mapp.groups.drivers.fanout import Operation, RunningFanOut
from m2mapp.groups.fanout import FanOut
from m2mapp.groups.forms import Wanted, for_members, read_wanted
from m2mapp.groups.group import GROUPS, MEMBERS_CONTENT
from m2mapp.groups.identifying import Identifiers
from m2mapp.groups.latest import Latest
from m2mapp.groups.lines import Lines
from m2mapp.groups.pace import Paces
from m2mapp.groups.reach import Reach
from m2mapp.groups.results import GroupResults, MemberResult
from m2mapp.groups.spread import Spread, spread
from m2mapp.groups.subgroup import VIA, Subgroup
from m2mapp.model.errors import Conflict, DeadlinePassed, Fault, LoopDetected, MethodNotAllowed, Overloaded
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IClock, ICommit, IGroupSender, IJournals, IRequester
from m2mapp.model.messages import WRITES, Method, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.tree.drivers.once import Answered, Once
from m2mapp.tree.unit import GROUP_REQUESTS, Append, Entry, Unit

MAX_UNDER_WAY = 64
"""So many group requests may be under way at once."""
ONE_DATAGRAM_BYTES = 1024
"""A larger payload does not go by multicast, which has no Block1 (spec section 4)."""
_LONGEST_WAY_BACK_S = 0.5
_MOST_RESTORED = 10_000
_RECORDS_READ = 20
"""So many records of a group are read to know its members' state after a restart."""

_Once = tuple[bytes | None, Method, Path, tuple[tuple[str, str], ...]]
"""What is done once, whichever groups it goes through: the identifier, the method, the suffix and the query."""

_log = Logger(namespace="m2mapp.groups")


@dataclass(frozen=True, slots=True)
class Means:
    """What group requests need of the node: who gives identifiers, how long one may take, who sends, where records are, the wall clock."""

    identifiers: Identifiers
    deadline_s: float
    senders: tuple[IGroupSender, IRequester]
    committer: ICommit
    journals: IJournals
    clock: IClock


class _Running:
    """One group request and who asked for it. `cut`: it was ended before its members had their time."""

    def __init__(self, request: Request, wanted: Wanted, operation: Operation, began: tuple[float, int]) -> None:
        self.request, self.wanted, self.operation = request, wanted, operation
        self.began_s, self.began_ms = began
        self.spread = Spread(Reach((), ()), ())
        self.streamed: set[str] = set()
        self.lines: Lines | None = None
        self.cut = False
        self.told: Deferred[Response] = Deferred()

    def tell(self, results: GroupResults) -> None:
        """Tell the caller, if that has not been done."""
        if self.lines is not None:
            self.stream(results.members)
            self.lines.finish(self.wanted.summary(results))
        elif not self.told.called:
            try:
                self.told.callback(self._answer(results))
            except Fault as fault:
                self.told.errback(fault)

    def stream(self, members: Mapping[str, MemberResult]) -> None:
        """Tell, to a caller who wants each answer by itself, those that he was not told yet."""
        for uri, result in members.items():
            if self.lines is not None and uri not in self.streamed:
                self.streamed.add(uri)
                self.lines.answered(uri, result)

    def _answer(self, results: GroupResults) -> Response:
        if not results.members and results.silent:
            took = f"{results.ms / 1000:.3g} s"
            raise results.refused or DeadlinePassed(f"nobody of {path_text((*GROUPS, results.group))} answered within {took}")
        return self.wanted.respond(results, self.began_ms)


class GroupRequests:
    """All group requests of one server. `on_proven`: a group and the URIs of its members that answered a multicast request.

    `expand`: from results to those in which the members of groups at other servers stand in their groups' place. `may_enter`: the status
    to show for a group of this node that a request cannot go through, or empty. `on_results` is told what came of each request, without
    that; `on_asked` which groups at other servers were asked. All may be set later.
    """

    def __init__(self, reactor: IReactorTime, means: Means, on_proven: Callable[[str, list[str]], None], metrics: Metrics) -> None:
        self._reactor, self._means, self._on_proven = reactor, means, on_proven
        self.once = Once(reactor.seconds, means.committer, GROUP_REQUESTS, metrics)
        self._paces = Paces()
        self._running: dict[RunningFanOut, _Running] = {}
        self._restored: set[str] = set()
        self.latest = Latest()
        self._asked: dict[_Once, tuple[int, dict[str, None]]] = {}
        self.expand: Callable[[GroupResults, Sequence[Subgroup]], GroupResults] = lambda results, _: results
        self.may_enter: Callable[[Request, str], str] = lambda request, name: ""
        self.on_asked: Callable[[Sequence[Subgroup]], None] = lambda _: None
        self.on_results: Callable[[GroupResults], None] = lambda _: None
        self._requests = metrics.counter("m2mapp_group_requests_total", "Group requests begun.")
        self._silent = metrics.counter("m2mapp_group_silent_members_total", "Members that did not answer a group request.")
        self._latency = metrics.histogram("m2mapp_group_request_seconds", "Time from a group request to its joined answer.")
        metrics.gauge("m2mapp_group_requests_under_way", "Group requests under way.", lambda: len(self._running))
        metrics.gauge("m2mapp_group_members_known", "Members whose last answer is kept.", lambda: len(self.latest))

    def stop(self) -> None:
        """End what is under way: callers get what came so far."""
        for running, one in list(self._running.items()):
            one.cut = True
            running.stop()

    def ask(self, request: Request, group: str, suffix: Path, reach_of: Callable[[str], Reach]) -> Answered:
        """Ask every member of a group that is there, once for each identifier; the joined answer. Raises, or fails with, a `Fault`."""
        if request.method is Method.PATCH:
            raise MethodNotAllowed("PATCH", path_text(request.path), ("GET", "PUT", "POST", "DELETE"))
        wanted = read_wanted(request)
        if request.later_block:
            raise Conflict("the joined answer is not kept any more: it is asked for again from its first block")
        request_id = self._means.identifiers.of(request, group, at_servers=bool(reach_of(group).subgroups))
        request = request._replace(request_id=request_id)
        return self.once.once(request, lambda: self._ask(request, group, suffix, reach_of, wanted))

    def _ask(self, request: Request, group: str, suffix: Path, reach_of: Callable[[str], Reach], wanted: Wanted) -> Deferred[Response]:
        if len(self._running) >= MAX_UNDER_WAY:
            raise Overloaded(f"{MAX_UNDER_WAY} group requests are under way")
        now = self._reactor.seconds()
        deadline = now + self._means.deadline_s
        if request.deadline is not None:
            deadline = min(deadline, request.deadline - _way_back_s(request.deadline - now))
        if deadline <= now:
            raise DeadlinePassed("no time is left for the group's members")
        request_id = request.request_id
        tag = self._means.identifiers.tag(group, request_id)
        operation = Operation(group, request, suffix, for_members(request.query), request_id, tag)
        one = _Running(request, wanted, operation, (now, self._means.clock.now_ms()))
        one.spread = found = self._spread(operation, reach_of, now)
        if not found.reach.size:
            # A dynamic group that nobody is in at the moment, or one that is in itself alone: there is nobody to wait for.
            self._forget_asked(operation)
            one.tell(self._whole(GroupResults(group, request_id, request.trace, {}, (), 0, 0, 0.0), one))
            return one.told
        return self._run(one, self._machine(request, found.reach, now, deadline))

    def _spread(self, operation: Operation, reach_of: Callable[[str], Reach], now: float) -> Spread:
        """Whom this request asks, in the groups of this node that it goes through. What is under way for the same request is told apart."""

        def enter(name: str) -> str:
            return self.may_enter(operation.request, name) or self._first_time(operation, name, now)

        if operation.request_id is None:
            return spread(operation.group, reach_of, enter, {})
        count, asked = self._asked.get(_once(operation), (0, {}))
        self._asked[_once(operation)] = count + 1, asked
        try:
            return spread(operation.group, reach_of, enter, asked)
        except Fault:
            self._forget_asked(operation)
            raise

    def _first_time(self, operation: Operation, name: str, now: float) -> str:
        """Remember that a group of this node was gone through, as if it had been asked by the one that contains it."""
        if operation.request_id is None:
            return ""
        path = (*GROUPS, name, MEMBERS_CONTENT, *operation.suffix)
        try:
            one, _ = self.once.seen.check(operation.request._replace(path=path, requester=operation.requester), now)
        except LoopDetected:
            return "loop"
        except Overloaded:
            return "5.03"
        except Conflict:
            return "4.09"
        # Its members' answers are in that of the group that contains it: whoever asks it alone is told of a loop, now and later.
        self.once.seen.failed(one)
        return ""

    def _forget_asked(self, operation: Operation) -> None:
        """An operation is over: who was asked is known as long as another one of the same request is under way."""
        count, asked = self._asked.pop(_once(operation), (0, {}))
        if count > 1:
            self._asked[_once(operation)] = count - 1, asked

    def _whole(self, results: GroupResults, one: _Running) -> GroupResults:
        """The results with all that came of groups in the group."""
        found = one.spread
        members = {**results.members, **{uri: MemberResult(status, b"", None, VIA, results.ms) for uri, status in found.refused}}
        looped = (*results.looped, *(uri for uri in found.asked_before if uri not in members))
        loops = results.loops + found.loops
        return self.expand(replace(results, members=members, looped=looped, loops=loops), found.reach.subgroups)

    def restore(self, group: str) -> Deferred[None]:
        """Know of a group's members what its records say, once after a start."""
        if group in self._restored:
            return succeed(None)
        if len(self._restored) >= _MOST_RESTORED:
            self._restored.clear()
        self._restored.add(group)
        found: Deferred[list[Entry]] = self._means.journals.read_journal(_journal(group), limit=_RECORDS_READ, newest=True)
        return found.addCallbacks(self._restore, self._not_restored, errbackArgs=(group,))

    def _restore(self, entries: list[Entry]) -> None:
        for entry in sorted(entries, key=lambda entry: -entry.number):
            self.latest.restore(entry.at_ms, entry.body)

    def _not_restored(self, failure: Failure, group: str) -> Failure:
        self._restored.discard(group)
        return failure

    def _machine(self, request: Request, reach: Reach, now: float, deadline: float) -> FanOut:
        by_unicast = len(request.payload) > ONE_DATAGRAM_BYTES
        legs, alone = ((), reach.everybody) if by_unicast else (reach.legs, reach.alone)
        return FanOut(request.method, legs, alone, now, deadline, reach.keepers)

    def _run(self, one: _Running, machine: FanOut) -> Deferred[Response]:
        group = one.operation.group
        machine.pace = self._paces.of(group)
        running = RunningFanOut(self._reactor, self._means.senders, one.operation, machine, partial(self._proven, one))
        one.told = Deferred(lambda _: self._not_awaited(one, running))
        if one.wanted.lines and one.request.takes_stream:
            running.on_answered = lambda uri: self._line(one, running, uri, machine)
        self._requests.add()
        self._running[running] = one
        running.start().addCallback(self._ended, one, running).addErrback(self._broken, one)
        return one.told

    def _proven(self, one: _Running, uris: list[str]) -> None:
        for name in one.spread.groups:
            self._on_proven(name, uris)

    def _line(self, one: _Running, running: RunningFanOut, uri: str, machine: FanOut) -> None:
        """A member has answered a caller who wants each answer by itself: the first one begins the answer."""
        operation, fresh = one.operation, one.lines is None
        if one.lines is None:
            if one.told.called:
                return
            one.lines = Lines(partial(self._not_awaited, one, running))
        alone = GroupResults(operation.group, operation.request_id, one.request.trace, {uri: machine.results[uri]}, (), 0, 0, 0.0)
        one.stream(self.expand(alone, [subgroup for subgroup in one.spread.reach.subgroups if subgroup.uri == uri]).members)
        if fresh:
            status = Status.CONTENT if one.request.method is Method.GET else Status.CHANGED
            one.told.callback(Response(status, stream=one.lines, content_type=NDJSON))

    def _not_awaited(self, one: _Running, running: RunningFanOut) -> None:
        """The caller is gone, or waits no longer: a read ends, a write goes on; who can still be told is told what came so far."""
        if one.request.method not in WRITES:
            one.cut = True
            running.stop()
        elif not one.told.called:
            one.tell(self._whole(running.so_far(), one))

    def _ended(self, results: GroupResults, one: _Running, running: RunningFanOut) -> None:
        self._running.pop(running, None)
        self._forget_asked(one.operation)
        own, results = results, self._whole(results, one)
        self._latency.observe(self._reactor.seconds() - one.began_s)
        one.tell(results)
        self.on_results(own)
        self.on_asked(one.spread.reach.subgroups)
        if one.cut:
            results = replace(results, silent=(), looped=())  # Nobody knows whether they would have answered.
        self._silent.add(len(results.silent))
        operation = one.operation
        values = one.request.method is Method.GET and not operation.suffix and not operation.query
        self.latest.note(results, one.began_ms, one.began_s, values=values)
        self._record(results, one, values=values)

    def _record(self, results: GroupResults, one: _Running, *, values: bool) -> None:
        """Keep who asked what, and what came of whom, in the group's journal; the caller does not wait for that."""
        request = one.request
        body: dict[str, object] = {
            "who": request.principal.name,
            "method": request.method.value,
            "path": path_text(request.path),
            "requestId": results.request_id.hex() if results.request_id is not None else None,
            "trace": request.trace,
            "ms": round(results.ms, 1),
            "silent": list(results.silent),
            "cut": one.cut,
            "statuses": {uri: result.status for uri, result in results.members.items()},
            "datagrams": {"sent": results.sent, "received": results.received},
        }
        if values:
            known = {uri: self.latest.of(uri).value for uri in results.members}
            body["values"] = {uri: value.record for uri, value in known.items() if value is not None}
        done: Deferred[object] = self._means.committer.commit(Unit(appends=(Append(_journal(results.group), body),)))
        done.addErrback(_not_recorded, request.trace)

    def _broken(self, failure: Failure, one: _Running) -> None:
        """What nobody foresaw is logged; a caller that still waits is told."""
        _log.failure("{trace} a group request failed", failure, trace=one.request.trace)
        if not one.told.called:
            one.told.errback(failure)


def _once(operation: Operation) -> _Once:
    return operation.request_id, operation.request.method, operation.suffix, operation.query


def _way_back_s(left_s: float) -> float:
    """How long before its caller's deadline an operation ends, so that what came is back in time: so the deadline shrinks at each hop."""
    return min(_LONGEST_WAY_BACK_S, left_s / 10)


def _journal(group: str) -> str:
    return f"groups/{group}"


def _not_recorded(failure: Failure, trace: str) -> None:
    reason = failure.value.detail if isinstance(failure.value, Fault) else failure.getErrorMessage()
    _log.warn("{trace} the record of a group request could not be kept: {reason}", trace=trace, reason=reason)
