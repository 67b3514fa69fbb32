"""`kill -9` of a gateway under perfdhcp's load: no address is ever acknowledged to two clients, no acknowledged lease is lost."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import CLIENT_PORT, MessageType
from m2mapp.dhcpv6.packet import parse
from tests.system.http_calls import Caller
from tests.system.namespaces import Lab, skip_reason, wait_until
from tests.system.nodes import SMOKE
from tests.system.pcap import Datagram, Wire
from tests.system.programs import Program, write_config

_KILLS = 20 if os.environ.get("M2MAPP_SOAK") == "1" else 1 if SMOKE else 3
_RATE = 500
_SOONEST_S, _LATEST_S = 0.5, 2.5
"""When the gateway is killed, after the load began to come in."""
_AFTER_S = 1.5
"""So long the load goes on at the gateway that was started again."""
_CLIENTS = 1_000_000

Acknowledged = dict[tuple[str, int], set[str]]


def _acknowledged(datagrams: list[Datagram]) -> Acknowledged:
    """The addresses of the Replies on the wire, by DUID and IAID."""
    found: Acknowledged = {}
    for datagram in datagrams:
        message = parse(datagram.payload) if datagram.port == CLIENT_PORT else None
        if not isinstance(message, Message) or message.type is not MessageType.REPLY:
            continue
        client = o.first(message.options, o.ClientId)
        assert client is not None
        for ia in o.every(message.options, o.IaNa):
            found.setdefault((client.duid.hex(), ia.iaid), set()).update(str(one.address) for one in o.every(ia.options, o.IaAddress))
    return found


class KilledTests(SynchronousTestCase):
    skip = skip_reason("perfdhcp", "tcpdump")

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="m2m-killed-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.lab = Lab()
        self.lab.__enter__()
        self.addCleanup(self.lab.__exit__, None, None, None)
        self.host = self.lab.host("gw")
        tables: dict[str, dict[str, object]] = {
            "node": {"name": "gw.example.org", "state_dir": str(self.folder / "state")},
            "http": {"listen": ["tcp:8080:interface=127.0.0.1"]},
            "dhcpv6.downlink": {"interfaces": ["eth0"], "prefix": "2001:db8:5::/48", "bootstrap_uri": "coaps://bs.example.org:5684"},
        }
        self.gateway = Program(self.host, self.folder, "gw", write_config(self.folder / "gw.toml", tables))
        self.addCleanup(self.gateway.close)

    def leases(self, of: Acknowledged) -> Acknowledged:
        """What the gateway's tree says of these clients."""
        found: Acknowledged = {}
        token = (self.folder / "state" / "admin.token").read_text().strip()
        with Caller(self.host, "127.0.0.1", 8080, token) as caller:
            for duid, iaid in of:
                reply = caller.request("GET", f"/leases/{duid}/{iaid}")
                if reply.status == 200:
                    found[duid, iaid] = {str(reply.json()["address"])}
        return found

    def test_kill(self) -> None:
        """What was acknowledged on the wire, before a kill or after it, is in the tree after the restart; each address is one client's."""
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        load = self.lab.host("load")
        wait_until(lambda: "fe80" in load.ip("-6", "addr", "show", "dev", "eth0"))
        self.gateway.start()
        kept: Acknowledged = {}
        for _ in range(_KILLS):
            command = ["perfdhcp", "-6", "-l", "eth0", "-r", str(_RATE), "-R", str(_CLIENTS), "-p", str(int(_LATEST_S + _AFTER_S) + 8)]
            with Wire(load) as wire:
                asking = load.popen(command, log=self.folder / "perfdhcp.log")
                time.sleep(chance.uniform(_SOONEST_S, _LATEST_S))
                self.gateway.kill()
                self.gateway.start()
                time.sleep(_AFTER_S)
                asking.kill()
                asking.wait()
            acknowledged = _acknowledged(wire.datagrams)
            self.assertGreater(len(acknowledged), _RATE * _SOONEST_S / 4, (self.folder / "perfdhcp.log").read_text())
            for client, addresses in acknowledged.items():
                kept.setdefault(client, set()).update(addresses)
        given = [(address, client) for client, addresses in kept.items() for address in addresses]
        self.assertEqual(len({address for address, _ in given}), len(given), "an address was acknowledged to two clients")
        self.gateway.kill()
        self.gateway.start()
        self.assertEqual(self.leases(kept), kept)
        print(f"{len(kept)} leases acknowledged around {_KILLS} kills")
