"""`lwm2m.followed`: what is seen of devices, change by change, is what a look at the whole tree gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.followed import GROUPS, LEASES, Followed, Seen
from m2mapp.tree.registrations import SCLS, Registrations
from m2mapp.tree.unit import Change, Remove, Unit, Write
from tests.unit.fakes import build_tree
from tests.unit.lwm2m.reporting import duid, fanout_set, lease, registration

_NUMBER = some.integers(0, 2)
_URI = some.one_of(
    _NUMBER.map("coap://dev-{}.example.org/t".format), _NUMBER.map("coap://[fd00::d:{}]/t".format), some.just("coap://dev-1/t")
)
_JOIN = some.sampled_from(("pending", "joined", "proven", "failed", "unsupported"))


def _in_set(joins: dict[str, str], others: list[str], group: str) -> Write:
    write = fanout_set(joins, *others)
    return Write(("groups", group, *write.path[2:]), write.type, write.attributes)


_CHANGE = some.one_of(
    _NUMBER.map(lease),
    some.tuples(_NUMBER, _NUMBER).map(lambda pair: lease(pair[0], address=f"fd00::d:{pair[1]}")),
    _NUMBER.map(lambda number: lease(number, state="reserved")),
    _NUMBER.map(lambda number: Remove(("leases", duid(number)))),
    _NUMBER.map(registration),
    some.tuples(_NUMBER, _NUMBER).map(lambda pair: registration(pair[0], addresses=[f"fd00::d:{pair[1]}"])),
    _NUMBER.map(lambda number: Remove(("scls", f"dev-{number}"))),
    some.builds(_in_set, some.dictionaries(_URI, _JOIN, max_size=3), some.lists(_URI, max_size=2), some.sampled_from(("a", "b"))),
    some.sampled_from(("a", "b")).map(lambda name: Remove(("groups", name))),
)


class FollowedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        """An empty tree, followed from the start; `touched` are the devices that the last changes concerned."""
        self.built, self.touched = build_tree(), set[str]()
        self.registrations = Registrations(self.built.tree)
        self.followed = Followed(self.built.tree, self.registrations)
        for path in (LEASES, SCLS, GROUPS):
            self.built.tree.watch(path, self.change, subtree=True)

    def change(self, change: Change) -> None:
        """A change was committed."""
        self.touched |= self.followed.changed(change)

    def commit(self, *changes: Write | Remove) -> set[str]:
        """Commit changes: the devices that they concern."""
        self.touched = set()
        self.built.committer.commit(Unit(changes))
        return self.touched

    def fresh(self) -> Followed:
        """One that looks at the tree as it is."""
        fresh = Followed(self.built.tree, Registrations(self.built.tree))
        fresh.load()
        return fresh

    @given(some.lists(_CHANGE, max_size=12))
    def test_as_a_look_at_all(self, changes: list[Write | Remove]) -> None:
        """After any changes each device is seen as by one who looks at the whole tree; one whose state is another was told of."""
        self.begin()
        before = dict.fromkeys(map(duid, range(3)), Seen(groups={}))
        for change in changes:
            touched = self.commit(change)
            fresh = self.fresh()
            for each, seen in before.items():
                now = fresh.seen(each)
                with_leases = now.leases or seen.leases
                self.assertEqual(self.followed.seen(each).leases, now.leases)
                if with_leases and now != seen:
                    self.assertIn(each, touched)
                before[each] = now

    def test_whom_changes_concern(self) -> None:
        """A lease, the registration of its address, and a fan-out set with its device concern it; nothing else does."""
        self.assertEqual(self.commit(lease(1)), {duid(1)})
        self.assertEqual(self.commit(registration(1), registration(2)), {duid(1)})
        self.assertEqual(self.commit(fanout_set({"coap://dev-1.example.org/t": "pending", "coap://dev-2/t": "pending"})), {duid(1)})
        self.assertEqual(self.followed.seen(duid(1)).groups, {"/groups/lamps": "pending"})
        self.assertEqual(self.commit(fanout_set({"coap://dev-1.example.org/t": "pending", "coap://dev-2/t": "joined"})), set())
        self.assertEqual(self.commit(fanout_set({"coap://dev-2/t": "joined"}, "coap://dev-1.example.org/t")), {duid(1)})
        self.assertEqual(self.followed.seen(duid(1)).groups, {"/groups/lamps": "one by one"})
        self.assertEqual(self.commit(Remove(("groups", "lamps"))), {duid(1)})
        self.assertEqual(self.followed.seen(duid(1)).groups, {})
        self.assertEqual(self.commit(lease(1, state="reserved")), {duid(1)})
        self.assertEqual(self.followed.seen(duid(1)).leases, ())
