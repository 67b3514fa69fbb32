"""Advertisements to many devices at once: who is named where, who has confirmed, who is told alone after that."""

from __future__ import annotations

from m2mapp.formats.documents import load_cbor
from m2mapp.groups.announcement import MOST_BYTES
from m2mapp.groups.drivers.announce import GRACE_S
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Answer, Method
from tests.unit.groups.parts import FIRST_ADDRESS, SECOND_ADDRESS, GroupCase, Groups, uri_at

NAME = "g1.example.org-g-1"
BROADCAST = GroupSettings(advertise="broadcast")
ALL_NODES = "ff02::fd"


def joins(groups: Groups, name: str = "g") -> list[str]:
    """The joins of the first set, in the order of its members."""
    one = groups.sets(name)[0]
    return [one.joins[uri].value for uri in one.members]


class AnnounceCase(GroupCase):
    def confirm(self, groups: Groups, *numbers: int, code: str = "2.01", place: int = -1) -> None:
        """These devices answer the last advertisement."""
        for number in numbers:
            groups.sender.gatherings[place].answer(Answer(code, source=f"fd00::d{number}", port=5683))

    def over(self, groups: Groups) -> None:
        """The time to confirm is over, and the joins are written."""
        groups.clock.pump([GRACE_S + 0.3, 0.2])


class BroadcastTests(AnnounceCase):
    def test_one_message(self) -> None:
        """One message names the members; those who confirm are joined; the others are told alone."""
        groups = self.build(3, BROADCAST)
        groups.make([uri_at(number) for number in (1, 2, 3)], leisure=0.25)
        [gathering] = groups.sender.gatherings
        outgoing = gathering.outgoing
        self.assertEqual((outgoing.method, outgoing.address, outgoing.port, outgoing.path), (Method.POST, ALL_NODES, 5683, ("mcGroups",)))
        named = {"name": NAME, "mcAddress": FIRST_ADDRESS, "fanoutURI": "/t", "leisure": 0.25, "members": [uri_at(1), uri_at(2), uri_at(3)]}
        self.assertEqual(load_cbor(outgoing.payload), named)
        self.confirm(groups, 1, 2)
        groups.clock.advance(0.2)
        self.assertEqual((joins(groups), groups.told()), (["joined", "joined", "pending"], []))
        self.over(groups)
        self.assertEqual((groups.told(), gathering.closed), ([f"PUT coap://[fd00::d3]/mcGroups/{NAME}"], True))
        groups.join_all()
        self.assertEqual(joins(groups), ["joined"] * 3)

    def test_what_does_not_count(self) -> None:
        """A stranger's answer, one from another port and a refusal confirm nothing; a second answer changes nothing."""
        groups = self.build(2, BROADCAST)
        groups.make([uri_at(1), uri_at(2)])
        self.confirm(groups, 7)
        self.confirm(groups, 1, code="4.03")
        groups.sender.gatherings[0].answer(Answer("2.01", source="fd00::d1", port=9))
        self.confirm(groups, 2, 2)
        self.over(groups)
        self.assertEqual((joins(groups), len(groups.told())), (["pending", "joined"], 1))

    def test_leaving(self) -> None:
        """A deleted group is left by one message; who confirms owes nothing any more, the others are told alone."""
        groups = self.build(2, BROADCAST)
        groups.make([uri_at(1), uri_at(2)])
        self.confirm(groups, 1, 2)
        self.over(groups)
        groups.send(Method.DELETE, "/groups/g")
        self.assertEqual(
            load_cbor(groups.sender.gatherings[-1].outgoing.payload), {"name": NAME, "leisure": 0.002, "leave": [uri_at(1), uri_at(2)]}
        )
        self.confirm(groups, 1, code="2.02")
        self.over(groups)
        self.assertEqual(groups.told(), [f"DELETE coap://[fd00::d2]/mcGroups/{NAME}"])
        groups.join_all()
        self.assertEqual(groups.built.tree.children(("leaves",)), [])

    def test_news_while_it_is_under_way(self) -> None:
        """What changes before a device has confirmed is told it afterwards, alone and once; its old confirmation counts for the old set."""
        groups = self.build(3, BROADCAST)
        groups.make([uri_at(1), uri_at(2), uri_at(3)])
        groups.send(Method.DELETE, "/groups/g/members", query=(("uri", uri_at(1)),))
        self.assertEqual((len(groups.sender.gatherings), groups.told()), (1, []))
        self.confirm(groups, 1, 2)
        self.assertEqual(groups.told(), [f"DELETE coap://[fd00::d1]/mcGroups/{NAME}"])
        self.over(groups)
        self.assertEqual(groups.told()[1:], [f"PUT coap://[fd00::d3]/mcGroups/{NAME}"])
        groups.join_all()
        self.assertEqual((joins(groups), groups.built.tree.children(("leaves",))), (["joined", "joined"], []))

    def test_many(self) -> None:
        """What does not fit one datagram goes in several, each with its own devices; every device is named once."""
        groups = self.build(100, BROADCAST)
        groups.make([uri_at(number) for number in range(1, 101)])
        payloads = [gathering.outgoing.payload for gathering in groups.sender.gatherings]
        self.assertGreater(len(payloads), 2)
        self.assertLessEqual(max(map(len, payloads)), MOST_BYTES)
        named = [uri for payload in payloads for uri in load_cbor(payload)["members"]]  # type: ignore[index]
        self.assertEqual(sorted(named), sorted(uri_at(number) for number in range(1, 101)))

    def test_who_is_told_alone(self) -> None:
        """A single device, one of RFC 7390, one with a place or port of its own, and all where nothing can be sent."""
        groups = self.build(1, BROADCAST)
        groups.register(2, links=[{"href": "/coap-group", "rt": "core.gp"}])
        groups.register(3, mcGroups="/own")
        groups.requester.sent.clear()
        groups.make([uri_at(number) for number in (1, 2, 3)])
        self.assertEqual((groups.sender.gatherings, len(groups.told())), ([], 3))
        groups.sender.fault = PeerFailed("no interface")
        groups.register(4)
        groups.make([uri_at(number) for number in (1, 4)], name="h")
        self.assertEqual(len(groups.told()), 5)

    def test_by_the_description(self) -> None:
        """A group's description says how its devices are told, whatever is usual."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)], advertise="broadcast")
        self.assertEqual((len(groups.sender.gatherings), groups.told()), (1, []))
        groups.make([uri_at(1), uri_at(2)], name="h")
        self.assertEqual((len(groups.sender.gatherings), len(groups.told())), (1, 2))

    def test_a_stop(self) -> None:
        """A stop waits for nobody; after the start those who had not confirmed are told."""
        groups = self.build(2, BROADCAST)
        groups.make([uri_at(1), uri_at(2)])
        groups.service.stopService()
        self.assertTrue(groups.sender.gatherings[0].closed)
        self.assertEqual(groups.clock.getDelayedCalls(), [])
        groups.service.startService()
        self.assertEqual(len(groups.sender.gatherings), 2)


class MulticastTests(AnnounceCase):
    def test_by_the_group_that_they_joined(self) -> None:
        """Devices that joined the named group with their `/mcGroups` hear of other groups there; the others are told alone."""
        groups = self.build(3, GroupSettings(advertise="multicast", advertise_group="devices"))
        groups.make([uri_at(number, "/mcGroups") for number in (1, 2)], name="devices")
        self.assertEqual((groups.sender.gatherings, len(groups.told())), ([], 2))
        groups.join_all()
        groups.requester.sent.clear()
        groups.make([uri_at(number) for number in (1, 2, 3)])
        [gathering] = groups.sender.gatherings
        self.assertEqual((gathering.outgoing.address, groups.sets("g")[0].address), (FIRST_ADDRESS, SECOND_ADDRESS))
        self.assertEqual(groups.told(), [f"PUT coap://[fd00::d3]/mcGroups/{NAME}"])

    def test_no_such_group(self) -> None:
        """Without that group everybody is told alone."""
        groups = self.build(2, GroupSettings(advertise="multicast", advertise_group="none"))
        groups.make([uri_at(1), uri_at(2)])
        self.assertEqual((groups.sender.gatherings, len(groups.told())), ([], 2))
