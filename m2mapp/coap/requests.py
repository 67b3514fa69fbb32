"""What a request's options say (RFC 7252, section 5.10, and the other documents that `numbers.OPTIONS` names).

Responsible for reading them strictly: an unknown, repeated or ill-sized critical option is refused, an elective one of the kind is
ignored (sections 5.4.1, 5.4.3, 5.4.5). Not responsible for answering.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Final, NoReturn

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import FIRST, Block
from m2mapp.coap.faults import Refused
from m2mapp.coap.message import Message, Options, number_in
from m2mapp.model.errors import Malformed, MethodNotAllowed, TooLarge, UnsupportedMediaType
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import ANY_ETAG, UNCONDITIONAL, Conditions, Method, Response

_ANY: Final = ("application/octet-stream", "*/*")
_REMEMBERED: Final = 1024
_MOST: Final = 8
_SHORT_BYTES: Final = 64


class Asked:
    """What the options of a request say. Attributes that no option set have the value that its absence means.

    Requests with the same options share one: nobody changes it once `read_options` has made it.
    """

    path: Path = ()
    accept: int | None = None
    accepted_types: tuple[str, ...] = ()
    content_type: str | None = None
    conditions: Conditions = UNCONDITIONAL
    etags: tuple[bytes, ...] = ()
    block1: Block | None = None
    block2: Block | None = None
    observe: int | None = None
    size2: int | None = None
    echo: bytes | None = None
    no_response: int | None = None
    request_id: bytes | None = None
    requester: bytes | None = None
    cause: tuple[str, ...] = ()
    deadline_ms: int | None = None
    query: tuple[tuple[str, str], ...] = ()
    told: tuple[Response, Method, int, Options, bytes] | None = None
    """What was answered last, and its code, options and payload: of what did not change the response is the same."""


def in_blocks_of(asked: Asked, exponent: int) -> Asked:
    """The same, as if blocks of no larger size had been asked for (RFC 7959, section 2.4: a server may choose so)."""
    block = asked.block2 or FIRST
    smaller = copy(asked)
    smaller.told = None  # in larger blocks
    exponent = min(exponent, block.exponent)
    smaller.block2 = Block(block.start >> (4 + exponent), False, exponent)
    return smaller


def method_of(message: Message) -> Method:
    """The method of a request. Raises `MethodNotAllowed` for a code that is none here (RFC 7252, section 5.8)."""
    method = numbers.METHOD_OF_CODE.get(message.code)
    if method is None:
        raise MethodNotAllowed(numbers.code_text(message.code), "this node", tuple(known.value for known in Method))
    return method


def read_options(message: Message, most: int) -> Asked:
    """What the options of a request say. Raises `Refused` or a `Fault` that names the option; `most` is how many are read."""
    options = message.options
    if len(options) > most:
        raise TooLarge("options", most, "options")
    asked = _known.get(options)
    if asked is None:
        asked = _read(options)
        if len(options) <= _MOST and sum(len(value) for _, value in options) <= _SHORT_BYTES:
            if len(_known) >= _REMEMBERED:
                _known.clear()
            _known[options] = asked
    return asked


def _read(options: Options) -> Asked:
    asked = Asked()
    before = -1
    for number, value in options:
        reader = _READERS.get(number)
        if reader is None:
            if number & 1:
                raise Refused(things.BAD_OPTION, f"option {number} is critical and not known here")
            continue
        read, shortest, longest, repeatable = reader
        again, before = number == before, number  # also after one that was ill-sized: what repeats it counts no more than that does
        if not shortest <= len(value) <= longest or (again and not repeatable):
            if number & 1:
                raise Refused(things.BAD_OPTION, f"{numbers.option_name(number)} of {len(value)} bytes, or repeated")
            if number in _NOT_IGNORED:
                raise Malformed(numbers.option_name(number), f"{len(value)} bytes{', repeated' if again else ''}", f"{longest} bytes, once")
            continue
        read(asked, value)
    return asked


def _text(value: bytes, number: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed(numbers.option_name(number), value, "UTF-8") from None


def _uri_path(asked: Asked, value: bytes) -> None:
    try:
        asked.path += (value.decode(),)
    except UnicodeDecodeError:
        raise Malformed("Uri-Path", value, "UTF-8") from None


def _uri_query(asked: Asked, value: bytes) -> None:
    key, _, rest = _text(value, things.URI_QUERY).partition("=")
    asked.query += ((key, rest),)


def _if_match(asked: Asked, value: bytes) -> None:
    asked.conditions = Conditions((*asked.conditions.if_match, value or ANY_ETAG), asked.conditions.if_none_match)


def _if_none_match(asked: Asked, _value: bytes) -> None:
    asked.conditions = Conditions(asked.conditions.if_match, (ANY_ETAG,))


def _etag(asked: Asked, value: bytes) -> None:
    asked.etags += (value,)


def _accept(asked: Asked, value: bytes) -> None:
    asked.accept = number_in(value)
    media_type = numbers.media_type_of(asked.accept)
    if media_type is None:
        raise Refused(things.NOT_ACCEPTABLE, f"Accept: {asked.accept} is no Content-Format known here")
    # A content whose media type has no number is served as octets, so that octets are any.
    asked.accepted_types = _ANY if asked.accept == numbers.OCTETS else (media_type,)


def _content_format(asked: Asked, value: bytes) -> None:
    number = number_in(value)
    asked.content_type = numbers.media_type_of(number)
    if asked.content_type is None:
        raise UnsupportedMediaType(f"Content-Format {number}", ("a registered Content-Format",))


def _block1(asked: Asked, value: bytes) -> None:
    asked.block1 = Block.parse(value, "Block1")


def _block2(asked: Asked, value: bytes) -> None:
    asked.block2 = Block.parse(value, "Block2")


def _observe(asked: Asked, value: bytes) -> None:
    asked.observe = number_in(value)


def _size2(asked: Asked, value: bytes) -> None:
    asked.size2 = number_in(value)


def _echo(asked: Asked, value: bytes) -> None:
    asked.echo = value


def _no_response(asked: Asked, value: bytes) -> None:
    asked.no_response = number_in(value)


def _request_id(asked: Asked, value: bytes) -> None:
    asked.request_id = value


def _requester(asked: Asked, value: bytes) -> None:
    asked.requester = value


def _cause(asked: Asked, value: bytes) -> None:
    if len(asked.cause) >= numbers.CAUSES:
        raise TooLarge("M2M-Cause", numbers.CAUSES, "operations")
    asked.cause += (_text(value, numbers.CAUSE),)


def _deadline(asked: Asked, value: bytes) -> None:
    asked.deadline_ms = number_in(value)


def _ignored(_asked: Asked, _value: bytes) -> None:
    """Known, and of no consequence here: a node has one name space, whatever it is called (RFC 7252, section 5.10.1); bytes are counted."""


def _proxy(_asked: Asked, _value: bytes) -> NoReturn:
    raise Refused(things.PROXYING_NOT_SUPPORTED, "this node is no proxy")


_READ_BY: Final[dict[int, Callable[[Asked, bytes], None]]] = {
    things.IF_MATCH: _if_match,
    things.URI_HOST: _ignored,
    things.ETAG: _etag,
    things.IF_NONE_MATCH: _if_none_match,
    things.OBSERVE: _observe,
    things.URI_PORT: _ignored,
    things.URI_PATH: _uri_path,
    things.CONTENT_FORMAT: _content_format,
    things.URI_QUERY: _uri_query,
    things.ACCEPT: _accept,
    things.BLOCK2: _block2,
    things.BLOCK1: _block1,
    things.PROXY_URI: _proxy,
    things.PROXY_SCHEME: _proxy,
    things.SIZE2: _size2,
    things.SIZE1: _ignored,
    numbers.ECHO: _echo,
    numbers.NO_RESPONSE: _no_response,
    numbers.REQUEST_ID: _request_id,
    numbers.REQUESTER: _requester,
    numbers.CAUSE: _cause,
    numbers.DEADLINE: _deadline,
}
_READERS: Final = {
    number: (read, numbers.OPTIONS[number].shortest, numbers.OPTIONS[number].longest, numbers.OPTIONS[number].repeatable)
    for number, read in _READ_BY.items()
}
_NOT_IGNORED: Final = frozenset({numbers.REQUEST_ID, numbers.REQUESTER})
"""Elective, for those who do not know them. Ill-sized or repeated they are refused: who sends one relies on its request being done once."""
_known: dict[Options, Asked] = {}
