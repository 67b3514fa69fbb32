"""`groups.identifying`: which requests get an identifier, by the document's questions."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.uris import Uri
from m2mapp.groups.group import GROUP, GROUPS
from m2mapp.groups.identifying import ALWAYS, AUTO, Identifiers, NamedGroup, questions, subgroup_in
from m2mapp.model.messages import Method, Request
from m2mapp.tree.unit import Unit, Write
from tests.unit.fakes import build_tree
from tests.unit.groups.parts import uri_at


def is_own(uri: Uri) -> bool:
    """Whether a URI is that of the server g1."""
    return uri.host == "g1.example.org"


class SubgroupTests(SynchronousTestCase):
    def test_which_members_are_groups(self) -> None:
        """By the group's URI or its membersContent, with what follows; of this node only where it has groups."""
        for member, expected in (
            ("http://g1.example.org/groups/b", "b"),
            ("coap://g1.example.org/groups/b/membersContent", "b"),
            ("http://g1.example.org/groups/b/membersContent/data", "b"),
            ("http://g4.example.com/groups/grp4", None),
            ("http://g4.example.com/m2m/groups/grp4/membersContent", None),
        ):
            self.assertEqual(subgroup_in(member, is_own), NamedGroup(member, expected), member)
        for member in (
            uri_at(1),
            "http://g1.example.org/groups/b/members",
            "http://g1.example.org/x/groups/b",
            "http://g4.example.com/groups/b/members",
            "http://g4.example.com/groups",
        ):
            self.assertIsNone(subgroup_in(member, is_own), member)


class QuestionTests(SynchronousTestCase):
    def ask(self, **groups: str) -> tuple[bool, str]:
        """The answer for group `a`; each group has those of its letters as sub-groups, a capital is a group elsewhere."""

        def subgroups_of(name: str) -> Iterator[NamedGroup]:
            return (NamedGroup(letter, None if letter.isupper() else letter) for letter in groups.get(name, ""))

        found = questions("a", subgroups_of)
        return found.needed, found.why

    def test_each_question(self) -> None:
        """Has it a sub-group? Is one remote? Do they contain each other? Each with its reason."""
        self.assertEqual(self.ask(a=""), (False, "a read, and it has no sub-group"))
        self.assertEqual(self.ask(a="bc", b="d", c="d"), (False, "a read, and its groups are all of this node and end"))
        self.assertEqual(self.ask(a="bR"), (True, "R is a group of another node"))
        self.assertEqual(self.ask(a="b", b="a"), (True, "b and a contain each other"))
        self.assertEqual(self.ask(a="a"), (True, "a contains itself"))

    def test_further_down(self) -> None:
        """A remote group, or a circle, below a sub-group counts too; a group that stands in two is no circle."""
        self.assertEqual(self.ask(a="b", b="c", c="R"), (True, "R is a group of another node"))
        self.assertEqual(self.ask(a="b", b="c", c="b"), (True, "c and b contain each other"))
        self.assertEqual(self.ask(a="bb", b="c", c="")[0], False)

    def test_long_chain(self) -> None:
        """A chain of thousands of groups is walked without as many calls."""
        names = {str(number): str(number + 1) for number in range(5_000)}

        def subgroups_of(name: str) -> Iterator[NamedGroup]:
            below = names.get("0" if name == "a" else name)
            return iter([NamedGroup(below, below)] if below is not None else [])

        self.assertFalse(questions("a", subgroups_of).needed)


class PolicyTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Two groups, each in the other's server's tree: `a` with a device, `b` empty."""
        self.built = build_tree()
        self.make("a", uri_at(1))

    def make(self, name: str, *members: str) -> None:
        """A group has these members from now on."""
        self.built.committer.commit(Unit((Write((*GROUPS, name), GROUP, {"members": list(members)}),)))

    def build(self, policy: str) -> Identifiers:
        """Those of a node with this policy."""
        return Identifiers(self.built.tree, is_own, policy, "http://g1.example.org")

    def of(self, identifiers: Identifiers, method: Method = Method.GET, **more: object) -> bytes | None:
        """The identifier of a request to `a`."""
        request = Request(method, (*GROUPS, "a", "membersContent"), **more)  # type: ignore[arg-type]
        return identifiers.of(request, "a", at_servers=False)

    def test_always(self) -> None:
        """Always a new one of eight bytes; the caller's own stays."""
        identifiers = self.build(ALWAYS)
        first, second = self.of(identifiers), self.of(identifiers)
        assert first is not None
        self.assertEqual(len(first), 8)
        self.assertNotEqual(first, second)
        self.assertEqual(self.of(identifiers, request_id=b"12345678"), b"12345678")

    def test_auto(self) -> None:
        """A plain read has none, a write has, and so has a read of a group with groups at other servers."""
        identifiers = self.build(AUTO)
        self.assertIsNone(self.of(identifiers))
        self.assertEqual(self.of(identifiers, request_id=b"12345678"), b"12345678")
        for method in (Method.PUT, Method.POST, Method.DELETE):
            self.assertIsNotNone(self.of(identifiers, method))
        self.assertEqual(identifiers.asked(Method.GET, "a", at_servers=True).why, "it has a group at another server")

    def test_groups_change(self) -> None:
        """A group that comes to contain its group is seen at the next request."""
        identifiers = self.build(AUTO)
        self.make("a", uri_at(1), "http://g1.example.org/groups/b")
        self.assertIsNone(self.of(identifiers))
        self.make("b", "http://g1.example.org/groups/a/membersContent")
        self.assertIsNotNone(self.of(identifiers))

    def test_tags(self) -> None:
        """A request without an identifier has no tag either."""
        identifiers = self.build(AUTO)
        self.assertIsNone(identifiers.tag("a", None))
        self.assertNotEqual(identifiers.tag("a", b"12345678"), identifiers.tag("b", b"12345678"))
