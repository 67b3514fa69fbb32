"""Carries one run through: sends what the machine asks for, keeps its result where the operation stands.

Not responsible for when it runs: `engine`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from m2mapp.formats.documents import JSON, dump_json
from m2mapp.model.errors import Fault, InternalError, NotSent
from m2mapp.model.identifiers import new_request_id
from m2mapp.model.interfaces import IClock, ICommit, IRequester
from m2mapp.model.messages import WRITES, Answer, Method, Outgoing
from m2mapp.model.principal import Principal
from m2mapp.tree.unit import Requirement, Unit, Write
from m2mapp.triggers.operation import Operation, result_document
from m2mapp.triggers.places import RESULT, RESULT_TYPE
from m2mapp.triggers.run import Ask, Next, Run, Store
from m2mapp.triggers.trace import StepKind

READ_S = 10.0
"""So long a dependency, an input or an output is awaited, and the storing of a result elsewhere."""
REQUEST_S = 30.0
"""So long the request itself is awaited: a group's members are asked for as long."""

_Result = TypeVar("_Result")

_log = Logger(namespace="m2mapp.triggers")


@dataclass(frozen=True, slots=True)
class Means:
    """What runs are carried through with. `node_uri` is the URI of this node, without a path."""

    reactor: IReactorTime
    requester: IRequester
    committer: ICommit
    clock: IClock
    node_uri: str


@dataclass(frozen=True, slots=True)
class Errand:
    """For whom a run is made, and what led to it: the cause of what it sends has the operation in it already."""

    principal: Principal
    cause: tuple[str, ...]
    trace: str


class Runner:
    """Carries runs through."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def carry(self, run: Run, errand: Errand, leaving: Callable[[], Deferred[None]] | None) -> None:
        """All of a run. `leaving`: what has to be durable before the request leaves; None: nothing has to. Raises no `Fault`."""
        now = self._means.reactor.seconds
        following: Next = run.begin(now())
        while following is not None:
            if isinstance(following, Store):
                began_s = now()
                fault = await self._store(run.operation, following, errand)
                run.stored(fault, (now() - began_s) * 1000)
                return
            if following.kind is StepKind.REQUEST and leaving is not None:
                fault = await _fault_of(leaving())
                if fault is not None:
                    following = run.answered(NotSent(f"it could not be noted that it leaves: {fault.detail}"), now())
                    continue
            following = run.answered(await self._ask(following, errand), now())

    async def look(self, run: Run, errand: Errand) -> Ask | None:
        """The same up to the request, which is not sent but given; None where the run does not come to it."""
        now = self._means.reactor.seconds
        following: Next = run.begin(now())
        while isinstance(following, Ask) and following.kind is not StepKind.REQUEST:
            following = run.answered(await self._ask(following, errand), now())
        return following if isinstance(following, Ask) else None

    async def fetch(self, uri: str, errand: Errand, accept: str | None = None) -> Answer | Fault:
        """What a GET gives."""
        return await self._send(Outgoing(Method.GET, uri, accept=accept, timeout_s=READ_S), errand)

    async def _ask(self, ask: Ask, errand: Errand) -> Answer | Fault:
        payload = ask.payload
        outgoing = Outgoing(
            ask.method,
            ask.uri,
            payload.data if payload is not None else b"",
            payload.media_type if payload is not None else None,
            timeout_s=REQUEST_S if ask.kind is StepKind.REQUEST else READ_S,
            request_id=new_request_id(self._means.node_uri) if ask.method in WRITES else None,
        )
        return await self._send(outgoing, errand)

    async def _send(self, outgoing: Outgoing, errand: Errand) -> Answer | Fault:
        sent = Outgoing(
            outgoing.method,
            outgoing.uri,
            outgoing.payload,
            outgoing.content_type,
            outgoing.accept,
            outgoing.timeout_s,
            errand.trace,
            outgoing.request_id,
            errand.cause,
            errand.principal,
        )
        try:
            answer = await _cut_short(self._means.requester.send(sent))
        except Fault as fault:
            return fault
        except CancelledError:
            raise  # The node stops: the run is not over, and is known after the next start.
        except Exception as error:  # noqa: BLE001 - whatever a sender raises, the run goes on and says so
            _log.failure("a request for an operation to {uri} failed", uri=outgoing.uri)
            return InternalError(str(error))
        return answer

    async def _store(self, operation: Operation, store: Store, errand: Errand) -> Fault | None:
        """Keep the result where the operation stands; why it could not be."""
        document = result_document(self._means.clock.now_ms(), store.status, store.content.data, store.content.media_type)
        path = operation.place
        if path is not None:
            unit = Unit((Write((*path, RESULT), RESULT_TYPE, document),), requires=(Requirement(path, exists=True),), trace=errand.trace)
            return await _fault_of(self._means.committer.commit(unit))
        uri = f"{operation.uri}/{RESULT}"
        answer = await self._send(Outgoing(Method.PUT, uri, dump_json(document), JSON, timeout_s=READ_S), errand)
        if isinstance(answer, Fault):
            return answer
        return None if answer.ok else InternalError(f"{uri} answered {answer.code}")


def _cut_short(asked: Deferred[Answer]) -> Deferred[Answer]:
    """The same answer; cancelled, it ends as cancelled, whatever the sender makes of that: the run did not have an answer."""

    def cancel(cancelled: Deferred[Answer]) -> None:
        cancelled.errback(CancelledError())
        asked.cancel()

    answered: Deferred[Answer] = Deferred(cancel)
    asked.addBoth(lambda result: None if answered.called else answered.callback(result))
    return answered


async def _fault_of(done: Deferred[_Result]) -> Fault | None:
    try:
        await done
    except Fault as fault:
        return fault
    return None
