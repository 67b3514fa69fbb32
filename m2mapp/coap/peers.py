"""Who this endpoint exchanges messages with, and the memory of the messages seen (RFC 7252, sections 4.2 to 4.5).

Responsible for one `Peer` for each source, its message IDs, and the bounded memory in which a repeated message is recognised and the
answer that it got is found. Not responsible for sending. There is no timer for a message: what is too old goes when its peer is heard
again, when room is needed, or in a sweep every half minute.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from m2mapp.coap import things
from m2mapp.coap.message import Message
from m2mapp.coap.parameters import Limits, TransmissionParameters
from m2mapp.model.messages import Multicast
from m2mapp.net.interfaces import Sockaddr

if TYPE_CHECKING:
    from m2mapp.coap.transmission import Transmission

_COST_BYTES: Final = 300
"""What one remembered message costs besides its answer: 260 to 440 bytes were measured; a peer costs 1,200 more."""
_SWEPT_AT_ONCE: Final = 1_000
_FORGOTTEN_AT_ONCE: Final = 4
_LOOKED_AT: Final = 8
_UNICAST_MIDS: Final = 0xC000
_ALL_MIDS: Final = 0x10000

Kept = tuple[float, bytes, bytes]
"""A message that was answered: when it may be forgotten, its token, and the datagram it got (empty: none). A plain tuple of plain
values, because the garbage collector does not look into those, and there are tens of thousands."""


class Inbound:
    """One confirmable or non-confirmable message that came in and has no answer yet.

    `local` is the address that the answer must leave from: the one that was asked, or None where the port has one only, or a group
    was asked. `interface` is the index of the interface it came in by, `multicast` the group that was asked, if one was.
    """

    __slots__ = ("acknowledged", "confirmable", "expires", "interface", "local", "mid", "multicast", "peer", "token")

    def __init__(self, peer: Peer, message: Message, expires: float) -> None:
        self.peer = peer
        self.mid = message.mid
        self.token = message.token
        self.confirmable = message.mtype == things.CON
        self.expires = expires
        self.acknowledged = False
        self.local: str | None = None
        self.interface = 0
        self.multicast: Multicast | None = None


class Peer:
    """One source: its address, what it sent lately, what is on its way to it, and the round-trip time seen (None: not yet)."""

    __slots__ = ("address", "heard_at", "next_mid", "outstanding", "rtt_s", "seen", "seen_bytes", "sending", "under_way", "waiting")

    def __init__(self, address: Sockaddr, first_mid: int) -> None:
        self.address = address
        self.heard_at = 0.0
        self.next_mid = first_mid
        self.seen: OrderedDict[int, Inbound | Kept] = OrderedDict()
        self.seen_bytes = 0
        self.sending: dict[int, Transmission] = {}
        self.waiting: list[Transmission] = []
        self.outstanding = 0
        self.under_way = 0
        self.rtt_s: float | None = None

    def take_mid(self) -> int:
        """The next message ID: in turn, from a random start, and never one of those that group requests have.

        A device tells messages apart by our address and the ID, whether they came by unicast or multicast, so the two have ranges
        of their own.
        """
        mid = self.next_mid
        self.next_mid = (mid + 1) % _UNICAST_MIDS
        return mid

    def saw_rtt(self, rtt_s: float) -> None:
        """Take a round-trip time into the smoothed one (RFC 6298, section 2: one eighth)."""
        self.rtt_s = rtt_s if self.rtt_s is None else self.rtt_s + (rtt_s - self.rtt_s) / 8

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to this peer or being answered."""
        return not self.sending and not self.waiting and not self.under_way


class GroupMids:
    """Message IDs of group requests: in turn, from a random start, in the range that unicast does not use."""

    def __init__(self, rng: random.Random) -> None:
        self._next = rng.randrange(_ALL_MIDS - _UNICAST_MIDS)

    def take(self) -> int:
        """The next one."""
        self._next = (self._next + 1) % (_ALL_MIDS - _UNICAST_MIDS)
        return _UNICAST_MIDS + self._next


class Peers:
    """All peers of one port, the one heard longest ago first, and what is remembered of their messages."""

    def __init__(self, parameters: TransmissionParameters, limits: Limits, rng: random.Random) -> None:
        self._limits = limits
        self._peer_messages, self._peer_bytes = limits.messages_per_peer, limits.bytes_per_peer
        self._rng = rng
        self._con_lifetime_s = parameters.exchange_lifetime_s
        self._non_lifetime_s = parameters.non_lifetime_s
        self._peers: OrderedDict[Sockaddr, Peer] = OrderedDict()
        self.messages = 0
        self.bytes = 0

    def __len__(self) -> int:
        """How many peers are known."""
        return len(self._peers)

    def find(self, address: Sockaddr) -> Peer | None:
        """The peer at an address, if it is known."""
        return self._peers.get(address)

    def heard(self, address: Sockaddr, now_s: float) -> Peer:
        """The peer at an address, made if need be; it was heard, or is being talked to, now."""
        peer = self._peers.get(address)
        if peer is None:
            if len(self._peers) >= self._limits.peers:
                self._drop_stalest()
            peer = self._peers[address] = Peer(address, self._rng.randrange(_UNICAST_MIDS))
        else:
            self._peers.move_to_end(address)
        peer.heard_at = now_s
        return peer

    def earlier(self, peer: Peer, message: Message, now_s: float) -> Inbound | Kept | None:
        """What is remembered of this very message, if it came before within its lifetime (RFC 7252, section 4.5).

        The same message ID with another token is another message: a peer that has used up its IDs is served rather than given an
        answer that it cannot match.
        """
        before = peer.seen.get(message.mid)
        if before is None:
            return None
        expires, token = (before.expires, before.token) if isinstance(before, Inbound) else before[:2]
        if expires > now_s and token == message.token:
            return before
        self._forget(peer, message.mid)
        return None

    def remember(self, peer: Peer, message: Message, now_s: float) -> Inbound:
        """Remember a new message; older ones go where there is no room."""
        lifetime_s = self._con_lifetime_s if message.mtype == things.CON else self._non_lifetime_s
        inbound = Inbound(peer, message, now_s + lifetime_s)
        peer.seen[message.mid] = inbound
        peer.seen_bytes += _COST_BYTES
        self.bytes += _COST_BYTES
        self.messages += 1
        while len(peer.seen) > self._peer_messages or peer.seen_bytes > self._peer_bytes:
            self._forget(peer, next(iter(peer.seen)))
        if self.messages > self._limits.messages or self.bytes > self._limits.bytes:
            self._make_room()
        return inbound

    def keep(self, inbound: Inbound, datagram: bytes) -> None:
        """The message got this datagram (empty: none); a repetition gets it again."""
        peer = inbound.peer
        if peer.seen.get(inbound.mid) is inbound:
            peer.seen[inbound.mid] = (inbound.expires, inbound.token, datagram)
            peer.seen_bytes += len(datagram)
            self.bytes += len(datagram)

    def sweep(self, now_s: float) -> bool:
        """Drop peers that are long silent, so many at once that nothing else waits. True where there may be more to drop now."""
        for _ in range(min(_SWEPT_AT_ONCE, len(self._peers))):
            peer = next(iter(self._peers.values()))
            if peer.heard_at + self._con_lifetime_s > now_s:
                return False
            if peer.idle:
                self._drop(peer)
            else:
                peer.heard_at = now_s
                self._peers.move_to_end(peer.address)
        return bool(self._peers)

    def all(self) -> tuple[Peer, ...]:
        """Every peer."""
        return tuple(self._peers.values())

    def _forget(self, peer: Peer, mid: int) -> None:
        gone = peer.seen.pop(mid)
        cost = _COST_BYTES if isinstance(gone, Inbound) else _COST_BYTES + len(gone[2])
        peer.seen_bytes -= cost
        self.bytes -= cost
        self.messages -= 1

    def _drop(self, peer: Peer) -> None:
        self.messages -= len(peer.seen)
        self.bytes -= peer.seen_bytes
        peer.seen.clear()
        peer.seen_bytes = 0
        del self._peers[peer.address]

    def _drop_stalest(self) -> None:
        """Make room for one peer: the stalest that is idle goes, if one of the eight stalest is."""
        for _ in range(_LOOKED_AT):
            peer = next(iter(self._peers.values()))
            if peer.idle:
                self._drop(peer)
                return
            self._peers.move_to_end(peer.address)

    def _make_room(self) -> None:
        """Forget a little more than one message brings, until all have room again."""
        for _ in range(_FORGOTTEN_AT_ONCE):
            if self.messages <= self._limits.messages and self.bytes <= self._limits.bytes:
                return
            self._forget_from_stalest()

    def _forget_from_stalest(self) -> None:
        """Forget the oldest message of the peer that was heard longest ago."""
        for _ in range(_LOOKED_AT):
            peer = next(iter(self._peers.values()))
            if peer.seen:
                self._forget(peer, next(iter(peer.seen)))
                return
            if peer.idle:
                self._drop(peer)
            else:
                self._peers.move_to_end(peer.address)
