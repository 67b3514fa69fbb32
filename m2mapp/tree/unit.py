"""Values of the tree: resources, the units that change them, and the changes that come of it.

A unit is done whole or not at all: several writes and removals, and entries for journals, with what must hold before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import UNCONDITIONAL, Conditions

Document = Mapping[str, object]
"""A document as JSON and CBOR both can say it: text keys; None, bool, int, float, str, bytes, lists and documents as values."""

EMPTY: Document = MappingProxyType({})
CONTENT = "content"
COLLECTION = "collection"

CHANGES = "changes"
"""The journal of all changes; entries bear the change's number."""
VALUES = "values"
"""The journal of a content resource's values is named `values` and its path: `values/temperature`."""
REQUESTS = "requests"
"""The journal of writes that bear a request identifier; that of groups' is named `requests/groups` (`tree.done`)."""
GROUP_REQUESTS = REQUESTS + "/groups"
OPERATIONS = "operations"
"""The journal of what operations have to know after a restart (`triggers.state_log`)."""
RECORDS = "records"
"""The journals of what the resource at a path did are named `records`, what they tell, and its path: `records/runs/temperature/...`."""
RUNS, NOTHING = "runs", "nothing"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as it stands. `version` is the number of the change that wrote it; times are wall-clock milliseconds (UTC)."""

    path: Path
    type: str
    attributes: Document
    content: bytes | None
    media_type: str | None
    created_ms: int
    modified_ms: int
    version: int


@dataclass(frozen=True, slots=True)
class Write:
    """What shall stand at a path from now on, whole. Missing ancestors become collections."""

    path: Path
    type: str = CONTENT
    attributes: Document = field(default_factory=lambda: EMPTY)
    content: bytes | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """The resource at a path and all below it go."""

    path: Path


@dataclass(frozen=True, slots=True)
class Append:
    """One entry for a journal. The store bounds each journal in number and bytes; the oldest entries go first."""

    journal: str
    body: Document


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must hold of a path, seen with the writes that are pending, or the unit is not done.

    `exists`: True: else `NoSuchResource`; False: else `Conflict`. `conditions`: else `PreconditionFailed`.
    """

    path: Path
    conditions: Conditions = UNCONDITIONAL
    exists: bool | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """Several changes and journal entries as one.

    Later changes win: a path that is removed and then written is replaced, and keeps its time of creation and volatile attributes.
    `record` makes one more entry, small, of the changes as they were numbered. `cause` lists the operations that led to it, `principal`
    names who asked for it (spec sections 6 and 7): for whoever follows the changes.
    """

    changes: tuple[Write | Remove, ...] = ()
    appends: tuple[Append, ...] = ()
    requires: tuple[Requirement, ...] = ()
    trace: str = ""
    record: Callable[[tuple[Change, ...]], Append] | None = None
    cause: tuple[str, ...] = ()
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change of one resource, with its number. `before` is None where it was created, `after` where it went."""

    number: int
    path: Path
    before: Resource | None
    after: Resource | None
    at_ms: int
    trace: str

    @property
    def kind(self) -> str:
        """`created`, `changed` or `deleted`: the event's kind (spec section 12)."""
        if self.after is None:
            return "deleted"
        return "created" if self.before is None else "changed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a journal, numbered. Numbers grow within a journal and have gaps. `at_ms` is the wall clock's time."""

    journal: str
    number: int
    at_ms: int
    body: Document


@dataclass(frozen=True, slots=True)
class Staged:
    """A unit that was checked and numbered and is not durable yet: what the store writes."""

    changes: tuple[Change, ...]
    entries: tuple[Entry, ...]
    last_number: int


def values_journal(path: Path) -> str:
    """The name of the journal that holds the latest values of the content resource at a path."""
    return VALUES + "/" + "/".join(path)


def records_journal(kind: str, path: str) -> str:
    """The name of the journal that holds what the resource at a path (as text) did: `RUNS`, or `NOTHING`, which holds what it did not."""
    return f"{RECORDS}/{kind}/{path.lstrip('/')}"


def journals_ended(change: Change) -> tuple[str, ...]:
    """The journals that go with what a change ends: nobody reads them from now on."""
    before, after = change.before, change.after
    if before is None or before.type == COLLECTION or (after is not None and after.type == before.type):
        return ()
    if before.type == CONTENT:
        return (values_journal(change.path),)
    return tuple(records_journal(kind, path_text(change.path)) for kind in (RUNS, NOTHING))
