"""The attributes of notifications that a server writes: at least, and at most, so long between two. Pure.

OMA TS-LightweightM2M-Core 1.1, sections 5.1.2 and 6.4.2 (Write-Attributes). Responsible for what they may be, for which of them hold at a
place, and for when a notification is due. Those that compare a number with a bound (`gt`, `lt`, `st`) are refused: no resource that is
observed here has one to compare.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from m2mapp.model.errors import Malformed, TooLarge

Place = tuple[int, ...]
"""Object, instance, resource: one to three of them."""
MAX_PLACES: Final = 256
_NAMES: Final = ("pmin", "pmax")
_LONGEST_S: Final = 0xFFFFFFFF
_DIGITS: Final = len(str(_LONGEST_S))


@dataclass(frozen=True, slots=True)
class Periods:
    """`pmin` and `pmax` in seconds; None where they are not set."""

    pmin: int | None = None
    pmax: int | None = None

    def shown(self) -> tuple[tuple[str, str], ...]:
        """As Discover names them."""
        return tuple((name, str(value)) for name, value in zip(_NAMES, (self.pmin, self.pmax), strict=True) if value is not None)

    def due(self, told_s: float, *, changed: bool) -> float | None:
        """When a notification is due after the one of that time; None where none is. A `pmax` below `pmin`, or of 0, says nothing."""
        earliest = self.pmin or 0
        if changed:
            return told_s + earliest
        return told_s + self.pmax if self.pmax and self.pmax >= earliest else None


class Attributes:
    """What the server has written, by place. What is set further down counts before what is set above."""

    def __init__(self) -> None:
        self._at: dict[Place, Periods] = {}

    def write(self, place: Place, query: tuple[tuple[str, str], ...]) -> None:
        """What a Write-Attributes sets; one without a value takes it back. Raises `Malformed`, `TooLarge`: then nothing is changed."""
        periods = self._at.get(place, Periods())
        for name, value in query:
            if name not in _NAMES:
                raise Malformed("attribute", name, f"one of {', '.join(_NAMES)}")
            if value and not (value.isascii() and value.isdecimal() and len(value) <= _DIGITS and int(value) <= _LONGEST_S):
                raise Malformed(name, value, f"a number of seconds up to {_LONGEST_S}, or nothing")
            number = int(value) if value else None
            periods = replace(periods, pmin=number) if name == "pmin" else replace(periods, pmax=number)
        if place not in self._at and len(self._at) >= MAX_PLACES:
            raise TooLarge("attributes", MAX_PLACES, "places")
        self._at[place] = periods
        if periods == Periods():
            del self._at[place]

    def forget_others(self, instances: Iterable[int]) -> None:
        """Forget those of instances that are none of these numbers any more: their numbers may be given to others."""
        if self._at:
            there = frozenset(instances)
            self._at = {place: periods for place, periods in self._at.items() if len(place) == 1 or place[1] in there}

    def clear(self) -> None:
        """Forget all."""
        self._at.clear()

    def written_at(self, place: Place) -> tuple[tuple[str, str], ...]:
        """What was written at this very place, as Discover names it."""
        return self._at.get(place, Periods()).shown()

    def holding_at(self, place: Place) -> Periods:
        """What holds there."""
        found = Periods()
        for length in range(1, len(place) + 1):
            here = self._at.get(place[:length], Periods())
            found = Periods(found.pmin if here.pmin is None else here.pmin, found.pmax if here.pmax is None else here.pmax)
        return found
