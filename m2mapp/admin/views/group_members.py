"""The members of one group, a page of them at a time: how each is reached, how far it is in joining, when it was heard, its last value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.task import deferLater

from m2mapp.admin.groupings import GROUPS, MEMBERS, Place
from m2mapp.admin.visit import Visit

SHOWN = 100
_CHUNK = 500
_NOBODY = Place("", "")
ONLY = {"": "all", "silent": "silent", "waiting": "not joined", "alone": "asked one by one"}
"""Which members are shown, by the value of the query `only`."""


@dataclass(frozen=True, slots=True)
class MemberRow:
    """One member: where it stands, and what is known of it (`GET .../members?state`)."""

    uri: str
    place: Place
    join: str
    heard: str
    silent: str
    status: str
    value: str
    at: str
    fresh: bool

    @property
    def word(self) -> str:
        """How it stands, in a word."""
        if self.silent:
            return "silent"
        return {"pending": "joining", "proven": "joined, has answered", "": "one by one"}.get(self.join, self.join)

    @property
    def grade(self) -> str:
        """How good that is."""
        if self.silent or self.join == "failed":
            return "bad"
        return {"pending": "warning", "joined": "good", "proven": "good"}.get(self.join, "")


@dataclass(frozen=True, slots=True)
class Members:
    """Some of a group's members; `next` is the one after which there are more."""

    rows: tuple[MemberRow, ...]
    next: str


async def members_page(visit: Visit, name: str, places: Mapping[str, Place], only: str) -> Members:
    """The members that the query asks for: `find` in the URI, `only`, `after`. Raises `Fault`s."""
    text, after = visit.query("find").strip().lower(), visit.query("after")
    limit = _CHUNK if text or only else SHOWN
    rows: list[MemberRow] = []
    while True:
        query = (("state", ""), ("limit", str(limit)), *((("after", after),) if after else ()))
        document = await visit.document((*GROUPS, name, MEMBERS), query)
        states = document.get("state")
        for uri, state in states.items() if isinstance(states, Mapping) else ():
            row = member_row(uri, places.get(uri, _NOBODY), state if isinstance(state, Mapping) else {})
            if text in uri.lower() and _is_wanted(row, only):
                if len(rows) == SHOWN:
                    return Members(tuple(rows), rows[-1].uri)
                rows.append(row)
        after = str(document.get("next", ""))
        if not after or (len(rows) == SHOWN and limit == SHOWN):
            return Members(tuple(rows), after)
        # The node has other things to do between the parts of a large group.
        await deferLater(visit.node.reactor, 0.0)


def member_row(uri: str, place: Place, state: Mapping[str, object]) -> MemberRow:
    """A member's row from its state."""
    value = state.get("value")
    known: Mapping[str, object] = value if isinstance(value, Mapping) else {}
    content = known.get("content", "")
    return MemberRow(
        uri,
        place,
        str(state.get("join") or ""),
        str(state.get("lastHeard") or ""),
        str(state.get("silentSince") or ""),
        str(state.get("status") or ""),
        content if isinstance(content, str) else repr(content),
        str(known.get("at") or ""),
        known.get("fresh") is True,
    )


def _is_wanted(row: MemberRow, only: str) -> bool:
    if only == "silent":
        return bool(row.silent)
    if only == "waiting":
        return row.join in ("pending", "failed")
    return not row.place.set if only == "alone" else True
