"""Datagrams of programs that others wrote: each is read, written again byte for byte, and taken by a server without a fault."""

from __future__ import annotations

from ipaddress import IPv6Network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.links import Delegation
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import MessageType
from m2mapp.dhcpv6.packet import build, parse
from m2mapp.dhcpv6.server import Terms, unwrap
from tests.unit.dhcpv6.downlink_parts import DownlinkSite
from tests.unit.dhcpv6.parts import POOL, Site

_VECTORS = {
    path.stem: bytes.fromhex(path.read_text().splitlines()[-1]) for path in sorted((Path(__file__).parent / "vectors").glob("*.txt"))
}


class VectorTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """What is read of a datagram gives the same datagram."""
        self.assertGreater(len(_VECTORS), 15)
        for name, data in _VECTORS.items():
            message = parse(data)
            self.assertEqual(build(message), data, name)
            self.assertEqual(type(unwrap(message)[0]), Message, name)

    def test_answered(self) -> None:
        """A Solicit of each program gets an offer of what it asks for, from the downlink or from the delegating server."""
        asked = 0
        for name, data in _VECTORS.items():
            message = unwrap(parse(data))[0]
            if message is None or message.type is not MessageType.SOLICIT:
                continue
            asked += 1
            reply = self.offered(data, prefix="ia-pd" in name)
            values = [value for ia in reply.options if isinstance(ia, o.IaNa | o.IaPd) for value in ia.options]
            self.assertTrue(any(isinstance(value, o.IaAddress | o.IaPrefix) for value in values), (name, reply))
        self.assertGreaterEqual(asked, 7)

    def offered(self, data: bytes, *, prefix: bool) -> Message:
        """The offer that a datagram gets."""
        if prefix:
            site = Site(Terms(prefixes=POOL))
            self.addCleanup(site.service.stopService)
            site.receive(data)
            reply = unwrap(site.sent[0][0])[0]
        else:
            downlink = DownlinkSite()
            self.addCleanup(downlink.stop)
            downlink.prefixes.exchange(Delegation(IPv6Network("2001:db8:5::/48")))
            answer = downlink.ask(parse(data))
            inner = o.first(answer.options, o.RelayedMessage) if answer is not None else None
            reply = inner.message if inner is not None else answer  # type: ignore[assignment]
        assert isinstance(reply, Message)
        return reply
