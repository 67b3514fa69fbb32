"""Which addresses are in use: taken by sets, promised to units under way."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.group import FANOUT_SET, AddressType, FanoutSet
from m2mapp.groups.ledger import AddressLedger, Taking
from m2mapp.tree.unit import Resource
from tests.unit.groups.parts import build_set, uri_at


def kept(one: FanoutSet) -> Resource:
    """The set as the tree keeps it."""
    return Resource(("groups", "g", "fanoutSets", one.name), FANOUT_SET, one.document(), None, None, 0, 0, 1)


def build_ledger(size: int = 126) -> AddressLedger:
    """A ledger of the pool ff35::/<size>."""
    return AddressLedger(lambda: (ip_network(f"ff35::/{size}"),))


class LedgerTests(SynchronousTestCase):
    def test_two_units_at_once(self) -> None:
        """Two creations under way never have one address; what the dropped one had is free again."""
        ledger = build_ledger(127)
        first, second, third = Taking(ledger), Taking(ledger), Taking(ledger)
        self.assertEqual([first(6), second(6), third(6)], ["ff35::", "ff35::1", None])
        first.dropped()
        self.assertEqual(third(6), "ff35::")

    def test_kept_while_a_set_has_it(self) -> None:
        """An address is taken until the last set that has it is gone, and the promise ends when the first is there."""
        ledger = build_ledger(127)
        take = Taking(ledger)
        address = str(take(6))
        one = kept(build_set([uri_at(1)], address=address))
        other = kept(build_set([uri_at(1)], name="2", address=address))
        ledger.entered(one)
        ledger.entered(other)
        ledger.left(one)
        self.assertEqual([ledger.promise(6), ledger.promise(6)], ["ff35::1", None])
        ledger.left(other)
        self.assertEqual(ledger.promise(6), "ff35::")

    def test_dropped_after_the_commit_frees_nothing(self) -> None:
        """A unit that is committed and then told as dropped (its caller went away) leaves the address with its set."""
        ledger = build_ledger(128)
        take = Taking(ledger)
        ledger.entered(kept(build_set([uri_at(1)], address=str(take(6)))))
        take.dropped()
        self.assertIsNone(ledger.promise(6))

    def test_rows_take_nothing(self) -> None:
        """A unicast row's address is a device's own and none of the pool's."""
        ledger = build_ledger(128)
        row = kept(replace(build_set([uri_at(1)], address="ff35::"), address_type=AddressType.UNICAST_IPV6))
        ledger.entered(row)
        self.assertEqual(ledger.promise(6), "ff35::")
        ledger.left(row)
