"""The closed family of errors that one part of the program can raise to another.

Responsible for naming facts (`NoSuchResource`, `StorageFull`) and carrying their data. Not responsible for how a fact is told:
`http.problems` and `coap.codes` each map every `kind` to a status, and a test checks that none is missing.
"""

from __future__ import annotations

import reprlib
from typing import ClassVar

_SHOWN_CHARACTERS = 80


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = _SHOWN_CHARACTERS


def _repr(value: object) -> str:
    """The value as Python writes it, shortened while it is written: a large one costs no more than a small one."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits.
        return f"a very large {type(value).__name__}"


def shown(value: object) -> str:
    """The value as it may stand in an error: one line, at most 80 characters, without control characters."""
    text = value if isinstance(value, str) else _repr(value)
    clean = "".join(character if character.isprintable() else "\ufffd" for character in text[: _SHOWN_CHARACTERS + 1])
    return clean if len(clean) <= _SHOWN_CHARACTERS else clean[: _SHOWN_CHARACTERS - 1] + "\u2026"


class Fault(Exception):  # noqa: N818 - a fact, not a mistake of the program
    """One fact that keeps a request from being done. Only the subclasses below are raised.

    `kind` is the name that problem details and diagnostic payloads carry; `detail` is for a person.
    """

    kind: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    leisure_s: float | None = None
    """As `Response.leisure_s`: set by the member role on the faults of a group request."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title

    def extensions(self) -> dict[str, object]:
        """Further members of the problem details document (RFC 9457, section 3.2)."""
        return {}


class InternalError(Fault):
    """Something that nobody foresaw; the log has it under the trace id."""


class Malformed(Fault):
    """A part of the request is not what it has to be: says which field, which value, what would be right."""

    kind = "malformed"
    title = "Malformed request"

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field, self.value, self.expected = shown(field), shown(value), expected
        super().__init__(f"{self.field}: {self.value} is not {expected}")

    def extensions(self) -> dict[str, object]:
        """The field, its value (shortened), and what would be right."""
        return {"field": self.field, "value": self.value, "expected": self.expected}


class Unauthenticated(Fault):
    """Nobody is named by the request, and this needs somebody."""

    kind = "unauthenticated"
    title = "Sign-in needed"


class Forbidden(Fault):
    """The principal is known and has no right to this."""

    kind = "forbidden"
    title = "Not allowed"


class NoSuchResource(Fault):
    """There is nothing at this path."""

    kind = "not-found"
    title = "No such resource"

    def __init__(self, path: str) -> None:
        self.path = shown(path)
        super().__init__(f"there is no resource at {self.path}")


class MethodNotAllowed(Fault):
    """The resource is there and does not take this method."""

    kind = "method-not-allowed"
    title = "Method not allowed"

    def __init__(self, method: str, path: str, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed
        super().__init__(f"{shown(path)} takes {', '.join(allowed) or 'no method'}, not {method}")

    def extensions(self) -> dict[str, object]:
        """The methods that the resource takes."""
        return {"allowed": list(self.allowed)}


class NotAcceptable(Fault):
    """None of the representations is one that the caller accepts."""

    kind = "not-acceptable"
    title = "No acceptable representation"

    def __init__(self, offered: tuple[str, ...], why: str = "") -> None:
        self.offered = offered
        super().__init__(f"{why}; offered: {', '.join(offered)}" if why else f"offered: {', '.join(offered)}")

    def extensions(self) -> dict[str, object]:
        """The media types that are offered."""
        return {"offered": list(self.offered)}


class UnsupportedMediaType(Fault):
    """The payload's media type is not one that this resource takes."""

    kind = "unsupported-media-type"
    title = "Unsupported media type"

    def __init__(self, given: str | None, taken: tuple[str, ...]) -> None:
        self.taken = taken
        super().__init__(f"content type {shown(given or 'none')} is not one of {', '.join(taken)}")


class Conflict(Fault):
    """The request contradicts what is there: a name taken, a reserved name."""

    kind = "conflict"
    title = "Conflict"


class PreconditionFailed(Fault):
    """If-Match or If-None-Match does not hold: somebody else wrote first."""

    kind = "precondition-failed"
    title = "Precondition failed"


class TooLarge(Fault):
    """Something is larger than what is taken."""

    kind = "too-large"
    title = "Too large"

    def __init__(self, field: str, limit: int, unit: str = "bytes") -> None:
        self.field, self.limit = field, limit
        super().__init__(f"{field}: at most {limit} {unit}")

    def extensions(self) -> dict[str, object]:
        """The field and the limit."""
        return {"field": self.field, "limit": self.limit}


class TooManyRequests(Fault):
    """This source has more under way than it may have."""

    kind = "too-many-requests"
    title = "Too many requests"

    def __init__(self, detail: str = "", retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class Overloaded(Fault):
    """The node has more under way than it can take; later."""

    kind = "overloaded"
    title = "Overloaded"

    def __init__(self, detail: str = "", retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class StorageFull(Fault):
    """The disk takes no more: the write was dropped."""

    kind = "storage-full"
    title = "Storage full"


class StorageFailed(Fault):
    """The disk failed in another way: the write was dropped."""

    kind = "storage-failed"
    title = "Storage failed"


class PeerFailed(Fault):
    """Another node, or a device, was asked and gave no usable answer."""

    kind = "peer-failed"
    title = "Peer failed"


class NotSent(PeerFailed):
    """The same, and the request did not leave: nobody is there who could have acted on it."""


class AnswerTooLarge(PeerFailed):
    """What it answered is more than is taken here: it is told as any `PeerFailed`, but asking again would give the same."""


class DeadlinePassed(Fault):
    """The answer did not come before the deadline."""

    kind = "deadline-passed"
    title = "Deadline passed"


class LoopDetected(Fault):
    """The request has been here before by another way (US 9,438,601)."""

    kind = "loop-detected"
    title = "Loop detected"


class NotSupported(Fault):
    """The request asks for something that this program does not do."""

    kind = "not-supported"
    title = "Not supported"


def every_fault() -> tuple[type[Fault], ...]:
    """All faults there are: the edges' tables are checked against this."""
    return tuple(Fault.__subclasses__())
