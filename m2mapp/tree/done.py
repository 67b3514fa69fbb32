"""What stands in a journal of writes that bear a request identifier, so that they are known after a restart (spec section 6).

Pure: values to documents and back. When they are written and read is in `tree.drivers.once`.
"""

from __future__ import annotations

from collections.abc import Mapping

from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method, Response, Status
from m2mapp.model.seen import Seen, State
from m2mapp.tree.unit import Document

LONGEST_PAYLOAD = 1 << 16
"""A joined answer with a larger payload is not kept over a restart: who asks again is told so."""


def record_of(one: Seen, answer: Response) -> Document:
    """The entry of a write that is done with this answer."""
    identifier, method, path = one.key
    kept: dict[str, object] = {"status": answer.status.value, "type": answer.content_type, "etag": answer.etag}
    if answer.location is not None:
        kept["location"] = list(answer.location)
    if len(answer.payload) <= LONGEST_PAYLOAD and answer.stream is None:
        kept["payload"] = answer.payload
    return {
        "id": identifier,
        "method": method.value,
        "path": list(path),
        "requester": one.requester,
        "owner": one.owner,
        "asked": one.asked,
        "answer": kept,
    }


def seen_in(body: Document, until_s: float) -> Seen | None:
    """The write that an entry tells of, remembered until then; None where the entry is not one."""
    try:
        key = (_bytes(body["id"]), Method(body["method"]), _path(body["path"]))
        kept = body["answer"]
        one = Seen(key, _bytes(body["requester"]), str(body["owner"]), int(str(body["asked"])), until_s, state=State.DONE)
        if isinstance(kept, Mapping) and "payload" in kept:
            one.answer = Response(
                Status(kept["status"]),
                _bytes(kept["payload"]),
                None if kept["type"] is None else str(kept["type"]),
                None if kept["etag"] is None else _bytes(kept["etag"]),
                _path(kept["location"]) if "location" in kept else None,
            )
    except (KeyError, TypeError, ValueError):
        return None
    return one


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(type(value).__name__)
    return value


def _path(value: object) -> Path:
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    return tuple(str(segment) for segment in value)
