"""Patterns with `*` (any characters, or none) and `?` (any one character), matched in time linear in the text, whatever they are.

All places in the pattern where a match may stand are the bits of one number; each character of the text moves all of them at once, so
there is nothing to go back to (Baeza-Yates and Gonnet 1992, *A new approach to text searching*).
"""

from __future__ import annotations

import re

_RUNS = re.compile(r"\*+")


class Glob:
    """A compiled pattern. Upper and lower case are different characters."""

    __slots__ = ("_any", "_end", "_moves", "_stays")

    def __init__(self, pattern: str) -> None:
        signs = _RUNS.sub("*", pattern)
        self._stays = self._any = 0
        self._moves: dict[str, int] = {}
        place = 1
        for sign in signs:
            if sign == "*":
                self._stays |= place
                continue
            if sign == "?":
                self._any |= place
            else:
                self._moves[sign] = self._moves.get(sign, 0) | place
            place <<= 1
        self._end = place

    def matches(self, text: str) -> bool:
        """Whether the whole text is what the pattern says."""
        at, stays, anything, moves = 1, self._stays, self._any, self._moves
        for character in text:
            at = (at & (moves.get(character, 0) | anything)) << 1 | at & stays
            if not at:
                return False
        return bool(at & self._end)
