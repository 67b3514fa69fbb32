"""Who is signed in: sessions of browsers, each known by a secret in a cookie, and when they end.

Pure: takes the time, in seconds of the node's clock. What is kept of a secret is its SHA-256. Not responsible for who may sign in.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass

IDLE_S = 8 * 3600.0
LONGEST_S = 30 * 24 * 3600.0
MOST = 256
_SECRET_BYTES, _ID_CHARACTERS = 24, 12


@dataclass(slots=True)
class Session:
    """One browser that is signed in. `account` is who; `id` may be shown, and says nothing of the secret.

    `csrf` stands in each form that this session's pages have: nobody else's page can know it.
    """

    id: str
    account: str
    csrf: str
    source: str
    browser: str
    opened_s: float
    seen_s: float


class Sessions:
    """The sessions that are open. At most 256: one more ends the one that was idle longest."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, account: str, source: str, browser: str, now_s: float) -> tuple[str, Session]:
        """A new session, and its secret."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        digest = _digest(secret)
        session = Session(digest.hex()[:_ID_CHARACTERS], account, _csrf(secret), source, browser, now_s, now_s)
        self._by_digest[digest] = session
        while len(self._by_digest) > MOST:
            self._by_digest.popitem(last=False)
        return secret, session

    def find(self, secret: str, now_s: float) -> Session | None:
        """The session of a secret, which is used now; None where there is none, or where it has ended."""
        digest = _digest(secret)
        session = self._by_digest.get(digest)
        if session is None:
            return None
        if over(session, now_s):
            del self._by_digest[digest]
            return None
        session.seen_s = now_s
        self._by_digest.move_to_end(digest)
        return session

    def is_open(self, session: Session, now_s: float) -> bool:
        """Whether it has not ended meanwhile."""
        return not over(session, now_s) and any(found is session for found in self._by_digest.values())

    def all(self, now_s: float) -> list[Session]:
        """Those that are open, the one used last first."""
        return [session for session in reversed(self._by_digest.values()) if not over(session, now_s)]

    def end(self, session_id: str) -> Session | None:
        """End one; what it was, or None where there is none."""
        digest = next((digest for digest, session in self._by_digest.items() if session.id == session_id), None)
        return self._by_digest.pop(digest) if digest is not None else None


def over(session: Session, now_s: float) -> bool:
    """Whether it has been idle for too long, or open for too long."""
    return now_s - session.seen_s >= IDLE_S or now_s - session.opened_s >= LONGEST_S


def same(given: str, session: Session) -> bool:
    """Whether a form bears the session's token; compared in constant time."""
    return hmac.compare_digest(given.encode(), session.csrf.encode())


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _csrf(secret: str) -> str:
    return hashlib.sha256(b"csrf " + secret.encode()).hexdigest()
