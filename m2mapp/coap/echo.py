"""Echo (RFC 9175, section 2) as a server uses it: values that only who receives at an address can know, and what is sent without.

Responsible for making and checking the values, which takes no memory, and for how much an unproven source is sent. Not responsible for
who is asked to prove its address (`server`) nor for the client's part (`transfer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2s
from hmac import compare_digest
from random import Random
from typing import Final

from m2mapp.coap.message import Message
from m2mapp.net.interfaces import Sockaddr

_KEY_BYTES: Final = 32
_VALUE_BYTES: Final = 8
_FACTOR: Final = 3
_HEADERS: Final = 28
_LARGEST_EXPONENT: Final = 6
_ROOM_FOR_OPTIONS: Final = 24
_OPTION_HEAD: Final = 3

SMALL: Final = 40
"""A payload of so many bytes may go to anybody, whatever was asked: with the headers it is never three times the request."""


class EchoValues:
    """Makes and checks the values: a keyed hash of the source's address and port and of the time, in steps of `period_s`.

    A value holds for its own period and the next. The key is made at the start: values of before a restart are worth nothing.
    """

    def __init__(self, rng: Random, period_s: float) -> None:
        self._key = rng.getrandbits(8 * _KEY_BYTES).to_bytes(_KEY_BYTES, "big")
        self._period_s = period_s

    def value(self, source: Sockaddr, now_s: float) -> bytes:
        """The value for a source (RFC 9175, appendix A: time and address, authenticated)."""
        return self._value(source, int(now_s // self._period_s))

    def holds(self, value: bytes, source: Sockaddr, now_s: float) -> bool:
        """Whether that source was given this value, lately."""
        period = int(now_s // self._period_s)
        return any(compare_digest(value, self._value(source, each)) for each in (period, period - 1))

    def _value(self, source: Sockaddr, period: int) -> bytes:
        return blake2s(repr((source, period)).encode(), key=self._key, digest_size=_VALUE_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many bytes an unproven source is sent for one request: three times what came, each with its IP and UDP headers.

    The factor is the one that RFC 9175, section 2.4 takes from QUIC (RFC 9000, section 8). The headers are those of IPv4, 28 bytes,
    where the bound is the narrower.
    """

    size: int

    @classmethod
    def of(cls, request: Message) -> Allowance:
        """The allowance for a request."""
        came = 4 + len(request.token) + sum(1 + len(value) for _, value in request.options) + len(request.payload)
        return cls(_FACTOR * (came + _HEADERS) - _HEADERS)

    @property
    def exponent(self) -> int:
        """The size exponent of the largest block that fits with the options that go with it; 0 (16 bytes) always does."""
        exponent = _LARGEST_EXPONENT
        while exponent and (16 << exponent) + _ROOM_FOR_OPTIONS > self.size:
            exponent -= 1
        return exponent

    def fits(self, answer: Message) -> bool:
        """Whether an answer is small enough."""
        return _without_payload(answer) + len(answer.payload) <= self.size

    def shortened(self, answer: Message) -> Message:
        """The answer with as much of its diagnostic payload as fits."""
        if self.fits(answer):
            return answer
        room = max(0, self.size - _without_payload(answer))
        return answer._replace(payload=answer.payload[:room].decode(errors="ignore").encode())


def _without_payload(message: Message) -> int:
    """The bytes of header, token, options and payload marker, at most."""
    return 5 + len(message.token) + sum(_OPTION_HEAD + len(value) for _, value in message.options)
