"""Reconfigure and the key that shows it is the server's (RFC 9915, sections 18.3.11 and 20.4, RKAP). Pure.

Responsible for the key of each client and for what a Reconfigure message holds. A client's key follows from this node's secret and the
client's DUID, so that none is kept anywhere. Not responsible for when one is sent: `drivers.reconfiguring`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import MessageType
from m2mapp.dhcpv6.options import Authentication, ClientId, ReconfigureMessage, ServerId
from m2mapp.dhcpv6.packet import build

_PROTOCOL: Final = 3
_HMAC_MD5: Final = 1
_MONOTONIC: Final = 0
_KEY, _DIGEST = b"\x01", b"\x02"
_DIGEST_BYTES: Final = 16
_PER_CHANGE: Final = 1 << 20


class ReconfigureKeys:
    """The keys of all clients. `secret` is this node's own; `number` grows with every change of the tree and never goes back."""

    def __init__(self, secret: bytes, number: Callable[[], int]) -> None:
        self._secret, self._number = secret, number
        self._last = 0

    def key(self, duid: bytes) -> bytes:
        """The key of a client: 128 bits."""
        return hmac.digest(self._secret, b"reconfigure " + duid, hashlib.sha256)[:_DIGEST_BYTES]

    def option(self, duid: bytes) -> Authentication:
        """What tells a client its key, in a Reply."""
        return self._authentication(_KEY + self.key(duid))

    def message(self, server: bytes, client: bytes, wanted: MessageType) -> bytes:
        """The datagram of a Reconfigure, signed: `client` shall send what is `wanted`."""
        blank = self._authentication(_DIGEST + bytes(_DIGEST_BYTES))
        names = (ClientId(client), ServerId(server), ReconfigureMessage(wanted))
        # The digest is over the message with a digest of zeros, which is the last thing in it.
        data = build(Message(MessageType.RECONFIGURE, 0, (*names, blank)))
        return data[:-_DIGEST_BYTES] + hmac.digest(self.key(client), data, hashlib.md5)

    def _authentication(self, information: bytes) -> Authentication:
        self._last = max(self._last + 1, self._number() * _PER_CHANGE)
        return Authentication(_PROTOCOL, _HMAC_MD5, _MONOTONIC, self._last, information)
