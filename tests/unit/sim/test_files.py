"""`sim.files`: what the demonstration configures."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.config import load
from m2mapp.lwm2m.device_settings import DeviceSettings
from m2mapp.sim.files import DEVICES, Layout, groups, kind_of, write_files
from m2mapp.sim.network import COAP_PORT, LOOPBACK, NAMESPACES, Network

SPACES = Network(NAMESPACES, "fd00:6d32:6d::1", "gw0", "dev0", COAP_PORT, outside=True)
LOCAL = Network(LOOPBACK, "127.0.0.1", "lo", "lo", 15683, outside=False)


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.layout = Layout(Path(self.mktemp()).resolve() / 'a "quoted" place')

    def test_program_takes_the_files(self) -> None:
        """The program finds no fault in any file, for either network, and each node is who and where it should be."""
        for network, gateway, last in ((SPACES, "::", ()), (LOCAL, "127.0.0.1", (("127.0.1.30", 15683),))):
            write_files(self.layout, network, "tcp:8080:interface=127.0.0.1")
            settings = load(str(self.layout.gateway_file))
            assert settings.coap is not None
            self.assertEqual((settings.node.name, settings.coap.listen), ("g1.example.org", ((gateway, network.port),)))
            self.assertEqual((settings.groups is not None, settings.member), (True, False))
            files = sorted(self.layout.device_directory.glob("*.toml"))
            self.assertEqual(len(files), DEVICES)
            devices = [load(str(file)) for file in files]
            own = {(each.node.name, each.node.state_dir, each.coap and each.coap.listen, each.device) for each in devices}
            self.assertEqual(len(own), DEVICES)
            places = {(each.coap and each.coap.listen, each.device and each.device.link_local) for each in devices}
            self.assertEqual(len(places), DEVICES)
            thirtieth = load(str(self.layout.device_directory / "d30.toml"))
            assert thirtieth.coap is not None
            assert thirtieth.sim is not None
            self.assertEqual((thirtieth.coap.listen, thirtieth.member, thirtieth.sim.model), (last, True, "meter"))

    def test_two_ways(self) -> None:
        """With a prefix a device is given an address, and told the rest; without it registers where its file says."""
        write_files(self.layout, SPACES, "tcp:8080:interface=127.0.0.1")
        gateway, given = load(str(self.layout.gateway_file)), load(str(self.layout.device_directory / "d30.toml"))
        assert gateway.dhcpv6 is not None
        assert gateway.bootstrap is not None
        self.assertEqual((gateway.dhcpv6.roles, list(gateway.bootstrap.plans)), (("dhcpv6.downlink",), ["all"]))
        self.assertEqual(given.device, DeviceSettings("dev0", "d30", IPv6Address("fe80::d30")))
        self.assertEqual(given.sim and given.sim.registrar, "")
        write_files(self.layout, LOCAL, "tcp:8080:interface=127.0.0.1")
        knowing = load(str(self.layout.device_directory / "d30.toml"))
        assert knowing.sim is not None
        self.assertEqual((knowing.device, knowing.sim.endpoint, knowing.sim.hosts), (None, "d30", ("d30.example.org",)))
        self.assertEqual(knowing.sim.registrar, "coap://127.0.0.1:15683/rd")

    def test_old_files_go_and_state_stays(self) -> None:
        """A device file of an earlier run that is no more is removed; what the nodes kept stays."""
        write_files(self.layout, LOCAL, "tcp:8080")
        stray = self.layout.device_directory / "d31.toml"
        stray.write_text("")
        self.layout.state("d1").mkdir()
        write_files(self.layout, LOCAL, "tcp:8080")
        self.assertEqual((stray.exists(), self.layout.state("d1").exists()), (False, True))

    def test_groups(self) -> None:
        """There is a group of all devices and one of each kind, whose members are the devices of that kind."""
        made = groups()
        self.assertEqual(
            {name: len(members) for name, members in made.items()}, {"devices": 30, "temperatures": 10, "switches": 10, "meters": 10}
        )
        self.assertEqual(sorted(made["temperatures"] + made["switches"] + made["meters"]), sorted(made["devices"]))
        self.assertEqual((kind_of(1), kind_of(11), kind_of(30)), ("temperature", "switch", "meter"))
        self.assertEqual(made["switches"][0], "coap://d11.example.org/value")
