"""One DTLS session over memory: datagrams in, plain text and datagrams out.

Responsible for driving OpenSSL, for repeating flights (RFC 6347, section 4.2.4), and for saying why a session ended. It neither sends
nor waits: `port` does, and calls `timed_out` when `timeout_s` is over.

OpenSSL times its flights by the system's clock, which a box without a clock battery steps by years, and which no simulation moves.
Where that clock has not come as far as ours, the flight that went out last is sent again as it was.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from OpenSSL import SSL

from m2mapp.coap.dtls.address import Wanted
from m2mapp.coap.dtls.contexts import MTU_BYTES, Judge, new_connection
from m2mapp.coap.dtls.credentials import names_of
from m2mapp.coap.dtls.records import LARGEST_DATAGRAM, Content, datagrams, is_one_record
from m2mapp.net.interfaces import Sockaddr

FIRST_TIMEOUT_S: Final = 1.0
LONGEST_TIMEOUT_S: Final = 60.0
_READ_BYTES: Final = 8_192
_NEARLY_S: Final = 0.05
_SHUT_BY_PEER: Final = "the peer closed it"


class State(Enum):
    """How far a session is."""

    HANDSHAKE = "handshake"
    ESTABLISHED = "established"
    ENDED = "ended"


class Session:
    """One session with a peer. `why` says why it ended; `client_random` is that of the ClientHello which began it, by the peer."""

    def __init__(self, connection: SSL.Connection, judge: Judge, client_random: bytes = b"") -> None:
        self._connection, self._judge = connection, judge
        self._flight: list[bytes] = []
        self._output: list[bytes] = []
        self._interval_s = FIRST_TIMEOUT_S
        self._own_time = False
        self.client_random = client_random
        self.state = State.HANDSHAKE
        self.why = ""

    @property
    def wanted(self) -> Wanted | None:
        """Whom this node means, where it began the session."""
        return self._judge.wanted

    def start(self) -> None:
        """Begin: say the first words, as a client; answer the ClientHello, as a server."""
        self._drive([])

    def receive(self, datagram: bytes) -> list[bytes]:
        """Take a datagram. What it brought, decrypted; whatever else it is makes at most the session end."""
        plain: list[bytes] = []
        if self.state is State.ENDED:
            return plain
        self._connection.bio_write(datagram)
        was_established = self.state is State.ESTABLISHED
        # What is usual: one record of data. To ask OpenSSL for more of it, or for something to send, costs more than to decrypt it.
        one = was_established and datagram[0] == Content.APPLICATION_DATA and is_one_record(datagram)
        self._drive(plain, one=one)
        if plain:
            self._flight = []
        elif was_established and self._flight and not self._output and datagram[3:5] == b"\0\0":
            # The peer repeats its last flight, since it never got ours, and OpenSSL knew the records: our flight once more.
            self._output = list(self._flight)
        return plain

    def send(self, data: bytes) -> bool:
        """Encrypt data for the peer. False where there is no session for it."""
        if self.state is not State.ESTABLISHED:
            return False
        try:
            self._connection.send(data)
        except SSL.Error as error:
            self._end(_reason(error))
            return False
        self._collect()
        return True

    def close(self, why: str) -> None:
        """End it, and say so to the peer (close_notify)."""
        if self.state is State.ESTABLISHED:
            self._shut()
        self._end(why)

    def take_output(self) -> list[bytes]:
        """The datagrams to send to the peer now."""
        output, self._output = self._output, []
        return output

    @property
    def timeout_s(self) -> float:
        """So long after a flight, at most, it is to be repeated."""
        left_s = self._connection.DTLSv1_get_timeout()
        return self._interval_s if left_s is None or self._own_time else min(self._interval_s, left_s)

    def timed_out(self) -> None:
        """Nothing came for `timeout_s`: repeat the flight, and wait twice as long for the next time."""
        left_s = self._connection.DTLSv1_get_timeout()
        if left_s is not None and 0 < left_s < _NEARLY_S:
            return  # OpenSSL will not do it before, and its timer ends in a moment.
        self._interval_s = min(LONGEST_TIMEOUT_S, 2 * self._interval_s)
        self._own_time = bool(left_s)
        if self._own_time:
            self._output = list(self._flight)
            return
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._end(_reason(error))
        self._collect()

    def peer_names(self) -> tuple[str, ...]:
        """The names in the peer's certificate; empty where it showed none."""
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        return () if certificate is None else names_of(certificate)

    def _drive(self, plain: list[bytes], *, one: bool = False) -> None:
        """Let OpenSSL go on until it wants more; of `one` record of data there is no more than that."""
        flying = self.state is State.HANDSHAKE
        try:
            if flying:
                self._connection.do_handshake()
                self.state = State.ESTABLISHED
            while True:
                plain.append(self._connection.recv(LARGEST_DATAGRAM))
                if one:
                    return
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._shut()
            self._end(_SHUT_BY_PEER)
        except SSL.Error as error:
            self._end(self._judge.why or _reason(error))
        self._collect()
        if flying and (self._output or self.state is State.ESTABLISHED):
            # Only who spoke last in the handshake keeps a flight beyond it, else the two would repeat theirs to each other for ever.
            self._flight = list(self._output)
            self._interval_s = FIRST_TIMEOUT_S

    def _shut(self) -> None:
        try:
            self._connection.shutdown()
        except SSL.Error:
            return
        self._collect()

    def _collect(self) -> None:
        """What OpenSSL wrote, as datagrams."""
        written = b""
        try:
            while len(written) % _READ_BYTES == 0:
                written += self._connection.bio_read(_READ_BYTES)
        except SSL.WantReadError:
            pass
        self._output += datagrams(written, MTU_BYTES)

    def _end(self, why: str) -> None:
        if self.state is not State.ENDED:
            self.state, self.why = State.ENDED, why
            self._flight = []


class Listener:
    """Answers ClientHellos without keeping anything, until one has a good cookie (RFC 6347, section 4.2.1)."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context
        self._judge, self._connection = self._spare()

    def hear(self, datagram: bytes, source: Sockaddr, client_random: bytes) -> tuple[Session | None, list[bytes]]:
        """Take a ClientHello. The session that it begins, to be started, if its cookie is good; else what to answer."""
        judge, connection = self._judge, self._connection
        judge.source = source
        connection.bio_write(datagram)
        try:
            connection.DTLSv1_listen()
        except SSL.WantReadError:
            try:
                return None, [connection.bio_read(_READ_BYTES)]
            except SSL.WantReadError:
                return None, []
        except SSL.Error:
            self._judge, self._connection = self._spare()
            return None, []
        self._judge, self._connection = self._spare()
        return Session(connection, judge, client_random), []

    def _spare(self) -> tuple[Judge, SSL.Connection]:
        judge = Judge()
        connection = new_connection(self._context, judge)
        connection.set_accept_state()
        return judge, connection


def _reason(error: SSL.Error) -> str:
    """What OpenSSL says, for a person."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(item[-1]) for item in queue if item) or "OpenSSL gave no reason"
