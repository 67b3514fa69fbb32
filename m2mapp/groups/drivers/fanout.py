"""Runs one fan-out: sends what the machine says, keeps its times, gives the joined answer. Decides nothing about repeats."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.fanout import Ask, FanOut
from m2mapp.groups.results import GroupResults
from m2mapp.model.errors import DeadlinePassed, Fault
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IGathering, IGroupSender, IRequester
from m2mapp.model.messages import Answer, GroupOutgoing, Outgoing, Request

UNICAST_AT_ONCE = 64
"""How many members are asked by unicast at the same time: more would only queue in the network."""

_log = Logger(namespace="m2mapp.groups.fanout")


@dataclass(frozen=True, slots=True)
class Operation:
    """What is asked of every member: the caller's request, the suffix after `membersContent`, the identifier."""

    group: str
    request: Request
    suffix: Path
    request_id: bytes


class RunningFanOut:
    """One fan-out under way. `on_proven` is told the URIs of members that answered a multicast request."""

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
        self._under_way: set[Deferred[Answer]] = set()
        self._sent = 0
        self._timers: list[IDelayedCall] = []
        self._proven: list[str] = []
        self._finished = False
        self._done: Deferred[GroupResults] = Deferred(lambda _: self.stop())

    def start(self) -> Deferred[GroupResults]:
        """Send; a Deferred of the results, which fails with `DeadlinePassed` where nobody answered."""
        machine = self._machine
        self._timers.append(self._reactor.callLater(max(0.0, machine.deadline - self._reactor.seconds()), self._on_deadline))
        if machine.repair_at is not None:
            self._timers.append(self._reactor.callLater(machine.repair_at - self._reactor.seconds(), self._on_leisure_over))
        self._send_multicast()
        self._ask(machine.start())
        return self._done

    def stop(self) -> None:
        """Nobody waits for the answer any more: send and take nothing further."""
        if not self._finished:
            self._machine.deadline_passed()
            self._finish()

    def _send_multicast(self) -> None:
        operation, request = self._operation, self._operation.request
        for leg in self._machine.legs:
            outgoing = GroupOutgoing(
                method=request.method,
                address=leg.address,
                port=leg.port,
                path=(*leg.path, *operation.suffix),
                query=request.query,
                payload=request.payload,
                content_type=request.content_type,
                lifetime_s=self._machine.deadline - self._machine.started,
                request_id=operation.request_id,
                cause=request.cause,
            )
            try:
                self._gatherings.append(self._group_sender.send_to_group(outgoing, self._on_multicast_answer))
            except Fault as fault:
                # Its members are silent so far, and are asked one by one when the leisure time is over.
                _log.warn("{trace} {address}: {fault}", trace=request.trace, address=leg.address, fault=fault.detail)

    def _ask(self, asks: list[Ask]) -> None:
        self._queue.extend(asks)
        while self._queue and len(self._under_way) < UNICAST_AT_ONCE and not self._machine.done:
            self._ask_one(self._queue.popleft())

    def _ask_one(self, ask: Ask) -> None:
        operation, request = self._operation, self._operation.request
        uri = parse_uri(ask.uri)
        path, query = (*uri.path, *operation.suffix), (*uri.query, *request.query)
        outgoing = Outgoing(
            method=request.method,
            uri=type(uri)(uri.scheme, uri.host, uri.port, path, query).text(),
            payload=request.payload,
            content_type=request.content_type,
            timeout_s=max(0.0, self._machine.deadline - self._reactor.seconds()),
            trace=request.trace,
            request_id=operation.request_id,
            cause=request.cause,
            principal=request.principal,
        )
        self._sent += 1
        answered: Deferred[Answer] = self._requester.send(outgoing)
        self._under_way.add(answered)
        answered.addCallback(self._on_unicast_answer, ask)
        answered.addErrback(self._on_unicast_failure, ask)
        answered.addBoth(self._on_asked, answered)

    def _on_multicast_answer(self, answer: Answer) -> None:
        self._proven.extend(self._machine.multicast_answer(answer, self._reactor.seconds()))
        self._check_done()

    def _on_unicast_answer(self, answer: Answer, ask: Ask) -> None:
        self._machine.unicast_answer(ask, answer, self._reactor.seconds())

    def _on_unicast_failure(self, failure: Failure, ask: Ask) -> None:
        if failure.check(Fault) is None:
            _log.failure("{trace} asking {uri}", failure, trace=self._operation.request.trace, uri=ask.uri)

    def _on_asked(self, _: object, answered: Deferred[Answer]) -> None:
        self._under_way.discard(answered)
        self._ask([])
        self._check_done()

    def _on_leisure_over(self) -> None:
        self._ask(self._machine.leisure_over())

    def _on_deadline(self) -> None:
        self._machine.deadline_passed()
        self._check_done()

    def _check_done(self) -> None:
        if self._machine.done and not self._finished:
            self._finish()

    def _finish(self) -> None:
        self._finished = True
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        sent = self._sent + sum(gathering.sent for gathering in self._gatherings)
        for gathering in self._gatherings:
            gathering.close()
        self._queue.clear()
        for answered in list(self._under_way):
            answered.cancel()
        if self._proven:
            self._on_proven(self._proven)
        if not self._done.called:
            self._fire(sent)

    def _fire(self, sent: int) -> None:
        machine, operation = self._machine, self._operation
        if not machine.results:
            nobody = f"nobody of {path_text(('groups', operation.group))} answered within {machine.deadline - machine.started:.3g} s"
            self._done.errback(DeadlinePassed(nobody))
            return
        ms = (self._reactor.seconds() - machine.started) * 1000
        silent, received = machine.silent, machine.received + machine.extra
        trace = operation.request.trace
        self._done.callback(GroupResults(operation.group, operation.request_id, trace, machine.results, silent, sent, received, ms))
