"""Tells the devices which multicast groups to join and to leave, until each has answered.

Follows the fan-out sets in the tree: what a device has to be told is read from there when it is told, so that the newest state wins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.advertisement import after_join, after_leave, is_left, join_request, leave_request, mc_group, mc_group_name
from m2mapp.groups.drivers.joins import JoinBook
from m2mapp.groups.group import FANOUT_SET, GROUPS, SETS, Join, multicast_address, raw_joins
from m2mapp.groups.index import hosts_of
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer
from m2mapp.tree.registrations import Device, Registrations
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Document, Resource
from m2mapp.tree.watch import Watch

AT_ONCE = 32
MOST_OWED = 10_000
"""So many hosts that were away when they had to leave a group are remembered, to be told when they are back."""
_TO_TELL = frozenset({Join.PENDING.value, Join.FAILED.value})
"""Members in these states are told when the program starts. Later it is only a plan that makes one pending."""
SetName = tuple[str, str]
"""A fan-out set: the group's name and the set's."""
Task = tuple[str, str, str]
"""What is to be told: the device's name, the group's, the set's."""

_log = Logger(namespace="m2mapp.groups.advertise")


class _Owed:
    """What hosts that were away have to be told when they are back, bounded in number."""

    def __init__(self) -> None:
        self._sets_at: dict[str, dict[SetName, None]] = {}
        self._count = 0

    def add(self, host: str, name: SetName) -> None:
        """The host has not heard that it shall leave. Past the bound this is forgotten: its answers count for nothing anyway."""
        if self._count < MOST_OWED and name not in self._sets_at.get(host, ()):
            self._sets_at.setdefault(host, {})[name] = None
            self._count += 1

    def take(self, host: str) -> tuple[SetName, ...]:
        """All that the host has to be told; it is not owed any more."""
        names = tuple(self._sets_at.pop(host, ()))
        self._count -= len(names)
        return names

    def clear(self) -> None:
        """Nobody is owed anything."""
        self._sets_at.clear()
        self._count = 0


class Advertiser:
    """The advertisements of one node that are not confirmed yet."""

    def __init__(
        self, reactor: IReactorTime, requester: IRequester, tree: Tree, registrations: Registrations, book: JoinBook, node_name: str
    ) -> None:
        self._reactor, self._requester, self._tree, self._book = reactor, requester, tree, book
        self._registrations, self._node_name = registrations, node_name
        self._queue: deque[Task] = deque()
        self._attempts: dict[Task, int] = {}
        self._again: set[Task] = set()
        self._pauses: dict[Task, IDelayedCall] = {}
        self._under_way: dict[Task, Deferred[Answer]] = {}
        # By host: the members there of each multicast set. What one device is told costs no look at the others.
        self._members_at: dict[str, dict[SetName, list[str]]] = {}
        self._owed = _Owed()
        self._watch: Watch | None = None
        self._working = False

    @property
    def depth(self) -> int:
        """How many advertisements are not confirmed."""
        return len(self._attempts)

    def start(self) -> None:
        """Go on where the last run of the program ended."""
        for group in self._tree.children(GROUPS):
            for resource in self._tree.children((*group.path, SETS)):
                self._compare(None, resource)
        self._watch = self._tree.watch(GROUPS, self._on_change, subtree=True)
        self._work()

    def stop(self) -> None:
        """Tell nobody anything further."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        for pause in self._pauses.values():
            pause.cancel()
        under_way, self._under_way = self._under_way, {}
        self._pauses.clear()
        self._queue.clear()
        self._attempts.clear()
        self._again.clear()
        self._members_at.clear()
        self._owed.clear()
        for answered in under_way.values():
            answered.cancel()

    def device_is_back(self, device: Device) -> None:
        """A device registered: tell it all that concerns it."""
        for host in hosts_of(device):
            for group, name in self._owed.take(host):
                self._add((device.name, group, name))
            for group, name in self._members_at.get(host, ()) if not device.fixed_groups else ():
                self._add((device.name, group, name))
        self._work()

    # Following the fan-out sets.

    def _on_change(self, change: Change) -> None:
        before = change.before if change.before is not None and change.before.type == FANOUT_SET else None
        after = change.after if change.after is not None and change.after.type == FANOUT_SET else None
        if before is not None or after is not None:
            self._compare(before, after)
            self._work()

    def _compare(self, before: Resource | None, after: Resource | None) -> None:
        """Find what devices have to be told. Costs no more than a comparison for each member that is as before."""
        either = after or before
        if either is None:
            return
        name = (either.path[1], either.path[-1])
        old_address = multicast_address(before) if before is not None else None
        new_address = multicast_address(after) if after is not None else None
        old = raw_joins(before) if before is not None and old_address is not None else {}
        new = raw_joins(after) if after is not None and new_address is not None else {}
        for uri, join in new.items():
            if uri not in old or new_address != old_address:
                self._enter(name, uri, tell=join in _TO_TELL)
            elif join != old[uri] and join == Join.PENDING.value:
                self._enter(name, uri, tell=True)
        for uri in old:
            if uri not in new:
                self._leave(name, uri)

    def _enter(self, name: SetName, uri: str, *, tell: bool) -> None:
        parsed = parse_uri(uri)
        uris = self._members_at.setdefault(parsed.host, {}).setdefault(name, [])
        if uri not in uris:
            uris.append(uri)
        device = self._registrations.at_host(parsed.host, parsed.port) if tell else None
        if device is not None and not device.fixed_groups:
            self._add((device.name, *name))

    def _leave(self, name: SetName, uri: str) -> None:
        parsed = parse_uri(uri)
        host = parsed.host
        sets = self._members_at.get(host, {})
        uris = sets.get(name, [])
        if uri in uris:
            uris.remove(uri)
        if not uris:
            sets.pop(name, None)
        if not sets:
            self._members_at.pop(host, None)
        device = self._registrations.at_host(host, parsed.port)
        if device is None:
            self._owed.add(host, name)
        elif not device.fixed_groups:
            self._add((device.name, *name))

    # Telling.

    def _add(self, task: Task) -> None:
        if task in self._under_way:
            self._again.add(task)
            return
        pause = self._pauses.pop(task, None)
        if pause is not None:
            # It is news: it does not wait for the end of a pause that an older state brought.
            pause.cancel()
        elif task in self._attempts:
            return
        self._attempts[task] = 0
        self._queue.append(task)

    def _work(self) -> None:
        # A loop, and not each answer telling the next: answers that are there at once would be as many calls deep.
        if self._working:
            return
        self._working = True
        while self._queue and len(self._under_way) < AT_ONCE:
            self._tell(self._queue.popleft())
        self._working = False

    def _tell(self, task: Task) -> None:
        device = self._registrations.named(task[0])
        if device is None or not device.addresses:
            # It is told when it registers again.
            self._attempts.pop(task, None)
            return
        self._attempts[task] += 1
        name = mc_group_name(self._node_name, task[1], task[2])
        found = (uri for host in hosts_of(device) for uri in self._members_at.get(host, {}).get((task[1], task[2]), ()))
        uris = [uri for uri in found if self._is_at(device, uri)]
        document = self._document(task, uris)
        outgoing = leave_request(device, name) if document is None else join_request(device, name, document)
        answered: Deferred[Answer] = maybeDeferred(self._requester.send, outgoing)
        self._under_way[task] = answered
        told = answered.addErrback(self._no_answer)
        if document is None:
            told.addCallback(self._told_to_leave, task, hosts_of(device))
        else:
            told.addCallback(self._told_to_join, task, str(document["mcAddress"]), uris)
        told.addErrback(lambda failure: _log.failure("telling {device}", failure, device=task[0]))

    def _is_at(self, device: Device, uri: str) -> bool:
        """Whether it is this device that has the member: of several with one address it is the one at the port."""
        parsed = parse_uri(uri)
        found = self._registrations.at_host(parsed.host, parsed.port)
        return found is not None and found.name == device.name

    def _document(self, task: Task, uris: list[str]) -> Document | None:
        """What the device has to hold of the set; None: nothing."""
        resource = self._tree.find((*GROUPS, task[1], SETS, task[2]))
        return mc_group(resource, uris) if resource is not None and uris else None

    @staticmethod
    def _no_answer(failure: Failure) -> None:
        if failure.check(Fault, CancelledError) is None:
            _log.failure("an advertisement failed", failure)

    def _told_to_join(self, answer: Answer | None, task: Task, address: str, uris: Iterable[str]) -> None:
        if task in self._attempts:
            told = after_join(answer, self._attempts[task])
            if told.join is not None:
                self._book.note((task[1], task[2], address), uris, told.join)
            self._ended(task, told.pause_s)

    def _told_to_leave(self, answer: Answer | None, task: Task, hosts: Iterable[str]) -> None:
        if task in self._attempts:
            told = after_leave(answer, self._attempts[task])
            if told.pause_s is None and not is_left(answer):
                for host in hosts:
                    self._owed.add(host, (task[1], task[2]))
            self._ended(task, told.pause_s)

    def _ended(self, task: Task, pause_s: float | None) -> None:
        """One attempt is over: it is made again at once where there is news, after a pause, or not (None)."""
        self._under_way.pop(task, None)
        if task in self._again:
            self._again.discard(task)
            self._attempts[task] = 0
            self._queue.append(task)
        elif pause_s is None:
            del self._attempts[task]
        else:
            self._pauses[task] = self._reactor.callLater(pause_s, self._pause_over, task)
        self._work()

    def _pause_over(self, task: Task) -> None:
        del self._pauses[task]
        self._queue.append(task)
        self._work()
