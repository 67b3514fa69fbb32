"""CoAP messages and their form on the wire (RFC 7252, section 3): `parse`, `build`, and the one error.

Responsible for the format alone: what is well-formed becomes a `Message`, all else is `MalformedMessage`. Not responsible for what a
code or an option means; unknown options are kept as bytes, and `build(parse(data)) == data`.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from m2mapp.coap import things
from m2mapp.coap.numbers import LARGEST_OPTION

Options = tuple[tuple[int, bytes], ...]
"""Options as number and value, in the order of their numbers; those of one number in the order of the message."""

_HEADER: Final = Struct("!BBH")
_read_header: Final = _HEADER.unpack_from
_HEADER_BYTES: Final = 4
_VERSION_BITS: Final = 0x40
_VERSION_MASK: Final = 0xC0
_TOKEN_MASK: Final = 0x0F
LONGEST_TOKEN: Final = 8
_LONGEST_HEAD: Final = _HEADER_BYTES + LONGEST_TOKEN
_MARKER: Final = 0xFF
_MARKER_BYTE: Final = b"\xff"
_ONE_MORE: Final = 13
_TWO_MORE: Final = 14
_RESERVED: Final = 15
_ONE_FROM: Final = 13
_TWO_FROM: Final = 269
_LONGEST: Final = _TWO_FROM + 0xFFFF
_SHORT_BYTES: Final = 64
_REMEMBERED: Final = 1024
_BUILT: Final = 256
_short: dict[bytes, Options] = {}
"""Options that came, by their bytes: a device asks for the same again and again, the answers of a group have the same ones, and who gets
the same options can remember, by them, what they say (`requests`)."""


class MalformedMessage(ValueError):  # noqa: N818 - a fact, not a mistake of the program
    """These bytes are no CoAP message. `mtype` and `mid` are set where the header could be read: a Reset may go back."""

    def __init__(self, reason: str, mtype: int | None = None, mid: int | None = None) -> None:
        super().__init__(reason)
        self.mtype = mtype
        self.mid = mid


class Message(NamedTuple):
    """One CoAP message. `mtype` is CON, NON, ACK or RST; `code` 0 to 255; `mid` the message ID; `token` 0 to 8 bytes.

    A named tuple and no frozen dataclass, because two are made for each request: 0.5 us in place of 1.6.
    """

    mtype: int
    code: int
    mid: int
    token: bytes = b""
    options: Options = ()
    payload: bytes = b""

    def first(self, number: int) -> bytes | None:
        """The value of the first option of that number, or None."""
        for found, value in self.options:
            if found == number:
                return value
        return None

    def every(self, number: int) -> tuple[bytes, ...]:
        """The values of all options of that number, in their order."""
        return tuple(value for found, value in self.options if found == number)


def parse(data: bytes) -> Message:
    """The message in a datagram. Raises `MalformedMessage` and nothing else, whatever the bytes (RFC 7252, section 3)."""
    if len(data) < _HEADER_BYTES:
        raise MalformedMessage("shorter than the header")
    first, code, mid = _read_header(data)
    token_end = _HEADER_BYTES + (first & _TOKEN_MASK)
    if first & _VERSION_MASK != _VERSION_BITS or token_end > _LONGEST_HEAD or token_end > len(data) or code == things.EMPTY:
        _check_head(data, first, code, mid)
    written, marker, payload = data[token_end:].partition(_MARKER_BYTE)
    options = _short.get(written) if len(written) <= _SHORT_BYTES else None
    if options is None or (marker and not payload):
        try:
            options, payload = _read_options(data, token_end, written)
        except MalformedMessage as fault:
            raise MalformedMessage(str(fault), first >> 4 & 3, mid) from None
    return Message(first >> 4 & 3, code, mid, data[_HEADER_BYTES:token_end], options, payload)


def _check_head(data: bytes, first: int, code: int, mid: int) -> None:
    """Raises `MalformedMessage` for what is wrong with the header or the token; an Empty message is nothing but its header."""
    if first & _VERSION_MASK != _VERSION_BITS:
        raise MalformedMessage(f"version {first >> 6} is not 1")
    mtype, token_bytes = first >> 4 & 3, first & _TOKEN_MASK
    if code == things.EMPTY and len(data) != _HEADER_BYTES:
        raise MalformedMessage("an Empty message has more than its header", mtype, mid)
    if token_bytes > LONGEST_TOKEN:
        raise MalformedMessage(f"token length {token_bytes} is reserved", mtype, mid)
    if _HEADER_BYTES + token_bytes > len(data):
        raise MalformedMessage("the token is cut short", mtype, mid)


def _read_options(data: bytes, at: int, written: bytes) -> tuple[Options, bytes]:
    """Options and payload from a position on; short options are remembered by their bytes, if those are what `written` holds.

    A marker byte inside an option ends `written` too early: then there is more behind it than the payload. Options that begin with an
    ETag are not remembered: it is another one each time.
    """
    options, payload = _parse_options(data, at)
    whole = at + len(written) + bool(payload) + len(payload) == len(data)
    if whole and len(written) <= _SHORT_BYTES and not (options and options[0][0] == things.ETAG):
        if len(_short) >= _REMEMBERED:
            _short.clear()
        _short[written] = options
    return options, payload


def _parse_options(data: bytes, at: int) -> tuple[Options, bytes]:
    """Options and payload from a position on (RFC 7252, section 3.1)."""
    options = []
    payload = b""
    number = 0
    size = len(data)
    while at < size:
        first = data[at]
        at += 1
        if first == _MARKER:
            if at == size:
                raise MalformedMessage("a payload marker without payload")
            payload = data[at:]
            break
        delta, length = first >> 4, first & 15
        if delta >= _ONE_MORE:
            delta, at = _extended(data, at, delta, "delta")
        if length >= _ONE_MORE:
            length, at = _extended(data, at, length, "length")
        number += delta
        end = at + length
        if end > size:
            raise MalformedMessage(f"option {number} is cut short")
        options.append((number, data[at:end]))
        at = end
    if number > LARGEST_OPTION:
        raise MalformedMessage(f"option number {number} is above {LARGEST_OPTION}")
    return tuple(options), payload


def _extended(data: bytes, at: int, nibble: int, what: str) -> tuple[int, int]:
    """The value of an extended delta or length and the position after it."""
    if nibble == _ONE_MORE and at < len(data):
        return data[at] + _ONE_FROM, at + 1
    if nibble == _TWO_MORE and at + 1 < len(data):
        return (data[at] << 8 | data[at + 1]) + _TWO_FROM, at + 2
    raise MalformedMessage(f"option {what} 15 is reserved" if nibble == _RESERVED else f"an extended option {what} is cut short")


def build(message: Message) -> bytes:
    """The datagram of a message. Raises `ValueError` for what no datagram can say: such a `Message` is a fault of this program."""
    if not 0 <= message.mid <= 0xFFFF:  # noqa: PLR2004 - 16 bits
        raise ValueError(f"message ID {message.mid} is not of 16 bits")
    return encode(message, message.mtype, message.mid)


def encode(message: Message, mtype: int, mid: int) -> bytes:
    """The datagram of a message with another type and message ID: what the message layer sends. Raises `ValueError` as `build` does."""
    token = message.token
    if len(token) > LONGEST_TOKEN:
        raise ValueError(f"a token of {len(token)} bytes")
    head = _HEADER.pack(_VERSION_BITS | mtype << 4 | len(token), message.code, mid)
    options = _build_options(message.options) if message.options else b""
    return b"".join((head, token, options, _MARKER_BYTE, message.payload)) if message.payload else head + token + options


@lru_cache(maxsize=_BUILT)
def _build_options(options: Options) -> bytes:
    out = bytearray()
    before = 0
    for number, value in options:
        delta, length = number - before, len(value)
        if 0 <= delta < _ONE_MORE and length < _ONE_MORE:
            out.append(delta << 4 | length)
        else:
            _append_long(out, delta, length)
        out += value
        before = number
    if before > LARGEST_OPTION:
        raise ValueError(f"option number {before}")
    return bytes(out)


def _append_long(out: bytearray, delta: int, length: int) -> None:
    """The head of an option whose delta or length needs further bytes."""
    if not 0 <= delta <= _LONGEST or length > _LONGEST:
        raise ValueError(f"option delta {delta} with length {length}: not in order, or too long")
    delta_nibble, delta_more = _nibble(delta)
    length_nibble, length_more = _nibble(length)
    out.append(delta_nibble << 4 | length_nibble)
    out += delta_more
    out += length_more


def _nibble(value: int) -> tuple[int, bytes]:
    if value < _ONE_FROM:
        return value, b""
    if value < _TWO_FROM:
        return _ONE_MORE, bytes((value - _ONE_FROM,))
    return _TWO_MORE, (value - _TWO_FROM).to_bytes(2, "big")


def empty(mtype: int, mid: int) -> bytes:
    """An Empty message: an acknowledgement, a Reset or a ping (RFC 7252, section 4.1)."""
    return _HEADER.pack(_VERSION_BITS | mtype << 4, things.EMPTY, mid)


def uint(value: int) -> bytes:
    """An unsigned number as an option value has it: no leading zeros, zero is empty (RFC 7252, section 3.2)."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def number_in(value: bytes) -> int:
    """The unsigned number in an option value; leading zeros do no harm (RFC 7252, section 3.2)."""
    return int.from_bytes(value, "big")
