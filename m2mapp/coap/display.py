"""A CoAP message as one line for a person: `CON GET mid=0x1a2b token=9f86 /temperature?x=1 Accept:application/json`.

Pure. Responsible for the words, for bounds, and for letting nothing through that a terminal would obey. Names of options are those of
the IANA registry and of this program's own options (`numbers.OPTIONS`). Not responsible for who sent the message, nor for when.
"""

from __future__ import annotations

import json
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from m2mapp.coap import numbers, things
from m2mapp.coap.addresses import source_text
from m2mapp.coap.blocks import Block
from m2mapp.coap.message import MalformedMessage, Message, number_in
from m2mapp.formats.documents import is_cbor, is_json, is_text, load_cbor
from m2mapp.formats.uris import QUERY_SAFE, SEGMENT_SAFE
from m2mapp.model.errors import Malformed
from m2mapp.net.interfaces import Sockaddr

_TYPES: Final = {things.CON: "CON", things.NON: "NON", things.ACK: "ACK", things.RST: "RST"}
_REQUESTS: Final = {
    things.GET: "GET",
    things.POST: "POST",
    things.PUT: "PUT",
    things.DELETE: "DELETE",
    numbers.FETCH: "FETCH",
    numbers.PATCH: "PATCH",
    numbers.IPATCH: "iPATCH",
}
_LAST_REQUEST_CODE: Final = 31
_OF_THE_TARGET: Final = frozenset({things.URI_PATH, things.URI_QUERY})
_UTF8: Final = getincrementaldecoder("utf-8")

_OPTIONS_SHOWN: Final = 24
_SEGMENTS_SHOWN: Final = 32
_CHARACTERS_OF_A_VALUE: Final = 100
_CHARACTERS_OF_A_TARGET: Final = 200
_CHARACTERS_OF_A_PAYLOAD: Final = 160
_CBOR_DECODED_BYTES: Final = 1_024


def endpoint_text(address: Sockaddr, names: Mapping[int, str]) -> str:
    """An address with its port as a URI has them; `names` has the interfaces' names by index."""
    host = source_text(address, names)
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def describe(message: Message | MalformedMessage, data: bytes, *, payload: bool = True) -> str:
    """The line of a message, or of a datagram that is none, with its bytes. Without `payload` its size stands in the payload's place."""
    if isinstance(message, MalformedMessage):
        return f"malformed: {message}: {_hex(data, _CHARACTERS_OF_A_PAYLOAD) if payload else _not_shown(data)}"
    kind = _TYPES[message.mtype]
    if message.code == things.EMPTY:
        what = {things.CON: " Empty (a ping)", things.RST: ""}.get(message.mtype, " Empty")
        return f"{kind}{what} mid=0x{message.mid:04x}"
    parts = [kind, _REQUESTS.get(message.code) or numbers.code_text(message.code), f"mid=0x{message.mid:04x}"]
    if message.token:
        parts.append(f"token={message.token.hex()}")
    if message.code <= _LAST_REQUEST_CODE:
        parts.append(_target(message))
        parts += _options([option for option in message.options if option[0] not in _OF_THE_TARGET])
    else:
        parts += _options(message.options)
    if message.payload:
        parts.append(_payload(message) if payload else _not_shown(message.payload))
    return " ".join(parts)


def escaped(text: str, most: int) -> str:
    """Text in quotes, cut to so many characters, with everything escaped that does not print."""
    cut = text[:most]
    clean = "".join(_clean(character) for character in cut)
    return f'"{clean}"' if len(cut) == len(text) else f'"{clean}..."'


def _clean(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()


def _not_shown(data: bytes) -> str:
    return f"({len(data)} bytes, not shown)"


def _hex(data: bytes, most: int) -> str:
    """Bytes as CBOR's diagnostic notation has them (RFC 8949, section 8)."""
    cut = data[: most // 2]
    return f"h'{cut.hex()}'" if len(cut) == len(data) else f"h'{cut.hex()}'..."


def _target(message: Message) -> str:
    """Uri-Path and Uri-Query, percent-encoded."""
    path, query = message.every(things.URI_PATH), message.every(things.URI_QUERY)
    text = "/" + "/".join(quote(segment, safe=SEGMENT_SAFE) for segment in path[:_SEGMENTS_SHOWN])
    if query:
        text += "?" + "&".join(quote(argument, safe=QUERY_SAFE + "=") for argument in query[:_SEGMENTS_SHOWN])
    return text if len(text) <= _CHARACTERS_OF_A_TARGET else text[:_CHARACTERS_OF_A_TARGET] + "..."


def _options(options: Sequence[tuple[int, bytes]]) -> list[str]:
    """Each by its name with its value."""
    shown = [_option(number, value) for number, value in options[:_OPTIONS_SHOWN]]
    return [*shown, f"({len(options) - len(shown)} more options)"] if len(shown) < len(options) else shown


def _option(number: int, value: bytes) -> str:
    known = numbers.OPTIONS.get(number)
    name = numbers.option_name(number).replace("option ", "option-")
    if known is None or not known.shortest <= len(value) <= known.longest:
        return f"{name}:{_hex(value, _CHARACTERS_OF_A_VALUE)}"
    if not known.longest:
        return name
    return f"{name}:{_VALUES.get(number, _opaque)(value)}"


def _opaque(value: bytes) -> str:
    return value.hex() if len(value) <= _CHARACTERS_OF_A_VALUE // 2 else _hex(value, _CHARACTERS_OF_A_VALUE)


def _number(value: bytes) -> str:
    return str(number_in(value))


def _milliseconds(value: bytes) -> str:
    return f"{number_in(value)}ms"


def _text(value: bytes) -> str:
    try:
        return escaped(value.decode(), _CHARACTERS_OF_A_VALUE)
    except UnicodeDecodeError:
        return _hex(value, _CHARACTERS_OF_A_VALUE)


def _segment(value: bytes) -> str:
    return quote(value, safe=QUERY_SAFE + "=")[:_CHARACTERS_OF_A_VALUE]


def _format(value: bytes) -> str:
    number = number_in(value)
    return numbers.media_type_of(number) or str(number)


def _block(value: bytes) -> str:
    """Number, whether more follow, size (RFC 7959, section 2.2)."""
    try:
        block = Block.parse(value, "block")
    except Malformed:
        return _hex(value, _CHARACTERS_OF_A_VALUE)
    return f"{block.number}/{'more' if block.more else 'last'}/{block.size}"


_VALUES: Final[dict[int, Callable[[bytes], str]]] = {
    things.URI_HOST: _text,
    things.OBSERVE: _number,
    things.URI_PORT: _number,
    things.LOCATION_PATH: _segment,
    things.URI_PATH: _segment,
    things.CONTENT_FORMAT: _format,
    things.MAX_AGE: _number,
    numbers.HOP_LIMIT: _number,
    things.ACCEPT: _format,
    things.URI_QUERY: _segment,
    things.LOCATION_QUERY: _segment,
    things.BLOCK2: _block,
    things.BLOCK1: _block,
    things.SIZE2: _number,
    things.PROXY_URI: _text,
    things.PROXY_SCHEME: _text,
    things.SIZE1: _number,
    numbers.NO_RESPONSE: _number,
    numbers.CAUSE: _text,
    numbers.DEADLINE: _milliseconds,
}
"""How the values are shown that are not shown as hexadecimal digits."""


def _payload(message: Message) -> str:
    data = message.payload
    text = _payload_text(data, message.first(things.CONTENT_FORMAT))
    return f"{text} ({len(data)} bytes)" if text.endswith(("...", '..."')) else text


def _payload_text(data: bytes, content_format: bytes | None) -> str:
    """As text, as CBOR in diagnostic notation, or as hexadecimal digits; a payload without Content-Format as text if it is any."""
    media_type = None if content_format is None else numbers.media_type_of(number_in(content_format))
    if is_cbor(media_type) and len(data) <= _CBOR_DECODED_BYTES:
        try:
            return _cut(_diagnostic(load_cbor(data)))
        except Malformed:
            return _hex(data, _CHARACTERS_OF_A_PAYLOAD)
    if content_format is None or is_text(media_type) or is_json(media_type):
        try:
            # One character is at most four bytes, and the cut may lie within one.
            head = data[: 4 * _CHARACTERS_OF_A_PAYLOAD + 4]
            return escaped(_UTF8().decode(head, len(head) == len(data)), _CHARACTERS_OF_A_PAYLOAD)
        except UnicodeDecodeError:
            pass  # It is not what it says.
    return _hex(data, _CHARACTERS_OF_A_PAYLOAD)


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS_OF_A_PAYLOAD else text[:_CHARACTERS_OF_A_PAYLOAD] + "..."


def _diagnostic(value: object) -> str:
    """A CBOR value in diagnostic notation (RFC 8949, section 8). The depth is that which `load_cbor` lets through."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, str):
        return escaped(value, len(value))
    if isinstance(value, list):
        return "[" + ", ".join(map(_diagnostic, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_diagnostic(key)}: {_diagnostic(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
