"""Who waits for which answer: the token table (RFC 7252, section 5.3.1).

Responsible for tokens that cannot be guessed and are not used twice. Not responsible for who may answer: whoever waits checks the
source, because one request to a group has answers from many.
"""

from __future__ import annotations

import random
from typing import Final, Protocol

from m2mapp.coap.message import Message
from m2mapp.model.errors import Overloaded
from m2mapp.net.interfaces import Sockaddr

_TOKEN_BYTES: Final = 8


class Waiter(Protocol):
    """Waits for answers with one token."""

    def on_response(self, message: Message, source: Sockaddr) -> bool:
        """An answer with the token. False if it is not for this waiter: it came from elsewhere."""

    def closed(self, why: str) -> None:
        """There will be no answers any more, for that reason."""

    @property
    def remote(self) -> Sockaddr:
        """Where answers come from; for a group, its address."""


class Tokens:
    """The tokens in use, at most `most`."""

    def __init__(self, rng: random.Random, most: int) -> None:
        self._rng = rng
        self._most = most
        self._waiters: dict[bytes, Waiter] = {}

    def __len__(self) -> int:
        """How many are in use."""
        return len(self._waiters)

    def take(self, waiter: Waiter) -> bytes:
        """A new token: 8 random bytes that are not in use. Raises `Overloaded`."""
        if len(self._waiters) >= self._most:
            raise Overloaded(f"{self._most} CoAP requests are under way")
        token = self._random()
        while token in self._waiters:
            token = self._random()
        self._waiters[token] = waiter
        return token

    def find(self, token: bytes) -> Waiter | None:
        """Who waits for answers with this token."""
        return self._waiters.get(token)

    def release(self, token: bytes) -> None:
        """The token may be used again. Releasing it again does nothing."""
        self._waiters.pop(token, None)

    def close(self) -> None:
        """Tell everybody who waits that there will be no answer."""
        waiters = list(dict.fromkeys(self._waiters.values()))
        self._waiters.clear()
        for waiter in waiters:
            waiter.closed("the CoAP service has stopped")

    def gone(self, address: Sockaddr) -> None:
        """Tell those who wait for the peer of a session that the session is over."""
        for waiter in [waiter for waiter in self._waiters.values() if waiter.remote == address]:
            waiter.closed("its DTLS session has ended")

    def _random(self) -> bytes:
        return self._rng.getrandbits(8 * _TOKEN_BYTES).to_bytes(_TOKEN_BYTES, "big")
