"""Requests by this program's own CoAP client, in a process of its own: for tests of it against servers by others.

A list of JSON objects on standard input, one answer for each on standard output; `call_own` runs it in a host. Not responsible
for what is expected.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from dataclasses import asdict, dataclass

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from m2mapp.coap.service import CoapService, make_context
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Answer, GroupOutgoing, Method, Outgoing, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NOBODY, Principal
from m2mapp.net.interfaces import IDatagrams, Sockaddr
from m2mapp.net.udp import SystemDatagrams
from tests.system.programs import ROOT, Place

_TIMEOUT_S = 20.0
_MORE_S = 0.5
"""So long it is waited for one answer too many."""


@dataclass(frozen=True)
class OwnCall:
    """One request: method and URI; or, with `gathered`, a GET to a group ("ff15::1/path"), until so many answers came."""

    method: str
    uri: str
    payload: bytes = b""
    content_type: str | None = None
    accept: str | None = None
    gathered: int = 0


@dataclass(frozen=True)
class OwnAnswer:
    """What came: code, payload, source; "fault" and its text in place of a code where it failed."""

    code: str
    payload: bytes
    source: str = ""


def call_own(place: Place, *calls: OwnCall) -> list[list[OwnAnswer]]:
    """Make the requests one after another in that place; the answers to each, which are one but for group requests."""
    asked = [{**asdict(call), "payload": call.payload.hex()} for call in calls]
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", __name__]
    done = place.run(command, timeout_s=60 + _TIMEOUT_S * len(calls), text=json.dumps(asked))
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(calls), done.stderr
    return [[OwnAnswer(code, bytes.fromhex(payload), source) for code, payload, source in one] for one in answers]


@implementer(IHandle)
class Nobody:
    """A handler and principals of a node that serves nothing."""

    def handle(self, _request: Request) -> Response:
        return Response(Status.CONTENT)

    def principal(self, _source: Sockaddr, _interface: int) -> Principal:
        return NOBODY

    def near(self, _source: Sockaddr, _interface: int) -> bool:
        return True


class _Calls:
    """Makes the calls, one after another."""

    def __init__(self, reactor: IReactorTime, datagrams: IDatagrams) -> None:
        self._reactor = reactor
        nobody, context = Nobody(), make_context(reactor, Metrics())
        self._coap = CoapService((("::", 0),), ("eth0",), datagrams, nobody, nobody, context)
        self._coap.startService()

    @inlineCallbacks
    def make(self, calls: list[OwnCall]) -> Generator[Deferred[list[Answer]], list[Answer], None]:
        """All of them; each one's answers are a line."""
        for call in calls:
            try:
                answers = yield self._gather(call) if call.gathered else self._ask(call)
            except Fault as fault:
                answers = [Answer("fault", str(fault).encode())]
            print(json.dumps([(one.code, one.payload.hex(), one.source) for one in answers]), flush=True)

    def _ask(self, call: OwnCall) -> Deferred[list[Answer]]:
        outgoing = Outgoing(Method(call.method), call.uri, call.payload, call.content_type, call.accept, timeout_s=_TIMEOUT_S)
        return self._coap.client.request(outgoing).addCallback(lambda answer: [answer])

    def _gather(self, call: OwnCall) -> Deferred[list[Answer]]:
        answers: list[Answer] = []
        done: Deferred[list[Answer]] = Deferred()

        def on_answer(answer: Answer) -> None:
            answers.append(answer)
            if len(answers) == call.gathered:
                self._reactor.callLater(_MORE_S, done.callback, answers)

        address, _, path = call.uri.partition("/")
        self._coap.send_to_group(GroupOutgoing(Method.GET, address, tuple(path.split("/")), lifetime_s=_TIMEOUT_S), on_answer)
        return done.addTimeout(_TIMEOUT_S, self._reactor, lambda _failure, _timeout: answers)


def main() -> None:
    """Make the calls on standard input."""
    from twisted.internet import reactor  # installed here, not where the callers are

    calls = [OwnCall(**{**call, "payload": bytes.fromhex(call["payload"])}) for call in json.loads(sys.stdin.read())]
    reactor.callWhenRunning(lambda: _Calls(reactor, SystemDatagrams(reactor, Metrics())).make(calls).addBoth(lambda _: reactor.stop()))
    reactor.run()


if __name__ == "__main__":
    main()
