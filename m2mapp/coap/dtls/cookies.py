"""The cookies of stateless HelloVerifyRequests (RFC 6347, section 4.2.1): a source shows that it receives what is sent to it.

Responsible for making and checking them with secrets that change. Nothing is kept of any source.
"""

from __future__ import annotations

import hmac
import random
from typing import Final

from m2mapp.net.interfaces import Sockaddr

PERIOD_S: Final = 60.0
"""So long a secret makes cookies; for as long again they are good."""
_BYTES: Final = 16
_SECRET_BYTES: Final = 32


class Cookies:
    """Makes and checks cookies. `rng` makes the secrets: the system's chance, on a network."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._since_s = 0.0
        self._secret = self._before = rng.randbytes(_SECRET_BYTES)

    def make(self, source: Sockaddr, now_s: float) -> bytes:
        """The cookie of a source."""
        self._renew(now_s)
        return _cookie(self._secret, source)

    def is_good(self, cookie: bytes, source: Sockaddr, now_s: float) -> bool:
        """Whether the cookie was made for this source within the last one to two periods."""
        self._renew(now_s)
        return any(hmac.compare_digest(cookie, _cookie(secret, source)) for secret in (self._secret, self._before))

    def _renew(self, now_s: float) -> None:
        """Change the secret when its time is over."""
        age_s = now_s - self._since_s
        if age_s < PERIOD_S:
            return
        new = self._rng.randbytes(_SECRET_BYTES)
        self._before = self._secret if age_s < 2 * PERIOD_S else new
        self._secret, self._since_s = new, now_s


def _cookie(secret: bytes, source: Sockaddr) -> bytes:
    return hmac.digest(secret, repr(tuple(source)).encode(), "sha256")[:_BYTES]
