"""What a client takes of what it is offered."""

from __future__ import annotations

from ipaddress import IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.numbers import MessageType as T
from tests.unit.dhcpv6.test_client import Walk, ia


class UsableTests(SynchronousTestCase):
    def test_prefixes_that_nobody_delegates(self) -> None:
        """All addresses, link-local and multicast ones are no prefix for a router; a unique local one is."""
        for text in ("::/0", "::/8", "fe80::/56", "ff00::/8", "fc00::/6"):
            walk = Walk()
            walk.after(0.5)
            self.assertIn("offers nothing", walk.answer(T.ADVERTISE, ia(prefix=IPv6Network(text))) or "", text)
        walk.answer(T.ADVERTISE, ia(prefix=IPv6Network("fd00:1::/48")))
        walk.after(1.1)
        self.assertEqual(walk.last.type, T.REQUEST)
