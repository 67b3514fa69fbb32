"""Which groups have members at a host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.group import GROUP
from m2mapp.groups.index import MemberIndex, hosts_of
from m2mapp.tree.unit import Resource
from tests.unit.groups.parts import build_device, uri_at


def group(name: str, members: list[str]) -> Resource:
    """The group as the tree keeps it."""
    return Resource(("groups", name), GROUP, {"members": members, "reliable": False, "type": "static"}, None, None, 0, 0, 1)


class IndexTests(SynchronousTestCase):
    def test_finds_and_forgets(self) -> None:
        """A host finds the groups with members there, sorted; when the last one goes nothing of the host is kept."""
        index = MemberIndex()
        b, a = group("b", [uri_at(1), uri_at(1, "/x")]), group("a", [uri_at(1), uri_at(2)])
        index.changed(None, b)
        index.changed(None, a)
        self.assertEqual(index.groups_at(["d1.example.org"]), ["a", "b"])
        fewer = group("b", [uri_at(1, "/x")])
        index.changed(b, fewer)
        self.assertEqual(index.groups_at(["d1.example.org"]), ["a", "b"])
        index.changed(fewer, None)
        index.changed(a, None)
        self.assertEqual((index.groups_at(["d1.example.org", "d2.example.org"]), len(index)), ([], 0))

    def test_what_it_never_heard_of(self) -> None:
        """A group that goes and was never entered is no error."""
        index = MemberIndex()
        index.changed(group("a", [uri_at(1)]), None)
        self.assertEqual(len(index), 0)

    def test_hosts_of_a_device(self) -> None:
        """A device is found by its hosts in lower case, its addresses, and its endpoint's name."""
        self.assertEqual(hosts_of(build_device(1, hosts=("D1.Example.org",))), ("d1.example.org", "fd00::d1", "d1"))

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(1, 4), unique=True)), max_size=20))
    def test_as_computed_anew(self, changes: list[tuple[str, list[int]]]) -> None:
        """After any changes each host finds what a look at all groups would find (no members: the group is deleted)."""
        index = MemberIndex()
        groups: dict[str, Resource] = {}
        for name, numbers in changes:
            after = group(name, [uri_at(number) for number in numbers]) if numbers else None
            index.changed(groups.pop(name, None), after)
            if after is not None:
                groups[name] = after
        for number in range(1, 5):
            expected = sorted(name for name, found in groups.items() if uri_at(number) in found.attributes["members"])  # type: ignore[operator]
            self.assertEqual(index.groups_at([f"d{number}.example.org"]), expected)
