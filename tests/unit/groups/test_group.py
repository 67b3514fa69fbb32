"""What a group is and what its sets are: documents in and out."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import dump_json, load_json
from m2mapp.groups.group import (
    FANOUT_SET,
    AddressType,
    Join,
    check_group,
    expected_sets,
    group_types,
    multicast_address,
    raw_joins,
    set_of,
    sets_of,
)
from m2mapp.model.errors import Malformed, MethodNotAllowed
from m2mapp.tree.unit import Resource, Unit, Write
from tests.unit.fakes import build_tree
from tests.unit.groups.parts import FIRST_ADDRESS, build_set, uri_at


class CheckTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """A group needs members; it is static and not reliable unless it says so; its leisure is computed."""
        self.assertEqual(check_group("g", {"members": [uri_at(1)]}), {"type": "static", "reliable": False, "members": [uri_at(1)]})

    def test_one_form_and_each_once(self) -> None:
        """Members are kept in one form, each once; what a GET shows can be written back."""
        given = {
            "name": "g",
            "members": ["COAP://D1.example.org:5683/t", uri_at(1), "http://n1.example.org:80"],
            "leisure": 2,
            "uri": "http://g1/groups/g",
            "state": "ready",
            "fanoutSets": [],
        }
        kept = check_group("g", given)
        self.assertEqual((kept["members"], kept["leisure"]), ([uri_at(1), "http://n1.example.org/"], 2.0))

    def test_bad_members(self) -> None:
        """What is no URI is refused with its place; so are none, too many, and what is no list."""
        for members, field in (
            (["temp1"], "members[0]"),
            ([uri_at(1), "coap://d1/../x"], "members[1]"),
            ([uri_at(1), 7], "members[1]"),
            (["ftp://d1/x"], "members[0]"),
            ([], "members"),
            ([uri_at(1)] * 10_001, "members"),
            (uri_at(1), "members"),
            (None, "members"),
        ):
            fault = self.assertRaises(Malformed, check_group, "g", {"members": members})
            self.assertEqual(fault.field, field)

    def test_bad_members_elsewhere(self) -> None:
        """Unknown members of the document, and wrong types, are refused with their names."""
        for name, value in (("colour", "red"), ("reliable", "yes"), ("type", "odd"), ("leisure", -1), ("leisure", "1 s"), ("type", None)):
            fault = self.assertRaises(Malformed, check_group, "g", {"members": [uri_at(1)], name: value})
            self.assertEqual(fault.field, name)

    def test_types(self) -> None:
        """A group of each type has what it needs and nothing else; the time is kept in one form."""
        kept = check_group("g", {"type": "temporary", "members": [uri_at(1)], "expires": "2030-01-01T01:00:00+01:00"})
        self.assertEqual(kept["expires"], "2030-01-01T00:00:00.000Z")
        self.assertEqual(check_group("g", {"type": "dynamic", "query": "rt=t", "leftOut": 3})["members"], [])
        for document in ({"query": "rt=t"}, {"type": "dynamic", "query": "rt=t", "members": [uri_at(1)]}, {"type": "temporary"}):
            self.assertRaises(Malformed, check_group, "g", document)


class SetTests(SynchronousTestCase):
    def test_document_and_back(self) -> None:
        """A set survives being kept as JSON, whatever its path and its joins."""
        joins = {uri_at(1): Join.PROVEN, uri_at(2): Join.UNSUPPORTED}
        for one in (
            build_set(joins, joins=joins, leisure_s=2.5),
            build_set(joins, path=()),
            build_set(joins, path=("a", "b c"), address_type=AddressType.UNICAST_IPV4, joins={}, leisure_s=3.0),
        ):
            kept = load_json(dump_json(one.document()))
            assert isinstance(kept, dict)
            self.assertEqual(set_of(Resource(("groups", "g", "fanoutSets", "1"), FANOUT_SET, kept, None, None, 0, 0, 1)), one)

    def test_the_short_looks(self) -> None:
        """The address and the joins are read without the rest; a unicast row has no multicast address."""
        one = build_set([uri_at(1)])
        resource = Resource((), FANOUT_SET, one.document(), None, None, 0, 0, 1)
        self.assertEqual((multicast_address(resource), raw_joins(resource)), (FIRST_ADDRESS, {uri_at(1): "pending"}))
        row = replace(resource, attributes=replace(one, address_type=AddressType.UNICAST_IPV6).document())
        self.assertIsNone(multicast_address(row))

    def test_committed_and_expected(self) -> None:
        """`sets_of` shows what is committed, `expected_sets` the joins that are being written."""
        built = build_tree(group_types(lambda name: name))
        path, one = ("groups", "g", "fanoutSets", "1"), build_set([uri_at(1)])
        built.committer.commit(Unit((Write(path, FANOUT_SET, one.document()),)))
        built.committer.hold()
        joined = replace(one, joins={uri_at(1): Join.JOINED})
        built.committer.commit(Unit((Write(path, FANOUT_SET, joined.document()),)))
        self.assertEqual((sets_of(built.tree, "g"), expected_sets(built.tree, "g")), ([one], [joined]))
        built.committer.release()

    def test_nobody_writes_a_set(self) -> None:
        """A set is made by planning only."""
        kind = group_types(lambda name: name)[1]
        self.assertRaises(MethodNotAllowed, kind.check, "1", {})
