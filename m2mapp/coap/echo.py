"""Echo (RFC 9175, section 2) as a server uses it: values that only who receives at an address can know, and what is sent without.

Responsible for making and checking the values, which takes no memory, and for how much an unproven source is sent. Not responsible for
who is asked to prove its address (`proof`) nor for the client's part (`transfer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2s
from hmac import compare_digest
from random import Random
from typing import Final

from m2mapp.coap.message import Message, encode
from m2mapp.net.interfaces import Sockaddr

_KEY_BYTES: Final = 32
_VALUE_BYTES: Final = 8
_FACTOR: Final = 3
_HEADERS: Final = 28
_LARGEST_EXPONENT: Final = 6
_USUAL_OPTIONS: Final = 40
"""Header, a token of 8 bytes, ETag, Observe, Content-Format, Block2, Size2 and the payload marker."""
_BLOCK_OPTIONS: Final = 18
"""An ETag, Block2, Size2 and the payload marker, where an answer becomes one of several."""

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
        """The value for a source (RFC 9175, appendix A has others)."""
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

    RFC 9175, section 2.4 asks that large answers be kept from who may be a victim; three times is what QUIC allows (RFC 9000, section
    8). The headers are those of IPv4, 28 bytes, where the bound is the narrower.
    """

    size: int

    @classmethod
    def of(cls, request: Message) -> Allowance:
        """The allowance for a request."""
        return cls(_FACTOR * (_size(request) + _HEADERS) - _HEADERS)

    def exponent(self, answer: Message | None = None) -> int:
        """The size exponent of the largest block of an answer that fits with its options; 0 (16 bytes) where none does.

        Without the answer, which is not made yet, it is taken for one with the usual options.
        """
        rest = _USUAL_OPTIONS if answer is None else _size(answer._replace(payload=b"")) + _BLOCK_OPTIONS
        exponent = _LARGEST_EXPONENT
        while exponent and (16 << exponent) + rest > self.size:
            exponent -= 1
        return exponent

    def fits(self, answer: Message) -> bool:
        """Whether an answer is small enough."""
        return _size(answer) <= self.size

    def shortened(self, answer: Message) -> Message:
        """The answer with as much of its diagnostic payload as fits."""
        if self.fits(answer):
            return answer
        room = max(0, self.size - _size(answer._replace(payload=b"")) - 1)
        return answer._replace(payload=answer.payload[:room].decode(errors="ignore").encode())


def _size(message: Message) -> int:
    """How many bytes a message has on the wire."""
    return len(encode(message, message.mtype, 0))
