"""Sends a request to a URI, whatever its scheme, and gives the answer (`IRequester`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NoReturn

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.clients.names import Names, OwnUris
from m2mapp.coap.faults import CODES
from m2mapp.coap.numbers import code_text
from m2mapp.formats.uris import Uri, parse_uri, path_uri
from m2mapp.model.errors import DeadlinePassed, Fault, NotSent, NotSupported
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer, Outgoing, Request, Response, Status

Send = Callable[[Outgoing, Uri, str, int], Deferred[Answer]]
"""Sends by one scheme: the request, its URI, and the address and port where that is. Fails with a `Fault`."""

AnswerHere = Callable[[Request], Response | Deferred[Response]]
"""Answers a request that is meant for this node alone; raises, or fails with, a `Fault`."""

LOOK_UP_S = 10.0
"""So long a name is looked up at most; the system's resolver has no bound of its own."""
_LEAST_S = 0.001
_CODES = {Status.CREATED: "2.01", Status.DELETED: "2.02", Status.VALID: "2.03", Status.CHANGED: "2.04", Status.CONTENT: "2.05"}


@implementer(IRequester)
class Requester:
    """Sends to this node itself (by the dispatcher, without a datagram), or by the scheme that the URI has."""

    def __init__(self, reactor: IReactorTime, is_own: OwnUris, names: Names, schemes: Mapping[str, Send]) -> None:
        self._reactor, self._is_own, self._names, self._schemes = reactor, is_own, names, dict(schemes)
        self._answer_here: AnswerHere | None = None

    def connect(self, answer_here: AnswerHere) -> None:
        """Say who answers for this node's own URIs. Called once, before the start."""
        self._answer_here = answer_here

    def send(self, outgoing: Outgoing) -> Deferred[Answer]:
        """The answer to the request; fails with `PeerFailed`, `DeadlinePassed`, or what keeps it from being sent.

        `timeout_s` is for the whole, the name's look-up too. An own URI is answered with the code that CoAP would give, faults too.
        """
        try:
            uri = parse_uri(outgoing.uri)
            if self._answer_here is not None and self._is_own(uri):
                return self._send_here(outgoing, uri, self._answer_here)
            send = self._schemes.get(uri.scheme)
            if send is None:
                raise NotSupported(f"{outgoing.uri}: this version sends no {uri.scheme}")
        except Fault as fault:
            return fail(fault)
        if uri.address is not None:
            return send(outgoing, uri, uri.host, uri.port)
        return self._look_up_and_send(outgoing, uri, send)

    def _look_up_and_send(self, outgoing: Outgoing, uri: Uri, send: Send) -> Deferred[Answer]:
        began = self._reactor.seconds()
        found = self._names.find(uri)
        found.addTimeout(max(_LEAST_S, min(LOOK_UP_S, outgoing.timeout_s)), self._reactor, lambda _, s: _not_found(uri, s))

        def send_there(place: tuple[str, int]) -> Deferred[Answer]:
            left_s = max(_LEAST_S, outgoing.timeout_s - (self._reactor.seconds() - began))
            return send(replace(outgoing, timeout_s=left_s), uri, *place)

        return found.addCallback(send_there)

    def _send_here(self, outgoing: Outgoing, uri: Uri, answer_here: AnswerHere) -> Deferred[Answer]:
        started = self._reactor.seconds()
        request = Request(
            method=outgoing.method,
            path=uri.path,
            query=uri.query,
            payload=outgoing.payload,
            content_type=outgoing.content_type,
            accept=(outgoing.accept,) if outgoing.accept else (),
            principal=outgoing.principal,
            trace=outgoing.trace,
            deadline=started + outgoing.timeout_s,
            request_id=outgoing.request_id,
            cause=outgoing.cause,
            requester=outgoing.requester,
        )
        try:
            answered = answer_here(request)
        except Exception:  # noqa: BLE001 - whatever it is, it is the answer's failure and not that of whoever sends
            answered = fail(Failure())
        if isinstance(answered, Response):
            return succeed(self._answer(answered, started))
        told = answered.addCallbacks(self._answer, self._failed, callbackArgs=(started,), errbackArgs=(started,))
        # Behind the callbacks: that this node itself is slow is no answer of it.
        return told.addTimeout(max(_LEAST_S, outgoing.timeout_s), self._reactor, _late)

    def _answer(self, response: Response, started: float) -> Answer:
        location = path_uri(response.location) if response.location is not None else None
        elapsed = self._reactor.seconds() - started
        code = _CODES[response.status]
        return Answer(
            code,
            response.payload,
            response.content_type,
            elapsed_s=elapsed,
            location=location,
            etag=response.etag,
            max_age_s=response.max_age_s,
        )

    def _failed(self, failure: Failure, started: float) -> Answer | Failure:
        fault = failure.value
        if not isinstance(fault, Fault):
            return failure
        elapsed = self._reactor.seconds() - started
        return Answer(code_text(CODES[fault.kind]), fault.detail.encode(), "text/plain", elapsed_s=elapsed)


def _late(_result: object, timeout_s: float) -> NoReturn:
    raise DeadlinePassed(f"no answer within {timeout_s:.3g} s")


def _not_found(uri: Uri, timeout_s: float) -> NoReturn:
    raise NotSent(f"the host {uri.host} was not found within {timeout_s:.3g} s")
