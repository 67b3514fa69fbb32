"""Observers of this node's resources: who is told of which change, when, and until when (RFC 7641, section 4).

Responsible for registering within limits, for notifications (rendered anew by the handler, so that rights, ETag and format are those
of a GET at that time), their pace and confirmation, and for every way in which an observation ends. Not responsible for the answer to
the registration itself (`server`) nor for what changes (`Observable`).

Each observer has at most one notification under way. What changes meanwhile is told by one more, of the newest state. A notification is
confirmable where it is the first, after a quiet time, each so many, and where none was confirmed for long; while changes come thick the
others are not, and when they cease the newest state is sent once more, confirmably: whoever is there ends with the newest state, and
whoever is not is noticed. Work is spread over turns of the reactor.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.coap import things
from m2mapp.coap.answers import response_message
from m2mapp.coap.blocks import Key
from m2mapp.coap.context import Context
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.faults import fault_message
from m2mapp.coap.message import Message
from m2mapp.coap.observer import Observable, Observer, ObserverKey, Reason, Registration, State, Subject, cost, numbered
from m2mapp.coap.owners import Shares
from m2mapp.coap.transmission import Outcome, Repeats
from m2mapp.model.errors import Fault, InternalError, Overloaded, PeerFailed
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.principal import Principal
from m2mapp.net.interfaces import Sockaddr

_log = Logger()
_AT_ONCE: Final = 16
"""So many notifications are made in one turn of the reactor: about 2 ms."""
_LOOK_S: Final = 60.0
_SUCCESS: Final = 2

Handle = Callable[[Request], Response | Deferred[Response | None] | None]
PrincipalOf = Callable[[Sockaddr, int], Principal]
Keep = Callable[[Key, Response], None]
"""Keeps a response whose further blocks will be fetched (RFC 7959, section 2.6)."""


class Observers:
    """All observers of one CoAP service. `keep` is told of notifications that are the first of several blocks."""

    def __init__(self, handle: Handle, principal_of: PrincipalOf, keep: Keep, context: Context) -> None:
        self._handle, self._principal_of, self._keep = handle, principal_of, keep
        self._context, self._limits, self._clock = context, context.limits, context.clock
        self._observable: Observable | None = None
        self._observers: OrderedDict[ObserverKey, Observer] = OrderedDict()  # who was heard longest ago comes first
        most = context.limits.observers_per_host
        self._shares: Shares[ObserverKey] = Shares(most, most, context.limits.observers)
        self._silent: dict[Sockaddr, float] = {}  # since when an endpoint has acknowledged nothing
        self._subjects: dict[tuple[tuple[str, ...], bool], Subject] = {}
        self._changed: dict[Subject, None] = {}
        self._queue: deque[Observer] = deque()
        self._turn_call: IDelayedCall | None = None
        self._looking: Deadline | None = None

    def __len__(self) -> int:
        """How many observers there are."""
        return len(self._observers)

    def observe(self, observable: Observable) -> None:
        """Say what can be observed; before that, nothing can. Called once, before the start."""
        self._observable = observable

    # -- coming and going ---------------------------------------------------------------------------------------------------

    def register(self, registration: Registration, message: Message) -> Observer | None:
        """Add who asks with that message, instead of an earlier observer of its endpoint and token (RFC 7641, section 4.1).

        None where the resource cannot be observed, or there are too many observers: it is then answered without Observe.
        """
        earlier = self._observers.get(registration.place.key)
        if earlier is not None:
            self._remove(earlier)
        subject = self._subject(registration, cost(message.options))
        if subject is None:
            return None
        observer = Observer(registration, subject, self._clock.seconds())
        if earlier is not None:
            observer.last_number, observer.confirmed = earlier.last_number, earlier.confirmed
        subject.observers[observer] = None
        self._observers[observer.place.key] = observer
        self._shares.add(observer.place.key, observer.place.address)
        if self._looking is None:
            self._looking = self._context.deadlines.after(_LOOK_S, self._look)
        return observer

    def first(self, observer: Observer, message: Message) -> Message:
        """The answer to a registration as it is sent: with Observe, if it went well; else the observer is none (section 4.1)."""
        if observer.state is not State.STARTING:
            return message
        if message.code >> 5 != _SUCCESS:
            self.end(observer, Reason.ERROR)
            return message
        now = self._clock.seconds()
        observer.shown = (message.code, message.first(things.ETAG))
        observer.sent_at, observer.next_at = now, now + self._limits.observe_pace_s
        self._rest(observer)
        return numbered(message, observer.take_number(self._number()))

    def first_told(self, observer: Observer, outcome: Outcome) -> None:
        """What became of the answer to a registration, where that went separately."""
        if outcome is Outcome.ACKNOWLEDGED:
            self._confirmed(observer)
        elif outcome is not Outcome.CLOSED:
            self.end(observer, Reason.RESET if outcome is Outcome.RESET else Reason.GIVEN_UP)

    def cancel(self, key: ObserverKey) -> None:
        """Its endpoint says that it does not observe with this token any more (RFC 7641, section 3.6). No error where it did not."""
        observer = self._observers.get(key)
        if observer is not None:
            self.end(observer, Reason.CANCELLED)

    def gone(self, address: Sockaddr) -> None:
        """The session of this address is over: so are its observations."""
        for observer in [observer for key, observer in self._observers.items() if key[1] == address]:
            self.end(observer, Reason.SESSION_ENDED)

    def end(self, observer: Observer, reason: Reason) -> None:
        """The observation is over. Ending it again does nothing."""
        if observer.state is not State.ENDED:
            self._remove(observer)
            self._context.counters.observations_ended[reason].add()

    def stop(self) -> None:
        """End everything without a word: who observes finds out by Max-Age (RFC 7641, section 3.3.1)."""
        for observer in list(self._observers.values()):
            self.end(observer, Reason.STOPPED)
        self._queue.clear()
        self._changed.clear()
        if self._turn_call is not None:
            self._turn_call.cancel()
            self._turn_call = None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _subject(self, registration: Registration, cost_bytes: int) -> Subject | None:
        """The subject that a registration is for, made if need be; None where it cannot be observed, or not by so many."""
        limits, request = self._limits, registration.request
        flag = request.query_value("subtree")
        key = (request.path, flag is not None and flag != "false")
        subject = self._subjects.get(key)
        if (
            len(self._observers) >= limits.observers
            or self._shares.full(registration.place.address)
            or (subject is not None and len(subject.observers) >= limits.observers_per_resource)
            or cost_bytes > limits.observe_request_bytes
        ):
            self._context.counters.observers_refused.add()
            return None
        if subject is None and self._observable is not None:
            made = Subject(key)
            made.watch = self._observable.watch(key[0], partial(self._on_change, made), subtree=key[1])
            if made.watch is not None:
                subject = self._subjects[key] = made
        return subject

    def _remove(self, observer: Observer) -> None:
        observer.state = State.ENDED
        observer.let_go()
        self._observers.pop(observer.place.key, None)
        self._silent.pop(observer.place.address, None)
        self._shares.remove(observer.place.key, observer.place.address)
        subject = observer.subject
        del subject.observers[observer]
        if not subject.observers:
            del self._subjects[subject.key]
            self._changed.pop(subject, None)
            if subject.watch is not None:
                subject.watch.stop()

    # -- from a change to a turn --------------------------------------------------------------------------------------------

    def _on_change(self, subject: Subject, *, again: bool = False) -> None:
        """One change, of perhaps thousands in a row: nothing is done here but to note it."""
        subject.version += 1
        for observer in subject.observers if again else ():
            observer.must_send = True
        self._changed[subject] = None
        self._work()

    def _work(self) -> None:
        if self._turn_call is None:
            self._turn_call = self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        """Make some notifications, and the others in later turns."""
        self._turn_call = None
        changed, self._changed = self._changed, {}
        for subject in changed:
            for observer in subject.observers:
                if observer.state is State.IDLE and observer.behind:
                    self._due(observer)
        try:
            for _ in range(min(_AT_ONCE, len(self._queue))):
                observer = self._queue.popleft()
                if observer.state is State.QUEUED:
                    self._render(observer)
        finally:
            if self._queue:
                self._work()

    def _due(self, observer: Observer) -> None:
        """It is to be told the newest state, as soon as its pace allows."""
        wait_s = observer.next_at - self._clock.seconds()
        if observer.deadline is not None:
            observer.deadline.cancel()
        if wait_s > 0:
            observer.state = State.PACED
            observer.deadline = self._context.deadlines.after(wait_s, partial(self._enqueue, observer))
        else:
            self._enqueue(observer)

    def _enqueue(self, observer: Observer) -> None:
        observer.deadline = None
        observer.state = State.QUEUED
        self._queue.append(observer)
        self._work()

    def _rest(self, observer: Observer) -> None:
        """Nothing is under way: wait for a change, unless there has been one, or for the end of a burst."""
        observer.state = State.IDLE
        if observer.behind:
            self._due(observer)
        elif observer.unconfirmed and observer.deadline is None:
            observer.deadline = self._context.deadlines.after(self._limits.observe_settle_s, partial(self._settle, observer))

    def _settle(self, observer: Observer) -> None:
        """No change has followed one that was told by a message that may be lost: tell it once more, confirmably."""
        observer.deadline = None
        if observer.state is State.IDLE:
            observer.must_send = True
            self._enqueue(observer)

    def _look(self) -> None:
        """Probe those of whom nothing was heard for long: a confirmable notification at least every 24 hours (section 4.5)."""
        self._looking = self._context.deadlines.after(_LOOK_S, self._look) if self._observers else None
        before = self._clock.seconds() - self._limits.observe_probe_s
        for observer in self._observers.values():
            if observer.heard_at > before:
                break
            if observer.state is State.IDLE:
                observer.must_send = True
                self._due(observer)

    # -- one notification ---------------------------------------------------------------------------------------------------

    def _render(self, observer: Observer) -> None:
        """Ask the handler again what the observer asked."""
        observer.state, observer.seen = State.RENDERING, observer.subject.version
        place = observer.place
        try:
            principal = self._principal_of(place.address, place.interface)
            result = self._handle(observer.registration.request._replace(principal=principal))
        except Exception:  # noqa: BLE001 - the one catch-all of this entry point: a failing handler ends this observation alone
            self._not_rendered(observer, Failure())
            return
        if isinstance(result, Deferred):
            result.addCallback(partial(self._rendered, observer)).addErrback(partial(self._not_rendered, observer))
        else:
            self._guarded(observer, result)

    def _guarded(self, observer: Observer, response: Response | None) -> None:
        try:
            self._rendered(observer, response)
        except Exception:  # noqa: BLE001 - as above, for what a response cannot be told as
            self._not_rendered(observer, Failure())

    def _rendered(self, observer: Observer, response: Response | None) -> None:
        """The newest state is there: tell it, unless it is what was told last."""
        if observer.state is not State.RENDERING:
            return
        if response is None:
            raise ValueError("a handler has no answer to a request that was sent to this node alone")
        registration = observer.registration
        message, block = response_message(response, Method.GET, registration.asked, observer.place.token)
        if not observer.must_send and not observer.subject.key[1] and observer.shows_the_same(message):
            self._rest(observer)
            return
        if block is not None:  # The first goes with the notification, the observer fetches the others by GET (RFC 7959, section 2.6).
            self._keep(registration.transfer, response)
        self._send(observer, message)

    def _send(self, observer: Observer, message: Message) -> None:
        now, place, parameters = self._clock.seconds(), observer.place, self._context.parameters
        confirmable = self._is_to_confirm(observer, now)
        whole = numbered(message, observer.take_number(self._number()))._replace(mtype=things.CON if confirmable else things.NON)
        observer.let_go()
        repeats = Repeats(parameters.ack_timeout_s * 2**observer.attempts, 0)
        try:
            observer.transmission = place.layer.send(place.address, whole, partial(self._told, observer), repeats, place.local)
        except (Overloaded, PeerFailed):
            observer.must_send = True
            observer.next_at = now + parameters.ack_timeout_s
            self._due(observer)
            return
        self._context.counters.notifications.add()
        observer.shown = (message.code, message.first(things.ETAG))
        observer.must_send = False
        observer.sent_at = now
        if confirmable:
            observer.state = State.SENT
            return
        observer.unconfirmed += 1
        observer.next_at = now + max(self._limits.observe_pace_s, self._rtt_s(observer))
        self._rest(observer)

    def _is_to_confirm(self, observer: Observer, now_s: float) -> bool:
        limits = self._limits
        return (
            not observer.confirmed
            or observer.must_send
            or observer.unconfirmed >= limits.observe_unconfirmed
            or now_s - observer.sent_at >= limits.observe_settle_s
            or now_s - observer.heard_at >= limits.observe_confirm_s
        )

    def _rtt_s(self, observer: Observer) -> float:
        """The round-trip time: no more than one notification in that time (RFC 7641, section 4.5.1); 3 s where none was seen."""
        peer = observer.place.layer.peers.find(observer.place.address)
        return 3.0 if peer is None or peer.rtt_s is None else peer.rtt_s

    def _told(self, observer: Observer, outcome: Outcome) -> None:
        """What became of the last notification."""
        observer.transmission = None
        if observer.state is State.ENDED or outcome is Outcome.CLOSED:
            return
        if outcome is Outcome.RESET:
            self.end(observer, Reason.RESET)
        elif outcome is Outcome.ACKNOWLEDGED:
            observer.next_at = self._clock.seconds() + self._limits.observe_pace_s
            self._confirmed(observer)
            self._rest(observer)
        elif observer.attempts < self._context.parameters.max_retransmit and not self._is_gone(observer.place.address):
            # RFC 7641, section 4.5.2: what is sent next is the state as it is then, with a new number, at twice the time.
            observer.attempts += 1
            observer.must_send = True
            self._context.counters.retransmitted.value += 1
            self._enqueue(observer)
        else:
            self._give_up(observer.place.address)

    def _is_gone(self, address: Sockaddr) -> bool:
        """Whether an endpoint has acknowledged nothing, to any of its observers, in the time that one message is given."""
        now = self._clock.seconds()
        return now - self._silent.setdefault(address, now) >= self._context.parameters.max_transmit_wait_s

    def _give_up(self, address: Sockaddr) -> None:
        """Nobody is there: all that this endpoint observed is over (section 4.5)."""
        for observer in [one for one in self._observers.values() if one.place.address == address]:
            self.end(observer, Reason.GIVEN_UP)

    def _confirmed(self, observer: Observer) -> None:
        """The observer is there, and wants it."""
        if observer.state is State.ENDED:
            return
        self._silent.pop(observer.place.address, None)
        observer.confirmed = True
        observer.attempts = observer.unconfirmed = 0
        observer.heard_at = self._clock.seconds()
        self._observers.move_to_end(observer.place.key)

    def _not_rendered(self, observer: Observer, failure: Failure) -> None:
        """What a GET would not get any more ends the observation, with the response that says so (RFC 7641, section 4.2)."""
        if observer.state is not State.RENDERING:
            return
        fault, trace = failure.value, observer.registration.request.trace
        if not isinstance(fault, Fault):
            _log.failure("a notification to {to} failed (trace {trace})", failure, to=observer.place.address[0], trace=trace)
            self._context.counters.failed.add()
            fault = InternalError()
        place = observer.place
        self.end(observer, Reason.ERROR)
        last = fault_message(fault, place.token, trace)._replace(mtype=things.CON)
        try:
            place.layer.send(place.address, last, _ignore, None, place.local)
            self._context.counters.notifications.add()
        except (Overloaded, PeerFailed):
            self._context.counters.refused.add()

    def _number(self) -> int:
        return self._observable.number() if self._observable is not None else 0


def _ignore(_outcome: Outcome) -> None:
    """The observation is over, whatever becomes of the last message."""
