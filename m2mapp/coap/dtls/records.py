"""What can be seen of DTLS records from outside (RFC 6347, sections 4.1 and 4.2): enough to choose the session that a datagram is for.

Responsible for reading record headers and the beginning of a ClientHello, and for cutting what OpenSSL wrote into datagrams. Not
responsible for anything that is encrypted, nor for whether a record is genuine: OpenSSL says that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HEADER_BYTES: Final = 13
LARGEST_DATAGRAM: Final = 16_384
"""A datagram beyond this holds no single record that OpenSSL would read in one piece."""
_VERSIONS: Final = frozenset({0xFEFF, 0xFEFD})
_CLIENT_HELLO: Final = 1
_MESSAGE_HEADER_BYTES: Final = 12
_RANDOM_BYTES: Final = 32


class Content(IntEnum):
    """The content types of records (RFC 6347, section 4.3.1)."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


@dataclass(frozen=True, slots=True)
class Record:
    """What the header of a datagram's first record says: its content and its epoch (0: not encrypted yet)."""

    content: Content
    epoch: int


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What tells the beginnings of handshakes apart: the client's random, and the cookie, which is empty at first."""

    random: bytes
    cookie: bytes


def first_record(datagram: bytes) -> Record | None:
    """The first record of a datagram; None where that is no DTLS 1.0 or 1.2 record, or where it is cut off."""
    if not HEADER_BYTES <= len(datagram) <= LARGEST_DATAGRAM:
        return None
    end = HEADER_BYTES + int.from_bytes(datagram[11:13], "big")
    if int.from_bytes(datagram[1:3], "big") not in _VERSIONS or end > len(datagram):
        return None
    try:
        return Record(Content(datagram[0]), int.from_bytes(datagram[3:5], "big"))
    except ValueError:
        return None


def is_one_record(datagram: bytes) -> bool:
    """Whether nothing follows the first record."""
    return len(datagram) == HEADER_BYTES + int.from_bytes(datagram[11:13], "big")


def is_client_hello(datagram: bytes, record: Record) -> bool:
    """Whether it says that it is the beginning of a handshake."""
    plain = record.content is Content.HANDSHAKE and record.epoch == 0
    return plain and len(datagram) > HEADER_BYTES and datagram[HEADER_BYTES] == _CLIENT_HELLO


def client_hello(datagram: bytes) -> ClientHello | None:
    """The ClientHello in a datagram for which `is_client_hello` holds; None where it is malformed.

    One in fragments is None too: who keeps nothing for an unverified source cannot put them together (RFC 6347, section 4.2.1).
    """
    message = datagram[HEADER_BYTES : HEADER_BYTES + int.from_bytes(datagram[11:13], "big")]
    body = message[_MESSAGE_HEADER_BYTES:]
    length = int.from_bytes(message[1:4], "big")
    whole = int.from_bytes(message[6:9], "big") == 0 and int.from_bytes(message[9:12], "big") == length == len(body)
    if not whole or len(body) < 2 + _RANDOM_BYTES + 1:
        return None
    at = 2 + _RANDOM_BYTES
    at += 1 + body[at]
    if at >= len(body) or at + 1 + body[at] > len(body):
        return None
    return ClientHello(body[2 : 2 + _RANDOM_BYTES], body[at + 1 : at + 1 + body[at]])


def datagrams(written: bytes, most: int) -> list[bytes]:
    """Records that OpenSSL wrote one behind the other, as datagrams of at most `most` bytes; a larger record has one of its own."""
    found: list[bytes] = []
    begin = at = 0
    while at < len(written):
        end = at + HEADER_BYTES + int.from_bytes(written[at + 11 : at + 13], "big")
        if end - begin > most and at > begin:
            found.append(written[begin:at])
            begin = at
        at = end
    if begin < len(written):
        found.append(written[begin:])
    return found
