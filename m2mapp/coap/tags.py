"""Request-Tags: what tells apart two payloads that go to one resource in blocks at the same time (RFC 9175, section 3).

Responsible for choosing them: the first goes without, so that servers that do not know the option see none where none is needed.
Not responsible for the blocks (`transfer`).
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import count


class RequestTags:
    """The tags of the transfers under way, for each that a server could mistake for another: peer, code and options."""

    def __init__(self) -> None:
        self._taken: dict[Hashable, set[int]] = {}

    def __len__(self) -> int:
        """How many resources are being sent payloads."""
        return len(self._taken)

    def take(self, what: Hashable) -> int:
        """The smallest number that no other transfer of the kind has; 0 stands for no Request-Tag."""
        taken = self._taken.setdefault(what, set())
        number = next(each for each in count() if each not in taken)
        taken.add(number)
        return number

    def release(self, what: Hashable, number: int) -> None:
        """That transfer is over."""
        taken = self._taken[what]
        taken.remove(number)
        if not taken:
            del self._taken[what]
