"""The message IDs of what this node sends: in turn, and none again before its time is over (RFC 7252, section 4.4).

Responsible for choosing them. Not responsible for the IDs of others (`peers`). A device tells messages apart by our address and the
ID, whether they came by unicast or multicast, so the two have ranges of their own.
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import Final

from m2mapp.model.errors import Overloaded

UNICAST_MIDS: Final = range(0xC000)
GROUP_MIDS: Final = range(0xC000, 0x10000)
_PART: Final = 0x1000
"""The range is kept in parts of so many IDs, and only of whole parts is it known when they were used last."""


class Mids:
    """Message IDs from a range whose bounds are multiples of a part, from a random start; none twice within `lifetime_s`."""

    __slots__ = ("_left_at", "_lifetime_s", "_next", "_range")

    def __init__(self, rng: Random, of: range, lifetime_s: float) -> None:
        self._range = of
        self._next = rng.choice(of)
        self._lifetime_s = lifetime_s
        self._left_at: dict[int, float] | None = None

    def take(self, now_s: float) -> int:
        """The next one. Raises `Overloaded` where all were used within their lifetime."""
        mid = self._next
        if not mid % _PART:
            self._enter(mid // _PART, now_s)
        self._next = mid + 1 if mid + 1 < self._range.stop else self._range.start
        return mid

    def _enter(self, part: int, now_s: float) -> None:
        """Begin a part; the one before it has been used up to now."""
        if self._left_at is None:
            self._left_at = {}
        if now_s < self._left_at.get(part, -inf) + self._lifetime_s:
            raise Overloaded("all message IDs were used a moment ago (RFC 7252, section 4.4)")
        parts = len(self._range) // _PART
        first = self._range.start // _PART
        self._left_at[first + (part - first - 1) % parts] = now_s
