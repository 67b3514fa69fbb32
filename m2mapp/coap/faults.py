"""How each fault is told over CoAP: response code, options, diagnostic payload (RFC 7252, section 5.5.2).

Responsible for the one table of `m2mapp.model.errors` for CoAP, and for what CoAP refuses that no other part knows of. Not responsible
for sending.
"""

from __future__ import annotations

from typing import Final

from m2mapp.coap import numbers, things
from m2mapp.coap.message import Message, Options, uint
from m2mapp.model import errors

_DIAGNOSTIC_BYTES: Final = 512

CODES: Final[dict[str, int]] = {
    errors.InternalError.kind: things.INTERNAL_SERVER_ERROR,
    errors.Malformed.kind: things.BAD_REQUEST,
    errors.Unauthenticated.kind: things.UNAUTHORIZED,
    errors.Forbidden.kind: things.FORBIDDEN,
    errors.NoSuchResource.kind: things.NOT_FOUND,
    errors.MethodNotAllowed.kind: things.METHOD_NOT_ALLOWED,
    errors.NotAcceptable.kind: things.NOT_ACCEPTABLE,
    errors.UnsupportedMediaType.kind: things.UNSUPPORTED_CONTENT_FORMAT,
    errors.Conflict.kind: numbers.CONFLICT,
    errors.PreconditionFailed.kind: things.PRECONDITION_FAILED,
    errors.TooLarge.kind: things.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyRequests.kind: numbers.TOO_MANY_REQUESTS,
    errors.Overloaded.kind: things.SERVICE_UNAVAILABLE,
    errors.StorageFull.kind: things.INTERNAL_SERVER_ERROR,
    errors.StorageFailed.kind: things.INTERNAL_SERVER_ERROR,
    errors.PeerFailed.kind: things.BAD_GATEWAY,
    errors.DeadlinePassed.kind: things.GATEWAY_TIMEOUT,
    errors.LoopDetected.kind: numbers.HOP_LIMIT_REACHED,
    errors.NotSupported.kind: things.NOT_IMPLEMENTED,
}
"""The response code of each kind: RFC 7252 5.9, RFC 8132 (4.09), RFC 8516 (4.29), RFC 8768 (5.08, also for loops: spec section 6)."""


class Refused(Exception):  # noqa: N818 - a fact, not a mistake of the program
    """What CoAP itself refuses, with the response code that says so, and its options."""

    def __init__(self, code: int, diagnostic: str, options: Options = ()) -> None:
        super().__init__(diagnostic)
        self.code = code
        self.options = options


def fault_message(fault: errors.Fault, token: bytes, trace: str) -> Message:
    """The response that tells a fault. Its diagnostic payload has the kind, the detail and the trace id."""
    options: list[tuple[int, bytes]] = []
    if isinstance(fault, errors.TooManyRequests | errors.Overloaded):
        options.append((things.MAX_AGE, uint(fault.retry_after_s)))  # when to try again: RFC 7252 5.9.3.4, RFC 8516
    elif isinstance(fault, errors.LoopDetected):
        options.append((things.MAX_AGE, b""))
    elif isinstance(fault, errors.TooLarge):
        options.append((things.SIZE1, uint(min(fault.limit, 0xFFFFFFFF))))  # RFC 7959, section 4
    code = CODES.get(fault.kind, things.INTERNAL_SERVER_ERROR)
    return Message(things.NON, code, 0, token, tuple(options), _diagnostic(f"{fault.kind}: {fault.detail}", trace))


def refusal_message(refused: Refused, token: bytes, trace: str) -> Message:
    """The response that tells a refusal."""
    return Message(things.NON, refused.code, 0, token, refused.options, _diagnostic(str(refused), trace))


def _diagnostic(text: str, trace: str) -> bytes:
    """UTF-8 text of at most so many bytes, ending with the trace id."""
    return text.encode(errors="replace")[:_DIAGNOSTIC_BYTES].decode(errors="ignore").encode() + f" (trace {trace})".encode()
