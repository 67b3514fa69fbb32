"""The client's port (UDP 546) on one interface: sends what the client's machine says, wakes it, hands it what comes.

Responsible for the interface that comes and goes. What a message means is in `client`, what is done with a lease is the service's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from m2mapp.dhcpv6.client import Client, Lease
from m2mapp.dhcpv6.client_states import Phase
from m2mapp.dhcpv6.message import MalformedMessage, Message
from m2mapp.dhcpv6.numbers import ALL_DHCP_RELAY_AGENTS_AND_SERVERS, CLIENT_PORT, SERVER_PORT
from m2mapp.dhcpv6.packet import build, parse
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, IDatagrams, IHost, Sockaddr

LOOK_AGAIN_S: Final = 5.0
"""How often the interface is looked at: whether it is there, still the same, and has a carrier."""

_log = Logger(namespace="m2mapp.dhcpv6")


@implementer(IDatagramReceiver)
class Asking:
    """Runs a client on an interface. `on_change` is called when its lease is another one than before.

    `interface`: its name, and the link-local address of it that is asked from; any, where that is empty.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        network: tuple[IDatagrams, IHost],
        interface: tuple[str, str],
        client: Client,
        on_change: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self._reactor, self._client, self._on_change = reactor, client, on_change
        self._datagrams, self._host = network
        self._name, self._from = interface
        self._port: IDatagramPort | None = None
        self._index: int | None = None
        self._linked = False
        self._kept: Lease | None = None
        self._told: Lease | None = None
        self._wake: IDelayedCall | None = None
        self._look: IDelayedCall | None = None
        self._idle: list[Deferred[None]] = []
        self._sent = metrics.counter("m2mapp_dhcpv6_client_sent_total", "DHCPv6 messages sent as a client.")
        self._unsent = metrics.counter("m2mapp_dhcpv6_client_unsent_total", "DHCPv6 messages of the client that the system did not take.")
        self._discarded = metrics.counter("m2mapp_dhcpv6_client_discarded_total", "Messages to the DHCPv6 client that it discards.")

    def start(self, kept: Lease | None) -> None:
        """Ask as soon as the interface is there. Raises `OSError` where its port is taken, or the address to ask from missing."""
        self._kept = kept
        if self._from or self._found() is not None:
            self._open()
        self._look_at_interface()

    def decline(self) -> None:
        """Another host has the address: another one is asked for."""
        self._client.decline(self._reactor.seconds())
        self._carry_on()

    def release(self) -> Deferred[None]:
        """Give back what the client has; the Deferred fires when that is done, or was tried often enough."""
        self._client.release(self._reactor.seconds())
        self._carry_on()
        if self._client.phase is Phase.OFF:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        return done

    def stop(self) -> Deferred[None]:
        """Ask no more; the lease stands. The Deferred fires when the port is closed."""
        self._client.stop(self._reactor.seconds())
        for call in (self._wake, self._look):
            if call is not None:
                call.cancel()
        self._wake = self._look = None
        return self._close()

    def _found(self) -> int | None:
        """The interface's index; None where it is not there."""
        try:
            return self._datagrams.interface_index(self._name)
        except OSError:
            return None

    def _open(self) -> None:
        """Open the port on the interface alone: another client may have the same port on another one. Raises `OSError`."""
        if self._port is None:
            self._port = self._datagrams.open_port(f"{self._from or '::'}%{self._name}", CLIENT_PORT, self)

    def _close(self) -> Deferred[None]:
        self._index = None
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        closed: Deferred[None] = port.stop()
        return closed

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """One datagram. Nothing that it holds makes this raise."""
        if interface != self._index or self._port is None:
            return
        try:
            message = parse(data)
        except MalformedMessage as fault:
            self._discard(source, str(fault))
            return
        why = self._client.received(message, self._reactor.seconds()) if isinstance(message, Message) else "a relay agent's message"
        if why is not None:
            self._discard(source, why)
        self._carry_on()

    def _discard(self, source: Sockaddr, why: str) -> None:
        self._discarded.add()
        _log.debug("{source} on {interface}: {why}", source=source[0], interface=self._name, why=why)

    def _look_at_interface(self) -> None:
        """Begin when the interface is there, and again when it was away."""
        self._look = self._reactor.callLater(LOOK_AGAIN_S, self._look_at_interface)
        index = self._found()
        if index == self._index:
            self._look_at_link()
            return
        if self._index is not None:
            _log.warn("{interface} is gone", interface=self._name)
            self._close()  # It was bound to that interface, and hears nothing of one that has its name.
        if index is None:
            return
        try:
            self._open()
        except OSError as error:
            _log.warn("nothing is asked on {interface}, again in {s:g} s: {error}", interface=self._name, s=LOOK_AGAIN_S, error=error)
            return
        self._index, self._linked = index, self._has_link()
        self._client.begin(self._reactor.seconds(), self._kept)
        self._kept = None
        self._carry_on()

    def _look_at_link(self) -> None:
        """A link that was away may be another one: what is had is verified (section 18.2.12), what is not is asked for at once."""
        before, self._linked = self._linked, self._index is not None and self._has_link()
        if self._linked and not before:
            _log.info("{interface} has a link again", interface=self._name)
            self._client.begin(self._reactor.seconds())
            self._carry_on()

    def _has_link(self) -> bool:
        try:
            return bool(self._host.has_carrier(self._name))
        except OSError:
            return False

    def _on_wake(self) -> None:
        self._wake = None
        self._client.wake(self._reactor.seconds())
        self._carry_on()

    def _carry_on(self) -> None:
        """Send what the machine wants sent, wait for when it wants to be woken, and tell of another lease."""
        for message in self._client.sends():
            self._send(message)
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self._client.wake_at is not None:
            self._wake = self._reactor.callLater(max(0.0, self._client.wake_at - self._reactor.seconds()), self._on_wake)
        if self._client.phase is Phase.OFF:
            idle, self._idle = self._idle, []
            for done in idle:
                done.callback(None)
        if self._client.lease != self._told:
            self._told = self._client.lease
            self._on_change()

    def _send(self, message: Message) -> None:
        port, index = self._port, self._index
        taken = port is not None and index is not None
        if port is not None and index is not None:
            taken = port.send_to_group(build(message), ALL_DHCP_RELAY_AGENTS_AND_SERVERS, SERVER_PORT, index)
        (self._sent if taken else self._unsent).add()
