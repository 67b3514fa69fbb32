"""Listens at the address that the node was given as a device, where its configuration names none (`[coap] listen = []`).

So each of several devices on one interface has an address and port of its own. Responsible for following `/node/address`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from m2mapp.coap.service import CoapService
from m2mapp.tree.device_address import DEVICE_ADDRESS, device_address_of
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change
from m2mapp.tree.watch import Watch

PORT: Final = 5683
LISTEN_AGAIN_S: Final = 5.0

_log = Logger(namespace="m2mapp.coap")


class ListeningWhereGiven(Service):
    """Opens and closes the port. `on_host` is told the address (text) that is listened at from now on, or None."""

    name = "coap at the given address"

    def __init__(self, reactor: IReactorTime, tree: Tree, coap: CoapService, on_host: Callable[[str | None], object]) -> None:
        self._reactor, self._tree, self._coap, self._on_host = reactor, tree, coap, on_host
        self._host: str | None = None
        self._watch: Watch | None = None
        self._again: IDelayedCall | None = None

    def startService(self) -> None:
        """Wait for an address: what the tree says of one is from the run before, until it is written anew."""
        super().startService()
        self._watch = self._tree.watch(DEVICE_ADDRESS, self._on_address)

    def stopService(self) -> None:
        """Follow no more; the port is closed with all others."""
        super().stopService()
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._stop_trying()
        self._host = None

    def _on_address(self, change: Change) -> None:
        given = device_address_of(change.after)
        host = None if given is None else str(given.address)
        if host != self._host:
            self._coap.serve_there_no_more()
            self._host = host
            self._on_host(host)
            self._listen()

    def _listen(self) -> None:
        self._stop_trying()
        if self._host is None:
            return
        try:
            self._coap.serve_at(self._host, PORT)
        except OSError as error:
            _log.warn("[{host}]:{port} is not listened at: {error}", host=self._host, port=PORT, error=error)
            self._again = self._reactor.callLater(LISTEN_AGAIN_S, self._listen)

    def _stop_trying(self) -> None:
        if self._again is not None and self._again.active():
            self._again.cancel()
        self._again = None
