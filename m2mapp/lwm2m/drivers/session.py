"""One bootstrap session with one client: asks what the exchange says, one request at a time, until it is over or its time is.

Responsible for the waiting. Not responsible for who may have a session, nor for what is kept of it (`service`).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.lwm2m.bootstrap import Ask, Exchange, Phase, advance
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer

_log = Logger()

Send = Callable[[Ask, float], Deferred[Answer]]
"""Sends one request to the client and waits for the answer for so many seconds at most."""


class Session:
    """A session. `on_step` is told each request and its answer's code, empty where none came; `on_end` once, why it failed, or nothing.

    After `cancel` nobody is told anything. `limit_s` is for the whole session.
    """

    def __init__(
        self,
        exchange: Exchange,
        send: Send,
        reactor: IReactorTime,
        limit_s: float,
        on_step: Callable[[Ask, str], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._exchange, self._send, self._reactor, self._limit_s = exchange, send, reactor, limit_s
        self._on_step, self._on_end = on_step, on_end
        self._asking: Deferred[Answer] | None = None
        self._beginning: IDelayedCall | None = None
        self._ends_at = 0.0
        self._over = False

    def start(self) -> None:
        """Begin in the next turn of the reactor, when the answer to the client's own request is on its way."""
        self._ends_at = self._reactor.seconds() + self._limit_s
        self._beginning = self._reactor.callLater(0, self._next)

    def cancel(self) -> None:
        """Ask nothing more; calling it again does nothing."""
        self._over = True
        if self._beginning is not None and self._beginning.active():
            self._beginning.cancel()
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()

    def _next(self) -> None:
        ask = self._exchange.ask()
        left_s = self._ends_at - self._reactor.seconds()
        if ask is None or left_s <= 0:
            self._end("" if ask is None else f"it was not over after {self._limit_s:g} s")
            return
        asking = self._asking = self._send(ask, left_s)
        asking.addCallback(self._answered, ask).addErrback(self._failed, ask)

    def _answered(self, answer: Answer, ask: Ask) -> None:
        self._asking = None
        self._on_step(ask, answer.code)
        self._exchange = advance(self._exchange, answer.code, answer.payload)
        if self._exchange.phase is Phase.FAILED:
            self._end(f"{ask.name} was answered with {answer.code}")
        else:
            self._next()

    def _failed(self, failure: Failure, ask: Ask) -> None:
        self._asking = None
        if self._over and failure.check(CancelledError):
            return
        error = failure.value
        if isinstance(error, Fault):
            self._on_step(ask, "")
        else:
            _log.failure("a bootstrap session failed at {step}", failure, step=ask.name)
        self._end(f"{ask.name}: {error.detail if isinstance(error, Fault) else 'an error of the server'}")

    def _end(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._on_end(why)
