"""A node as it is built: what answers where, what it says of itself, what is on and what is off."""

from __future__ import annotations

import json
from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.dtls.settings import CoapsSettings
from m2mapp.coap.service import CoapService
from m2mapp.coap.settings import AccessSettings, CoapSettings
from m2mapp.config import NodeSettings, Peer, Settings
from m2mapp.groups.service import GroupService
from m2mapp.groups.settings import GroupSettings
from m2mapp.http.settings import HttpSettings
from m2mapp.lwm2m.plans import PlanShape
from m2mapp.lwm2m.settings import BootstrapSettings
from m2mapp.member.service import MemberService
from m2mapp.model.errors import Conflict, NoSuchResource, Overloaded
from m2mapp.model.messages import Method, Request
from m2mapp.model.principal import NOBODY, Right
from m2mapp.net.addresses import OnLink
from m2mapp.node.build import node_uri
from m2mapp.node.door import Door
from m2mapp.node.front import anonymous_principals
from m2mapp.registry.drivers.registering import Registering
from m2mapp.sim.service import SimService
from m2mapp.sim.settings import SimSettings
from tests.certificates import issue
from tests.simulation import Simulation
from tests.unit.simulation.world import GATEWAY_ADDRESS, Box, build_box, build_site, gateway_settings, member_settings


def node_settings(**more: object) -> Settings:
    """A node without HTTP, whose CoAP is at fd00::1."""
    given: dict[str, object] = {"coap": CoapSettings(((GATEWAY_ADDRESS, 5683),), ("eth0",), AccessSettings()), **more}
    return Settings(NodeSettings("g1.example.org", ("alias",), "/s"), **given)  # type: ignore[arg-type]


class BuildCase(SynchronousTestCase):
    def build(self, settings: Settings) -> Box:
        """A simulated box on which the node runs, prepared."""
        simulation = Simulation(1)
        box = build_box(simulation, settings, GATEWAY_ADDRESS)
        box.start()
        simulation.scheduler.advance(0.5)
        self.addCleanup(box.stop)
        return box


class RoleTests(BuildCase):
    def test_the_least(self) -> None:
        """A node with CoAP alone: registrations and its own page, and no role that is off."""
        box = self.build(node_settings())
        assert box.node is not None
        for kind in (GroupService, MemberService, SimService, Registering):
            self.assertRaises(LookupError, box.node.part, kind)
        shown = box.read("/node")
        self.assertEqual((shown["name"], shown["aliases"], shown["roles"]), ("g1.example.org", ["alias"], ["coap"]))
        self.assertEqual(shown["uri"], "coap://g1.example.org")
        self.assertEqual(box.read("/scls")["children"], [])
        self.assertEqual(self.failureResultOf(box.send(Method.GET, "/groups")).type, NoSuchResource)
        self.assertEqual(self.failureResultOf(box.send(Method.PUT, "/groups/g", {})).type, Conflict)

    def test_coaps(self) -> None:
        """A node that serves coaps says so on /node, with whom its certificate names and until when; its coaps URIs are its own."""
        shown = issue("g1.example.org")
        coaps = CoapsSettings((("fd00::1", 5684),), shown.identity)
        box = self.build(node_settings(coap=CoapSettings((("fd00::1", 5683),), coaps=coaps)))
        page = box.read("/node")["coaps"]
        assert isinstance(page, dict)
        self.assertEqual((page["uri"], page["certificate"]["names"]), ("coaps://g1.example.org", ["g1.example.org"]))
        self.assertEqual(page["certificate"]["sha256"], sha256(shown.der).hexdigest())
        assert box.node is not None
        self.assertEqual(len(box.node.part(CoapService).endpoint.dtls_ports), 1)

    def test_bootstrap(self) -> None:
        """A bootstrap server has the plans of its files in the tree when it is ready, is found in discovery, and is a role on /node."""
        document = {"default": True, "servers": [{"shortId": 1, "uri": "coap://[::1]"}]}
        plan = {**PlanShape(()).check("fleet", document), "file": "/etc/fleet.toml"}
        box = self.build(node_settings(bootstrap=BootstrapSettings({"fleet": plan})))
        self.assertEqual(box.read("/node")["roles"], ["bootstrap", "coap"])
        self.assertEqual((box.read("/bs/fleet")["file"], box.read("/devices")["children"]), ("/etc/fleet.toml", []))
        self.assertIn('</bs>;rt="core.bs"', box.ask(Method.GET, "/.well-known/core").payload.decode())

    def test_every_role(self) -> None:
        """Roles that are on have their collections from the first start, are found on /node and in discovery."""
        box = self.build(node_settings(groups=GroupSettings(), member=True, sim=SimSettings("temperature")))
        self.assertEqual(box.read("/node")["roles"], ["coap", "groups", "member", "sim"])
        for path in ("/groups", "/mcGroups", "/scls"):
            self.assertEqual(box.read(path)["children"], [])
        links = box.ask(Method.GET, "/.well-known/core").payload.decode()
        for target in ("</rd>", "</groups>", "</mcGroups>", "</node>", "</temperature>"):
            self.assertIn(target, links)

    def test_the_page_has_a_version(self) -> None:
        """The ETag of /node changes with what it says."""
        tags = {self.build(node_settings(member=member)).ask(Method.GET, "/node").etag for member in (True, False)}
        self.assertEqual(len(tags), 2)

    def test_own_uris(self) -> None:
        """A member that is this node's own is asked here, without a datagram, by name, alias and address."""
        box = self.build(node_settings(groups=GroupSettings()))
        box.ask(Method.PUT, "/here", b"7")
        members = [f"coap://{host}/here" for host in ("g1.example.org", "alias", "[fd00::1]")]
        box.ask(Method.POST, "/groups", {"name": "g", "members": members})
        shown = box.read("/groups/g/membersContent")
        self.assertEqual({result["content"] for result in shown["members"].values()}, {"7"})  # type: ignore[attr-defined]
        self.assertEqual((shown["complete"], len(box.simulation.network.trace.events)), (True, 0))

    def test_peers(self) -> None:
        """A peer is reached by the name that this node gives it."""
        simulation = Simulation(1)
        other = build_box(simulation, member_settings(2), "fd00::d2")
        settings = node_settings(groups=GroupSettings(deadline_s=2.0), peers=(Peer("n1", "coap://[fd00::d2]", ""),))
        box = build_box(simulation, settings, GATEWAY_ADDRESS)
        for each in (box, other):
            each.start()
            self.addCleanup(each.stop)
        simulation.scheduler.advance(2.0)
        box.ask(Method.POST, "/groups", {"name": "g", "members": ["coap://n1/temperature", "coap://none.example.org/t"]})
        shown = box.read("/groups/g/membersContent")
        self.assertEqual((list(shown["members"]), shown["silent"]), (["coap://n1/temperature"], ["coap://none.example.org/t"]))  # type: ignore[call-overload]


class RegisteringTests(BuildCase):
    def test_registered_with_everything(self) -> None:
        """A simulated device registers when its first value is there: with its links, its hosts, and that it takes groups by multicast."""
        simulation = Simulation(3)
        site = build_site(simulation, 1)
        self.addCleanup(site.stop)
        site.run(3.0)
        shown = site.gateway.read("/scls/d1")
        self.assertEqual((shown["hosts"], shown["addresses"], shown["port"]), (["d1.example.org"], ["fd00::d1"], 5683))
        self.assertEqual((shown["multicastEnabled"], shown["groupServer"], shown["mcGroups"]), (True, False, "/mcGroups"))
        links = shown["links"]
        assert isinstance(links, list)
        self.assertIn("/temperature", [link["href"] for link in links])
        self.assertEqual(shown["groups"], [])
        site.gateway.ask(Method.POST, "/groups", {"name": "g", "members": site.uris()})
        self.assertEqual(site.gateway.read("/scls/d1")["groups"], ["/groups/g"])

    def test_stopped_in_order(self) -> None:
        """A device that stops takes its registration away, while it still can."""
        simulation = Simulation(3)
        site = build_site(simulation, 2)
        site.run(3.0)
        self.assertEqual(site.registered(), ["d1", "d2"])
        site.members[0].stop()
        self.assertEqual(site.registered(), ["d2"])
        site.members[0].start()
        site.run(3.0)
        self.assertEqual(site.registered(), ["d1", "d2"])
        site.stop()

    def test_seen(self) -> None:
        """A datagram of a device is a sign of life: `lastSeen` goes on."""
        simulation = Simulation(3)
        site = build_site(simulation, 1)
        self.addCleanup(site.stop)
        site.run(3.0)
        first = site.gateway.read("/scls/d1")["lastSeen"]
        site.run(400.0)
        self.assertNotEqual(site.gateway.read("/scls/d1")["lastSeen"], first)


class DoorTests(SynchronousTestCase):
    def test_before_all_parts_are_there(self) -> None:
        """A request that comes before there is anybody to answer it is told to come again."""
        door = Door()
        self.assertRaises(Overloaded, door.handle, Request(Method.GET, ()))
        self.assertRaises(Overloaded, door.handle_unicast, Request(Method.GET, ()))

    def test_the_uri(self) -> None:
        """The node's own URI is that of its first HTTP port, else that of CoAP; usual ports are left out."""
        http = HttpSettings(("tcp:8080:interface=127.0.0.1",))
        for settings, expected in (
            (node_settings(http=http), "http://g1.example.org:8080"),
            (node_settings(http=HttpSettings(("tcp:80",))), "http://g1.example.org"),
            (node_settings(http=HttpSettings(("unix:/s",))), "http://g1.example.org"),
            (node_settings(coap=CoapSettings((("::", 7),))), "coap://g1.example.org:7"),
            (node_settings(coap=None), "coap://g1.example.org"),
            (gateway_settings(), "coap://gw.example.org"),
        ):
            self.assertEqual(node_uri(settings), expected)

    def test_a_document(self) -> None:
        """What a GET at the door gives is JSON by default."""
        simulation = Simulation(1)
        box = build_box(simulation, node_settings(), GATEWAY_ADDRESS)
        box.start()
        simulation.scheduler.advance(0.5)
        self.assertEqual(json.loads(box.ask(Method.GET, "/node").payload)["name"], "g1.example.org")
        box.stop()


class AnonymousTests(SynchronousTestCase):
    def test_neighbours(self) -> None:
        """Without a token a neighbour on the link may discover, by either family and with a zone; a stranger may nothing."""
        datagrams = Simulation(1).network.attach("g1", {"eth1@lan": ["fd00::1/64", "192.0.2.1/24"]})
        anonymous = anonymous_principals(OnLink(datagrams, ["eth1"]), datagrams.interface_index)
        index = datagrams.interface_index("eth1")
        for source in ("fd00::7", "192.0.2.7", "fe80::7%eth1", f"fe80::7%{index}"):
            self.assertEqual(anonymous(source).rights, {Right.DISCOVER}, source)
        for source in ("2001:db8::7", "198.51.100.7", "fe80::7", "fe80::7%nix", "local"):
            self.assertIs(anonymous(source), NOBODY, source)
