"""`groups.identifying`: which requests get an identifier, by the document's questions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.group import GROUPS
from m2mapp.groups.identifying import ALWAYS, AUTO, Identifiers, questions
from m2mapp.groups.nested import Known
from m2mapp.model.messages import Method, Request
from tests.unit.groups.parts import uri_at
from tests.unit.groups.test_nested import OWN, THERE, Ground


class QuestionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ground = Ground()

    def ask(self, **groups: str) -> tuple[bool, str]:
        """The answer for group `a`; each group has those of its letters as sub-groups, a capital is a group elsewhere."""
        for name, below in groups.items():
            self.ground.make(name, uri_at(1), *(f"{THERE if letter.isupper() else OWN}{letter}" for letter in below))
        found = questions(self.ground.graph, f"{OWN}a")
        return found.needed, found.why

    def test_each_question(self) -> None:
        """Has it a sub-group? Is one remote? Do they contain each other? Each with its reason."""
        self.assertEqual(self.ask(a=""), (False, "a read, and it has no sub-group"))
        self.assertEqual(self.ask(a="bc", b="d", c="d", d=""), (False, "a read, and its groups are all of this node and end"))
        self.assertEqual(self.ask(a="bR"), (True, f"{THERE}R is a group of another node; what it contains is not known"))
        self.assertEqual(self.ask(a="b", b="a"), (True, "b and a contain each other"))
        self.assertEqual(self.ask(a="a"), (True, "a contains itself"))

    def test_further_down(self) -> None:
        """A remote group, or a circle, below a sub-group counts too; a group that stands in two is no circle."""
        self.assertIn("R is a group of another node", self.ask(a="b", b="c", c="R")[1])
        self.assertEqual(self.ask(a="b", b="c", c="b"), (True, "c and b contain each other"))
        self.assertEqual(self.ask(a="bb", b="c", c="")[0], False)

    def test_what_was_read_elsewhere(self) -> None:
        """A remote group that was read is told to contain its group, or not; what was read to be no group needs nothing."""
        known = self.ground.known
        known.learned(f"{THERE}R", Known((f"{THERE}S",)), 0.0)
        self.assertEqual(self.ask(a="b", b="R"), (True, f"{THERE}R is a group of another node"))
        known.learned(f"{THERE}S", Known((f"{OWN}b/membersContent", uri_at(2))), 0.0)
        self.assertEqual(self.ask(), (True, f"{THERE}R is a group of another node; b and it contain each other"))
        known.learned(f"{THERE}R", Known(None), 0.0)
        self.assertFalse(self.ask()[0])

    def test_parts_of_members(self) -> None:
        """A member that is a part of what a group's members have is asked through that group."""
        self.ground.make("a", f"{OWN}b/membersContent/t")
        self.assertEqual(self.ask(b="a"), (True, "b and a contain each other"))

    def test_long_chain(self) -> None:
        """A chain of more groups than calls may be deep is walked."""
        for number in range(1_200):
            self.ground.make("a" if not number else str(number), f"{OWN}{number + 1}")
        self.assertFalse(self.ask()[0])


class PolicyTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Two groups, each in the other's server's tree: `a` with a device, `b` empty."""
        self.ground = Ground()
        self.make = self.ground.make
        self.make("a", uri_at(1))

    def build(self, policy: str) -> Identifiers:
        """Those of a node with this policy."""
        return Identifiers(self.ground.graph, policy, "http://g1.example.org")

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

    def test_more_is_known(self) -> None:
        """What is learned of a group elsewhere counts at the next request."""
        identifiers = self.build(AUTO)
        self.make("a", f"{THERE}x")
        self.assertIsNotNone(self.of(identifiers))
        self.ground.known.learned(f"{THERE}x", Known(None), 0.0)
        self.assertIsNone(self.of(identifiers))

    def test_tags(self) -> None:
        """A request without an identifier has no tag either."""
        identifiers = self.build(AUTO)
        self.assertIsNone(identifiers.tag("a", None))
        self.assertNotEqual(identifiers.tag("a", b"12345678"), identifiers.tag("b", b"12345678"))
