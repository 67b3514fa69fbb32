"""A datagram port of DTLS sessions: encrypted datagrams on a real port below, decrypted ones to the message layer above.

Responsible for which session a datagram belongs to, for their handshakes, timers and ends, and for limits. Not responsible for what
OpenSSL does (`session`), nor for who must go where there is no room (`table`). Nothing leaves here that is not encrypted: what is not
for a session of this port is not sent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from m2mapp.coap import things
from m2mapp.coap.context import Context
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.dtls.address import Wanted, session_address, session_of
from m2mapp.coap.dtls.contexts import ClientContexts, Judge
from m2mapp.coap.dtls.records import Content, client_hello, first_record, is_client_hello
from m2mapp.coap.dtls.session import Listener, Session, State
from m2mapp.coap.dtls.table import Pace, SessionTable, host_of
from m2mapp.model.errors import Fault, PeerFailed
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, Sockaddr

_log = Logger()
_TYPE: Final = 0x30
_CONFIRMABLE: Final = things.CON << 4
"""The first byte of a message that asks for an answer, or an acknowledgement at least (RFC 7252, section 3)."""
_LEAST_SWEEP_S: Final = 1.0
_IN_TIME: Final = "the handshake was not done in time"
_NO_ROOM: Final = "there is no room for another session"
STOPPED: Final = "the CoAP service has stopped"

OnDialed = Callable[[Sockaddr | Fault], object]
"""Told once: the session's address, or why there is none."""


class Above(Protocol):
    """Who takes what sessions bring: a message layer."""

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """As `IDatagramReceiver`; `source` is the session's address."""

    def gone(self, address: Sockaddr) -> None:
        """The session of this address is over."""


class _Link:
    """One session with what the port knows of it. `address` is there once it is established."""

    def __init__(self, session: Session, remote: Sockaddr, now_s: float) -> None:
        self.session, self.remote = session, remote
        self.began_at = self.used_at = now_s
        self.certified = self.over = False
        self.address: Sockaddr | None = None
        self.local: str | None = None
        self.timer: Deadline | None = None
        self.on_dialed: OnDialed | None = None
        self.unanswered_since: float | None = None


@implementer(IDatagramPort, IDatagramReceiver)
class DtlsPort:
    """The sessions of one UDP port. With `server` it takes sessions that others begin. `attach` the UDP port first."""

    def __init__(self, above: Above, context: Context, clients: ClientContexts, server: SSL.Context | None = None) -> None:
        self._above, self._context, self._clients = above, context, clients
        self._counters, self._limits = context.counters, context.limits
        self._listener = Listener(server) if server is not None else None
        self._port: IDatagramPort | None = None
        self._wildcard = False
        self._sweeping: Deadline | None = None
        self._pace = Pace(context.limits.handshakes_per_s)
        self.table: SessionTable[_Link] = SessionTable(context.limits)

    def attach(self, port: IDatagramPort) -> None:
        """Use this UDP port."""
        self._port = port
        self._wildcard = port.local()[0] in {"::", "0.0.0.0"}  # noqa: S104 - compared, not bound

    # -- as a port, to the message layer -------------------------------------------------------------------------------------

    def send(self, data: bytes, to: Sockaddr, source: str | None = None) -> bool:
        """Send by a session of this port; `source` is the session's own. False where the session is over."""
        link = self._find(to)
        if link is None or not link.session.send(data):
            return False
        now_s = self._context.clock.seconds()
        self.table.used(link, now_s)
        if link.unanswered_since is None and data[0] & _TYPE == _CONFIRMABLE:
            link.unanswered_since = now_s
        return self._flush(link)

    def send_to_group(self, data: bytes, group: str, port: int, interface: int) -> bool:
        """Sessions have one peer: never sent (RFC 7252, section 9.1.1)."""
        return False

    def join(self, group: str, interface: int) -> None:
        """Sessions have one peer: raises `OSError`."""
        raise OSError("a port of DTLS sessions joins no group")

    def leave(self, group: str, interface: int) -> None:
        """Nothing was joined."""

    def local(self) -> Sockaddr:
        """The address of the UDP port."""
        return self._below().local()

    def waiting(self) -> int:
        """What waits at the UDP port."""
        return self._below().waiting()

    def stop(self) -> Deferred[None]:
        """End every session, with a word to its peer, and close the UDP port."""
        for link in self.table.all():
            self._end(link, STOPPED, tell_above=False)
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        port, self._port = self._below(), None
        closed: Deferred[None] = port.stop()
        return closed

    # -- sessions that this node begins --------------------------------------------------------------------------------------

    def dial(self, remote: Sockaddr, wanted: Wanted, on_dialed: OnDialed) -> None:
        """Begin a session with an address. Whatever was there before with the same address ends first, with a word to the peer."""
        for before in (self.table.handshake(remote), self.table.established(remote)):
            if before is not None:
                self._end(before, "a new session was begun")
        judge = Judge(wanted)
        link = _Link(Session(self._clients.connection(judge), judge), remote, self._context.clock.seconds())
        link.on_dialed = on_dialed
        self._begin(link)

    def has(self, address: Sockaddr) -> bool:
        """Whether the session of this address is there."""
        return self._find(address) is not None

    def is_silent(self, address: Sockaddr) -> bool:
        """Whether nothing has come by a session for a while (`session_silent_s`) after something that asks for an answer was sent."""
        link = self._find(address)
        since_s = link.unanswered_since if link is not None else None
        return since_s is not None and self._context.clock.seconds() - since_s >= self._limits.session_silent_s

    def _find(self, address: Sockaddr) -> _Link | None:
        session = session_of(address)
        link = self.table.established(session.plain) if session is not None else None
        return link if link is not None and link.address is address else None

    # -- as a receiver, of the UDP port --------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """One datagram. Whatever it holds, this does not raise; what belongs to no session is counted and gone."""
        record = first_record(data)
        if record is None:
            self._counters.dtls_dropped.add()
        elif is_client_hello(data, record):
            self._hello(data, source, destination)
        else:
            established, handshake = self.table.established(source), self.table.handshake(source)
            heard = False
            # Of an encrypted record that is no data nobody knows from outside which of two sessions it is for. The one that it is
            # not for finds that it was made with another key, and drops it.
            if established is not None and (handshake is None or record.epoch > 0):
                heard = True
                self._receive(established, data, destination, interface)
            if handshake is not None and record.content is not Content.APPLICATION_DATA:
                heard = True
                self._receive(handshake, data, destination, interface)
            if not heard:
                self._counters.dtls_dropped.add()

    def _hello(self, data: bytes, source: Sockaddr, destination: str) -> None:
        """A ClientHello. Until its cookie is good nothing is kept of it, and no session is touched."""
        hello, listener = client_hello(data), self._listener
        if hello is None or listener is None:
            self._counters.dtls_dropped.add()
            return
        handshake = self.table.handshake(source)
        for known in (handshake, self.table.established(source)):
            if known is not None and known.session.client_random == hello.random:
                return  # What began this session, once more; its flight is repeated when its time is over.
        session, answers = listener.hear(data, source, hello.random)
        if session is None:
            self._counters.dtls_unverified.add()
            for answer in answers:
                self._below().send(answer, source, destination if self._wildcard else None)
            return
        now_s = self._context.clock.seconds()
        if not self._pace.may(host_of(source), now_s):
            self._counters.dtls_dropped.add()
            return
        link = _Link(session, source, now_s)
        link.local = destination if self._wildcard else None
        self._begin(link)

    def _receive(self, link: _Link, data: bytes, destination: str, interface: int) -> None:
        session = link.session
        was = session.state
        messages = session.receive(data)
        flew = self._flush(link)
        if was is State.HANDSHAKE and session.state is State.ESTABLISHED:
            self._establish(link)
        elif flew and session.state is State.HANDSHAKE:
            self._wait(link)
        for message in messages:
            if link.address is None:
                break
            link.unanswered_since = None
            if self._wildcard:  # not before: anybody can send garbage from the peer's address to another address of this node
                link.local = destination
            self.table.used(link, self._context.clock.seconds())
            self._above.datagram_received(message, link.address, destination, interface)
        if session.state is State.ENDED:
            self._end(link, session.why)

    # -- the life of a session -----------------------------------------------------------------------------------------------

    def _begin(self, link: _Link) -> None:
        """A handshake begins: in the place of an older one, where there are too many."""
        for gone in self.table.begin(link):
            self._end(gone, "too many handshakes are under way")
        link.session.start()
        self._flush(link)
        if link.session.state is State.ENDED:
            self._end(link, link.session.why)
        else:
            self._wait(link)

    def _wait(self, link: _Link) -> None:
        """Wait for the peer's next flight, until ours is to be repeated or the handshake has had its time."""
        if link.timer is not None:
            link.timer.cancel()
        left_s = link.began_at + self._limits.handshake_s - self._context.clock.seconds()
        link.timer = self._context.deadlines.after(max(0.0, min(left_s, link.session.timeout_s)), partial(self._timed_out, link))

    def _timed_out(self, link: _Link) -> None:
        link.timer = None
        if self._context.clock.seconds() >= link.began_at + self._limits.handshake_s:
            self._end(link, _IN_TIME)
            return
        link.session.timed_out()
        if self._flush(link):
            self._counters.dtls_repeated.add()
        if link.session.state is State.ENDED:
            self._end(link, link.session.why)
        else:
            self._wait(link)

    def _establish(self, link: _Link) -> None:
        """A handshake is done: what was there before with this address ends now (RFC 6347, section 4.2.8)."""
        if link.timer is not None:
            link.timer.cancel()
            link.timer = None
        names = link.session.peer_names() if link.on_dialed is None else ()
        link.certified = bool(names) or link.on_dialed is not None
        there_is_room, gone = self.table.establish(link)
        for before in gone:
            same = before.remote == link.remote
            self._end(before, "the peer began a new session" if same else _NO_ROOM, tell_peer=not same)
        if not there_is_room:
            self._end(link, _NO_ROOM)
            return
        self._counters.dtls_established.add()
        link.used_at = self._context.clock.seconds()
        link.address = session_address(link.remote, self, names, link.session.wanted)
        self._sweep_later()
        if link.on_dialed is not None:
            on_dialed, link.on_dialed = link.on_dialed, None
            on_dialed(link.address)

    def _end(self, link: _Link, why: str, *, tell_above: bool = True, tell_peer: bool = True) -> None:
        """A handshake or a session ends. Ending it again does nothing."""
        if link.over:
            return
        link.over = True
        self.table.remove(link)
        if link.timer is not None:
            link.timer.cancel()
            link.timer = None
        link.session.close(why)
        if tell_peer:
            self._flush(link)
        address, link.address = link.address, None
        if address is None:
            self._counters.dtls_failed.add()
            _log.debug("no session with {remote}: {why}", remote=link.remote[0], why=why)
        elif tell_above:
            self._above.gone(address)
        if link.on_dialed is not None:
            on_dialed, link.on_dialed = link.on_dialed, None
            on_dialed(PeerFailed(f"{link.remote[0]}: no DTLS session: {why}"))

    def _flush(self, link: _Link) -> bool:
        """Send what a session has to say. Whether there was anything, and the system took it."""
        output = link.session.take_output()
        return bool(output) and all([self._below().send(datagram, link.remote, link.local) for datagram in output])

    def _below(self) -> IDatagramPort:
        if self._port is None:
            raise PeerFailed(STOPPED)
        return self._port

    def _sweep_later(self) -> None:
        """End idle sessions when the first of them has been idle for long enough."""
        since_s = self.table.idle_since()
        if self._sweeping is None and since_s is not None:
            after_s = max(_LEAST_SWEEP_S, since_s + self._limits.session_idle_s - self._context.clock.seconds())
            self._sweeping = self._context.deadlines.after(after_s, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        for link in self.table.unused(self._limits.session_idle_s, self._context.clock.seconds()):
            self._end(link, "it was idle for too long")
        self._sweep_later()
