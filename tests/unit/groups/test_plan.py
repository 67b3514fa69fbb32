"""The planner: who is asked together, at what address, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.uris import parse_uri
from m2mapp.groups.group import AddressType, FanoutSet, Join
from m2mapp.groups.plan import Member, Policy, leisure_of, plan
from tests.unit.groups.parts import build_device, member_at, uri_at


def addresses(*given: str) -> Callable[[int], str | None]:
    """A pool that gives these, in order, to whoever asks for the IP version, and then is empty."""
    left = list(given)

    def take(version: int) -> str | None:
        fitting = next((address for address in left if (":" in address) == (version == 6)), None)
        if fitting is not None:
            left.remove(fitting)
        return fitting

    return take


def made(members: Iterable[Member], kept: Iterable[FanoutSet] = (), policy: Policy | None = None) -> list[FanoutSet]:
    """The plan with a pool of four addresses of each family."""
    pool = addresses("ff35::1", "ff35::2", "ff35::3", "ff35::4", "239.0.0.1", "239.0.0.2", "239.0.0.3", "239.0.0.4")
    return plan(members, policy or Policy(), list(kept), pool)


def reason(member: Member) -> str:
    """Why a member is asked alone, beside two that are asked together."""
    sets = made([member, member_at(8), member_at(9)])
    alone = next(one for one in sets if member.text in one.members)
    assert not alone.is_multicast
    return alone.why[member.text]


class TogetherTests(SynchronousTestCase):
    def test_same_path(self) -> None:
        """Members with the same path on multicast devices are one set: address, path, port, leisure, all pending, with a reason."""
        [one] = made([member_at(1), member_at(2)])
        self.assertEqual((one.name, one.address_type, one.address), ("1", AddressType.MULTICAST_IPV6, "ff35::1"))
        self.assertEqual((one.port, one.path, one.members), (5683, ("t",), (uri_at(1), uri_at(2))))
        self.assertEqual(one.joins, dict.fromkeys(one.members, Join.PENDING))
        self.assertEqual(one.why, dict.fromkeys(one.members, "same path, local domain"))
        self.assertEqual(one.leisure_s, leisure_of(2))

    def test_whole_devices(self) -> None:
        """Members that are whole devices share the fan-out URI `/`."""
        [one] = made([member_at(1, "/"), member_at(2, "/")])
        self.assertEqual(one.path, ())
        self.assertEqual(one.document()["fanoutURI"], "/")

    def test_different_paths_share_an_address(self) -> None:
        """Sets with different paths have one address, and fan-out URIs that tell them apart."""
        one, other = made([member_at(1, "/a"), member_at(2, "/a"), member_at(3, "/b"), member_at(4, "/b")])
        self.assertEqual((one.address, other.address), ("ff35::1", "ff35::1"))
        self.assertEqual((one.path, other.path), (("a",), ("b",)))

    def test_address_per_set(self) -> None:
        """With `address_per_set` each set has its own."""
        sets = made([member_at(1, "/a"), member_at(2, "/a"), member_at(3, "/b"), member_at(4, "/b")], policy=Policy(address_per_set=True))
        self.assertEqual([one.address for one in sets], ["ff35::1", "ff35::2"])

    def test_a_path_within_another_has_its_own_address(self) -> None:
        """A path that begins with another's is asked for elsewhere: a device with the shorter one would take it for its own suffix."""
        sets = made(
            [member_at(number, path) for path, pair in (("/a", (1, 2)), ("/a/b", (3, 4)), ("/c", (5, 6)), ("/", (7, 8))) for number in pair]
        )
        self.assertEqual(
            [(one.path, one.address) for one in sets], [(("a",), "ff35::1"), (("a", "b"), "ff35::2"), (("c",), "ff35::1"), ((), "ff35::3")]
        )

    def test_families_and_ports_apart(self) -> None:
        """IPv4 devices, and devices at another port, are sets of their own; a device with both families counts as IPv6."""
        sets = made(
            [
                *(member_at(number) for number in (1, 2)),
                *(member_at(number, addresses=(f"192.0.2.{number}",)) for number in (3, 4)),
                *(member_at(number, addresses=(f"192.0.2.{number}", f"fd00::d{number}")) for number in (5, 6)),
                *(member_at(number, port=7000) for number in (7, 8)),
            ]
        )
        found = [(one.address_type.value, one.port, len(one.members), one.address) for one in sets]
        self.assertEqual(
            found,
            [("multicast-ipv6", 5683, 4, "ff35::1"), ("multicast-ipv4", 5683, 2, "239.0.0.1"), ("multicast-ipv6", 7000, 2, "ff35::1")],
        )

    def test_a_literal_decides_the_family(self) -> None:
        """A member that is named by its IPv4 address is asked by IPv4, whatever else its device has."""
        device = build_device(1, addresses=("192.0.2.1", "fd00::d1"))
        [one] = made([Member(parse_uri("coap://192.0.2.1/t"), device), member_at(2, addresses=("192.0.2.2",))])
        self.assertEqual(one.address, "239.0.0.1")

    def test_leisure(self) -> None:
        """Leisure is S * G / R of RFC 7252, 8.2, for so many members; a group's own is taken as it is."""
        self.assertEqual([leisure_of(1), leisure_of(1000), leisure_of(10_000)], [0.001, 0.8, 8.0])
        [one] = made([member_at(1), member_at(2)], policy=Policy(leisure_s=3.0))
        self.assertEqual(one.leisure_s, 3.0)


class AloneTests(SynchronousTestCase):
    def test_every_reason(self) -> None:
        """Each member that is asked one by one says why."""
        reasons = {
            "http cannot be multicast": Member(parse_uri("http://d1.example.org/t"), build_device(1)),
            "coaps cannot be multicast": Member(parse_uri("coaps://d1.example.org/t"), build_device(1)),
            "its device is not registered here": Member(parse_uri(uri_at(1)), None),
            "its device says that it takes no multicast": member_at(1, multicast_enabled=False),
            "its device registered no coap address": member_at(1, addresses=()),
            "the URI has a query of its own": Member(parse_uri("coap://d1.example.org/t?unit=C"), build_device(1)),
            "a resource of this node": Member(parse_uri("coap://g1.example.org/t"), None, local=True),
        }
        for expected, member in reasons.items():
            self.assertEqual(reason(member), expected)

    def test_below_the_threshold(self) -> None:
        """Fewer devices than `multicast_threshold` are asked one by one; two names of one device are one device."""
        one = member_at(1)
        other_name = Member(parse_uri("coap://[fd00::d1]/t"), build_device(1))
        sets = made([one, other_name])
        self.assertEqual([each.why[each.members[0]] for each in sets], ["fewer than 2 devices share /t over IPv6"] * 2)
        self.assertEqual([each.is_multicast for each in made([one], policy=Policy(multicast_threshold=1))], [True])

    def test_reliable(self) -> None:
        """Members of a reliable group are asked one by one, each with that reason."""
        sets = made([member_at(1), member_at(2)], policy=Policy(reliable=True))
        self.assertEqual({why for one in sets for why in one.why.values()}, {"every member of a reliable group is asked one by one"})

    def test_the_pool_is_empty(self) -> None:
        """Without an address the group works by unicast, and says why; no other address family is touched."""
        sets = plan([member_at(1), member_at(2)], Policy(), [], addresses("239.0.0.1"))
        self.assertEqual([one.address_type.value for one in sets], ["unicast-ipv6"] * 2)
        self.assertEqual({why for one in sets for why in one.why.values()}, {"no multicast address is left in the pool"})

    def test_a_unicast_row(self) -> None:
        """A unicast row has its member's own address, port and path."""
        rows = made([member_at(1, multicast_enabled=False, port=7000), Member(parse_uri("http://n1.example.org:8080/x/y"), None)])
        self.assertEqual(
            [(row.name, row.address_type.value, row.address, row.port, row.path) for row in rows],
            [("1", "unicast-ipv6", "fd00::d1", 7000, ("t",)), ("2", "unicast-ipv4", "n1.example.org", 8080, ("x", "y"))],
        )


class FixedTests(SynchronousTestCase):
    def test_most_devices_decide(self) -> None:
        """The address that most devices with fixed groups listen to is used, without a join; one with another is unsupported."""
        members = [
            member_at(1, fixed_groups=("ff05::1", "ff05::2")),
            member_at(2, fixed_groups=("ff05::2",)),
            member_at(3, fixed_groups=("ff05::9",)),
            member_at(4),
        ]
        [one] = made(members)
        self.assertEqual(one.address, "ff05::2")
        self.assertEqual(one.joins, {uri_at(1): Join.JOINED, uri_at(2): Join.JOINED, uri_at(3): Join.UNSUPPORTED, uri_at(4): Join.PENDING})
        self.assertEqual(one.why[uri_at(1)], "same path, the address that its device always listens to")
        self.assertEqual(one.why[uri_at(3)], "its device has another address")

    def test_the_other_family_does_not_count(self) -> None:
        """A fixed IPv4 group says nothing about a set over IPv6."""
        [one] = made([member_at(1, fixed_groups=("239.1.1.1",)), member_at(2)])
        self.assertEqual((one.address, one.joins[uri_at(1)]), ("ff35::1", Join.PENDING))

    def test_nobody_shares_a_fixed_address(self) -> None:
        """Another set of the group does not go to an address that devices have been listening to all along."""
        fixed = [member_at(number, fixed_groups=("ff05::2",)) for number in (1, 2)]
        sets = made([*fixed, member_at(3, "/b"), member_at(4, "/b")])
        self.assertEqual([one.address for one in sets], ["ff05::2", "ff35::1"])


class KeptTests(SynchronousTestCase):
    def before(self) -> list[FanoutSet]:
        """A group of two, joined, with one row beside them."""
        sets = made([member_at(1), member_at(2), member_at(9, multicast_enabled=False)])
        joined = replace(sets[0], joins={uri_at(1): Join.JOINED, uri_at(2): Join.PROVEN})
        return [joined, *sets[1:]]

    def test_a_member_more(self) -> None:
        """Who was there keeps address, name and join; who is new is pending; the row is the same."""
        before = self.before()
        one, row = made([member_at(1), member_at(2), member_at(3), member_at(9, multicast_enabled=False)], before)
        self.assertEqual((one.name, one.address), (before[0].name, before[0].address))
        self.assertEqual(one.joins, {uri_at(1): Join.JOINED, uri_at(2): Join.PROVEN, uri_at(3): Join.PENDING})
        self.assertEqual(row, before[1])

    def test_nothing_new(self) -> None:
        """The same members give the same sets, whatever the pool would give now."""
        before = self.before()
        members = [member_at(1), member_at(2), member_at(9, multicast_enabled=False)]
        self.assertEqual(plan(members, Policy(), before, addresses()), before)

    def test_a_set_more_shares_the_kept_address(self) -> None:
        """A set that comes to a group goes to the address that its first one has."""
        sets = made([member_at(1), member_at(2), member_at(3, "/b"), member_at(4, "/b")], self.before()[:1])
        self.assertEqual([one.address for one in sets], ["ff35::1", "ff35::1"])

    def test_another_address_is_another_set(self) -> None:
        """A set whose address changes has a new start: all its members are pending."""
        before = [replace(self.before()[0], address="ff35::99")]
        [one] = made([member_at(1, fixed_groups=("ff05::2",)), member_at(2)], before)
        self.assertEqual((one.address, one.joins[uri_at(2)]), ("ff05::2", Join.PENDING))

    def test_names_do_not_collide(self) -> None:
        """A new set never takes the name of one that stays."""
        before = self.before()
        sets = made([member_at(3, "/b"), member_at(4, "/b"), member_at(1), member_at(2)], before)
        self.assertEqual([(one.path[0], one.name) for one in sets], [("b", "2"), ("t", "1")])


NUMBERS = st.integers(1, 30)
MEMBERS = st.builds(
    lambda number, path, multicast, fixed: member_at(number, path, multicast_enabled=multicast, fixed_groups=fixed),
    NUMBERS,
    st.sampled_from(["/a", "/a/b", "/b", "/"]),
    st.booleans(),
    st.sampled_from([(), (), (), ("ff05::1",), ("239.1.1.1",)]),
)


class PropertyTests(SynchronousTestCase):
    @given(st.lists(MEMBERS, max_size=40, unique_by=lambda member: member.text), st.lists(MEMBERS, max_size=40, unique_by=lambda m: m.text))
    def test_every_member_once(self, first: list[Member], second: list[Member]) -> None:
        """Whatever the members are, and whatever the group was before: each is in exactly one set with a reason, and names are unique."""
        kept = made(first)
        sets = made(second, kept)
        self.assertEqual(sorted(uri for one in sets for uri in one.members), sorted(member.text for member in second))
        self.assertEqual(len({one.name for one in sets}), len(sets))
        for one in sets:
            self.assertEqual(set(one.why), set(one.members))
            self.assertEqual(set(one.joins), set(one.members) if one.is_multicast else set())

    @given(st.lists(MEMBERS, max_size=40, unique_by=lambda member: member.text))
    def test_no_request_reaches_another_set(self, members: list[Member]) -> None:
        """At one address (that devices can leave) no path of a set is the beginning of another's."""
        sets = [one for one in made(members) if one.is_multicast and not one.address.startswith("ff05")]
        for one in sets:
            for other in sets:
                if one is not other and (one.address, one.port) == (other.address, other.port):
                    self.assertNotEqual(one.path, other.path[: len(one.path)])
