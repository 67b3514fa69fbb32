"""The group server: answers at `/groups`, starts and stops what tells the devices, runs fan-outs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.groups import edit
from m2mapp.groups.drivers.advertise import Advertiser
from m2mapp.groups.drivers.joins import JoinBook
from m2mapp.groups.drivers.others import OtherNodes
from m2mapp.groups.drivers.replan import Replanner
from m2mapp.groups.drivers.requests import GroupRequests, Means
from m2mapp.groups.drivers.turns import Turns
from m2mapp.groups.edit import Surroundings
from m2mapp.groups.group import (
    FANOUT_SET,
    GROUP,
    GROUPS,
    MEMBERS,
    MEMBERS_CONTENT,
    SETS,
    Join,
    members_of,
    multicast_address,
    raw_joins,
    sets_of,
)
from m2mapp.groups.index import MemberIndex, hosts_of
from m2mapp.groups.ledger import AddressLedger, Taking
from m2mapp.groups.lending import POOL
from m2mapp.groups.pool import Network
from m2mapp.groups.reach import Reaches
from m2mapp.groups.state import STATE, state_response
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import path_text
from m2mapp.model.interfaces import IClock, ICommit, IGroupSender, IHandle, IJournals, IRequester
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.tree.registrations import SCL, SCLS, device_of
from m2mapp.tree.representation import document_response
from m2mapp.tree.resources import Decision, ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.unit import Change, Resource, Unit

_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True)
class GroupNode:
    """What the group server needs of the node around it.

    `pool` gives the multicast addresses of the local domain that it may use; `peers` are the URIs of other nodes, by name.
    """

    name: str
    around: Surroundings
    pool: Callable[[], tuple[Network, ...]]
    rules: ResourceRules
    committer: ICommit
    journals: IJournals
    clock: IClock
    requester: IRequester
    group_sender: IGroupSender
    peers: Mapping[str, str]


@implementer(IHandle)
class GroupService(Service):
    """Answers every request at and below `/groups`."""

    name = "groups"

    def __init__(self, reactor: IReactorTime, node: GroupNode, metrics: Metrics) -> None:
        self._reactor, self._node, self._around, self._tree = reactor, node, node.around, node.around.tree
        self._book = JoinBook(reactor, self._tree, node.committer)
        self._advertiser = Advertiser(reactor, node.requester, self._tree, self._around.registrations, self._book, node.name)
        self._turns = Turns()
        self._ledger = AddressLedger(node.pool, self._around.settings.global_pool)
        self._members = MemberIndex()
        self._reaches = Reaches(self._tree, self._around.registrations)
        self._replanner = Replanner(reactor, self._tree, self._members, self._plan_again, self._advertiser.device_is_back)
        self._others = OtherNodes(
            reactor=reactor,
            clock=node.clock,
            around=self._around,
            committer=node.committer,
            requester=node.requester,
            peers=node.peers,
            ledger=self._ledger,
            members=self._members,
            reaches=self._reaches,
            book=self._book,
            plan_soon=self._replanner.plan_soon,
            on_found=self._advertiser.device_is_back,
            metrics=metrics,
        )
        senders = (node.group_sender, node.requester)
        means = Means(node.name, node.around.settings.deadline_s, senders, node.committer, node.journals, node.clock)
        self._requests = GroupRequests(reactor, means, self._on_proven, metrics)
        self._requests.expand = self._others.expanded
        metrics.gauge("m2mapp_group_advertisements_waiting", "Advertisements not confirmed.", lambda: self._advertiser.depth)
        metrics.gauge("m2mapp_group_replans_waiting", "Groups that wait to be planned again.", lambda: self._replanner.depth)
        metrics.gauge("m2mapp_group_edits_under_way", "Groups that are being changed.", lambda: len(self._turns))
        self._follow_tree()

    def startService(self) -> None:
        """Tell the devices what they were not told before the last stop."""
        super().startService()
        self._book.start()
        self._advertiser.start()
        self._replanner.start()
        self._others.start()

    def stopService(self) -> None:
        """End what is under way: callers get what came so far."""
        super().stopService()
        self._others.stop()
        self._replanner.stop()
        self._requests.stop()
        self._advertiser.stop()
        self._book.stop()

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """Answer a request at `/groups`, `/mcAddrPool`, or below what is kept of addresses; raises, or fails with, a `Fault`."""
        path = request.path
        if path[:1] == POOL:
            return self._others.addresses.handle(request)
        if path[:1] != GROUPS:
            return execute(self._node.committer, self._node.rules.decide(request))
        if len(path) <= 2:  # noqa: PLR2004 - /groups and /groups/<name>
            return self._handle_group(request)
        if path[2] == MEMBERS and len(path) == 3:  # noqa: PLR2004 - /groups/<name>/members
            return self._handle_members(request)
        self._tree.get(path[:2])
        if path[2] == MEMBERS_CONTENT:
            return self._requests.ask(request, path[1], path[3:], lambda: self._reaches.of(path[1]))
        return execute(self._node.committer, self._node.rules.decide(request))

    def groups_of(self, device: str) -> list[str]:
        """The paths of the groups that have a member on a device, by its registration's name."""
        found = self._around.registrations.named(device)
        return [path_text((*GROUPS, name)) for name in self._members.groups_at(hosts_of(found))] if found is not None else []

    # Groups and their members.

    def _handle_group(self, request: Request) -> Response | Deferred[Response]:
        method, around = request.method, self._around
        if method is Method.GET or (len(request.path) == 1 and method is not Method.POST):
            return execute(self._node.committer, self._node.rules.decide(request))
        if len(request.path) == 1:
            name = edit.new_name(around, request)
            return self._edit(name, lambda take: edit.created(around, name, request, take))
        if method is Method.DELETE:
            return self._edit(request.path[1], lambda take: edit.removed(around, request, take))
        if method is Method.POST:
            raise MethodNotAllowed("POST", path_text(request.path), ("DELETE", "GET", "PATCH", "PUT"))
        decide = edit.put if method is Method.PUT else edit.patched
        return self._edit(request.path[1], lambda take: decide(around, request, take))

    def _handle_members(self, request: Request) -> Response | Deferred[Response]:
        if request.method is Method.GET:
            group = self._tree.get(request.path[:2])
            if request.query_value(STATE) is not None:
                return self._requests.restore(group.path[1]).addCallback(lambda _: self._members_state(group, request))
            return document_response({"members": list(members_of(group))}, request.accept, self._tree.version(group))
        if request.method is Method.PATCH:
            raise MethodNotAllowed("PATCH", path_text(request.path), ("DELETE", "GET", "POST", "PUT"))
        return self._edit(request.path[1], lambda take: edit.members_changed(self._around, request, take))

    def _members_state(self, group: Resource, request: Request) -> Response:
        return state_response(group, sets_of(self._tree, group.path[1]), self._requests.latest, request, self._reactor.seconds())

    def _edit(self, name: str, decide: Callable[[Taking], Decision]) -> Deferred[Response]:
        """Decide and commit, when the edits of this group that came before are done."""

        def act(taking: Taking) -> Deferred[Response]:
            decided = self._others.informed.decide(name, taking, decide)
            return decided.addCallback(lambda decision: execute(self._node.committer, decision))

        return self._in_turn(name, act)

    def _plan_again(self, name: str) -> Deferred[None]:
        """Plan the sets of a group for its members' devices as they are now."""

        def commit(unit: Unit | None) -> Deferred[None]:
            return succeed(None) if unit is None else self._node.committer.commit(unit).addCallback(lambda _: None)

        def act(taking: Taking) -> Deferred[None]:
            return self._others.informed.decide(name, taking, lambda take: edit.planned_again(self._around, name, take)).addCallback(commit)

        return self._in_turn(name, act)

    def _in_turn(self, name: str, act: Callable[[Taking], Deferred[_Done]]) -> Deferred[_Done]:
        """Act on a group when its turn comes; the addresses that were taken for what is not done are given back."""

        def guarded() -> Deferred[_Done]:
            taking = self._others.informed.taking(name)
            return act(taking).addErrback(_drop, taking)

        return self._turns.take(name, guarded)

    # Following the tree.

    def _follow_tree(self) -> None:
        for group in self._tree.children(GROUPS):
            self._members.changed(None, group)
            for one in self._tree.children((*group.path, SETS)):
                self._ledger.entered(one)
                self._others.set_of_before(group.path[-1], one)
        self._tree.watch(GROUPS, self._on_change, subtree=True)
        self._tree.watch(SCLS, self._on_registration, subtree=True)

    def _on_change(self, change: Change) -> None:
        before, after = change.before, change.after
        either = after or before
        if either is not None and either.type == GROUP:
            self._members.changed(before, after)
            if after is None:
                self._others.informed.forget(either.path[-1])
        elif either is not None and either.type == FANOUT_SET:
            self._reaches.void(either.path[1])
            if after is not None:
                self._ledger.entered(after)
                self._others.set_changed(before, after)
            if before is not None:
                self._ledger.left(before)

    def _on_registration(self, change: Change) -> None:
        devices = [device_of(resource) for resource in (change.before, change.after) if resource is not None and resource.type == SCL]
        if len(devices) < 2 or devices[0] != devices[1]:  # noqa: PLR2004 - before and after
            for name in self._members.groups_at(host for device in devices for host in hosts_of(device)):
                self._reaches.void(name)

    # What members answered.

    def _on_proven(self, group: str, uris: list[str]) -> None:
        for one in self._tree.children((*GROUPS, group, SETS)):
            address = multicast_address(one)
            joins = raw_joins(one) if address is not None else {}
            news = [uri for uri in uris if joins.get(uri) == Join.JOINED.value]
            if news and address is not None:
                self._book.note((group, one.path[-1], address), news, Join.PROVEN)


def _drop(failure: Failure, taking: Taking) -> Failure:
    """The unit was not committed."""
    taking.dropped()
    return failure
