"""Whether a Reconfigure is the server's: the client's side of RKAP (RFC 9915, sections 18.2.11 and 20.4). Pure.

Responsible for the key that a client was given and for replays. What a server sends is in `reconfigure`. The key is only in memory: a
client that has started again hears of what has changed when its T1 has come.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Final

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.packet import build
from m2mapp.dhcpv6.validation import why_client_discards_reconfigure

_PROTOCOL, _HMAC_MD5, _MONOTONIC = 3, 1, 0
_KEY, _DIGEST = 1, 2
_BYTES: Final = 16


class GivenKey:
    """The key that the server of a lease has given, where it has given one."""

    def __init__(self, duid: bytes) -> None:
        self._duid = duid
        self._server = b""
        self._key: bytes | None = None
        self._last = -1

    def learn(self, reply: Message) -> None:
        """A Reply that gives something: the key in it is good from now on; one without a key changes nothing."""
        server, given = o.first(reply.options, o.ServerId), o.first(reply.options, o.Authentication)
        if server is None or given is None or not _is_of(given, _KEY):
            return
        self._server, self._key, self._last = server.duid, given.information[1:], given.replay_detection

    def why_not(self, message: Message) -> str | None:
        """Why a Reconfigure is discarded (section 16.11), or None; then the same message is a replay from now on."""
        why = why_client_discards_reconfigure(message, self._duid)
        if why is not None:
            return why
        server, shown = o.first(message.options, o.ServerId), o.first(message.options, o.Authentication)
        if self._key is None or shown is None or server is None or server.duid != self._server or not _is_of(shown, _DIGEST):
            return "RECONFIGURE without a key that was given here"
        if not hmac.compare_digest(shown.information[1:], self._digest(message, shown, self._key)):
            return "RECONFIGURE that was not made with the key"
        if shown.replay_detection <= self._last:
            return "RECONFIGURE that came before"
        self._last = shown.replay_detection
        return None

    def _digest(self, message: Message, shown: o.Authentication, key: bytes) -> bytes:
        """Over the whole message, with zeros where the digest is."""
        blank = replace(shown, information=shown.information[:1] + bytes(_BYTES))
        options = tuple(blank if option is shown else option for option in message.options)
        return hmac.digest(key, build(replace(message, options=options)), hashlib.md5)


def _is_of(authentication: o.Authentication, kind: int) -> bool:
    how = (authentication.protocol, authentication.algorithm, authentication.rdm)
    information = authentication.information
    return how == (_PROTOCOL, _HMAC_MD5, _MONOTONIC) and len(information) == 1 + _BYTES and information[0] == kind
