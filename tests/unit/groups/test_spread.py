"""How one request goes through the groups of this node."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.fanout import MulticastLeg, Target
from m2mapp.groups.reach import Reach
from m2mapp.groups.spread import MOST_MEMBERS, Spread, spread
from m2mapp.groups.subgroup import Subgroup
from m2mapp.model.errors import TooLarge
from tests.unit.groups.parts import uri_at

THERE = Subgroup("http://g2/groups/x/membersContent", (), "http://g2/groups/x")
MADE = Subgroup("http://g2/groups/g1-a/membersContent", (uri_at(8), uri_at(9)))


def leg(*numbers: int) -> MulticastLeg:
    """A multicast request to these devices."""
    return MulticastLeg("ff35::1", 5683, ("t",), tuple(Target(uri_at(number)) for number in numbers), 0.1)


def here(*names: str) -> tuple[tuple[str, str], ...]:
    """Members that are groups of this node."""
    return tuple((f"http://g1/groups/{name}", name) for name in names)


def number_of(uri: str) -> int:
    """The number of a member's device."""
    return int(uri.removeprefix("coap://d").partition(".")[0])


class SpreadTests(SynchronousTestCase):
    def walk(self, reaches: dict[str, Reach], asked: dict[str, None] | None = None, **refused: str) -> Spread:
        """The way of a request to the group a. Each group is entered once."""
        entered: set[str] = set()

        def enter(name: str) -> str:
            self.assertNotIn(name, entered)
            entered.add(name)
            return refused.get(name, "")

        return spread("a", reaches.__getitem__, enter, {} if asked is None else asked)

    def test_each_group_once(self) -> None:
        """Groups that contain each other, themselves and one in common: each is gone through once, each way back is a loop."""
        reaches = {
            "a": Reach((), (uri_at(1),), here=here("a", "b", "c")),
            "b": Reach((), (uri_at(1), uri_at(2)), here=here("c", "a")),
            "c": Reach((), (uri_at(3),), here=here("b")),
        }
        found = self.walk(reaches)
        self.assertEqual((found.groups, found.loops, found.reach.alone), (("a", "b", "c"), 4, (uri_at(1), uri_at(2), uri_at(3))))

    def test_not_gone_through(self) -> None:
        """A group that the request was in already is a loop; one that is not there, or is refused, shows why."""
        reaches = {"a": Reach((), (uri_at(1),), here=here("b", "c", "d"))}
        found = self.walk(reaches, b="loop", c="4.04", d="4.03")
        self.assertEqual((found.loops, [status for _, status in found.refused]), (1, ["4.04", "4.03"]))

    def test_nobody_twice(self) -> None:
        """Who is in several sets is asked once: a multicast request goes out where those who had it know it, else to each of the others."""
        for keepers, legs, alone in (((1, 2), [(1, 2), (4, 5)], [6, 3]), ((), [(1, 2)], [4, 5, 6, 3])):
            known = frozenset(uri_at(number) for number in keepers)
            reaches = {
                "a": Reach((leg(1, 2),), (uri_at(3),), known, here=here("b")),
                "b": Reach((leg(2, 4, 5), leg(1, 6)), (uri_at(1), uri_at(3))),
            }
            found = self.walk(reaches).reach
            self.assertEqual([tuple(number_of(target.uri) for target in one.targets) for one in found.legs], legs)
            self.assertEqual([number_of(uri) for uri in found.alone], alone)

    def test_asked_by_another_way(self) -> None:
        """What this node asks already for the same request is left out: a member is named, a group is a loop, and its members are named."""
        asked = dict.fromkeys((uri_at(1), THERE.uri, MADE.uri))
        reaches = {"a": Reach((), (uri_at(1), uri_at(2), THERE.uri, MADE.uri), subgroups=(THERE, MADE))}
        found = self.walk(reaches, asked)
        self.assertEqual((found.reach.alone, found.reach.subgroups, found.loops), ((uri_at(2),), (), 2))
        self.assertEqual(found.asked_before, (uri_at(1), uri_at(8), uri_at(9)))
        self.assertIn(uri_at(2), asked)

    def test_bounded(self) -> None:
        """Too many members in all are refused, and none is taken for asked."""
        many = tuple(f"coap://h{number}/t" for number in range(MOST_MEMBERS))
        asked: dict[str, None] = {}
        with self.assertRaises(TooLarge):
            self.walk({"a": Reach((), many, here=here("b")), "b": Reach((), (uri_at(1),))}, asked)
        self.assertEqual(asked, {})
