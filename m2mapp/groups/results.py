"""What came of a group request: each member's result, and the joined document of all (spec sections 4 and 12). Pure.

Not responsible for which representation a caller gets: `forms`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from m2mapp.formats.documents import RESULTS_CBOR, RESULTS_JSON, bare, content_bytes, content_value, load_document
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Answer


class MemberResult(NamedTuple):
    """What one member answered: its own status ("2.05", "200"), how it was reached, and the milliseconds until then.

    `max_age_s`: for how long it says that this is fresh; None where it says nothing. A named tuple, as `Answer` is.
    """

    status: str
    content: bytes
    content_type: str | None
    via: str
    ms: float
    max_age_s: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the status says that it went well."""
        return self.status.startswith("2")

    def entry(self) -> dict[str, object]:
        """The member's entry in the joined document."""
        entry: dict[str, object] = {"status": self.status, "via": self.via, "ms": round(self.ms, 1)}
        if self.content or self.content_type:
            entry["contentType"] = self.content_type
            entry["content"] = shown_content(self.content, self.content_type)
        return entry


def shown_content(content: bytes, media_type: str | None) -> object:
    """Content as it stands inside a document. Without a media type, which may be any (RFC 7252, 5.5.1), it is text where it can be."""
    if media_type is None:
        try:
            text = content.decode()
            if text.isprintable() or text.translate(_BREAKS).isprintable():
                return text
        except UnicodeDecodeError:
            pass  # Then it is bytes.
    return content_value(content, media_type)


_BREAKS = {ord(character): None for character in "\t\r\n"}


@dataclass(frozen=True, slots=True)
class GroupResults:
    """What came of one group request.

    `unknown`: members of which it is not known whether they acted (POST is not repaired); they are silent, too. `refused`: the one
    reason for which nobody could be asked, where that is so. `looped`: members that had this request by another way, and whose answer did
    not come here; `loops` counts such answers, those of groups too (US 9,438,601: they are no member's result).
    """

    group: str
    request_id: bytes | None
    trace: str
    members: Mapping[str, MemberResult]
    silent: tuple[str, ...]
    sent: int
    received: int
    ms: float
    loops: int = 0
    unknown: tuple[str, ...] = ()
    refused: Fault | None = None
    looped: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every member's answer is here."""
        return not self.silent and not self.looped

    def document(self) -> dict[str, object]:
        """The joined answer as spec section 12 has it."""
        return {
            **self.summary(),
            "members": {
                **{uri: result.entry() for uri, result in self.members.items()},
                **{uri: {"status": "unknown"} for uri in self.unknown},
            },
        }

    def summary(self) -> dict[str, object]:
        """The joined answer without the members' own."""
        return {
            "group": path_text(("groups", self.group)),
            "requestId": self.request_id.hex() if self.request_id is not None else None,
            "trace": self.trace,
            "complete": self.complete,
            "datagrams": {"sent": self.sent, "received": self.received},
            "ms": round(self.ms, 1),
            "silent": list(self.silent),
            "loops": self.loops,
            **({"looped": list(self.looped)} if self.looped else {}),
        }


def parts_of(answer: Answer, uris: Sequence[str]) -> list[tuple[str, Answer]]:
    """The parts of a device's answer that belong to these of its members: one document for all, keyed by the entries of its memberList.

    A member that the document does not have gave no answer. An answer that is no such document is each member's: to the device they are
    one resource by several names.
    """
    if bare(answer.content_type) not in (RESULTS_JSON, RESULTS_CBOR):
        return [(uri, answer) for uri in uris]
    try:
        entries = load_document(answer.payload, answer.content_type).get("members")
    except Fault:
        return [(uri, answer) for uri in uris]
    found = []
    for uri in uris:
        entry = _entry_of(entries, uri) if isinstance(entries, Mapping) else None
        if entry is not None:
            found.append((uri, Answer(*entry, answer.source, answer.port, answer.elapsed_s, max_age_s=answer.max_age_s)))
    return found


def _entry_of(entries: Mapping[str, object], uri: str) -> tuple[str, bytes, str | None] | None:
    """Status, content and media type of a member in its device's document: under its path there, or its whole URI."""
    entry = entries.get(path_text(parse_uri(uri).path), entries.get(uri))
    status = entry.get("status") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(status, str):
        return None
    media_type = entry.get("contentType")
    if not isinstance(media_type, str):
        media_type = None
    if "content" not in entry:
        return status, b"", media_type
    try:
        content, _ = content_bytes(entry["content"], media_type)
    except Fault:
        return None
    return status, content, media_type
