"""A change of a subject, as it is kept until its operations are done: what it wrote, what was there before, and what led to it.

Pure: values to documents and back. When a change is kept, handed on and forgotten is in `drivers.feed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from m2mapp.formats.rules.sample import MAX_READ_BYTES
from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import CONTENT, Change, Document, Resource, Unit

TIMER = "timer"
"""The type of a timer's resource. It is a subject too: its firings are written as its content."""
WEIGHT_BYTES, SIZE_BYTES = 1_000, 200
"""What a change takes in memory and on disk beside its contents, roughly."""
CAUSE_BYTES = 255
"""What one operation of its cause takes at most."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a subject held. Of more than a rule reads the beginning is kept, so long that a rule still says that it is too much."""

    data: bytes
    media_type: str | None

    @property
    def whole(self) -> bool:
        """Whether this is all that the subject held."""
        return len(self.data) <= MAX_READ_BYTES


@dataclass(frozen=True, slots=True)
class SubjectChange:
    """One committed write of a subject's content. `number` is the change's number in the tree; equal contents are a change too.

    `before` is None where nothing was there. `at_ms` is the wall clock's time. `cause`: the operations that led to it, the first one
    first (`cause`). `principal`: the name of who wrote it.

    `only`: no write made it; it is for this operation alone, whose rule has held since `since_ms` for its time (`holding`).

    `weight`: how many bytes it takes in memory, roughly.
    """

    number: int
    path: Path
    before: Content | None
    after: Content
    at_ms: int
    cause: tuple[str, ...] = ()
    trace: str = ""
    principal: str = ""
    only: str = ""
    since_ms: int = 0
    weight: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Weigh it, once: every part that it passes through asks."""
        before = 0 if self.before is None else len(self.before.data)
        object.__setattr__(self, "weight", WEIGHT_BYTES + len(self.after.data) + before + CAUSE_BYTES * len(self.cause))

    @property
    def size_bytes(self) -> int:
        """How many bytes it takes on disk, roughly."""
        return self.weight - WEIGHT_BYTES + SIZE_BYTES

    def document(self) -> Document:
        """How it is kept on disk."""
        kept: dict[str, object] = {
            "number": self.number,
            "path": list(self.path),
            "at": self.at_ms,
            "content": self.after.data,
            "contentType": self.after.media_type,
            "trace": self.trace,
            "principal": self.principal,
        }
        if self.before is not None:
            kept["before"], kept["beforeType"] = self.before.data, self.before.media_type
        if self.cause:
            kept["cause"] = list(self.cause)
        if self.only:
            kept |= {"only": self.only, "since": self.since_ms}
        return kept


def written_by(unit: Unit, change: Change) -> SubjectChange | None:
    """The write of a subject's content that a change is; None for any other: what is deleted, or no subject by its type."""
    after = change.after
    if after is None or after.content is None or after.type not in (CONTENT, TIMER):
        return None
    cause = tuple(map(_text, unit.cause))
    return SubjectChange(
        change.number, change.path, _content(change.before), _kept(after), change.at_ms, cause, _text(change.trace), _text(unit.principal)
    )


def change_in(kept: Mapping[str, object]) -> SubjectChange | None:
    """The change that a document is; None where it is none."""
    try:
        return SubjectChange(
            int(str(kept["number"])),
            tuple(map(str, _list(kept["path"]))),
            _content_in(kept, "before") if "before" in kept else None,
            _content_in(kept, "content"),
            int(str(kept["at"])),
            tuple(map(str, _list(kept.get("cause", [])))),
            str(kept["trace"]),
            str(kept["principal"]),
            str(kept.get("only", "")),
            int(str(kept.get("since", 0))),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _content(resource: Resource | None) -> Content | None:
    return _kept(resource) if resource is not None and resource.content is not None else None


def _kept(resource: Resource) -> Content:
    return Content((resource.content or b"")[: MAX_READ_BYTES + 1], resource.media_type)


def _text(text: str) -> str:
    """The text, as it can be written: names may hold what was no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    return value


def _content_in(kept: Mapping[str, object], name: str) -> Content:
    data, media_type = kept[name], kept[f"{name}Type"]
    if not isinstance(data, bytes):
        raise TypeError(type(data).__name__)
    return Content(data, None if media_type is None else str(media_type))
