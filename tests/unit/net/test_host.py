"""This host, as far as it can be asked without rights."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from m2mapp.net.host import SystemHost
from m2mapp.net.icmpv6 import Icmpv6Port
from m2mapp.net.interfaces import IHost, IIcmpv6Port
from tests.unit.fakes import FakeHost, RecordingIcmpv6Port
from tests.unit.net.fakes import ReadingReactor


class HostTests(SynchronousTestCase):
    def test_interfaces(self) -> None:
        """The host and its fake provide what they say."""
        verifyObject(IHost, FakeHost())
        verifyClass(IHost, SystemHost)
        verifyClass(IIcmpv6Port, Icmpv6Port)
        verifyClass(IIcmpv6Port, RecordingIcmpv6Port)

    def test_loopback(self) -> None:
        """The loopback has no hardware address; an interface that is not there is an `OSError`, and forwards nothing."""
        host = SystemHost(ReadingReactor())
        self.assertEqual(host.link_layer_address("lo"), b"")
        self.assertTrue(host.has_carrier("lo"))
        self.assertRaises(OSError, host.has_carrier, "nowhere0")
        self.assertRaises(OSError, host.link_layer_address, "nowhere0")
        self.assertFalse(host.forwards("nowhere0"))


class Icmpv6Tests(SynchronousTestCase):
    skip = "a raw socket needs root" if os.geteuid() else None

    def test_types(self) -> None:
        """A socket receives the types that it was opened for and no others, with the interface; nothing after it was stopped."""
        reactor, heard = ReadingReactor(), list[tuple[bytes, str, int]]()
        port = SystemHost(reactor).open_icmpv6((133,), lambda *message: heard.append(message))
        self.addCleanup(port.stop)
        solicitation, other = bytes.fromhex("8500000000000000"), bytes.fromhex("8800000000000000")
        self.assertTrue(port.send(other, "::1", 1))
        self.assertTrue(port.send(solicitation, "::1", 1))
        reactor.read_until(lambda: bool(heard))
        self.assertEqual([(data[0], data[4:], source, interface) for data, source, interface in heard], [(133, bytes(4), "::1", 1)])
        self.assertNotEqual(heard[0][0][2:4], bytes(2))
        port.stop()
        self.assertEqual(reactor.readers, {})
        self.assertFalse(port.send(solicitation, "::1", 1))
