"""The system's resolver of host names, as a Deferred of addresses."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer


@implementer(IResolutionReceiver)
class _Receiver:
    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:  # noqa: N802, N803 - Twisted's names
        """Nothing is known yet."""

    def addressResolved(self, address: IAddress) -> None:  # noqa: N802 - Twisted's name
        """One address is known."""
        if isinstance(address, IPv4Address | IPv6Address):
            self.addresses.append(address.host)

    def resolutionComplete(self) -> None:  # noqa: N802 - Twisted's name
        """All are known, none perhaps."""
        self.done.callback(self.addresses)


class SystemResolver:
    """Asks the reactor's resolver, which asks the system in a thread."""

    def __init__(self, resolver: IHostnameResolver) -> None:
        self._resolver = resolver

    def __call__(self, host: str) -> Deferred[list[str]]:
        """The addresses of a host, as the system orders them; empty where there is none."""
        receiver = _Receiver()
        self._resolver.resolveHostName(receiver, host)
        return receiver.done
