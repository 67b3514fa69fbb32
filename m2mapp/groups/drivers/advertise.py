"""Tells the devices which multicast groups to join and to leave, until each has answered.

Follows the fan-out sets in the tree: what a device has to be told is read from there when it is told, so that the newest state wins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.advertisement import Told, after_join, after_leave, join_request, leave_request, mc_group_name
from m2mapp.groups.drivers.joins import JoinBook
from m2mapp.groups.group import FANOUT_SET, GROUPS, SETS, FanoutSet, Join, set_of
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer
from m2mapp.tree.registrations import Device, Registrations
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Resource
from m2mapp.tree.watch import Watch

AT_ONCE = 32
Task = tuple[str, str, str]
"""What is to be told: the device's name, the group's, the set's."""

_log = Logger(namespace="m2mapp.groups.advertise")


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
        self._sets_at: dict[str, set[tuple[str, str]]] = {}
        self._watch: Watch | None = None

    @property
    def depth(self) -> int:
        """How many advertisements are not confirmed."""
        return len(self._attempts)

    def start(self) -> None:
        """Go on where the last run of the program ended."""
        for group in self._tree.children(GROUPS):
            for resource in self._tree.children((*group.path, SETS)):
                self._enter(resource)
        self._watch = self._tree.watch(GROUPS, self._on_change, subtree=True)

    def stop(self) -> None:
        """Tell nobody anything further."""
        if self._watch is not None:
            self._watch.stop()
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        self._queue.clear()
        self._attempts.clear()
        for answered in list(self._under_way.values()):
            answered.cancel()

    def device_is_back(self, device: Device) -> None:
        """A device registered: tell it all that concerns it."""
        for host in (*device.hosts, *device.addresses, device.name):
            for group, name in self._sets_at.get(host, ()):
                self._add((device.name, group, name))
        self._work()

    def _on_change(self, change: Change) -> None:
        for resource in (change.before, change.after):
            if resource is not None and resource.type == FANOUT_SET:
                break
        else:
            return
        old = set_of(change.before) if change.before is not None else None
        if change.after is not None:
            self._enter(change.after, old)
        group, gone = resource.path[1], self._hosts(old)
        if change.after is not None:
            gone -= self._hosts(set_of(change.after))
        for host in gone:
            self._sets_at.get(host, set()).discard((group, resource.path[-1]))
            device = self._registrations.at_host(host)
            if device is not None and old is not None and old.is_multicast:
                self._add((device.name, group, resource.path[-1]))
        self._work()

    def _enter(self, resource: Resource, old: FanoutSet | None = None) -> None:
        one, key = set_of(resource), (resource.path[1], resource.path[-1])
        if not one.is_multicast:
            return
        for uri, join in one.joins.items():
            if old is not None and uri in old.joins and join is old.joins[uri] and one.address == old.address:
                continue
            host = parse_uri(uri).host
            self._sets_at.setdefault(host, set()).add(key)
            device = self._registrations.at_host(host)
            if device is not None and join in (Join.PENDING, Join.FAILED) and not device.fixed_groups:
                self._add((device.name, *key))
        self._work()

    @staticmethod
    def _hosts(one: FanoutSet | None) -> set[str]:
        return {parse_uri(uri).host for uri in one.joins} if one is not None else set()

    def _add(self, task: Task) -> None:
        if task in self._under_way:
            self._again.add(task)
        elif task not in self._attempts:
            self._attempts[task] = 0
            self._queue.append(task)

    def _work(self) -> None:
        while self._queue and len(self._under_way) < AT_ONCE:
            self._tell(self._queue.popleft())

    def _tell(self, task: Task) -> None:
        device = self._registrations.named(task[0])
        if device is None or not device.addresses:
            # It is told when it registers again.
            self._attempts.pop(task, None)
            return
        self._attempts[task] = self._attempts.get(task, 0) + 1
        name = mc_group_name(self._node_name, task[1], task[2])
        resource = self._tree.find((*GROUPS, task[1], SETS, task[2]))
        one = set_of(resource) if resource is not None else None
        uris = self._uris(one, device) if one is not None and one.is_multicast else []
        outgoing = join_request(device, name, one, uris) if one is not None and uris else leave_request(device, name)
        answered: Deferred[Answer] = self._requester.send(outgoing)
        self._under_way[task] = answered
        answered.addErrback(self._no_answer)
        answered.addCallback(self._told, task, uris)
        answered.addErrback(lambda failure: _log.failure("telling {device}", failure, device=task[0]))

    def _uris(self, one: FanoutSet, device: Device) -> list[str]:
        names = {*device.hosts, *device.addresses, device.name}
        return [uri for uri in one.joins if parse_uri(uri).host in names]

    @staticmethod
    def _no_answer(failure: Failure) -> None:
        if failure.check(Fault) is None:
            _log.failure("an advertisement failed", failure)

    def _told(self, answer: Answer | None, task: Task, uris: list[str]) -> None:
        del self._under_way[task]
        if task not in self._attempts:
            return  # stopped
        outcome = self._outcome(answer, task, uris)
        if outcome.join is not None:
            self._book.note((task[1], task[2]), uris, outcome.join)
        if task in self._again:
            self._again.discard(task)
            self._attempts[task] = 0
            self._queue.append(task)
        elif outcome.pause_s is None:
            del self._attempts[task]
        else:
            self._pauses[task] = self._reactor.callLater(outcome.pause_s, self._pause_over, task)
        self._work()

    def _outcome(self, answer: Answer | None, task: Task, uris: Iterable[str]) -> Told:
        attempts = self._attempts[task]
        return after_join(answer, attempts) if uris else after_leave(answer, attempts)

    def _pause_over(self, task: Task) -> None:
        del self._pauses[task]
        self._queue.append(task)
        self._work()
