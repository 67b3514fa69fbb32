"""Tells clients that have a key to ask again (Reconfigure, RFC 9915, sections 18.3.11 and 15), and again until they do.

Responsible for pauses and for how many are told at a time. What a Reconfigure holds is in `reconfigure`; a client that does not answer
asks anyway when its T1 has come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from m2mapp.dhcpv6.binding import LEASE, LEASES, Binding, State, binding_of
from m2mapp.model.identifiers import Path
from m2mapp.model.metrics import Metrics
from m2mapp.tree.lifetimes import Lifetimes
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Resource

FIRST_S: Final = 2.0
MOST: Final = 8
"""REC_TIMEOUT and REC_MAX_RC (section 7.6)."""
BATCH: Final = 20
TURN_S: Final = 0.1
"""So many are told in one turn, and so long is between two: what they answer has to be kept on disk."""


class Reconfiguring:
    """`send` sends one client its Reconfigure; `stale` says whether what a client has is not what it would get now."""

    def __init__(
        self, reactor: IReactorTime, tree: Tree, send: Callable[[Binding], object], stale: Callable[[Binding], bool], metrics: Metrics
    ) -> None:
        self._reactor, self._tree, self._send, self._stale = reactor, tree, send, stale
        self._due = Lifetimes()
        self._sent: dict[Path, int] = {}
        self._call: IDelayedCall | None = None
        self._messages = metrics.counter("m2mapp_dhcpv6_reconfigures_total", "Reconfigure messages sent.")
        self._unheard = metrics.counter("m2mapp_dhcpv6_reconfigures_unheard_total", "Clients that did not ask again when told to.")

    def tell_all(self) -> None:
        """Every client that has a key, and for whom something has changed, shall ask again."""
        for resource in self._tree.walk(LEASES):
            self._look_at(resource)
        self._wait()

    def changed(self, path: Path, after: Resource | None) -> None:
        """A binding was written: its client has asked, or is gone; or an operator reserved another address for it."""
        if self._sent.pop(path, None) is not None:
            self._due.forget(path)
        if after is not None and "reserved" in after.attributes:
            self._look_at(after)
            self._wait()

    def stop(self) -> None:
        """Tell nobody any more."""
        self._due.clear()
        self._sent.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wait(self) -> None:
        next_s = self._due.next_end_s()
        if self._call is None and next_s is not None:
            self._call = self._reactor.callLater(max(TURN_S, next_s - self._reactor.seconds()), self._turn)

    def _turn(self) -> None:
        self._call = None
        now = self._reactor.seconds()
        for path in self._due.due(now, BATCH):
            self._tell(path, now)
        self._wait()

    def _tell(self, path: Path, now: float) -> None:
        resource, count = self._tree.find(path), self._sent[path]
        if resource is None or count >= MOST:
            self._unheard.add(int(resource is not None))
            self._due.forget(path)
            del self._sent[path]
            return
        self._send(binding_of(resource))
        self._messages.add()
        self._sent[path] = count + 1
        self._due.start(path, FIRST_S * 2**count, now)

    def _look_at(self, resource: Resource) -> None:
        if resource.type != LEASE or not resource.attributes.get("reconfigure"):
            return
        binding = binding_of(resource)
        if binding.state is State.BOUND and self._stale(binding):
            self._sent[resource.path] = 0
            self._due.start(resource.path, 0.0, self._reactor.seconds())
