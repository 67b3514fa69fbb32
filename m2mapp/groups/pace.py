"""How long after the leisure time answers still come, learnt group by group from those that came. Pure.

Asking a silent member before its answer could be there is a datagram for nothing; asking late makes every operation on a lossy link slow.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

LEAST_S, MOST_S = 0.005, 0.5
"""The bounds of the patience: the time after the leisure time at which the silent are asked again."""
_UNKNOWN_S = 0.1
"""For a group that was not asked yet."""
_MARGIN = 1.1
_MOST_GROUPS = 1_000


@dataclass(slots=True)
class Pace:
    """One group's: how long after the leisure time its last answers came, smoothed, and how much that differed, in seconds.

    As RFC 6298, section 2 has it for round trips. None: it was not asked yet.
    """

    late_s: float | None = None
    spread_s: float = 0.0

    def patience_s(self, first_s: float | None) -> float:
        """How long to wait after the leisure time, where the first answer came after `first_s` (None: none has yet)."""
        if first_s is None:
            return MOST_S
        late_s = _UNKNOWN_S if self.late_s is None else self.late_s + 4 * self.spread_s
        return min(MOST_S, max(LEAST_S, _MARGIN * first_s, _MARGIN * late_s))

    def saw(self, late_s: float) -> None:
        """The last answer to a multicast request came so late; before the end of the leisure time it is less than 0."""
        if self.late_s is None:
            self.late_s, self.spread_s = late_s, abs(late_s) / 2
        else:
            self.spread_s += (abs(late_s - self.late_s) - self.spread_s) / 4
            self.late_s += (late_s - self.late_s) / 8


class Paces:
    """The pace of each group that was asked lately, at most a thousand."""

    def __init__(self) -> None:
        self._paces: OrderedDict[str, Pace] = OrderedDict()

    def of(self, group: str) -> Pace:
        """The pace of this group."""
        pace = self._paces.setdefault(group, Pace())
        self._paces.move_to_end(group)
        if len(self._paces) > _MOST_GROUPS:
            self._paces.popitem(last=False)
        return pace
