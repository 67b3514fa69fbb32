"""What an `mcGroup` may be, and how a group request is mapped to the device's own paths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.member.mc_group import MC_GROUP, MC_GROUP_TYPE, Local, McGroup, mapped, mc_group_of
from m2mapp.model.errors import Malformed
from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import Document, Resource

ADDRESS = "ff35:30:3ffe:ffff:1::1234"


def group(name: str, fanout: Path | None, *members: str) -> McGroup:
    """A group at the usual address."""
    return McGroup(name, ADDRESS, fanout, members, 0.25)


def asked(groups: list[McGroup], path: str) -> tuple[str, list[str]] | None:
    """The group that a request is for, and the paths or URIs that its members here are asked."""
    found = mapped(groups, tuple(path[1:].split("/")) if path != "/" else ())
    if found is None:
        return None
    return found[0].name, [local.elsewhere or "/" + "/".join(local.path) for local in found[1]]


def check(**more: object) -> Document:
    """A document as it is kept."""
    return MC_GROUP_TYPE.check("g", {"mcAddress": ADDRESS, "memberList": ["/cc"], **more})


class MappingTests(SynchronousTestCase):
    def test_the_fanout_uri_is_replaced(self) -> None:
        """The local path takes the place of the fan-out URI; what follows stays as suffix (table 2 of the document: /well-known/grp7)."""
        groups = [group("g", ("well-known", "grp7"), "/cc")]
        self.assertEqual(asked(groups, "/well-known/grp7"), ("g", ["/cc"]))
        self.assertEqual(asked(groups, "/well-known/grp7/data/latest"), ("g", ["/cc/data/latest"]))

    def test_segment_by_segment(self) -> None:
        """A path that only begins with the same letters is not asked for."""
        groups = [group("g", ("temp",), "/temp")]
        for path in ("/temperature", "/tem", "/", "/x/temp"):
            self.assertIsNone(asked(groups, path), path)

    def test_the_longest(self) -> None:
        """Of several groups at an address the one with the longest fan-out URI is meant, in whatever order they stand."""
        groups = [group("all", (), "/"), group("a", ("a",), "/x"), group("ab", ("a", "b"), "/y")]
        for order in (groups, groups[::-1]):
            self.assertEqual(asked(order, "/a/b/c"), ("ab", ["/y/c"]))
            self.assertEqual(asked(order, "/a/c"), ("a", ["/x/c"]))
            self.assertEqual(asked(order, "/q"), ("all", ["/q"]))

    def test_the_whole_device(self) -> None:
        """The fan-out URI `/` stands for the device: the request's path is the device's own."""
        self.assertEqual(asked([group("g", (), "/")], "/"), ("g", ["/"]))
        self.assertEqual(asked([group("g", (), "/")], "/temp/x"), ("g", ["/temp/x"]))

    def test_without_fanout_uri(self) -> None:
        """A group without one is asked for by the paths in its list, the longest one; only that member is meant."""
        groups = [group("g", None, "/a", "/a/b", "http://n1.example.com/c")]
        self.assertEqual(asked(groups, "/a/b/x"), ("g", ["/a/b/x"]))
        self.assertEqual(asked(groups, "/a/c"), ("g", ["/a/c"]))
        self.assertEqual(asked(groups, "/c/d"), ("g", ["http://n1.example.com/c/d"]))
        self.assertIsNone(asked(groups, "/d"))

    def test_several_members(self) -> None:
        """Each member gets its own path; one elsewhere its whole URI, with its query; the entries tell them apart."""
        groups = [group("g", ("v",), "/a", "/b", "http://n1.example.com/xxx/temp1?unit=C")]
        self.assertEqual(asked(groups, "/v/s"), ("g", ["/a/s", "/b/s", "http://n1.example.com/xxx/temp1/s?unit=C"]))
        found = mapped(groups, ("v",))
        assert found is not None
        self.assertEqual(
            found[1][2], Local("http://n1.example.com/xxx/temp1?unit=C", ("xxx", "temp1"), "http://n1.example.com/xxx/temp1?unit=C")
        )

    def test_no_group(self) -> None:
        """At an address without groups nothing is asked."""
        self.assertIsNone(asked([], "/a"))

    @given(
        st.lists(st.tuples(st.text("ab", min_size=1, max_size=1), st.lists(st.sampled_from("xy"), max_size=3)), max_size=5),
        st.lists(st.sampled_from("xy"), max_size=4),
    )
    def test_the_longest_of_any(self, groups: list[tuple[str, list[str]]], path: list[str]) -> None:
        """Whatever groups there are: silence where no fan-out URI is a beginning of the path, else the rest behind the longest one."""
        made = [group(name, tuple(fanout), "/m") for name, fanout in groups]
        found = mapped(made, tuple(path))
        depths = [len(fanout) for _, fanout in groups if path[: len(fanout)] == fanout]
        if not depths:
            self.assertIsNone(found)
        else:
            assert found is not None
            self.assertEqual([local.path for local in found[1]], [("m", *path[max(depths) :])])


class DocumentTests(SynchronousTestCase):
    def test_kept_and_back(self) -> None:
        """A document is kept in one form; leisure is DEFAULT_LEISURE where nothing is said; a group without fan-out URI has none."""
        kept = check(mcAddress="FF35:30:3FFE:FFFF:1:0:0:1234", fanoutURI="/xx/aa", memberList=["/cc", "HTTP://N1.example.com"])
        self.assertEqual(
            kept, {"mcAddress": ADDRESS, "fanoutURI": "/xx/aa", "memberList": ["/cc", "http://n1.example.com/"], "leisure": 5.0}
        )
        found = mc_group_of(Resource(("mcGroups", "g"), MC_GROUP, kept, None, None, 0, 0, 1))
        self.assertEqual(found, McGroup("g", ADDRESS, ("xx", "aa"), ("/cc", "http://n1.example.com/"), 5.0))
        self.assertNotIn("fanoutURI", check())
        self.assertIsNone(mc_group_of(Resource(("mcGroups", "g"), MC_GROUP, check(), None, None, 0, 0, 1)).fanout_path)
        self.assertEqual(mc_group_of(Resource(("mcGroups", "g"), MC_GROUP, check(fanoutURI="/"), None, None, 0, 0, 1)).fanout_path, ())

    def test_table_3(self) -> None:
        """The rows of table 3 as the document has them: D8 asks its /cc/data and D9 its /dd/data for /well-known/grp7/data."""
        for name, member in (("mcGrpX", "/cc"), ("mcGrpY", "/dd")):
            row = {"mcAddress": "[FF32:30:3FFE:FFFF:1::1234]", "fanoutURI": "/well-known/grp7/", "memberList": [member]}
            kept = MC_GROUP_TYPE.check(name, row)
            found = mc_group_of(Resource(("mcGroups", name), MC_GROUP, kept, None, None, 0, 0, 1))
            self.assertEqual((found.address, found.fanout_path), ("ff32:30:3ffe:ffff:1::1234", ("well-known", "grp7")))
            self.assertEqual(asked([found], "/well-known/grp7/data"), (name, [f"{member}/data"]))
            self.assertEqual(asked([found], "/well-known/grp7"), (name, [member]))
            for other in ("/well-known/grp70/data", "/well-known", member, f"{member}/data"):
                self.assertIsNone(asked([found], other), other)

    def test_table_1(self) -> None:
        """Grp4: the same path at D1 and D5 needs no replacing, be its path the fan-out URI, or named by the memberList alone."""
        for row in ({"fanoutURI": "/xxx/temp1"}, {}):
            kept = MC_GROUP_TYPE.check("g", {"mcAddress": "[FF32:30:3FFE:FFFF:1::1231]", "memberList": ["/xxx/temp1"], **row})
            found = mc_group_of(Resource(("mcGroups", "g"), MC_GROUP, kept, None, None, 0, 0, 1))
            self.assertEqual(asked([found], "/xxx/temp1/data"), ("g", ["/xxx/temp1/data"]))

    def test_each_member_once(self) -> None:
        """A member that is named twice is asked once."""
        kept = check(fanoutURI="/v", memberList=["/a", "/b", "/a/"])
        found = mc_group_of(Resource(("mcGroups", "g"), MC_GROUP, kept, None, None, 0, 0, 1))
        self.assertEqual(found.members, ("/a", "/b"))

    def test_bad_documents(self) -> None:
        """Each fault names its field."""
        for field, more in (
            ("mcAddress", {"mcAddress": "fd00::1"}),
            ("mcAddress", {"mcAddress": "192.0.2.1"}),
            ("mcAddress", {"mcAddress": "here"}),
            ("mcAddress", {"mcAddress": 7}),
            ("fanoutURI", {"fanoutURI": "no path"}),
            ("fanoutURI", {"fanoutURI": "/a/../b"}),
            ("fanoutURI", {"fanoutURI": "/a//"}),
            ("mcAddress", {"mcAddress": "[ff35::1"}),
            ("fanoutURI", {"fanoutURI": "/" + "a/" * 600}),
            ("memberList", {"memberList": []}),
            ("memberList", {"memberList": ["/a"] * 257}),
            ("memberList[0]", {"memberList": ["a"]}),
            ("memberList[1]", {"memberList": ["/a", "ftp://x/"]}),
            ("memberList[0]", {"memberList": [None]}),
            ("leisure", {"leisure": -1}),
            ("leisure", {"leisure": "long"}),
            ("colour", {"colour": "red"}),
        ):
            self.assertEqual(self.assertRaises(Malformed, check, **more).field, field, more)
