"""The principals of plain CoAP."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.access import OneServer, Principals
from m2mapp.coap.dtls.address import session_address
from m2mapp.coap.settings import AccessSettings
from m2mapp.model.principal import NOBODY, Principal, Right
from m2mapp.net.interfaces import Sockaddr


class AccessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.asked: list[tuple[Sockaddr, int]] = []
        self.leases = {"fd00::2"}

    def _principals(self, access: AccessSettings) -> Principals:
        return Principals(access, self._on_link, lambda address: address in self.leases, {3: "eth1"})

    def _on_link(self, source: Sockaddr, interface: int) -> bool:
        self.asked.append((source, interface))
        return source[0].startswith("fe80") and interface == 3

    def test_defaults(self) -> None:
        """Neighbours and leases may read, register and advertise; nobody may write; a stranger may nothing (spec section 10)."""
        principals = self._principals(AccessSettings())
        usual = {Right.DISCOVER, Right.READ, Right.REGISTER, Right.ADVERTISE}
        self.assertEqual(principals.principal(("fe80::1", 5683, 0, 3), 3).rights, usual)
        self.assertEqual(principals.principal(("fd00::2", 5683, 0, 0), 1).rights, usual)
        self.assertEqual(principals.principal(("2001:db8::9", 5683, 0, 0), 3).rights, frozenset())

    def test_prefixes(self) -> None:
        """A prefix gives the right to the addresses in it, of its own family."""
        access = AccessSettings(read=("192.0.2.0/24", "fd00::/64"), register=(), advertise=(), write=("fd00::2/128",))
        principals = self._principals(access)
        self.assertEqual(principals.principal(("192.0.2.7", 5683), 1).rights, {Right.DISCOVER, Right.READ})
        self.assertEqual(principals.principal(("fd00::7", 5683, 0, 0), 1).rights, {Right.DISCOVER, Right.READ})
        self.assertEqual(principals.principal(("fd00::2", 5683, 0, 0), 1).rights, {Right.DISCOVER, Right.READ, Right.WRITE})
        self.assertEqual(principals.principal(("192.0.3.7", 5683), 1).rights, frozenset())

    def test_discovery(self) -> None:
        """Who is on the link may discover what there is, even where it may do nothing else (spec section 10)."""
        principals = self._principals(AccessSettings(read=(), register=(), advertise=()))
        self.assertEqual(principals.principal(("fe80::1", 5683, 0, 3), 3).rights, {Right.DISCOVER})
        self.assertEqual(principals.principal(("2001:db8::9", 5683, 0, 0), 3).rights, frozenset())

    def test_name_and_source(self) -> None:
        """The name says that it is CoAP, and from where; a zone stands by its name, or by its index."""
        principals = self._principals(AccessSettings())
        self.assertEqual(principals.principal(("fe80::1", 5683, 0, 3), 3).name, "coap:fe80::1%eth1")
        self.assertEqual(principals.principal(("fe80::1", 5683, 0, 4), 4).source, "fe80::1%4")
        self.assertEqual(principals.principal(("192.0.2.7", 5683), 1).source, "192.0.2.7")

    def test_remembered(self) -> None:
        """A source is looked up once, whatever its port, until all are forgotten; zones and interfaces are told apart."""
        principals = self._principals(AccessSettings())
        for port in range(100):
            principals.principal(("fe80::1", port, 0, 3), 3)
        self.assertEqual(len(self.asked), 1)
        self.assertEqual(principals.principal(("fe80::1", 1, 0, 4), 4).rights, frozenset())
        self.assertEqual(principals.principal(("fe80::1", 1, 0, 3), 4).rights, frozenset())
        self.leases.clear()
        principals.forget()
        self.assertEqual(principals.principal(("fd00::2", 5683, 0, 0), 1).rights, frozenset())

    def test_certificates(self) -> None:
        """A session whose client showed a certificate has the rights of any of its names, of every certificate, and of its address."""
        access = AccessSettings(read=("cert:*",), register=("fd00::/64",), advertise=("cert:urn:one", "cert:x"), write=("cert:other",))
        principals = self._principals(access)
        plain: Sockaddr = ("fd00::7", 5684, 0, 0)
        known, unknown = session_address(plain, self, ("dev-one", "urn:one")), session_address(plain, self)
        rights = {Right.DISCOVER, Right.READ, Right.REGISTER, Right.ADVERTISE}
        self.assertEqual(principals.principal(known, 1), Principal("cert:dev-one", frozenset(rights), source="fd00::7"))
        for source in (plain, unknown):
            self.assertEqual(principals.principal(source, 1), Principal("coap:fd00::7", frozenset({Right.REGISTER}), source="fd00::7"))

    def test_memory_is_bounded(self) -> None:
        """Sources that are made up do not fill the memory."""
        principals = self._principals(AccessSettings())
        for index in range(10_000):
            principals.principal((f"2001:db8::{index:x}", 5683, 0, 0), 1)
        self.assertEqual(len(principals), 4096)

    def test_near(self) -> None:
        """An address is its owner's own on the link, as a lease, and in a session, whose cookie has shown it; elsewhere it is a claim."""
        principals = self._principals(AccessSettings())
        far: Sockaddr = ("2001:db8::9", 5684, 0, 0)
        sources: list[Sockaddr] = [("fe80::1", 5683, 0, 3), ("fd00::2", 5683, 0, 0), session_address(far, self), far]
        self.assertEqual([principals.near(source, 3) for source in sources], [True, True, True, False])


class OneServerTests(SynchronousTestCase):
    def test_one_server(self) -> None:
        """At a client's own endpoint it is asked who a source is, and whether by a session; whoever has no right is not near."""
        server = Principal("server", frozenset({Right.READ}))
        principals = OneServer(lambda host, by_session: server if host == "fd00::1" and by_session else NOBODY)
        plain: Sockaddr = ("fd00::1", 5684, 0, 0)
        sources: list[Sockaddr] = [session_address(plain, self), plain, session_address(("fd00::2", 5684, 0, 0), self)]
        self.assertEqual([principals.principal(source, 1) for source in sources], [server, NOBODY, NOBODY])
        self.assertEqual([principals.near(source, 1) for source in sources], [True, False, False])
