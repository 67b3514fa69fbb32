"""The client's side of DHCPv6 (RFC 9915, section 18.2): from a Solicit to a lease that is renewed, verified after a restart, given back.

Pure: it is told what came and the time, and says what to send and when to wake. One machine serves the requesting router, which asks
for prefixes (IA_PD), and a device, which asks for an address (IA_NA). Not responsible for sockets, for keeping the lease, nor for what
is done with it. Its states are in `client_states`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import Final

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6 import retransmission as r
from m2mapp.dhcpv6.binding import Value
from m2mapp.dhcpv6.bootstrap_options import Bootstrap, bootstrap_in
from m2mapp.dhcpv6.client_messages import Named, Wish, client_options, is_usable, name_servers_in
from m2mapp.dhcpv6.client_states import CLIENT, Event, Phase
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import INFINITY, MessageType, Status
from m2mapp.dhcpv6.reconfigured import GivenKey
from m2mapp.dhcpv6.validation import why_client_discards

MOST_ITEMS: Final = 16
"""So many prefixes or addresses of one IA are taken; a server has no reason to give more."""
MOST_OFFERS: Final = 16
_BEST_PREFERENCE: Final = 255
_SOL_MAX_RT_BOUNDS: Final = (60, 86400)
"""What the option SOL_MAX_RT may say (section 21.24)."""
_T1, _T2 = 0.5, 0.8
"""T1 and T2 as parts of the shortest preferred lifetime, where the server leaves them to the client (section 14.2); of the shortest valid
one where nothing is preferred any more."""


_SENDS: Final = {
    Phase.SOLICITING: (MessageType.SOLICIT, r.SOLICIT),
    Phase.REQUESTING: (MessageType.REQUEST, r.REQUEST),
    Phase.RENEWING: (MessageType.RENEW, r.RENEW),
    Phase.REBINDING: (MessageType.REBIND, r.REBIND),
    # A router verifies by Rebind, with the times of Confirm (section 18.2.12).
    Phase.VERIFYING: (MessageType.REBIND, replace(r.CONFIRM, first_delay_s=0.0)),
    Phase.RELEASING: (MessageType.RELEASE, r.RELEASE),
    Phase.DECLINING: (MessageType.DECLINE, r.DECLINE),
}
_LAST_WORDS: Final = {Phase.RELEASING: Event.RELEASED, Phase.DECLINING: Event.DECLINED}
"""The exchanges about what is not used any more, and what ends them."""
_CONFIRM: Final = (MessageType.CONFIRM, r.CONFIRM)
"""What a device verifies its address with (section 18.2.3)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One prefix or address of a lease. Lifetimes are seconds from `since`, in monotonic seconds."""

    value: Value
    preferred_s: int
    valid_s: int
    since: float

    def valid_until(self) -> float:
        """When it ends, in monotonic seconds; infinity where it does not."""
        return float("inf") if self.valid_s == INFINITY else self.since + self.valid_s


@dataclass(frozen=True, slots=True)
class Lease:
    """What a client has: from which server (its DUID), what, until when it asks again, and what it was told beside."""

    server: bytes
    items: tuple[Item, ...]
    t1_s: float
    t2_s: float
    since: float
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    name_servers: tuple[IPv6Address, ...] = ()

    def valid_until(self) -> float:
        """When the last item ends, in monotonic seconds."""
        return max((item.valid_until() for item in self.items), default=self.since)


@dataclass(frozen=True, slots=True)
class Chance:
    """Where chance comes from: RAND between two bounds, and transaction ids of 24 bits."""

    uniform: Callable[[float, float], float]
    transaction_id: Callable[[], int]


@dataclass(frozen=True, slots=True)
class _Offer:
    preference: int
    server: bytes
    items: tuple[Item, ...]


class Client:
    """One client on one link. After each call send `sends()`, look at `lease`, and call `wake` at `wake_at`."""

    def __init__(self, duid: bytes, wish: Wish, chance: Chance) -> None:
        self._duid, self._wish, self._chance = duid, wish, chance
        self._key = GivenKey(duid)
        self.phase = Phase.OFF
        self.lease: Lease | None = None
        self.wake_at: float | None = None
        self._transaction_id: int | None = None
        self._attempt: r.Attempt | None = None
        self._sol_max_rt_s: float = r.SOLICIT.longest_s
        self._offers: list[_Offer] = []
        self._chosen: _Offer | None = None
        self._out: list[Message] = []
        self._released: Lease | None = None
        self._rate = r.Rate()

    def sends(self) -> tuple[Message, ...]:
        """What is to be sent now, once."""
        out, self._out = tuple(self._out), []
        return out

    # What is told to it.

    def begin(self, now: float, kept: Lease | None = None) -> None:
        """Begin; with a lease that was kept over a restart it is verified first (18.2.3, 18.2.12). Also when the link comes back."""
        if kept is not None:
            self.lease = kept
        event = Event.BEGIN_AGAIN if self.lease is not None or self.phase is not Phase.OFF else Event.BEGIN
        if (self.phase, event) in CLIENT:  # Who gives back what it has goes on with that.
            self._enter(event, now)

    def release(self, now: float) -> None:
        """Give back what it has, and stop (section 18.2.7). What it had is not used any more from now on."""
        if (self.phase, Event.RELEASE) in CLIENT:
            self._enter(Event.RELEASE, now)
        else:
            self.stop(now)

    def stop(self, now: float) -> None:
        """Stop without a word; the lease stands, and is verified at the next start."""
        self._enter(Event.STOP, now)

    def decline(self, now: float) -> None:
        """Another host has the address (section 18.2.8): it is not used any more, and another one is asked for."""
        if (self.phase, Event.DECLINE) in CLIENT:
            self._enter(Event.DECLINE, now)

    def wake(self, now: float) -> None:
        """The time of `wake_at` is there. Called too early it does nothing."""
        if self.wake_at is None or now < self.wake_at:
            return
        if self._lease_is_over(now):
            self._enter(Event.EXPIRED, now)
        elif self.phase is Phase.BOUND:
            lease = self.lease
            self._enter(Event.T2 if lease is not None and now >= lease.since + lease.t2_s else Event.T1, now)
        elif self.phase is Phase.SOLICITING and self._offers:
            self._choose(now)
        else:
            self._send_again(now)

    def received(self, message: Message, now: float) -> str | None:
        """A message came; why it is discarded, or None (sections 16 and 18.2.9 to 18.2.11)."""
        if message.type is MessageType.RECONFIGURE and self._wish.reconfigure:
            return self._reconfigured(message, now)
        why = why_client_discards(message, self._duid, self._transaction_id)
        if why is not None:
            return why
        if message.type is MessageType.ADVERTISE:
            return self._advertised(message, now)
        if self.phase in _LAST_WORDS:
            self._enter(_LAST_WORDS[self.phase], now)
            return None
        if self.phase is Phase.VERIFYING and not self._wish.for_prefix:
            return self._confirmed(o.status_of(message.options).status, now)
        return self._replied(message, now)

    # Advertise and Reply.

    def _advertised(self, message: Message, now: float) -> str | None:
        if self.phase is not Phase.SOLICITING:
            return "ADVERTISE while nothing is solicited"
        self._learn_sol_max_rt(message)
        items, _ = self._granted(message, now)
        server = o.first(message.options, o.ServerId)
        if not items or server is None:
            return "ADVERTISE that offers nothing"
        preference = o.first(message.options, o.Preference)
        if len(self._offers) < MOST_OFFERS:
            self._offers.append(_Offer(preference.value if preference else 0, server.duid, items))
        # The first time waits for other offers; later the first one is as good as any (section 18.2.1).
        waits = self._attempt is not None and self._attempt.number == 1
        if not waits or self._offers[-1].preference == _BEST_PREFERENCE:
            self._choose(now)
        return None

    def _choose(self, now: float) -> None:
        self._chosen = max(self._offers, key=lambda offer: offer.preference)
        self._enter(Event.CHOSEN, now)

    def _replied(self, message: Message, now: float) -> str | None:
        if self.phase is Phase.SOLICITING and o.first(message.options, o.RapidCommit) is None:
            return "REPLY to a SOLICIT without Rapid Commit"
        self._learn_sol_max_rt(message)
        if o.status_of(message.options).status is not Status.SUCCESS:
            return self._refused(message, now)
        items, status = self._granted(message, now)
        if status is Status.NO_BINDING and (self.phase, Event.FORGOTTEN) in CLIENT:
            self._forgotten(message, now)
            return None
        kept = self._kept_beside(message, now)
        if items:
            self._take(message, (*items, *kept)[:MOST_ITEMS], now)
        elif self.lease is not None and self.phase is not Phase.REQUESTING and len(kept) < len(self.lease.items):
            self._taken_back(kept, now)
        else:
            return self._refused(message, now)
        return None

    def _confirmed(self, status: Status | int, now: float) -> str | None:
        """The Reply to a Confirm (section 18.2.10.3)."""
        if status not in (Status.SUCCESS, Status.NOT_ON_LINK):
            return f"REPLY to a CONFIRM that says neither ({status!s})"
        self._enter(Event.CONFIRMED if status is Status.SUCCESS else Event.MOVED, now)
        return None

    def _reconfigured(self, message: Message, now: float) -> str | None:
        """Renew or rebind now, if the message is the server's (section 18.2.11). While it asks anyway there is nothing to be done."""
        why = self._key.why_not(message)
        wanted = o.first(message.options, o.ReconfigureMessage)
        if why is None and wanted is not None and self.phase is Phase.BOUND:
            asks = {MessageType.RENEW: Event.T1, MessageType.REBIND: Event.T2}
            if wanted.type in asks:
                self._enter(asks[wanted.type], now)
        return why

    def _refused(self, message: Message, now: float) -> str | None:
        """Nothing was given: after a Request look for another server, else ask on at the usual times (sections 18.2.10, 18.2.10.1)."""
        if self.phase is Phase.REQUESTING:
            self._enter(Event.REFUSED, now)
            return None
        return f"REPLY that gives nothing ({o.status_of(message.options).status!s})"

    def _forgotten(self, message: Message, now: float) -> None:
        server = o.first(message.options, o.ServerId)
        had = self.lease.items if self.lease is not None else ()
        self._chosen = _Offer(0, server.duid if server is not None else b"", had)
        self._enter(Event.FORGOTTEN, now)

    def _kept_beside(self, message: Message, now: float) -> tuple[Item, ...]:
        """What the client had, is still valid, and the Reply does not name (section 18.2.10.1)."""
        named = self._named(message)
        had = self.lease.items if self.lease is not None and self.phase is not Phase.REQUESTING else ()
        return tuple(item for item in had if item.value not in named and item.valid_until() > now)

    def _taken_back(self, kept: tuple[Item, ...], now: float) -> None:
        """The server gave some, or all, no lifetime any more; for the others it is asked on."""
        if self.lease is not None and kept:
            self.lease = replace(self.lease, items=kept)
        else:
            self._enter(Event.EXPIRED, now)

    def _take(self, message: Message, items: tuple[Item, ...], now: float) -> None:
        server = o.first(message.options, o.ServerId)
        t1_s, t2_s = self._times(message, items)
        told = bootstrap_in(message.options, self._wish.codes)
        self._key.learn(message)
        self.lease = Lease(server.duid if server is not None else b"", items, t1_s, t2_s, now, told, name_servers_in(message.options))
        self._enter(Event.GRANTED, now)

    def _times(self, message: Message, items: tuple[Item, ...]) -> tuple[float, float]:
        preferred = [item.preferred_s for item in items if item.preferred_s]
        shortest = min(preferred or [item.valid_s for item in items])
        ia = self._ia_of(message)
        t1_s, t2_s = (float(ia.t1_s), float(ia.t2_s)) if ia is not None else (0.0, 0.0)
        endless = float("inf")
        t1_s = endless if t1_s == INFINITY else t1_s or (endless if shortest == INFINITY else shortest * _T1)
        t2_s = endless if t2_s == INFINITY else t2_s or (endless if shortest == INFINITY else shortest * _T2)
        return min(t1_s, t2_s), t2_s

    def _ia_of(self, message: Message) -> o.IaPd | o.IaNa | None:
        """The client's own IA in a message, if its times make sense: one with T1 behind T2 is ignored (section 21.4)."""
        ias: tuple[o.IaPd, ...] | tuple[o.IaNa, ...]
        ias = o.every(message.options, o.IaPd) if self._wish.for_prefix else o.every(message.options, o.IaNa)
        return next((ia for ia in ias if ia.iaid == self._wish.iaid and not (ia.t2_s and ia.t1_s > ia.t2_s)), None)

    def _granted(self, message: Message, now: float) -> tuple[tuple[Item, ...], Status | int]:
        """The items that a message gives in the client's IA, and the IA's status."""
        ia = self._ia_of(message)
        if ia is None:
            return (), Status.SUCCESS
        items = [_item(option, now) for option in ia.options if isinstance(option, o.IaPrefix | o.IaAddress)]
        good = [item for item in items if item.valid_s and item.preferred_s <= item.valid_s and is_usable(item.value)]
        return tuple(good[:MOST_ITEMS]), o.status_of(ia.options).status

    def _named(self, message: Message) -> set[Value]:
        ia = self._ia_of(message)
        options = ia.options if ia is not None else ()
        return {_item(option, 0.0).value for option in options if isinstance(option, o.IaPrefix | o.IaAddress)}

    def _learn_sol_max_rt(self, message: Message) -> None:
        told = o.first(message.options, o.SolMaxRt)
        if told is not None and _SOL_MAX_RT_BOUNDS[0] <= told.seconds <= _SOL_MAX_RT_BOUNDS[1]:
            self._sol_max_rt_s = float(told.seconds)

    # Phases.

    def _enter(self, event: Event, now: float) -> None:
        self.phase = CLIENT[self.phase, event]
        self._offers.clear()
        self._attempt = self._transaction_id = self.wake_at = None
        if event in (Event.EXPIRED, Event.MOVED) or self.phase in _LAST_WORDS:
            self._lease_in_use_ends()
        if self.phase is Phase.BOUND:
            self._wait_for_t1(now)
        elif self.phase in _SENDS:
            self._begin_exchange(now)

    def _lease_in_use_ends(self) -> None:
        self._released, self.lease = self.lease, None

    def _wait_for_t1(self, now: float) -> None:
        lease = self.lease
        if lease is not None:
            at = min(lease.since + lease.t1_s, lease.valid_until())
            self.wake_at = max(now, at) if at != float("inf") else None

    def _begin_exchange(self, now: float) -> None:
        _, schedule = self._schedule()
        self._transaction_id = self._chance.transaction_id()
        if schedule.first_delay_s:
            self.wake_at = now + self._chance.uniform(0.0, schedule.first_delay_s)
            return
        self._send_again(now)

    def _schedule(self) -> tuple[MessageType, r.Schedule]:
        kind, schedule = _CONFIRM if self.phase is Phase.VERIFYING and not self._wish.for_prefix else _SENDS[self.phase]
        return kind, replace(schedule, longest_s=self._sol_max_rt_s) if self.phase is Phase.SOLICITING else schedule

    def _send_again(self, now: float) -> None:
        """Send the exchange's message, the first time or again; where it is given up, what follows from that."""
        kind, schedule = self._schedule()
        last = self._attempt
        if self.phase is Phase.RENEWING and self.lease is not None and now >= self.lease.since + self.lease.t2_s:
            self._enter(Event.T2, now)
            return
        may_at = self._rate.next_at(now)
        if may_at > now and self.phase not in _LAST_WORDS:
            self.wake_at = may_at if self.lease is None else min(may_at, self.lease.valid_until())
            return
        if last is None:
            attempt: r.Attempt | None = r.first_attempt(schedule, now, self._chance.uniform, positive=kind is MessageType.SOLICIT)
        else:
            attempt = r.next_attempt(schedule, last, now, self._chance.uniform)
        if attempt is None:
            self._give_up(now)
            return
        self._attempt = attempt
        self._rate.sent(now)
        self.wake_at = now + attempt.wait_s
        lease = self.lease
        if lease is not None:
            self.wake_at = min(self.wake_at, lease.valid_until())
            if self.phase is Phase.RENEWING:
                self.wake_at = min(self.wake_at, lease.since + lease.t2_s)
        self._out.append(Message(kind, self._transaction_id or 0, self._options(kind, attempt, now)))

    def _give_up(self, now: float) -> None:
        # A device that nobody tells otherwise uses its address on (section 18.2.3); a router asks any server (18.2.12).
        unverified = Event.UNVERIFIED if self._wish.for_prefix else Event.CONFIRMED
        self._enter({Phase.REQUESTING: Event.REFUSED, Phase.VERIFYING: unverified, **_LAST_WORDS}[self.phase], now)

    def _lease_is_over(self, now: float) -> bool:
        return self.lease is not None and now >= self.lease.valid_until()

    # What is sent.

    def _options(self, kind: MessageType, attempt: r.Attempt, now: float) -> tuple[o.Option, ...]:
        return client_options(kind, self._duid, self._wish, self._named_in(kind), attempt.elapsed_hundredths(now))

    def _named_in(self, kind: MessageType) -> Named:
        """The server that a message names, and what it asks for or has."""
        if kind is MessageType.SOLICIT:
            return Named(values=self._wish.hints)
        if kind is MessageType.REQUEST and self._chosen is not None:
            return Named(self._chosen.server, tuple(item.value for item in self._chosen.items))
        lease = self._released if self.phase in _LAST_WORDS else self.lease
        if lease is None:
            return Named()
        to_any = kind in (MessageType.REBIND, MessageType.CONFIRM)
        return Named(None if to_any else lease.server, tuple(item.value for item in lease.items))


def _item(option: o.IaPrefix | o.IaAddress, now: float) -> Item:
    value: Value = option.prefix if isinstance(option, o.IaPrefix) else option.address
    return Item(value, option.preferred_s, option.valid_s, now)
