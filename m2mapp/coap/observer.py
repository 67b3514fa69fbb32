"""The values of the server's side of Observe (RFC 7641): what is observed, by whom, and how far each observer has got.

Responsible for these values and for what can be said of one of them alone: the next sequence number, whether the next notification is
to be confirmable. Not responsible for when anything is sent: `observers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from m2mapp.coap import things
from m2mapp.coap.blocks import Key
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.message import Message, Options, uint
from m2mapp.coap.requests import Asked
from m2mapp.coap.transmission import Transmission
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Request
from m2mapp.net.interfaces import Sockaddr

if TYPE_CHECKING:
    from m2mapp.coap.exchange import MessageLayer

REGISTER: Final = 0
"""The value of Observe that asks to be added; 1 asks to be removed, others have no meaning (RFC 7641, section 2)."""
_NUMBERS: Final = 1 << 24
_OPTION_COSTS: Final = 64

ObserverKey = tuple[int, Sockaddr, bytes]
"""What tells observers apart (RFC 7641, section 4.1): the endpoint, by our port and the peer's address, and the token."""


class Watched(Protocol):
    """A watch on resources, until it is stopped."""

    def stop(self) -> None:
        """No further calls. Stopping again does nothing."""


class OnChange(Protocol):
    """What a change is told to."""

    def __call__(self, *, again: bool = False) -> None:
        """There was a change. `again`: observers are to be told although what they are shown may be what it was."""


class Observable(Protocol):
    """What can be observed; the wiring has it look into the tree."""

    def watch(self, path: Path, on_change: OnChange, *, subtree: bool) -> Watched | None:
        """Call `on_change` for each change of what a GET of the path shows, with `subtree` of all below too. None: it never changes."""

    def number(self) -> int:
        """The number of the last change: it never goes back, not by a restart either."""


class State(Enum):
    """What an observer waits for."""

    STARTING = "the answer to its registration"
    IDLE = "a change"
    QUEUED = "its turn"
    RENDERING = "the representation"
    SENT = "the acknowledgement"
    PACED = "the time of the next notification"
    ENDED = "nothing"


class Reason(Enum):
    """Why an observation ended."""

    CANCELLED = "cancelled"
    RESET = "reset"
    GIVEN_UP = "given_up"
    ERROR = "error"
    SESSION_ENDED = "session_ended"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an observer is: our port and address, the peer's address, the interface that it is reached by, and its token."""

    layer: MessageLayer
    address: Sockaddr
    local: str | None
    interface: int
    token: bytes

    @property
    def key(self) -> ObserverKey:
        """What tells this observer from others."""
        return id(self.layer), self.address, self.token


@dataclass(frozen=True, slots=True)
class Registration:
    """What an observer asked for, once: each notification answers it anew. `transfer` is the key of its further blocks."""

    place: Place
    request: Request
    asked: Asked
    transfer: Key


class Subject:
    """What some observers have in common: the resource. `version` counts its changes."""

    __slots__ = ("key", "observers", "version", "watch")

    def __init__(self, key: tuple[Path, bool]) -> None:
        self.key = key
        self.observers: dict[Observer, None] = {}
        self.version = 0
        self.watch: Watched | None = None


class Observer:
    """One observer and how far it has got.

    `seen` is the version of the subject that it was, or is being, told; `attempts` counts transmissions of a confirmable notification
    that were not acknowledged; `unconfirmed` the notifications since the last that was.
    """

    __slots__ = (
        "attempts",
        "confirmed",
        "deadline",
        "heard_at",
        "last_number",
        "must_send",
        "next_at",
        "place",
        "registration",
        "seen",
        "sent_at",
        "shown",
        "state",
        "subject",
        "transmission",
        "unconfirmed",
    )

    def __init__(self, registration: Registration, subject: Subject, now_s: float) -> None:
        self.registration = registration
        self.place = registration.place
        self.subject = subject
        self.state = State.STARTING
        self.seen = subject.version
        self.last_number = -1
        self.shown: tuple[int, bytes | None] | None = None
        self.transmission: Transmission | None = None
        self.deadline: Deadline | None = None
        self.confirmed = False
        self.must_send = False
        self.attempts = 0
        self.unconfirmed = 0
        self.heard_at = self.sent_at = self.next_at = now_s

    @property
    def behind(self) -> bool:
        """Whether the subject has changed since what it was last told."""
        return self.seen != self.subject.version

    def take_number(self, number: int) -> int:
        """The sequence number of the next notification, given that of the last change: above all before (RFC 7641, section 4.4)."""
        self.last_number = max(number, self.last_number + 1)
        return self.last_number % _NUMBERS

    def shows_the_same(self, message: Message) -> bool:
        """Whether it was told this very representation last, by its ETag."""
        etag = message.first(things.ETAG)
        return etag is not None and self.shown == (message.code, etag)

    def let_go(self) -> None:
        """Nothing more is sent, or waited for, of what went out last."""
        if self.transmission is not None:
            self.place.layer.forget(self.transmission)
            self.transmission = None
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


def numbered(message: Message, number: int) -> Message:
    """The message with an Observe option of that number, in its place among the options (RFC 7641, section 2)."""
    options = sorted((*message.options, (things.OBSERVE, uint(number))), key=lambda option: option[0])
    return message._replace(options=tuple(options))


def cost(options: Options) -> int:
    """What keeping a request's options takes, in bytes."""
    return sum(_OPTION_COSTS + len(value) for _, value in options)
