"""The group server and other nodes, on fakes: who is asked for what, who is told what, and what comes of bad answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_network

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.drivers.asking import BATCH, WAIT_S
from m2mapp.groups.drivers.informing import AGAIN_S
from m2mapp.groups.elsewhere import FOUND_S, NOBODY_S
from m2mapp.groups.group import Join
from m2mapp.groups.lending import HELD_AT, LEASE_S
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import Fault, PeerFailed
from m2mapp.model.messages import Answer, Method, Outgoing, Status
from tests.unit.groups.parts import GroupCase, Groups, uri_at

G2, N1 = "http://g2.example.org", "http://n1.example.com"
SERVER = f"{N1}/mcAddrPool"
LENT = "ff3e::1"
Reply = Callable[[Outgoing], Answer | Fault | None]


def document(given: object, code: str = "200", **more: object) -> Answer:
    """An answer with a JSON document."""
    return Answer(code, json.dumps(given).encode(), "application/json", **more)  # type: ignore[arg-type]


def registered(*numbers: int) -> Reply:
    """What a node says that has these devices; groups are made there."""

    def reply(outgoing: Outgoing) -> Answer | None:
        uri = parse_uri(outgoing.uri)
        if uri.path == ("scls",):
            children = [
                {
                    "name": f"d{n}",
                    "hosts": [f"d{n}.example.org"],
                    "addresses": [f"fd00::d{n}"],
                    "port": 5683,
                    "scheme": "coap",
                    "multicastEnabled": True,
                }
                for n in numbers
            ]
            return document({"children": children})
        if uri.path == ("node",):
            return document({"roles": ["groups", "http"]})
        return Answer("201") if outgoing.method is Method.PUT and uri.path[:1] == ("groups",) else None

    return reply


class OthersCase(GroupCase):
    def build_with(self, reply: Reply, settings: GroupSettings | None = None, devices: int = 0, **peers: str) -> Groups:
        """A group server whose requests are answered so; by default with the peer g2."""
        groups = self.build(devices, settings, peers=peers or {"g2": G2})
        groups.requester._reply = reply
        return groups

    def sent(self, groups: Groups, method: Method, host: str) -> list[str]:
        """The paths that were asked for with that method at a host."""
        found = [(one.method, parse_uri(one.uri)) for one in groups.requester.sent]
        return ["/".join(uri.path) for asked, uri in found if asked is method and uri.host == host]

    def why(self, groups: Groups) -> set[str]:
        """All reasons in the group g."""
        return {why for one in groups.sets() for why in one.why.values()}


class AskingTests(OthersCase):
    def test_asked_in_batches(self) -> None:
        """Hosts that are not registered here are asked for together, once; those that are, and this node's own, are not."""
        groups = self.build_with(registered(), devices=1)
        members = [uri_at(number) for number in range(1, BATCH + 3)]
        self.successResultOf(groups.make([*members, f"http://{'g1.example.org'}/t"]))
        asked = [parse_uri(one.uri).query for one in groups.requester.sent if parse_uri(one.uri).path == ("scls",)]
        hosts = [value for query in asked for name, value in query if name == "host"]
        self.assertEqual((len(asked), sorted(hosts)), (2, sorted(f"d{number}.example.org" for number in range(2, BATCH + 3))))
        groups.make(members, name="h")
        self.assertEqual(len(self.sent(groups, Method.GET, "g2.example.org")), 2)
        self.assertIn("its device is not registered at any known node", self.why(groups))

    def test_nobody_to_ask(self) -> None:
        """Without peers nobody is asked, and making a group waits for nothing."""
        groups = self.build(0)
        self.successResultOf(groups.make([uri_at(1), uri_at(2)]))
        self.assertEqual(groups.requester.sent, [])

    def test_no_answer_in_time(self) -> None:
        """A node that does not answer holds up the group for so long; what it says later counts."""
        groups = self.build_with(lambda _: None)
        done = groups.make([uri_at(3), uri_at(4)])
        groups.clock.advance(WAIT_S - 0.1)
        self.assertNoResult(done)
        groups.clock.advance(0.1)
        self.successResultOf(done)
        self.assertEqual(self.why(groups), {"its device is not registered here"})
        groups.requester._reply = registered(3, 4)
        groups.requester.answer(0, registered(3, 4)(groups.requester.sent[0]) or PeerFailed())
        groups.clock.advance(1.0)
        self.assertEqual([one.group for one in groups.sets()], [f"{G2}/groups/g1.example.org-g"])

    def test_bad_answers(self) -> None:
        """A node that answers wrongly could not be asked: the reason says so, and it is asked again."""
        for bad in (Answer("500"), Answer("200", b"{", "application/json"), document([]), PeerFailed("gone")):
            groups = self.build_with(lambda _, bad=bad: bad)  # type: ignore[misc]
            self.successResultOf(groups.make([uri_at(3), uri_at(4)]))
            self.assertEqual(self.why(groups), {f"its device is not registered here, and {G2} could not be asked"})
            groups.requester._reply = registered(3, 4)
            groups.clock.pump([21.0, 1.0, 1.0])
            self.assertEqual(len(groups.sets()), 1)

    def test_a_device_that_moves(self) -> None:
        """A device that the other node does not have any more is found out after a while, and its group is planned again."""
        groups = self.build_with(registered(3, 4))
        groups.make([uri_at(3), uri_at(4)])
        groups.clock.advance(1.0)
        self.assertEqual(groups.sets()[0].joins, {groups.sets()[0].group: Join.JOINED})
        groups.requester._reply = registered()
        groups.clock.pump([FOUND_S, 1.0])
        self.assertEqual(self.why(groups), {"its device is not registered at any known node"})

    def test_a_host_that_nobody_wants(self) -> None:
        """Hosts of groups that are gone are not asked for again."""
        groups = self.build_with(registered())
        groups.make([uri_at(3)])
        groups.send(Method.DELETE, "/groups/g")
        before = len(groups.requester.sent)
        groups.clock.pump([NOBODY_S + 1.0, 1.0])
        self.assertEqual(len(groups.requester.sent), before)

    def test_the_node_itself(self) -> None:
        """Members on a peer itself are a group there, if it takes groups (Grp3: m31 and m32 on D2)."""
        groups = self.build_with(registered())
        members = [f"{G2}/xxx/temp1", f"{G2}/xxx/temp2"]
        groups.make(members)
        [one] = groups.sets()
        self.assertEqual((one.group, one.members), (f"{G2}/groups/g1.example.org-g", tuple(members)))
        groups = self.build_with(lambda one: document({"roles": ["http"]}) if one.uri.endswith("/node") else document({"children": []}))
        groups.make(members)
        self.assertEqual(len(groups.sets()), 2)

    def test_a_server_registered_here(self) -> None:
        """A device that is registered here as a group server is asked like a peer, at the URI that its registration gives."""
        groups = self.build_with(registered(3, 4), n1="http://g1.example.org")
        groups.register(2, groupServer=True)
        groups.make([uri_at(3), uri_at(4)])
        self.assertEqual([one.group for one in groups.sets()], ["coap://d2.example.org/groups/g1.example.org-g"])

    def test_groups_made_for_others(self) -> None:
        """A group that another server made here makes none elsewhere, so that two servers cannot go on for ever."""
        groups = self.build_with(registered(3, 4))
        groups.make([uri_at(3), uri_at(4)], **{"for": "http://g9.example.org/groups/g"})
        self.assertEqual({one.group for one in groups.sets()}, {""})
        self.assertTrue(all("makes none elsewhere" in why for why in self.why(groups)), self.why(groups))


class HeldTests(OthersCase):
    def test_refused_there(self) -> None:
        """A server that refuses the group: its join is failed, its members are asked one by one, and it is asked again with pauses."""
        refused = registered(3, 4)
        groups = self.build_with(lambda one: Answer("403") if one.method is Method.PUT else refused(one))
        groups.make([uri_at(3), uri_at(4)])
        groups.clock.advance(0.5)
        [one] = groups.sets()
        self.assertEqual(one.joins, {one.group: Join.FAILED})
        groups.requester._reply = refused
        groups.clock.pump([1.0, 1.0])
        self.assertEqual(groups.sets()[0].joins, {one.group: Join.JOINED})

    def test_no_news_is_not_told(self) -> None:
        """What the server has confirmed is not told again, also after a restart; one member more is told once."""
        groups = self.build_with(registered(3, 4, 5))
        groups.make([uri_at(3), uri_at(4)])
        groups.clock.advance(1.0)
        groups.service.stopService()
        groups.service.startService()
        groups.clock.advance(1.0)
        self.assertEqual(len(self.sent(groups, Method.PUT, "g2.example.org")), 1)
        groups.send(Method.POST, "/groups/g/members", {"members": [uri_at(5)]})
        groups.clock.advance(1.0)
        told = [one for one in groups.requester.sent if one.method is Method.PUT]
        self.assertEqual((len(told), json.loads(told[1].payload)["members"]), (2, [uri_at(3), uri_at(4), uri_at(5)]))
        self.assertEqual(list(groups.sets()[0].joins.values()), [Join.JOINED])

    def test_changed_while_it_is_told(self) -> None:
        """A change that comes while the server is told is told after it: what was confirmed before does not count for it."""
        base = registered(3, 4, 5)
        groups = self.build_with(lambda one: None if one.method is Method.PUT else base(one))
        groups.make([uri_at(3), uri_at(4)])
        groups.send(Method.POST, "/groups/g/members", {"members": [uri_at(5)]})
        groups.requester.answer(groups.requester.waiting[0], Answer("201"))
        groups.clock.advance(1.0)
        self.assertEqual(list(groups.sets()[0].joins.values()), [Join.PENDING])
        groups.requester.answer(groups.requester.waiting[0], Answer("204"))
        groups.clock.advance(1.0)
        self.assertEqual(list(groups.sets()[0].joins.values()), [Join.JOINED])

    def test_owed(self) -> None:
        """A group that is not wanted any more is deleted there, however often that takes; gone already is as good."""
        for last in ("204", "404", "2.02", "4.04", "410"):
            groups = self.build_with(registered(3, 4))
            groups.make([uri_at(3), uri_at(4)])
            groups.clock.advance(1.0)
            groups.requester._reply = lambda _: PeerFailed("gone")
            groups.send(Method.DELETE, "/groups/g")
            groups.clock.pump([1.0, 2.0, 4.0])
            self.assertEqual(len(groups.built.tree.children(HELD_AT)), 1)
            groups.requester._reply = lambda _, last=last: Answer(last)  # type: ignore[misc]
            groups.clock.pump([60.0, 1.0])
            self.assertEqual(groups.built.tree.children(HELD_AT), [])


class BorrowingTests(OthersCase):
    def build_lent(self, lease: Reply) -> Groups:
        """A group server that asks N1 for addresses; device 1 is its own, device 3 N1's."""
        base = registered(3)

        def reply(outgoing: Outgoing) -> Answer | Fault | None:
            return lease(outgoing) if "/mcAddrPool" in outgoing.uri else base(outgoing)

        groups = self.build_with(reply, GroupSettings(address_server=SERVER), devices=1, n1=N1)
        groups.make([uri_at(1), uri_at(3)])
        return groups

    def lends(self, address: str = LENT, lifetime: object = 1000) -> Reply:
        """A server that lends this address, at a place of its choice."""
        given = {"address": address, "lifetime": lifetime}
        return lambda one: document(given, "201", location="/mcAddrPool/7") if one.method is Method.POST else Answer("204")

    def asked(self, groups: Groups, method: Method = Method.POST) -> list[str]:
        """What was asked of the address server."""
        return [one.uri for one in groups.requester.sent if one.method is method and "/mcAddrPool" in one.uri]

    def test_taken_renewed_returned(self) -> None:
        """An address is asked for with the group's URI, renewed at half its time, and returned where the server said that it stands."""
        groups = self.build_lent(self.lends())
        [one] = groups.sets()
        self.assertEqual((one.address, set(one.why.values())), (LENT, {"same path, global address"}))
        first = next(each for each in groups.requester.sent if each.uri == SERVER)
        self.assertEqual(json.loads(first.payload), {"for": "http://g1.example.org/groups/g", "version": 6})
        groups.clock.advance(499.0)
        self.assertEqual(len(self.asked(groups)), 1)
        groups.clock.advance(2.0)
        self.assertEqual(len(self.asked(groups)), 2)
        groups.clock.advance(501.0)
        self.assertEqual(len(self.asked(groups)), 3)
        groups.send(Method.DELETE, "/groups/g")
        self.assertEqual(self.asked(groups, Method.DELETE), [f"{N1}/mcAddrPool/7"])
        self.assertEqual(groups.built.tree.children(HELD_AT), [])

    def test_after_a_restart(self) -> None:
        """After a restart the lease is renewed at once: nobody knows how much of its time is left."""
        groups = self.build_lent(self.lends())
        groups.service.stopService()
        groups.service.startService()
        groups.clock.advance(1.0)
        self.assertEqual((len(self.asked(groups)), groups.sets()[0].address), (2, LENT))

    def test_none_to_be_had(self) -> None:
        """No address, whatever the reason: the local members are planned without the outsider, who has the reason; it is asked again."""
        for bad in (
            Answer("503"),
            PeerFailed("gone"),
            document({"address": "fd00::1"}),
            document([]),
            Answer("201", b"x", "application/json"),
        ):
            groups = self.build_lent(lambda _, bad=bad: bad)  # type: ignore[misc]
            self.assertTrue(any("there is no global address" in why for why in self.why(groups)), self.why(groups))
            lends, base = self.lends(), registered(3)
            groups.requester._reply = lambda one, lends=lends, base=base: lends(one) if "/mcAddrPool" in one.uri else base(one)  # type: ignore[misc]
            groups.clock.pump([AGAIN_S, 1.0])
            self.assertEqual([one.address for one in groups.sets()], [LENT])

    def test_another_address(self) -> None:
        """A server that has forgotten the lease gives another address: the group goes to that one."""
        groups = self.build_lent(self.lends())
        lends, base = self.lends("ff3e::2"), registered(3)
        groups.requester._reply = lambda one: lends(one) if "/mcAddrPool" in one.uri else base(one)
        groups.clock.pump([501.0, 1.0, 1.0])
        self.assertEqual([one.address for one in groups.sets()], ["ff3e::2"])

    def test_not_renewed(self) -> None:
        """A lease that could not be renewed until its end is not used any longer."""
        groups = self.build_lent(self.lends())
        base = registered(3)
        groups.requester._reply = lambda one: PeerFailed("gone") if "/mcAddrPool" in one.uri else base(one)
        groups.clock.pump([50.0] * 19)
        self.assertEqual([one.address for one in groups.sets()], [LENT])
        groups.clock.pump([50.0] * 4)
        self.assertNotIn(LENT, [one.address for one in groups.sets()])

    def test_without_a_lifetime(self) -> None:
        """A server that does not say how long is taken to lend for a day."""
        groups = self.build_lent(self.lends(lifetime=None))
        groups.clock.advance(LEASE_S / 2 - 1)
        self.assertEqual(len(self.asked(groups)), 1)
        groups.clock.advance(2)
        self.assertEqual(len(self.asked(groups)), 2)


class OwnPoolTests(OthersCase):
    def test_from_the_own_pool(self) -> None:
        """A node with global addresses gives its own groups one where they have outsiders; it is entered as given, and rests afterwards."""
        settings = GroupSettings(global_pool=(ip_network("ff3e::/127"),))
        groups = self.build_with(registered(3), settings, devices=1)
        self.assertEqual(self.successResultOf(groups.make([uri_at(1), uri_at(3)])).status, Status.CREATED)
        self.assertEqual([one.address for one in groups.sets()], ["ff3e::"])
        [lease] = groups.built.tree.children(("mcAddrPool",))
        self.assertEqual((lease.path[-1], lease.attributes["for"]), ("ff3e::", "http://g1.example.org/groups/g"))
        groups.send(Method.DELETE, "/groups/g")
        self.assertEqual(groups.built.tree.children(("mcAddrPool",)), [])
        self.assertEqual([one.path[-1] for one in groups.built.tree.children(("node", "resting"))], ["ff3e::"])
