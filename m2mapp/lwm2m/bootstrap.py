"""What a bootstrap server asks of a client, one request after another: the exchange as a pure machine.

OMA TS-LightweightM2M 1.0, section 5.2, and -Core 1.1, section 6.1: after the client's request Delete, Discover, Write, Finish, each
when the one before was answered. Responsible for the order and for what each answer means. Not responsible for sending, for time and
for records (`drivers.session`, `record`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from m2mapp.formats.documents import LINK_FORMAT
from m2mapp.lwm2m.accounts import SECURITY, SERVER, Credentials, instances, security_numbers
from m2mapp.lwm2m.objects import Instance, payload
from m2mapp.lwm2m.plans import Delete, Plan
from m2mapp.model.messages import Method


class Phase(Enum):
    """What is being asked; the value is how a record names it."""

    DELETE = "delete"
    DELETE_ACCOUNTS = "delete accounts"
    DISCOVER = "discover"
    WRITE = "write"
    FINISH = "finish"
    DONE = "done"
    FAILED = "failed"


class Outcome(Enum):
    """What an answer comes to. `MORE`: it went well, and there is more of the phase; `RETRY`: refused, and there is another way."""

    OVER = auto()
    MORE = auto()
    RETRY = auto()
    REFUSED = auto()


EXCHANGE: Final[dict[tuple[Phase, Outcome], Phase]] = {
    (Phase.DELETE, Outcome.OVER): Phase.DISCOVER,
    (Phase.DELETE, Outcome.RETRY): Phase.DELETE_ACCOUNTS,  # a client that lets nothing go at once, by object
    (Phase.DELETE_ACCOUNTS, Outcome.MORE): Phase.DELETE_ACCOUNTS,
    (Phase.DELETE_ACCOUNTS, Outcome.OVER): Phase.DISCOVER,
    (Phase.DELETE_ACCOUNTS, Outcome.REFUSED): Phase.FAILED,
    (Phase.DISCOVER, Outcome.OVER): Phase.WRITE,
    (Phase.DISCOVER, Outcome.REFUSED): Phase.WRITE,  # a client of 1.0 need not have it
    (Phase.WRITE, Outcome.MORE): Phase.WRITE,
    (Phase.WRITE, Outcome.RETRY): Phase.WRITE,  # the same in another content format
    (Phase.WRITE, Outcome.OVER): Phase.FINISH,
    (Phase.WRITE, Outcome.REFUSED): Phase.FAILED,
    (Phase.FINISH, Outcome.OVER): Phase.DONE,
    (Phase.FINISH, Outcome.REFUSED): Phase.FAILED,
}
"""Every step of the exchange. Of DISCOVER a plan may have none: then its place is taken by WRITE."""

_NOT_FOUND: Final = "4.04"
_UNSUPPORTED_FORMAT: Final = "4.15"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to the client. `path` is text: `/0/1`."""

    method: Method
    path: str
    payload: bytes = b""
    content_type: str | None = None
    accept: str | None = None

    @property
    def name(self) -> str:
        """As a record names it: `PUT /0/1`."""
        return f"{self.method.value} {self.path}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """How far the exchange has come. `formats`: those that may still be tried, that in use first; `objects`, `writes`: what is left."""

    plan: Plan
    credentials: Mapping[str, Credentials]
    formats: tuple[str, ...]
    phase: Phase
    objects: tuple[int, ...] = (SECURITY, SERVER)
    writes: tuple[Instance, ...] = ()

    def ask(self) -> Ask | None:
        """What is to be asked now; None when the exchange is over."""
        if self.phase is Phase.DELETE:
            return Ask(Method.DELETE, "/")
        if self.phase is Phase.DELETE_ACCOUNTS:
            return Ask(Method.DELETE, f"/{self.objects[0]}")
        if self.phase is Phase.DISCOVER:
            return Ask(Method.GET, "/", accept=LINK_FORMAT)
        if self.phase is Phase.WRITE:
            media_type = self.formats[0]
            return Ask(Method.PUT, self.writes[0].path, payload(self.writes[0], media_type), media_type)
        return Ask(Method.POST, "/bs") if self.phase is Phase.FINISH else None


def begin(plan: Plan, credentials: Mapping[str, Credentials], formats: tuple[str, ...]) -> Exchange:
    """The exchange that a plan comes to, for a client that takes one of these formats."""
    return Exchange(plan, credentials, formats, Phase.DELETE if plan.delete is Delete.ALL else Phase.DELETE_ACCOUNTS)


def advance(exchange: Exchange, code: str, content: bytes = b"") -> Exchange:
    """The exchange after an answer with this code ("2.04") and payload. Raises `KeyError` where nothing was asked."""
    outcome = _outcome(exchange, code)
    phase = EXCHANGE[exchange.phase, outcome]
    if exchange.phase is Phase.DELETE_ACCOUNTS:
        exchange = replace(exchange, objects=exchange.objects[1:])
    elif exchange.phase is Phase.WRITE and outcome is Outcome.RETRY:
        exchange = replace(exchange, formats=exchange.formats[1:])
    elif exchange.phase is Phase.WRITE:
        exchange = replace(exchange, writes=exchange.writes[1:])
    elif exchange.phase is Phase.DISCOVER and outcome is Outcome.OVER:
        taken = security_numbers(content)
        exchange = replace(exchange, writes=instances(exchange.plan, exchange.credentials, taken))
    return _enter(exchange, phase)


def _enter(exchange: Exchange, phase: Phase) -> Exchange:
    if phase is Phase.DISCOVER and not exchange.plan.discover:
        phase = Phase.WRITE
    if phase is Phase.WRITE and exchange.phase is not Phase.WRITE and not exchange.writes:
        exchange = replace(exchange, writes=instances(exchange.plan, exchange.credentials))
    return replace(exchange, phase=phase)


def _outcome(exchange: Exchange, code: str) -> Outcome:
    phase, good = exchange.phase, code.startswith("2.")
    if phase is Phase.DELETE:
        return Outcome.OVER if good else Outcome.RETRY
    if phase is Phase.DELETE_ACCOUNTS and (good or code == _NOT_FOUND):
        return Outcome.MORE if len(exchange.objects) > 1 else Outcome.OVER
    if phase is Phase.WRITE and good:
        return Outcome.MORE if len(exchange.writes) > 1 else Outcome.OVER
    if phase is Phase.WRITE and code == _UNSUPPORTED_FORMAT and len(exchange.formats) > 1:
        return Outcome.RETRY
    return Outcome.OVER if good else Outcome.REFUSED
