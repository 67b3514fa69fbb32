"""Groups at other servers are read when they are needed, in time or later."""

from __future__ import annotations

from m2mapp.formats.documents import dump_json, load_json
from m2mapp.groups.drivers.reading import MOST_READ
from m2mapp.groups.group import AddressType
from m2mapp.groups.nested import FRESH_S
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Answer, Method, Status
from tests.unit.groups.parts import NODE_NAME, GroupCase, Groups, uri_at

OWN = f"http://{NODE_NAME}/groups/g"
THERE = "http://g2.example.org/groups/"


def group_of(*members: str) -> Answer:
    """What a server answers for a group with these members."""
    return Answer("200", dump_json({"type": "static", "members": list(members)}), "application/json")


class ReadingTests(GroupCase):
    def asked(self, groups: Groups) -> list[str]:
        """The groups that are being read."""
        return [groups.requester.sent[place].uri for place in groups.requester.waiting]

    def answer(self, groups: Groups, uri: str, answer: Answer | PeerFailed) -> None:
        """The server of that group answers, or cannot be asked."""
        [place] = [place for place in groups.requester.waiting if groups.requester.sent[place].uri == uri]
        groups.requester.answer(place, answer)

    def test_level_by_level(self) -> None:
        """A new group waits until those in it are read, and those in them; its circle is told. Nothing is read twice meanwhile."""
        groups = self.build()
        made = groups.make([uri_at(1), f"{THERE}x", f"{THERE}x/membersContent"])
        self.assertEqual(self.asked(groups), [f"{THERE}x"])
        self.answer(groups, f"{THERE}x", group_of(f"{THERE}y", uri_at(2)))
        self.assertNoResult(made)
        self.answer(groups, f"{THERE}y", group_of(OWN))
        self.assertIn(b'"circles"', self.successResultOf(made).payload)
        self.successResultOf(groups.make([f"{THERE}x"], name="h"))

    def test_no_group_after_all(self) -> None:
        """What answers with something else than a group is a member like any other; when that changes, it is planned so."""
        groups = self.build()
        made = groups.make([f"{THERE}x"])
        self.answer(groups, f"{THERE}x", Answer("200", b"21.5", "text/plain"))
        self.successResultOf(made)
        self.assertNotEqual(groups.sets()[0].address_type, AddressType.GROUP)
        groups.clock.advance(700.0)
        groups.send(Method.PUT, "/groups/g/members", {"members": [f"{THERE}x", uri_at(1)]})
        self.answer(groups, f"{THERE}x", group_of(uri_at(2)))
        groups.clock.pump([1.0, 1.0])
        self.assertEqual({one.address_type for one in groups.sets() if f"{THERE}x" in one.members}, {AddressType.GROUP})

    def test_late(self) -> None:
        """A server that takes too long holds up nobody; what it says later is known, and the circle is shown then."""
        groups = self.build()
        made = groups.make([f"{THERE}{number}" for number in range(3)])
        groups.clock.pump([1.0, 2.5])
        self.assertEqual(self.successResultOf(made).payload, b"")
        for number in (0, 2):
            self.answer(groups, f"{THERE}{number}", PeerFailed("away"))
        self.answer(groups, f"{THERE}1", group_of(OWN))
        groups.clock.pump([1.0, 1.0])
        self.assertIn(b'"circles"', self.successResultOf(groups.send(Method.GET, "/groups/g")).payload)

    def test_what_may_have_changed(self) -> None:
        """Whoever closes a circle over a group here and one elsewhere is told at once, whatever was read of it before."""
        groups = self.build()
        made = groups.make([f"{THERE}x"], name="a")
        self.answer(groups, f"{THERE}x", group_of(uri_at(2)))
        self.successResultOf(made)
        groups.clock.advance(FRESH_S)
        made = groups.make([f"http://{NODE_NAME}/groups/a", uri_at(1)])
        self.answer(groups, f"{THERE}x", group_of(OWN))
        circle = [OWN, f"http://{NODE_NAME}/groups/a", f"{THERE}x", OWN]
        self.assertEqual(load_json(self.successResultOf(made).payload), {"circles": [circle]})

    def test_a_circle_closed_by_a_change(self) -> None:
        """A change that closes a circle says so, once; one that opens it does not. Who makes ten changes does not read ten times."""
        groups = self.build()
        self.successResultOf(groups.make([uri_at(1)]))
        added = groups.send(Method.POST, "/groups/g/members", {"members": [f"{THERE}x"]})
        self.answer(groups, f"{THERE}x", group_of(OWN))
        told = self.successResultOf(added)
        self.assertEqual((told.status, load_json(told.payload)), (Status.CHANGED, {"circles": [[OWN, f"{THERE}x", OWN]]}))
        for members in ([f"{THERE}x", uri_at(2)], [uri_at(1)]):
            self.assertEqual(self.successResultOf(groups.send(Method.PUT, "/groups/g/members", {"members": members})).payload, b"")

    def test_bounded(self) -> None:
        """Of a hundred groups so many are read at once, and no more than the bound in all."""
        groups = self.build()
        made = groups.make([f"{THERE}{number}" for number in range(100)])
        read = 0
        while self.asked(groups):
            for uri in self.asked(groups):
                self.answer(groups, uri, group_of(uri_at(2)))
                read += 1
        self.successResultOf(made)
        self.assertEqual(read, MOST_READ)
