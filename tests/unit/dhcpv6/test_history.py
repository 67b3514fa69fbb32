"""The history of leases and prefixes: what is over, how it ended, and that renewing writes nothing into it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.binding import BINDING_TYPES, PREFIXES
from m2mapp.dhcpv6.client import Item, Lease
from m2mapp.dhcpv6.drivers.remembering import Remembering
from m2mapp.dhcpv6.history import MOST_SHOWN, uplink_ended
from m2mapp.dhcpv6.links import Delegation
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.service import GRACE_S
from m2mapp.dhcpv6.uplink import UPLINK_TYPE, lease_changes
from m2mapp.formats.documents import load_document
from m2mapp.model.errors import NotAcceptable
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.principal import NODE
from m2mapp.tree.paths import parse_path
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.types import Types
from m2mapp.tree.unit import Append, Unit
from tests.unit.dhcpv6.downlink_parts import DEVICE, NEW, DownlinkSite, holding
from tests.unit.dhcpv6.parts import OWN, Site, client_message
from tests.unit.fakes import build_tree

_LEASE = f"/leases/{DEVICE.hex()}/1"


class HistoryTests(SynchronousTestCase):
    """A node with a downlink; its device has a lease that was renewed twice."""

    def setUp(self) -> None:
        site = self.site = DownlinkSite()
        self.addCleanup(site.stop)
        self.handler = Remembering(site.tree, site.committer, site.committer, site.built.rules, site.reserving.handle)
        ((self.address, *_),) = site.given(T.REQUEST)
        for _ in range(2):
            self.advance(600)
            site.given(T.RENEW, holding(self.address))

    def advance(self, seconds: float) -> None:
        self.site.built.clock.advance(int(seconds * 1000))
        self.site.clock.advance(seconds)

    def ask(self, method: Method, path: str, **more: object) -> Response:
        request = Request(method, parse_path(path), principal=NODE, **more)  # type: ignore[arg-type]
        answered = self.handler.handle(request)
        return answered if isinstance(answered, Response) else self.successResultOf(answered)

    def read(self, path: str) -> Mapping[str, object]:
        return load_document(self.ask(Method.GET, path).payload, "application/json")

    def endings(self, path: str = "/leases/history") -> list[object]:
        periods = self.read(path)["periods"]
        assert isinstance(periods, list)
        return [period["ended"] for period in periods]

    def test_while_it_lasts(self) -> None:
        """Given once and renewed twice: that is told by the lease itself, and no journal was written to."""
        history = self.read(f"{_LEASE}/history")
        current = history["current"]
        assert isinstance(current, dict)
        self.assertEqual((history["periods"], "history/leases" in self.site.committer.journals), ([], False))
        times = [current[name] for name in ("givenAt", "renewed", "lastGivenAt")]
        self.assertEqual(times, ["2027-01-15T08:00:00.000Z", 2, "2027-01-15T08:20:00.000Z"])
        self.assertEqual((current["address"], current["name"]), (self.address, _LEASE.removeprefix("/leases/")))

    def test_endings(self) -> None:
        """Released, declined, over, removed by an operator: each stands there once, the newest first, also when the lease is gone."""
        site = self.site
        site.given(T.RELEASE, holding(self.address))
        site.given(T.DECLINE, holding(site.given(T.REQUEST)[0][0]))
        site.given(T.REQUEST)
        self.advance(7200 + GRACE_S)
        site.given(T.REQUEST)
        self.ask(Method.DELETE, _LEASE)
        expected = ["removed", "expired", "declined", "released"]
        self.assertEqual((self.endings(f"{_LEASE}/history"), self.endings()), (expected, expected))
        self.assertIsNone(self.read(f"{_LEASE}/history")["current"])
        ended = self.read("/leases/history")["periods"]
        assert isinstance(ended, list)
        self.assertEqual((ended[-1]["renewed"], ended[-1]["endedAt"]), (2, "2027-01-15T08:20:00.000Z"))

    def test_exchanged(self) -> None:
        """A client that gets another address begins a new part of its history."""
        self.site.prefixes.exchange(Delegation(NEW))
        self.site.given(T.RENEW, holding(self.address))
        self.assertEqual(self.endings(f"{_LEASE}/history"), ["exchanged"])
        current = self.read(f"{_LEASE}/history")["current"]
        assert isinstance(current, dict)
        self.assertEqual((current["renewed"], current["givenAt"]), (0, "2027-01-15T08:20:00.000Z"))

    def test_others(self) -> None:
        """Only the client's own parts are shown at its lease, at most so many of all; other requests go on as before."""
        other = f"/leases/{b'other'.hex()}/7/history"
        self.assertEqual(self.read(other), {"current": None, "periods": []})
        entries = tuple(Append("history/leases", {"name": str(number), "ended": "released"}) for number in range(MOST_SHOWN + 5))
        self.site.committer.commit(Unit(appends=entries))
        self.site.given(T.RELEASE, holding(self.address))
        self.assertEqual((len(self.endings()), self.endings(f"{_LEASE}/history")), (MOST_SHOWN, ["released"]))
        period = {"name": "3", "ended": "released", "endedAt": "2027-01-15T08:20:00.000Z"}
        self.assertEqual(self.read("/leases/3/history"), {"current": None, "periods": [period]})
        self.assertEqual(self.ask(Method.GET, "/leases").status.name, "CONTENT")
        refused = self.handler.handle(Request(Method.GET, ("leases", "history"), principal=NODE, accept=("text/html",)))
        assert not isinstance(refused, Response)
        self.failureResultOf(refused, NotAcceptable)

    def test_set_aside(self) -> None:
        """An address that was declined is nobody's: that it is free again is no part of a client's history."""
        self.site.given(T.DECLINE, holding(self.address))
        self.advance(7200 + GRACE_S)
        self.assertEqual(self.endings(), ["declined"])


class PrefixHistoryTests(SynchronousTestCase):
    def test_delegated(self) -> None:
        """A delegated prefix that an operator removes stands in the history of prefixes."""
        site = Site()
        self.addCleanup(site.service.stopService)
        site.ask(client_message(T.REQUEST, o.IaPd(1), server=OWN))
        (name,) = site.names()
        self.assertEqual(site.committer.journals.get("history/prefixes"), None)
        rules = ResourceRules(site.tree, Types(BINDING_TYPES))
        handler = Remembering(site.tree, site.committer, site.committer, rules, lambda one: execute(site.committer, rules.decide(one)))
        removed = handler.handle(Request(Method.DELETE, ("prefixes", name), principal=NODE))
        assert not isinstance(removed, Response)
        self.successResultOf(removed)
        (entry,) = site.committer.journals["history/prefixes"]
        self.assertEqual((entry.body["name"], entry.body["ended"]), (name, "removed"))

    def test_uplink(self) -> None:
        """A prefix that the uplink has no more, wherever it stood; one that moved to another number is not over."""
        built = build_tree([UPLINK_TYPE])

        def has(*prefixes: str) -> list[object]:
            items = tuple(Item(IPv6Network(prefix), 600, 1200, 0.0) for prefix in prefixes)
            before = list(built.tree.children(PREFIXES))
            changes = lease_changes(Lease(OWN, items, 300, 480, 0.0) if items else None, before, 0.0, built.clock.now_ms())
            appends = uplink_ended(before, changes)
            built.committer.commit(Unit(changes, appends))
            return [append.body["prefix"] for append in appends]

        first, second = "2001:db8:1::/56", "2001:db8:2::/56"
        self.assertEqual([has(first), has(second, first), has(first), has(second), has()], [[], [], [second], [first], [second]])
