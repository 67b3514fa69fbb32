"""Requests that come in by CoAP: each becomes a `Request` to the handler, and what the handler says becomes the response.

Responsible for the whole of that: options, piggybacked or separate, blocks, multicast rules, limits, and an answer to every unicast
request, 5.00 if need be. Not responsible for message types and IDs (`exchange`), for who has shown its address (`proof`), nor for what the
resources are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.coap import things
from m2mapp.coap.accounts import count
from m2mapp.coap.answers import continue_message, is_wanted, response_message
from m2mapp.coap.blocks import Block, KeptAnswers, Key, Uploads, transfer_key
from m2mapp.coap.context import Context
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.echo import SMALL, Allowance
from m2mapp.coap.exchange import MessageLayer
from m2mapp.coap.faults import Refused, fault_message, refusal_message
from m2mapp.coap.message import Message
from m2mapp.coap.observer import REGISTER, Observable, Observer, Place, Registration
from m2mapp.coap.observers import Observers
from m2mapp.coap.owners import of_one_network
from m2mapp.coap.peers import Inbound
from m2mapp.coap.proof import Proof
from m2mapp.coap.requests import Asked, in_blocks_of, method_of, read_options
from m2mapp.coap.transmission import repeats_within
from m2mapp.model.errors import Fault, InternalError, Malformed, Overloaded, TooManyRequests
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.principal import Principal
from m2mapp.net.interfaces import Sockaddr

_log = Logger()
_EXPIRE_S: Final = 30.0
_ERRORS_FROM: Final = 4

Handle = Callable[[Request], Response | Deferred[Response | None] | None]
"""`IHandle.handle`. None, or a Deferred of it, stays silent: only for a request that a group was asked."""


class Principals(Protocol):
    """Who a source is: `access.CoapAccess`, or a test's."""

    def principal(self, source: Sockaddr, interface: int) -> Principal:
        """The principal of a source whose datagram came in by the interface of that index; its `source` has the zone."""

    def near(self, source: Sockaddr, interface: int) -> bool:
        """Whether its address cannot well be forged: it is on the link that it came in by, or this node gave it the address."""


class _Serving:
    """One request while it is served. No slots: most attributes keep the value that the class has."""

    asked: Asked | None = None
    method = Method.GET
    deadline: Deadline | None = None
    until: float | None = None
    observer: Observer | None = None
    from_kept = False
    under_way = False
    done = False

    def __init__(self, layer: MessageLayer, inbound: Inbound, message: Message, trace: str) -> None:
        self.layer = layer
        self.inbound = inbound
        self.message = message
        self.trace = trace


class Server:
    """Serves one handler on all ports of the endpoint."""

    def __init__(self, handle: Handle, principals: Principals, context: Context) -> None:
        self._handle = handle
        self._principals = principals
        self._context = context
        self._clock = context.clock
        self._limits = context.limits
        # Trace ids need not be guarded against guessing, and asking the system for each took 1 us more.
        self._traces = random.Random(context.rng.getrandbits(128))  # noqa: S311
        self._proof = Proof(principals.near, context)
        self._expiring: Deadline | None = None
        self._leisurely: dict[_Serving, Deadline] = {}
        self.kept = KeptAnswers(context.limits)
        self.uploads = Uploads(context.limits)
        self.observers = Observers(handle, principals.principal, self._keep, context)
        self.under_way = 0

    def observe(self, observable: Observable) -> None:
        """Say what clients can observe; without that every Observe option is ignored. Called once, before the start."""
        self.observers.observe(observable)

    def on_request(self, layer: MessageLayer, inbound: Inbound, message: Message) -> None:
        """Serve one request. Never raises."""
        self._context.counters.requests.value += 1
        self._guarded(_Serving(layer, inbound, message, "%032x" % (self._traces.getrandbits(128) or 1)), self._begin)

    def gone(self, address: Sockaddr) -> None:
        """The session of this address is over. What it has under way is not answered any more; its transfers go when they are idle."""
        self.observers.gone(address)

    def stop(self) -> None:
        """Forget transfers that are not whole, and observers; what handlers still have under way is not answered any more."""
        self.observers.stop()
        if self._expiring is not None:
            self._expiring.cancel()
            self._expiring = None
        for serving, deadline in list(self._leisurely.items()):
            deadline.cancel()
            self._finish(serving)
        self._leisurely.clear()
        self.kept = KeptAnswers(self._limits)
        self.uploads = Uploads(self._limits)

    def _guarded(self, serving: _Serving, step: Callable[[_Serving], None]) -> None:
        """Take a step; what it raises is the answer."""
        try:
            step(serving)
        except Fault as fault:
            self._send(serving, fault_message(fault, serving.message.token, serving.trace), fault.leisure_s)
        except Refused as refused:
            self._refuse(serving, refused)
        except Exception:  # noqa: BLE001 - the one catch-all of this entry point: a failing handler is 5.00, never silence
            self._fail(serving, Failure())

    def _refuse(self, serving: _Serving, refused: Refused) -> None:
        if refused.code == things.BAD_OPTION and not serving.inbound.confirmable:
            # RFC 7252, section 5.4.1: a non-confirmable message is rejected; a Reset is never the answer to multicast (8.1).
            self._finish(serving)
            (serving.layer.drop if serving.inbound.multicast else serving.layer.reject)(serving.inbound)
        else:
            self._send(serving, refusal_message(refused, serving.message.token, serving.trace))

    def _fitted(self, serving: _Serving, response: Response, message: Message, block: Block | None) -> tuple[Message, Block | None]:
        """What goes to an unproven source in place of that answer: a demand for Echo, or smaller blocks (RFC 9175, section 2.4).

        What is not a GET has been done already, and cannot be asked for again.
        """
        allowance = Allowance.of(serving.message)
        if allowance.fits(message):
            return message, block
        if self._proof.by_echo and serving.method is Method.GET:
            return allowance.shortened(refusal_message(self._proof.demand(serving.inbound), message.token, serving.trace)), None
        asked = in_blocks_of(serving.asked or Asked(), allowance.exponent(message))
        return response_message(response, serving.method, asked, message.token)

    def _fail(self, serving: _Serving, failure: Failure) -> None:
        _log.failure("the answer to {source} failed (trace {trace})", failure, source=serving.inbound.peer.address[0], trace=serving.trace)
        self._context.counters.failed.add()
        self._send(serving, fault_message(InternalError(), serving.message.token, serving.trace))

    def _begin(self, serving: _Serving) -> None:
        """Read the request and hand it on."""
        message = serving.message
        asked = serving.asked = read_options(message, self._limits.options)
        serving.method = method_of(message)
        if asked.echo is not None:
            self._proof.take(serving.layer, serving.inbound, asked.echo)
        self._check_room(serving)
        payload: bytes | None = message.payload
        if asked.block1 is not None or (asked.block2 is not None and asked.block2.number):
            payload = self._blocks(serving, asked)
            if payload is None:
                return
        request = self._request(serving, asked, payload or b"")
        if asked.observe is not None or self.observers:
            self._observe(serving, asked, request)
        result = self._handle(request)
        if result is None or isinstance(result, Response):  # not asked of Deferred, an abstract class, which took 0.5 us
            self._answer(serving, result)
        else:
            self._wait(serving, result)

    def _request(self, serving: _Serving, asked: Asked, payload: bytes) -> Request:
        inbound = serving.inbound
        source = inbound.peer.address
        deadline = serving.until = None if asked.deadline_ms is None else self._clock.seconds() + asked.deadline_ms / 1000
        principal = self._principals.principal(source, inbound.interface)
        # By position, because names took 1.2 us more; mypy checks the types, which differ from each to the next.
        return Request(
            serving.method,
            asked.path,
            asked.query,
            payload,
            asked.content_type,
            asked.accepted_types,
            asked.conditions,
            principal,
            (principal.source, source[1]),
            serving.trace,
            deadline,
            asked.request_id,
            asked.cause,
            inbound.multicast,
            False,
            asked.block2 is not None and asked.block2.number > 0,
            (serving.layer, source, inbound.local),
            asked.requester,
        )

    def _observe(self, serving: _Serving, asked: Asked, request: Request) -> None:
        """Add or remove an observer as Observe says (RFC 7641, section 2); where it cannot be, the request is served without.

        A token that its endpoint uses for another request is no longer one of an observation. The further blocks of a notification
        may be asked for with any token.
        """
        inbound = serving.inbound
        if inbound.multicast is not None or (asked.block2 is not None and asked.block2.number):
            return
        place = Place(serving.layer, inbound.peer.address, inbound.local, inbound.interface, inbound.token)
        may = serving.method is Method.GET and asked.block1 is None and not asked.no_response
        if asked.observe == REGISTER and may:
            # Nothing is heard from the source when it is told, and no time or identifier of this one request holds then.
            again = request._replace(source=None, deadline=None, request_id=None, requester=None)
            self._proof.want(serving.inbound)
            if self._proof.is_missing(serving.inbound):
                asked = in_blocks_of(asked, Allowance.of(serving.message).exponent())
            registration = Registration(place, again, asked, transfer_key(serving.message, place.address))
            serving.observer = self.observers.register(registration, serving.message)
        else:
            self.observers.cancel(place.key)

    def _check_room(self, serving: _Serving) -> None:
        """Raise where this source, or all together, have too much under way."""
        peer = serving.inbound.peer
        if peer.under_way >= self._limits.requests_per_peer:
            self._context.counters.refused.add()
            raise TooManyRequests(f"at most {self._limits.requests_per_peer} requests of one source at a time")
        if not self.under_way:
            return
        account, limits = peer.account, self._limits
        if account is not None and (
            account.under_way >= limits.requests_per_host
            or (account.network is not None and account.network.under_way >= of_one_network(limits.requests))
        ):
            self._context.counters.refused.add()
            raise TooManyRequests("too many requests of one host or network at a time")
        if self.under_way >= limits.requests:
            self._context.counters.refused.add()
            raise Overloaded

    def _blocks(self, serving: _Serving, asked: Asked) -> bytes | None:
        """The whole payload of a request that comes in blocks or asks for a later one; None where the block has been answered."""
        message, now = serving.message, self._clock.seconds()
        if serving.inbound.multicast is not None:
            raise Malformed("Block1", "a group request", "sent to one node (RFC 7959, section 2.8)")
        key = transfer_key(message, serving.inbound.peer.address)
        payload = message.payload
        if asked.block1 is not None:
            self._expire_later()
            if asked.block1.more and not asked.block1.number and len(self.uploads) * 2 >= self._limits.uploads:
                self._proof.want(serving.inbound)
            whole = self.uploads.add(key, message, asked.block1, now)
            if whole is None:
                self._send(serving, continue_message(asked.block1, message.token))
                return None
            payload = whole
        if asked.block2 is not None and asked.block2.number:
            kept = self.kept.find(key, now)
            if kept is not None:
                serving.from_kept = True
                self._answer(serving, kept)
                return None
            if serving.method is not Method.GET:
                raise Refused(things.REQUEST_ENTITY_INCOMPLETE, "the answer whose block is asked for is not kept any more")
        return payload

    def _wait(self, serving: _Serving, result: Deferred[Response | None]) -> None:
        """Answer when the handler does; acknowledge before, if that takes its time (RFC 7252, section 5.2.2)."""
        self._count(serving)
        result.addCallbacks(partial(self._came, serving), partial(self._went_wrong, serving))
        if not serving.done and serving.inbound.confirmable:
            delay_s = self._limits.ack_delay_s if serving.until is None else self._limits.ack_delay_in_group_s
            serving.deadline = self._context.deadlines.after(delay_s, partial(serving.layer.acknowledge, serving.inbound))

    def _came(self, serving: _Serving, response: Response | None) -> None:
        self._guarded(serving, lambda _serving: self._answer(serving, response))

    def _went_wrong(self, serving: _Serving, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, Fault):
            self._send(serving, fault_message(error, serving.message.token, serving.trace), error.leisure_s)
        else:
            self._fail(serving, failure)

    def _answer(self, serving: _Serving, response: Response | None) -> None:
        """Send what the handler says, or a block of it."""
        if response is None:
            if serving.inbound.multicast is None:
                raise ValueError("a handler has no answer to a request that was sent to this node alone")
            self._finish(serving)
            serving.layer.drop(serving.inbound)
            return
        asked = serving.asked or Asked()
        message, block = response_message(response, serving.method, asked, serving.message.token)
        if len(message.payload) > SMALL and self._proof.is_missing(serving.inbound):
            message, block = self._fitted(serving, response, message, block)
        if block is not None and not serving.from_kept:
            self._keep(transfer_key(serving.message, serving.inbound.peer.address), response)
        if serving.inbound.multicast is None and asked.no_response is None:
            self._send_now(serving, message)
        else:
            self._send(serving, message, response.leisure_s)

    def _send(self, serving: _Serving, message: Message, leisure_s: float | None = None) -> None:
        """Send a response, unless it is not wanted; of a group, after a random part of the leisure time (RFC 7252, section 8.2)."""
        multicast = serving.inbound.multicast is not None
        if message.code >> 5 >= _ERRORS_FROM and len(message.payload) > SMALL and self._proof.is_missing(serving.inbound):
            message = Allowance.of(serving.message).shortened(message)
        if not is_wanted(message, serving.asked, multicast):
            self._context.counters.suppressed.add()
            self._finish(serving)
            serving.layer.drop(serving.inbound)
            return
        leisure = self._context.parameters.default_leisure_s if leisure_s is None else leisure_s
        if multicast and leisure > 0:
            self._count(serving)
            delay = self._context.rng.uniform(0.0, leisure)
            self._leisurely[serving] = self._context.deadlines.after(delay, partial(self._send_now, serving, message))
        else:
            self._send_now(serving, message)

    def _send_now(self, serving: _Serving, message: Message) -> None:
        if serving.under_way:
            self._leisurely.pop(serving, None)
            self._finish(serving)
        observer = serving.observer
        if observer is None:
            parameters, until = self._context.parameters, serving.until
            repeats = None if until is None else repeats_within(until - self._clock.seconds(), parameters.ack_timeout_s)
            serving.layer.answer(serving.inbound, message, repeats=repeats)
        else:
            serving.layer.answer(serving.inbound, self.observers.first(observer, message), partial(self.observers.first_told, observer))

    def _keep(self, key: Key, response: Response) -> None:
        """Keep a response while its blocks are fetched."""
        self.kept.keep(key, response, self._clock.seconds())
        self._expire_later()

    def _count(self, serving: _Serving) -> None:
        if not serving.under_way:
            serving.under_way = True
            serving.inbound.peer.under_way += 1
            count(serving.inbound.peer.account, 1)
            self.under_way += 1

    def _finish(self, serving: _Serving) -> None:
        """The request is done with."""
        serving.done = True
        if serving.under_way:
            serving.under_way = False
            serving.inbound.peer.under_way -= 1
            count(serving.inbound.peer.account, -1)
            self.under_way -= 1
        if serving.deadline is not None:
            serving.deadline.cancel()
            serving.deadline = None

    def _expire_later(self) -> None:
        if self._expiring is None:
            self._expiring = self._context.deadlines.after(_EXPIRE_S, self._expire)

    def _expire(self) -> None:
        """Drop transfers that were left, and look again while there are any."""
        self._expiring = None
        now = self._clock.seconds()
        self.kept.expire(now)
        self.uploads.expire(now)
        if self.kept or self.uploads:
            self._expire_later()
