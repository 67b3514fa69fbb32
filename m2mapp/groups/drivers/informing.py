"""Decides what needs knowledge of other nodes: decides, finds out what was missing, decides again (spec section 3, points 2 and 3).

A group that could not have all that its plan asks for works without it, and is planned again when that may have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import islice
from typing import TypeVar

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from m2mapp.groups.drivers.asking import WAIT_S, Asker
from m2mapp.groups.drivers.held import HeldKeeper
from m2mapp.groups.drivers.reading import GroupReader
from m2mapp.groups.ledger import AddressLedger, Taking
from m2mapp.groups.nested import FRESH_S, KEEP_S
from m2mapp.net.alarm import Alarm

AGAIN_S = 60.0
"""So often groups are planned again that wait for an address from another node."""
WOKEN = 16
"""So many groups are planned again when an address of this node is free: those that have waited longest."""

T = TypeVar("T")


class Informed:
    """Makes decisions about groups with what can be found out in time. `plan_again` is given the names of groups to plan again."""

    def __init__(
        self,
        reactor: IReactorTime,
        ledger: AddressLedger,
        parts: tuple[Asker, GroupReader, HeldKeeper],
        plan_again: Callable[[list[str]], None],
    ) -> None:
        self._ledger, self._plan_again = ledger, plan_again
        self._asker, self._reader, self._held = parts
        # The groups that wait, the longest first; whether it is for another node's address.
        self._short: dict[str, bool] = {}
        self._alarm = Alarm(reactor, self._due)
        self._running = False

    @property
    def short(self) -> int:
        """How many groups wait for an address."""
        return len(self._short)

    def start(self) -> None:
        """Plan groups again from now on."""
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """Plan nothing again."""
        self._running = False
        self._alarm.stop()

    def taking(self, name: str) -> Taking:
        """What one unit of a group takes addresses with."""
        return Taking(self._ledger, dict(self._held.lent(name)))

    @inlineCallbacks
    def decide(
        self, name: str, taking: Taking, decide: Callable[[Taking], T], *, trial: bool = False
    ) -> Generator[Deferred[None], object, T]:
        """What `decide` gives when it knows what it needs, or that cannot be found out in time. Fails as it does.

        It is called in the same turn of the reactor in which the Deferred of its result fires. `trial`: it will not be done: other nodes
        are asked what they know, and for no address.
        """
        decided = decide(taking)
        groups = list(taking.needs.groups)
        max_age_s = FRESH_S if taking.needs.fresh else KEEP_S
        if groups and self._running and self._reader.is_due(groups, max_age_s):
            yield self._reader.read(groups, max_age_s=max_age_s)
            decided = self._once_more(name, taking, decide)
        hosts = taking.needs.hosts
        if hosts and self._running and self._asker.can_ask():
            yield self._asker.ask(list(hosts))
            decided = self._once_more(name, taking, decide)
        if trial:
            return decided
        version = taking.needs.global_version
        if version and self._running and self._held.can_borrow and not taking.lent:
            yield self._held.borrow(name, version, WAIT_S)
            decided = self._once_more(name, taking, decide)
        self._note(name, taking)
        return decided

    def forget(self, name: str) -> None:
        """There is no such group any more."""
        self._short.pop(name, None)

    def waits(self, name: str, *, elsewhere: bool = False) -> None:
        """A group has members that wait for an address, of this node or from `elsewhere`."""
        self._short.pop(name, None)
        self._short[name] = elsewhere
        self._schedule()

    def address_is_free(self) -> None:
        """Plan some again that wait for one."""
        names = list(islice(self._short, WOKEN))
        if names:
            self._plan_again(names)

    def _once_more(self, name: str, taking: Taking, decide: Callable[[Taking], T]) -> T:
        taking.begin_again(dict(self._held.lent(name)))
        return decide(taking)

    def _note(self, name: str, taking: Taking) -> None:
        wants_global = bool(taking.needs.global_version)
        if taking.needs.address or wants_global:
            self.waits(name, elsewhere=wants_global and self._held.can_borrow)
        else:
            self._short.pop(name, None)

    def _schedule(self) -> None:
        if self._running and not self._alarm.is_set and any(self._short.values()):
            self._alarm.set(AGAIN_S)

    def _due(self) -> None:
        self._plan_again([name for name, elsewhere in self._short.items() if elsewhere])
        self._schedule()
