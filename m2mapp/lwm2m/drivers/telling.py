"""Tells observers of object 33050 no sooner and no later than the server has set (`attributes`). Responsible for the waiting."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from m2mapp.lwm2m.client_objects import ClientObjects, ObjectWatch, Tell
from m2mapp.model.identifiers import Path
from m2mapp.net.alarm import Alarm


class Telling:
    """What can be observed at the client's endpoint (`coap.observer.Observable`)."""

    def __init__(self, reactor: IReactorTime, objects: ClientObjects) -> None:
        self._reactor, self._objects = reactor, objects

    def watch(self, path: Path, on_change: Tell, *, subtree: bool) -> Told | None:
        """As `ClientObjects.watch`, with the periods that hold at the path whenever it changes."""
        told = Told(self._reactor, self._objects, path, on_change)
        told.watch = self._objects.watch(path, told.changed, subtree=subtree)
        return told if told.watch is not None else None

    def number(self) -> int:
        """The number of the last change."""
        return self._objects.number()


class Told:
    """One watch: one delayed call at most, for when the next notification is due."""

    def __init__(self, reactor: IReactorTime, objects: ClientObjects, path: Path, on_change: Tell) -> None:
        self._reactor, self._objects, self._path, self._on_change = reactor, objects, path, on_change
        self.watch: ObjectWatch | None = None
        self._told_s = reactor.seconds()
        self._changed = False
        self._alarm = Alarm(reactor, self._tell)
        self._plan()

    def changed(self, *, periods: bool = False) -> None:
        """The object is another, or `periods` of it are."""
        self._changed = self._changed or not periods
        self._plan()

    def stop(self) -> None:
        """No further calls. Stopping again does nothing."""
        if self.watch is not None:
            self.watch.stop()
        self._alarm.stop()

    def _plan(self) -> None:
        self._alarm.stop()
        due_s = self._objects.periods(self._path).due(self._told_s, changed=self._changed)
        if due_s is None:
            return
        wait_s = due_s - self._reactor.seconds()
        if wait_s > 0:
            self._alarm.set(wait_s)
        else:
            self._tell()

    def _tell(self) -> None:
        again, self._changed = not self._changed, False
        self._told_s = self._reactor.seconds()
        self._on_change(again=again)
        self._plan()
