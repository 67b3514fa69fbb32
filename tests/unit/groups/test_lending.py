"""Addresses and groups that nodes have of each other: what is written when a group's sets change, and when what ends."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.group import AddressType, FanoutSet
from m2mapp.groups.lending import (
    HELD_AT,
    LEASE,
    POOL,
    RESTING,
    RESTING_AT,
    Ends,
    Held,
    address_changes,
    held_changes,
    held_name,
    held_record,
    user_of,
)
from m2mapp.tree.unit import Remove, Unit, Write
from tests.unit.fakes import build_tree
from tests.unit.groups.parts import build_set, uri_at

GROUP_URI = "http://g1.example.org/groups/g"
THERE = "http://g2.example.org/groups/g1.example.org-g"
LOCAL, GLOBAL, FIXED = "ff35::1", "ff3e::1", "ff05::9"


class Pools:
    """Two pools of an address each."""

    def is_global(self, address: str) -> bool:
        return address == GLOBAL

    def is_own(self, address: str) -> bool:
        return address in (LOCAL, GLOBAL)


def at(address: str, **more: object) -> FanoutSet:
    """A set with that address."""
    return build_set([uri_at(1)], address=address, **more)


def group_set(address: str = "fd00::2") -> FanoutSet:
    """A set that is a group at another server."""
    return replace(at(address), address_type=AddressType.GROUP, group=THERE)


class AddressTests(SynchronousTestCase):
    def test_taken(self) -> None:
        """A global address is entered as given to the group, once however many sets have it; a local one needs no entry."""
        found = address_changes(GROUP_URI, (), [at(LOCAL), at(GLOBAL), at(GLOBAL, name="2")], Pools())
        self.assertEqual(found, [Write((*POOL, GLOBAL), LEASE, {"for": GROUP_URI, "own": True})])

    def test_given_up(self) -> None:
        """What the group has no more rests; an address that devices always listen to is none of the node's."""
        found = address_changes(GROUP_URI, [at(LOCAL), at(GLOBAL), at(FIXED), at(LOCAL, name="2")], [], Pools())
        expected = [Write((*RESTING_AT, LOCAL), RESTING), Remove((*POOL, GLOBAL)), Write((*RESTING_AT, GLOBAL), RESTING)]
        self.assertEqual(found, expected)

    def test_kept(self) -> None:
        """Nothing is written of an address that moves from one set of the group to another."""
        self.assertEqual(address_changes(GROUP_URI, [at(LOCAL)], [at(LOCAL, name="2")], Pools()), [])

    def test_rows_and_groups(self) -> None:
        """A row's address is its device's, a group's that of its server; a group whose server joins an address has one of the node's."""
        row = replace(at(LOCAL), address_type=AddressType.UNICAST_IPV6)
        self.assertEqual(address_changes(GROUP_URI, [row, group_set("g2.example.org")], [], Pools()), [])
        self.assertEqual(len(address_changes(GROUP_URI, [group_set(LOCAL)], [], Pools())), 1)


class HeldTests(SynchronousTestCase):
    def test_recorded_once(self) -> None:
        """A new group elsewhere and a borrowed address are recorded with the unit that uses them; what is recorded is not again."""
        built = build_tree()
        wanted = [Held(held_name(THERE), "g", THERE), Held(GLOBAL, "g", "http://n1/mcAddrPool/1", GLOBAL)]
        after, lent = [group_set(), at(GLOBAL), at(LOCAL)], {GLOBAL: "http://n1/mcAddrPool/1"}
        found = held_changes(built.tree, "g", [], after, lent)
        self.assertEqual(found, [held_record(held) for held in wanted])
        self.assertEqual(held_changes(built.tree, "g", after, after, lent), [])
        built.committer.commit(Unit(tuple(found)))
        self.assertEqual(held_changes(built.tree, "g", [], after, lent), [])
        self.assertEqual([one.path[-1] for one in built.tree.children(HELD_AT)], sorted(held.name for held in wanted))

    def test_who_uses_it(self) -> None:
        """The set that has the group, or the address; None where no set has it any more."""
        group, address = Held("x", "g", THERE), Held(GLOBAL, "g", "http://n1/1", GLOBAL)
        sets = [at(LOCAL), group_set(), at(GLOBAL)]
        self.assertEqual([user_of(group, sets), user_of(address, sets)], sets[1:])
        self.assertEqual([user_of(group, sets[:1]), user_of(address, sets[:1])], [None, None])


class EndsTests(SynchronousTestCase):
    def test_in_order(self) -> None:
        """What began first ends first; one that begins anew ends later; one that is forgotten does not end."""
        ends = Ends(10.0)
        for now, name in enumerate("abc"):
            ends.start(name, float(now))
        ends.start("a", 5.0)
        ends.forget("b")
        ends.forget("none")
        self.assertEqual((len(ends), ends.next_end_s(), ends.end_s("a"), ends.end_s("b")), (2, 12.0, 15.0, None))
        self.assertEqual([ends.due(now, 10) for now in (11.9, 12.0, 20.0)], [[], ["c"], ["c", "a"]])
        self.assertEqual(ends.due(20.0, 1), ["c"])
        ends.clear()
        self.assertIsNone(ends.next_end_s())
