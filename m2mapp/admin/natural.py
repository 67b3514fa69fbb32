"""The order in which people expect names: d1, d2, d10. Pure.

For lists that are all in memory. One that is read from the tree part by part keeps the tree's order, by which the next part is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_NUMBER = re.compile("0*([0-9]+)")


@lru_cache(maxsize=20_000)
def natural(name: str) -> tuple[str, str]:
    """What names are sorted by: digits count as the number that they are. No two names have the same."""
    return _NUMBER.sub(_with_length, name), name


def in_order(names: Iterable[str]) -> list[str]:
    """The names in that order."""
    return sorted(names, key=natural)


def _with_length(number: re.Match[str]) -> str:
    """Of numbers without zeros before them the longer one is the larger one. A name is of 255 bytes at most."""
    return f"{len(number[1]):03}{number[1]}"
