"""Tells the devices which multicast groups to join and to leave, until each has answered.

Follows the fan-out sets and the leaves in the tree: what a device has to be told is read from there when it is told, so that the newest
state wins. In what words it is told is in `dialogue`; what it holds is compared in `checking`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.documents import rfc3339
from m2mapp.formats.uris import parse_uri
from m2mapp.groups.advertisement import LONGEST_PAUSE_S, SPREAD, Told, after_join, after_leave
from m2mapp.groups.announcement import Addressee
from m2mapp.groups.checking import check
from m2mapp.groups.dialogue import Place, Said, say
from m2mapp.groups.drivers.announce import Announcer
from m2mapp.groups.drivers.attempts import Attempts
from m2mapp.groups.drivers.joins import JoinBook
from m2mapp.groups.drivers.leaving import LeaveBook
from m2mapp.groups.drivers.talk import talk
from m2mapp.groups.group import FAILURES, FANOUT_SET, GROUPS, REACHED, SETS, Join, raw_joins
from m2mapp.groups.leaves import LEAVE, LEAVES, SetKey
from m2mapp.groups.memberships import Memberships, Slot, set_path
from m2mapp.groups.settings import UNICAST
from m2mapp.model.interfaces import IClock, IRequester
from m2mapp.model.messages import Answer, Outgoing
from m2mapp.tree.registrations import Device, Registrations
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Document, Resource
from m2mapp.tree.watch import Watch

AT_ONCE = 32
_NOT_REACHED = frozenset(join.value for join in Join if join not in REACHED)

Attempt = tuple[Generator[Outgoing, Answer | None, Any], Callable[[Any], None]]
"""What is said to a device, and what is done with that which comes of it."""

_log = Logger(namespace="m2mapp.groups.advertise")


class Task(NamedTuple):
    """Whom to tell of which set; without one: compare what the device holds with what it shall hold."""

    device: str
    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells: the node's name, whether a multicast address is of its pool, its clock, the chance that spreads the pauses.

    `announcer` tells many at once.
    """

    name: str
    has_address: Callable[[str], bool]
    clock: IClock
    random: Random
    announcer: Announcer


@dataclass(frozen=True, slots=True)
class _News:
    """What one attempt tells: the set with the members that the device has in it now (none: it leaves), and the leaves that are owed."""

    task: Task
    key: SetKey
    uris: list[str]
    owed: dict[SetKey, dict[str, int]]


class Advertiser:
    """The advertisements of one node that are not confirmed yet."""

    def __init__(
        self,
        reactor: IReactorTime,
        requester: IRequester,
        tree: Tree,
        registrations: Registrations,
        books: tuple[JoinBook, LeaveBook],
        teller: Teller,
    ) -> None:
        self._reactor, self._requester, self._tree = reactor, requester, tree
        self._joins, self._leaves = books
        self._registrations, self._teller = registrations, teller
        self._announced: dict[Task, _News] = {}
        self.memberships = Memberships(tree, registrations, teller.name)
        self._outdated: set[Task] = set()
        self._tasks = Attempts(reactor, AT_ONCE, self._tell)
        self._watches: list[Watch] = []

    @property
    def depth(self) -> int:
        """How many advertisements are not confirmed."""
        return len(self._tasks)

    def start(self) -> None:
        """Go on where the last run of the program ended."""
        for group in self._tree.children(GROUPS):
            for resource in self._tree.children((*group.path, SETS)):
                self._set_changed(None, resource)
        for resource in self._tree.children(LEAVES):
            self._leave_changed(None, resource)
        self._watches = [self._tree.watch(place, self._on_change, subtree=True) for place in (GROUPS, LEAVES)]
        self._tasks.work()

    def stop(self) -> None:
        """Tell nobody anything further."""
        for watch in self._watches:
            watch.stop()
        self._watches.clear()
        self._announced.clear()
        self._outdated.clear()
        self._teller.announcer.stop()
        self.memberships.clear()
        self._tasks.stop()

    def device_is_back(self, device: Device) -> None:
        """A device registered, or is suspected to have lost a group: it is asked what it holds, and told what it does not."""
        if device.fixed_groups:
            # It cannot change its groups: there is nothing that it could be told to leave.
            for key, members in self.memberships.owed(device).items():
                self._leaves.note(key, members)
        elif device.addresses and (device.multicast_enabled or self.memberships.owed(device)):
            self._add(Task(device.name))
            self._tasks.work()

    def members_are_deaf(self, uris: Iterable[str]) -> None:
        """These members do not hear their group: their devices may have lost it."""
        for uri in uris:
            device = self._device_of(uri)
            if device is not None:
                self.device_is_back(device)

    def is_registered(self, uri: str) -> bool:
        """Whether the device of a member is registered here."""
        return self._device_of(uri) is not None

    # Following the tree.

    def _on_change(self, change: Change) -> None:
        self._set_changed(_of_type(change.before, FANOUT_SET), _of_type(change.after, FANOUT_SET))
        self._leave_changed(_of_type(change.before, LEAVE), _of_type(change.after, LEAVE))
        self._tasks.work()

    def _set_changed(self, before: Resource | None, after: Resource | None) -> None:
        self._add_all(self.memberships.set_changed(before, after))

    def _leave_changed(self, before: Resource | None, after: Resource | None) -> None:
        self._add_all(self.memberships.leave_changed(before, after))

    def _add_all(self, news: Iterable[tuple[SetKey, str]]) -> None:
        """Those whose device is not registered are told when it is."""
        slots: dict[Slot, dict[str, Device]] = {}
        for key, uri in news:
            device = self._device_of(uri)
            if device is not None and not device.fixed_groups:
                slots.setdefault(key[:2], {})[device.name] = device
        for slot, devices in slots.items():
            for name in devices if self._teller.announcer.mode(slot[0]) == UNICAST else self._announce(slot, devices):
                self._add(Task(name, slot))

    def _announce(self, slot: Slot, devices: dict[str, Device]) -> Iterable[str]:
        """Tell many at once, those to join and those to leave; the names of those who have to be told one by one."""
        parts: dict[tuple[SetKey, bool], list[Addressee]] = {}
        alone = []
        for device in devices.values():
            news, document = self._news(Task(device.name, slot), slot, device)
            if news.task in self._tasks or news.task in self._announced or (document is None and len(news.owed) != 1):
                alone.append(device.name)
                continue
            key, uris = (news.key, news.uris) if document is not None else next((key, list(owed)) for key, owed in news.owed.items())
            parts.setdefault((key, document is None), []).append(Addressee(device, tuple(uris), document))
            self._announced[news.task] = news
        for (key, _), addressees in parts.items():
            for one in self._teller.announcer.announce(slot[0], self.memberships.place(key), addressees, partial(self._heard, slot)):
                del self._announced[Task(one.device.name, slot)]
                alone.append(one.device.name)
        return alone

    def _heard(self, slot: Slot, one: Addressee, confirmed: bool) -> None:
        """A device has confirmed an advertisement to many, or it has to be told alone."""
        news = self._announced.pop(Task(one.device.name, slot))
        is_old = news.task in self._outdated
        self._outdated.discard(news.task)
        if confirmed:
            self._tasks.take(news.task)
            if is_old:
                self._tasks.add(news.task)
            self._said(news, Said(Answer("2.04"), frozenset(key[2] for key in news.owed)))
        else:
            self._tasks.add(news.task)
            self._tasks.work()

    def _device_of(self, uri: str) -> Device | None:
        parsed = parse_uri(uri)
        return self._registrations.at_host(parsed.host, parsed.port)

    # Telling.

    def _add(self, task: Task) -> None:
        if task in self._announced:
            self._outdated.add(task)
        else:
            self._tasks.add(task)

    def _tell(self, task: Task) -> Deferred[Any] | None:
        device = self._registrations.named(task.device)
        if device is None or not device.addresses:
            return None  # It is told when it registers again.
        attempt = self._check(task, device) if task.slot is None else self._say(task, task.slot, device)
        if attempt is None:
            return None
        dialogue, then = attempt
        return talk(self._requester, dialogue).addCallback(then).addErrback(self._failed, task)

    # One attempt: what is told, and what comes of it.

    def _say(self, task: Task, slot: Slot, device: Device) -> Attempt | None:
        """Tell a device to hold the set as it is now, and to hold it no longer as it was; None: there is nothing to say."""
        news, document = self._news(task, slot, device)
        owed = news.owed
        if device.coap_group:
            # Several sets of a group may have one address: a device is in it for all of them.
            elsewhere = {one[2] for one in self.memberships.wanted(device)}
            for one in [one for one in owed if one[2] in elsewhere]:
                self._leaves.note(one, owed.pop(one))
        if document is None and not owed:
            return None
        place = self.memberships.place
        spoken = say(device, (place(news.key), document) if document is not None else None, [place(one) for one in owed])
        return spoken, partial(self._said, news)

    def _news(self, task: Task, slot: Slot, device: Device) -> tuple[_News, Document | None]:
        """What there is to tell a device of a set, and what it has to hold of it; None: nothing."""
        key, document = self.memberships.told(device, slot)
        owed = {one: members for one, members in self.memberships.owed(device).items() if one[:2] == slot}
        return _News(task, key, self.memberships.members(device, key) if document is not None else [], owed), document

    def _said(self, news: _News, said: Said) -> None:
        if news.task not in self._tasks:
            return  # It was stopped meanwhile.
        attempts = self._tasks.number(news.task)
        told = after_join(said.answer, attempts) if news.uris else after_leave(said.answer, attempts)
        if told.join is not None:
            self._joins.note(news.key, news.uris, told.join)
        left = [one for one in news.owed if one[2] in said.left or told.join is Join.UNSUPPORTED]
        for one in left:
            self._leaves.note(one, news.owed[one])
        if told.pause_s is None and len(left) < len(news.owed):
            told = after_leave(None, attempts)
        pause_s = self._over(news.task, told.pause_s)
        if news.uris:
            self._show(news.key, news.uris, told, pause_s)

    def _check(self, task: Task, device: Device) -> Attempt:
        wanted: dict[Place, Document] = {}
        for key in self.memberships.wanted(device):
            _, document = self.memberships.told(device, key[:2])
            if document is not None:
                wanted[self.memberships.place(key)] = document
        owed = [self.memberships.place(key) for key in self.memberships.owed(device)]
        return check(device, wanted, owed, self._is_ours), partial(self._compared, task, device)

    def _compared(self, task: Task, device: Device, held: frozenset[Place] | None) -> None:
        if task not in self._tasks:
            return  # It was stopped meanwhile.
        for key in self.memberships.wanted(device):
            if held is None or self.memberships.place(key) not in held:
                self._add(Task(device.name, key[:2]))
            else:
                self._holds(device, key)
        for key in self.memberships.owed(device):
            self._add(Task(device.name, key[:2]))
        self._tasks.over(task, None)

    def _holds(self, device: Device, key: SetKey) -> None:
        """The device shows that it is in the group as it shall be: those of its members that were not known to be are."""
        resource = self._tree.find(set_path(key))
        known = raw_joins(resource) if resource is not None else {}
        uris = [uri for uri in self.memberships.members(device, key) if known.get(uri) in _NOT_REACHED]
        if uris:
            self._joins.note(key, uris, Join.JOINED)
        self._tasks.settle(Task(device.name, key[:2]))

    def _over(self, task: Task, pause_s: float | None) -> float | None:
        """As `Attempts.over`: many that failed together are not tried again together."""
        return self._tasks.over(task, None if pause_s is None else pause_s * (1 + SPREAD * self._teller.random.random()))

    def _failed(self, failure: Failure, task: Task) -> None:
        """The end of this program, or a mistake of it, which does not keep the others from being told."""
        if failure.check(CancelledError) is None:
            _log.failure("telling {device}", failure, device=task.device)
            if task in self._tasks:
                self._over(task, LONGEST_PAUSE_S)

    # What is told of a set, and shown of it.

    def _is_ours(self, name: str, address: str) -> bool:
        return self._teller.has_address(address) and (not name or name.startswith(f"{self._teller.name}-"))

    def _show(self, key: SetKey, uris: Iterable[str], told: Told, pause_s: float | None) -> None:
        """Say of a set, outside its ETag, whose join failed, why, and when it is tried next."""
        path = set_path(key)
        if self._tree.find(path) is None:
            return
        volatile = self._tree.volatile(path)
        kept = volatile.get(FAILURES)
        failures = kept if isinstance(kept, dict) else {}
        for uri in uris:
            failures.pop(uri, None)
            if told.why and pause_s is not None:
                failures[uri] = {"why": told.why, "next": rfc3339(self._teller.clock.now_ms() + int(pause_s * 1000))}
        if failures:
            volatile[FAILURES] = failures
        else:
            volatile.pop(FAILURES, None)


def _of_type(resource: Resource | None, kind: str) -> Resource | None:
    return resource if resource is not None and resource.type == kind else None
