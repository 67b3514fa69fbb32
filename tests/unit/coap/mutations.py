"""Real datagrams made wrong, at random and by a seed: bits, bytes, fields of the header, options, two halves of different ones.

Responsible for the bytes. Not responsible for what is sent where, nor for what comes back (`allowed`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from m2mapp.coap.message import MalformedMessage, parse

_LARGEST = 1400
_CODES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 31, 32, 63, 65, 68, 69, 95, 132, 160, 192, 225, 255)
_NUMBERS = (0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 20, 23, 27, 28, 35, 39, 60, 252, 258, 292, 2049, 65052, 65084, 65116, 65535)
_MESSAGE_IDS = 64
_TOKENS = 32


class Mutations:
    """Datagrams made of real ones. Message IDs and tokens come from a few, so that repetitions, wrong or right, happen."""

    def __init__(self, rng: random.Random, originals: Sequence[bytes]) -> None:
        self._rng = rng
        self._originals = list(originals)
        self._ways: tuple[Callable[[bytearray], bytearray], ...] = (
            self._flip,
            self._put_byte,
            self._insert,
            self._remove,
            self._cut,
            self._splice,
            self._header,
            self._options,
            self._options,
            self._options,
            self._options,
            self._length,
        )
        self._requests = [data for data in self._originals if 0 < data[1] < 32]

    def next(self) -> bytes:
        """One datagram of at most 1,400 bytes. One in ten is as it was, but for message ID and token."""
        rng = self._rng
        data = bytearray(rng.choice(self._requests if rng.random() < 0.8 else self._originals))
        if len(data) >= 4:
            data[2:4] = (rng.randrange(_MESSAGE_IDS) + 256).to_bytes(2, "big")
        if rng.random() < 0.5 and 0 < data[0] & 15 < 9:
            data[4 : 4 + (data[0] & 15)] = rng.randrange(_TOKENS).to_bytes(data[0] & 15, "big")
        for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 1, 2, 2, 3))):
            data = rng.choice(self._ways)(data)
        return bytes(data[:_LARGEST])

    def of(self, data: bytes) -> bytes:
        """That datagram after one change."""
        changed = self._rng.choice(self._ways)(bytearray(data))
        return bytes(changed[:_LARGEST])

    def _place(self, data: bytearray) -> int:
        """A place in it, more often near the beginning, where header and options are."""
        return min(int(self._rng.expovariate(1 / 12)), max(0, len(data) - 1))

    def _flip(self, data: bytearray) -> bytearray:
        if data:
            data[self._place(data)] ^= 1 << self._rng.randrange(8)
        return data

    def _put_byte(self, data: bytearray) -> bytearray:
        if data:
            data[self._place(data)] = self._rng.choice((0, 0xFF, 0xD0, 0x0E, 0xEE, self._rng.randrange(256)))
        return data

    def _insert(self, data: bytearray) -> bytearray:
        at = self._place(data)
        data[at:at] = self._rng.randbytes(self._rng.randrange(1, 9))
        return data

    def _remove(self, data: bytearray) -> bytearray:
        at = self._place(data)
        del data[at : at + self._rng.randrange(1, 9)]
        return data

    def _cut(self, data: bytearray) -> bytearray:
        return data[: self._rng.randrange(len(data) + 1)]

    def _splice(self, data: bytearray) -> bytearray:
        other = self._rng.choice(self._originals)
        return data[: self._place(data) + 1] + other[self._rng.randrange(len(other)) :]

    def _header(self, data: bytearray) -> bytearray:
        """Another version, type, token length or code."""
        if len(data) < 4:
            return data
        kind = self._rng.randrange(5)
        if kind == 0:
            data[0] = data[0] & 0x3F | self._rng.randrange(4) << 6
        elif kind == 1:
            data[0] = data[0] & 0xF0 | self._rng.randrange(16)
        elif kind == 2:
            data[0] = data[0] & 0xCF | self._rng.randrange(4) << 4
        else:
            data[1] = self._rng.choice(_CODES)
        return data

    def _length(self, data: bytearray) -> bytearray:
        """Another delta or length at some option's first byte, where its options can be read."""
        try:
            options = parse(bytes(data)).options
        except MalformedMessage:
            return data
        at = 4 + (data[0] & 15)
        for _, value in options[: self._rng.randrange(len(options) + 1)]:
            at += 1 + len(value)
        if at < len(data):
            data[at] = self._rng.randrange(256)
        return data

    def _options(self, data: bytearray) -> bytearray:
        """Options repeated, left out, in another order, with another number or value; written again in whatever order they have."""
        try:
            message = parse(bytes(data))
        except MalformedMessage:
            return data
        rng = self._rng
        options = list(message.options)
        kind = rng.randrange(5)
        if kind == 0 or not options:
            options.append((rng.choice(_NUMBERS), rng.randbytes(rng.choice((0, 1, 2, 3, 4, 8, 9, 13, 256)))))
        elif kind == 1:
            options += [rng.choice(options)] * rng.choice((1, 1, 2, 300))
        elif kind == 2:
            del options[rng.randrange(len(options))]
        elif kind == 3:
            at = rng.randrange(len(options))
            options[at] = (options[at][0], rng.randbytes(rng.choice((0, 1, 2, 3, 8, 9))))
        else:
            at = rng.randrange(len(options))
            options[at] = (rng.choice(_NUMBERS), options[at][1])
        if rng.random() < 0.9:
            options.sort(key=lambda option: option[0])
        head = data[: 4 + (data[0] & 15)]
        return head + _written(options) + (b"\xff" + message.payload if message.payload else b"")


def _written(options: Sequence[tuple[int, bytes]]) -> bytes:
    """Options as a datagram has them; a number below the one before is written as the distance from it, so that it becomes another."""
    out = bytearray()
    before = 0
    for number, value in options:
        parts = [_nibble(abs(number - before)), _nibble(len(value))]
        out.append(parts[0][0] << 4 | parts[1][0])
        out += parts[0][1] + parts[1][1] + value
        before = number
    return bytes(out)


def _nibble(value: int) -> tuple[int, bytes]:
    if value < 13:
        return value, b""
    return (13, bytes((value - 13,))) if value < 269 else (14, (value - 269).to_bytes(2, "big"))
