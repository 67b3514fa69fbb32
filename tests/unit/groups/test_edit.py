"""Making, changing and ending groups, through the service that answers for them."""

from __future__ import annotations

import json
from ipaddress import ip_network

from twisted.internet.defer import Deferred

from m2mapp.formats.documents import JSON, load_json
from m2mapp.groups.edit import planned_again
from m2mapp.groups.group import AddressType, Join
from m2mapp.groups.ledger import AddressLedger, Taking
from m2mapp.groups.lending import QUARANTINE_S
from m2mapp.groups.plan import NO_ADDRESS
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import (
    Conflict,
    Fault,
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    PreconditionFailed,
    StorageFailed,
    TooLarge,
    UnsupportedMediaType,
)
from m2mapp.model.messages import ANY_ETAG, Answer, Conditions, Method, Response, Status
from m2mapp.tree.unit import Remove, Unit
from tests.unit.groups.parts import FIRST_ADDRESS, NODE_NAME, SECOND_ADDRESS, GroupCase, Groups, build_request, uri_at

MERGE_PATCH = "application/merge-patch+json"


class EditCase(GroupCase):
    def read(self, groups: Groups, path: str = "/groups/g") -> dict[str, object]:
        """The document at a path."""
        found = json.loads(self.successResultOf(groups.send(Method.GET, path)).payload)
        assert isinstance(found, dict)
        return found

    def refused(self, done: Deferred[Response], kind: type[Fault]) -> Fault:
        """The fault that it failed with."""
        fault = self.failureResultOf(done, kind).value
        assert isinstance(fault, Fault)
        return fault


class CreateTests(EditCase):
    def test_created(self) -> None:
        """POST /groups: 201 with Location; the group shows what was given, its URI, its state and its sets."""
        groups = self.build(2)
        response = self.successResultOf(groups.make([uri_at(1), uri_at(2)], name="grp7"))
        self.assertEqual((response.status, response.location), (Status.CREATED, ("groups", "grp7")))
        shown = self.read(groups, "/groups/grp7")
        self.assertEqual((shown["name"], shown["type"], shown["reliable"]), ("grp7", "static", False))
        self.assertEqual((shown["uri"], shown["state"]), (f"http://{NODE_NAME}/groups/grp7", "joining"))
        sets = shown["fanoutSets"]
        assert isinstance(sets, list)
        [one] = sets
        self.assertEqual((one["name"], one["addressType"], one["fanoutAddress"]), ("1", "multicast-ipv6", FIRST_ADDRESS))
        self.assertEqual((one["fanoutURI"], one["memberList"]), ("/t", [uri_at(1), uri_at(2)]))
        self.assertEqual(self.read(groups, "/groups/grp7/fanoutSets/1"), one)
        groups.join_all()
        self.assertEqual(self.read(groups, "/groups/grp7")["state"], "ready")

    def test_names(self) -> None:
        """The name is that of the query, or of the document, or a free number."""
        groups = self.build()
        asked = groups.send(Method.POST, "/groups", {"members": [uri_at(1)]}, query=(("name", "asked"),))
        self.assertEqual(self.successResultOf(asked).location, ("groups", "asked"))
        number = str(groups.built.tree.next_number + 3)
        self.successResultOf(groups.make([uri_at(1)], name=number))
        names = {self.successResultOf(groups.send(Method.POST, "/groups", {"members": [uri_at(1)]})).location for _ in range(5)}
        self.assertEqual(len(names), 5)
        self.assertNotIn(("groups", number), names)

    def test_a_name_taken(self) -> None:
        """A second group of that name is refused, and the first stays as it is, also where the first is not committed yet."""
        groups = self.build()
        groups.built.committer.hold()
        first, second = groups.make([uri_at(1)]), groups.make([uri_at(2)])
        groups.built.committer.release()
        self.successResultOf(first)
        self.refused(second, Conflict)
        self.assertEqual(self.read(groups)["members"], [uri_at(1)])

    def test_put_creates_and_replaces(self) -> None:
        """PUT on a free name creates, on a taken one replaces; the name may be said again, another may not."""
        groups = self.build()
        document = {"name": "g", "members": [uri_at(1)]}
        self.assertEqual(self.successResultOf(groups.send(Method.PUT, "/groups/g", document)).status, Status.CREATED)
        self.assertEqual(self.successResultOf(groups.send(Method.PUT, "/groups/g", {"members": [uri_at(2)]})).status, Status.CHANGED)
        self.assertEqual((self.read(groups)["members"], [one.members for one in groups.sets()]), ([uri_at(2)], [(uri_at(2),)]))
        self.assertEqual(self.refused(groups.send(Method.PUT, "/groups/h", document), Malformed).extensions()["field"], "name")

    def test_bad_input(self) -> None:
        """Each fault names its field, and nothing is written."""
        groups = self.build()
        before = len(groups.built.tree)
        for document, field in (
            ({"name": "g"}, "members"),
            ({"name": "g", "members": []}, "members"),
            ({"name": "g", "members": ["no uri"]}, "members[0]"),
            ({"name": "g", "members": [uri_at(1)], "colour": 1}, "colour"),
            ({"name": "g", "members": [uri_at(1)], "reliable": 1}, "reliable"),
            ({"name": 7, "members": [uri_at(1)]}, "name"),
            ({"name": "..", "members": [uri_at(1)]}, "name"),
            ({"name": "a/b", "members": [uri_at(1)]}, "name"),
            ([uri_at(1)], "body"),
            ({"name": "g", "type": "loose", "members": [uri_at(1)]}, "type"),
            ({"name": "g", "query": "rt=t", "members": [uri_at(1)]}, "query"),
            ({"name": "g", "expires": "2100-01-01T00:00:00Z", "members": [uri_at(1)]}, "expires"),
            ({"name": "g", "type": "dynamic"}, "query"),
            ({"name": "g", "type": "dynamic", "query": ""}, "query"),
            ({"name": "g", "type": "dynamic", "query": "rt"}, "query"),
            ({"name": "g", "type": "dynamic", "query": "rt=%ff"}, "query"),
            ({"name": "g", "type": "dynamic", "query": "rt=t&count=10"}, "query"),
            ({"name": "g", "type": "dynamic", "query": "&".join(["rt=t"] * 17)}, "query"),
            ({"name": "g", "type": "dynamic", "query": "rt=t", "members": [uri_at(1)]}, "members"),
            ({"name": "g", "type": "dynamic", "query": "rt=t", "expires": "2100-01-01T00:00:00Z"}, "expires"),
            ({"name": "g", "type": "temporary", "members": [uri_at(1)]}, "expires"),
            ({"name": "g", "type": "temporary", "members": [uri_at(1)], "expires": "soon"}, "expires"),
            ({"name": "g", "type": "temporary", "members": [uri_at(1)], "expires": "2001-01-01T00:00:00Z"}, "expires"),
            ({"name": "g", "type": "temporary", "expires": "2100-01-01T00:00:00Z"}, "members"),
        ):
            self.assertEqual(self.refused(groups.send(Method.POST, "/groups", document), Malformed).extensions()["field"], field, document)
        self.refused(groups.send(Method.POST, "/groups", b"{", content_type="application/json"), Malformed)
        self.refused(groups.send(Method.POST, "/groups", b"x", content_type="text/plain"), UnsupportedMediaType)
        self.refused(groups.send(Method.POST, "/groups", {"name": "n" * 256, "members": [uri_at(1)]}), TooLarge)
        self.assertEqual((len(groups.built.tree), groups.built.committer.units[before:]), (before, []))

    def test_a_group_in_a_group(self) -> None:
        """A group of this node is a member by any of the node's names; the circle that it makes is told, and shown until it is none."""
        groups = self.build()
        groups.own.add("alias")
        made = self.successResultOf(groups.make([uri_at(1), "coap://alias/groups/g/membersContent"]))
        uri = f"http://{NODE_NAME}/groups/g"
        self.assertEqual((made.content_type, load_json(made.payload)), (JSON, {"circles": [[uri, uri]]}))
        self.assertEqual(self.read(groups)["circles"], [[uri, uri]])
        kinds = [(one.address_type, one.group, one.why[one.members[0]]) for one in groups.sets()]
        self.assertEqual(kinds[1], (AddressType.GROUP, "", "a group of this node"))
        self.successResultOf(groups.send(Method.PUT, "/groups/g", self.read(groups)))
        self.successResultOf(groups.send(Method.PUT, "/groups/g/members", {"members": [uri_at(1)]}))
        self.assertNotIn("circles", self.read(groups))

    def test_a_circle_made_by_another_group(self) -> None:
        """A group whose circle another group closes or opens shows that when it has been planned again."""
        groups = self.build()
        first, second = (f"http://{NODE_NAME}/groups/{name}" for name in ("g", "h"))
        self.assertEqual(self.successResultOf(groups.make([second])).payload, b"")
        made = self.successResultOf(groups.make([first], name="h"))
        self.assertEqual(load_json(made.payload), {"circles": [[second, first, second]]})
        groups.clock.pump([1.0, 1.0])
        self.assertEqual(self.read(groups)["circles"], [[first, second, first]])
        self.successResultOf(groups.send(Method.DELETE, "/groups/h"))
        groups.clock.pump([1.0, 1.0])
        self.assertNotIn("circles", self.read(groups))

    def test_no_address_left(self) -> None:
        """With an empty pool the group is made, works by unicast, and says why."""
        groups = self.build(2, pool=())
        self.successResultOf(groups.make([uri_at(1), uri_at(2)]))
        shown = self.read(groups)
        self.assertEqual(shown["state"], "ready")
        self.assertEqual({one.why[one.members[0]] for one in groups.sets()}, {"no multicast address is left in the pool"})

    def test_the_settings_count(self) -> None:
        """`multicast_threshold` and `address_per_set` of the configuration hold."""
        members = [uri_at(1), uri_at(2), uri_at(1, "/b"), uri_at(2, "/b")]
        groups = self.build(2, GroupSettings(multicast_threshold=3))
        groups.make(members)
        self.assertEqual({one.is_multicast for one in groups.sets()}, {False})
        groups = self.build(2, GroupSettings(address_per_set=True))
        groups.make(members)
        self.assertEqual([one.address for one in groups.sets()], [FIRST_ADDRESS, SECOND_ADDRESS])

    def test_a_device_at_another_port(self) -> None:
        """A URI without a port means its device's, also where that is not the usual one; another port is not that device."""
        groups = self.build()
        for number in (1, 2):
            groups.register(number, port=40_000)
        groups.make([uri_at(1), uri_at(2), "coap://d2.example.org:7000/t", "coap://d1.example.org:40000/t"])
        together, alone = groups.sets()
        self.assertEqual(
            (together.port, len(together.members), alone.why[alone.members[0]]), (40_000, 3, "its device is not registered here")
        )


class ChangeTests(EditCase):
    def test_patch(self) -> None:
        """A merge patch changes what it names; null takes back; what it makes must be a group."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)], leisure=3)
        send = lambda patch: groups.send(Method.PATCH, "/groups/g", patch, content_type=MERGE_PATCH)  # noqa: E731 - one line for all four
        self.successResultOf(send({"reliable": True, "leisure": None}))
        self.assertEqual({one.is_multicast for one in groups.sets()}, {False})
        self.assertNotIn("leisure", self.read(groups))
        self.refused(send({"members": None}), Malformed)
        self.refused(send({"name": "h"}), Malformed)
        self.refused(send([1]), Malformed)
        self.refused(groups.send(Method.PATCH, "/groups/g", {}), UnsupportedMediaType)
        self.refused(groups.send(Method.PATCH, "/groups/none", {}, content_type=MERGE_PATCH), NoSuchResource)

    def test_members(self) -> None:
        """PUT: exactly these; POST: these too, each once; DELETE: not this one."""
        groups = self.build()
        groups.make([uri_at(1)])
        for method, more, expected in (
            (Method.POST, [2, 1], [1, 2]),
            (Method.PUT, [3, 4, 3], [3, 4]),
        ):
            document = {"members": [uri_at(number) for number in more]}
            self.assertEqual(self.successResultOf(groups.send(method, "/groups/g/members", document)).status, Status.CHANGED)
            self.assertEqual(self.read(groups, "/groups/g/members"), {"members": [uri_at(number) for number in expected]})
        gone = groups.send(Method.DELETE, "/groups/g/members", query=(("uri", "COAP://d3.example.org:5683/t"),))
        self.assertEqual((self.successResultOf(gone).status, self.read(groups)["members"]), (Status.DELETED, [uri_at(4)]))

    def test_bad_members(self) -> None:
        """A group of nothing, unknown URIs, other documents and methods are refused; the group stays."""
        groups = self.build()
        groups.make([uri_at(1)])
        path = "/groups/g/members"
        self.refused(groups.send(Method.DELETE, path, query=(("uri", uri_at(1)),)), Malformed)
        self.refused(groups.send(Method.DELETE, path, query=(("uri", uri_at(9)),)), NoSuchResource)
        self.assertEqual(self.refused(groups.send(Method.DELETE, path), Malformed).extensions()["field"], "uri")
        self.refused(groups.send(Method.PUT, path, {"members": []}), Malformed)
        self.refused(groups.send(Method.PUT, path, {"uris": [uri_at(1)]}), Malformed)
        self.refused(groups.send(Method.POST, path, {"members": [f"coap://d/{number}" for number in range(10_000)]}), Malformed)
        self.refused(groups.send(Method.PATCH, path, {}), MethodNotAllowed)
        self.refused(groups.send(Method.PUT, "/groups/none/members", {"members": [uri_at(1)]}), NoSuchResource)
        self.assertEqual(self.read(groups)["members"], [uri_at(1)])

    def test_other_methods(self) -> None:
        """POST on a group, writes to its sets and to the collection are refused."""
        groups = self.build()
        groups.make([uri_at(1)])
        for method, path in (
            (Method.POST, "/groups/g"),
            (Method.PUT, "/groups"),
            (Method.DELETE, "/groups"),
            (Method.PUT, "/groups/g/fanoutSets/1"),
            (Method.DELETE, "/groups/g/fanoutSets/1"),
            (Method.DELETE, "/groups/g/fanoutSets"),
        ):
            self.refused(groups.send(method, path, {}), MethodNotAllowed)
        self.refused(groups.send(Method.GET, "/groups/g/other"), NoSuchResource)
        self.refused(groups.send(Method.GET, "/groups/none/members"), NoSuchResource)

    def test_conditions(self) -> None:
        """If-Match and If-None-Match hold for the group as it is shown, joins and all."""
        groups = self.build()
        document = {"members": [uri_at(1)]}
        tag = self.successResultOf(groups.send(Method.PUT, "/groups/g", document, conditions=Conditions(if_none_match=(ANY_ETAG,)))).etag
        assert tag is not None
        self.refused(groups.send(Method.PUT, "/groups/g", document, conditions=Conditions(if_none_match=(ANY_ETAG,))), PreconditionFailed)
        self.assertEqual(self.successResultOf(groups.send(Method.GET, "/groups/g")).etag, tag)
        self.successResultOf(groups.send(Method.POST, "/groups/g/members", {"members": [uri_at(2)]}, conditions=Conditions((tag,))))
        for method, path in ((Method.PUT, "/groups/g"), (Method.DELETE, "/groups/g"), (Method.PUT, "/groups/g/members")):
            body = None if method is Method.DELETE else document
            self.refused(groups.send(method, path, body, conditions=Conditions((tag,))), PreconditionFailed)
        self.assertEqual(self.read(groups)["members"], [uri_at(1), uri_at(2)])

    def test_delete(self) -> None:
        """A deleted group is gone with its sets; again it is 404."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        self.assertEqual(self.successResultOf(groups.send(Method.DELETE, "/groups/g")).status, Status.DELETED)
        self.refused(groups.send(Method.DELETE, "/groups/g"), NoSuchResource)
        self.assertEqual(groups.sets(), [])


class ConcurrentTests(EditCase):
    def test_two_edits_of_one_group(self) -> None:
        """Of two edits under way at once the second is planned from the first: no set of the first is left over."""
        groups = self.build(4, GroupSettings(multicast_threshold=9))
        groups.built.committer.hold()
        first = groups.make([uri_at(number, f"/p{number}") for number in (1, 2, 3, 4)])
        second = groups.send(Method.PUT, "/groups/g", {"members": [uri_at(1, "/p1")]})
        third = groups.send(Method.POST, "/groups/g/members", {"members": [uri_at(2, "/p2")]})
        groups.built.committer.release()
        for done in (first, second, third):
            self.successResultOf(done)
        self.assertEqual([one.members for one in groups.sets()], [(uri_at(1, "/p1"),), (uri_at(2, "/p2"),)])

    def test_two_creations_have_two_addresses(self) -> None:
        """Groups made at once never share an address; a creation that fails gives its address back."""
        groups = self.build(2, pool=(ip_network("ff35::/127"),))
        groups.built.committer.hold()
        made = [groups.make([uri_at(1), uri_at(2)], name=name) for name in "ab"]
        groups.built.committer.fail_held(StorageFailed("broken"))
        for done in made:
            self.refused(done, StorageFailed)
        groups.built.committer.hold()
        made = [groups.make([uri_at(1), uri_at(2)], name=name) for name in "cde"]
        groups.built.committer.release()
        for done in made:
            self.successResultOf(done)
        self.assertEqual(sorted(one.address for name in "cd" for one in groups.sets(name)), ["ff35::", "ff35::1"])
        self.assertEqual([one.is_multicast for one in groups.sets("e")], [False, False])

    def test_a_freed_address_rests(self) -> None:
        """The address of a group that is gone rests; then a group that waits for one has it, also where it was made before a restart."""
        groups = self.build(2, pool=(ip_network("ff35::/128"),))
        for name in "abc":
            groups.make([uri_at(1), uri_at(2)], name=name)
        groups.join_all()
        groups.send(Method.DELETE, "/groups/a")
        groups.send(Method.DELETE, "/groups/b")
        groups.join_all()
        self.assertEqual(self.read(groups, "/node/resting/ff35::"), {"address": "ff35::"})
        self.assertEqual({one.why[one.members[0]] for one in groups.sets("c")}, {NO_ADDRESS})
        groups.clock.advance(QUARANTINE_S - 9)
        self.assertEqual([one.is_multicast for one in groups.sets("c")], [False, False])
        groups.service.stopService()
        groups.service.startService()
        groups.clock.advance(QUARANTINE_S - 1)
        self.assertEqual([one.is_multicast for one in groups.sets("c")], [False, False])
        groups.clock.pump([1.5, 0.1, 1.0])
        self.assertEqual([one.address for one in groups.sets("c")], ["ff35::"])
        groups.send(Method.DELETE, "/groups/c")
        self.successResultOf(groups.make([uri_at(1), uri_at(2)], name="f"))
        self.assertEqual([one.is_multicast for one in groups.sets("f")], [False, False])

    def test_an_address_is_free_when_all_have_left_it(self) -> None:
        """The address of a deleted group is not given to another before its devices have confirmed that they left and it has rested."""
        groups = self.build(2, pool=(ip_network("ff35::/128"),))
        groups.make([uri_at(1), uri_at(2)])
        groups.join_all()
        groups.send(Method.DELETE, "/groups/g")
        groups.requester.answer(groups.requester.waiting[0], Answer("2.02"))
        groups.clock.advance(1.0)
        groups.make([uri_at(1), uri_at(2)], name="h")
        self.assertEqual([one.is_multicast for one in groups.sets("h")], [False, False])
        groups.join_all()
        groups.clock.pump([QUARANTINE_S, 0.0, 1.0])
        self.assertEqual([one.is_multicast for one in groups.sets("h")], [True])

    def test_a_refused_creation_gives_its_address_back(self) -> None:
        """So does one whose name is taken."""
        groups = self.build(2, pool=(ip_network("ff35::/127"),))
        groups.make([uri_at(1)], name="a")
        for _ in range(5):
            self.refused(groups.make([uri_at(1), uri_at(2)], name="a"), Conflict)
        self.successResultOf(groups.make([uri_at(1), uri_at(2)], name="b"))
        self.assertEqual([one.is_multicast for one in groups.sets("b")], [True])

    def test_joins_beside_an_edit(self) -> None:
        """A join that is confirmed while an edit is under way is not lost, and the edit is not either."""
        groups = self.build(3)
        groups.make([uri_at(1), uri_at(2)])
        groups.join_all()
        self.assertEqual(set(groups.sets()[0].joins.values()), {Join.JOINED})
        groups.register(1)
        groups.built.committer.hold()
        edit = groups.send(Method.POST, "/groups/g/members", {"members": [uri_at(3)]})
        groups.join_all()
        groups.built.committer.release()
        self.successResultOf(edit)
        self.assertEqual(groups.sets()[0].joins, {uri_at(1): Join.JOINED, uri_at(2): Join.JOINED, uri_at(3): Join.PENDING})

    def test_joins_written_before_an_edit(self) -> None:
        """An edit that is decided while joins are being written keeps them: nobody has to be told twice."""
        groups = self.build(3)
        groups.make([uri_at(1), uri_at(2)])
        groups.built.committer.hold()
        groups.join_all()
        edit = groups.send(Method.POST, "/groups/g/members", {"members": [uri_at(3)]})
        groups.built.committer.release()
        self.successResultOf(edit)
        self.assertEqual(groups.sets()[0].joins[uri_at(1)], Join.JOINED)
        self.assertEqual(len(groups.requester.sent), 3)

    def test_planned_again_while_it_is_deleted(self) -> None:
        """A device registers while its group is being deleted: the group stays deleted, nothing is logged, nothing waits."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2), uri_at(3)])
        groups.built.committer.hold()
        deleted = groups.send(Method.DELETE, "/groups/g")
        groups.register(3)
        groups.clock.advance(1.0)
        groups.built.committer.release()
        groups.clock.pump([1.0] * 10)
        self.successResultOf(deleted)
        self.assertIsNone(groups.built.tree.find(("groups", "g")))

    def test_deleted_from_outside_while_it_is_planned(self) -> None:
        """Where the whole collection's owner deletes the group in one unit, a plan under way makes nothing new."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2), uri_at(3)])
        groups.built.committer.hold()
        groups.built.committer.commit(Unit((Remove(("groups", "g")),)))
        groups.register(3)
        groups.clock.advance(1.0)
        groups.built.committer.release()
        groups.clock.pump([1.0] * 10)
        self.assertEqual((groups.built.tree.find(("groups", "g")), groups.sets()), (None, []))


class ReplanTests(EditCase):
    def test_a_device_that_registers_later(self) -> None:
        """Members whose devices come later are put into the multicast set then, and keep the address of those who were there."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2), uri_at(3)])
        self.assertEqual([one.is_multicast for one in groups.sets()], [True, False])
        groups.register(3)
        groups.clock.advance(1.0)
        [one] = groups.sets()
        self.assertEqual((one.address, set(one.members)), (FIRST_ADDRESS, {uri_at(1), uri_at(2), uri_at(3)}))

    def test_a_device_that_moves(self) -> None:
        """A unicast row follows its device's address; a multicast set stays, with its joins."""
        groups = self.build(3)
        groups.register(3, multicastEnabled=False)
        groups.make([uri_at(1), uri_at(2), uri_at(3)])
        groups.join_all()
        groups.register(1, addresses=["fd00::e1"])
        groups.register(3, multicastEnabled=False, addresses=["fd00::e3"])
        groups.clock.advance(1.0)
        together, alone = groups.sets()
        self.assertEqual((together.joins[uri_at(1)], alone.address), (Join.JOINED, "fd00::e3"))

    def test_a_device_that_changes_family(self) -> None:
        """A device that comes back with IPv4 only leaves the set of IPv6."""
        groups = self.build(3)
        groups.make([uri_at(number) for number in (1, 2, 3)])
        groups.register(3, addresses=["192.0.2.3"])
        groups.clock.advance(1.0)
        self.assertEqual([(one.address_type.value, one.members) for one in groups.sets()][1], ("unicast-ipv4", (uri_at(3),)))

    def test_a_name_that_becomes_ours(self) -> None:
        """A member that cannot be planned any more (its host is this node's by now, and a group) is logged; other groups go on."""
        groups = self.build(2)
        groups.make(["coap://other.example.org/groups/x", uri_at(1)], name="a")
        groups.make([uri_at(1), uri_at(2)], name="b")
        groups.own.add("other.example.org")
        groups.register(1, multicastEnabled=False)
        groups.clock.pump([0.5, 0.1])
        self.assertEqual([one.is_multicast for one in groups.sets("b")], [False, False])

    def test_nothing_to_plan(self) -> None:
        """Where a device's change means nothing for its groups nothing is written; of a group that is gone there is nothing to plan."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        before = len(groups.built.committer.units)
        groups.register(1, links=[{"href": "/x"}])
        groups.register(1, mcGroups="/other")
        groups.clock.advance(1.0)
        self.assertEqual(len(groups.built.committer.units), before + 2)
        self.assertIsNone(planned_again(groups.service._around, "none", Taking(AddressLedger(tuple))))

    def test_groups_of(self) -> None:
        """The groups of a device are found by any of its names; of a deleted group nothing is found."""
        groups = self.build(2)
        groups.make([uri_at(1), "coap://[fd00::d2]/t"], name="b")
        groups.make(["coap://d1/t"], name="a")
        self.assertEqual((groups.service.groups_of("d1"), groups.service.groups_of("d2")), (["/groups/a", "/groups/b"], ["/groups/b"]))
        groups.send(Method.DELETE, "/groups/b")
        groups.send(Method.PUT, "/groups/a/members", {"members": [uri_at(9)]})
        self.assertEqual((groups.service.groups_of("d1"), groups.service.groups_of("none")), ([], []))


class RequestTests(EditCase):
    def test_requests_are_what_they_say(self) -> None:
        """The helper of these tests makes the request that a client would send."""
        request = build_request(Method.PUT, "/groups/g", {"a": 1})
        self.assertEqual((request.path, request.payload, request.content_type), (("groups", "g"), b'{"a": 1}', "application/json"))
