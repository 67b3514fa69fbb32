"""When each member was last heard, and its last value from a group operation: what `GET /groups/<group>/members?state` tells.

In memory, for so many members that were asked last, each with a value of a few hundred bytes at most; after a restart what the records
of group operations say. No write and no flush comes of it (spec section 2, volatile attributes). Pure: times are milliseconds of the
wall clock for people, seconds of the monotonic clock for whether a value is fresh.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from m2mapp.formats.documents import rfc3339
from m2mapp.groups.results import GroupResults, MemberResult, shown_content

MOST_KEPT = 20_000
LARGEST_VALUE = 256
"""A longer content is not kept, in bytes; in its place stands how many bytes it has."""
DEFAULT_MAX_AGE_S = 60
"""For how long a value is fresh whose sender says nothing (RFC 7252, section 5.10.5)."""


class Value(NamedTuple):
    """A member's own content as a group read gave it, or text from a record. `at_s` None: from before the last start.

    A named tuple, for a thousand are made at the end of an operation; how it is shown is made out when it is shown.
    """

    content: bytes | str
    content_type: str | None
    at_ms: int
    at_s: float | None
    max_age_s: int = DEFAULT_MAX_AGE_S

    def document(self, now_s: float) -> dict[str, object]:
        """As it is shown. It is fresh as long as its sender said, or a minute; one from before a restart never is."""
        return {
            "contentType": self.content_type,
            "content": self.content if isinstance(self.content, str) else shown_content(self.content, self.content_type),
            "at": rfc3339(self.at_ms),
            "maxAge": self.max_age_s,
            "fresh": self.at_s is not None and now_s - self.at_s <= self.max_age_s,
        }

    @property
    def record(self) -> bytes | str:
        """The content as a record keeps it: as text where it is UTF-8."""
        try:
            return self.content if isinstance(self.content, str) else self.content.decode()
        except UnicodeDecodeError:
            return self.content


class Known(NamedTuple):
    """What is known of one member. `silent_ms`: when it was asked first of those times since which it has not answered."""

    heard_ms: int | None = None
    status: str | None = None
    via: str | None = None
    silent_ms: int | None = None
    value: Value | None = None

    def document(self, now_s: float) -> dict[str, object]:
        """As it is shown; null is what is not known."""
        return {
            "lastHeard": None if self.heard_ms is None else rfc3339(self.heard_ms),
            "status": self.status,
            "via": self.via,
            "silentSince": None if self.silent_ms is None else rfc3339(self.silent_ms),
            "value": None if self.value is None else self.value.document(now_s),
        }


UNKNOWN = Known()


class Latest:
    """What is known of the members that were asked last, of all groups: a member of two is one."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._known: OrderedDict[str, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, uri: str) -> Known:
        """What is known of a member."""
        return self._known.get(uri, UNKNOWN)

    def note(self, results: GroupResults, began_ms: int, began_s: float, *, values: bool) -> None:
        """A group request is over. `values`: what was read is the members' own content: a GET without suffix and query."""
        for uri, result in results.members.items():
            at_ms = began_ms + round(result.ms)
            if values and result.ok:
                value: Value | None = _value(result, at_ms, began_s + result.ms / 1000)
            else:
                value = self.of(uri).value
            self._keep(uri, Known(at_ms, result.status, result.via, None, value))
        for uri in results.silent:
            known = self.of(uri)
            if known.silent_ms is None:
                self._keep(uri, known._replace(silent_ms=began_ms))

    def restore(self, at_ms: int, body: Mapping[str, object]) -> None:
        """An older record of a group operation: it tells of members of whom nothing newer is known. The newest record comes first."""
        statuses, values, silent = body.get("statuses"), body.get("values"), body.get("silent")
        for uri, status in statuses.items() if isinstance(statuses, Mapping) else ():
            known, content = self.of(uri), values.get(uri) if isinstance(values, Mapping) else None
            value = Value(content, None, at_ms, None) if isinstance(content, bytes | str) else None
            if known.heard_ms is None:
                self._keep(uri, known._replace(heard_ms=at_ms, status=str(status), value=value))
            elif known.value is None and value is not None:
                self._keep(uri, known._replace(value=value))
        for uri in silent if isinstance(silent, Iterable) else ():
            known = self.of(str(uri))
            if known.heard_ms is None:
                self._keep(str(uri), known._replace(silent_ms=at_ms))

    def _keep(self, uri: str, known: Known) -> None:
        self._known[uri] = known
        self._known.move_to_end(uri)
        if len(self._known) > self._most:
            self._known.popitem(last=False)


def _value(result: MemberResult, at_ms: int, at_s: float) -> Value:
    max_age_s = DEFAULT_MAX_AGE_S if result.max_age_s is None else result.max_age_s
    if len(result.content) > LARGEST_VALUE:
        return Value(f"{len(result.content)} bytes", result.content_type, at_ms, at_s, max_age_s)
    return Value(result.content, result.content_type, at_ms, at_s, max_age_s)
