"""`registry.service`: registrations as requests to `/rd` and `/scls`, their bounds and their ends."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.model.errors import (
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    NotAcceptable,
    Overloaded,
    PreconditionFailed,
    StorageFull,
    TooManyRequests,
)
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Conditions, Method, Request, Response, Status
from m2mapp.model.metrics import Counter
from m2mapp.registry.service import Limits
from m2mapp.tree.etags import LINKS_TAG, etag
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.unit import COLLECTION, Remove, Unit, Write
from tests.unit.registry.parts import DEVICE, Node, get, put, register

D1 = "ep=d1&lt=300&host=d1.example.org&multicast=1"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()

    def tearDown(self) -> None:
        self.node.service.stopService()
        self.assertEqual(self.node.clock.getDelayedCalls(), [])
        self.assertEqual(self.node.errors, [])

    def done(self, request: Request) -> Response:
        return self.successResultOf(self.node.ask(request))

    def shown(self, where: str, query: str = "") -> dict[str, object]:
        shown = json.loads(self.done(get(where, query)).payload)
        assert isinstance(shown, dict)
        return shown

    def names(self) -> list[str]:
        return [resource.path[-1] for resource in self.node.tree.children(("scls",))]


class RegistrationTests(Case):
    def test_handles_requests(self) -> None:
        """The service is what the dispatcher calls."""
        self.assertTrue(verifyObject(IHandle, self.node.service))

    def test_register_and_read(self) -> None:
        """A registration is answered with its location, and stands at `/scls` with all that a GET shows (spec section 12)."""
        self.node.service.groups_of = lambda name: ["/groups/of-" + name]
        answer = self.done(register(D1, '</temp>;rt="temperature"'))
        self.assertEqual((answer.status, answer.location), (Status.CREATED, ("rd", "d1")))
        self.assertEqual(
            self.shown("/scls/d1"),
            {
                "name": "d1",
                "hosts": ["d1.example.org"],
                "addresses": ["fd00::d1"],
                "port": 5683,
                "scheme": "coap",
                "multicastEnabled": True,
                "groupServer": False,
                "mcGroups": "/mcGroups",
                "fixedGroups": [],
                "lifetime": 300,
                "links": [{"href": "/temp", "rt": "temperature"}],
                "attributes": {},
                "registeredAt": "http://g1.example.org",
                "lastSeen": "2023-11-14T22:13:20.000Z",
                "expires": "2023-11-14T22:18:20.000Z",
                "groups": ["/groups/of-d1"],
            },
        )

    def test_index_of_the_tree_finds_it(self) -> None:
        """The index that other parts use finds the device by host and address."""
        index = Registrations(self.node.tree)
        self.done(register(D1))
        device = index.at_host("d1.example.org")
        assert device is not None
        self.assertEqual((device.name, index.at_address("fd00::d1")), ("d1", device))

    def test_registering_again(self) -> None:
        """The same endpoint again has the same location, is answered as created (RFC 9176, section 5), and replaces everything."""
        self.done(register(D1))
        answer = self.done(register("ep=d1", source=("fd00::e1", 5683)))
        self.assertEqual((answer.status, answer.location, self.names()), (Status.CREATED, ("rd", "d1"), ["d1"]))
        self.assertEqual((self.shown("/scls/d1")["addresses"], self.shown("/scls/d1")["hosts"]), (["fd00::e1"], []))

    def test_links_of_a_registration(self) -> None:
        """A GET of the location gives the links in link format, with an ETag of their own."""
        self.done(register(D1, "</a>,</b>;obs"))
        answer = self.done(get("/rd/d1"))
        resource = self.node.tree.get(("scls", "d1"))
        self.assertEqual((answer.payload, answer.content_type), (b"</a>,</b>;obs", "application/link-format"))
        self.assertEqual(answer.etag, etag(LINKS_TAG, resource.version))
        self.failureResultOf(self.node.ask(Request(Method.GET, ("rd", "d1"), accept=("application/json",))), NotAcceptable)

    def test_update_without_news_needs_no_flush(self) -> None:
        """An update that says nothing new prolongs the registration and is not committed; one with news is."""
        self.done(register(D1))
        units = len(self.node.committer.units)
        self.node.clock.advance(200)
        self.assertEqual(self.done(register("lt=300", to="/rd/d1")).status, Status.CHANGED)
        self.node.clock.advance(299)
        self.assertEqual((self.names(), len(self.node.committer.units)), (["d1"], units))
        self.assertEqual(self.done(register("lt=60", to="/rd/d1")).status, Status.CHANGED)
        self.assertEqual((len(self.node.committer.units), self.shown("/scls/d1")["lifetime"]), (units + 1, 60))

    def test_update_of_a_registration_that_is_not_flushed(self) -> None:
        """An update that overtakes the flush of its registration rests on it, and is committed itself."""
        self.node.committer.hold()
        first = self.node.ask(register(D1))
        second = self.node.ask(register("", to="/rd/d1"))
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.node.committer.release()
        self.assertEqual((self.successResultOf(first).status, self.successResultOf(second).status), (Status.CREATED, Status.CHANGED))

    def test_update_under_a_condition(self) -> None:
        """If-Match on an update is checked, also where the update says nothing new."""
        self.done(register(D1))
        lost = Request(Method.POST, ("rd", "d1"), conditions=Conditions(if_match=(b"\x02\x7f",)), source=DEVICE)
        self.failureResultOf(self.node.ask(lost), PreconditionFailed)

    def test_removal(self) -> None:
        """A DELETE of the location removes the resource, and nothing of it is left in the indexes."""
        self.done(register(D1))
        self.assertEqual(self.done(register("", to="/rd/d1", method=Method.DELETE)).status, Status.DELETED)
        self.assertEqual((self.names(), self.node.clock.getDelayedCalls() != []), ([], True))
        self.assertEqual(self.shown("/scls", "host=d1.example.org")["children"], [])
        self.node.clock.advance(301)
        self.assertEqual([unit for unit in self.node.committer.units if unit.changes == (Remove(("scls", "d1")),)][1:], [])

    def test_unknown_locations(self) -> None:
        """An unknown location is not found under the path that was asked for, whatever the method; a name below one neither."""
        for method in (Method.GET, Method.POST, Method.DELETE):
            for where in ("/rd/none", "/rd/d1/x"):
                failure = self.failureResultOf(self.node.ask(register("", to=where, method=method)), NoSuchResource)
                self.assertIn(where, failure.getErrorMessage())

    def test_methods_that_are_not_taken(self) -> None:
        """Other methods are refused, and the error says which are taken."""
        for where, method, allowed in (
            ("/rd", Method.GET, ("POST",)),
            ("/rd", Method.DELETE, ("POST",)),
            ("/rd/d1", Method.PUT, ("DELETE", "GET", "POST")),
        ):
            failure = self.failureResultOf(self.node.ask(register("", to=where, method=method)), MethodNotAllowed)
            self.assertEqual(getattr(failure.value, "allowed", None), allowed)

    def test_bad_registration_changes_nothing(self) -> None:
        """A refused registration commits nothing and leaves an earlier one of that name."""
        self.done(register(D1))
        units = len(self.node.committer.units)
        self.failureResultOf(self.node.ask(register("ep=d1&lt=0")), Malformed)
        self.failureResultOf(self.node.ask(register("lt=0", to="/rd/d1")), Malformed)
        self.assertEqual((len(self.node.committer.units), self.shown("/scls/d1")["lifetime"]), (units, 300))

    def test_failed_commit_is_told(self) -> None:
        """A registration that the store cannot keep is answered with the store's fault, and does not stand."""
        self.node.committer.fault = StorageFull()
        self.failureResultOf(self.node.ask(register(D1)), StorageFull)
        self.node.committer.fault = None
        self.assertEqual(self.names(), [])


class SclsTests(Case):
    def test_written_directly(self) -> None:
        """`/scls/d1` takes PUT, PATCH and DELETE of its document (spec section 2)."""
        self.assertEqual(self.done(put("/scls/d1", b'{"hosts": ["d1.example.org"], "lifetime": 60}')).status, Status.CREATED)
        patch = Request(Method.PATCH, ("scls", "d1"), payload=b'{"port": 7000}', content_type="application/merge-patch+json")
        self.assertEqual(self.done(patch).status, Status.CHANGED)
        shown = self.shown("/scls/d1")
        self.assertEqual((shown["hosts"], shown["port"], shown["lifetime"]), (["d1.example.org"], 7000, 60))
        self.assertEqual(self.done(put("/scls/d1", json.dumps(shown).encode())).status, Status.CHANGED)
        self.assertEqual(self.done(Request(Method.DELETE, ("scls", "d1"))).status, Status.DELETED)
        self.failureResultOf(self.node.ask(get("/scls/d1")), NoSuchResource)

    def test_both_names_are_one_resource(self) -> None:
        """What was written at `/scls/d1` is read, updated and removed at `/rd/d1`."""
        self.done(put("/scls/d1", b'{"links": [{"href": "/t", "rt": ["a", "b"]}]}'))
        self.assertEqual(self.done(get("/rd/d1")).payload, b'</t>;rt="a";rt="b"')
        self.done(register("lt=60", to="/rd/d1", source=None))
        self.assertEqual(self.shown("/scls/d1")["lifetime"], 60)
        self.done(register("", to="/rd/d1", method=Method.DELETE))
        self.assertEqual(self.names(), [])

    def test_bad_documents(self) -> None:
        """A document that is none is refused and the field named."""
        for document, field in ((b'{"port": 0}', "port"), (b'{"colour": 1}', "colour"), (b"{", "body"), (b'{"name": "d2"}', "name")):
            failure = self.failureResultOf(self.node.ask(put("/scls/d1", document)), Malformed)
            self.assertEqual(getattr(failure.value, "field", None), field)
        self.assertEqual(self.names(), [])

    def test_collection(self) -> None:
        """A GET of the collection lists the registrations like any collection."""
        self.done(register(D1))
        children = self.shown("/scls")["children"]
        assert isinstance(children, list)
        self.assertEqual([(child["name"], child["type"]) for child in children], [("d1", "scl")])

    def test_found_by_host(self) -> None:
        """`?host=` finds the registration by host name, endpoint name or address, and shows it whole; an unknown one gives none."""
        self.done(register(D1))
        self.done(register("ep=d2", source=("fd00::d2", 5683)))
        for host, name in (("D1.example.org", "d1"), ("d2", "d2"), ("FD00:0::D2", "d2")):
            children = self.shown("/scls", f"host={host}")["children"]
            assert isinstance(children, list)
            self.assertEqual([(child["name"], child["registeredAt"]) for child in children], [(name, "http://g1.example.org")])
        self.assertEqual(self.shown("/scls", "host=d3.example.com")["children"], [])

    def test_host_of_a_reporting_client(self) -> None:
        """`?host=` does not find the LwM2M client by which a gateway reports by its name: the gateway's resources are elsewhere."""
        self.done(register("ep=g1.example.org&lt=60&lwm2m=1.1", "</3/0>,</33050>"))
        self.assertEqual(self.shown("/scls", "host=g1.example.org")["children"], [])
        self.assertEqual(self.shown("/scls/g1.example.org")["name"], "g1.example.org")

    def test_found_by_several_hosts(self) -> None:
        """Several `host=` find each registration that any of them names, once."""
        for query in (D1, "ep=d2", "ep=d3"):
            self.done(register(query))
        children = self.shown("/scls", "host=d1.example.org&host=d2&host=d9&host=d1")["children"]
        assert isinstance(children, list)
        self.assertEqual([child["name"] for child in children], ["d1", "d2"])

    def test_found_by_endpoint(self) -> None:
        """`?ep=` finds an endpoint in each sector, with `d` in one; with `host` both have to hold."""
        for query in ("ep=d1", "ep=d1&d=a", "ep=d1&d=b&host=b.example.org", "ep=d10", "ep=d1a"):
            self.done(register(query))
        for query, names in (
            ("ep=d1", ["d1", "d1@a", "d1@b"]),
            ("ep=d1&d=a", ["d1@a"]),
            ("ep=d1&host=b.example.org", ["d1@b"]),
            ("ep=d", []),
        ):
            children = self.shown("/scls", query)["children"]
            assert isinstance(children, list)
            self.assertEqual([child["name"] for child in children], names)

    def test_found_in_pages(self) -> None:
        """What a filter finds is paged like the collection, and the next page keeps the filter."""
        for number in range(5):
            self.done(register(f"ep=d{number}&host=shared.example.org"))
        answer = self.done(get("/scls", "host=shared.example.org&limit=3"))
        self.assertEqual(answer.next_query, (("host", "shared.example.org"), ("limit", "3"), ("after", "d2")))
        self.assertEqual(json.loads(answer.payload)["next"], "d2")
        last = self.done(get("/scls", "host=shared.example.org&limit=3&after=d2"))
        self.assertEqual(([child["name"] for child in json.loads(last.payload)["children"]], last.next_query), (["d3", "d4"], None))


class LastSeenTests(Case):
    def last_seen(self, name: str) -> object:
        return self.shown(f"/scls/{name}")["lastSeen"]

    def test_datagram_of_a_registered_address(self) -> None:
        """A datagram from a registered address is when its device was last seen; neither ETag nor disk know of it."""
        self.done(put("/scls/d1", b'{"addresses": ["fd00::d1"]}'))
        before, units = self.done(get("/scls/d1")), len(self.node.committer.units)
        self.assertIsNone(self.last_seen("d1"))
        self.node.wall.advance(5000)
        self.node.service.seen("fd00::d1")
        self.node.service.seen("fd00::dead")
        after = self.done(get("/scls/d1"))
        self.assertEqual((self.last_seen("d1"), after.etag), ("2023-11-14T22:13:25.000Z", before.etag))
        self.assertEqual((len(self.node.committer.units), self.node.touched), (units, [("scls", "d1")]))

    def test_shared_address_costs_no_more(self) -> None:
        """A datagram of an address that very many share is nobody's: the cost stays the same."""
        for number in range(17):
            self.done(put(f"/scls/d{number}", b'{"addresses": ["fd00::d1"]}'))
        self.node.service.seen("fd00::d1")
        self.assertIsNone(self.last_seen("d3"))

    def test_update_is_a_sign_of_life(self) -> None:
        """An update by CoAP says when the device was last seen, one by HTTP does not."""
        self.done(put("/scls/d1", b'{"addresses": ["fd00::d1"], "attributes": {"base": "coap://[fd00::d1]"}}'))
        self.done(register("", to="/rd/d1", source=None))
        self.assertIsNone(self.last_seen("d1"))
        self.done(register("", to="/rd/d1"))
        self.assertIsNotNone(self.last_seen("d1"))


class LifetimeTests(Case):
    def test_registration_ends(self) -> None:
        """A registration is removed when its lifetime is over, not before, and counted."""
        self.done(register(D1))
        self.node.clock.advance(299.9)
        self.assertEqual(self.names(), ["d1"])
        self.node.clock.advance(0.1)
        self.assertEqual(self.names(), [])
        expired = self.node.metrics.counter("m2mapp_registry_expired_total", "")
        assert isinstance(expired, Counter)
        self.assertEqual(expired.value, 1)

    def test_wall_clock_steps_change_nothing(self) -> None:
        """A wall clock that steps by years ends no registration; only what is shown as its end moves along."""
        self.done(register(D1))
        self.node.wall.advance(10 * 365 * 86_400_000)
        self.node.clock.advance(100)
        self.assertEqual((self.names(), self.shown("/scls/d1")["expires"]), (["d1"], "2033-11-11T22:16:40.000Z"))

    def test_writing_begins_the_lifetime_anew(self) -> None:
        """Any write of the registration begins its lifetime anew, with the new lifetime."""
        self.done(register(D1))
        self.node.clock.advance(200)
        self.done(put("/scls/d1", b'{"lifetime": 1000}'))
        self.node.clock.advance(999)
        self.assertEqual(self.names(), ["d1"])
        self.node.clock.advance(1)
        self.assertEqual(self.names(), [])

    def test_full_lifetime_after_a_start(self) -> None:
        """After stop and start a registration has its full lifetime anew, whatever was left of it; nothing is pending between."""
        self.done(register(D1))
        self.node.clock.advance(299)
        self.node.service.stopService()
        self.assertEqual(self.node.clock.getDelayedCalls(), [])
        self.node.clock.advance(1000)
        self.assertEqual(self.names(), ["d1"])
        self.node.service.startService()
        self.node.clock.advance(299)
        self.assertEqual((self.names(), self.shown("/scls", "host=d1.example.org")["children"] != []), (["d1"], True))
        self.node.clock.advance(1)
        self.assertEqual(self.names(), [])

    def test_collection_is_no_registration(self) -> None:
        """Changes of `/scls` itself, which is a collection, count as no registration and begin no lifetime."""
        self.node.committer.commit(Unit((Write(("scls",), COLLECTION),)))
        self.node.committer.commit(Unit((Remove(("scls",)),)))
        self.assertEqual((self.node.clock.getDelayedCalls(), self.node.service._count), ([], 0))

    def test_stopped_service_follows_nothing(self) -> None:
        """A stopped service does not watch the tree and ends nothing."""
        self.node.service.stopService()
        self.node.committer.commit(Unit((Remove(("scls",)),)))
        self.assertEqual(self.node.clock.getDelayedCalls(), [])


class LimitTests(Case):
    def setUp(self) -> None:
        self.node = Node(Limits(registrations=4, per_source=2))

    def test_one_source_cannot_take_all(self) -> None:
        """A source that has its number is refused another one, may renew what it has, and others may still register."""
        for name in ("a", "b"):
            self.done(register(f"ep={name}"))
        self.failureResultOf(self.node.ask(register("ep=c")), TooManyRequests)
        self.failureResultOf(self.node.ask(register("ep=c&base=coap://[fd00::77]")), TooManyRequests)
        self.done(register("ep=a&lt=60"))
        self.done(register("ep=c", source=("fd00::e1", 5683)))
        self.done(register("", to="/rd/a", method=Method.DELETE))
        self.done(register("ep=d"))
        self.assertEqual(self.names(), ["b", "c", "d"])

    def test_source_cannot_be_written(self) -> None:
        """Who registered is not taken from the document, so that a write at `/scls` counts like one at `/rd`."""
        for name in ("a", "b"):
            written = put(f"/scls/{name}", b'{"source": "fd00::other"}')
            self.done(Request(written.method, written.path, payload=written.payload, content_type=written.content_type, source=DEVICE))
        self.failureResultOf(self.node.ask(register("ep=c")), TooManyRequests)

    def test_number_in_all(self) -> None:
        """When all places are taken a new registration is refused and counted, from whichever side; renewing goes on."""
        for name in ("a", "b", "c", "d"):
            self.done(put(f"/scls/{name}", b"{}"))
        self.failureResultOf(self.node.ask(put("/scls/e", b"{}")), Overloaded)
        self.failureResultOf(self.node.ask(register("ep=e")), Overloaded)
        self.done(put("/scls/a", b'{"port": 7000}'))
        refused = self.node.metrics.counter("m2mapp_registry_refused_total", "")
        self.assertEqual((len(self.names()), refused.value), (4, 2))

    def test_what_is_under_way_counts(self) -> None:
        """Registrations that are not flushed yet take places too; a failed one gives its place back."""
        self.node.committer.hold()
        waiting = [self.node.ask(register(f"ep={name}")) for name in ("a", "b")]
        self.failureResultOf(self.node.ask(register("ep=c")), TooManyRequests)
        self.node.committer.release()
        for answer in waiting:
            self.successResultOf(answer)
        self.node.committer.fault = StorageFull()
        self.failureResultOf(self.node.ask(register("ep=e", source=("fd00::e1", 5683))), StorageFull)
        self.node.committer.fault = None
        for name in ("e", "f"):
            self.done(register(f"ep={name}", source=("fd00::e1", 5683)))
        self.assertEqual(self.names(), ["a", "b", "e", "f"])
