"""The page of addresses: where the bootstrap address came from, prefixes, leases, and reservations that are made and deleted."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv6Address

from twisted.internet.defer import Deferred
from zope.interface import implementer

from m2mapp.dhcpv6.binding import BINDING_TYPES, Binding, Client, State, binding_of
from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.dhcpv6.uplink import UPLINK_TYPE
from m2mapp.formats.documents import load_document
from m2mapp.model.errors import Conflict
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Method, Request, Response
from m2mapp.tree.resources import written
from m2mapp.tree.service import execute
from m2mapp.tree.unit import Unit, Write
from tests.unit.admin.harness import House
from tests.unit.admin.test_devices import DevicesCase, Told
from tests.unit.admin.test_operations import text_of
from tests.unit.http.harness import VIEWER
from tests.unit.lwm2m.reporting import duid

FILE = {"uri": "coaps://bs.example.org:5684", "certificate": None, "from": "the configuration file", "since": None}
SERVER = {"uri": "coap://[fd00::b5]", "certificate": None, "from": "000300", "since": "2027-01-15T08:00:00.000Z"}
NODE = {
    "name": "gw",
    "warnings": ["eth1: 3 addresses are left"],
    "bootstrap": {"uri": FILE["uri"], "certificate": None, "source": "file", "sources": {"file": FILE, "dhcpv6": SERVER}},
}
TAKEN = "fd00::bad"
AT_MS = 1_800_000_000_000


def binding(number: int, iaid: int = 1, **more: object) -> Binding:
    """What a device has."""
    given: dict[str, object] = {"interface": "eth1", "client_address": "fe80::1", "bootstrap_uri": "coap://[fd00::b5]", "first_ms": AT_MS}
    client = Client(bytes.fromhex(duid(number)), iaid, for_prefix=False)
    given["value"] = IPv6Address(f"fd00::d:{number:x}")
    return Binding(client, preferred_s=3600, valid_s=7200, given_ms=AT_MS, **{**given, **more})  # type: ignore[arg-type]


def lease(number: int, iaid: int = 1) -> Write:
    """The lease of a device."""
    return binding(number, iaid).write()


@implementer(IHandle)
class Reserving:
    """What the downlink does with a reservation, in short; all else is the tree's."""

    def __init__(self) -> None:
        self.house: House | None = None

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The answer at `/leases`. Raises `Conflict` for the address that is another's."""
        assert self.house is not None
        built = self.house.built
        if request.method is not Method.PUT:
            return execute(built.committer, built.rules.decide(request))
        text = str(load_document(request.payload, request.content_type)["address"])
        if text == TAKEN:
            raise Conflict(f"address: {text} is another client's, or was declined")
        there, address = built.tree.find(request.path), IPv6Address(text)
        client = Client(bytes.fromhex(request.path[1]), int(request.path[2]), for_prefix=False)
        new = Binding(client, address, 0, INFINITY, AT_MS, State.RESERVED, reserved=address)
        unit = Unit(((replace(binding_of(there), reserved=address) if there is not None else new).write(),))
        done: Deferred[Response] = built.committer.commit(unit).addCallback(written(request.path))
        return done


class AddressesCase(DevicesCase):
    def setUp(self) -> None:
        super().setUp()
        reserving = Reserving()
        self.house.stop()
        self.house.types = [*BINDING_TYPES, UPLINK_TYPE]
        self.house.routes = {("leases",): reserving, ("node",): Told({"/node": NODE})}
        self.house.__post_init__()
        reserving.house = self.house
        self.visitor = self.house.signed_in()

    def page(self, target: str = "") -> str:
        """What a page says that is there."""
        answer = self.visitor.get("/admin/addresses" + target)
        self.assertEqual(answer.code, 200, target)
        return text_of(answer.body)


class ReadTests(AddressesCase):
    def test_sources(self) -> None:
        """The sources stand in their order, with what each says and the one that counts; a warning is at the top."""
        page = self.page()
        self.assertIn("Devices are told coaps://bs.example.org:5684", page)
        self.assertIn("1 the configuration file counts coaps://bs.example.org:5684 the configuration file the start", page)
        self.assertIn("2 DHCPv6, from the server upstream does not count coap://[fd00::b5] 000300 2027-01-15 08:00:00", page)
        self.assertIn("3 router advertisements upstream says nothing", page)
        self.assertIn("eth1: 3 addresses are left", page)

    def test_prefixes(self) -> None:
        """Prefixes that came from upstream and such as were delegated, with their times."""
        times = {"preferredUntil": "2027-01-15T09:00:00.000Z", "validUntil": None, "bootstrapURI": None}
        self.commit(Write(("prefixes", "0"), "uplink-prefix", {"prefix": "2001:db8::/56", "from": "00aa", "state": "preferred", **times}))
        self.commit(Write(("prefixes", "00bb-1"), "prefix", {"prefix": "2001:db8:1::/56", "duid": "00bb", "state": "bound", **times}))
        page = self.page()
        self.assertIn("2001:db8::/56 preferred from 00aa 2027-01-15 09:00:00 for ever -", page)
        self.assertIn("2001:db8:1::/56 bound for 00bb", page)

    def test_leases_in_parts(self) -> None:
        """Leases are shown in parts, those of one device together, and found by what they have; all are reached once."""
        self.commit(*(lease(number) for number in range(250)), lease(7, 2))
        seen: list[str] = []
        target = "/admin/addresses"
        for _ in range(5):
            body = self.visitor.get(target).body.decode()
            seen += re.findall(r'<a href="/admin/addresses/([0-9a-f]+/\d)">fd00', body)
            following = re.findall(r'rel="next" href="([^"]+)"', body)
            if not following:
                break
            target = "/admin/addresses" + following[0].replace("&amp;", "&")
        self.assertEqual((len(seen), len(set(seen))), (251, 251))
        self.assertEqual(self.page("?q=d%3A1f").count("bound"), 1)
        self.assertIn("None that is like that", self.page("?q=nothing"))

    def test_one_lease(self) -> None:
        """A lease's page says what the device has, and where it was told another bootstrap address than devices are told now."""
        self.commit(lease(1))
        page = self.page(f"/{duid(1)}/1")
        self.assertIn("Bootstrap address told coap://[fd00::b5]", page)
        self.assertIn("Devices are told coaps://bs.example.org:5684 now", page)
        for target in (f"/{duid(2)}/1", "/a", "/a/b/c"):
            self.assertEqual(self.visitor.get("/admin/addresses" + target).code, 404, target)


class ReserveTests(AddressesCase):
    def test_reserve_and_delete(self) -> None:
        """A reservation is told as done when it is kept, shown, and deleted with the address free."""
        answer = self.visitor.post("/admin/addresses", do="reserve", duid=duid(3).upper(), iaid="1", address="fd00::d:9")
        self.assertEqual((answer.code, answer.headers["location"]), (303, "/admin/addresses"))
        page = self.page()
        self.assertIn(f"fd00::d:9 is reserved for {duid(3)} (it gets it when it asks)", page)
        self.assertIn("reserved", self.page("?q=reserved"))
        self.assertEqual(self.visitor.post("/admin/addresses", do="end", duid=duid(3), iaid="1").code, 303)
        self.assertIn("the reservation of fd00::d:9 is deleted", self.page())
        self.assertIsNone(self.house.built.tree.find(("leases", duid(3), "1")))
        self.assertEqual(self.visitor.post("/admin/addresses", do="end", duid=duid(3), iaid="1").code, 404)

    def test_for_a_device_that_has_another(self) -> None:
        """It keeps what it has until it asks again, and that is said; one that has the address has it."""
        self.commit(lease(3))
        self.visitor.post("/admin/addresses", do="reserve", duid=duid(3), iaid="1", address="fd00::d:9")
        self.assertIn("it has fd00::d:3 until it asks again", self.page())
        self.assertIn("fd00::d:9 is reserved for it", self.page())
        self.visitor.post("/admin/addresses", do="reserve", duid=duid(3), iaid="1", address="fd00::d:3")
        self.assertIn("(it has it)", self.page())

    def test_told_to_ask_again(self) -> None:
        """Of a device that can be told, it is done when its lease has the address, and not done when that has not come in time."""
        self.commit(binding(3, reconfigure=True).write(), binding(4, reconfigure=True).write())
        for number in (3, 4):
            self.visitor.post("/admin/addresses", do="reserve", duid=duid(number), iaid="1", address=f"fd00::e:{number}")
        self.assertIn(f"Asked: {duid(3)} is told to ask again, and to take fd00::e:3; its effect is awaited", self.page())
        self.commit(binding(3, value=IPv6Address("fd00::e:3"), reserved=IPv6Address("fd00::e:3")).write())
        self.house.clock.advance(31)
        self.assertIn(f"Done: {duid(3)} is told to ask again, and to take fd00::e:3 (its lease says so)", self.page())
        self.assertIn(f"Not done: {duid(4)} is told to ask again", self.page())

    def test_refused(self) -> None:
        """An address that is another's is not reserved, with the reason, and what was typed is there still; a viewer may not."""
        answer = self.visitor.post("/admin/addresses", do="reserve", duid=duid(3), iaid="1", address=TAKEN)
        self.assertEqual(answer.code, 409)
        self.assertIn("is another client's", text_of(answer.body))
        self.assertIn(f'value="{TAKEN}"'.encode(), answer.body)
        viewer = self.house.signed_in(VIEWER)
        self.assertNotIn(b'value="reserve"', viewer.get("/admin/addresses").body)
        self.assertEqual(viewer.post("/admin/addresses", do="reserve", duid=duid(3), iaid="1", address="fd00::9").code, 403)
