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
from m2mapp.coap.accounts import Account, Accounts
from m2mapp.coap.message import Message
from m2mapp.coap.mids import UNICAST_MIDS, Mids
from m2mapp.coap.parameters import Limits, TransmissionParameters
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Multicast
from m2mapp.net.interfaces import Sockaddr

if TYPE_CHECKING:
    from m2mapp.coap.transmission import Transmission

_COST_BYTES: Final = 300
"""What one remembered message costs besides its answer: 260 to 440 bytes were measured; a peer costs 1,200 more."""
_SWEPT_AT_ONCE: Final = 1_000
_FORGOTTEN_AT_ONCE: Final = 4
_LOOKED_AT: Final = 8
_KNOWN_AFTER_S: Final = 10.0

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

    __slots__ = (
        "account",
        "address",
        "heard_at",
        "known",
        "known_from",
        "mids",
        "outstanding",
        "probed_until",
        "proven_until",
        "rtt_s",
        "seen",
        "seen_bytes",
        "sending",
        "under_way",
        "waiting",
    )

    def __init__(self, address: Sockaddr, mids: Mids, account: Account | None, now_s: float) -> None:
        self.address = address
        self.account = account
        self.heard_at = now_s
        self.known = False
        self.known_from = now_s + _KNOWN_AFTER_S
        self.proven_until = 0.0
        self.probed_until = 0.0
        self.mids = mids
        self.seen: OrderedDict[int, Inbound | Kept] = OrderedDict()
        self.seen_bytes = 0
        self.sending: dict[int, Transmission] = {}
        self.waiting: list[Transmission] = []
        self.outstanding = 0
        self.under_way = 0
        self.rtt_s: float | None = None

    def saw_rtt(self, rtt_s: float) -> None:
        """Take a round-trip time into the smoothed one (RFC 6298, section 2: one eighth)."""
        self.rtt_s = rtt_s if self.rtt_s is None else self.rtt_s + (rtt_s - self.rtt_s) / 8

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to this peer or being answered."""
        return not self.sending and not self.waiting and not self.under_way


class Peers:
    """All peers of one port, the one heard longest ago first, and what is remembered of their messages.

    Newcomers are kept apart from those that are known: that have proven their address, or have been speaking for ten seconds. Where
    room is needed newcomers go first, unless they have but a quarter of it: a flood from forged sources pushes out itself.
    """

    def __init__(self, parameters: TransmissionParameters, limits: Limits, rng: random.Random) -> None:
        self._limits = limits
        self._peer_messages, self._peer_bytes = limits.messages_per_peer, limits.bytes_per_peer
        self._rng = rng
        self._con_lifetime_s = parameters.exchange_lifetime_s
        self._non_lifetime_s = parameters.non_lifetime_s
        self._probe_s = 1 / parameters.probing_rate
        self._free_s = limits.probing_bytes * self._probe_s
        self._known: OrderedDict[Sockaddr, Peer] = OrderedDict()
        self._newcomers: OrderedDict[Sockaddr, Peer] = OrderedDict()
        self.accounts = Accounts(limits)
        self.messages = 0
        self.bytes = 0
        self._newcomer_bytes = 0

    def __len__(self) -> int:
        """How many peers there are."""
        return len(self._known) + len(self._newcomers)

    def find(self, address: Sockaddr) -> Peer | None:
        """The peer at an address, if there is one."""
        return self._known.get(address) or self._newcomers.get(address)

    def heard(self, address: Sockaddr, now_s: float) -> Peer:
        """The peer at an address, made if need be; it was heard, or is being talked to, now."""
        peer = self._known.get(address)
        if peer is not None:
            self._known.move_to_end(address)
            peer.heard_at = now_s
            return peer
        peer = self._newcomers.get(address)
        if peer is None:
            if len(self) >= self._limits.peers:
                self._drop_stalest()
            mids = Mids(self._rng, UNICAST_MIDS, self._con_lifetime_s)
            peer = self._newcomers[address] = Peer(address, mids, self.accounts.of(address), now_s)
        elif peer.known_from <= now_s:
            self._make_known(peer)
        else:
            self._newcomers.move_to_end(address)
        peer.heard_at = now_s
        return peer

    def prove(self, peer: Peer, until_s: float) -> None:
        """The peer has shown that it receives at its address; that counts until then (RFC 9175, section 2.4)."""
        peer.proven_until = max(peer.proven_until, until_s)
        if self._newcomers.get(peer.address) is peer:
            self._make_known(peer)

    def check_probing(self, peer: Peer, now_s: float) -> None:
        """Raise `PeerFailed` where a peer that has answered nothing was sent as much as PROBING_RATE allows (RFC 7252, section 4.7)."""
        wait_s = peer.probed_until - self._free_s - now_s
        if wait_s > 0:
            raise PeerFailed(f"{peer.address[0]} answers nothing: it is asked again in {wait_s:.0f} s")

    def probed(self, peer: Peer, size: int, now_s: float) -> None:
        """A message goes to a peer. It counts until the peer is heard, and no longer than EXCHANGE_LIFETIME."""
        until = max(peer.probed_until, now_s) + size * self._probe_s
        peer.probed_until = min(until, now_s + self._free_s + self._con_lifetime_s)

    def _make_known(self, peer: Peer) -> None:
        peer.known = True
        self._newcomer_bytes -= peer.seen_bytes
        del self._newcomers[peer.address]
        self._known[peer.address] = peer

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
        if not peer.known:
            self._newcomer_bytes += _COST_BYTES
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
            size = len(datagram)
            peer.seen_bytes += size
            self.bytes += size
            if not peer.known:
                self._newcomer_bytes += size

    def sweep(self, now_s: float) -> bool:
        """Drop peers that are long silent, so many at once that nothing else waits. True where there may be more to drop now."""
        return self._sweep(self._newcomers, now_s) | self._sweep(self._known, now_s)

    def _sweep(self, peers: OrderedDict[Sockaddr, Peer], now_s: float) -> bool:
        for _ in range(min(_SWEPT_AT_ONCE, len(peers))):
            peer = next(iter(peers.values()))
            if peer.heard_at + self._con_lifetime_s > now_s:
                return False
            if peer.idle:
                self.drop(peer)
            else:
                peer.heard_at = now_s
                peers.move_to_end(peer.address)
        return bool(peers)

    def all(self) -> tuple[Peer, ...]:
        """Every peer."""
        return (*self._known.values(), *self._newcomers.values())

    def _forget(self, peer: Peer, mid: int) -> None:
        gone = peer.seen.pop(mid)
        cost = _COST_BYTES if isinstance(gone, Inbound) else _COST_BYTES + len(gone[2])
        peer.seen_bytes -= cost
        self.bytes -= cost
        if not peer.known:
            self._newcomer_bytes -= cost
        self.messages -= 1

    def drop(self, peer: Peer) -> None:
        """Forget a peer, and what is remembered of its messages."""
        self.messages -= len(peer.seen)
        self.bytes -= peer.seen_bytes
        if not peer.known:
            self._newcomer_bytes -= peer.seen_bytes
        peer.seen.clear()
        peer.seen_bytes = 0
        del (self._known if peer.known else self._newcomers)[peer.address]

    def _drop_stalest(self) -> None:
        """Make room for one peer: the stalest that is idle goes, if one of the eight stalest is."""
        peers = self._known if len(self._newcomers) * 4 <= self._limits.peers and self._known else self._newcomers
        for _ in range(_LOOKED_AT):
            peer = next(iter(peers.values()))
            if peer.idle:
                self.drop(peer)
                return
            peers.move_to_end(peer.address)

    def _make_room(self) -> None:
        """Forget a little more than one message brings, until all have room again."""
        for _ in range(_FORGOTTEN_AT_ONCE):
            if self.messages <= self._limits.messages and self.bytes <= self._limits.bytes:
                return
            self._forget_from_stalest()

    def _forget_from_stalest(self) -> None:
        """Forget the oldest message of the peer that was heard longest ago."""
        for _ in range(_LOOKED_AT):
            peers = self._newcomers if self._newcomer_bytes * 4 > self.bytes or not self._known else self._known
            peer = next(iter(peers.values()))
            if peer.seen:
                self._forget(peer, next(iter(peer.seen)))
                return
            if peer.idle:
                self.drop(peer)
            else:
                peers.move_to_end(peer.address)
