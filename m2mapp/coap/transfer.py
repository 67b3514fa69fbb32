"""One request of this node to one peer, from the first message to the whole answer, in blocks where need be (RFC 7959).

Responsible for the exchange of one request: token, blocks of the payload, blocks of the answer, the time. Not responsible for URIs
(`addresses`) and not for repeating messages (`exchange`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred

from m2mapp.coap import numbers, things
from m2mapp.coap.addresses import location_text
from m2mapp.coap.blocks import LARGEST_SIZE_EXPONENT, Block, next_number
from m2mapp.coap.context import Context
from m2mapp.coap.endpoint import Endpoint
from m2mapp.coap.exchange import MessageLayer
from m2mapp.coap.message import Message, Options, number_in, uint
from m2mapp.coap.transmission import Outcome, Repeats, Transmission
from m2mapp.model.errors import AnswerTooLarge, DeadlinePassed, Fault, Malformed, PeerFailed
from m2mapp.model.messages import Answer
from m2mapp.net.interfaces import Sockaddr

_RESTARTS: Final = 2
_SUCCESS: Final = 2
_LOCATION: Final = (things.LOCATION_PATH, things.LOCATION_QUERY)
_WHY: Final[dict[Outcome, str]] = {
    Outcome.RESET: "it answered with a Reset",
    Outcome.GIVEN_UP: "it did not acknowledge the request",
    Outcome.GAVE_WAY: "it did not acknowledge the request, and others waited for it",
    Outcome.CLOSED: "the CoAP service has stopped",
}


@dataclass(frozen=True, slots=True)
class Asking:
    """A request as it goes out: its code, its options in order without blocks, its whole payload, and how it is sent.

    `timeout_s` is for the whole, with all blocks; `repeats` None is what the transmission parameters say; `patient`: others go first.
    `way`: the message layer that it leaves by and the address that it leaves from; None where the endpoint and the system choose.
    """

    code: int
    remote: Sockaddr
    options: Options
    payload: bytes = b""
    timeout_s: float = 30.0
    confirmable: bool = True
    repeats: Repeats | None = None
    patient: bool = False
    way: tuple[MessageLayer, str | None] | None = None


def critical_unknown(message: Message) -> int | None:
    """The first option of a response that is critical and not known here: the response is rejected for it (RFC 7252, 5.4.1)."""
    for number, _ in message.options:
        if number & 1 and number not in numbers.OPTIONS:
            return number
    return None


def answer_of(message: Message, payload: bytes, source: tuple[str, int], elapsed_s: float) -> Answer:
    """A response as the rest of the program sees it. An unknown Content-Format leaves the media type out."""
    content_format = etag = location = max_age = None
    located = False
    # Most answers of a group have one option or none: one look at each costs a third of a search for each that may be there.
    for number, value in message.options:
        if number == things.CONTENT_FORMAT and content_format is None:
            content_format = value
        elif number == things.ETAG and etag is None:
            etag = value
        elif number == things.MAX_AGE and max_age is None:
            max_age = number_in(value)
        elif number in _LOCATION:
            located = True
    if located:
        location = location_text(message.every(things.LOCATION_PATH), message.every(things.LOCATION_QUERY))
    content_type = None if content_format is None else numbers.media_type_of(number_in(content_format))
    code = numbers.code_text(message.code)
    return Answer(code, payload, content_type, source[0], source[1], elapsed_s, location, etag, max_age)


def echo_of(message: Message) -> bytes | None:
    """The Echo value that a 4.01 asks to be sent back (RFC 9175, section 2.3); None for another answer."""
    value = message.first(numbers.ECHO) if message.code == things.UNAUTHORIZED else None
    return value if value and len(value) <= numbers.OPTIONS[numbers.ECHO].longest else None


def with_option(options: Options, number: int, value: bytes) -> Options:
    """The options with one more, in its place."""
    return tuple(sorted((*options, (number, value)), key=lambda option: option[0]))


class Transfer:
    """One request under way.

    `done` fires with the `Answer`, or fails with `PeerFailed`, `Overloaded` or `DeadlinePassed`; it may be cancelled.
    """

    def __init__(self, asking: Asking, endpoint: Endpoint, context: Context) -> None:
        self._asking = asking
        self._endpoint = endpoint
        self._context = context
        self._layer, self._local = asking.way or (endpoint.layer_to(asking.remote), None)
        self._began = context.clock.seconds()
        self._token: bytes | None = None
        self._transmission: Transmission | None = None
        self._sent = 0
        self._exponent = LARGEST_SIZE_EXPONENT
        self._sending: Block | None = None
        self._restarts = 0
        self._last: tuple[Options, bytes] = ((), b"")
        self._echoed = False
        self._tag: int | None = None
        self._got = bytearray()
        self._first: Message | None = None
        self.done: Deferred[Answer] = Deferred(lambda _: self._end())
        self._deadline = context.deadlines.after(asking.timeout_s, self._too_late)

    def start(self) -> Deferred[Answer]:
        """Send the first message."""
        self._try(self._send_payload)
        return self.done

    def go_on_from(self, first: Message) -> Deferred[Answer]:
        """Fetch what follows a first block that came in another way: as the answer to a group request (RFC 7959, section 2.8)."""
        self._try(lambda: self._on_answer(first))
        return self.done

    def go_on_with(self, echo: bytes) -> Deferred[Answer]:
        """Send the first message with the Echo that the peer asked for in another way: as its answer to a group request."""
        self._last = (self._asking.options, self._asking.payload)
        self._try(lambda: self._repeat_with(echo))
        return self.done

    # -- what comes back ----------------------------------------------------------------------------------------------------

    def on_response(self, message: Message, source: Sockaddr) -> bool:
        """A response with the token. One from another address is not for this request."""
        if source != self._asking.remote:
            return False
        self._let_go()
        self._layer.proven(source)
        self._try(lambda: self._on_message(message))
        return True

    def closed(self, why: str) -> None:
        """There will be no answer any more."""
        self._fail(PeerFailed(f"{self.remote[0]}: {why}"))

    @property
    def remote(self) -> Sockaddr:
        """Whom the request is for."""
        return self._asking.remote

    def _on_message(self, message: Message) -> None:
        unknown = critical_unknown(message)
        if unknown is not None:
            raise PeerFailed(f"{self._asking.remote[0]} answered with the critical option {unknown}")
        echo = echo_of(message)
        if echo is not None and not self._echoed:
            self._repeat_with(echo)
        elif self._sending is None or not self._on_payload_answer(message, self._sending):
            self._on_answer(message)

    def _repeat_with(self, echo: bytes) -> None:
        """The peer wants to know that we receive here: the same once more with its Echo, unless that was so already (RFC 9175, 2.3)."""
        options, payload = self._last
        self._send(with_option(options, numbers.ECHO, echo), payload)
        self._echoed = True

    def _on_payload_answer(self, message: Message, block: Block) -> bool:
        """The answer to a block of the payload: True if the next block went out for it (RFC 7959, sections 2.3 and 2.9)."""
        value = message.first(things.BLOCK1)
        taken = None if value is None else Block.parse(value, "Block1")
        smaller = taken is not None and taken.exponent < block.exponent
        if message.code == things.REQUEST_ENTITY_TOO_LARGE and smaller and taken is not None and block.number == 0:
            self._exponent = taken.exponent
            self._sent = 0
        elif message.code == things.CONTINUE and block.more:
            self._sent = block.start + block.size
            if smaller and taken is not None:
                self._exponent = taken.exponent
        else:
            self._sending = None
            return False
        self._send_payload()
        return True

    def _on_answer(self, message: Message) -> None:
        """An answer, or a block of it (RFC 7959, section 2.4)."""
        value = message.first(things.BLOCK2)
        if value is None or message.code >> 5 != _SUCCESS:
            self._succeed(message, message.payload)
            return
        block = Block.parse(value, "Block2")
        if self._first is not None and message.first(things.ETAG) != self._first.first(things.ETAG):
            self._restart()
            return
        if block.start != len(self._got) or (block.more and len(message.payload) != block.size):
            raise PeerFailed(f"{self._asking.remote[0]} answered with block {block.number}, which is not the one asked for")
        most = self._context.limits.payload_bytes
        if max(number_in(message.first(things.SIZE2) or b""), block.start + len(message.payload)) > most:
            raise AnswerTooLarge(f"{self._asking.remote[0]} answered with more than {most} bytes")
        self._first = self._first or message
        self._endpoint.room.take(len(message.payload))
        self._got += message.payload
        if block.more:
            self._send(with_option(self._options, things.BLOCK2, Block(next_number(block), False, block.exponent).build()), b"")
        else:
            self._succeed(self._first, bytes(self._got))

    def _empty(self) -> None:
        """Keep nothing of what has come."""
        self._endpoint.room.give_back(len(self._got))
        self._got.clear()

    def _restart(self) -> None:
        """The representation changed between two blocks: from its beginning, if asking again does no harm."""
        self._restarts += 1
        if self._restarts > _RESTARTS or self._asking.code != things.GET:
            raise PeerFailed(f"{self._asking.remote[0]}: what was asked for changed while it was fetched")
        self._first = None
        self._empty()
        self._send(self._asking.options, b"")

    # -- what goes out ------------------------------------------------------------------------------------------------------

    def _send_payload(self) -> None:
        """The payload, or its next block."""
        payload = self._asking.payload
        size = 16 << self._exponent
        if len(payload) <= size and not self._sent:
            self._send(self._asking.options, payload)
            return
        end = self._sent + size
        self._sending = Block(self._sent // size, end < len(payload), self._exponent)
        if self._tag is None:
            self._tag = self._endpoint.tags.take(self._kind)
        options = with_option(self._options, things.BLOCK1, self._sending.build())
        if not self._sent:
            options = with_option(options, things.SIZE1, uint(len(payload)))
        self._send(options, payload[self._sent : end])

    @property
    def _options(self) -> Options:
        """The options, with a Request-Tag if another payload goes to the same resource in blocks now (RFC 9175, section 3.3)."""
        return with_option(self._asking.options, numbers.REQUEST_TAG, uint(self._tag)) if self._tag else self._asking.options

    @property
    def _kind(self) -> Hashable:
        """What this transfer has in common with those that the peer could mistake for it."""
        return self._asking.remote, self._asking.code, self._asking.options

    def _send(self, options: Options, payload: bytes) -> None:
        self._last, self._echoed = (options, payload), False
        self._token = self._endpoint.tokens.take(self)
        mtype = things.CON if self._asking.confirmable else things.NON
        message = Message(mtype, self._asking.code, 0, self._token, options, payload)
        asking = self._asking
        self._transmission = self._layer.send(asking.remote, message, self._on_outcome, asking.repeats, self._local, patient=asking.patient)

    def _on_outcome(self, outcome: Outcome) -> None:
        self._transmission = None
        if outcome is not Outcome.ACKNOWLEDGED:
            self._fail(PeerFailed(f"{self._asking.remote[0]}: {_WHY[outcome]}"))

    # -- how it ends --------------------------------------------------------------------------------------------------------

    def _try(self, step: Callable[[], None]) -> None:
        """Take a step; a fault ends the request."""
        try:
            step()
        except Malformed as fault:
            self._fail(PeerFailed(f"{self._asking.remote[0]} answered with {fault.detail}"))
        except Fault as fault:
            self._fail(fault)

    def _too_late(self) -> None:
        self._fail(DeadlinePassed(f"{self._asking.remote[0]} did not answer in {self._asking.timeout_s:g} s"))

    def _succeed(self, message: Message, payload: bytes) -> None:
        self._end()
        remote = self._asking.remote
        elapsed_s = self._context.clock.seconds() - self._began
        self.done.callback(answer_of(message, payload, (self._endpoint.address_text(remote), remote[1]), elapsed_s))

    def _fail(self, fault: Fault) -> None:
        self._end()
        if not self.done.called:
            self.done.errback(fault)

    def _let_go(self) -> None:
        """Nothing more is sent or awaited for the message that went out last."""
        if self._token is not None:
            self._endpoint.tokens.release(self._token)
            self._token = None
        if self._transmission is not None:
            self._layer.forget(self._transmission)
            self._transmission = None

    def _end(self) -> None:
        self._let_go()
        self._empty()
        self._deadline.cancel()
        if self._tag is not None:
            self._endpoint.tags.release(self._kind, self._tag)
            self._tag = None
