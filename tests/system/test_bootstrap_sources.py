"""Where the bootstrap address comes from: Kea, a router's advertisement, HNCP; which of them counts, and what devices are told."""

from __future__ import annotations

import json
import socket
import struct
import tempfile
from collections.abc import Callable
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.system import kea
from tests.system.dhcp_clients import BOOTSTRAP_CODE
from tests.system.namespaces import Host, Lab, skip_reason, wait_until
from tests.system.programs import Program, write_config
from tests.unit.dhcpv6.homenet_parts import HomenetPeer, external, option

_OPTION = 253
_BY_ROUTER, _BY_HNCP, _BY_DHCP, _BY_FILE = (f"coaps://{name}.example.org:5684" for name in ("router", "home", "bs", "file"))
_POOL = "2001:db8:100::/40"


class _Router:
    """A router on the uplink's link: a raw socket of the test, since radvd carries no options that it does not know (RFC 4861, 4.2)."""

    def __init__(self, host: Host) -> None:
        self._index = host.interface_index()
        with host.entered():
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)

    def advertise(self, uri: str, lifetime_s: int = 1800, *, hops: int = 255) -> None:
        """One advertisement; `uri` empty: without the option."""
        body = struct.pack("!BB", _OPTION, -(-(len(uri) + 2) // 8)) + uri.encode()
        head = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime_s, 0, 0)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
        self._socket.sendto(head + (body.ljust(body[1] * 8, b"\0") if uri else b""), ("ff02::1", 0, 0, self._index))

    def close(self) -> None:
        self._socket.close()


class _Home:
    """A node of a home network on the uplink's link, which answers what it is asked."""

    def __init__(self, host: Host) -> None:
        self._index = host.interface_index()
        with host.entered():
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.bind(("::", 8231))
        self._socket.settimeout(0.2)
        self.peer = HomenetPeer(b"\x0a\0\0\1")

    def converse(self) -> None:
        """Send to all once, and answer until nobody asks any more."""
        self._socket.sendto(self.peer.announcement(), ("ff02::11", 8231, 0, self._index))
        try:
            for _ in range(20):
                request, source = self._socket.recvfrom(2048)
                self._socket.sendto(self.peer.answer(request), source)
        except TimeoutError:
            return

    def close(self) -> None:
        self._socket.close()


class BootstrapSourcesTests(SynchronousTestCase):
    skip = skip_reason("curl", kea.PROGRAM)

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="m2m-sources-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.lab = Lab()
        self.lab.__enter__()
        self.addCleanup(self.lab.__exit__, None, None, None)
        self.isp = self.lab.host("isp", ["2001:db8::1/64"], link="wan")
        self.place = self.lab.host("gw", [])
        self.place.connect("wan", [], "eth1")
        for host in (self.isp, self.place):
            wait_until(lambda host=host: "fe80" in host.ip("-6", "addr", "show"))  # type: ignore[misc]
        self.gateway = Program(self.place, self.folder, "gw", self.folder / "gw.toml")
        self.addCleanup(self.gateway.close)

    def start(self, **downlink: object) -> None:
        """Start the gateway, which listens to all sources."""
        uplink = {"interface": "eth1", "ra_option": _OPTION, "hncp": True, "release": True}
        tables: dict[str, dict[str, object]] = {
            "node": {"name": "gw.example.org", "state_dir": str(self.folder / "state")},
            "http": {"listen": ["tcp:8080:interface=127.0.0.1"]},
            "dhcpv6.uplink": uplink,
            "dhcpv6.downlink": {"interfaces": ["eth0"], **downlink},
        }
        write_config(self.folder / "gw.toml", tables)
        self.gateway.start()

    def node(self) -> dict[str, Any]:
        """What `/node` says of the bootstrap address."""
        token = (self.folder / "state" / "admin.token").read_text().strip()
        done = self.place.run(["curl", "-sS", "-H", f"Authorization: Bearer {token}", "http://127.0.0.1:8080/node"])
        found: dict[str, Any] = json.loads(done.stdout)["bootstrap"]
        return found

    def wait_for(self, source: str | None, uri: str | None, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Until this source counts, with this URI."""

        def counts() -> bool:
            meanwhile()
            found = self.node()
            return (found["source"], found["uri"]) == (source, uri)

        wait_until(counts, 20, f"{source} with {uri}, not {self.node()}")

    def routes(self) -> str:
        """The unreachable routes of the gateway's host."""
        return self.place.run(["ip", "-6", "route", "show", "type", "unreachable"]).stdout

    def test_order(self) -> None:
        """HNCP, then the router, then Kea, each before the one that was there; the file before all. Each gives way when it ends.

        The prefix's unreachable route is there from Kea's answer on, over `kill -9`, until the gateway gives the prefix back.
        """
        router, home = _Router(self.isp), _Home(self.isp)
        self.addCleanup(router.close)
        self.addCleanup(home.close)
        home.peer.tells(external(option(BOOTSTRAP_CODE, _BY_HNCP.encode())))
        self.start()
        self.assertEqual((self.node()["source"], self.routes()), (None, ""))
        self.wait_for("hncp", _BY_HNCP, home.converse)
        router.advertise("coap://far.example.org", hops=64)
        self.wait_for("router-advertisement", _BY_ROUTER, lambda: router.advertise(_BY_ROUTER))
        upstream = kea.Kea(self.isp, self.folder / "kea")
        upstream.start(_POOL, _BY_DHCP)
        self.wait_for("dhcpv6", _BY_DHCP)
        self.assertEqual(
            {name: one["uri"] for name, one in self.node()["sources"].items()},
            {"dhcpv6": _BY_DHCP, "router-advertisement": _BY_ROUTER, "hncp": _BY_HNCP},
        )
        wait_until(self.routes, what="the unreachable route")
        self.assertTrue(IPv6Network(self.routes().split()[1]).subnet_of(IPv6Network(_POOL)))
        self.gateway.kill()
        self.start(bootstrap_uri=_BY_FILE)
        self.wait_for("file", _BY_FILE)
        self.wait_for("file", _BY_FILE, home.converse)
        self.assertEqual(len(self.routes().splitlines()), 1)
        self.gateway.stop()
        self.assertEqual(self.routes(), "")
        upstream.stop()
        self.start()
        self.wait_for("router-advertisement", _BY_ROUTER, lambda: router.advertise(_BY_ROUTER))
        router.advertise("", 0)
        self.wait_for(None, None)
