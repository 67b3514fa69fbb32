"""The groups of US 9,450,772 with their names, members and addresses: Grp1 to Grp12, and its tables 1, 2 and 3.

Where the document has `FF32:...` as a multicast prefix the addresses are taken as they stand there. Its devices are registered as the
figures 2-B, 2-D and 2-E show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.advertisement import mc_group
from m2mapp.groups.group import FANOUT_SET, AddressType, FanoutSet, Join
from m2mapp.groups.plan import GroupServer, Member, Policy, plan
from m2mapp.groups.sharing import NO_WIDE, Wide
from m2mapp.member.mc_group import MC_GROUP_TYPE, Local, mapped, mc_group_of
from m2mapp.model.identifiers import path_text
from m2mapp.tree.registrations import Device
from m2mapp.tree.unit import Resource
from tests.unit.groups.parts import build_device

D2 = GroupServer("http://d2.example.com", "3ffe:2a00:100:7031::2")
G1 = GroupServer("http://g1.example.com")
G2 = GroupServer("http://g2.example.com", "3ffe:2a00:100:7031::3")
N1 = GroupServer("http://n1.example.com", "3ffe:2a00:100:7031::1")
PLATFORM = build_device(1, name="n1", hosts=("n1.example.org",), addresses=("3ffe:2a00:100:7031::1",), port=80, scheme="http")
GLOBAL = "ff3e:30:3ffe:ffff:1::1111"

Row = tuple[list[str], str, str]
"""A line of table 1 or 2: member resources, the address of the column "Multicast Address", the fan-out URI."""


def address_of(number: int) -> Callable[[int], str | None]:
    """A pool whose only address is the document's FF32:30:3FFE:FFFF:1::<number>."""
    left = [f"ff32:30:3ffe:ffff:1::{number}"]
    return lambda version: left.pop() if left and version == 6 else None


def wide(address: str | None = GLOBAL) -> Wide:
    """A global pool of one address, or of none."""
    left = [address] if address is not None else []
    return Wide(lambda _: left.pop() if left else None, left.append, lambda given: given == address)


def device_of(host: str) -> Device:
    """The registration of a document's device or gateway by its host: d5.example.org is the device d5."""
    name = host.partition(".")[0]
    return build_device(1, name=name, hosts=(host,), addresses=(f"3ffe:2a00:100:{ord(name[0]):x}::{name[1:]}",))


def member(uri: str, through: GroupServer | None = None, device: Device | None = None) -> Member:
    """A member at a device that is registered at the group server itself, or at another one."""
    parsed = parse_uri(uri)
    found = device or (device_of(parsed.host) if parsed.scheme == "coap" else None)
    return Member(parsed, found, through=through)


def policy(name: str, groups_at: Mapping[str, str] | None = None) -> Policy:
    """What a group of that name is planned by. `groups_at`: the names that its groups at other servers have in the document."""
    names = groups_at or {}
    return Policy(virtual_path=("well-known", name), group_at=lambda server: f"{server}/groups/{names[server]}")


def rows(sets: Iterable[FanoutSet], members: Mapping[str, str]) -> list[Row]:
    """The fan-out sets as the document's table has them, with its names of members."""
    names = {parse_uri(uri).text(): name for name, uri in members.items()}
    return [([names[uri] for uri in one.members], one.address, path_text(one.path)) for one in sets]


GRP4 = {"m41": "coap://d1.example.org/xxx/temp1", "m42": "coap://d5.example.org/xxx/temp1"}
GRP5 = {"m51": "coap://d1.example.org/", "m52": "coap://d5.example.org/", "m53": "coap://d6.example.org/"}
GRP6 = {"m61": "coap://d5.example.org/xx", "m62": "coap://d6.example.org/yy", "m63": "coap://d6.example.org/zz"}
GRP7 = {
    "m71": "coap://d1.example.org/xx/aa",
    "m72": "coap://d5.example.org/xx/aa",
    "m73": "coap://d6.example.org/yy/bb",
    "m74": "coap://d7.example.org/yy/bb",
    "m75": "coap://d8.example.org/cc",
    "m76": "coap://d9.example.org/dd",
    "m77": "http://n1.example.org/abc",
}
GRP3 = {
    "m31": "http://d2.example.com/xxx/temp1",
    "m32": "http://d2.example.com/xxx/temp2",
    "m33": "coap://d3.example.com/xxx/temp1",
    "m34": "coap://d4.example.com/xxx/temp1",
}


def planned_grp7() -> list[FanoutSet]:
    """Grp7 on the gateway G1: D1, D5 to D9 are registered there, N1 is the platform."""
    members = [member(uri, device=PLATFORM if uri.startswith("http") else None) for uri in GRP7.values()]
    return plan(members, policy("grp7"), [], address_of(1234))


class Table1Tests(SynchronousTestCase):
    def test_grp4(self) -> None:
        """First case, table 1: the same access path on all devices of G1; one address, and the path as fan-out URI."""
        sets = plan(map(member, GRP4.values()), policy("grp4"), [], address_of(1231))
        # The table prints /x/temp1; the members and the request in step 103 have /xxx/temp1.
        self.assertEqual(rows(sets, GRP4), [(["m41", "m42"], "ff32:30:3ffe:ffff:1::1231", "/xxx/temp1")])
        self.assertEqual(set(sets[0].why.values()), {"same path, local domain"})


class Table2Tests(SynchronousTestCase):
    def test_grp5(self) -> None:
        """Second case: the members are whole devices; the fan-out URI is the root."""
        sets = plan(map(member, GRP5.values()), policy("grp5"), [], address_of(1232))
        self.assertEqual(rows(sets, GRP5), [(["m51", "m52", "m53"], "ff32:30:3ffe:ffff:1::1232", "/")])

    def test_grp6(self) -> None:
        """Third case: different access paths, two of them on one device; one virtual fan-out URI for all."""
        sets = plan(map(member, GRP6.values()), policy("grp6"), [], address_of(1233))
        self.assertEqual(rows(sets, GRP6), [(["m61", "m62", "m63"], "ff32:30:3ffe:ffff:1::1233", "/well-known/grp6")])
        self.assertEqual(set(sets[0].why.values()), {"different paths, mapped from /well-known/grp6, local domain"})

    def test_grp7(self) -> None:
        """Fourth case: two parts with a path of their own, one without, and one member that takes only HTTP; one address, three sets."""
        address = "ff32:30:3ffe:ffff:1::1234"
        expected = [
            (["m71", "m72"], address, "/xx/aa"),
            (["m73", "m74"], address, "/yy/bb"),
            (["m75", "m76"], address, "/well-known/grp7"),
            (["m77"], "3ffe:2a00:100:7031::1", "/abc"),
        ]
        sets = planned_grp7()
        self.assertEqual(rows(sets, GRP7), expected)
        self.assertEqual(sets[3].why, {GRP7["m77"]: "http cannot be multicast"})

    def test_grp3(self) -> None:
        """Fifth case: nobody is local and there is no global address; Grp8 is made on D2 for its members, Grp9 on G2."""
        servers = {"m31": D2, "m32": D2, "m33": G2, "m34": G2}
        names = {"http://d2.example.com": "grp8", "http://g2.example.com": "grp9"}
        members = [member(uri, servers[name]) for name, uri in GRP3.items()]
        sets = plan(members, policy("grp3", names), [], address_of(9999))
        expected = [
            (["m31", "m32"], "3ffe:2a00:100:7031::2", "/groups/grp8"),
            (["m33", "m34"], "3ffe:2a00:100:7031::3", "/groups/grp9"),
        ]
        self.assertEqual(rows(sets, GRP3), expected)
        self.assertEqual([one.address_type for one in sets], [AddressType.GROUP] * 2)
        self.assertEqual([one.group for one in sets], ["http://d2.example.com/groups/grp8", "http://g2.example.com/groups/grp9"])
        self.assertEqual(sets[1].joins, {sets[1].group: Join.PENDING})
        self.assertEqual(sets[1].why[GRP3["m33"]], "reached through http://g2.example.com")

    def test_grp3_alone(self) -> None:
        """Step 203-7: where D2 and G2 are no group servers, the members of Grp3 are asked one by one."""
        nobody = [Member(parse_uri(uri), None, unknown="its device is not registered at any known node") for uri in GRP3.values()]
        sets = plan(nobody, policy("grp3"), [], address_of(9999))
        self.assertEqual([one.members for one in sets], [(uri,) for uri in GRP3.values()])
        self.assertEqual(sets[0].why[GRP3["m31"]], "http cannot be multicast")
        self.assertEqual(sets[2].why[GRP3["m33"]], "its device is not registered at any known node")

    def test_grp3_below_the_threshold(self) -> None:
        """Step 203-3: with m31 alone on D2 no group is made there at a threshold of 2, and one is at 1."""
        alone = member(GRP3["m31"], D2)
        given = policy("grp3", {"http://d2.example.com": "grp8"})
        [row] = plan([alone], given, [], address_of(9999))
        self.assertEqual(row.address_type, AddressType.UNICAST_IPV4)
        self.assertIn("fewer than 2 members are reached through http://d2.example.com", row.why[GRP3["m31"]])
        one = Policy(subgroup_threshold=1, group_at=given.group_at)
        self.assertEqual([each.group for each in plan([alone], one, [], address_of(9999))], ["http://d2.example.com/groups/grp8"])


class Table3Tests(SynchronousTestCase):
    def resource_on(self, uri: str) -> Resource:
        """The mcGroup that the device of a member of Grp7's virtual set is told."""
        one = planned_grp7()[2]
        kept = Resource(("groups", "grp7", "fanoutSets", one.name), FANOUT_SET, one.document(), None, None, 0, 0, 1)
        document = mc_group(kept, [uri])
        assert document is not None
        return Resource(("mcGroups", "mcGrpX"), "mcGroup", MC_GROUP_TYPE.check("mcGrpX", document), None, None, 0, 0, 1)

    def test_what_d8_and_d9_hold(self) -> None:
        """Table 3: the address and virtual URI of Grp7, each with the path of the device's own member."""
        for name, path in (("m75", "/cc"), ("m76", "/dd")):
            held = self.resource_on(GRP7[name]).attributes
            self.assertEqual(
                (held["mcAddress"], held["fanoutURI"], held["memberList"]), ("ff32:30:3ffe:ffff:1::1234", "/well-known/grp7", [path])
            )

    def test_how_they_map(self) -> None:
        """GET /well-known/grp7/data becomes /cc/data on D8 and /dd/data on D9 (figure 3-A)."""
        for name, path in (("m75", "cc"), ("m76", "dd")):
            found = mapped([mc_group_of(self.resource_on(GRP7[name]))], ("well-known", "grp7", "data"))
            assert found is not None
            self.assertEqual(found[1], [Local(f"/{path}", (path, "data"))])


class OtherGroupsTests(SynchronousTestCase):
    def test_grp1(self) -> None:
        """Step 202-3: of Grp1 on N1 m11 and m13 share a path; m12's is another, and m14 takes only HTTP."""
        members = {
            "m11": "coap://d1.example.com/xxx/temp1",
            "m12": "coap://d1.example.com/yyy/temp2",
            "m13": "coap://g1.example.com/xxx/temp1",
            "m14": "http://n1.example.com/xxx/temp1",
        }
        given = [member(uri) for uri in list(members.values())[:3]]
        sets = plan([*given, Member(parse_uri(members["m14"]), None, local=True)], policy("grp1"), [], address_of(1111))
        self.assertEqual([row[0] for row in rows(sets, members)], [["m11", "m13"], ["m14"], ["m12"]])
        self.assertEqual([one.is_multicast for one in sets], [True, False, False])

    def test_grp2(self) -> None:
        """Figure 2-B: m21 on N1 is reached through G1, to which D1 speaks multicast CoAP: it is multicast like G1's own."""
        gateway = device_of("g1.example.com")
        members = [member("coap://g1.example.com/m21", device=gateway), member("coap://d5.example.com/m21")]
        [one] = plan(members, policy("grp2"), [], address_of(1112))
        self.assertTrue(one.is_multicast)
        told = MC_GROUP_TYPE.check(
            "grp2", {"mcAddress": one.address, "fanoutURI": "/m21", "memberList": ["http://n1.example.com/xxx/temp1"]}
        )
        found = mapped([mc_group_of(Resource(("mcGroups", "grp2"), "mcGroup", told, None, None, 0, 0, 1))], ("m21", "data"))
        assert found is not None
        self.assertEqual(found[1][0].elsewhere, "http://n1.example.com/xxx/temp1/data")

    def test_grp10(self) -> None:
        """Figure 4: on N1, which has the global addresses, D1 and D2 under G1 get one of them; registered at N1 itself, a local one."""
        uris = ["coap://d1.example.com/m101", "coap://d2.example.com/m101"]
        [one] = plan([member(uri, G1) for uri in uris], policy("grp10"), [], address_of(1113), wide())
        self.assertEqual((one.address, set(one.why.values())), (GLOBAL, {"same path, global address"}))
        [one] = plan([member(uri) for uri in uris], policy("grp10"), [], address_of(1113), wide())
        self.assertEqual(one.address, "ff32:30:3ffe:ffff:1::1113")

    def test_grp11_with_a_global_address(self) -> None:
        """Figure 5: D1 and D2 belong to N1, which lends G1 a global address for Grp11."""
        uris = ["coap://d1.example.com/m111", "coap://d2.example.com/m112"]
        [one] = plan([member(uri, N1) for uri in uris], policy("grp11"), [], address_of(1114), wide())
        self.assertEqual((one.address, one.path, one.members), (GLOBAL, ("well-known", "grp11"), tuple(uris)))

    def test_grp11_through_grp12(self) -> None:
        """Figures 6A and 6B: without a global address Grp12 is made on N1, and its URI stands in Grp11."""
        uris = ["coap://d1.example.com/m111", "coap://d2.example.com/m112"]
        given = policy("grp11", {"http://n1.example.com": "grp12"})
        [one] = plan([member(uri, N1) for uri in uris], given, [], address_of(1114), NO_WIDE)
        self.assertEqual((one.group, one.address, one.path), ("http://n1.example.com/groups/grp12", N1.address, ("groups", "grp12")))

    def test_not_all_local(self) -> None:
        """Step 203-5: with one outsider in a set all share the global address, also sets of local devices only."""
        locals_ = [member(f"coap://d{number}.example.org/a") for number in (1, 5)]
        mixed = [member("coap://d6.example.org/b"), member("coap://d2.example.com/b", N1)]
        sets = plan([*locals_, *mixed], policy("g"), [], address_of(1115), wide())
        self.assertEqual([(one.path, one.address) for one in sets], [(("a",), GLOBAL), (("b",), GLOBAL)])

    def test_no_global_address(self) -> None:
        """Step 203-2, no: local members are planned without the outsiders, who are asked as their server's."""
        taken = wide(None)
        locals_ = [member(f"coap://d{number}.example.org/a") for number in (1, 5)]
        outside = [member("coap://d2.example.com/a", N1)]
        sets = plan([*locals_, *outside], policy("g"), [], address_of(1116), taken)
        self.assertEqual(
            [one.members for one in sets], [("coap://d1.example.org/a", "coap://d5.example.org/a"), ("coap://d2.example.com/a",)]
        )
        self.assertIn("there is no global address", sets[1].why["coap://d2.example.com/a"])

    def test_a_group_server_that_is_a_local_device(self) -> None:
        """Steps 203-8 and 203-9: group servers that are member devices of this one share a local address, once their groups are there."""
        servers = [GroupServer(f"coap://g{number}.example.org", device=device_of(f"g{number}.example.org")) for number in (2, 3)]
        members = [member(f"coap://d{number}{place}.example.org/t", servers[place]) for number in (3, 4) for place in (0, 1)]
        given = policy("grp9", {server.uri: "g1-grp9" for server in servers})
        made = plan(members, given, [], address_of(1117))
        self.assertEqual([one.address for one in made], ["g2.example.org", "g3.example.org"])
        there = [replace(one, joins={one.group: Join.JOINED}) for one in made]
        sets = plan(members, given, there, address_of(1117))
        self.assertEqual([one.address for one in sets], ["ff32:30:3ffe:ffff:1::1117"] * 2)
        self.assertEqual({(one.address_type, one.path) for one in sets}, {(AddressType.GROUP, ("groups", "g1-grp9"))})
        self.assertEqual([one.joins for one in sets], [{one.group: Join.PENDING} for one in sets])
        self.assertEqual(plan(members, given, sets, address_of(1118)), sets)
        with_one_more = plan([*members, member("coap://d5.example.org/t", servers[0])], given, sets, address_of(1118))
        self.assertEqual([one.address for one in with_one_more], ["g2.example.org", "g3.example.org"])
