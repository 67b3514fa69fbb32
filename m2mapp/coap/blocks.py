"""Block-wise transfer as a server does it (RFC 7959): the block option, answers that are kept while they are fetched, and uploads.

Responsible for cutting and joining under limits of bytes, number and time. Not responsible for the requests and answers that the blocks
belong to, nor for the client's side (`transfer`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from m2mapp.coap import numbers, things
from m2mapp.coap.faults import Refused
from m2mapp.coap.message import Message, number_in, uint
from m2mapp.coap.owners import Shares
from m2mapp.coap.parameters import Limits
from m2mapp.model.errors import Malformed, TooLarge
from m2mapp.model.messages import Response
from m2mapp.net.interfaces import Sockaddr

LARGEST_SIZE_EXPONENT: Final = 6
_RESERVED_EXPONENT: Final = 7
_LARGEST_NUMBER: Final = (1 << 20) - 1
_COST_BYTES: Final = 500

Key = tuple[Sockaddr, int, tuple[tuple[int, bytes], ...]]
"""What blocks of one transfer have in common: the source, the code, and the options that say what is asked for."""

_NOT_OF_KEY: Final = frozenset(
    {
        things.URI_HOST,
        things.ETAG,
        things.OBSERVE,
        things.URI_PORT,
        numbers.HOP_LIMIT,
        things.BLOCK2,
        things.BLOCK1,
        numbers.NO_RESPONSE,
    }
)


def transfer_key(message: Message, source: Sockaddr) -> Key:
    """The key of the transfer that a request belongs to (RFC 7959, section 2.4; Request-Tag is a part of it: RFC 9175, section 3.3).

    Uri-Host and Uri-Port are left out: the first block of a group's answer is asked of the group, the others of the member.
    """
    return (
        source,
        message.code,
        tuple(option for option in message.options if option[0] not in _NOT_OF_KEY and not numbers.is_no_cache_key(option[0])),
    )


@dataclass(frozen=True, slots=True)
class Block:
    """The value of a Block1 or Block2 option: the block's number, whether more follow, and its size exponent 0 to 6."""

    number: int
    more: bool
    exponent: int

    @classmethod
    def parse(cls, value: bytes, name: str) -> Block:
        """Read an option's value, of at most 3 bytes. Raises `Malformed` for the reserved exponent 7 (RFC 7959, section 2.2)."""
        number = number_in(value)
        if number & _RESERVED_EXPONENT == _RESERVED_EXPONENT:
            raise Malformed(name, value.hex(), "a block option: size exponent 7 is reserved")
        return cls(number >> 4, bool(number & 8), number & 7)

    def build(self) -> bytes:
        """The option's value."""
        return uint(self.number << 4 | self.more << 3 | self.exponent)

    @property
    def size(self) -> int:
        """Bytes of a block: 16 to 1024."""
        return int(16 << self.exponent)

    @property
    def start(self) -> int:
        """Where the block begins, in bytes."""
        return self.number * self.size


FIRST: Final = Block(0, False, LARGEST_SIZE_EXPONENT)


def cut(payload: bytes, asked: Block) -> tuple[Block, bytes]:
    """One block of a payload, and what its option says. Raises `Malformed` for a block behind the end."""
    if asked.start >= len(payload) and asked.number:
        raise Malformed("Block2", asked.number, f"the number of a block of {len(payload)} bytes")
    end = asked.start + asked.size
    return Block(asked.number, end < len(payload), asked.exponent), payload[asked.start : end]


class KeptAnswers:
    """Large answers, kept while their blocks are fetched, so that all blocks are of one answer and nothing is done twice."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: OrderedDict[Key, tuple[float, Response]] = OrderedDict()
        self._shares: Shares[Key] = Shares(limits.kept_answers_per_peer, limits.kept_answers_per_host, limits.kept_answers)
        self.bytes = 0

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    def keep(self, key: Key, response: Response, now_s: float) -> None:
        """Keep an answer instead of an earlier one of that key; the oldest go where there is no room. One too large is not kept."""
        self.drop(key)
        size = len(response.payload) + _COST_BYTES
        if size > self._limits.kept_bytes // 4:
            return
        self._kept[key] = (now_s + self._limits.transfer_idle_s, response)
        self.bytes += size
        self._shares.add(key, key[0])
        excess = self._shares.oldest_in_excess(key[0])
        if excess is not None:
            self.drop(excess)
        while len(self._kept) > self._limits.kept_answers or self.bytes > self._limits.kept_bytes:
            self.drop(next(iter(self._kept)))

    def find(self, key: Key, now_s: float) -> Response | None:
        """The answer kept under that key, if its time is not over; its time begins anew."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found[0] <= now_s:
            self.drop(key)
            return None
        self._kept[key] = (now_s + self._limits.transfer_idle_s, found[1])
        self._kept.move_to_end(key)
        return found[1]

    def drop(self, key: Key) -> None:
        """Keep it no longer."""
        found = self._kept.pop(key, None)
        if found is not None:
            self.bytes -= len(found[1].payload) + _COST_BYTES
            self._shares.remove(key, key[0])

    def expire(self, now_s: float) -> None:
        """Drop what nobody fetched in time."""
        while self._kept:
            key, (until, _) = next(iter(self._kept.items()))
            if until > now_s:
                return
            self.drop(key)


class _Upload:
    """What has come of one request's payload."""

    __slots__ = ("data", "until")

    def __init__(self, until: float) -> None:
        self.data = bytearray()
        self.until = until


class Uploads:
    """Requests whose payloads come in blocks, put together (RFC 7959, section 2.5)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._uploads: OrderedDict[Key, _Upload] = OrderedDict()
        self._shares: Shares[Key] = Shares(limits.uploads_per_peer, limits.uploads_per_host, limits.uploads)
        self.bytes = 0

    def __len__(self) -> int:
        """How many are not whole."""
        return len(self._uploads)

    def add(self, key: Key, message: Message, block: Block, now_s: float) -> bytes | None:
        """Take one block: the whole payload if it was the last, None if more are to come.

        Raises `Refused` with 4.08 where blocks before it are missing, `Malformed` for one that is no block of its size, `TooLarge`.
        """
        payload = message.payload
        if len(payload) > block.size or (block.more and len(payload) != block.size):
            self.drop(key)
            raise Malformed("Block1", len(payload), f"a block of {block.size} bytes")
        announced = number_in(message.first(things.SIZE1) or b"")
        if max(announced, block.start + len(payload)) > self._limits.payload_bytes:
            self.drop(key)
            raise TooLarge("payload", self._limits.payload_bytes)
        if block.number == 0:
            self.drop(key)
            if not block.more:
                return payload
            self._begin(key, now_s)
        upload = self._uploads.get(key)
        if upload is None or upload.until <= now_s or len(upload.data) != block.start:
            self.drop(key)
            raise Refused(things.REQUEST_ENTITY_INCOMPLETE, f"block {block.number} came without the blocks before it")
        upload.data += payload
        upload.until = now_s + self._limits.transfer_idle_s
        self.bytes += len(payload)
        self._uploads.move_to_end(key)
        if block.more:
            self._make_room()
            return None
        whole = bytes(upload.data)
        self.drop(key)
        return whole

    def drop(self, key: Key) -> None:
        """Forget what has come."""
        upload = self._uploads.pop(key, None)
        if upload is not None:
            self.bytes -= len(upload.data)
            self._shares.remove(key, key[0])

    def expire(self, now_s: float) -> None:
        """Forget uploads that nobody went on with."""
        while self._uploads:
            key, upload = next(iter(self._uploads.items()))
            if upload.until > now_s:
                return
            self.drop(key)

    def _begin(self, key: Key, now_s: float) -> None:
        self._uploads[key] = _Upload(now_s + self._limits.transfer_idle_s)
        self._shares.add(key, key[0])
        excess = self._shares.oldest_in_excess(key[0])
        if excess is not None:
            self.drop(excess)

    def _make_room(self) -> None:
        """The uploads that were idle longest go where there are too many, or too many bytes in all."""
        while len(self._uploads) > self._limits.uploads or self.bytes > self._limits.kept_bytes:
            self.drop(next(iter(self._uploads)))


def next_number(block: Block) -> int:
    """The number after a block's. Raises `TooLarge` behind the last that the option can name."""
    if block.number >= _LARGEST_NUMBER:
        raise TooLarge("payload", _LARGEST_NUMBER, "blocks")
    return block.number + 1
