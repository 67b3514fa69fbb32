"""`/mcAddrPool`: addresses are lent, renewed, returned, rest, and are never given twice."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.groups.drivers.addresses import RETRY_S, AddressKeeper
from m2mapp.groups.ledger import AddressLedger
from m2mapp.groups.lending import LEASE, LEASE_S, LENDING_TYPES, POOL, QUARANTINE_S, RESTING_AT
from m2mapp.model.errors import Conflict, Malformed, MethodNotAllowed, NoSuchResource, Overloaded, StorageFull
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Method, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.tree.unit import Unit, Write
from tests.unit.fakes import Built, build_tree
from tests.unit.groups.parts import build_request, soon

POOLS = (ip_network("ff3e::8000:0/127"), ip_network("232.1.1.0/31"))
FIRST, SECOND = "ff3e::8000:0", "ff3e::8000:1"
USER = "http://g1.example.org/groups/grp"


@dataclass
class Lending:
    """A keeper on a fake committer. It may be started anew on the same tree, as after a restart."""

    built: Built = field(default_factory=lambda: build_tree(LENDING_TYPES))
    clock: Clock = field(default_factory=Clock)
    freed: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A new process takes over what is in the tree."""
        ledger = AddressLedger(tuple, POOLS)
        for place in (POOL, RESTING_AT):
            for resource in self.built.tree.children(place):
                ledger.entered(resource)
        follow = (
            (lambda change: ledger.entered(change.after) if change.after else None),
            (lambda change: ledger.left(change.before) if change.before else None),
        )
        self.watches = [self.built.tree.watch(place, call, subtree=True) for place in (POOL, RESTING_AT) for call in follow]
        self.keeper = AddressKeeper(
            reactor=self.clock,
            clock=self.built.clock,
            tree=self.built.tree,
            committer=self.built.committer,
            ledger=ledger,
            metrics=Metrics(),
            on_free=lambda: self.freed.append(self.clock.seconds()),
        )
        self.keeper.startService()

    def stop(self) -> None:
        """The process ends."""
        self.keeper.stopService()
        for watch in self.watches:
            watch.stop()

    def send(self, method: Method, path: str = "/mcAddrPool", document: object = None, **more: object) -> Deferred[Response]:
        """A request."""
        return soon(lambda: self.keeper.handle(build_request(method, path, document, **more)))

    def ask(self, number: int = 1, version: int = 6) -> Deferred[Response]:
        """Take, or renew, an address for the group grp<number>."""
        return self.send(Method.POST, document={"for": f"{USER}{number}", "version": version})

    def names(self, *place: str) -> list[str]:
        """The addresses at a place in the tree."""
        return [one.path[-1] for one in self.built.tree.children(place)]

    def pass_time(self, seconds: float) -> None:
        """Time passes, and what it brings about is done."""
        self.clock.advance(seconds)
        self.clock.advance(0)


class AddressKeeperTests(SynchronousTestCase):
    def build(self) -> Lending:
        """A keeper that is stopped at the end, when nothing is pending."""
        lending = Lending()

        def end() -> None:
            lending.stop()
            self.assertEqual((lending.clock.getDelayedCalls(), lending.built.errors), ([], []))

        self.addCleanup(end)
        verifyObject(IHandle, lending.keeper)
        return lending

    def address(self, done: Deferred[Response]) -> str:
        """The address that was given."""
        return str(json.loads(self.successResultOf(done).payload)["address"])

    def test_taken(self) -> None:
        """201 with the address, when it ends and where it stands: there it can be read, and all are listed."""
        lending = self.build()
        response = self.successResultOf(lending.ask())
        shown = json.loads(response.payload)
        self.assertEqual((response.status, response.location), (Status.CREATED, (*POOL, FIRST)))
        self.assertEqual(shown, {"address": FIRST, "for": USER + "1", "expires": "2027-01-16T08:00:00.000Z", "lifetime": 86_400})
        self.assertEqual(json.loads(self.successResultOf(lending.send(Method.GET, f"/mcAddrPool/{FIRST}")).payload), shown)
        [listed] = json.loads(self.successResultOf(lending.send(Method.GET)).payload)["children"]
        self.assertEqual(listed, {"name": FIRST, "type": LEASE, **shown})
        self.assertEqual(self.address(lending.ask(2, 4)), "232.1.1.0")

    def test_again(self) -> None:
        """Who asks again for the same group has the same address, for a whole lease from then on; nothing is written for it."""
        lending = self.build()
        lending.ask()
        units = len(lending.built.committer.units)
        lending.pass_time(LEASE_S - 1)
        again = self.successResultOf(lending.ask())
        self.assertEqual((again.status, json.loads(again.payload)["lifetime"]), (Status.CHANGED, 86_400))
        self.assertEqual(len(lending.built.committer.units), units)
        lending.pass_time(LEASE_S - 1)
        self.assertEqual(lending.names(*POOL), [FIRST])

    def test_two_at_once(self) -> None:
        """Two requests for one group that are under way together have one address, two for different groups two."""
        lending = self.build()
        lending.built.committer.hold()
        asked = [lending.ask(1), lending.ask(1), lending.ask(2)]
        lending.built.committer.release()
        self.assertEqual([self.address(done) for done in asked], [FIRST, FIRST, SECOND])

    def test_returned(self) -> None:
        """DELETE: the address rests, is not given meanwhile, and is free afterwards; whoever waits is told."""
        lending = self.build()
        lending.ask()
        self.assertEqual(self.successResultOf(lending.send(Method.DELETE, f"/mcAddrPool/{FIRST}")).status, Status.DELETED)
        self.assertEqual((lending.names(*POOL), lending.names(*RESTING_AT)), ([], [FIRST]))
        self.assertEqual(self.address(lending.ask(2)), SECOND)
        self.failureResultOf(lending.ask(3), Overloaded)
        lending.pass_time(QUARANTINE_S)
        self.assertEqual((lending.names(*RESTING_AT), lending.freed), ([], [QUARANTINE_S]))
        self.assertEqual(self.address(lending.ask(3)), FIRST)

    def test_not_renewed(self) -> None:
        """A lease that is not renewed ends, and its address rests."""
        lending = self.build()
        lending.ask()
        lending.pass_time(LEASE_S - 1)
        self.assertEqual(lending.names(*POOL), [FIRST])
        lending.pass_time(1)
        self.assertEqual((lending.names(*POOL), lending.names(*RESTING_AT)), ([], [FIRST]))
        lending.pass_time(QUARANTINE_S)
        self.assertEqual(lending.names(*RESTING_AT), [])

    def test_exhausted(self) -> None:
        """No address left: 503 that says when one may be free: after the first rest, or the first lease and its rest."""
        lending = self.build()
        lending.ask(1)
        lending.ask(2)
        fault = self.failureResultOf(lending.ask(3), Overloaded).value
        self.assertEqual(fault.retry_after_s, int(LEASE_S + QUARANTINE_S))
        self.assertIn("no IPv6 address is left", fault.detail)
        lending.send(Method.DELETE, f"/mcAddrPool/{FIRST}")
        lending.pass_time(600)
        self.assertEqual(self.failureResultOf(lending.ask(3), Overloaded).value.retry_after_s, int(QUARANTINE_S - 600))

    def test_a_restart(self) -> None:
        """Leases and rests are whole again after a restart, and begin anew: they last longer, never shorter."""
        lending = self.build()
        lending.ask(1)
        lending.ask(2)
        lending.send(Method.DELETE, f"/mcAddrPool/{SECOND}")
        lending.pass_time(QUARANTINE_S - 1)
        lending.stop()
        lending.start()
        lending.pass_time(QUARANTINE_S - 1)
        self.failureResultOf(lending.ask(3), Overloaded)
        self.assertEqual(self.address(lending.ask(1)), FIRST)
        lending.pass_time(1)
        self.assertEqual(self.address(lending.ask(3)), SECOND)

    def test_own_groups(self) -> None:
        """An address of the node's own group is listed, has no end, and nobody returns it."""
        lending = self.build()
        lending.built.committer.commit(Unit((Write((*POOL, FIRST), LEASE, {"for": USER, "own": True}),)))
        lending.pass_time(LEASE_S * 2)
        [listed] = json.loads(self.successResultOf(lending.send(Method.GET)).payload)["children"]
        self.assertEqual((listed["for"], listed["expires"]), (USER, None))
        self.failureResultOf(lending.send(Method.DELETE, f"/mcAddrPool/{FIRST}"), Conflict)
        self.assertEqual(self.address(lending.ask()), SECOND)

    def test_a_full_disk(self) -> None:
        """An address whose lease could not be written was not given; an end that could not be is tried again."""
        lending = self.build()
        lending.built.committer.fault = StorageFull("full")
        self.failureResultOf(lending.ask(), StorageFull)
        lending.built.committer.fault = None
        self.assertEqual([self.address(lending.ask(number)) for number in (1, 2)], [SECOND, FIRST])
        lending.built.committer.fault = StorageFull("full")
        lending.pass_time(LEASE_S)
        self.assertEqual(len(lending.names(*POOL)), 2)
        lending.built.committer.fault = None
        lending.pass_time(RETRY_S)
        self.assertEqual((lending.names(*POOL), len(lending.names(*RESTING_AT))), ([], 2))

    def test_bad_input(self) -> None:
        """Each fault names its field; other methods and addresses that nobody has are refused; nothing is written."""
        lending = self.build()
        for document, name in (
            ({}, "for"),
            ({"for": "no uri"}, "for"),
            ({"for": USER, "version": 5.5}, "version"),
            ({"for": USER, "colour": 1}, "colour"),
        ):
            self.assertEqual(self.failureResultOf(lending.send(Method.POST, document=document), Malformed).value.field, name)
        self.failureResultOf(lending.send(Method.PUT, document={}), MethodNotAllowed)
        for method in (Method.GET, Method.DELETE):
            self.failureResultOf(lending.send(method, f"/mcAddrPool/{FIRST}"), NoSuchResource)
        lending.ask()
        self.failureResultOf(lending.send(Method.PUT, f"/mcAddrPool/{FIRST}", {}), MethodNotAllowed)
        self.assertEqual(len(lending.built.committer.units), 1)

    @given(st.lists(st.tuples(st.sampled_from(["ask", "return", "wait", "restart"]), st.integers(1, 4)), max_size=25))
    def test_never_twice(self, steps: list[tuple[str, int]]) -> None:
        """Whatever is asked for and returned, over restarts: no two groups have one address, and none rests too short."""
        lending = Lending()
        has: dict[int, str] = {}
        until: dict[str, float] = {}
        for what, number in steps:
            if what == "ask":
                done = lending.ask(number)
                if number in has:
                    self.assertEqual(self.address(done), has[number])
                elif len(has) + sum(end > lending.clock.seconds() for end in until.values()) < 2:
                    has[number] = self.address(done)
                    self.assertGreaterEqual(lending.clock.seconds(), until.get(has[number], 0.0))
                else:
                    self.failureResultOf(done, Overloaded)
            elif what == "return" and number in has:
                lending.send(Method.DELETE, f"/mcAddrPool/{has[number]}")
                until[has.pop(number)] = lending.clock.seconds() + QUARANTINE_S
            elif what == "wait":
                lending.pass_time(QUARANTINE_S * number / 3)
            elif what == "restart":
                lending.stop()
                lending.start()
                until = {address: lending.clock.seconds() + QUARANTINE_S for address, end in until.items() if end > lending.clock.seconds()}
            self.assertEqual(sorted(has.values()), sorted(set(has.values())))
            self.assertEqual(lending.names(*POOL), sorted(has.values()))
        lending.stop()
        self.assertEqual(lending.built.errors, [])
