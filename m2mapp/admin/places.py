"""Places in a picture that stay: each thing keeps its place while it is there, whatever comes and goes beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush


class Places:
    """The places of things, by name, from 0 on. A new thing gets the lowest that is free; no other moves for it."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._free: list[int] = []

    def settle(self, names: Iterable[str]) -> dict[str, int]:
        """The places of these, and of no others any more. What is new is placed in the order in which it is given."""
        wanted = list(dict.fromkeys(names))
        there = set(wanted)
        for name in [name for name in self._of if name not in there]:
            heappush(self._free, self._of.pop(name))
        for name in wanted:
            if name not in self._of:
                self._of[name] = heappop(self._free) if self._free else len(self._of)
        return {name: self._of[name] for name in wanted}
