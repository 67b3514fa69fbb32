"""What a device is told, and what its answer means."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import CBOR, load_cbor
from m2mapp.groups.advertisement import (
    FAILED_AFTER,
    LONGEST_LEAVE_PAUSE_S,
    LONGEST_PAUSE_S,
    Told,
    after_join,
    after_leave,
    is_left,
    mc_group,
    mc_group_name,
    pause_s,
)
from m2mapp.groups.dialogue import Place, join, leave
from m2mapp.groups.group import FANOUT_SET, AddressType, FanoutSet, Join
from m2mapp.model.messages import Answer, Method
from m2mapp.tree.unit import Resource
from tests.unit.groups.parts import FIRST_ADDRESS, build_device, build_set, uri_at

PLACE = Place("g1-grp-1", FIRST_ADDRESS, 5683, "/xx/aa")


def kept(one: FanoutSet) -> Resource:
    """The set as the tree keeps it."""
    return Resource(("groups", "g", "fanoutSets", "1"), FANOUT_SET, one.document(), None, None, 0, 0, 1)


class RequestTests(SynchronousTestCase):
    def test_join(self) -> None:
        """PUT of the `mcGroup` of spec section 12 to the device's own place for them, in CBOR."""
        one = kept(build_set([uri_at(1), uri_at(2)], path=("xx", "aa"), leisure_s=0.25))
        document = mc_group(one, [uri_at(1, "/xx/aa")])
        assert document is not None
        outgoing = next(join(build_device(1, mc_groups="/my/groups", port=61616), PLACE, document))
        self.assertEqual((outgoing.method, outgoing.content_type), (Method.PUT, CBOR))
        self.assertEqual(outgoing.uri, "coap://[fd00::d1]:61616/my/groups/g1-grp-1")
        self.assertEqual(
            load_cbor(outgoing.payload), {"mcAddress": FIRST_ADDRESS, "fanoutURI": "/xx/aa", "memberList": ["/xx/aa"], "leisure": 0.25}
        )

    def test_two_names_of_one_member(self) -> None:
        """A member that the group has by two names of its device stands in the device's list once: it acts once."""
        document = mc_group(kept(build_set([])), [uri_at(1), "coap://[fd00::d1]/t"])
        self.assertEqual((document or {})["memberList"], ["/t"])

    def test_no_group_for_a_row(self) -> None:
        """A unicast row is told to nobody."""
        self.assertIsNone(mc_group(kept(replace(build_set([uri_at(1)]), address_type=AddressType.UNICAST_IPV6)), [uri_at(1)]))

    def test_leave(self) -> None:
        """DELETE of the same name; a link-local address keeps its zone."""
        outgoing = next(leave(build_device(1, addresses=("fe80::1%eth1",)), PLACE))
        self.assertEqual((outgoing.method, outgoing.uri), (Method.DELETE, "coap://[fe80::1%25eth1]/mcGroups/g1-grp-1"))

    def test_the_name(self) -> None:
        """The name has those of the node, the group and the set; two that are too long stay different."""
        self.assertEqual(mc_group_name("g1.example.org", "grp7", "1"), "g1.example.org-grp7-1")
        long = {mc_group_name("n" * 200, "ü" * 60, str(number)) for number in range(5)}
        self.assertEqual(len(long), 5)

    @given(st.text(max_size=253), st.text(max_size=255), st.integers(1, 10_000))
    def test_the_name_fits(self, node: str, group: str, number: int) -> None:
        """Whatever the names are: what comes is one path segment of CoAP, at most 255 bytes."""
        try:
            (node + group).encode()
        except UnicodeEncodeError:
            return
        self.assertLessEqual(len(mc_group_name(node, group, str(number)).encode()), 255)


class AnswerTests(SynchronousTestCase):
    def test_after_a_join(self) -> None:
        """2.xx: joined. Devices that know no groups: unsupported, left alone. Others: failed, asked again. Silence: failed after five."""
        self.assertEqual(after_join(Answer("2.01"), 1), Told(Join.JOINED, None))
        for code in ("4.04", "4.05", "5.01"):
            self.assertEqual(after_join(Answer(code), 1), Told(Join.UNSUPPORTED, None))
        for code in ("4.00", "4.03", "5.00", "5.03"):
            self.assertEqual(after_join(Answer(code, b"why"), 1), Told(Join.FAILED, 1.0, f"answered {code}: why"))
        self.assertEqual(after_join(None, 1), Told(None, 1.0, "no answer"))
        self.assertEqual(after_join(None, FAILED_AFTER), Told(Join.FAILED, 16.0, "no answer"))

    def test_after_a_leave(self) -> None:
        """Left: 2.xx, or nothing there to leave. Anything else is tried again, after pauses of up to ten minutes."""
        for code in ("2.02", "4.04", "204", "404"):
            self.assertEqual((after_leave(Answer(code), 1), is_left(Answer(code))), (Told(None, None), True))
        for found in (None, Answer("5.00"), Answer("4.03")):
            self.assertEqual((after_leave(found, 1).pause_s, is_left(found)), (1.0, False))
            self.assertEqual(after_leave(found, 100).pause_s, LONGEST_LEAVE_PAUSE_S)

    def test_pauses(self) -> None:
        """Pauses double up to a minute, however many attempts there were."""
        self.assertEqual(
            [pause_s(attempts) for attempts in (1, 2, 3, 7, 8, 10_000)], [1.0, 2.0, 4.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
        )
