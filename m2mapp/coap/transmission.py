"""One message on its way: what is kept of it until it is acknowledged, reset or given up.

Responsible for these values. Not responsible for what happens with them: `exchange`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import log2
from typing import TYPE_CHECKING

from m2mapp.coap import things
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.message import Message, encode

if TYPE_CHECKING:
    from m2mapp.coap.peers import Peer


_LEAST_S, _PARTS = 0.05, 4


class Outcome(Enum):
    """What became of a message that was sent."""

    ACKNOWLEDGED = "acknowledged"
    RESET = "reset"
    GIVEN_UP = "given up"
    GAVE_WAY = "gave way"
    """It was patient, was not acknowledged in time, and others waited for the same peer."""
    CLOSED = "closed"
    """The port was closed, or the session that the peer had is over."""


class Transmission:
    """One message on its way to a peer, or waiting for its turn. `forget` it when its outcome no longer matters."""

    __slots__ = (
        "confirmable",
        "datagram",
        "deadline",
        "local",
        "mid",
        "patient",
        "peer",
        "repeated",
        "retries_left",
        "sent_at",
        "steady",
        "timeout_s",
        "token",
        "told",
    )

    def __init__(self, peer: Peer, message: Message, mid: int, told: Callable[[Outcome], None]) -> None:
        self.peer = peer
        self.confirmable = message.mtype == things.CON
        self.mid = mid
        self.token = message.token
        self.datagram = encode(message, message.mtype, mid)
        self.told = told
        self.local: str | None = None
        self.deadline: Deadline | None = None
        self.patient = False
        self.repeated = False
        self.retries_left = 0
        self.steady = 0
        self.timeout_s = 0.0
        self.sent_at = 0.0


class Repeats(tuple[float, int, int]):
    """How a confirmable message is repeated: first after about `first_s` seconds, then at doubled times, `count` times in all.

    The time is doubled only after the first `steady` of them.
    """

    __slots__ = ()

    def __new__(cls, first_s: float, count: int, steady: int = 0) -> Repeats:
        """Seconds and numbers, none negative."""
        if first_s <= 0 or count < 0 or steady < 0:
            raise ValueError(f"no repeats: {first_s} s, {count} times, {steady} of them steady")
        return super().__new__(cls, (first_s, count, steady))


def repeats_within(left_s: float, ack_timeout_s: float) -> Repeats:
    """How a separate answer is repeated whose requester waits for so long still: a few times within that, and not after it.

    A request with a deadline is answered a little before it: at the pace of RFC 7252 a copy that is lost would be one too many, and
    others for the same peer would wait until nobody wants this one any more (NSTART).
    """
    first_s = min(ack_timeout_s, max(_LEAST_S, left_s / _PARTS))
    return Repeats(first_s, int(log2(max(0.0, left_s) / first_s + 1)))
