"""The message layer of one port (RFC 7252, section 4): what a message's type and message ID mean.

Responsible for sorting what comes in, for acknowledgements and Resets both ways, pings, repeated messages, and for matching all of it by
source as well as message ID. Not responsible for what this node's own messages wait for (`outbox`), for tokens (`tokens`), for what a
request means (`server`), nor for sockets (`m2mapp.net`).
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, Protocol

from zope.interface import implementer

from m2mapp.coap import numbers, things
from m2mapp.coap.accounts import Account
from m2mapp.coap.context import Context
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.message import MalformedMessage, Message, empty, encode, parse, uint
from m2mapp.coap.outbox import Outbox
from m2mapp.coap.peers import Inbound, Peer, Peers
from m2mapp.coap.transmission import Outcome, Repeats, Transmission
from m2mapp.model.errors import Overloaded, PeerFailed
from m2mapp.model.messages import Multicast
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, Sockaddr

_SWEEP_S: Final = 30.0
_SWEEP_AGAIN_S: Final = 0.01
_DESTINATIONS: Final = 1_024
_LAST_REQUEST_CODE: Final = 31
_RESPONSE_CLASSES: Final = frozenset({2, 4, 5})


class Above(Protocol):
    """Who takes what the message layer has sorted."""

    def on_request(self, layer: MessageLayer, inbound: Inbound, message: Message) -> None:
        """A request that did not come before. It is answered by `layer.answer`, `reject` or `drop`, now or later."""

    def on_response(self, message: Message, source: Sockaddr) -> bool:
        """A response. True if somebody waited for it, also if that was long ago: it is acknowledged rather than reset."""

    def on_gone(self, address: Sockaddr) -> None:
        """The session that an address stands for is over."""


@implementer(IDatagramReceiver)
class MessageLayer:
    """The message layer on one datagram port. `attach` the port before anything is sent; `stop` ends everything."""

    def __init__(self, above: Above, context: Context) -> None:
        self._above = above
        self._clock = context.clock
        self._deadlines = context.deadlines
        self._limits = context.limits
        self._counters = context.counters
        self._tap = context.tap
        self._port: IDatagramPort | None = None
        self._wildcard = False
        self._multicast: dict[str, bool] = {}
        self._sweeping: Deadline | None = None
        self.peers = Peers(context.parameters, context.limits, context.rng)
        self._outbox = Outbox(context, self.peers, self._send)
        self._request_s, self._byte_s = self.peers.accounts.request_s, self.peers.accounts.byte_s

    def attach(self, port: IDatagramPort) -> None:
        """Use this port for sending."""
        self._port = port
        self._wildcard = ip_address(port.local()[0].partition("%")[0]).is_unspecified

    @property
    def port(self) -> IDatagramPort:
        """The port. Raises `PeerFailed` where there is none any more."""
        if self._port is None:
            raise PeerFailed("the CoAP port is closed")
        return self._port

    def stop(self) -> None:
        """Send nothing more; who waits for an outcome is told `CLOSED`."""
        self._port = None
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for peer in self.peers.all():
            self._outbox.close(peer)

    def gone(self, address: Sockaddr) -> None:
        """The session that an address stands for is over, and with it all that is under way there (RFC 7252, section 9.1)."""
        self._above.on_gone(address)
        peer = self.peers.find(address)
        if peer is not None:
            self._outbox.close(peer)
            self.peers.drop(peer)

    # -- what comes in ------------------------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """One datagram. Nothing that it holds makes this raise."""
        self._counters.received.value += 1
        to_group = self._multicast.get(destination)
        if to_group is None:
            to_group = self._learn_destination(destination)
        if self._tap.viewers:
            self._tap.received(data, source, destination, interface, to_group=to_group)
        local = destination if self._wildcard and not to_group else None
        try:
            message = parse(data)
        except MalformedMessage as fault:
            self._on_malformed(fault.mtype, fault.mid, source, (to_group, local))
            return
        if things.EMPTY < message.code <= _LAST_REQUEST_CODE and message.mtype <= things.NON:
            if not to_group:
                inbound = self._new(message, source, local, len(data))
                if inbound is not None:
                    inbound.interface = interface
                    self._above.on_request(self, inbound, message)
            elif message.mtype == things.NON:
                self._on_group_request(message, source, Multicast(destination, interface), len(data))
            else:  # RFC 7252, section 8.1: a request to a group must be non-confirmable
                self._counters.malformed.value += 1
        elif not to_group and message.code == things.EMPTY:
            self._on_empty(message, source, local)
        elif not to_group and message.code >> 5 in _RESPONSE_CLASSES and message.mtype != things.RST:
            self._on_response(message, source, local)
        else:
            # A reserved code class, or a type that this code must not have (RFC 7252, sections 4.2 and 4.3).
            self._on_malformed(message.mtype, message.mid, source, (to_group, local))

    def _on_malformed(self, mtype: int | None, mid: int | None, source: Sockaddr, how: tuple[bool, str | None]) -> None:
        """Reject what is no CoAP message, or one that must not be: with a Reset if it is confirmable, else in silence."""
        self._counters.malformed.value += 1
        to_group, local = how
        if mtype == things.CON and mid is not None and not to_group:
            self._reset_unasked(mid, source, local)

    def _on_group_request(self, message: Message, source: Sockaddr, multicast: Multicast, size: int) -> None:
        inbound = self._new(message, source, None, size, unicast=False)
        if inbound is not None:
            inbound.interface = multicast.interface
            inbound.multicast = multicast
            self._above.on_request(self, inbound, message)

    def _on_response(self, message: Message, source: Sockaddr, local: str | None) -> None:
        if message.mtype == things.ACK:
            if self._outbox.acknowledged(message, source):
                self._above.on_response(message, source)
        elif message.mtype == things.NON:
            # Not remembered: the token says whether it is waited for, once, and a group's answers come by the thousand.
            if not self._above.on_response(message, source):
                self._counters.unexpected.value += 1
                if message.first(things.OBSERVE) is not None:  # RFC 7641, section 3.6: this ends what nobody here observes any more
                    self._reset_unasked(message.mid, source, local)
        else:
            inbound = self._new(message, source, local)
            if inbound is None:
                return
            if self._above.on_response(message, source):
                self.acknowledge(inbound)
            else:
                self._counters.unexpected.value += 1
                self.reject(inbound)

    def _on_empty(self, message: Message, source: Sockaddr, local: str | None) -> None:
        """Acknowledgement, Reset or ping (RFC 7252, sections 4.2 and 4.3); an Empty non-confirmable message is ignored."""
        if message.mtype == things.ACK:
            self._outbox.acknowledged(message, source)
        elif message.mtype == things.RST:
            self._counters.resets_received.value += 1
            self._outbox.was_reset(message.mid, source)
        elif message.mtype == things.CON:
            self._reset_unasked(message.mid, source, local)

    def _new(self, message: Message, source: Sockaddr, local: str | None, size: int = 0, *, unicast: bool = True) -> Inbound | None:
        """The message, remembered; None where it came before and has got again what it got then (RFC 7252, section 4.5).

        `size` is that of the datagram: None also for a request that is more than its source may ask.
        """
        now = self._clock.seconds()
        peer = self._heard(source, now)
        peer.probed_until = 0.0
        account = peer.account
        if size and account is not None:
            cost_s = self._request_s + self._byte_s * size
            account.left_s -= cost_s
            if account.left_s < 0.0 and not self.peers.accounts.allot(account, now, cost_s):
                if unicast and message.mid not in peer.seen:
                    self._too_many(message, peer, account, local)
                self._counters.over_rate.value += 1
                return None
        before = self.peers.earlier(peer, message, now) if message.mid in peer.seen else None
        if before is None:
            inbound = self.peers.remember(peer, message, now)
            inbound.local = local
            return inbound
        self._counters.repeated.value += 1
        if not isinstance(before, Inbound) and before[2] and (message.mtype == things.CON or (unicast and _is_reset(before[2]))):
            # What is acknowledged must be confirmable, and to what a group was sent there is no Reset (RFC 7252, sections 4.2 and 8.1).
            self._send(before[2], source, local)
            if account is not None:
                account.left_s -= self._byte_s * len(before[2])
        return None

    def _too_many(self, message: Message, peer: Peer, account: Account, local: str | None) -> None:
        """The source asks more than it may: it is told, now and then. Nothing is remembered: what comes again may be served then."""
        after_s = self.peers.accounts.retry_after_s(account, peer.heard_at)
        if after_s is None:
            return
        told = Message(things.NON, numbers.TOO_MANY_REQUESTS, 0, message.token, ((things.MAX_AGE, uint(after_s)),))
        if message.mtype == things.CON:
            self._send(encode(told, things.ACK, message.mid), peer.address, local)
        else:
            self._send_with_mid(told, things.NON, peer, local)

    # -- what goes out ------------------------------------------------------------------------------------------------------

    def send(
        self,
        to: Sockaddr,
        message: Message,
        told: Callable[[Outcome], None],
        repeats: Repeats | None = None,
        local: str | None = None,
        *,
        patient: bool = False,
    ) -> Transmission:
        """Send a confirmable or non-confirmable message; its message ID is chosen here.

        A `patient` one lets others to the same peer go first, and gives way to them once its first copy was not acknowledged in time:
        with NSTART = 1 nobody else could ask that peer for as long as it is repeated.

        `told` is called once with the outcome, unless the transmission is forgotten before; of a non-confirmable message only a
        Reset or the end of the port is told. Raises `Overloaded` where too many wait for this peer's turn (NSTART, RFC 7252 4.7), or
        all message IDs are used up, and `PeerFailed` for a request to a peer that has answered none of late (PROBING_RATE), unless
        the caller decides about repeats.
        """
        if self._port is None:
            raise PeerFailed("the CoAP port is closed")
        now = self._clock.seconds()
        peer = self._heard(to, now)
        if len(peer.waiting) >= self._limits.waiting_per_peer:
            raise Overloaded(f"{len(peer.waiting)} messages wait for {to[0]}")
        mid = peer.mids.take(now)
        while mid in peer.sending:
            mid = peer.mids.take(now)
        transmission = Transmission(peer, message, mid, told)
        transmission.local, transmission.patient = local, patient
        if repeats is None and message.code <= _LAST_REQUEST_CODE:
            self.peers.check_probing(peer, now)
        self._outbox.post(transmission, repeats)
        return transmission

    def proven(self, source: Sockaddr) -> None:
        """A peer has answered with a token that only who receives at its address can know."""
        peer = self.peers.find(source)
        if peer is not None:
            peer.probed_until = 0.0
            self.peers.prove(peer, self._clock.seconds() + self._limits.proven_s)

    def forget(self, transmission: Transmission) -> None:
        """Repeat it no more, and tell nobody what becomes of it. Forgetting it again does nothing."""
        self._outbox.forget(transmission)

    def answer(
        self, inbound: Inbound, message: Message, told: Callable[[Outcome], None] | None = None, repeats: Repeats | None = None
    ) -> None:
        """Answer a request: piggybacked in the acknowledgement, or separately where that went before (RFC 7252, section 5.2).

        Of the message, type and message ID are chosen here. `told` is called with what becomes of a separate answer, `repeats` says how
        that is repeated.
        """
        peer = inbound.peer
        if peer.account is not None:
            peer.account.left_s -= self._byte_s * len(message.payload)
        if not inbound.confirmable:
            self.peers.keep(inbound, b"")
            self._send_with_mid(message, things.NON, peer, inbound.local)
        elif not inbound.acknowledged:
            inbound.acknowledged = True
            datagram = encode(message, things.ACK, inbound.mid)
            self.peers.keep(inbound, datagram)
            self._send(datagram, peer.address, inbound.local)
        else:
            separate = Message(things.CON, message.code, 0, message.token, message.options, message.payload)
            try:
                self.send(peer.address, separate, told or _ignore, repeats, inbound.local)
            except (Overloaded, PeerFailed):
                self._counters.refused.value += 1
                if told is not None:
                    told(Outcome.GIVEN_UP)

    def acknowledge(self, inbound: Inbound) -> None:
        """Acknowledge it without an answer; one that comes later goes separately."""
        if inbound.confirmable and not inbound.acknowledged:
            inbound.acknowledged = True
            datagram = empty(things.ACK, inbound.mid)
            self.peers.keep(inbound, datagram)
            self._send(datagram, inbound.peer.address, inbound.local)

    def reject(self, inbound: Inbound) -> None:
        """Answer with a Reset (RFC 7252, sections 4.2 and 4.3)."""
        self.peers.keep(inbound, empty(things.RST, inbound.mid))
        self._reset(inbound.mid, inbound.peer.address, inbound.local)

    def drop(self, inbound: Inbound) -> None:
        """Give no answer; a confirmable message is acknowledged all the same."""
        if inbound.confirmable:
            self.acknowledge(inbound)
        else:
            self.peers.keep(inbound, b"")

    def _send_with_mid(self, message: Message, mtype: int, peer: Peer, local: str | None) -> None:
        """Send with a message ID of ours, if there is one to be had."""
        try:
            mid = peer.mids.take(self._clock.seconds())
        except Overloaded:
            self._counters.refused.value += 1
        else:
            self._send(encode(message, mtype, mid), peer.address, local)

    def _reset_unasked(self, mid: int, to: Sockaddr, local: str | None) -> None:
        """A Reset to what is no request: within the rate of its source, or of all strangers, since the address may be forged."""
        peer = self.peers.find(to)
        account = self.peers.accounts.strangers if peer is None else peer.account
        if account is None or self.peers.accounts.admits(account, self._clock.seconds(), 4):
            self._reset(mid, to, local)
        else:
            self._counters.over_rate.value += 1

    def _reset(self, mid: int, to: Sockaddr, local: str | None) -> None:
        self._counters.resets_sent.value += 1
        self._send(empty(things.RST, mid), to, local)

    def _send(self, datagram: bytes, to: Sockaddr, local: str | None = None) -> None:
        taken = self._port is not None and self._port.send(datagram, to, local)
        if taken:
            self._counters.sent.value += 1
        else:
            self._counters.unsent.value += 1
        if self._tap.viewers:
            self._tap.sent(datagram, to, local, taken=taken)

    def _heard(self, address: Sockaddr, now_s: float) -> Peer:
        if self._sweeping is None:
            self._sweeping = self._deadlines.after(_SWEEP_S, self._sweep)
        return self.peers.heard(address, now_s)

    def _sweep(self) -> None:
        """Forget peers that are long silent; go on soon where there are many."""
        more = self.peers.sweep(self._clock.seconds())
        self._sweeping = self._deadlines.after(_SWEEP_AGAIN_S if more else _SWEEP_S, self._sweep) if len(self.peers) else None

    def _learn_destination(self, destination: str) -> bool:
        """Whether an address of this node is a group's."""
        if len(self._multicast) >= _DESTINATIONS:
            self._multicast.clear()
        known = self._multicast[destination] = ip_address(destination).is_multicast
        return known


def _is_reset(datagram: bytes) -> bool:
    return datagram[0] >> 4 & 3 == things.RST


def _ignore(_outcome: Outcome) -> None:
    """Nobody waits for what becomes of a separate answer; giving up is counted."""
