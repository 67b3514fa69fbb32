"""Sessions with servers: one for each address and server meant, used by all who ask there.

Responsible for who shares a session or waits for a handshake, and for the ports that this node begins sessions from, apart from those
it listens on: with a peer that begins one at the same time there would be two handshakes between the same two addresses. Not
responsible for handshakes (`port`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from m2mapp.coap.addresses import is_ipv6
from m2mapp.coap.context import Context
from m2mapp.coap.dtls.address import Wanted
from m2mapp.coap.dtls.port import DtlsPort
from m2mapp.model.errors import Fault, Overloaded, PeerFailed
from m2mapp.net.interfaces import Sockaddr

_MOST_PORTS = 8
"""Of one IP family: so many servers are told apart behind one address and port."""

OpenPort = Callable[[str], DtlsPort]
"""Opens a port for sessions at any free number of an address. Raises `OSError`."""


class _Dialed:
    """One server: the session with it, or who waits for that."""

    def __init__(self, port: DtlsPort) -> None:
        self.port = port
        self.address: Sockaddr | None = None
        self.waiting: list[Deferred[Sockaddr]] = []


class Dialer:
    """Gives sessions with servers."""

    def __init__(self, open_port: OpenPort, context: Context) -> None:
        self._open_port, self._context = open_port, context
        self._ports: dict[bool, list[DtlsPort]] = {}
        self._dialed: dict[tuple[Sockaddr, Wanted], _Dialed] = {}

    def session(self, remote: Sockaddr, wanted: Wanted) -> Deferred[Sockaddr]:
        """The address of a session with the server that is meant, at an address; made if need be. It may be cancelled.

        A session by which nothing came back for a while is given up for a new one: the server may have started again without it.
        Fails with `PeerFailed`, which says why there is none, or `Overloaded`.
        """
        dialed = self._dialed.get((remote, wanted))
        if dialed is not None and dialed.address is not None:
            if not dialed.port.is_silent(dialed.address):
                return succeed(dialed.address)
            dialed.address = None
        elif dialed is not None:
            return self._wait(dialed)
        try:
            dialed = dialed or self._new(remote, wanted)
        except Fault as fault:
            return fail(fault)
        waits = self._wait(dialed)
        came = partial(self._came, (remote, wanted), dialed)
        try:
            dialed.port.dial(remote, wanted, came)
        except Fault as fault:
            came(fault)
        return waits

    def forget(self, address: Sockaddr) -> None:
        """A session is over."""
        for key, dialed in list(self._dialed.items()):
            if dialed.address is address:
                del self._dialed[key]

    def stop(self) -> None:
        """The ports are closed."""
        self._ports.clear()
        self._dialed.clear()

    def _wait(self, dialed: _Dialed) -> Deferred[Sockaddr]:
        waits: Deferred[Sockaddr] = Deferred(dialed.waiting.remove)
        dialed.waiting.append(waits)
        return waits

    def _came(self, key: tuple[Sockaddr, Wanted], dialed: _Dialed, result: Sockaddr | Fault) -> None:
        """A handshake is over, one way or the other."""
        waiting = tuple(dialed.waiting)
        if isinstance(result, Fault):
            self._dialed.pop(key, None)
        else:
            dialed.address = result
        for waits in waiting:
            if not waits.called:  # what one is told may make another be cancelled
                dialed.waiting.remove(waits)
                waits.callback(Failure(result) if isinstance(result, Fault) else result)

    def _new(self, remote: Sockaddr, wanted: Wanted) -> _Dialed:
        """A place for one more server: at a port by which no other server is reached at that address."""
        if len(self._dialed) >= self._context.limits.sessions:
            raise Overloaded(f"{len(self._dialed)} DTLS sessions of this node are open")
        ports = self._ports.setdefault(is_ipv6(remote), [])
        taken = [dialed.port for (other, _), dialed in self._dialed.items() if other == remote]
        port = next((port for port in ports if port not in taken), None)
        if port is None:
            if len(ports) >= _MOST_PORTS:
                raise Overloaded(f"{_MOST_PORTS} other servers are meant at {remote[0]} already")
            try:
                port = self._open_port("::" if is_ipv6(remote) else "0.0.0.0")  # noqa: S104 - to send from
            except OSError as error:
                raise PeerFailed(f"{remote[0]}: no port for DTLS can be opened: {error.strerror or error}") from error
            ports.append(port)
        found = self._dialed[remote, wanted] = _Dialed(port)
        return found
