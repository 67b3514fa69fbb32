"""Whether an operation's dependencies let it run, and which one to look at next (CN 104662858, figure 14; spec section 7). Pure.

An operation runs if it has no dependencies, or one `OR` holds, or it has `AND`s and all of them hold, whatever their order. That is what
the claims say; figure 14 as drawn would end at an `AND` that does not hold before an `OR` that does. Looking ends when the outcome is
certain, so that nothing is fetched that cannot change it.
"""

from __future__ import annotations

from collections.abc import Sequence

from m2mapp.triggers.dependency import Dependency, Logic


class Judging:
    """The dependencies of one run, while they are looked at one after another. `outcome` is None as long as it is open."""

    def __init__(self, dependencies: Sequence[Dependency]) -> None:
        self._left = list(dependencies)
        self._necessary = sum(one.logic is Logic.AND for one in dependencies)
        self._failed: str | None = None
        self.outcome: bool | None = None
        self.why = ""
        if not dependencies:
            self._end(True, "it depends on nothing")

    def next(self) -> Dependency:
        """The dependency to look at now. Only while the outcome is open."""
        return self._left[0]

    def found(self, holds: bool | None) -> None:
        """What `next` came to; None: it cannot be told, so that it does not hold."""
        one = self._left.pop(0)
        if one.logic is Logic.OR:
            if holds:
                self._end(True, f"{one.name} holds, which is enough")
                return
        elif holds:
            self._necessary -= 1
            if not self._necessary:
                self._end(True, "all that are necessary hold")
                return
        else:
            self._failed = one.name
            self._left = [other for other in self._left if other.logic is Logic.OR]
        if not self._left:
            self._end(False, f"{self._failed} does not hold, which is necessary" if self._failed else "none holds that would be enough")

    def _end(self, outcome: bool, why: str) -> None:
        self.outcome, self.why = outcome, why
        self._left = []
