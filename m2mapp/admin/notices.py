"""What was asked on the pages and what came of it: told as done only when the effect was seen.

A notice is `asked` until its effect was seen (`done`) or did not come (`failed`). In memory: it is a person's view of this hour, and what
was done stands in the tree and in the audit list.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_KEPT, _SESSIONS = 20, 256
_SHOWN, _SHOWN_FOR_S = 5, 60.0


class State(Enum):
    """What is known of the effect."""

    ASKED = "asked"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Notice:
    """One thing that was asked: what, how it stands, more words on that, and since when (seconds of the node's clock)."""

    text: str
    state: State
    detail: str
    since_s: float


class Notices:
    """The notices of all sessions. `on_change` is told the session whose notices have changed."""

    def __init__(self, seconds: Callable[[], float], on_change: Callable[[str], None]) -> None:
        self._seconds, self._on_change = seconds, on_change
        self._of: OrderedDict[str, deque[Notice]] = OrderedDict()
        self._awaited: set[Deferred[str]] = set()

    def awaits(self, effect: Deferred[str]) -> None:
        """An effect is awaited, at the longest until `stop`."""
        self._awaited.add(effect)

        def came(result: str | Failure) -> str | Failure:
            self._awaited.discard(effect)
            return result

        effect.addBoth(came)

    def stop(self) -> None:
        """Await nothing any more."""
        for effect in tuple(self._awaited):
            effect.cancel()

    def add(self, session: str, text: str, state: State = State.ASKED, detail: str = "") -> Notice:
        """A new notice for a session."""
        notice = Notice(text, state, detail, self._seconds())
        self._of.setdefault(session, deque(maxlen=_KEPT)).append(notice)
        self._of.move_to_end(session)
        while len(self._of) > _SESSIONS:
            self._of.popitem(last=False)
        self._on_change(session)
        return notice

    def settle(self, session: str, notice: Notice, state: State, detail: str = "") -> None:
        """It is known now what came of it."""
        notice.state, notice.detail, notice.since_s = state, detail, self._seconds()
        self._on_change(session)

    def shown(self, session: str) -> list[Notice]:
        """What the session's pages show: what is awaited, and what came of the rest within the last minute; the newest first."""
        until = self._seconds() - _SHOWN_FOR_S
        found = [notice for notice in self._of.get(session, ()) if notice.state is State.ASKED or notice.since_s >= until]
        return found[: -_SHOWN - 1 : -1]

    def forget(self, session: str) -> None:
        """The session is over."""
        self._of.pop(session, None)
