"""The servers' port (UDP 547): a datagram in, what it leads to made durable, the reply out.

Responsible for telling apart the interfaces that are served, for bounds and counts. What a message means is in `server`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.dhcpv6.binding import Bindings
from m2mapp.dhcpv6.message import MalformedMessage, Message, RelayMessage
from m2mapp.dhcpv6.numbers import ALL_DHCP_RELAY_AGENTS_AND_SERVERS, CLIENT_PORT, SERVER_PORT, MessageType
from m2mapp.dhcpv6.packet import build, parse
from m2mapp.dhcpv6.server import Arrival, Outcome, Server, unwrap, wrap
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import new_trace
from m2mapp.model.interfaces import IClock, ICommit
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, Sockaddr
from m2mapp.tree.unit import Remove, Unit, Write

_REMEMBERED_SOURCES: Final = 256
MOST_GATHERED: Final = 64
CROWD: Final = 768
"""While so many datagrams wait, some 0.2 s of work, Solicits are dropped, which costs next to nothing: else what waits grows older, until
every answer is too late for who asked (clients wait 1 s). A client to whom nothing was offered asks again, or elsewhere; who has
something, or was offered it, comes first. A disk or a host that stalls for less than that costs nobody an answer."""
_SOLICIT: Final = bytes((MessageType.SOLICIT,))
LARGEST_REPLY: Final = 1232
"""Bytes that fit into the smallest IPv6 packet that each link carries whole, behind its headers (RFC 8200, section 5)."""

_log = Logger(namespace="m2mapp.dhcpv6")


@dataclass(frozen=True, slots=True)
class _Gathered:
    """A reply that waits for the disk, and what must be there before it leaves."""

    outcome: Outcome
    reply: Message
    changes: tuple[Write | Remove, ...]
    relays: tuple[RelayMessage, ...]
    source: Sockaddr


@implementer(IDatagramReceiver)
class Serving:
    """Serves some interfaces of one port.

    `most`: so many replies may wait for the disk; under a flood the newest messages are dropped, which their clients send again.
    `gather_s`: what comes within this time of a commit shares the next one; the first after a pause does not wait.
    """

    most: ClassVar[int] = 1_000
    gather_s: float = 0.02

    def __init__(self, reactor: IReactorTime, clock: IClock, committer: ICommit, bindings: Bindings, metrics: Metrics) -> None:
        self._reactor, self._clock, self._committer, self._bindings = reactor, clock, committer, bindings
        self._port: IDatagramPort | None = None
        self._served: dict[int, tuple[str, Server]] = {}
        self._under_way = 0
        self._gathered: list[_Gathered] = []
        self._last_s = float("-inf")
        self._call: IDelayedCall | None = None
        self._told: OrderedDict[str, None] = OrderedDict()
        self._received = metrics.counter("m2mapp_dhcpv6_received_total", "DHCPv6 datagrams that came in on the servers' port.")
        self._malformed = metrics.counter("m2mapp_dhcpv6_malformed_total", "Datagrams that were no DHCPv6 message.")
        self._discarded = metrics.counter("m2mapp_dhcpv6_discarded_total", "DHCPv6 messages that servers discard (RFC 9915, section 16).")
        self._dropped = metrics.counter("m2mapp_dhcpv6_dropped_total", "DHCPv6 messages dropped because too many waited for the disk.")
        self._shed = metrics.counter("m2mapp_dhcpv6_shed_total", "Solicits dropped because more came than could be answered in time.")
        self._replied = metrics.counter("m2mapp_dhcpv6_replies_total", "DHCPv6 replies sent.")
        self._failed = metrics.counter("m2mapp_dhcpv6_failed_total", "DHCPv6 messages without reply because the disk failed.")
        self._refused = metrics.counter("m2mapp_dhcpv6_refused_total", "IAs that got nothing: nothing is left, or their client has enough.")
        self._large = metrics.counter("m2mapp_dhcpv6_large_replies_total", "DHCPv6 replies that may not fit a packet of 1,280 bytes.")
        bindings.settle = self.settle
        metrics.gauge("m2mapp_dhcpv6_bindings", "Addresses and prefixes that clients have.", lambda: len(bindings))

    def attach(self, port: IDatagramPort) -> None:
        """Answer by this port."""
        self._port = port

    def detach(self) -> None:
        """Send nothing more. What was not committed yet was promised to nobody."""
        self._port = None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._under_way -= len(self._gathered)
        self._gathered.clear()
        self._served.clear()

    def serve(self, interface: int, name: str, server: Server) -> None:
        """Serve an interface, by its index and name."""
        self._served[interface] = (name, server)

    def leave(self, interface: int) -> None:
        """Serve the interface of that index no more."""
        self._served.pop(interface, None)

    def settle(self) -> None:
        """What was gathered is committed now: who writes a binding next builds on what clients were given."""
        if self._call is not None:
            self._call.cancel()
            self._commit_gathered()

    def send_unasked(self, data: bytes, name: str, address: str) -> None:
        """Send to a client on the interface of that name, which has not asked; nothing where the interface is not served."""
        index = next((index for index, served in self._served.items() if served[0] == name), None)
        if self._port is not None and index is not None:
            self._port.send(data, (address, CLIENT_PORT, 0, index))

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """One datagram. Nothing that it holds makes this raise."""
        self._received.add()
        served = self._served.get(interface)
        if served is None:
            self._discarded.add()
            return
        if data[:1] == _SOLICIT and self._port is not None and self._port.waiting() >= CROWD:
            self._shed.add()
            return
        try:
            received = parse(data)
        except MalformedMessage as fault:
            self._malformed.add()
            self._tell_once(source, str(fault))
            return
        message, relays = unwrap(received)
        if message is None or (not relays and destination != ALL_DHCP_RELAY_AGENTS_AND_SERVERS):
            self._discarded.add()  # A client sends to the multicast address (RFC 9915, section 14); only relay agents do not.
            return
        if self._under_way >= self.most:
            self._dropped.add()
            return
        name, server = served
        arrival = Arrival(source[0].partition("%")[0], name, relays)
        outcome = server.answer(message, arrival, self._reactor.seconds(), self._clock.now_ms())
        self._carry_out(outcome, relays, source)

    def _carry_out(self, outcome: Outcome, relays: tuple[RelayMessage, ...], source: Sockaddr) -> None:
        if outcome.reply is None:
            self._discarded.add()
            return
        if outcome.refused:
            self._refused.add(outcome.refused)
        if not outcome.given and not outcome.ended:
            self._reply(outcome.reply, relays, source)
            return
        if outcome.ended:
            self.settle()  # What is taken back may have been given a moment ago.
        changes: list[Write | Remove] = [self._bindings.end(binding.path) for binding in outcome.ended]
        changes += [self._bindings.write(binding) for binding in outcome.given]
        self._under_way += 1
        self._gathered.append(_Gathered(outcome, outcome.reply, tuple(changes), relays, source))
        if self._call is None:
            wait_s = self._last_s + self.gather_s - self._reactor.seconds()
            if wait_s > 0:
                self._call = self._reactor.callLater(wait_s, self._commit_gathered)
            else:
                self._commit_gathered()
        elif len(self._gathered) >= MOST_GATHERED:
            self.settle()
        if outcome.ended:
            self.settle()

    def _commit_gathered(self) -> None:
        self._call, self._last_s = None, self._reactor.seconds()
        gathered, self._gathered = self._gathered, []
        self._commit(gathered)

    def _commit(self, gathered: list[_Gathered]) -> None:
        """One unit: a flush and all that goes with it costs the same for one as for some."""
        past = tuple(entry for one in gathered for entry in one.outcome.past)
        unit = Unit(tuple(change for one in gathered for change in one.changes), past, trace=new_trace())
        done: Deferred[object] = maybeDeferred(self._committer.commit, unit)
        done.addCallbacks(self._committed, self._not_committed, callbackArgs=(gathered,), errbackArgs=(gathered,))

    def _committed(self, _: object, gathered: list[_Gathered]) -> None:
        self._under_way -= len(gathered)
        for one in gathered:
            self._reply(one.reply, one.relays, one.source)

    def _not_committed(self, failure: Failure, gathered: list[_Gathered]) -> None:
        """No reply: the client asks again, here or elsewhere. Of several, it may be that of one alone that could not be: each by itself."""
        if len(gathered) > 1:
            for one in gathered:
                self._commit([one])
            return
        (one,) = gathered
        self._under_way -= 1
        self._failed.add()
        for binding in one.outcome.given:
            self._bindings.dropped(binding)
        if failure.check(Fault) is None:
            _log.failure("a binding for {source} was not kept", failure, source=one.source[0])

    def _reply(self, reply: Message, relays: tuple[RelayMessage, ...], source: Sockaddr) -> None:
        if self._port is None:
            return
        port = SERVER_PORT if relays else CLIENT_PORT
        try:
            data = build(wrap(reply, relays))
        except ValueError as fault:  # A relay agent wants so much returned that there is no room for the reply.
            self._discarded.add()
            self._tell_once(source, f"cannot be answered: {fault}")
            return
        if len(data) > LARGEST_REPLY:
            self._large.add()
        if self._port.send(data, (source[0], port, *source[2:])):
            self._replied.add()

    def _tell_once(self, source: Sockaddr, why: str) -> None:
        """Log what is wrong with a datagram, once for each source."""
        if source[0] not in self._told:
            _log.warn("a DHCPv6 message of {source}: {why}", source=source[0], why=why)
            self._told[source[0]] = None
            if len(self._told) > _REMEMBERED_SOURCES:
                self._told.popitem(last=False)
