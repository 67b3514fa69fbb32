"""What nodes stand on: time, the network, the disk, names and chance. The real world is made in `wiring`, simulated ones in tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from m2mapp.config import Settings
from m2mapp.model.interfaces import IClock
from m2mapp.model.metrics import Metrics
from m2mapp.net.addresses import AddressSource, OnLink
from m2mapp.net.interfaces import IHost
from m2mapp.net.memory import MemoryDatagrams
from m2mapp.net.udp import SystemDatagrams
from m2mapp.store.committer import Committer
from m2mapp.tree.tree import Tree

_log = Logger(namespace="m2mapp")

ADDRESSES_AGAIN_S = 15.0
"""How often the host's addresses are read anew: they come late on a box that just started, and change with a delegated prefix."""


class HostAddresses(OnLink):
    """The host's addresses and links, read anew now and then while anybody uses them; `on_change` is told when they have changed."""

    def __init__(self, source: AddressSource, interfaces: Sequence[str], reactor: IReactorTime) -> None:
        super().__init__(source, interfaces)
        self._reactor = reactor
        self._call: IDelayedCall | None = None
        self._users: dict[Callable[[], None], None] = {}

    def use(self, on_change: Callable[[], None]) -> None:
        """Read now and from now on, and tell `on_change`."""
        self._users[on_change] = None
        if self._call is None:
            self._again()

    def leave(self, on_change: Callable[[], None]) -> None:
        """Tell it no more. Nothing is read for nobody."""
        self._users.pop(on_change, None)
        if not self._users and self._call is not None:
            self._call.cancel()
            self._call = None

    def _again(self) -> None:
        self._call = self._reactor.callLater(ADDRESSES_AGAIN_S, self._again)
        before = (self._indexes, self._ipv6, self._ipv4, self._own)
        try:
            self.refresh()
        except OSError as error:
            _log.warn("the addresses of this host could not be read: {error}", error=error)
        if before != (self._indexes, self._ipv6, self._ipv4, self._own):
            for on_change in list(self._users):
                on_change()


@dataclass(frozen=True, slots=True)
class World:
    """What nodes stand on: the real world, or a simulated one.

    `datagrams` makes the network of one node; `addresses` what follows the host's addresses on some interfaces, which nodes of one host
    share; `open_store` its store, opened, as the service and the committer; `kept` gives what a node keeps in a small file of its own,
    made at its first start; `resolve` looks names up; `host` is what a router does with its host; `rng` is a node's chance.
    """

    reactor: IReactorTime
    clock: IClock
    datagrams: Callable[[Settings, Metrics], SystemDatagrams | MemoryDatagrams]
    addresses: Callable[[AddressSource, Sequence[str]], HostAddresses]
    open_store: Callable[[Settings, Tree, Metrics], tuple[Service, Committer]]
    resolve: Callable[[str], Deferred[list[str]]]
    kept: Callable[[Settings, str, Callable[[], bytes]], bytes]
    host: IHost
    rng: Callable[[str], random.Random] = lambda _: random.SystemRandom()
