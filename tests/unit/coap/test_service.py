"""The life of the service: ports, groups, start and stop."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.coap.service import ALL_COAP_NODES, CoapService
from m2mapp.model.interfaces import IMembership
from m2mapp.model.metrics import Metrics
from tests.unit.coap.fakes import GROUP, FakePrincipals, Node, get

BOTH = (("::", 5683), ("0.0.0.0", 5683))  # noqa: S104 - nothing is bound really
V6_NODES = {("ff02::fd", 1), ("ff02::fd", 2), ("ff05::fd", 1), ("ff05::fd", 2)}


class ServiceTests(SynchronousTestCase):
    def test_membership(self) -> None:
        """The service is what joins and leaves groups."""
        self.assertTrue(verifyObject(IMembership, Node().service))

    def test_all_coap_nodes(self) -> None:
        """Each port joins the groups of its family on each interface."""
        node = Node(listen=BOTH)
        self.assertEqual(node.datagrams.ports[0].joined, V6_NODES)
        self.assertEqual(node.datagrams.ports[1].joined, {("224.0.1.187", 1), ("224.0.1.187", 2)})

    def test_start_stop_start(self) -> None:
        """Stopped and started again it serves as before, with the groups that were joined; nothing stays pending in between."""
        node = Node()
        node.service.join(GROUP)
        self.assertEqual(node.stop(), [])
        self.assertTrue(node.port.stopped)
        node.service.startService()
        again = node.datagrams.ports[1]
        self.assertEqual(again.joined, V6_NODES | {(GROUP, 1), (GROUP, 2)})
        self.assertEqual(len(node.service.endpoint.layers), 1)
        again.receiver.datagram_received(b"\x40\x01\x00\x01", ("fd00::d1", 5683, 0, 0), "fd00::1", 1)
        self.assertEqual(len(again.sent), 1)
        self.assertEqual(node.stop(), [])

    def test_join_and_leave(self) -> None:
        """A group is joined once on each interface of its family, and left; All CoAP Nodes is not left."""
        node = Node(listen=BOTH)
        port = node.datagrams.ports[0]
        node.service.join(GROUP)
        node.service.join(GROUP)
        self.assertEqual(port.joined - V6_NODES, {(GROUP, 1), (GROUP, 2)})
        node.service.leave(GROUP)
        node.service.leave(GROUP)
        node.service.leave(ALL_COAP_NODES[0])
        self.assertEqual(port.joined, V6_NODES)

    def test_join_before_the_start(self) -> None:
        """What is joined before the service runs is joined when it does."""
        node = Node()
        node.stop()
        node.service.join(GROUP)
        self.assertNotIn((GROUP, 1), node.port.joined)
        node.service.startService()
        self.assertIn((GROUP, 1), node.datagrams.ports[1].joined)

    def test_an_interface_that_refuses(self) -> None:
        """The refusal reaches the caller; the other interface is joined all the same."""
        node = Node()
        node.port.refuses.add(1)
        self.assertRaises(OSError, node.service.join, GROUP)
        self.assertIn((GROUP, 2), node.port.joined)

    def test_no_interface(self) -> None:
        """Without a configured interface, or a port of the family, there is nothing to join on, and the caller is told."""
        node = Node()
        self.assertRaises(OSError, node.service.join, "224.0.1.200")
        bare = CoapService((("::", 5683),), (), node.datagrams, node.handler, FakePrincipals(), node.context)
        node.stop()
        bare.startService()
        self.assertRaises(OSError, bare.join, GROUP)
        bare.stopService()

    def test_an_interface_that_is_not_there(self) -> None:
        """An interface that does not exist keeps the others from nothing."""
        node = Node()
        node.stop()
        service = CoapService((("::", 5683),), ("eth9", "eth2"), node.datagrams, node.handler, FakePrincipals(), node.context)
        service.startService()
        self.assertEqual(node.datagrams.ports[-1].joined, {("ff02::fd", 2), ("ff05::fd", 2)})
        service.stopService()

    def test_a_port_that_is_taken(self) -> None:
        """If one port cannot be opened, none stays open."""
        node = Node()
        node.stop()
        node.datagrams.taken.add("0.0.0.0")  # noqa: S104 - nothing is bound really
        service = CoapService(BOTH, (), node.datagrams, node.handler, FakePrincipals(), node.context)
        self.assertRaises(OSError, service.startService)
        self.assertTrue(all(port.stopped for port in node.datagrams.ports))
        self.assertFalse(service.running)

    def test_gauges(self) -> None:
        """The depth of what is kept can be read."""
        node = Node()
        metrics = Metrics()
        node.service.register_gauges(metrics)
        node.receive(get())
        read = {name: instruments[()]() for name, _, instruments in metrics.collect()}  # type: ignore[operator]
        self.assertEqual((read["m2mapp_coap_peers"], read["m2mapp_coap_messages_kept"]), (1, 1))
        self.assertGreater(read["m2mapp_coap_messages_kept_bytes"], 300)
        self.assertEqual(read["m2mapp_coap_requests_under_way"], 0)
        node.stop()
