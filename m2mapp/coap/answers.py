"""How a `Response` is told over CoAP: code, options, and which block of the payload.

Responsible for that translation and for whether a response is to be sent at all (RFC 7252 section 8.2, RFC 7967). Not responsible for
sending it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import FIRST, LARGEST_SIZE_EXPONENT, Block, cut
from m2mapp.coap.message import Message, uint
from m2mapp.coap.requests import Asked
from m2mapp.model.errors import NotAcceptable
from m2mapp.model.messages import Method, Response, Status

LARGEST_PAYLOAD: Final = 16 << LARGEST_SIZE_EXPONENT
"""The largest payload that goes in one piece, in bytes (RFC 7252, section 4.6)."""
_LONGEST_ETAG: Final = 8
_LONGEST_AGE_S: Final = 0xFFFFFFFF
_SUCCESS: Final = 2

_CODES: Final[dict[Status, int]] = {
    Status.CREATED: things.CREATED,
    Status.DELETED: things.DELETED,
    Status.VALID: things.VALID,
    Status.CHANGED: things.CHANGED,
    Status.CONTENT: things.CONTENT,
}
_NO_CONTENT: Final[dict[Method, int]] = {
    Method.POST: things.CHANGED,
    Method.PUT: things.CHANGED,
    Method.PATCH: things.CHANGED,
    Method.DELETE: things.DELETED,
}


def code_of(status: Status, method: Method) -> int:
    """The response code. 2.05 answers GET only, 2.04 no DELETE (RFC 7252, section 5.9.1): what other methods give is 2.04 or 2.02."""
    if status in (Status.CONTENT, Status.CHANGED):
        return _NO_CONTENT.get(method, _CODES[status])
    return _CODES[status]


def response_message(response: Response, method: Method, asked: Asked, token: bytes) -> tuple[Message, Block | None]:
    """The message of a response, its type and message ID left to the message layer, and its block where it is one of several.

    Raises `NotAcceptable` where octets were asked for and the content is of a type with a number of its own, and `Malformed` for a
    block behind the end.
    """
    told = asked.told
    if told is not None and told[1] is method and told[0] == response:
        return Message(things.NON, told[2], 0, token, told[3], told[4]), None
    message, several = _message(response, method, asked, token)
    if several is None and len(response.payload) <= LARGEST_PAYLOAD:
        asked.told = (response, method, message.code, message.options, message.payload)
    return message, several


def _message(response: Response, method: Method, asked: Asked, token: bytes) -> tuple[Message, Block | None]:
    code, payload = code_of(response.status, method), response.payload
    etag = response.etag
    if code == things.CONTENT and etag is not None and etag in asked.etags:
        code, payload = things.VALID, b""
    content_format = None if code == things.VALID else _content_format(response, payload, method, asked)
    block = None
    if asked.block2 is not None or len(payload) > LARGEST_PAYLOAD:
        block, part = cut(payload, asked.block2 or FIRST)
        if block.more or block.number:
            etag = etag or hashlib.blake2b(payload, digest_size=_LONGEST_ETAG).digest()
    else:
        part = payload
    options: list[tuple[int, bytes]] = []
    if etag:
        options.append((things.ETAG, etag[:_LONGEST_ETAG]))
    if response.location is not None:
        options += [(things.LOCATION_PATH, segment.encode()) for segment in response.location]
    if content_format is not None:
        options.append((things.CONTENT_FORMAT, uint(content_format)))
    if response.max_age_s is not None:
        options.append((things.MAX_AGE, uint(min(response.max_age_s, _LONGEST_AGE_S))))
    if block is not None or asked.block1 is not None or asked.size2 is not None:
        _append_blocks(options, asked, block, len(payload))
    several = block if block is not None and (block.more or block.number) else None
    return Message(things.NON, code, 0, token, tuple(options), part), several


def _content_format(response: Response, payload: bytes, method: Method, asked: Asked) -> int | None:
    """The Content-Format of what is sent, if anything with a media type is."""
    if response.content_type is None or (not payload and response.status is not Status.CONTENT):
        return None
    number = numbers.format_of(response.content_type)
    if asked.accept == numbers.OCTETS and method is Method.GET and number not in (None, numbers.OCTETS):
        raise NotAcceptable((response.content_type,))
    return numbers.OCTETS if number is None else number


def _append_blocks(options: list[tuple[int, bytes]], asked: Asked, block: Block | None, size: int) -> None:
    """Block2, Block1 and Size2, in the order of their numbers (RFC 7959, sections 2.2, 2.3 and 4)."""
    if block is not None:
        options.append((things.BLOCK2, block.build()))
    if asked.block1 is not None:
        options.append((things.BLOCK1, Block(asked.block1.number, False, asked.block1.exponent).build()))
    if (block is not None and block.more and not block.number) or (asked.size2 is not None and size):
        options.append((things.SIZE2, uint(size)))


def continue_message(block: Block, token: bytes) -> Message:
    """2.31 Continue: this block of a request's payload came, the next may (RFC 7959, section 2.9.1)."""
    return Message(things.NON, things.CONTINUE, 0, token, ((things.BLOCK1, Block(block.number, True, block.exponent).build()),))


def is_wanted(message: Message, asked: Asked | None, multicast: bool) -> bool:
    """Whether a response is sent: No-Response decides where it is there (RFC 7967, section 2.1), else whether a group was asked.

    Asked as one of a group, only a success that says something is sent (RFC 7252, section 8.2), or that one may be had with Echo.
    """
    kind = message.code >> 5
    if asked is not None and asked.no_response is not None:
        return not asked.no_response >> (kind - 1) & 1
    return not multicast or (kind == _SUCCESS and bool(message.payload)) or message.first(numbers.ECHO) is not None
