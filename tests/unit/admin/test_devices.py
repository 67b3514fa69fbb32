"""The page of devices: which there are, found by what, what each one's page says, and that a thousand are shown in parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from zope.interface import implementer

from m2mapp.admin.devices import Devices, place_of
from m2mapp.groups.group import GROUPS
from m2mapp.model.errors import NoSuchResource
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Request, Response
from m2mapp.tree.representation import document_response
from m2mapp.tree.unit import Unit, Write
from tests.unit.admin.test_operations import text_of
from tests.unit.admin.test_site import SiteCase
from tests.unit.http.harness import SCOPED
from tests.unit.lwm2m.reporting import duid, lease, registration

MULTICAST = "multicast-ipv6"


@implementer(IHandle)
class Told:
    """Answers GET with the documents that it has, by path."""

    def __init__(self, documents: Mapping[str, Mapping[str, object]]) -> None:
        self.documents = documents

    def handle(self, request: Request) -> Response:
        """The document, or `NoSuchResource`."""
        path = "/" + "/".join(request.path)
        if path not in self.documents:
            raise NoSuchResource(path)
        return document_response(self.documents[path], request.accept, 1)


def group(name: str, joins: Mapping[str, str], kind: str = MULTICAST) -> tuple[Write, ...]:
    """A group with one fan-out set."""
    return (
        Write((*GROUPS, name), "group", {"members": list(joins)}),
        Write((*GROUPS, name, "fanoutSets", "1"), "fanoutSet", {"addressType": kind, "memberList": list(joins), "joins": dict(joins)}),
    )


class DevicesCase(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.visitor = self.house.signed_in()

    def commit(self, *changes: Write) -> None:
        """A write past the pages."""
        self.house.built.committer.commit(Unit(changes))

    def page(self, target: str = "") -> str:
        """What a page says that is there."""
        answer = self.visitor.get("/admin/devices" + target)
        self.assertEqual(answer.code, 200, target)
        return text_of(answer.body)


class ListTests(DevicesCase):
    def test_joined_by_address(self) -> None:
        """A lease and a registration with one address are one device, by the registration's name; a device without either is none."""
        self.commit(lease(1), lease(2), registration(1), registration(3), *group("lamps", {"coap://dev-1.example.org/l": "proven"}))
        page = self.page()
        self.assertIn("3 devices of this gateway", page)
        self.assertIn(f"{duid(2)} fd00::d:2 ✓ ✓ ✗ registered is missing since 2027-01-15 08:00:00", page)
        self.assertIn("dev-1 fd00::d:1 ✓ ✓ ✓ ✓ ✓ all steps came lamps", page)
        self.assertIn("dev-3 fd00::d:3 - ✓ - - all steps came", page)

    def test_search_and_filter(self) -> None:
        """Devices are found by name, DUID, host and address, and by that they miss a step."""
        self.commit(lease(1), lease(2), registration(1))
        for wanted, said in (("dev-1", "dev-1"), (duid(1), "dev-1"), ("D%3A2", duid(2)), ("dev-1.example", "dev-1")):
            page = self.page(f"?q={wanted}")
            self.assertIn(said + " fd00", page)
            self.assertEqual(page.count(" fd00::d:"), 1, wanted)
        self.commit(replace(registration(3), path=("scls", "urn:imei:1%2F2")))
        self.assertIn("urn:imei:1%2F2 fd00::d:3", self.page("?q=imei:1/2"))
        lacking = self.page("?missing=1")
        self.assertIn(duid(2), lacking)
        self.assertNotIn("dev-1", lacking)
        self.assertIn("None that is like that", self.page("?q=xyz"))

    def test_many(self) -> None:
        """A thousand devices in one group are shown in parts, each of which leads to the next, by their numbers; all are reached."""
        uris = {f"coap://dev-{number}.example.org/l": "joined" for number in range(1000)}
        self.commit(*(lease(number) for number in range(1000)), *(registration(number) for number in range(1000)), *group("all", uris))
        seen: list[str] = []
        target = "/admin/devices"
        for _ in range(30):
            body = self.visitor.get(target).body.decode()
            seen += re.findall(r'<th scope="row"><a href="/admin/devices/([^"]+)"', body)
            following = re.findall(r'rel="next" href="([^"]+)"', body)
            if not following:
                break
            target = "/admin/devices" + following[0].replace("&amp;", "&")
        self.assertEqual(seen, [f"dev-{number}" for number in range(1000)])
        self.assertIn("None that is like that", self.page("?missing=1"))

    def test_rights(self) -> None:
        """Who may read neither leases nor registrations sees no devices."""
        self.commit(lease(1), registration(1))
        scoped = self.house.signed_in(SCOPED)
        self.assertIn("0 devices", text_of(scoped.get("/admin/devices").body))
        self.assertEqual(scoped.get("/admin/devices/dev-1").code, 404)

    def test_several_at_one_host(self) -> None:
        """Devices that share an address are told apart by their ports; a port that is named nowhere is that of CoAP."""
        tree = self.house.built.tree
        self.commit(registration(1, addresses=["fd00::1"], port=5683), registration(2, addresses=["fd00::1"], port=61616))
        self.commit(*group("g", {"coap://[fd00::1]/l": "joined", "coap://[fd00::1]:61616/l": "pending"}))
        devices = Devices(tree, lambda _: True, reports=False)
        members = devices.members(devices.founds(devices.names()))
        self.assertEqual(
            {name: [one.state for one in found] for name, found in members.items()}, {"dev-1": ["joined"], "dev-2": ["pending"]}
        )
        self.assertEqual(
            [place_of(uri) for uri in ("coap://D1:7/x", "http://d1", "coap://[fd00::1]:8/")], [("d1", 7), ("d1", 5683), ("fd00::1", 8)]
        )


class OneTests(DevicesCase):
    def test_timeline(self) -> None:
        """One device's page draws its steps, says what is missing, for how long, and what to do; it is found by each of its names."""
        self.commit(lease(2))
        for name in (duid(2), "fd00::d:2", duid(2).upper()):
            page = self.page(f"/{name}")
            self.assertIn("Registered is missing for", page)
            self.assertIn("look whether it is on", page)
            self.assertIn("bootstrap address told coap://[fd00::b5]", page)
        self.assertEqual(self.visitor.get("/admin/devices/none").code, 404)
        self.assertEqual(self.visitor.get("/admin/devices/a/b").code, 404)

    def test_silent_member(self) -> None:
        """A member that its group knows to be silent makes the last step the missing one."""
        uri = "coap://dev-1.example.org/l"
        state = {"state": {uri: {"join": "joined", "lastHeard": None, "silentSince": "2027-01-15T08:30:00.000Z"}}}
        self.house.stop()
        self.house.routes = {("groups", "lamps", "members"): Told({"/groups/lamps/members": state})}
        self.house.__post_init__()
        self.visitor = self.house.signed_in()
        self.commit(lease(1), registration(1), *group("lamps", {uri: "joined"}))
        page = self.page("/dev-1")
        self.assertIn("Answered in a group is missing", page)
        self.assertIn("silent since then, and never heard", page)
        self.assertIn("2027-01-15 08:30:00", page)
        self.assertIn("lamps coap://dev-1.example.org/l joined", page)


class BootstrapServerTests(DevicesCase):
    def setUp(self) -> None:
        super().setUp()
        missing = {"step": "bootstrapped", "since": "2027-01-15T08:00:00.000Z", "forSeconds": 90, "do": "The bootstrap was not finished."}
        chain = [{"step": "bootstrap requested", "at": "2027-01-15T08:00:00.000Z"}, {"step": "bootstrapped", "at": None}]
        listed = {"name": "urn:dev:1", "state": "failed", "missing": missing}
        documents: dict[str, dict[str, object]] = {
            "/devices": {"path": "/devices", "children": [listed], "next": "urn:dev:1"},
            "/devices/urn:dev:1": {"state": "failed", "why": "4.00", "chain": chain, "missing": missing},
        }
        self.house.stop()
        self.house.routes = {("devices",): Told(documents)}
        self.house.roles = ["http", "bootstrap"]
        self.house.__post_init__()
        self.visitor = self.house.signed_in()

    def test_list(self) -> None:
        """A bootstrap server lists the devices that it knows, with the step that is missing and what to do."""
        page = self.page()
        self.assertIn("urn:dev:1 - failed bootstrapped is missing for 1 min 30 s The bootstrap was not finished.", page)
        self.assertNotIn("of this gateway", page)
        self.assertIn(b"told=urn%3Adev%3A1", self.visitor.get("/admin/devices").body)

    def test_one(self) -> None:
        """Each has its timeline as the server tells it."""
        page = self.page("/urn:dev:1")
        self.assertIn("bootstrapped missing did not come The bootstrap was not finished.", page)
        self.assertIn("Why 4.00", page)
