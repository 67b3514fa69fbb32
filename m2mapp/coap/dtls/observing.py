"""Observing a resource over coaps: an observation ends with its session, the wish to observe does not.

Responsible for a new session and a new observation in the place of one that ended. Not responsible for either (`dialer`,
`m2mapp.coap.observation`).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from m2mapp.coap.context import Context
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.observation import LONGEST_RETRY_S, RETRY_S, Observation, OnAnswer, OnEnd
from m2mapp.model.errors import DeadlinePassed, Fault, PeerFailed
from m2mapp.model.messages import Answer
from m2mapp.net.interfaces import Sockaddr

Dial = Callable[[], Deferred[Sockaddr]]
Observe = Callable[[Sockaddr, OnAnswer, OnEnd], Observation]
"""Begins an observation by a session. Raises a `Fault`."""


class SessionObservation:
    """One observation by whatever session there is. It ends as an `Observation` does; before the first answer, also where no session is."""

    def __init__(self, dial: Dial, observe: Observe, hooks: tuple[OnAnswer, OnEnd], context: Context) -> None:
        self._dial, self._observe, self._context = dial, observe, context
        self._on_answer, self._on_end = hooks
        self._dialing: Deferred[Sockaddr] | None = None
        self._observation: Observation | None = None
        self._again: Deadline | None = None
        self._told: Answer | None = None
        self._retries = 0
        self._open = True

    def start(self) -> None:
        """Begin."""
        self._again = None
        self._dialing = self._dial()
        self._dialing.addCallbacks(self._on_session, self._on_failure)

    def cancel(self) -> None:
        """Observe no more, and say so to the peer. Cancelling again does nothing."""
        self._open = False
        if self._dialing is not None:
            self._dialing.cancel()
        if self._observation is not None:
            self._observation.cancel()
        if self._again is not None:
            self._again.cancel()
        self._dialing = self._observation = self._again = None

    def _on_session(self, address: Sockaddr) -> None:
        self._dialing = None
        try:
            self._observation = self._observe(address, self._on_state, self._ended)
        except Fault as fault:
            self._ended(fault)

    def _on_failure(self, failure: Failure) -> None:
        self._dialing = None
        if self._open:
            self._ended(failure.value if isinstance(failure.value, Fault) else PeerFailed(failure.getErrorMessage()))

    def _on_state(self, answer: Answer) -> None:
        told, self._told = self._told, answer
        self._retries = 0
        if told is None or answer.etag is None or (told.etag, told.payload) != (answer.etag, answer.payload):
            self._on_answer(answer)

    def _ended(self, why: Fault | Answer) -> None:
        """An answer that is no success ends it for good; so does a fault before there was any answer. Else it is begun again, later."""
        self._observation = None
        if self._told is None or not isinstance(why, PeerFailed | DeadlinePassed):
            self._open = False
            self._on_end(why)
            return
        delay_s = min(LONGEST_RETRY_S, RETRY_S * 2**self._retries)
        self._retries = min(self._retries + 1, 16)
        self._context.counters.registered_again.add()
        self._again = self._context.deadlines.after(delay_s * self._context.rng.uniform(1.0, 1.5), self.start)
