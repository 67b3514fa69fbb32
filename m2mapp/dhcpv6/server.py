"""The server's side of an exchange (RFC 9915, section 18.3), for the delegating server and for the devices' server alike.

Pure: a message, who sent it and the time go in; a reply and the bindings that must be durable before it leaves come out. Not
responsible for sockets, for committing, nor for which value is given (`pools`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import Final

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.binding import Binding, Bindings, Client, State, Value
from m2mapp.dhcpv6.bootstrap_options import Bootstrap, BootstrapCodes, bootstrap_options, fingerprint
from m2mapp.dhcpv6.history import Ending, ended
from m2mapp.dhcpv6.message import Message, RelayMessage
from m2mapp.dhcpv6.numbers import DNS_SERVERS, INFINITY, VENDOR_OPTS, MessageType, Status
from m2mapp.dhcpv6.pools import Lifetimes, Pool
from m2mapp.dhcpv6.reconfigure import ReconfigureKeys
from m2mapp.dhcpv6.validation import why_server_discards
from m2mapp.tree.unit import Append

MAX_BINDINGS_OF_DUID: Final = 16
"""So many addresses and prefixes one client may have: one that asks for a thousand gets a status code for the others."""
MAX_IAS: Final = 32
"""So many IAs of one message are answered."""
MAX_OLD: Final = 4
"""So many addresses of former prefixes a client may go on using."""

Ia = o.IaNa | o.IaPd
_IAS: Final = (o.IaNa, o.IaPd)
_VALUES: Final = (o.IaAddress, o.IaPrefix)


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message came: the address of the client (or of the nearest relay agent), the interface's name, the relay agents.

    `relays` is the chain from the one nearest to this node on.
    """

    source: str
    interface: str
    relays: tuple[RelayMessage, ...] = ()

    @property
    def link_address(self) -> IPv6Address | None:
        """The address that says which link the client is on: of the relay agent nearest to it that gives one (section 13.1, RFC 6221)."""
        if not self.relays:
            return None
        given = (relay.link_address for relay in reversed(self.relays))
        return next((address for address in given if not address.is_unspecified and not address.is_link_local), None)


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a server gives: its pools by the kind of IA, what it tells beside, Rapid Commit, Preference.

    Where a kind has no pool its IAs are answered with a status code; which addresses a client can have depends on its link and on the
    monotonic time. `bootstrap` gives the service that is known at the moment. `most` bounds the bindings of all clients together. `keys`:
    clients that accept Reconfigure get a key. `name_servers` are told to who asks for them.
    """

    addresses: Callable[[Arrival, float], Pool | None] = lambda _, __: None
    prefixes: Pool | None = None
    codes: BootstrapCodes = field(default_factory=BootstrapCodes)
    bootstrap: Callable[[], Bootstrap] = Bootstrap
    rapid_commit: bool = True
    preference: int = 0
    refresh_s: int = 3600
    most: int = 65_536
    keys: ReconfigureKeys | None = None
    name_servers: Callable[[], tuple[IPv6Address, ...]] = tuple


@dataclass(slots=True)
class Outcome:
    """What a message leads to: the reply (None: none, for the reason `why`), and what must be durable before it leaves.

    `refused` are IAs that got nothing, since nothing is left or their client has enough; `past` goes into the history of clients.
    """

    reply: Message | None = None
    why: str = ""
    refused: int = 0
    given: list[Binding] = field(default_factory=list)
    ended: list[Binding] = field(default_factory=list)
    past: list[Append] = field(default_factory=list)


@dataclass(slots=True)
class _Ask:
    """One message on its way through the server. `offered`: what its IAs so far would get; `none_left`: a search found nothing."""

    message: Message
    duid: bytes
    arrival: Arrival
    now_ms: int
    bootstrap: Bootstrap
    addresses: Pool | None
    commits: bool = True
    agrees: bool = False
    requested: tuple[int, ...] = ()
    wants_certificate: bool = False
    offered: dict[Value, Client] = field(default_factory=dict)
    none_left: bool = False
    outcome: Outcome = field(default_factory=Outcome)


def unwrap(received: Message | RelayMessage) -> tuple[Message | None, tuple[RelayMessage, ...]]:
    """The client's message and the relay agents that it passed, the nearest to this node first (section 19); None where there is none."""
    chain: list[RelayMessage] = []
    while isinstance(received, RelayMessage):
        inner = o.first(received.options, o.RelayedMessage)
        if received.type is not MessageType.RELAY_FORW or inner is None:
            return None, ()
        chain.append(received)
        received = inner.message
    return received, tuple(chain)


def wrap(reply: Message, relays: tuple[RelayMessage, ...]) -> Message | RelayMessage:
    """The reply, in a Relay-reply for each relay agent (section 19.3), with the Interface-Id that it sent."""
    wrapped: Message | RelayMessage = reply
    for relay in reversed(relays):
        interface_id = o.first(relay.options, o.InterfaceId)
        options: tuple[o.Option, ...] = (o.RelayedMessage(wrapped),) if interface_id is None else (interface_id, o.RelayedMessage(wrapped))
        wrapped = RelayMessage(MessageType.RELAY_REPL, relay.hop_count, relay.link_address, relay.peer_address, options)
    return wrapped


class Server:
    """Answers clients. `now` is in monotonic seconds, `now_ms` in wall-clock milliseconds."""

    def __init__(self, duid: bytes, terms: Terms, bindings: Bindings) -> None:
        self._duid, self._terms, self._bindings = duid, terms, bindings
        self._server_id = o.ServerId(duid)
        self._full_at: int | None = None
        self._none_at: int | None = None
        codes = terms.codes
        wanted = ({codes.certificate} if codes.in_option else set()) | ({VENDOR_OPTS} if codes.in_vendor else set())
        self._certificate_codes = frozenset(wanted)

    def answer(self, message: Message, arrival: Arrival, now: float, now_ms: int) -> Outcome:
        """What a client's message leads to. What is given is promised to it: `Bindings.dropped` where it is not committed."""
        why = why_server_discards(message, self._duid)
        if why is not None:
            return Outcome(why=why)
        client = o.first(message.options, o.ClientId)
        addresses = self._terms.addresses(arrival, now)
        ask = _Ask(message, client.duid if client else b"", arrival, now_ms, self._terms.bootstrap(), addresses)
        request = o.first(message.options, o.OptionRequest)
        if request is not None:
            ask.requested = request.codes
            ask.wants_certificate = not self._certificate_codes.isdisjoint(request.codes)
        # Through relay agents a Reconfigure would have to find its way back: who is behind one asks again when its time has come.
        if self._terms.keys is not None and not arrival.relays and message.type in (MessageType.SOLICIT, MessageType.REQUEST):
            ask.agrees = o.first(message.options, o.ReconfigureAccept) is not None
        _ANSWERS[message.type](self, ask)
        return ask.outcome

    @property
    def exhausted(self) -> bool:
        """Whether somebody got nothing because nothing is left, and nobody has given anything back since."""
        return self._full_at is not None and len(self._bindings) >= self._full_at

    # The messages, in the order of section 18.3.

    def _solicit(self, ask: _Ask) -> None:
        """18.3.1: an Advertise, or with Rapid Commit at once the Reply."""
        at_once = self._terms.rapid_commit and o.first(ask.message.options, o.RapidCommit) is not None
        ask.commits = at_once
        ias = self._assigned(ask)
        if at_once:
            self._reply(ask, MessageType.REPLY, (o.RapidCommit(), *ias))
            return
        preference = (o.Preference(self._terms.preference),) if self._terms.preference else ()
        self._reply(ask, MessageType.ADVERTISE, (*preference, *ias))

    def _request(self, ask: _Ask) -> None:
        """18.3.2, and Renew (18.3.4) and Rebind (18.3.5): a binding that was lost on the way is made anew where its value is free.

        Silence to who asks for more time while no prefix is known, as it is when a box has just started: it keeps what it has.
        """
        again = ask.message.type is not MessageType.REQUEST
        if again and ask.addresses is not None and ask.addresses.empty and o.first(ask.message.options, o.IaNa) is not None:
            ask.outcome.why = f"{ask.message.type.name} while there is no prefix"
            return
        self._reply(ask, MessageType.REPLY, self._assigned(ask))

    def _confirm(self, ask: _Ask) -> None:
        """18.3.3: whether the addresses are appropriate for the link; silence where nothing can be said."""
        pool = ask.addresses
        asked = [address.address for ia in o.every(ask.message.options, o.IaNa) for address in o.every(ia.options, o.IaAddress)]
        if pool is None or pool.empty or not asked:
            ask.outcome.why = "CONFIRM without addresses that can be judged"
            return
        on_link = all(pool.has(address) for address in asked)
        status = o.StatusCode(Status.SUCCESS) if on_link else o.StatusCode(Status.NOT_ON_LINK, "not of this link")
        self._reply(ask, MessageType.REPLY, (status,))

    def _release(self, ask: _Ask) -> None:
        """18.3.7: what the client has and names is free."""
        self._ended(ask, State.BOUND)

    def _decline(self, ask: _Ask) -> None:
        """18.3.8: another host has the address: it is set aside."""
        self._ended(ask, State.DECLINED)

    def _information_request(self, ask: _Ask) -> None:
        """18.3.6: the options alone."""
        self._reply(ask, MessageType.REPLY, (o.InformationRefreshTime(self._terms.refresh_s),))

    # Parts.

    def _assigned(self, ask: _Ask) -> tuple[o.Option, ...]:
        """The client's IAs with what they have from now on; T1 and T2 the same in all (section 14.2)."""
        answered = [(ia, self._ia_options(ask, ia)) for ia in _ias(ask.message)[:MAX_IAS]]
        given = [value for _, options in answered for value in options if isinstance(value, _VALUES)]
        lifetimes = [value.preferred_s for value in given if value.preferred_s] or [value.valid_s for value in given]
        shortest = min(lifetimes, default=0)
        times = (INFINITY, INFINITY) if shortest == INFINITY else (shortest // 2, shortest * 4 // 5)
        told = []
        for ia, options in answered:
            t1_s, t2_s = times if any([isinstance(option, _VALUES) for option in options]) else (0, 0)
            told.append(type(ia)(ia.iaid, t1_s, t2_s, options))
        return tuple(told)

    def _ia_options(self, ask: _Ask, ia: Ia) -> tuple[o.Option, ...]:
        client = Client(ask.duid, ia.iaid, isinstance(ia, o.IaPd))
        pool = self._terms.prefixes if client.for_prefix else ask.addresses
        named = [_value(option) for option in _values(ia)]
        if ask.message.type is MessageType.REQUEST and not client.for_prefix and pool is not None and not pool.empty:
            for one in named:
                if not pool.has(one):
                    return (o.StatusCode(Status.NOT_ON_LINK, "not of this link"),)
        had = self._bindings.find(client)
        value = self._value_for(ask, client, had, pool, named)
        old: dict[Value, int] = {}
        others: tuple[o.Option, ...] = ()
        if ask.message.type in (MessageType.RENEW, MessageType.REBIND):
            old = self._old(client, had, pool, named, value)
            others = tuple(_option(one, Lifetimes(0, valid_s)) for one, valid_s in old.items())
        if value is None or pool is None:
            ask.outcome.refused += pool is not None
            return (*others, _none_left(client))
        lifetimes = pool.lifetimes(value)
        if ask.commits:
            kept = tuple(one for one, valid_s in old.items() if valid_s and isinstance(one, IPv6Address))
            binding = self._binding(ask, had, (client, value, kept), lifetimes)
            ask.outcome.given.append(binding)
            self._bindings.promise(binding)  # Now: another IA of the same message may want the same.
        elif had is None:
            ask.offered[value] = client
        return (_option(value, lifetimes), *others)

    def _old(self, client: Client, had: Binding | None, pool: Pool | None, named: list[Value], value: Value | None) -> dict[Value, int]:
        """What the client has besides what it gets, and for how long it may be used still.

        Of a prefix that is not preferred any more: for as long as that is valid. Anything else it should not have: not at all (sections
        18.3.4 and 18.3.5).
        """
        held = (had.value, *had.old) if had is not None and had.state is State.BOUND else ()
        others = sorted({*named, *held} - {value}, key=lambda one: (one not in held, str(one)))
        left: dict[Value, int] = {}
        for one in others:
            of_prefix = pool.lifetimes(one) if pool is not None else Lifetimes(0, 0)
            own = one in held and self._bindings.is_free_for(client, one)
            left[one] = of_prefix.valid_s if own and not of_prefix.preferred_s and len(left) < MAX_OLD else 0
        return left

    def _value_for(self, ask: _Ask, client: Client, had: Binding | None, pool: Pool | None, named: list[Value]) -> Value | None:
        """What a client has, or gets: what is reserved for it; what it has, for as long as that is preferred; else something new."""
        if pool is None:
            return None
        reserved = pool.fixed(had.reserved) if had is not None and had.reserved is not None else None
        for fixed in (reserved, pool.kept(client)):
            if fixed is not None and self._is_free(ask, client, fixed):
                return fixed
        held = had.value if had is not None and had.state is State.BOUND and pool.is_for(client, had.value) else None
        if held is not None and pool.lifetimes(held).preferred_s:
            return held
        full = len(self._bindings) >= self._terms.most
        if had is None and (full or self._bindings.count(client.duid) + len(ask.offered) >= MAX_BINDINGS_OF_DUID):
            self._full_at = len(self._bindings) if full else self._full_at
            return None
        hint = next((value for value in named if pool.has(value)), None)
        found = self._picked(ask, client, pool, hint)
        self._full_at = len(self._bindings) if found is None and not pool.empty else None
        if found is None and held is not None and pool.lifetimes(held).valid_s:
            return held
        return found

    def _picked(self, ask: _Ask, client: Client, pool: Pool, hint: Value | None) -> Value | None:
        """A free value of a pool. Of prefixes, where none was found, none is looked for until one is freed: to look takes long."""
        if client.for_prefix and (ask.none_left or self._none_at == self._bindings.freed):
            return None
        found = pool.pick(client, hint, lambda value: self._is_free(ask, client, value))
        if client.for_prefix and found is None:
            ask.none_left = True
            self._none_at = None if ask.offered else self._bindings.freed
        return found

    def _is_free(self, ask: _Ask, client: Client, value: Value) -> bool:
        return self._bindings.is_free_for(client, value) and ask.offered.get(value, client) == client

    def _binding(
        self, ask: _Ask, had: Binding | None, what: tuple[Client, Value, tuple[IPv6Address, ...]], lifetimes: Lifetimes
    ) -> Binding:
        """What is given, with what is kept of the binding before: the reservation, and that a key was agreed on."""
        client, value, old = what
        same = had is not None and had.state is State.BOUND and had.value == value
        again = ask.message.type in (MessageType.RENEW, MessageType.REBIND)  # Who asks anew says anew whether it accepts Reconfigure.
        if had is not None and not same:
            ask.outcome.past += ended(had, Ending.EXCHANGED)
        return Binding(
            client,
            value,
            lifetimes.preferred_s,
            lifetimes.valid_s,
            ask.now_ms,
            State.BOUND,
            ask.arrival.interface,
            ask.arrival.source,
            ask.bootstrap.uri,
            fingerprint(ask.bootstrap.certificate) if ask.wants_certificate else None,
            old,
            had.reserved if had is not None else None,
            ask.agrees or (again and had is not None and had.reconfigure and not ask.arrival.relays),
            had.first_ms if had is not None and same else ask.now_ms,
            had.renewed + 1 if had is not None and same else 0,
        )

    def _ended(self, ask: _Ask, state: State) -> None:
        unknown: list[o.Option] = []
        for ia in _ias(ask.message)[:MAX_IAS]:
            had = self._bindings.find(Client(ask.duid, ia.iaid, isinstance(ia, o.IaPd)))
            if had is None or had.state is not State.BOUND or had.value not in [_value(option) for option in _values(ia)]:
                unknown.append(replace(ia, t1_s=0, t2_s=0, options=(o.StatusCode(Status.NO_BINDING, "no such binding"),)))
            else:
                ask.outcome.ended.append(had)
                ask.outcome.past += ended(had, Ending.DECLINED if state is State.DECLINED else Ending.RELEASED)
                if state is State.DECLINED and not had.client.for_prefix:
                    set_aside = replace(had, state=State.DECLINED, given_ms=ask.now_ms, old=(), reserved=None)
                    ask.outcome.given.append(set_aside)
                    self._bindings.promise(set_aside)
        self._reply(ask, MessageType.REPLY, (o.StatusCode(Status.SUCCESS), *unknown))

    def _reply(self, ask: _Ask, kind: MessageType, options: tuple[o.Option, ...]) -> None:
        identifiers: tuple[o.Option, ...] = (self._server_id,)
        if ask.duid:
            identifiers = (o.ClientId(ask.duid), *identifiers)
        told: tuple[o.Option, ...] = ()
        if ask.message.type not in (MessageType.CONFIRM, MessageType.RELEASE, MessageType.DECLINE):
            told = bootstrap_options(ask.bootstrap, self._terms.codes, with_certificate=ask.wants_certificate)
            name_servers = self._terms.name_servers() if DNS_SERVERS in ask.requested else ()
            told = (*told, o.DnsServers(name_servers)) if name_servers else told
        if ask.agrees and self._terms.keys is not None and kind is MessageType.REPLY and ask.outcome.given:
            told = (o.ReconfigureAccept(), self._terms.keys.option(ask.duid), *told)
        ask.outcome.reply = Message(kind, ask.message.transaction_id, (*identifiers, *options, *told))


_ANSWERS: Final[dict[MessageType, Callable[[Server, _Ask], None]]] = {
    MessageType.SOLICIT: Server._solicit,
    MessageType.REQUEST: Server._request,
    MessageType.CONFIRM: Server._confirm,
    MessageType.RENEW: Server._request,
    MessageType.REBIND: Server._request,
    MessageType.RELEASE: Server._release,
    MessageType.DECLINE: Server._decline,
    MessageType.INFORMATION_REQUEST: Server._information_request,
}


def _ias(message: Message) -> list[Ia]:
    return [option for option in message.options if isinstance(option, _IAS)]


def _values(ia: Ia) -> tuple[o.IaAddress | o.IaPrefix, ...]:
    return o.every(ia.options, o.IaAddress) if isinstance(ia, o.IaNa) else o.every(ia.options, o.IaPrefix)


def _value(option: o.IaAddress | o.IaPrefix) -> Value:
    return option.address if isinstance(option, o.IaAddress) else option.prefix


def _option(value: Value, lifetimes: Lifetimes) -> o.Option:
    if isinstance(value, IPv6Address):
        return o.IaAddress(value, lifetimes.preferred_s, lifetimes.valid_s)
    return o.IaPrefix(value, lifetimes.preferred_s, lifetimes.valid_s)


def _none_left(client: Client) -> o.StatusCode:
    if client.for_prefix:
        return o.StatusCode(Status.NO_PREFIX_AVAIL, "no prefix is left")
    return o.StatusCode(Status.NO_ADDRS_AVAIL, "no address is left")
