"""Observing a resource of another node (RFC 7641, section 3): registering, which notifications are news, staying registered.

Responsible for one observation at one peer, from the first request to its end. Not responsible for sharing it among several here
(`shared`), nor for names. It lives in memory: whoever owns the wish to observe keeps it, and calls `observe` again after a start.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import Block
from m2mapp.coap.context import Context
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.dtls.address import session_of
from m2mapp.coap.endpoint import Endpoint
from m2mapp.coap.message import Message, number_in, uint
from m2mapp.coap.transfer import Asking, Transfer, answer_of, critical_unknown, echo_of, with_option
from m2mapp.coap.transmission import Outcome, Transmission
from m2mapp.model.errors import DeadlinePassed, Fault, Malformed, PeerFailed
from m2mapp.model.messages import Answer
from m2mapp.net.interfaces import Sockaddr

_log = Logger()
_USUAL_AGE_S: Final = 60
_LONGEST_AGE_S: Final = 86_400
_GRACE_S: Final = (5.0, 15.0)
"""So long, by chance, after Max-Age the interest is registered again (RFC 7641, section 3.3.1)."""
RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 300.0
_HALF: Final = 1 << 23
_ORDERED_S: Final = 128.0
_SUCCESS: Final = 2
_CLIENT_ERROR: Final = 4
_ADD, _REMOVE = uint(0), uint(1)

OnAnswer = Callable[[Answer], object]
OnEnd = Callable[[Fault | Answer], object]
"""Told once what ended the observation: an answer that is no success, or a fault."""


def is_newer(number: int, at_s: float, last: tuple[int, float]) -> bool:
    """Whether a notification of that sequence number, come at that time, is fresher than the last (RFC 7641, section 3.4)."""
    last_number, last_at_s = last
    return (
        (last_number < number and number - last_number < _HALF)
        or (last_number > number and last_number - number > _HALF)
        or at_s > last_at_s + _ORDERED_S
    )


class Observation:
    """One observation. `observed` says whether the peer keeps us as an observer; where it does not, it is asked again now and then.

    `on_answer` gets each newer state, whole, however many blocks it came in; a state told again (the same ETag) is not handed on.
    """

    def __init__(self, asking: Asking, hooks: tuple[OnAnswer, OnEnd], endpoint: Endpoint, context: Context) -> None:
        self._asking, self._endpoint, self._context = asking, endpoint, context
        self._on_answer, self._on_end = hooks
        self._layer = endpoint.layer_to(asking.remote)
        self._token = endpoint.tokens.take(self)
        self._began = context.clock.seconds()
        self._open = True
        self._established = False
        self._retries = 0
        self._echoed = False
        self._transmission: Transmission | None = None
        self._answer_by: Deadline | None = None
        self._again: Deadline | None = None
        self._last: tuple[int, float] | None = None
        self._fetch: Deferred[Answer] | None = None
        self._next_to_fetch: Message | None = None
        self._told: Answer | None = None
        self.observed = False

    def start(self) -> None:
        """Register for the first time. Raises `PeerFailed` or `Overloaded` where that could not be sent."""
        try:
            self._register()
        except Fault:
            self._close()
            raise

    def cancel(self) -> None:
        """Observe no more, and say so to the peer. Nothing is handed on from now on; cancelling again does nothing."""
        if not self._open:
            return
        was_observed = self.observed or self._transmission is not None or self._answer_by is not None
        self._close(keep_token=was_observed)
        if was_observed:
            options = with_option(self._asking.options, things.OBSERVE, _REMOVE)
            message = Message(things.CON, self._asking.code, 0, self._token, options)
            # The answer, and notifications under way, still have a taker until then.
            self._context.deadlines.after(self._context.parameters.max_transmit_wait_s, partial(self._endpoint.tokens.release, self._token))
            try:
                self._layer.send(self._asking.remote, message, _ignore)
            except Fault as fault:
                _log.info("a peer was not told that it is observed no more: {why}", why=fault.detail)

    # -- what comes back ----------------------------------------------------------------------------------------------------

    def on_response(self, message: Message, source: Sockaddr) -> bool:
        """An answer to a registration, or a notification."""
        if source != self._asking.remote:
            return False
        if not self._open:
            return message.mtype == things.ACK or message.first(things.OBSERVE) is None
        unknown = critical_unknown(message)
        if unknown is not None:
            self._end(PeerFailed(f"{source[0]} answered with the critical option {unknown}"))
            return False
        self._layer.proven(source)
        kind = message.code >> 5
        echo = echo_of(message)
        if kind == _SUCCESS:
            self._on_state(message)
        elif echo is not None and not self._echoed:
            self._register_again(echo)
        elif kind == _CLIENT_ERROR or not self._established:
            self._end(self._answer_of(message, message.payload))
        else:
            self._failed(f"it answered {message.code >> 5}.{message.code & 31:02d}")
        return True

    def closed(self, why: str) -> None:
        """There will be no notifications any more."""
        self._end(PeerFailed(f"{self.remote[0]}: {why}"))

    @property
    def remote(self) -> Sockaddr:
        """Whom the observation is at."""
        return self._asking.remote

    def _on_state(self, message: Message) -> None:
        """A representation: hand it on if it is news."""
        value = message.first(things.OBSERVE)
        if not self._is_news(message, value):
            self._context.counters.reordered.add()
            return
        if value is not None:
            self._last = (number_in(value), self._context.clock.seconds())
        self._answered()
        self.observed = value is not None
        self._established = True
        self._retries = 0
        self._register_after(self._max_age_s(message) + self._context.rng.uniform(*_GRACE_S))
        block = message.first(things.BLOCK2)
        try:
            more = block is not None and Block.parse(block, "Block2").more
        except Malformed as fault:
            self._failed(fault.detail)
            return
        if more:
            self._fetch_rest(message)
        else:
            self._drop_fetch()
            self._hand_on(self._answer_of(message, message.payload))

    def _is_news(self, message: Message, value: bytes | None) -> bool:
        """Whether it is newer than what came last.

        What is piggybacked answers the registration that went out last, and so is newer than all that had come before that: also
        where a server that has started again counts from the beginning. Once anything newer has come no such answer is awaited.
        """
        if self._last is None or value is None:
            return True
        if message.mtype == things.ACK:
            return True
        return is_newer(number_in(value), self._context.clock.seconds(), self._last)

    def _fetch_rest(self, first: Message) -> None:
        """Fetch the other blocks (RFC 7959, section 2.6). Of what comes meanwhile the newest is fetched next."""
        if self._fetch is not None:
            self._next_to_fetch = first
            return
        asking = Asking(self._asking.code, self._asking.remote, self._asking.options, b"", self._asking.timeout_s)
        try:
            self._fetch = Transfer(asking, self._endpoint, self._context).go_on_from(first)
        except Fault as fault:
            self._failed(fault.detail)
            return
        self._fetch.addCallbacks(self._fetched, self._not_fetched)

    def _fetched(self, answer: Answer) -> None:
        self._fetch = None
        if answer.ok:
            self._hand_on(answer)
            self._fetch_next()
        else:
            self._failed(f"the blocks of a notification: {answer.code}")

    def _not_fetched(self, failure: Failure) -> None:
        self._fetch = None
        if self._next_to_fetch is not None:
            self._fetch_next()
        elif self._open and not failure.check(CancelledError):
            self._failed(f"the blocks of a notification did not come: {failure.getErrorMessage()}")

    def _fetch_next(self) -> None:
        first, self._next_to_fetch = self._next_to_fetch, None
        if first is not None and self._open and self._fetch is None:
            self._fetch_rest(first)

    def _drop_fetch(self) -> None:
        """What is being fetched is older than what has come."""
        fetch, self._fetch, self._next_to_fetch = self._fetch, None, None
        if fetch is not None:
            fetch.cancel()

    def _hand_on(self, answer: Answer) -> None:
        told = self._told
        if told is not None and told.etag is not None and (told.etag, told.payload) == (answer.etag, answer.payload):
            return
        self._told = answer
        try:
            self._on_answer(answer)
        except Exception:  # noqa: BLE001 - who observes must not keep the observation from going on
            _log.failure("a notification was not handled")

    # -- staying registered -------------------------------------------------------------------------------------------------

    def _register(self, echo: bytes | None = None) -> None:
        """Ask to be an observer, with the same token each time (RFC 7641, section 3.3.1), and once with the Echo asked for."""
        self._answered()
        self._echoed = echo is not None
        options = with_option(self._asking.options, things.OBSERVE, _ADD)
        if echo is not None:
            options = with_option(options, numbers.ECHO, echo)
        message = Message(things.CON, self._asking.code, 0, self._token, options)
        self._answer_by = self._context.deadlines.after(self._asking.timeout_s, self._too_late)
        self._transmission = self._layer.send(self._asking.remote, message, self._on_outcome)

    def _register_after(self, delay_s: float) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = self._context.deadlines.after(delay_s, self._register_again)

    def _register_again(self, echo: bytes | None = None) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = None
        self._context.counters.registered_again.add()
        try:
            self._register(echo)
        except Fault as fault:
            self._failed(fault.detail)

    def _on_outcome(self, outcome: Outcome) -> None:
        self._transmission = None
        if outcome is Outcome.RESET:
            self._failed("it answered with a Reset")
        elif outcome is Outcome.GIVEN_UP:
            self._failed("it did not acknowledge the request")

    def _too_late(self) -> None:
        self._answer_by = None
        if self._established:
            self._failed("it did not answer in time")
        else:
            self._end(DeadlinePassed(f"{self._asking.remote[0]} did not answer in {self._asking.timeout_s:g} s"))

    def _failed(self, why: str) -> None:
        """Something is missing: ask again, later each time; where there was no answer yet, that is the end."""
        if not self._open:
            return
        self._answered()
        self.observed = False
        if not self._established or session_of(self.remote) is not None:
            # By a session nothing is asked again: the next one may be with a peer that has started again, and knows no other.
            self._end(PeerFailed(f"{self.remote[0]}: {why}"))
            return
        delay_s = min(LONGEST_RETRY_S, RETRY_S * 2**self._retries)
        self._retries = min(self._retries + 1, 16)
        self._register_after(delay_s * self._context.rng.uniform(1.0, 1.5))

    def _answered(self) -> None:
        """Nothing more is sent or awaited for the registration that went out last."""
        if self._transmission is not None:
            self._layer.forget(self._transmission)
            self._transmission = None
        if self._answer_by is not None:
            self._answer_by.cancel()
            self._answer_by = None

    def _max_age_s(self, message: Message) -> float:
        value = message.first(things.MAX_AGE)
        return _USUAL_AGE_S if value is None else min(number_in(value), _LONGEST_AGE_S)

    def _answer_of(self, message: Message, payload: bytes) -> Answer:
        remote = self._asking.remote
        elapsed_s = self._context.clock.seconds() - self._began
        return answer_of(message, payload, (self._endpoint.address_text(remote), remote[1]), elapsed_s)

    # -- how it ends --------------------------------------------------------------------------------------------------------

    def _end(self, why: Fault | Answer) -> None:
        if not self._open:
            return
        self._close()
        try:
            self._on_end(why)
        except Exception:  # noqa: BLE001 - as for notifications
            _log.failure("the end of an observation was not handled")

    def _close(self, *, keep_token: bool = False) -> None:
        self._open = self.observed = False
        self._answered()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._drop_fetch()
        if not keep_token:
            self._endpoint.tokens.release(self._token)


def _ignore(_outcome: Outcome) -> None:
    """A peer that does not hear it learns by the Reset to its next notification."""
