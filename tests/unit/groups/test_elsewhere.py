"""What is known of devices that are registered at other nodes: what their answers mean, and what is asked again when."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.elsewhere import FOUND_S, NOBODY_S, UNREACHABLE_S, Elsewhere, Outsider, found_in, node_of
from m2mapp.groups.plan import GroupServer
from m2mapp.tree.registrations import Registrations
from tests.unit.fakes import build_tree
from tests.unit.groups.parts import build_device

N1 = GroupServer("http://n1.example.com")
HOST = "d3.example.com"


def registration(**more: object) -> dict[str, object]:
    """A registration as another node lists it."""
    return {
        "name": "d3",
        "hosts": [HOST],
        "addresses": ["fd00::D3"],
        "port": 5683,
        "scheme": "coap",
        "multicastEnabled": True,
        "lifetime": 300,
        **more,
    }


def found(*children: object) -> dict[str, Outsider]:
    """What an answer with these registrations says of the device."""
    return found_in({"children": list(children)}, [HOST], N1)


class FoundTests(SynchronousTestCase):
    def test_a_device(self) -> None:
        """A device is reached through the node where it is registered; its name here bears that node's; addresses are canonical."""
        outsider = found(registration())[HOST]
        device = outsider.device
        assert device is not None
        self.assertEqual((outsider.server, device.name, device.addresses), (N1, "d3@http://n1.example.com", ("fd00::d3",)))
        self.assertEqual((device.multicast_enabled, device.mc_groups, device.fixed_groups), (True, "/mcGroups", ()))

    def test_a_group_server(self) -> None:
        """A device that is a group server is reached through itself, at its own scheme and port."""
        outsider = found(registration(groupServer=True, scheme="http", port=8080))[HOST]
        self.assertEqual(outsider.server, GroupServer("http://d3.example.com:8080", "fd00::d3"))

    def test_by_any_name(self) -> None:
        """A host is found by the device's hosts, its endpoint name and its addresses; who was not asked for does not count."""
        answer = {"children": [registration(), registration(name="d4", hosts=["d4.example.com"], addresses=[])]}
        self.assertEqual(list(found_in(answer, ["d3", "fd00::d3", "d5"], N1)), ["d3", "fd00::d3"])

    def test_malformed(self) -> None:
        """What another node says wrongly of a device does not count, whatever it is."""
        for bad in (
            registration(port="x"),
            registration(port=0),
            registration(hosts="d3"),
            registration(addresses=["ff35::zz"]),
            registration(scheme="ftp"),
            registration(fixedGroups=["fd00::1"]),
            registration(multicastEnabled=1),
            {"name": "d3"},
            {},
            7,
        ):
            self.assertEqual(found(bad), {}, bad)
        self.assertEqual([found_in({"children": value}, [HOST], N1) for value in ("x", 7, None)], [{}, {}, {}])

    def test_node_of(self) -> None:
        """A node is known by its URI without a path, with its address where the URI has one."""
        self.assertEqual(node_of("http://[fd00::2]:8080/groups/x"), GroupServer("http://[fd00::2]:8080", "fd00::2"))
        self.assertEqual(node_of("coap://g2.example.org", given=build_device(2)), GroupServer("coap://g2.example.org", "fd00::d2"))


class KnownTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Nothing is known yet."""
        self.registrations = Registrations(build_tree().tree)
        self.elsewhere = Elsewhere(self.registrations, most=3)
        self.outsider = found(registration())[HOST]

    def test_found(self) -> None:
        """A device that was found is found by its host like one that is registered here, and by its name; not as one of this node's."""
        self.assertTrue(self.elsewhere.learned(HOST, self.outsider, (), 0.0))
        self.assertFalse(self.elsewhere.learned(HOST, self.outsider, (), 1.0))
        self.assertEqual(self.registrations.at_host(HOST), self.outsider.device)
        self.assertEqual(self.registrations.named("d3@http://n1.example.com"), self.outsider.device)
        self.assertIsNone(self.registrations.here(HOST))
        self.elsewhere.forget(HOST)
        self.assertEqual((self.registrations.at_host(HOST), self.registrations.named("d3@http://n1.example.com")), (None, None))

    def test_two_hosts_of_one_device(self) -> None:
        """A device that is known by two hosts stays known when one of them is forgotten."""
        for host in (HOST, "alias"):
            self.elsewhere.learned(host, self.outsider, (), 0.0)
        self.elsewhere.forget("alias")
        self.assertEqual(self.registrations.at_host(HOST), self.outsider.device)

    def test_nobody(self) -> None:
        """Why nothing is known stands in the plan: nobody has it, or who could not be asked."""
        self.assertFalse(self.elsewhere.is_known(HOST))
        self.assertEqual(self.elsewhere.why_unknown(HOST), "its device is not registered here")
        self.elsewhere.learned(HOST, None, (), 0.0)
        self.assertEqual((self.elsewhere.of(HOST), self.elsewhere.is_known(HOST)), (None, True))
        self.assertEqual(self.elsewhere.why_unknown(HOST), "its device is not registered at any known node")
        self.assertTrue(self.elsewhere.learned(HOST, None, (N1.uri,), 0.0))
        self.assertEqual(
            self.elsewhere.why_unknown(HOST), "its device is not registered here, and http://n1.example.com could not be asked"
        )

    def test_again(self) -> None:
        """Each answer has its time; what is due is due once, until it was asked."""
        self.elsewhere.learned("found", self.outsider, (), 0.0)
        self.elsewhere.learned("nobody", None, (), 0.0)
        self.elsewhere.learned("away", None, (N1.uri,), 0.0)
        self.assertEqual(self.elsewhere.next_due_s(), UNREACHABLE_S)
        self.assertEqual([self.elsewhere.due(now, 9) for now in (UNREACHABLE_S, NOBODY_S, FOUND_S)], [["away"], ["nobody"], ["found"]])
        self.assertEqual((self.elsewhere.due(1e9, 9), self.elsewhere.next_due_s()), ([], None))
        self.elsewhere.learned("away", None, (), 0.0)
        self.assertEqual(self.elsewhere.due(NOBODY_S, 9), ["away"])

    def test_an_unreachable_node_takes_nothing_back(self) -> None:
        """While the node that has a device cannot be asked, what it said before holds; when it says otherwise, it does not."""
        self.elsewhere.learned(HOST, self.outsider, (), 0.0)
        self.assertFalse(self.elsewhere.learned(HOST, None, (N1.uri,), 1.0))
        self.assertEqual(self.elsewhere.of(HOST), self.outsider)
        self.assertTrue(self.elsewhere.learned(HOST, None, ("http://n2",), 2.0))
        self.assertIsNone(self.elsewhere.of(HOST))

    def test_after_a_restart(self) -> None:
        """What the sets of before say holds until somebody was asked, which is due at once; it never replaces an answer."""
        self.elsewhere.remember(HOST, Outsider(N1, None), 5.0)
        self.assertEqual((self.elsewhere.of(HOST), self.elsewhere.due(5.0, 9)), (Outsider(N1, None), [HOST]))
        self.elsewhere.learned(HOST, None, (), 6.0)
        self.elsewhere.remember(HOST, Outsider(N1, None), 7.0)
        self.assertIsNone(self.elsewhere.of(HOST))

    def test_bounded(self) -> None:
        """Past the bound nothing is learned of further hosts, and that is no news, until others are forgotten."""
        learned = [self.elsewhere.learned(f"h{number}", None, (), float(number)) for number in range(4)]
        self.elsewhere.remember("h5", self.outsider, 9.0)
        self.assertEqual(learned, [True, True, True, False])
        self.assertEqual([self.elsewhere.is_known(f"h{number}") for number in range(6)], [True, True, True, False, False, False])
        self.elsewhere.forget("h0")
        self.assertTrue(self.elsewhere.learned("h3", None, (), 9.0))
        self.assertFalse(self.elsewhere.learned("h3", None, (), 9.0))
