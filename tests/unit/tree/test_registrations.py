"""Finding registered devices by name, host and address while they come, change and go."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.tree.registrations import SCL, Device, Registrations, device_of
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Remove, Resource, Unit, Write
from tests.unit.fakes import build_tree


def document(hosts: tuple[str, ...] = (), addresses: tuple[str, ...] = (), **more: object) -> Document:
    usual = {"port": 5683, "scheme": "coap", "multicastEnabled": True, "groupServer": False, "mcGroups": "/mcGroups", "fixedGroups": []}
    return {**usual, "hosts": list(hosts), "addresses": list(addresses), **more}


class RegistrationsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.built = build_tree([ResourceType(SCL, ("scls", "*"), lambda _, given: given)])
        self.registrations = Registrations(self.built.tree)

    def put(self, name: str, given: Document) -> None:
        self.successResultOf(self.built.committer.commit(Unit((Write(("scls", name), SCL, given),))))

    def remove(self, name: str) -> None:
        self.successResultOf(self.built.committer.commit(Unit((Remove(("scls", name)),))))

    def at_host(self, host: str) -> str | None:
        found = self.registrations.at_host(host)
        return found.name if found else None

    def at_address(self, address: str) -> str | None:
        found = self.registrations.at_address(address)
        return found.name if found else None

    def test_a_device(self) -> None:
        """A device is what its registration says."""
        self.put("d1", document(("d1.example.org",), ("fd00::d1",), port=61616, fixedGroups=["ff35::1"]))
        expected = Device("d1", ("d1.example.org",), ("fd00::d1",), 61616, "coap", True, False, "/mcGroups", ("ff35::1",))
        self.assertEqual(self.registrations.named("d1"), expected)
        self.assertIsNone(self.registrations.named("d2"))

    def test_made_out_once(self) -> None:
        """A registration that is looked at again is not made out again; one that was written since is another device."""
        devices = []
        for host in ("a", "b"):
            self.put("d1", document((host,)))
            [resource] = self.built.tree.children(("scls",))
            devices.append(self.registrations.of(resource))
            self.assertIs(self.registrations.of(resource), devices[-1])
        self.assertEqual([device.hosts for device in devices], [("a",), ("b",)])

    def test_found_by_a_text(self) -> None:
        """A text finds a device by a part of its name, as it stands and as the endpoint said it, of a host, or of an address."""
        self.put("urn:imei:1%2F2", document(("D1.example.org",), ("fd00::d1",)))
        device = self.registrations.named("urn:imei:1%2F2")
        assert device is not None
        for text, found in (("imei:1/2", True), ("1%2f2", True), ("d1.ex", True), ("::d1", True), ("", True), ("d2", False)):
            self.assertEqual(device.is_found_by(text), found, text)

    def test_hosts_names_and_addresses(self) -> None:
        """A host is looked for among the hosts, in any case, then among the names, then among the addresses."""
        self.put("d1", document(("d2", "d1.example.org"), ("fd00::d1",)))
        self.put("d2", document((), ("fd00::d2", "10.0.0.2")))
        found = [self.at_host(host) for host in ("D1.Example.org", "d2", "d1", "fd00::d2", "10.0.0.2", "d3")]
        self.assertEqual(found, ["d1", "d1", "d1", "d2", "d2", None])
        self.assertEqual([self.at_address(address) for address in ("fd00::d1", "10.0.0.2", "d1")], ["d1", "d2", None])

    def test_reporting_client(self) -> None:
        """A gateway's name does not lead to the LwM2M client by which it reports; a client with other objects, or a host, is found."""
        objects = ("/33050", "/33050/0", "/3303/0")
        found = []
        for target in objects:
            said = {"attributes": {"lwm2m": "1.1"}, "links": [{"href": "/3/0"}, {"href": target}]}
            self.put("g1.example.org", document((), ("fd00::1",), port=5685, **said))
            found.append((self.at_host("g1.example.org"), self.at_address("fd00::1")))
        self.assertEqual(found, [(None, "g1.example.org")] * 2 + [("g1.example.org",) * 2])
        self.put("g1.example.org", document(("g1.example.org",), ("fd00::1",), attributes={"lwm2m": "1.1"}, links=[{"href": "/33050"}]))
        self.assertEqual(self.at_host("g1.example.org"), "g1.example.org")

    def test_changes(self) -> None:
        """When a registration changes, it is found by what it says now and no longer by what it said."""
        self.put("d1", document(("old",), ("fd00::1",)))
        self.put("d1", document(("new",), ("fd00::2",)))
        self.assertEqual(
            [self.at_host("old"), self.at_host("new"), self.at_address("fd00::1"), self.at_address("fd00::2")], [None, "d1", None, "d1"]
        )
        self.remove("d1")
        self.assertEqual([self.at_host("new"), self.at_host("d1"), self.at_address("fd00::2")], [None, None, None])

    def test_group_servers(self) -> None:
        """The devices that are group servers themselves are known by name, while they say so."""
        for name in ("g3", "g2", "d1"):
            self.put(name, document(groupServer=name != "d1"))
        self.assertEqual([device.name for device in self.registrations.group_servers()], ["g2", "g3"])
        self.put("g2", document())
        self.remove("g3")
        self.assertEqual(self.registrations.group_servers(), [])

    def test_registered_elsewhere(self) -> None:
        """A device that was found at another node is found by its host while none is registered here; never by its address alone."""
        guest = replace(device_of(Resource(("scls", "d9"), SCL, document((), ("fd00::d9",)), None, None, 0, 0, 1)), name="d9@http://n1")
        self.registrations.found_elsewhere("d9.example.org", guest)
        self.assertEqual((self.at_host("d9.example.org"), self.registrations.named("d9@http://n1")), ("d9@http://n1", guest))
        self.assertEqual((self.registrations.here("d9.example.org"), self.at_address("fd00::d9")), (None, None))
        self.put("d1", document(("d9.example.org",)))
        self.assertEqual(self.at_host("d9.example.org"), "d1")
        self.remove("d1")
        self.registrations.found_elsewhere("d9.example.org", None)
        self.assertEqual((self.at_host("d9.example.org"), self.registrations.named("d9@http://n1")), (None, None))

    def test_two_devices_that_say_the_same(self) -> None:
        """Of two devices with one host and one address the last one is found; when it goes, the other."""
        self.put("d1", document(("same",), ("fd00::1", "fd00::1")))
        self.put("d2", document(("SAME", "same"), ("fd00::1",)))
        self.assertEqual((self.at_host("same"), self.at_address("fd00::1")), ("d2", "d2"))
        self.put("d1", document(("same",), ("fd00::1",)))
        self.assertEqual((self.at_host("same"), self.at_address("fd00::1")), ("d1", "d1"))
        self.remove("d1")
        self.assertEqual((self.at_host("same"), self.at_address("fd00::1")), ("d2", "d2"))
        self.remove("d2")
        self.assertEqual((self.at_host("same"), self.at_address("fd00::1")), (None, None))

    def test_devices_behind_one_address(self) -> None:
        """Of several devices at one host or address the one at the port that is asked for is found, without one the last."""
        for number in (1, 2, 3):
            self.put(f"d{number}", document(("h",), ("fd00::1",), port=5682 + number))
        for ask in (self.registrations.at_host, self.registrations.at_address):
            found = [ask("h" if ask == self.registrations.at_host else "fd00::1", port) for port in (None, 5683, 5684, 9)]
            self.assertEqual([device and device.name for device in found], ["d3", "d1", "d2", "d3"])

    def test_after_a_start(self) -> None:
        """What was there before the start is found."""
        self.put("d1", document(("h",), ("fd00::1",)))
        again = build_tree()
        again.tree.load([(resource, None) for resource in self.built.tree.walk()], 9)
        registrations = Registrations(again.tree)
        self.assertIsNotNone(registrations.at_host("h"))
        self.assertIsNotNone(registrations.at_address("fd00::1"))

    def test_odd_documents(self) -> None:
        """A stored document whose lists are none gives a device without hosts and addresses, and raises nothing."""
        odd = device_of(Resource(("scls", "x"), SCL, {**document(), "hosts": None, "port": "a"}, None, None, 0, 0, 1))
        self.assertEqual((odd.hosts, odd.port), ((), 0))

    def test_how_a_device_is_told_of_groups(self) -> None:
        """RFC 7390's interface counts for a device that has only that one."""
        gp, own = {"href": "/coap-group", "rt": "core.gp x"}, {"href": "/mc", "rt": "m2m.mcgroups"}
        for links, path in (
            ([], ""),
            ([gp], "/coap-group"),
            ([gp, own], ""),
            ([own, gp], ""),
            ([{"href": "coap://x/", "rt": "core.gp"}], ""),
        ):
            kept = {**document(), "links": links}
            self.assertEqual(device_of(Resource(("scls", "x"), SCL, kept, None, None, 0, 0, 1)).coap_group, path)
