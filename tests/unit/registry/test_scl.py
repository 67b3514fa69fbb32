"""`registry.scl`: the document of a registration."""

from __future__ import annotations

from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Malformed
from m2mapp.registry.scl import SCL_TYPE, check, describe, name_of
from m2mapp.tree.registrations import device_of
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from m2mapp.tree.unit import Resource


class CheckTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """An empty document is a registration with every default, the lifetime of RFC 9176 and the scheme's port."""
        self.assertEqual(
            check("d1", {}),
            {
                "hosts": [],
                "addresses": [],
                "port": 5683,
                "scheme": "coap",
                "multicastEnabled": False,
                "groupServer": False,
                "mcGroups": "/mcGroups",
                "fixedGroups": [],
                "lifetime": 90_000,
                "links": [],
                "attributes": {},
            },
        )
        self.assertEqual(check("d1", {"scheme": "https"})["port"], 443)

    def test_document_of_the_specification(self) -> None:
        """The document of spec section 12 is kept as it stands."""
        given = {
            "hosts": ["d1.example.org"],
            "addresses": ["fd00::d1"],
            "port": 5683,
            "scheme": "coap",
            "multicastEnabled": True,
            "groupServer": False,
            "mcGroups": "/mcGroups",
            "fixedGroups": [],
            "lifetime": 3600,
        }
        kept = check("d1", given)
        self.assertEqual({name: kept[name] for name in given}, given)

    def test_canonical_forms(self) -> None:
        """Hosts are kept in lower case, addresses in one form each, repeats once; a link-local address keeps its zone."""
        kept = check(
            "d1",
            {
                "hosts": ["D1.Example.ORG", "d1.example.org"],
                "addresses": ["FD00:0::00D1", "fd00::d1", "::ffff:192.0.2.1", "FE80::1%eth1"],
                "fixedGroups": ["FF35:0::1", "239.0.0.1"],
            },
        )
        self.assertEqual(kept["hosts"], ["d1.example.org"])
        self.assertEqual(kept["addresses"], ["fd00::d1", "192.0.2.1", "fe80::1%eth1"])
        self.assertEqual(kept["fixedGroups"], ["ff35::1", "239.0.0.1"])

    def test_what_was_read_can_be_written_back(self) -> None:
        """Members that only a GET shows are no fault and are not kept."""
        shown: dict[str, object] = {
            "name": "d1",
            "registeredAt": "http://g1",
            "lastSeen": None,
            "expires": "2027",
            "groups": [],
            "source": "fd00::bad",
        }
        self.assertEqual(check("d1", shown), check("d1", {}))

    BAD: ClassVar[list[tuple[str, object]]] = [
        ("colour", "red"),
        ("hosts", "d1.example.org"),
        ("hosts", ["d1 example"]),
        ("hosts", [f"d{number}" for number in range(17)]),
        ("addresses", ["fd00::x"]),
        ("addresses", ["ff02::1"]),
        ("addresses", ["::"]),
        ("addresses", ["fd00::1%eth1"]),
        ("addresses", ["fe80::1%a\nb"]),
        ("addresses", [7]),
        ("port", 0),
        ("port", 65536),
        ("port", True),
        ("scheme", "ftp"),
        ("multicastEnabled", "yes"),
        ("mcGroups", "mcGroups"),
        ("mcGroups", "/a/../b"),
        ("mcGroups", 5),
        ("mcGroups", "http://other.example.org/mcGroups"),
        ("mcGroups", "ftp://d1/mcGroups"),
        ("fixedGroups", ["fd00::1"]),
        ("fixedGroups", ["ff02::1%eth0"]),
        ("fixedGroups", [None]),
        ("lifetime", 0),
        ("lifetime", 2**32),
        ("lifetime", 1.5),
        ("links", [{"rt": "temperature"}]),
        ("links", ["/temp"]),
        ("links", [{"href": "/a b"}]),
        ("links", [{"href": "/a", "rt": 5}]),
        ("attributes", []),
        ("attributes", {"a b": "c"}),
        ("attributes", {"et": []}),
        ("attributes", {"et": "x" * 256}),
        ("attributes", {f"a{number}": "" for number in range(33)}),
    ]

    def test_bad_members_are_named(self) -> None:
        """Each bad member is refused with an error that names it."""
        for member, value in self.BAD:
            error = self.assertRaises(Malformed, check, "d1", {member: value})
            self.assertTrue(error.field.startswith(member), f"{member}={value!r}: {error}")

    def test_index_can_read_what_is_kept(self) -> None:
        """The document has every member that the index of the tree takes a device from."""
        kept = check("d1", {"hosts": ["d1"], "addresses": ["192.0.2.1"], "multicastEnabled": True, "scheme": "coaps"})
        device = device_of(Resource(("scls", "d1"), "scl", kept, None, None, 0, 0, 1))
        self.assertEqual((device.hosts, device.addresses, device.port, device.scheme), (("d1",), ("192.0.2.1",), 5684, "coaps"))
        self.assertTrue(device.multicast_enabled)


class DescribeTests(SynchronousTestCase):
    def test_shows_name_and_last_seen_and_no_source(self) -> None:
        """The representation has the name and when the device was last seen, and not where it registered from."""
        tree = Tree(Types([SCL_TYPE]).derived, self.fail)
        resource = Resource(("scls", "d1"), "scl", {**check("d1", {}), "source": "fd00::1"}, None, None, 0, 0, 1)
        tree.load([(resource, None)], 1)
        shown = describe(resource, tree)
        self.assertEqual((shown["name"], shown["lastSeen"], "source" in shown), ("d1", None, False))
        tree.volatile(resource.path)["lastSeen"] = 1_700_000_000_000
        self.assertEqual(describe(resource, tree)["lastSeen"], "2023-11-14T22:13:20.000Z")


class NameTests(SynchronousTestCase):
    def test_endpoint_and_sector(self) -> None:
        """A registration is named by its endpoint, and with its sector where it has one."""
        self.assertEqual((name_of("d1", None), name_of("d1", "floor2")), ("d1", "d1@floor2"))

    def test_no_two_endpoints_share_a_name(self) -> None:
        """An endpoint whose name has the dividing sign is told apart from one in a sector, and a slash makes no second segment."""
        names = [name_of("a@b", None), name_of("a", "b"), name_of("a%40b", None), name_of("a/b", None), name_of("a%2Fb", None)]
        self.assertEqual(names, ["a%40b", "a@b", "a%2540b", "a%2Fb", "a%252Fb"])
