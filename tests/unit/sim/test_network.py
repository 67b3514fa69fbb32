"""`sim.network`: which network the demonstration gets. That the one in namespaces carries multicast is for the system tests."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from m2mapp.sim.network import COAP_PORT, NetworkUnavailable, in_namespaces, on_loopback, open_network, wish_of

BINDS = """
import socket, sys
index = socket.if_nametoindex(sys.argv[2]) if sys.argv[1].startswith("fe80") else 0
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).bind((sys.argv[1], 0, 0, index))
print(socket.if_nameindex())
"""


class ChoiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[str] = []

    def test_wish(self) -> None:
        """The environment names the network; without a word it is `auto`; another word is refused with those that are known."""
        self.assertEqual(
            (wish_of({}), wish_of({"M2MAPP_NETWORK": ""}), wish_of({"M2MAPP_NETWORK": "loopback"})), ("auto", "auto", "loopback")
        )
        error = self.assertRaises(NetworkUnavailable, open_network, "wifi", 3, self.told.append)
        self.assertIn("loopback", str(error))

    def test_falls_back_and_says_why(self) -> None:
        """Where a program is missing `auto` takes the loopback interface and tells the reason, and `namespaces` is refused."""
        self.patch(shutil, "which", lambda name, path: None)
        with contextlib.closing(open_network("auto", 3, self.told.append)) as network:
            self.assertEqual((network.kind, network.device(3)), ("loopback", "127.0.1.3"))
        self.assertIn("unshare is not installed", self.told[0])
        self.assertRaises(NetworkUnavailable, open_network, "namespaces", 3, self.told.append)

    def test_host_that_forbids_it(self) -> None:
        """Where `unshare` or `ip` fails the network is unavailable, and nothing of it is left running."""
        which = shutil.which
        started: list[subprocess.Popen[bytes]] = []

        class Recorded(subprocess.Popen[bytes]):
            def __init__(self, *arguments: object, **others: object) -> None:
                super().__init__(*arguments, **others)  # type: ignore[call-overload]
                started.append(self)

        self.patch(subprocess, "Popen", Recorded)
        for failing in ("unshare", "ip"):
            self.patch(shutil, "which", lambda name, path, failing=failing: which("false" if name == failing else name, path=path))
            self.assertRaises(NetworkUnavailable, in_namespaces, 3)
        self.assertTrue(started)
        self.assertEqual([process.args for process in started if process.poll() is None], [])

    def test_loopback(self) -> None:
        """On the loopback interface everything is reached from here, and a URI has the address with its port."""
        network = open_network("loopback", 3, self.told.append)
        self.assertEqual((network.outside, network.in_gateway, self.told), (False, (), []))
        self.assertEqual(network.authority(network.gateway), f"127.0.0.1:{network.port}")

    def test_taken_port(self) -> None:
        """When the CoAP port of the gateway's address is taken all nodes use another one."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            with contextlib.suppress(OSError):  # Somebody else has it: as good.
                taken.bind(("127.0.0.1", COAP_PORT))
            self.assertNotEqual(on_loopback().port, COAP_PORT)


class NamespacesTests(SynchronousTestCase):
    def test_two_sides(self) -> None:
        """Each side has its interface and its addresses, and no process is left once the network is closed."""
        try:
            network = in_namespaces(3)
        except NetworkUnavailable as unavailable:
            raise SkipTest(f"this host allows no network namespaces: {unavailable}") from unavailable
        with contextlib.closing(network):
            holders = list(network._holders)
            self.assertEqual((network.outside, network.authority(network.device(3))), (True, f"[fe80::d3]:{COAP_PORT}"))
            for prefix, interface, address in (
                (network.in_gateway, network.gateway_interface, "fe80::1"),
                (network.in_devices, network.device_interface, network.device(3)),
            ):
                done = subprocess.run(
                    [*prefix, sys.executable, "-W", "ignore", "-c", BINDS, address, interface], capture_output=True, text=True, check=True
                )
                self.assertIn(interface, done.stdout)
        self.assertEqual([holder.poll() is None for holder in holders], [False, False])
