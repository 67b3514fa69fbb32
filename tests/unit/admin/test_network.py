"""The network page: what it says of devices, other nodes and groups, and that its picture stays as it is where nothing has changed."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.admin.network import NOWHERE, Network, Standing, add_group, network_of, prefix_of
from m2mapp.admin.picture import CAPACITY, Box, Draughtsman, Picture
from m2mapp.registry.scl import check
from m2mapp.tree.registrations import SCL, device_of
from m2mapp.tree.unit import Resource
from tests.unit.admin.house_of_groups import GroupsCase, words
from tests.unit.groups.parts import answer, uri_at
from tests.unit.http.harness import SCOPED

AT = "/admin/network"


def registered(number: int, address: str = "", at_ms: int = 0) -> Resource:
    """The registration of a device."""
    given = {"hosts": [f"d{number}.example.org"], "addresses": [address or f"fd00::{number:x}"], "multicastEnabled": True}
    return Resource(("scls", f"d{number}"), SCL, check("", given), None, None, at_ms, at_ms, 1)


def of(*numbers: int) -> Network:
    """A network of these devices, registered in this order."""
    return network_of([registered(number, at_ms=place) for place, number in enumerate(numbers)], device_of, {})


def only_box(picture: Picture) -> Box:
    """The one prefix of a picture."""
    [box] = picture.boxes
    return box


def where(box: Box) -> dict[str, tuple[int, int]]:
    """Where each device is drawn."""
    return {dot.title.partition(":")[0]: (dot.x, dot.y) for dot in box.dots}


class PictureTests(SynchronousTestCase):
    def test_steady(self) -> None:
        """Devices, prefixes and other nodes stay where they are, whatever comes and goes beside them."""
        draughtsman = Draughtsman()
        before = where(only_box(draughtsman.draw(of(5, 9, 7), "gw")))
        after = where(only_box(draughtsman.draw(of(9, 1, 7), "gw")))
        self.assertEqual((after["d9"], after["d7"]), (before["d9"], before["d7"]))
        self.assertEqual(after["d1"], before["d5"])
        many = network_of([registered(number, f"fd00:{number:x}::1", number) for number in range(9)], device_of, {})
        corners = {box.key: (box.x, box.y) for box in draughtsman.draw(many, "gw").boxes}
        self.assertEqual(len(set(corners.values())), 9)
        fewer = network_of([registered(number, f"fd00:{number:x}::1", number) for number in (0, 8, 4)], device_of, {})
        self.assertEqual({box.key: (box.x, box.y) for box in draughtsman.draw(fewer, "gw").boxes}.items() - corners.items(), set())

    def test_the_same_after_a_restart(self) -> None:
        """A new start draws the same, whatever order the registrations are read in."""
        draws = [Draughtsman().draw(of(*numbers), "gw") for numbers in ((1, 2, 3), (1, 2, 3))]
        self.assertEqual(draws[0], draws[1])
        shuffled = network_of([registered(number, at_ms=number) for number in (3, 1, 2)], device_of, {})
        in_order = network_of([registered(number, at_ms=number) for number in (1, 2, 3)], device_of, {})
        self.assertEqual(Draughtsman().draw(shuffled, "gw"), Draughtsman().draw(in_order, "gw"))

    def test_a_thousand(self) -> None:
        """A box of many devices shows squares, each the worst of those in it, and is no larger; of few again it shows each."""
        draughtsman = Draughtsman()
        many = of(*range(1, 1001))
        uris = [uri_at(number) for number in range(1, 1001)]
        sets = [{"addressType": "multicast-ipv6", "memberList": uris, "joins": dict.fromkeys(uris, "joined") | {uris[0]: "failed"}}]
        add_group(many, "g", 1000, sets)
        box = only_box(draughtsman.draw(many, "gw"))
        self.assertLessEqual(len(box.dots), CAPACITY)
        self.assertTrue(all(dot.square for dot in box.dots))
        self.assertEqual(sum(dot.standing is Standing.BAD for dot in box.dots), 1)
        self.assertEqual(box.text, "1 silent or not joined, 999 in order")
        few = only_box(draughtsman.draw(of(1, 2), "gw"))
        self.assertEqual((few.width, few.height), (box.width, box.height))
        self.assertEqual(len(few.dots), 2)

    def test_none_outside_its_box(self) -> None:
        """Each device is drawn within its box, as many as it has places for, also when others have gone."""
        draughtsman = Draughtsman()
        draughtsman.draw(of(*range(CAPACITY)), "gw")
        for numbers in (range(CAPACITY), range(50, CAPACITY + 50), range(90, 200)):
            box = only_box(draughtsman.draw(of(*numbers), "gw"))
            self.assertEqual(len(set(where(box).values())), len(numbers))
            for dot in box.dots:
                self.assertTrue(box.x < dot.x < box.x + box.width and box.y < dot.y < box.y + box.height, dot)


class PageTests(GroupsCase):
    def test_the_page(self) -> None:
        """Devices, groups and how they stand, in the picture and in the tables."""
        self.groups.make([uri_at(1), uri_at(2), "http://x.example.org/t"])
        self.groups.register(4, addresses=["10.1.2.3"])
        page = self.page(AT)
        self.assertIn("10.1.2.0/24 1 1 0 0 0 fd00::/64 3 1 0 2 0", words(page, "tables"))
        self.assertIn("g 3 2 2 being told to join, 1 asked one by one", words(page, "tables"))
        self.assertEqual(len(re.findall(r'class="dot warning"', page.partition("</section>")[0])), 2 + 1)
        self.groups.join_all()
        self.assertIn("d1 in order fd00::d1 g", self.part(AT, "devices-found"))

    def test_a_layer(self) -> None:
        """One group is laid over the picture: its devices are marked, the others faint; the table has its devices alone."""
        self.groups.make([uri_at(1), uri_at(2)])
        self.groups.join_all()
        page = self.page(AT + "?group=g")
        picture = page.partition("</section>")[0]
        self.assertEqual((picture.count(" marked"), picture.count(" faint")), (2, 1))
        self.assertIn("2 of 3 in g", picture)
        self.assertIn("2 devices in the group g", words(page, "devices-found"))
        self.assertNotIn(" marked", self.page(AT + "?group=none"))

    def test_silence(self) -> None:
        """A device that did not answer its group stands as silent, until it answers again."""
        self.groups.make([uri_at(1), uri_at(2)])
        self.groups.join_all()
        self.visitor.post("/admin/groups/g", do="ask", method="GET")
        self.groups.clock.advance(31)
        for target in (AT, AT + "?group=g"):
            self.assertIn("d1 silent fd00::d1", self.part(target, "devices-found"))
        self.visitor.post("/admin/groups/g", do="ask", method="GET")
        for number in (1, 2):
            self.groups.sender.gatherings[-1].answer(answer(source=f"fd00::d{number}"))
        self.assertIn("d1 in order fd00::d1", self.part(AT + "?group=g", "devices-found"))
        self.house.clock.advance(5)
        self.assertIn("d1 in order fd00::d1", self.part(AT, "devices-found"))

    def test_found(self) -> None:
        """Devices are found by name and by address, of one prefix, and in parts where they are many."""
        for number in range(10, 130):
            self.groups.register(number, addresses=[f"fd00:2::{number:x}"])
        self.assertNotIn("d10 ", self.part(AT + "?find=D2", "devices-found"))
        self.assertIn("1 device.", self.part(AT + "?find=fd00:2::a", "devices-found"))
        page = self.page(AT + "?prefix=fd00:2::/64")
        self.assertIn("120 devices of fd00:2::/64", words(page, "devices-found"))
        self.assertIn("after=d109#devices", page)
        self.assertIn("d110 ", self.part(AT + "?prefix=fd00:2::/64&after=d109", "devices-found"))

    def test_scoped(self) -> None:
        """Who may not see devices and groups sees none, and does not disturb the picture of others."""
        before = self.page(AT).partition("</section>")[0]
        page = self.page(AT, self.house.signed_in(SCOPED))
        self.assertNotIn("d1", words(page, "devices-found"))
        self.groups.deregister(1)
        self.groups.register(1)
        place = re.search(r'x="\d+" y="\d+"><title>d2:', before)
        assert place is not None
        self.assertIn(place[0], self.page(AT))


class ServerTests(SynchronousTestCase):
    def test_other_nodes(self) -> None:
        """Nodes of the file and those that have members of a group are drawn, with how many are reached through them."""
        network = network_of([registered(1)], device_of, {"n1": "http://n1.example.com/", "n2": "http://n2.example.com"})
        sets = [
            {"addressType": "group", "group": "http://n1.example.com/groups/a", "memberList": ["coap://x/1", "coap://x/2"], "joins": {}},
            {"addressType": "group", "memberList": ["coap://g9.example.org/groups/b"], "joins": {}},
        ]
        add_group(network, "g", 3, sets)
        found = {server.uri: (server.name, server.members, server.groups) for server in network.servers.values()}
        self.assertEqual(found["http://n1.example.com"], ("n1", 2, {"g"}))
        self.assertEqual(found["http://n2.example.com"], ("n2", 0, set()))
        self.assertEqual(found["coap://g9.example.org"], ("", 1, {"g"}))
        picture = Draughtsman().draw(network, "gw", "g")
        self.assertEqual([box.lit for box in picture.boxes if box.is_server], [True, False, True])
        self.assertEqual(len({(box.x, box.y) for box in picture.boxes}), 4)

    def test_prefixes(self) -> None:
        """A device is where its first address is that is no link-local one: by /64, of IPv4 by /24."""
        for addresses, expected in (
            (("fe80::1%eth1", "fd00:1:2:3:4::5"), "fd00:1:2:3::/64"),
            (("fe80::1%eth1",), "fe80::/64"),
            (("10.1.2.3",), "10.1.2.0/24"),
            ((), NOWHERE),
        ):
            self.assertEqual(prefix_of(addresses), expected)
