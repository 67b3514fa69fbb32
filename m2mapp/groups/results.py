"""The joined answer of a group request: one document for all members (spec sections 4 and 12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from m2mapp.formats.documents import RESULTS_CBOR, RESULTS_JSON, bare, choose, content_value, dump_cbor, dump_json
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Method, Response, Status

OFFERED = (RESULTS_JSON, RESULTS_CBOR, "application/json", "application/cbor")


class MemberResult(NamedTuple):
    """What one member answered: its own status ("2.05", "200"), how it was reached, and the milliseconds until then.

    A named tuple, as `Answer` is: they are made by the thousand.
    """

    status: str
    content: bytes
    content_type: str | None
    via: str
    ms: float


@dataclass(frozen=True, slots=True)
class GroupResults:
    """What came of one group request.

    `unknown`: members of which it is not known whether they acted (POST is not repaired); they are silent, too.
    """

    group: str
    request_id: bytes
    trace: str
    members: Mapping[str, MemberResult]
    silent: tuple[str, ...]
    sent: int
    received: int
    ms: float
    loops: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every member answered."""
        return not self.silent

    def document(self) -> dict[str, object]:
        """The joined answer as spec section 12 has it."""
        return {
            "group": path_text(("groups", self.group)),
            "requestId": self.request_id.hex(),
            "trace": self.trace,
            "complete": self.complete,
            "datagrams": {"sent": self.sent, "received": self.received},
            "ms": round(self.ms, 1),
            "silent": list(self.silent),
            "loops": self.loops,
            "members": {
                **{uri: _entry(result) for uri, result in self.members.items()},
                **{uri: {"status": "unknown"} for uri in self.unknown},
            },
        }

    def response(self, method: Method, accept: tuple[str, ...]) -> Response:
        """The response that carries the document. Raises `NotAcceptable`."""
        media_type = choose(accept, OFFERED)
        payload = dump_cbor(self.document()) if bare(media_type).endswith("cbor") else dump_json(self.document())
        status = Status.CONTENT if method is Method.GET else Status.CHANGED
        return Response(status, payload, media_type, max_age_s=0)


def _entry(result: MemberResult) -> dict[str, object]:
    entry: dict[str, object] = {"status": result.status, "via": result.via, "ms": round(result.ms, 1)}
    if result.content or result.content_type:
        entry["contentType"] = result.content_type
        entry["content"] = content_value(result.content, result.content_type)
    return entry
