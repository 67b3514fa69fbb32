"""The audit list: who changed what, and who signed in or tried to, in a journal on disk.

Responsible for its entries. What is changed on the pages is entered before the visitor is told that it is done; changes of users and tokens
are one unit with their entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from m2mapp.model.errors import shown
from m2mapp.tree.unit import Append

AUDIT = "audit"
"""The journal's name."""
AUDIT_REFUSED = AUDIT + "/refused"
"""The journal of sign-ins that were refused: those who guess push nothing out of the list but each other."""
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Deed:
    """One entry: who did what to what, from where, and what came of it. `what` is a method, or words such as `signed in`."""

    who: str
    what: str
    where: str = ""
    outcome: str = "done"
    source: str = ""
    trace: str = ""

    def entry(self) -> Append:
        """What is appended to the journal."""
        document = {
            "who": shown(self.who),
            "what": self.what,
            "where": self.where,
            "outcome": shown(self.outcome),
            "source": self.source,
            "trace": self.trace,
        }
        return Append(AUDIT_REFUSED if self.outcome == REFUSED else AUDIT, document)
