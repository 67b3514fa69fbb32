"""Sources whose address may be forged: which have shown that they receive there, and how the others are asked to (RFC 9175, section 2).

Responsible for who is asked to prove its address, and how. Not responsible for the values of Echo nor for how much may be sent without
(`echo`), nor for what is answered in place of a large answer (`server`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from m2mapp.coap import numbers, things
from m2mapp.coap.context import Context
from m2mapp.coap.echo import EchoValues
from m2mapp.coap.exchange import MessageLayer
from m2mapp.coap.faults import Refused
from m2mapp.coap.parameters import Unproven
from m2mapp.coap.peers import Inbound
from m2mapp.net.interfaces import Sockaddr

_NEAR_S: Final = 60.0
_PROVE: Final = "repeat this with the Echo option, to show that the address it comes from is yours (RFC 9175, section 2.3)"


class Proof:
    """Tells the sources that have shown their address from those that have not.

    `near(source, interface)` says whether an address cannot well be forged: it is on the link that it came in by, or this node gave it.
    """

    def __init__(self, near: Callable[[Sockaddr, int], bool], context: Context) -> None:
        self._near, self._context = near, context
        self._clock, self._limits = context.clock, context.limits
        self._echo = EchoValues(context.rng, context.limits.echo_s)

    @property
    def by_echo(self) -> bool:
        """Whether unproven sources are asked for Echo; else they get small blocks, or what they ask for."""
        return self._limits.unproven is Unproven.ECHO

    def is_missing(self, inbound: Inbound) -> bool:
        """Whether the source may be another's victim: it has not shown that it receives at its address, and is not near."""
        peer = inbound.peer
        if peer.proven_until > peer.heard_at or self._limits.unproven is Unproven.TRUST:
            return False
        if peer.account is None or self._near(peer.address, inbound.interface):
            peer.proven_until = peer.heard_at + _NEAR_S  # it is looked at again then: links and leases change
            return False
        return True

    def take(self, layer: MessageLayer, inbound: Inbound, value: bytes) -> None:
        """Count the source as proven, if it was given that value."""
        peer, now = inbound.peer, self._clock.seconds()
        if self._echo.holds(value, peer.address, now):
            layer.peers.prove(peer, now + self._limits.proven_s)

    def want(self, inbound: Inbound) -> None:
        """Raise `Refused` for an unproven source, where such are asked for Echo."""
        if self.by_echo and self.is_missing(inbound):
            raise self.demand(inbound)

    def demand(self, inbound: Inbound) -> Refused:
        """The refusal that asks a source to prove its address."""
        self._context.counters.echo_asked.add()
        value = self._echo.value(inbound.peer.address, self._clock.seconds())
        return Refused(things.UNAUTHORIZED, _PROVE, ((numbers.ECHO, value),))
