"""How long a rule has held, for operations that wait for that (`for`); and when one ran last, for those that rest (`holdoff`). Pure.

An operation with `for` runs once each time that its rule has held for so long: a change for which it does not hold, or cannot be evaluated,
ends that, and it begins anew. Times are of the wall clock, so that they mean something after a restart; one that steps makes no wait longer
than what the operation says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import Document


@dataclass(frozen=True, slots=True)
class Held:
    """The rule of an operation has held since a time. `key` is `Operation.key`; `for_s`: so long it has to.

    `ran`: the number of the change for which the operation has run then, 0 where it has not. `cause`, `trace`: of the change that began it.
    """

    key: str
    subject: Path
    since_ms: int
    for_s: float
    ran: int = 0
    cause: tuple[str, ...] = ()
    trace: str = ""

    def left_s(self, now_ms: int) -> float:
        """How long it still has to hold, from none to all of the time."""
        return min(self.for_s, max(0.0, self.for_s - (now_ms - self.since_ms) / 1000))

    def document(self) -> Document:
        """How it is kept over a restart."""
        return {
            "key": self.key,
            "subject": list(self.subject),
            "since": self.since_ms,
            "for": self.for_s,
            "ran": self.ran,
            "cause": list(self.cause),
            "trace": self.trace,
        }


def held_in(document: Mapping[str, object]) -> Held | None:
    """What a document keeps; None where it is none."""
    try:
        subject, cause = _texts(document["subject"]), _texts(document["cause"])
        since_ms, for_s = int(str(document["since"])), float(str(document["for"]))
        return Held(str(document["key"]), subject, since_ms, for_s, int(str(document["ran"])), cause, str(document["trace"]))
    except (KeyError, TypeError, ValueError):
        return None


def rests(holdoff_s: float, last_ms: int | None, now_ms: int) -> float:
    """How long an operation that ran at a time still rests, in seconds; 0 where it does not. A clock that went back ends the rest."""
    if last_ms is None or now_ms < last_ms:
        return 0.0
    return max(0.0, holdoff_s - (now_ms - last_ms) / 1000)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    return tuple(map(str, value))
