"""What the group server has to do with other nodes and with addresses, in one place: who asks, who tells, who waits.

Starts and stops the parts and hands news from one to the other; decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from twisted.internet.interfaces import IReactorTime

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.drivers.addresses import AddressKeeper
from m2mapp.groups.drivers.asking import Asker
from m2mapp.groups.drivers.held import HeldKeeper
from m2mapp.groups.drivers.informing import Informed
from m2mapp.groups.drivers.joins import JoinBook
from m2mapp.groups.drivers.reading import GroupReader
from m2mapp.groups.edit import Surroundings
from m2mapp.groups.group import GROUP, GROUPS, Join, is_multicast_address, members_of, raw_joins
from m2mapp.groups.index import MemberIndex
from m2mapp.groups.ledger import AddressLedger
from m2mapp.groups.lending import POOL, RESTING_AT
from m2mapp.groups.plan import waits_for_address
from m2mapp.groups.reach import Reaches
from m2mapp.groups.results import GroupResults
from m2mapp.groups.servers import GroupServers
from m2mapp.groups.subgroup import Subgroup, expanded, group_of
from m2mapp.model.interfaces import IClock, ICommit, IRequester
from m2mapp.model.metrics import Metrics
from m2mapp.tree.registrations import Device
from m2mapp.tree.unit import Change, Resource


class OtherNodes:
    """The group server's dealings with other nodes, and its addresses.

    `peers` are the URIs of other nodes by name; `plan_soon` is given the names of groups to plan again; `on_found` each device that was
    found at another node.
    """

    def __init__(  # noqa: PLR0913 - the parts of the node that it works on, by name
        self,
        *,
        reactor: IReactorTime,
        clock: IClock,
        around: Surroundings,
        committer: ICommit,
        requester: IRequester,
        peers: Mapping[str, str],
        ledger: AddressLedger,
        members: MemberIndex,
        reaches: Reaches,
        book: JoinBook,
        plan_soon: Callable[[list[str]], None],
        on_found: Callable[[Device], None],
        metrics: Metrics,
    ) -> None:
        self._reactor, self._around, self._ledger, self._members, self._reaches = reactor, around, ledger, members, reaches
        self._plan_soon, self._on_found = plan_soon, on_found
        self._servers = GroupServers(peers, around)
        self._asker = Asker(reactor, requester, around.elsewhere, self._servers.by_host, self._is_wanted, self._on_news)
        self._held = HeldKeeper(
            reactor=reactor,
            requester=requester,
            around=around,
            committer=committer,
            book=book,
            on_lost=lambda group: plan_soon([group]),
        )
        self.reader = GroupReader(reactor, requester, around.graph, self._on_groups)
        self.informed = Informed(reactor, ledger, (self._asker, self.reader, self._held), plan_soon)
        self.addresses = AddressKeeper(
            reactor=reactor,
            clock=clock,
            tree=around.tree,
            committer=committer,
            ledger=ledger,
            metrics=metrics,
            on_free=self.informed.address_is_free,
        )
        metrics.gauge("m2mapp_groups_without_address", "Groups that wait for a multicast address.", lambda: self.informed.short)
        metrics.gauge("m2mapp_group_hosts_asked_for", "Hosts for which other nodes are being asked.", lambda: self._asker.depth)
        metrics.gauge("m2mapp_group_words_to_others", "What other nodes have not confirmed.", lambda: self._held.depth)
        for place in (POOL, RESTING_AT):
            for resource in around.tree.children(place):
                ledger.entered(resource)
            around.tree.watch(place, self._on_address, subtree=True)

    def start(self) -> None:
        """Ask, tell and wait from now on."""
        self._held.start()
        self._asker.start()
        self.informed.start()
        self.addresses.startService()
        around = self._around
        registrations = around.registrations
        hosts = (host for host in self._members.hosts() if registrations.here(host) is None and not self._servers.is_own_host(host))
        self._asker.ask(hosts)
        graph = around.graph
        groups = (resource for resource in around.tree.children(GROUPS) if resource.type == GROUP)
        self.reader.read(node for group in groups for node in graph.groups_in(members_of(group)))

    def stop(self) -> None:
        """Nothing is left pending."""
        self.addresses.stopService()
        self.informed.stop()
        self.reader.stop()
        self._asker.stop()
        self._held.stop()

    def set_of_before(self, group: str, resource: Resource) -> None:
        """A fan-out set that was there at the start: whose its members were, and whether they wait for an address."""
        self._servers.remember(resource, self._reactor.seconds())
        if waits_for_address(resource):
            self.informed.waits(group)

    def set_changed(self, before: Resource | None, after: Resource) -> None:
        """A fan-out set is another now. A group at a server that is a device of this node is planned again when it is there."""
        document = after.attributes
        if not document.get("group") or before is None or raw_joins(before) == raw_joins(after):
            return
        place = parse_uri(str(document["group"]))
        is_there = Join.JOINED.value in raw_joins(after).values() and not is_multicast_address(str(document["fanoutAddress"]))
        if is_there and self._around.registrations.here(place.host, place.port) is not None:
            self._plan_soon([after.path[1]])

    def expanded(self, results: GroupResults, subgroups: Sequence[Subgroup]) -> GroupResults:
        """The results with those of groups at other servers in their place. One that this node made there and is gone is made again."""
        graph = self._around.graph
        known = [replace(one, members=graph.devices_below(group_of(one))) if one.given else one for one in subgroups]
        whole, lost = expanded(results, known)
        for one in lost:
            self._held.is_lost(group_of(one))
        return whole

    def asked(self, subgroups: Sequence[Subgroup]) -> None:
        """Groups at other servers were asked: what is known of them is read again when it is old."""
        nodes = [group_of(one) for one in subgroups if one.given]
        if nodes and self.reader.is_due(nodes):
            self.reader.read(nodes)

    def _on_groups(self, nodes: list[str]) -> None:
        """Other members of a group there may be other circles here, and what is no group after all is asked like any member: plan again."""
        self._plan_soon(self._members.groups_at({parse_uri(node).host for node in nodes}))

    def _is_wanted(self, host: str) -> bool:
        return bool(self._members.groups_at([host]))

    def _on_news(self, hosts: list[str]) -> None:
        """Other nodes said something new of these hosts."""
        for host in hosts:
            outsider = self._around.elsewhere.of(host)
            if outsider is not None and outsider.device is not None:
                self._on_found(outsider.device)
        names = self._members.groups_at(hosts)
        for name in names:
            self._reaches.void(name)
        self._plan_soon(names)

    def _on_address(self, change: Change) -> None:
        # Entered before the other is left: an address that goes from a lease to its rest is never free between.
        if change.after is not None:
            self._ledger.entered(change.after)
        if change.before is not None:
            self._ledger.left(change.before)
