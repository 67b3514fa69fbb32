"""The address of a device on its interface: set, kept with its lifetimes, found to be another host's, taken away.

Responsible for the system's side. Which address that is, and what follows from a duplicate, is the service's (`device`).
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Interface
from typing import Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.dhcpv6.client import Item
from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.net.interfaces import AddressState, IDatagrams, IHost

LOOK_S: Final = 0.25
"""How often it is looked at while the system looks for duplicates, which takes a second or two (RFC 4862, section 5.4)."""
SET_AGAIN_S: Final = 10.0

_log = Logger(namespace="m2mapp.dhcpv6")


class Holding:
    """Holds one address on the interface of that name.

    `on_ready` is called when it can be used, each time that it was set; `on_duplicate` where another host has it.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        network: tuple[IDatagrams, IHost, str],
        on_ready: Callable[[], None],
        on_duplicate: Callable[[], None],
    ) -> None:
        self._reactor, (self._datagrams, self._host, self._name) = reactor, network
        self._on_ready, self._on_duplicate = on_ready, on_duplicate
        self._item: Item | None = None
        self._set: IPv6Address | None = None
        self._call: IDelayedCall | None = None

    def hold(self, item: Item) -> None:
        """Have this address from now on, for as long as its lifetimes say; another one that was held goes."""
        if self._item is not None and self._item.value != item.value:
            self.drop()
        self._item = item
        self._wait(0.0, self._put)

    def drop(self) -> None:
        """Have no address any more."""
        self.stop()
        address, self._set = self._set, None
        if address is not None:
            self._do(self._host.remove_address, address).addErrback(self._failed)

    def stop(self) -> None:
        """Do nothing more; the address stays for as long as it is valid."""
        self._item = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call = self._reactor.callLater(seconds, then)

    def _put(self) -> None:
        self._call = None
        item = self._item
        if item is None or not isinstance(item.value, IPv6Address):
            return
        gone_s = int(self._reactor.seconds() - item.since)
        lifetimes = (left_s if left_s == INFINITY else max(0, left_s - gone_s) for left_s in (item.preferred_s, item.valid_s))
        self._set = item.value
        self._do(self._host.set_address, item.value, *lifetimes).addCallbacks(self._was_set, self._failed, callbackArgs=(item,))

    def _do(self, change: Callable[..., Deferred[None]], address: IPv6Address, *lifetimes: int) -> Deferred[None]:
        """Change the address on the interface. Whether others are on the link is for router advertisements to say: it is a /128."""

        def begin() -> Deferred[None]:
            return change(self._datagrams.interface_index(self._name), IPv6Interface(address), *lifetimes)

        return maybeDeferred(begin)

    def _was_set(self, _: None, item: Item) -> None:
        if self._item is item:
            self._look()

    def _failed(self, failure: Failure) -> None:
        if failure.check(OSError) is None:
            _log.failure("the address was not changed on {name}", failure, name=self._name)
        else:
            _log.warn("the address was not changed on {name}: {why}", name=self._name, why=failure.getErrorMessage())
        if self._item is not None:
            self._wait(SET_AGAIN_S, self._put)

    def _look(self) -> None:
        """Go on when the system has found no duplicate, or has found one."""
        self._call = None
        item = self._item
        if item is None or not isinstance(item.value, IPv6Address):
            return
        try:
            state = self._host.address_state(self._datagrams.interface_index(self._name), item.value)
        except OSError:
            self._failed(Failure())
            return
        if state is AddressState.READY:
            self._on_ready()
        elif state is AddressState.TENTATIVE:
            self._wait(LOOK_S, self._look)
        else:
            _log.warn("{name}: another host has {address}", name=self._name, address=item.value)
            self._on_duplicate()
