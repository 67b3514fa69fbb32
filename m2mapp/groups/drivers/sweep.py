"""What is done now and then, slowly: asking each device once a day what it holds, and giving up on devices that are gone for good."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from m2mapp.groups.drivers.advertise import Advertiser
from m2mapp.groups.drivers.leaving import LeaveBook
from m2mapp.groups.leaves import SetKey
from m2mapp.net.alarm import Alarm
from m2mapp.tree.registrations import SCL, SCLS, device_of
from m2mapp.tree.tree import Tree

EVERY_S = 3600.0
ROUND = 24
"""After so many sweeps every device has been asked: what was lost or left over by whatever way is put right within a day."""
GIVE_UP_S = 7 * 86_400.0
"""A leave is not owed any more when its device has not been registered for so long. It counts while this program runs: a wall clock steps,
and a box that was off for a month has not missed its devices."""


class Sweeper:
    """One sweep after the other, from `start` to `stop`."""

    def __init__(self, reactor: IReactorTime, tree: Tree, advertiser: Advertiser, leaves: LeaveBook) -> None:
        self._reactor, self._tree, self._advertiser, self._leaves = reactor, tree, advertiser, leaves
        self._alarm = Alarm(reactor, self._sweep)
        self._last: str | None = None
        self._missing_since: dict[tuple[SetKey, str, int], float] = {}

    def start(self) -> None:
        """The first sweep is an hour from now."""
        self._alarm.set(EVERY_S)

    def stop(self) -> None:
        """None any more."""
        self._alarm.stop()
        self._missing_since.clear()

    def _sweep(self) -> None:
        self._alarm.set(EVERY_S)
        self._give_up()
        share = len(self._tree.children(SCLS)) // ROUND + 1
        part = self._tree.children(SCLS, after=self._last, limit=share)
        self._last = part[-1].path[-1] if len(part) == share else None
        for resource in part:
            if resource.type == SCL:
                self._advertiser.device_is_back(device_of(resource))

    def _give_up(self) -> None:
        now_s = self._reactor.seconds()
        missing: dict[tuple[SetKey, str, int], float] = {}
        for owed in self._advertiser.memberships.all_owed():
            if not self._advertiser.is_registered(owed[1]):
                missing[owed] = self._missing_since.get(owed, now_s)
        for (key, uri, number), since_s in missing.items():
            if now_s >= since_s + GIVE_UP_S:
                self._leaves.note(key, {uri: number})
        self._missing_since = missing
