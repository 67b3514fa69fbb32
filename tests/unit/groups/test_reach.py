"""How members are reached, kept until it changes."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.uris import Uri
from m2mapp.groups.fanout import Target
from m2mapp.groups.group import FANOUT_SET, AddressType, Join, group_types
from m2mapp.groups.reach import Reaches, reach
from m2mapp.registry.scl import SCL_TYPE, check
from m2mapp.tree.registrations import SCL, SCLS, Registrations
from m2mapp.tree.unit import Unit, Write
from tests.unit.fakes import Built, build_tree
from tests.unit.groups.parts import FIRST_ADDRESS, NODE_NAME, build_set, uri_at


def build(*joins: Join, name: str = "g", built: Built | None = None) -> tuple[Built, Registrations]:
    """A group with one set whose members d1, d2... are so far."""
    built = built or build_tree((SCL_TYPE, *group_types(lambda group: group)))
    states = {uri_at(number): join for number, join in enumerate(joins, 1)}
    one = replace(build_set(states), joins=states)
    built.committer.commit(Unit((Write(("groups", name, "fanoutSets", "1"), FANOUT_SET, one.document()),)))
    return built, Registrations(built.tree)


def is_own(uri: Uri) -> bool:
    """Whether a URI is the node's."""
    return uri.host == NODE_NAME


class ReachTests(SynchronousTestCase):
    def test_who_has_joined(self) -> None:
        """Members that have joined are one request, to where their devices are; the others are asked alone."""
        built, registrations = build(Join.JOINED, Join.PROVEN, Join.PENDING, Join.FAILED, Join.UNSUPPORTED)
        document = check("", {"hosts": ["d1.example.org"], "addresses": ["fd00::d1", "192.0.2.1"], "port": 7000})
        built.committer.commit(Unit((Write((*SCLS, "d1"), SCL, document),)))
        found = reach(built.tree, registrations, is_own, "g")
        [leg] = found.legs
        self.assertEqual((leg.address, leg.path), (FIRST_ADDRESS, ("t",)))
        self.assertEqual(leg.targets, (Target(uri_at(1), ("fd00::d1", "192.0.2.1"), 7000), Target(uri_at(2), ("d2.example.org",), 5683)))
        self.assertEqual((found.alone, found.size), ((uri_at(3), uri_at(4), uri_at(5)), 5))
        self.assertEqual(sorted(found.everybody), [uri_at(number) for number in range(1, 6)])

    def test_a_single_one(self) -> None:
        """A single member that has joined is asked alone; a group that is not there has nobody."""
        built, registrations = build(Join.JOINED, Join.PENDING)
        self.assertEqual(reach(built.tree, registrations, is_own, "g").alone, (uri_at(1), uri_at(2)))
        self.assertEqual(reach(built.tree, registrations, is_own, "none").size, 0)

    def test_two_devices_at_one_address(self) -> None:
        """Of devices that share an address the one at the port is meant."""
        built, registrations = build(Join.JOINED)
        for number, port in ((1, 5001), (2, 5002)):
            document = check("", {"addresses": ["192.0.2.1"], "port": port})
            built.committer.commit(Unit((Write((*SCLS, f"d{number}"), SCL, document),)))
        uris = ["coap://192.0.2.1:5001/t", "coap://192.0.2.1:5002/t"]
        one = replace(build_set(uris), joins=dict.fromkeys(uris, Join.JOINED))
        built.committer.commit(Unit((Write(("groups", "h", "fanoutSets", "1"), FANOUT_SET, one.document()),)))
        [leg] = reach(built.tree, registrations, is_own, "h").legs
        self.assertEqual([(target.addresses, target.port) for target in leg.targets], [(("192.0.2.1",), 5001), (("192.0.2.1",), 5002)])

    def test_groups(self) -> None:
        """Members that are groups: those of this node by their names, others by where their members are asked, each once."""
        built, registrations = build(Join.PENDING)
        given = (f"http://{NODE_NAME}/groups/h", "http://g2/groups/x", "http://g2/groups/x/membersContent")
        for number, uri in enumerate(given, 2):
            one = build_set([uri], name=str(number), address_type=AddressType.GROUP, joins={})
            built.committer.commit(Unit((Write(("groups", "g", "fanoutSets", str(number)), FANOUT_SET, one.document()),)))
        found = reach(built.tree, registrations, is_own, "g")
        self.assertEqual((found.here, found.alone), (((given[0], "h"),), (uri_at(1), given[2])))
        self.assertEqual((found.keepers, [(one.uri, one.given) for one in found.subgroups]), ({given[2]}, [(given[2], given[2])]))


class KeptTests(SynchronousTestCase):
    def test_kept_until_void(self) -> None:
        """The same is given until somebody says that it has changed."""
        built, registrations = build(Join.JOINED, Join.JOINED)
        reaches = Reaches(built.tree, registrations, is_own)
        first = reaches.of("g")
        self.assertIs(reaches.of("g"), first)
        reaches.void("g")
        reaches.void("none")
        self.assertIsNot(reaches.of("g"), first)

    def test_bounded(self) -> None:
        """Those of the groups that were asked last are kept, up to so many members; the one that is asked always is."""
        built, registrations = build(Join.JOINED, Join.JOINED, name="a")
        for name in "bc":
            build(Join.JOINED, Join.JOINED, name=name, built=built)
        reaches = Reaches(built.tree, registrations, is_own, most=4)
        kept = {name: reaches.of(name) for name in "ab"}
        self.assertIs(reaches.of("a"), kept["a"])
        reaches.of("c")
        self.assertIs(reaches.of("a"), kept["a"])
        self.assertIsNot(reaches.of("b"), kept["b"])
        small = Reaches(built.tree, registrations, is_own, most=1)
        self.assertIs(small.of("a"), small.of("a"))
