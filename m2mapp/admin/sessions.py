"""Who is signed in: sessions of browsers, each known by a secret in a cookie, and when they end.

Pure: takes the time, in seconds of the node's clock. A session stands in the tree (`/admin/sessions/<id>`) under a part of its secret's
SHA-256, so that it outlives a restart and nothing that is kept opens it. Not responsible for who may sign in.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass

from m2mapp.admin.records import MOST_RECORDS, SESSIONS
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Remove, Resource, Write

IDLE_S = 8 * 3600.0
LONGEST_S = 30 * 24 * 3600.0
_SECRET_BYTES, _ID_CHARACTERS = 24, 32


@dataclass(slots=True)
class Session:
    """One browser that is signed in. `account` is who; `id` may be shown, and says nothing of the secret.

    `csrf` stands in each form that this session's pages have: nobody else's page can know it. It follows from the secret.
    """

    id: str
    account: str
    source: str
    browser: str
    opened_s: float
    seen_s: float
    csrf: str = ""


class Sessions:
    """The sessions that are open, as the tree has them. At most 256: one more ends the one that was idle longest."""

    def __init__(self, tree: Tree, now_ms: int, now_s: float) -> None:
        self._open: OrderedDict[str, Session] = OrderedDict()
        for resource in sorted(tree.children(SESSIONS), key=lambda found: found.created_ms):
            # A wall clock that has gone back makes no session younger than new.
            age_s = max(0.0, (now_ms - resource.created_ms) / 1000)
            self._take(resource, now_s - age_s, now_s)
        tree.watch(SESSIONS, self._on_change, subtree=True)

    def open(self, account: str, source: str, browser: str, now_s: float) -> tuple[str, tuple[Write | Remove, ...]]:
        """A new session: its secret, and the changes that keep it, after which it is open."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        name = session_id(secret)
        self._open[name] = Session(name, account, source, browser, now_s, now_s)
        changes: list[Write | Remove] = [Write((*SESSIONS, name), "session", {"account": account, "source": source, "browser": browser})]
        while len(self._open) > MOST_RECORDS:
            changes.append(Remove((*SESSIONS, self._open.popitem(last=False)[0])))
        return secret, tuple(changes)

    def find(self, secret: str, now_s: float) -> Session | None:
        """The session of a secret, which is used now; None where there is none, or where it has ended."""
        session = self._open.get(session_id(secret))
        if session is None or over(session, now_s):
            return None
        session.csrf = session.csrf or hashlib.sha256(b"csrf " + secret.encode()).hexdigest()
        session.seen_s = now_s
        self._open.move_to_end(session.id)
        return session

    def is_open(self, session: Session, now_s: float) -> bool:
        """Whether it has not ended meanwhile."""
        return self._open.get(session.id) is session and not over(session, now_s)

    def all(self, now_s: float) -> list[Session]:
        """Those that are open, the one used last first."""
        return [session for session in reversed(self._open.values()) if not over(session, now_s)]

    def ended(self, now_s: float) -> tuple[Remove, ...]:
        """The changes that clear away those whose time is over."""
        return tuple(Remove((*SESSIONS, session.id)) for session in self._open.values() if over(session, now_s))

    def of(self, account: str, but: str = "") -> tuple[Remove, ...]:
        """The changes that end all sessions of an account, but for one."""
        return tuple(Remove((*SESSIONS, session.id)) for session in self._open.values() if session.account == account and session.id != but)

    def _on_change(self, change: Change) -> None:
        if change.after is None and len(change.path) > len(SESSIONS):
            self._open.pop(change.path[-1], None)

    def _take(self, resource: Resource, opened_s: float, now_s: float) -> None:
        kept = resource.attributes
        name = resource.path[-1]
        self._open[name] = Session(name, str(kept["account"]), str(kept["source"]), str(kept["browser"]), opened_s, now_s)


def session_id(secret: str) -> str:
    """The name of the session of a secret: half of its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:_ID_CHARACTERS]


def over(session: Session, now_s: float) -> bool:
    """Whether it has been idle for too long, or open for too long."""
    return now_s - session.seen_s >= IDLE_S or now_s - session.opened_s >= LONGEST_S


def same(given: str, session: Session) -> bool:
    """Whether a form bears the session's token; compared in constant time."""
    return hmac.compare_digest(given.encode(), session.csrf.encode())
