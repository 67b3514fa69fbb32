"""A joined answer in lines, each sent when its member has answered (`application/x-ndjson`, spec section 4).

A reader that is slower than the members costs no memory but the answers themselves, of which there is one a member at most: a line is made
when it is read. Knows nothing of Twisted; what it tells goes to the edge that reads it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from zope.interface import implementer

from m2mapp.formats.documents import dump_json
from m2mapp.groups.forms import line
from m2mapp.groups.results import MemberResult
from m2mapp.model.interfaces import IStream

_AT_ONCE_BYTES = 16_384


@implementer(IStream)
class Lines:
    """The lines of one group request. `on_closed` is called once, when the reader reads no more before the end."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._on_closed = on_closed
        self._waiting: deque[tuple[str, MemberResult]] = deque()
        self._summary: dict[str, object] | None = None
        self._wake: Callable[[], None] = _nobody
        self._over = False

    def answered(self, uri: str, result: MemberResult) -> None:
        """A member has answered."""
        if not self._over:
            self._waiting.append((uri, result))
            self._wake()

    def finish(self, summary: dict[str, object]) -> None:
        """All is over: what is told at the end."""
        if not self._over:
            self._summary = summary
            self._wake()

    # What the reader calls.

    def open(self, wake: Callable[[], None]) -> None:
        """The reader is there."""
        self._wake = wake

    def read(self) -> bytes | None:
        """The lines of some answers, the last line, or the end."""
        if self._waiting:
            parts, size = [], 0
            while self._waiting and size < _AT_ONCE_BYTES:
                parts.append(line(*self._waiting.popleft()))
                size += len(parts[-1])
            return b"".join(parts)
        if self._over:
            return None
        if self._summary is None:
            return b""
        self._over = True
        return dump_json(self._summary) + b"\n"

    def close(self) -> None:
        """The reader reads no more."""
        self._waiting.clear()
        self._wake = _nobody
        if not self._over:
            self._over = True
            self._on_closed()


def _nobody() -> None:
    """Nobody reads."""
