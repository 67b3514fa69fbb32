"""Messages of one port that are on their way (RFC 7252, sections 4.2 and 4.7): repeated until acknowledged, reset or given up.

Responsible for the times of confirmable messages, for NSTART and who waits for it, and for the round-trip time that an acknowledgement
tells. Not responsible for what comes in (`exchange`) nor for what a peer is (`peers`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from m2mapp.coap import things
from m2mapp.coap.context import Context
from m2mapp.coap.message import Message
from m2mapp.coap.peers import Peer, Peers
from m2mapp.coap.transmission import Outcome, Repeats, Transmission
from m2mapp.net.interfaces import Sockaddr

_SLOWER: Final = 3
"""An answer that took so many round trips since the first copy says that the round trip has grown, or that several copies were lost."""

Transmit = Callable[[bytes, Sockaddr, str | None], None]


class Outbox:
    """What one message layer has sent and still follows. `transmit` gives a datagram to the port: to whom, and from which own address."""

    def __init__(self, context: Context, peers: Peers, transmit: Transmit) -> None:
        self._clock, self._deadlines, self._rng = context.clock, context.deadlines, context.rng
        self._parameters, self._counters, self._tap = context.parameters, context.counters, context.tap
        self._peers, self._transmit = peers, transmit

    def post(self, transmission: Transmission, repeats: Repeats | None) -> None:
        """Send it, and follow it; a confirmable one may have to wait for its peer's turn (NSTART)."""
        peer = transmission.peer
        if not transmission.confirmable:
            self._begin(transmission)
            self._transmit(transmission.datagram, peer.address, None)
            return
        first_s, retries, transmission.steady = repeats or (self._parameters.ack_timeout_s, self._parameters.max_retransmit, 0)
        transmission.retries_left = retries
        transmission.timeout_s = first_s * self._rng.uniform(1.0, self._parameters.ack_random_factor)
        if peer.outstanding < self._parameters.nstart:
            self._start(transmission)
        else:
            self._wait(transmission)

    def forget(self, transmission: Transmission) -> None:
        """Repeat it no more, and tell nobody what becomes of it. Forgetting it again does nothing."""
        peer = transmission.peer
        if peer.sending.get(transmission.mid) is transmission:
            self._leave(transmission)
        elif transmission in peer.waiting:
            peer.waiting.remove(transmission)

    def close(self, peer: Peer) -> None:
        """Send it nothing more; who waits for an outcome is told `CLOSED`."""
        waiting = list(peer.waiting)
        peer.waiting.clear()
        for transmission in [*peer.sending.values(), *waiting]:
            self._finish(transmission, Outcome.CLOSED)

    def acknowledged(self, message: Message, source: Sockaddr) -> bool:
        """End the transmission that an ACK, from the peer that the message went to and no other, names; False where it names none."""
        peer = self._peers.find(source)
        transmission = peer.sending.get(message.mid) if peer else None
        if (
            peer is None
            or transmission is None
            or not transmission.confirmable
            or (message.code != things.EMPTY and message.token != transmission.token)
        ):
            self._counters.unexpected.value += 1
            return False
        peer.probed_until = 0.0
        took_s = self._clock.seconds() - transmission.sent_at
        if not transmission.repeated:
            peer.saw_rtt(took_s)
        elif peer.rtt_s is not None and took_s > _SLOWER * peer.rtt_s:
            # Which copy was answered is not known (RFC 6298, section 3). One that is repeated faster than it can be answered would
            # never tell of a round trip that has grown: half of the time since the first is taken then.
            peer.saw_rtt(took_s / 2)
        self._finish(transmission, Outcome.ACKNOWLEDGED)
        return True

    def was_reset(self, mid: int, source: Sockaddr) -> None:
        """End the transmission that a Reset from the peer that the message went to names."""
        peer = self._peers.find(source)
        transmission = peer.sending.get(mid) if peer else None
        if peer is not None and transmission is not None:
            peer.probed_until = 0.0
            self._finish(transmission, Outcome.RESET)

    def _wait(self, transmission: Transmission) -> None:
        """Wait for the peer's turn: before those that are patient, and not for one of these that was repeated already."""
        peer = transmission.peer
        if transmission.patient:
            peer.waiting.append(transmission)
            return
        place = next((number for number, other in enumerate(peer.waiting) if other.patient), len(peer.waiting))
        peer.waiting.insert(place, transmission)
        slow = next((other for other in peer.sending.values() if other.patient and other.repeated), None)
        if slow is not None:
            self._finish(slow, Outcome.GAVE_WAY)

    def _start(self, transmission: Transmission) -> None:
        transmission.peer.outstanding += 1
        self._begin(transmission)
        self._send(transmission)

    def _begin(self, transmission: Transmission) -> None:
        peer = transmission.peer
        peer.sending[transmission.mid] = transmission
        transmission.sent_at = self._clock.seconds()
        self._peers.probed(peer, len(transmission.datagram), transmission.sent_at)

    def _send(self, transmission: Transmission) -> None:
        transmission.deadline = self._deadlines.after(transmission.timeout_s, partial(self._timed_out, transmission))
        self._transmit(transmission.datagram, transmission.peer.address, transmission.local)

    def _timed_out(self, transmission: Transmission) -> None:
        """No acknowledgement in time: again, after twice the time, or no more (RFC 7252, section 4.2)."""
        transmission.deadline = None
        if transmission.retries_left == 0:
            self._counters.given_up.value += 1
            self._tap.gave_up(transmission.datagram, transmission.peer.address)
            self._finish(transmission, Outcome.GIVEN_UP)
            return
        if transmission.patient and any(not other.patient for other in transmission.peer.waiting):
            self._finish(transmission, Outcome.GAVE_WAY)
            return
        transmission.retries_left -= 1
        transmission.repeated = True
        if transmission.steady:
            transmission.steady -= 1
        else:
            transmission.timeout_s *= 2
        self._counters.retransmitted.value += 1
        self._send(transmission)

    def _finish(self, transmission: Transmission, outcome: Outcome) -> None:
        self._leave(transmission)
        transmission.told(outcome)

    def _leave(self, transmission: Transmission) -> None:
        """Take it off the list of what is on its way; the next that waits may start."""
        peer = transmission.peer
        if peer.sending.pop(transmission.mid, None) is None or not transmission.confirmable:
            return
        peer.outstanding -= 1
        if transmission.deadline is not None:
            transmission.deadline.cancel()
            transmission.deadline = None
        if peer.waiting:
            self._start(peer.waiting.pop(0))
