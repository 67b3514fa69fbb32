"""The group server: answers at `/groups`, starts and stops what tells the devices, runs fan-outs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.formats.documents import parse_rfc3339, rfc3339
from m2mapp.groups import edit
from m2mapp.groups.deafness import Deafness
from m2mapp.groups.drivers.advertise import Advertiser, Teller
from m2mapp.groups.drivers.announce import Announcer
from m2mapp.groups.drivers.ending import Ender
from m2mapp.groups.drivers.joins import JoinBook
from m2mapp.groups.drivers.leaving import LeaveBook
from m2mapp.groups.drivers.others import OtherNodes
from m2mapp.groups.drivers.replan import Replanner
from m2mapp.groups.drivers.requests import GroupRequests, Means
from m2mapp.groups.drivers.sweep import Sweeper
from m2mapp.groups.drivers.turns import Turns
from m2mapp.groups.edit import Surroundings
from m2mapp.groups.explain import EXPLAIN, EXPLAIN_S, check_explain, explain_response
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
from m2mapp.groups.identifying import Identifiers
from m2mapp.groups.index import MemberIndex, hosts_of
from m2mapp.groups.leaves import LEAVE, LEAVES
from m2mapp.groups.ledger import AddressLedger, Taking
from m2mapp.groups.lending import POOL
from m2mapp.groups.nested import Nesting
from m2mapp.groups.pool import Network
from m2mapp.groups.preview import preview_response, wants_preview
from m2mapp.groups.query import Followers
from m2mapp.groups.reach import Reaches
from m2mapp.groups.request_tag import REQUEST_TAG, request_tag_response
from m2mapp.groups.state import STATE, state_response
from m2mapp.model.errors import Fault, Malformed, MethodNotAllowed
from m2mapp.model.identifiers import path_text
from m2mapp.model.interfaces import IClock, ICommit, IGroupSender, IHandle, IJournals, IRequester
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.tree.access import check_access
from m2mapp.tree.registrations import SCL, SCLS, device_of
from m2mapp.tree.representation import document_response
from m2mapp.tree.resources import Decision, ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.unit import Change, Resource, Unit, Write

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
    random: Random
    peers: Mapping[str, str]


@implementer(IHandle)
class GroupService(Service):
    """Answers every request at and below `/groups`."""

    name = "groups"

    def __init__(self, reactor: IReactorTime, node: GroupNode, metrics: Metrics) -> None:
        self._reactor, self._node, self._around, self._tree = reactor, node, node.around, node.around.tree
        self._book = JoinBook(reactor, self._tree, node.committer)
        self._leaves = LeaveBook(reactor, self._tree, node.committer)
        announcer = Announcer(reactor, node.group_sender, self._tree, self._around.settings)
        teller = Teller(node.name, self._is_of_pool, node.clock, node.random, announcer)
        self._advertiser = Advertiser(reactor, node.requester, self._tree, self._around.registrations, (self._book, self._leaves), teller)
        self._turns = Turns()
        self._ledger = AddressLedger(node.pool, self._around.settings.global_pool)
        self._members = MemberIndex()
        self._nesting = Nesting()
        self._reaches = Reaches(self._tree, self._around.registrations, self._around.is_own)
        self._replanner = Replanner(reactor, self._tree, self._members, self._plan_again, self._advertiser.device_is_back)
        deaf = Deafness()
        self._sweeper = Sweeper(reactor, self._tree, self._advertiser, self._leaves)
        self._followers = Followers(self._tree)
        self._ender = Ender(reactor, node.clock, self._tree, self._end)
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
        around = self._around
        self._identifiers = Identifiers(around.graph, around.settings.request_id, around.node_uri)
        means = Means(self._identifiers, node.around.settings.deadline_s, senders, node.committer, node.journals, node.clock)
        self._requests = GroupRequests(reactor, means, self._on_proven, metrics)
        self._requests.expand = self._others.expanded
        self._requests.may_enter = self._may_enter
        self._requests.on_asked = self._others.asked
        self._requests.on_results = lambda results: self._advertiser.members_are_deaf(deaf.heard(results, reactor.seconds()))
        metrics.gauge("m2mapp_group_advertisements_waiting", "Advertisements not confirmed.", lambda: self._advertiser.depth)
        metrics.gauge("m2mapp_group_replans_waiting", "Groups that wait to be planned again.", lambda: self._replanner.depth)
        metrics.gauge("m2mapp_group_edits_under_way", "Groups that are being changed.", lambda: len(self._turns))
        self._follow_tree()

    def startService(self) -> None:
        """Tell the devices what they were not told before the last stop."""
        super().startService()
        self._book.start()
        self._leaves.start()
        self._advertiser.start()
        self._replanner.start()
        self._others.start()
        self._sweeper.start()
        self._ender.start()
        self._followers.clear()
        for group in self._tree.children(GROUPS):
            self._follow(group.path[-1], group)

    def stopService(self) -> None:
        """End what is under way: callers get what came so far."""
        super().stopService()
        self._others.stop()
        self._ender.stop()
        self._sweeper.stop()
        self._replanner.stop()
        self._requests.stop()
        self._advertiser.stop()
        self._book.stop()
        self._leaves.stop()

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
        return self._handle_below(request)

    def _handle_below(self, request: Request) -> Response | Deferred[Response]:
        path = request.path
        self._tree.get(path[:2])
        if path[2] == MEMBERS_CONTENT:
            return self._requests.ask(request, path[1], path[3:], self._reaches.of)
        if path[2:] == (REQUEST_TAG,):
            at_servers = bool(self._reaches.of(path[1]).subgroups)
            seen = self._requests.once.seen
            return request_tag_response(seen, self._identifiers, request, self._reactor.seconds(), at_servers=at_servers)
        return execute(self._node.committer, self._node.rules.decide(request))

    def restore(self) -> Deferred[None]:
        """Know the writes to groups that were done before the last stop, when the store is there; what comes meanwhile waits."""
        return self._requests.once.restore(self._node.journals, self._node.clock)

    def groups_of(self, device: str) -> list[str]:
        """The paths of the groups that have a member on a device, by its registration's name."""
        found = self._around.registrations.named(device)
        return [path_text((*GROUPS, name)) for name in self._members.groups_at(hosts_of(found))] if found is not None else []

    # Groups and their members.

    def _handle_group(self, request: Request) -> Response | Deferred[Response]:
        method, around = request.method, self._around
        if method is Method.GET and len(request.path) > 1 and request.query_value(EXPLAIN) is not None:
            return self._explain(request)
        if method is Method.GET or (len(request.path) == 1 and method is not Method.POST):
            return execute(self._node.committer, self._node.rules.decide(request))
        if len(request.path) == 1:
            name = edit.new_name(around, request)
            return self._edit(name, request, lambda take: edit.created(around, name, request, take))
        if method is Method.DELETE:
            return self._edit(request.path[1], request, lambda take: edit.removed(around, request, take))
        if method is Method.POST:
            raise MethodNotAllowed("POST", path_text(request.path), ("DELETE", "GET", "PATCH", "PUT"))
        decide = edit.put if method is Method.PUT else edit.patched
        return self._edit(request.path[1], request, lambda take: decide(around, request, take))

    def _explain(self, request: Request) -> Deferred[Response]:
        self._tree.get(request.path)
        check_explain(request)
        graph, node = self._around.graph, self._around.group_uri(request.path[1])
        return self._others.reader.read([node], EXPLAIN_S).addCallback(lambda _: explain_response(graph, node))

    def _handle_members(self, request: Request) -> Response | Deferred[Response]:
        if request.method is Method.GET:
            group = self._tree.get(request.path[:2])
            if request.query_value(STATE) is not None:
                return self._requests.restore(group.path[1]).addCallback(lambda _: self._members_state(group, request))
            return document_response({"members": list(members_of(group))}, request.accept, self._tree.version(group))
        if request.method is Method.PATCH:
            raise MethodNotAllowed("PATCH", path_text(request.path), ("DELETE", "GET", "POST", "PUT"))
        return self._edit(request.path[1], request, lambda take: edit.members_changed(self._around, request, take))

    def _members_state(self, group: Resource, request: Request) -> Response:
        return state_response(group, sets_of(self._tree, group.path[1]), self._requests.latest, request, self._reactor.seconds())

    def _edit(self, name: str, request: Request, decide: Callable[[Taking], Decision]) -> Deferred[Response]:
        """Decide and commit, when the edits of this group that came before are done; or only say what it would be (`?explain`)."""

        def act(taking: Taking) -> Deferred[Response]:
            decided = self._others.informed.decide(name, taking, decide)
            return decided.addCallback(self._commit)

        def preview(taking: Taking) -> Deferred[Response]:
            decided = self._others.informed.decide(name, taking, decide, trial=True)
            return decided.addCallback(self._preview, name, request).addBoth(_taken_back, taking)

        return self._in_turn(name, preview if wants_preview(request) else act)

    def _preview(self, decision: Decision, name: str, request: Request) -> Response:
        self._check_end(decision)
        return preview_response(self._tree, name, decision.unit, request)

    def _commit(self, decision: Decision) -> Response | Deferred[Response]:
        self._check_end(decision)
        return execute(self._node.committer, decision)

    def _plan_again(self, name: str) -> Deferred[None]:
        """Plan the sets of a group for its members' devices as they are now."""

        def commit(unit: Unit | None) -> Deferred[None]:
            return succeed(None) if unit is None else self._node.committer.commit(unit).addCallback(lambda _: None)

        def act(taking: Taking) -> Deferred[None]:
            members = self._followers.members(name)
            decided = self._others.informed.decide(name, taking, lambda take: edit.planned_again(self._around, name, take, members))
            return decided.addCallback(commit)

        return self._in_turn(name, act)

    def _end(self, name: str) -> Deferred[None]:
        """End a temporary group whose time has come."""

        def act(_: Taking) -> Deferred[None]:
            unit = edit.ended(self._around, name, self._node.clock.now_ms())
            return succeed(None) if unit is None else self._node.committer.commit(unit).addCallback(lambda _: None)

        return self._in_turn(name, act)

    def _check_end(self, decision: Decision) -> None:
        """A group is not made that is over already. Raises `Malformed`."""
        for change in decision.unit.changes:
            expires = change.attributes.get("expires") if isinstance(change, Write) and change.type == GROUP else None
            if expires is not None and parse_rfc3339(expires, "expires") <= self._node.clock.now_ms():
                raise Malformed("expires", expires, f"a time to come; it is {rfc3339(self._node.clock.now_ms())}")

    def _follow(self, name: str, after: Resource | None) -> None:
        if self._followers.group_changed(name, after):
            self._replanner.plan_soon((name,))

    def _in_turn(self, name: str, act: Callable[[Taking], Deferred[_Done]]) -> Deferred[_Done]:
        """Act on a group when its turn comes; the addresses that were taken for what is not done are given back."""

        def guarded() -> Deferred[_Done]:
            taking = self._others.informed.taking(name)
            return act(taking).addErrback(_drop, taking)

        return self._turns.take(name, guarded)

    def _may_enter(self, request: Request, name: str) -> str:
        """Why a request cannot go through a group of this node that is a member of its group, as a status; empty: it can."""
        path = (*GROUPS, name)
        if self._tree.find(path) is None:
            return "4.04"
        try:
            check_access(request.principal, request.method, (*path, MEMBERS_CONTENT))
        except Fault:
            return "4.03"
        return ""

    # Following the tree.

    def _follow_tree(self) -> None:
        for group in self._tree.children(GROUPS):
            self._members.changed(None, group)
            self._nesting.changed(None, group)
            for one in self._tree.children((*group.path, SETS)):
                self._ledger.entered(one)
                self._others.set_of_before(group.path[-1], one)
        for leave in self._tree.children(LEAVES):
            if leave.type == LEAVE:
                self._ledger.entered(leave)
        self._tree.watch(LEAVES, self._on_leave, subtree=True)
        self._tree.watch(GROUPS, self._on_change, subtree=True)
        self._tree.watch(SCLS, self._on_registration, subtree=True)

    def _on_change(self, change: Change) -> None:
        before, after = change.before, change.after
        either = after or before
        if either is not None and either.type == GROUP:
            self._members.changed(before, after)
            if self.running:
                self._replanner.plan_soon(self._nesting.changed(before, after))
            if after is None:
                self._others.informed.forget(either.path[-1])
            if self.running:
                self._follow(either.path[-1], after)
        elif either is not None and either.type == FANOUT_SET:
            self._reaches.void(either.path[1])
            if after is not None:
                self._ledger.entered(after)
                self._others.set_changed(before, after)
            if before is not None:
                self._ledger.left(before)

    def _on_leave(self, change: Change) -> None:
        """An address that a device has still to leave is in use."""
        if change.after is not None and change.after.type == LEAVE:
            self._ledger.entered(change.after)
        if change.before is not None and change.before.type == LEAVE:
            self._ledger.left(change.before)

    def _is_of_pool(self, address: str) -> bool:
        parsed = ip_address(address)
        return any(parsed in network for network in self._node.pool() if network.version == parsed.version)

    def _on_registration(self, change: Change) -> None:
        devices = [device_of(resource) for resource in (change.before, change.after) if resource is not None and resource.type == SCL]
        if len(devices) < 2 or devices[0] != devices[1]:  # noqa: PLR2004 - before and after
            for name in self._members.groups_at(host for device in devices for host in hosts_of(device)):
                self._reaches.void(name)
        if self.running and devices:
            self._replanner.plan_soon(self._followers.registration_changed(change.path[-1], change.after))

    # What members answered.

    def _on_proven(self, group: str, uris: list[str]) -> None:
        for one in self._tree.children((*GROUPS, group, SETS)):
            address = multicast_address(one)
            joins = raw_joins(one) if address is not None else {}
            news = [uri for uri in uris if joins.get(uri) == Join.JOINED.value]
            if news and address is not None:
                self._book.note((group, one.path[-1], address), news, Join.PROVEN)


def _taken_back(result: _Done, taking: Taking) -> _Done:
    """What was planned is not done: its addresses are free."""
    taking.dropped()
    return result


def _drop(failure: Failure, taking: Taking) -> Failure:
    """The unit was not committed."""
    taking.dropped()
    return failure
