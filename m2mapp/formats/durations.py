"""Lengths of time as documents have them: `5m`, `1h30m`, `250ms` (spec section 12: `for`, `holdoff`, `expiry`, `every`)."""

from __future__ import annotations

import re
from collections.abc import Callable

from m2mapp.formats.shapes import Wrong

_UNITS_MS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,15}}){unit})?" for unit in _UNITS_MS))
_EXPECTED = "a length of time: numbers with w, d, h, m, s or ms, the greater unit first, such as 5m or 1h30m"


def duration(low_s: float, high_s: float) -> Callable[[object], float]:
    """A check for a length of time from low to high: it takes text and gives seconds."""

    def check(value: object) -> float:
        seconds = seconds_of(value)
        if not low_s <= seconds <= high_s:
            raise Wrong(value, f"from {duration_text(low_s)} to {duration_text(high_s)}")
        return seconds

    return check


def seconds_of(value: object) -> float:
    """The seconds that a text says, whole ones exactly. Raises `Wrong`."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not found[0]:
        raise Wrong(value, _EXPECTED)
    return sum(int(number or 0) * unit for number, unit in zip(found.groups(), _UNITS_MS.values(), strict=True)) / 1000


def duration_text(seconds: float) -> str:
    """The canonical text of a length of time, to the millisecond: read again, it is the same."""
    left, text = round(seconds * 1000), ""
    for unit, size in _UNITS_MS.items():
        number, left = divmod(left, size)
        text += f"{number}{unit}" if number else ""
    return text or "0s"
