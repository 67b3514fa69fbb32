"""The address of a peer in one DTLS session, and whom a client means to talk to.

Responsible for these values. What arrived by a session comes from its `SessionAddress` and nothing else does, so all that is kept by
address above (exchanges, tokens, blocks, observers) belongs to the session, as RFC 7252, section 9.1 demands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from m2mapp.model.messages import Shown
from m2mapp.net.interfaces import Sockaddr


class SessionAddress(tuple[Any, ...]):
    """A `Sockaddr` that is equal to itself alone: one object for each session, from its handshake to its end.

    `port` is the port that has the session; `names` are those of the peer's certificate, where this node verified it as a client's
    (RFC 5280: dNSName and URI alternative names, else the common name), and empty otherwise. `wanted` is whom this node meant, where it
    began the session.
    """

    port: object
    names: tuple[str, ...]
    wanted: Wanted | None

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self) >> 4

    @property
    def plain(self) -> Sockaddr:
        """The address without the session."""
        return cast("Sockaddr", tuple(self))


def session_address(remote: Sockaddr, port: object, names: tuple[str, ...] = (), wanted: Wanted | None = None) -> Sockaddr:
    """A new address for a new session: a `SessionAddress`, which is used as the `Sockaddr` that it is."""
    address = SessionAddress(remote)
    address.port, address.names, address.wanted = port, names, wanted
    return cast("Sockaddr", address)


def session_of(address: Sockaddr) -> SessionAddress | None:
    """The address as that of a session; None where it is that of plain CoAP."""
    return address if isinstance(address, SessionAddress) else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom a client means: a host (a name or an address) that the certificate must name, or `certificate`, byte for byte (DER).

    With a certificate given nothing else counts: neither who issued it, nor its names, nor until when it is good. `shown` is what the
    client shows in place of the node's own certificate.
    """

    host: str
    certificate: bytes | None = None
    shown: Shown | None = None
