"""What a CoAP endpoint may send to a peer, judged by what that peer has sent: RFC 7252 and those about its options, read anew.

Responsible for that judgement alone, over datagrams as bytes. It shares no code with `m2mapp.coap`, so that a mistake there is not one
here too. Not responsible for what the resources are, nor for what an endpoint must send: silence is always allowed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

CON, NON, ACK, RST = range(4)
_TRANSMISSIONS = 5
"""A confirmable message goes out once and is repeated MAX_RETRANSMIT times (RFC 7252, section 4.8)."""
_LARGEST_PAYLOAD = 1024
_GET, _POST, _PUT, _DELETE, _FETCH, _PATCH, _IPATCH = range(1, 8)
_OBSERVE, _BLOCK2, _BLOCK1, _NO_RESPONSE = 6, 23, 27, 258
_CREATED, _DELETED, _VALID, _CHANGED, _CONTENT, _CONTINUE = 0x41, 0x42, 0x43, 0x44, 0x45, 0x5F
_CODES = frozenset(
    {_CREATED, _DELETED, _VALID, _CHANGED, _CONTENT, _CONTINUE}
    | {0x80 + detail for detail in (0, 1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 15, 22, 29)}
    | {0xA0 + detail for detail in (0, 1, 2, 3, 4, 5, 8)}
)
_SUCCESSES: dict[int, frozenset[int]] = {
    _GET: frozenset({_CONTENT, _VALID, _CONTINUE}),
    _POST: frozenset({_CREATED, _CHANGED, _DELETED, _CONTINUE}),
    _PUT: frozenset({_CREATED, _CHANGED, _CONTINUE}),
    _DELETE: frozenset({_DELETED, _CONTINUE}),
    _FETCH: frozenset({_CONTENT, _VALID, _CONTINUE}),
    _PATCH: frozenset({_CREATED, _CHANGED, _CONTINUE}),
    _IPATCH: frozenset({_CREATED, _CHANGED, _CONTINUE}),
}
"""RFC 7252, section 5.8 and RFC 8132; 2.31 for each method, since a block of a payload may come with any."""

_CRITICAL: dict[int, tuple[int, int, bool]] = {
    1: (0, 8, True),
    3: (1, 255, False),
    5: (0, 0, False),
    7: (0, 2, False),
    11: (0, 255, True),
    15: (0, 255, True),
    17: (0, 2, False),
    _BLOCK2: (0, 3, False),
    _BLOCK1: (0, 3, False),
    35: (1, 1034, False),
    39: (1, 255, False),
}
"""Critical options that a server of these RFCs knows: least and most bytes, repeatable (RFC 7252, table 4; RFC 7959, table 1)."""
_OF_RESPONSES: dict[int, tuple[int, int]] = {
    4: (1, 8),
    _OBSERVE: (0, 3),
    8: (0, 255),
    12: (0, 2),
    14: (0, 4),
    20: (0, 255),
    _BLOCK2: (0, 3),
    _BLOCK1: (0, 3),
    28: (0, 4),
    60: (0, 4),
    252: (1, 40),
}
"""Options that a response may have: least and most bytes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A datagram of version 1 with a whole header. `sound` says whether the rest is well-formed too; if not, it is left empty."""

    mtype: int
    code: int
    mid: int
    sound: bool
    token: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    payload: bytes = b""

    @property
    def is_request(self) -> bool:
        """Whether it is a well-formed request, of a type that a request may have."""
        return self.sound and 0 < self.code < 0x20 and self.mtype in (CON, NON)

    def first(self, number: int) -> bytes | None:
        """The value of the first option of that number."""
        return next((value for found, value in self.options if found == number), None)

    @property
    def registers(self) -> bool:
        """Whether it may make its sender an observer (RFC 7641, section 2)."""
        value = self.first(_OBSERVE)
        return self.is_request and self.code in (_GET, _FETCH) and value is not None and not any(value)


def read_frame(data: bytes) -> Frame | None:
    """The frame in a datagram; None where there is no header of version 1, which nothing may answer (RFC 7252, section 3)."""
    if len(data) < 4 or data[0] >> 6 != 1:
        return None
    head = (data[0] >> 4 & 3, data[1], data[2] << 8 | data[3])
    size = data[0] & 15
    options = _read_options(data[4 + size :])
    if size > 8 or len(data) < 4 + size or options is None or (data[1] == 0 and len(data) > 4):
        return Frame(*head, sound=False)
    return Frame(*head, True, data[4 : 4 + size], options[0], options[1])


def _read_options(rest: bytes) -> tuple[tuple[tuple[int, bytes], ...], bytes] | None:
    """Options and payload; None where they are malformed."""
    options: list[tuple[int, bytes]] = []
    number = 0
    while rest:
        if rest[0] == 0xFF:
            return (tuple(options), rest[1:]) if len(rest) > 1 else None
        parts = [rest[0] >> 4, rest[0] & 15]
        rest = rest[1:]
        for place, nibble in enumerate(parts):
            extra = {13: 1, 14: 2}.get(nibble, 0)
            if nibble == 15 or len(rest) < extra:
                return None
            if extra:
                parts[place] = int.from_bytes(rest[:extra], "big") + (13 if extra == 1 else 269)
                rest = rest[extra:]
        number += parts[0]
        if len(rest) < parts[1] or number > 0xFFFF:
            return None
        options.append((number, rest[: parts[1]]))
        rest = rest[parts[1] :]
    return tuple(options), b""


class Judge:
    """Hears what peers send and what they are sent, and says what of the latter is forbidden. A peer is whatever tells it apart."""

    def __init__(self) -> None:
        self._by_mid: dict[tuple[Hashable, int], list[Frame]] = defaultdict(list)
        self._by_token: dict[tuple[Hashable, bytes], list[tuple[Frame, bool]]] = defaultdict(list)
        self._replies: Counter[tuple[Hashable, int, int]] = Counter()
        self._responses: Counter[tuple[Hashable, bytes]] = Counter()
        self._repeats: Counter[tuple[Hashable, bytes]] = Counter()
        self.answered: Counter[int] = Counter()
        """How many responses of each code were judged."""

    def sent(self, peer: Hashable, data: bytes, *, to_group: bool) -> None:
        """A peer has sent that to the endpoint: to it alone, or to a group that it is in."""
        frame = read_frame(data)
        if frame is None or frame.mtype in (ACK, RST):
            return
        if not to_group:
            self._by_mid[peer, frame.mid].append(frame)
        if frame.is_request:
            self._by_token[peer, frame.token].append((frame, to_group))

    def got(self, peer: Hashable, data: bytes) -> str:
        """Why the endpoint must not have sent this to that peer now; "" if it may."""
        frame = read_frame(data)
        if frame is None or not frame.sound:
            return "malformed"
        if frame.code == 0:
            return self._empty(peer, frame)
        if frame.code < 0x20:
            return "" if frame.mtype in (CON, NON) else "a request of a wrong type"
        if frame.code not in _CODES:
            return f"the code {frame.code:#x} is none"
        self.answered[frame.code] += 1
        return self._response(peer, frame, data)

    def _empty(self, peer: Hashable, frame: Frame) -> str:
        """RFC 7252, sections 4.2 and 4.3: acknowledgements are of confirmable messages, Resets of these and non-confirmable ones."""
        heard = self._by_mid.get((peer, frame.mid), ())
        if frame.mtype == ACK:
            causes = [one for one in heard if one.mtype == CON and one.sound and one.code]
        elif frame.mtype == RST:
            causes = list(heard)
        else:
            return "an Empty message that answers nothing"
        return self._one_each(peer, frame, len(causes))

    def _one_each(self, peer: Hashable, frame: Frame, causes: int) -> str:
        """Each message is acknowledged or reset at most once for each time that it came."""
        self._replies[peer, frame.mtype, frame.mid] += 1
        return (
            "" if self._replies[peer, frame.mtype, frame.mid] <= causes else f"{causes} messages of ID {frame.mid} are answered more often"
        )

    def _response(self, peer: Hashable, frame: Frame, data: bytes) -> str:
        heard = self._by_token.get((peer, frame.token), [])
        observed = any(one.registers and not group for one, group in heard)
        if frame.mtype == RST:
            return "a Reset with a code"
        if frame.mtype == ACK:
            heard = [(one, group) for one, group in heard if not group and one.mtype == CON and one.mid == frame.mid]
            reason = self._one_each(peer, frame, sum(one.mtype == CON for one in self._by_mid.get((peer, frame.mid), ())))
            if reason:
                return reason
        elif frame.mtype == CON:
            heard = [(one, group) for one, group in heard if not group]
        if not heard:
            return "no request asks for this response"
        reason = self._not_too_many(peer, frame, data, observed)
        reasons = [_misfit(one, group, frame) for one, group in heard]
        return reason or ("" if "" in reasons else reasons[0])

    def _not_too_many(self, peer: Hashable, frame: Frame, data: bytes, observed: bool) -> str:
        """One response to each request (RFC 7252, section 5.2), but for an observer's; a confirmable one is repeated as it was.

        Acknowledgements are counted by message ID: a peer that uses one again is given the same again (section 4.5).
        """
        if observed or frame.mtype == ACK:
            return ""
        if frame.mtype == CON:
            self._repeats[peer, data] += 1
            if self._repeats[peer, data] > 1:
                return "" if self._repeats[peer, data] <= _TRANSMISSIONS else "repeated more than MAX_RETRANSMIT times"
        self._responses[peer, frame.token] += 1
        asked = len(self._by_token[peer, frame.token])
        return "" if self._responses[peer, frame.token] <= asked else f"more responses than the {asked} requests"


def _misfit(request: Frame, to_group: bool, response: Frame) -> str:
    """Why this is no response to that request; "" if it is."""
    checks = (_ill_formed(response), _against_group(request, response) if to_group else "", _against_options(request, response))
    return next(filter(None, (*checks, _against_blocks(request, response))), "")


def _ill_formed(response: Frame) -> str:
    """What no response may be."""
    if len(response.payload) > _LARGEST_PAYLOAD:
        return f"a payload of {len(response.payload)} bytes"
    for number, value in response.options:
        least, most = _OF_RESPONSES.get(number, (1, 0))
        if not least <= len(value) <= most:
            return f"option {number} of {len(value)} bytes in a response"
    return ""


def _against_group(request: Frame, response: Frame) -> str:
    """RFC 7252, section 8: only non-confirmable; no errors and nothing empty, unless No-Response asks for it (RFC 7967)."""
    if request.mtype != NON or response.mtype != NON:
        return "confirmable, to or from a group"
    if request.first(_NO_RESPONSE) is None and (response.code >> 5 != 2 or not response.payload):
        return "an error or an empty success in answer to a group request"
    return "an observation of a group" if response.first(_OBSERVE) is not None else ""


def _against_options(request: Frame, response: Frame) -> str:
    """Codes by method; critical options that are unknown or ill-sized (RFC 7252, sections 5.4.1, 5.4.3, 5.4.5); Observe; No-Response."""
    success = response.code >> 5 == 2
    if success and response.code not in _SUCCESSES.get(request.code, ()):
        return f"code {response.code:#x} in answer to the method {request.code}"
    seen: set[int] = set()
    for number, value in request.options:
        if number & 1:
            least, most, repeatable = _CRITICAL.get(number, (1, 0, False))
            if success and (not least <= len(value) <= most or (number in seen and not repeatable)):
                return f"a success in spite of the critical option {number}"
            seen.add(number)
    if response.first(_OBSERVE) is not None and not request.registers:
        return "a notification to a request that registers nobody"
    unwanted = request.first(_NO_RESPONSE)
    if success and unwanted is not None and len(unwanted) == 1 and unwanted[0] & 2:
        return "a success that No-Response refused"
    return ""


def _against_blocks(request: Frame, response: Frame) -> str:
    """RFC 7959: the block that was asked for, of that size or smaller, full unless it is the last; Block1 as in the request."""
    value, asked = response.first(_BLOCK2), request.first(_BLOCK2)
    if value is not None:
        number, more, size = _block(value)
        if not size or len(response.payload) > size or (more and len(response.payload) != size):
            return f"Block2 of {size} bytes with {len(response.payload)}"
        if asked is not None and (number * size != _block(asked)[0] * _block(asked)[2] or size > _block(asked)[2]):
            return f"block {number} of {size} bytes, not the one that was asked for"
    confirmed, given = response.first(_BLOCK1), request.first(_BLOCK1)
    if confirmed is not None and (given is None or _block(confirmed)[0] != _block(given)[0]):
        return "Block1 in answer to another block"
    return ""


def _block(value: bytes) -> tuple[int, bool, int]:
    """Number, whether more follow, size in bytes; 0 for the reserved exponent."""
    number = int.from_bytes(value, "big")
    return number >> 4, bool(number & 8), 0 if number & 7 == 7 else 16 << (number & 7)
