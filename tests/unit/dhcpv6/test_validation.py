"""Which messages are discarded (RFC 9915, section 16): one row for each sentence of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.validation import why_client_discards, why_client_discards_reconfigure, why_server_discards

_OWN, _OTHER = b"\0\3\0\1own", b"\0\3\0\1other"
_CLIENT, _SERVER, _ELSEWHERE = o.ClientId(_OTHER), o.ServerId(_OWN), o.ServerId(_OTHER)

_TO_SERVER: tuple[tuple[T, tuple[o.Option, ...], str | None], ...] = (
    (T.SOLICIT, (_CLIENT,), None),
    (T.SOLICIT, (), "without Client"),
    (T.SOLICIT, (_CLIENT, _SERVER), "with Server"),
    (T.REQUEST, (_CLIENT, _SERVER), None),
    (T.REQUEST, (_CLIENT,), "without Server"),
    (T.REQUEST, (_CLIENT, _ELSEWHERE), "another server"),
    (T.REQUEST, (_SERVER,), "without Client"),
    (T.CONFIRM, (_CLIENT,), None),
    (T.CONFIRM, (_CLIENT, _SERVER), "with Server"),
    (T.RENEW, (_CLIENT, _SERVER), None),
    (T.RENEW, (_CLIENT, _ELSEWHERE), "another server"),
    (T.REBIND, (_CLIENT,), None),
    (T.REBIND, (_CLIENT, _SERVER), "with Server"),
    (T.DECLINE, (_CLIENT, _SERVER), None),
    (T.DECLINE, (_CLIENT,), "without Server"),
    (T.RELEASE, (_CLIENT, _SERVER), None),
    (T.RELEASE, (_CLIENT, _ELSEWHERE), "another server"),
    (T.INFORMATION_REQUEST, (), None),
    (T.INFORMATION_REQUEST, (_SERVER,), None),
    (T.INFORMATION_REQUEST, (_ELSEWHERE,), "another server"),
    (T.INFORMATION_REQUEST, (o.IaNa(1),), "with an IA"),
    (T.ADVERTISE, (_CLIENT, _SERVER), "not for servers"),
    (T.REPLY, (_CLIENT, _SERVER), "not for servers"),
    (T.RECONFIGURE, (_CLIENT, _SERVER), "not for servers"),
)
_TO_CLIENT: tuple[tuple[T, int, tuple[o.Option, ...], str | None], ...] = (
    (T.ADVERTISE, 7, (o.ClientId(_OWN), _ELSEWHERE), None),
    (T.REPLY, 7, (o.ClientId(_OWN), _ELSEWHERE), None),
    (T.REPLY, 8, (o.ClientId(_OWN), _ELSEWHERE), "another transaction"),
    (T.REPLY, 7, (o.ClientId(_OWN),), "without Server"),
    (T.REPLY, 7, (_ELSEWHERE,), "another client"),
    (T.REPLY, 7, (_CLIENT, _ELSEWHERE), "another client"),
    (T.SOLICIT, 7, (o.ClientId(_OWN), _ELSEWHERE), "not for clients"),
)


class ValidationTests(SynchronousTestCase):
    def _check(self, found: str | None, expected: str | None, row: object) -> None:
        if expected is None:
            self.assertIsNone(found, row)
        else:
            self.assertIn(expected, found or "", row)

    def test_server(self) -> None:
        """What a server discards, and what it takes."""
        for row in _TO_SERVER:
            kind, options, expected = row
            self._check(why_server_discards(Message(kind, 1, options), _OWN), expected, row)

    def test_client(self) -> None:
        """What a client discards, and what it takes."""
        for row in _TO_CLIENT:
            kind, transaction, options, expected = row
            self._check(why_client_discards(Message(kind, transaction, options), _OWN, 7), expected, row)

    def test_client_without_exchange(self) -> None:
        """Nothing is taken while no exchange is under way."""
        message = Message(T.REPLY, 7, (o.ClientId(_OWN), _ELSEWHERE))
        self._check(why_client_discards(message, _OWN, None), "another transaction", message)

    def test_reconfigure(self) -> None:
        """A Reconfigure names server, client, message and key, or is discarded."""
        whole: tuple[o.Option, ...] = (
            o.ServerId(_OTHER),
            o.ClientId(_OWN),
            o.ReconfigureMessage(T.RENEW),
            o.Authentication(3, 1, 0, 1, b""),
        )
        self.assertIsNone(why_client_discards_reconfigure(Message(T.RECONFIGURE, 0, whole), _OWN))
        for left_out, expected in zip(whole, ("Server Identifier", "another client", "Reconfigure Message", "Authentication"), strict=True):
            rest = tuple(option for option in whole if option is not left_out)
            self._check(why_client_discards_reconfigure(Message(T.RECONFIGURE, 0, rest), _OWN), expected, left_out)
