"""Runs one fan-out: sends what the machine says, keeps its times, gives the joined answer. Decides nothing about repeats."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.fanout import Ask, FanOut, MulticastLeg
from m2mapp.groups.results import GroupResults
from m2mapp.model.errors import Fault, InternalError
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IGathering, IGroupSender, IRequester
from m2mapp.model.messages import Answer, GroupOutgoing, Method, Outgoing, Request

UNICAST_AT_ONCE = 128
"""How many members are asked by unicast at the same time: more would only queue in the network."""
YOUNG_S = 0.5
"""A question older than this is not counted among them: members that are switched off do not keep the others from being asked."""

_log = Logger(namespace="m2mapp.groups.fanout")


@dataclass(frozen=True, slots=True)
class Operation:
    """What is asked of every member: the caller's request, the suffix after `membersContent`, the query for them, the identifier.

    `requester` is the tag by which this operation is known to them (`seen.requester_tag`).
    """

    group: str
    request: Request
    suffix: Path
    query: tuple[tuple[str, str], ...]
    request_id: bytes | None
    requester: bytes | None = None


class RunningFanOut:
    """One fan-out under way.

    `on_proven` is told, at the end, the URIs of members that answered a multicast request. `on_answered`, where it is set, is told of each
    member whose answer has come, when it is there.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        senders: tuple[IGroupSender, IRequester],
        operation: Operation,
        machine: FanOut,
        on_proven: Callable[[list[str]], None],
    ) -> None:
        self._reactor, self._operation, self._machine, self._on_proven = reactor, operation, machine, on_proven
        self._group_sender, self._requester = senders
        self._gatherings: list[IGathering] = []
        self._queue: deque[Ask] = deque()
        self._under_way: dict[Deferred[Answer], None] = {}
        self._young: dict[Deferred[Answer], float] = {}
        self._sent = 0
        self._timers: dict[IDelayedCall, None] = {}
        self._room: IDelayedCall | None = None
        self._proven: list[str] = []
        self._asking = self._finished = False
        self.on_answered: Callable[[str], None] | None = None
        self._done: Deferred[GroupResults] = Deferred(lambda _: self.stop())

    def start(self) -> Deferred[GroupResults]:
        """Send; a Deferred of the results, also where nobody answered. Cancelling it is `stop`."""
        machine = self._machine
        self._later(machine.deadline - self._reactor.seconds(), self._on_deadline)
        asks = [ask for leg in machine.legs for ask in self._send_multicast(leg)]
        if machine.first_look_at is not None:
            self._later(machine.first_look_at - self._reactor.seconds(), self._on_leisure_over)
        self._ask([*machine.start(), *asks])
        return self._done

    def stop(self) -> None:
        """Nobody waits for the answer any more: send and take nothing further."""
        if not self._finished:
            self._machine.deadline_passed()
            self._finish()

    def so_far(self) -> GroupResults:
        """The results as they are now."""
        machine, operation = self._machine, self._operation
        silent = machine.silent
        return GroupResults(
            group=operation.group,
            request_id=operation.request_id,
            trace=operation.request.trace,
            members=machine.results if self._finished else dict(machine.results),
            silent=silent,
            sent=self._sent + sum(gathering.sent for gathering in self._gatherings),
            received=machine.received + machine.extra,
            ms=(self._reactor.seconds() - machine.started) * 1000,
            unknown=silent if operation.request.method is Method.POST else (),
            refused=machine.refused,
            loops=len(machine.looped),
            looped=tuple(machine.looped),
        )

    # Sending.

    def _send_multicast(self, leg: MulticastLeg) -> list[Ask]:
        """Send one multicast request; who has to be asked one by one where it cannot be sent."""
        operation, request = self._operation, self._operation.request
        outgoing = GroupOutgoing(
            method=request.method,
            address=leg.address,
            port=leg.port,
            path=(*leg.path, *operation.suffix),
            query=operation.query,
            payload=request.payload,
            content_type=request.content_type,
            lifetime_s=self._machine.deadline - self._machine.started,
            tell_deadline=leg.servers,
            request_id=operation.request_id,
            cause=request.cause,
            requester=operation.requester,
        )
        try:
            self._gatherings.append(self._group_sender.send_to_group(outgoing, partial(self._on_multicast_answer, leg)))
        except Fault as fault:
            _log.warn("{trace} {address}: {fault}", trace=request.trace, address=leg.address, fault=fault.detail)
            return self._machine.not_sent(leg)
        return []

    def _ask(self, asks: list[Ask]) -> None:
        """Ask these members as soon as there is room."""
        self._queue.extend(asks)
        # A loop, and not each answer asking the next: answers that are there at once would be as many calls deep.
        if self._asking:
            return
        self._asking = True
        while self._queue and not self._machine.done and self._has_room():
            self._ask_one(self._queue.popleft())
        self._asking = False

    def _has_room(self) -> bool:
        """Whether one more may be asked; where not, asking goes on when the oldest question is not young any more."""
        now = self._reactor.seconds()
        while self._young and now >= next(iter(self._young.values())) + YOUNG_S:
            del self._young[next(iter(self._young))]
        if len(self._young) < UNICAST_AT_ONCE:
            return True
        if self._room is None:
            self._room = self._later(next(iter(self._young.values())) + YOUNG_S - now, self._on_room)
        return False

    def _ask_one(self, ask: Ask) -> None:
        operation, request = self._operation, self._operation.request
        uri = parse_uri(ask.uri)
        outgoing = Outgoing(
            method=request.method,
            uri=Uri(uri.scheme, uri.host, uri.port, (*uri.path, *operation.suffix), (*uri.query, *operation.query)).text(),
            payload=request.payload,
            content_type=request.content_type,
            timeout_s=max(0.0, self._machine.deadline - self._reactor.seconds()),
            trace=request.trace,
            request_id=operation.request_id,
            cause=request.cause,
            principal=request.principal,
            rtt_s=self._machine.first_s,
            again=ask.via == "repair",
            of_group=True,
            requester=operation.requester,
        )
        self._sent += 1
        answered: Deferred[Answer] = maybeDeferred(self._requester.send, outgoing)
        self._under_way[answered] = None
        self._young[answered] = self._reactor.seconds()
        done = answered.addCallbacks(self._on_unicast_answer, self._on_unicast_failure, callbackArgs=(ask,), errbackArgs=(ask,))
        done.addBoth(self._on_asked, answered)

    def _later(self, delay_s: float, call: Callable[[], None]) -> IDelayedCall:
        def due() -> None:
            del self._timers[timer]
            call()

        timer = self._reactor.callLater(max(0.0, delay_s), due)
        self._timers[timer] = None
        return timer

    # What comes.

    def _on_multicast_answer(self, leg: MulticastLeg, answer: Answer) -> None:
        answered = self._machine.multicast_answer(leg, answer, self._reactor.seconds())
        self._proven.extend(answered)
        if self.on_answered is not None:
            for uri in answered:
                self.on_answered(uri)
        self._check_done()

    def _on_unicast_answer(self, answer: Answer, ask: Ask) -> None:
        if self._machine.unicast_answer(ask, answer, self._reactor.seconds()) and self.on_answered is not None:
            self.on_answered(ask.uri)

    def _on_unicast_failure(self, failure: Failure, ask: Ask) -> None:
        fault = failure.value
        if failure.check(CancelledError) is not None:
            return
        if not isinstance(fault, Fault):
            _log.failure("{trace} asking {uri}", failure, trace=self._operation.request.trace, uri=ask.uri)
            fault = InternalError()
        again = self._machine.unicast_failed(ask, fault, self._reactor.seconds())
        if again is not None:
            self._later(again[1], lambda: self._ask([again[0]]))

    def _on_asked(self, _: object, answered: Deferred[Answer]) -> None:
        self._under_way.pop(answered, None)
        self._young.pop(answered, None)
        self._ask([])
        self._check_done()

    def _on_room(self) -> None:
        self._room = None
        self._ask([])

    def _on_leisure_over(self) -> None:
        look_again_s = self._machine.look_again_s(self._reactor.seconds())
        if look_again_s > 0:
            self._later(look_again_s, self._on_leisure_over)
        else:
            self._ask(self._machine.leisure_over())

    def _on_deadline(self) -> None:
        self._machine.deadline_passed()
        self._check_done()

    # The end.

    def _check_done(self) -> None:
        if self._machine.done and not self._finished:
            self._finish()

    def _finish(self) -> None:
        self._finished = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for gathering in self._gatherings:
            gathering.close()
        self._queue.clear()
        for answered in list(self._under_way):
            answered.cancel()
        if not self._done.called:
            self._done.callback(self.so_far())
        if self._proven:
            self._on_proven(self._proven)
