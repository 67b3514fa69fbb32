"""`lwm2m.client`, `held`, `reading`, `client_page`: what a bootstrap server may do to a client, and what comes of what it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import LINK_FORMAT, SENML_CBOR, SENML_JSON
from m2mapp.lwm2m.accounts import Credentials, instances, security_numbers
from m2mapp.lwm2m.client import BOOTSTRAP, FIRST_PAUSE_S, SILENCE_S, UNREGISTERED_S, BootstrapClient, BootstrapServer, Event, Phase
from m2mapp.lwm2m.client_page import PAGE_TYPE, kept_servers, page_write
from m2mapp.lwm2m.held import Held, ToldServer
from m2mapp.lwm2m.objects import FORMATS, TLV, Instance, payload, payload_of_object
from m2mapp.lwm2m.plans import MAX_SERVERS, Account, Security
from m2mapp.lwm2m.reading import instances_in
from m2mapp.lwm2m.tlv import Entry, Kind, build
from m2mapp.model.errors import Fault, Malformed, MethodNotAllowed, NoSuchResource, NotAcceptable, TooLarge, UnsupportedMediaType
from m2mapp.model.messages import Answer, Method, Request, Response, Shown, Status
from m2mapp.tree.unit import Resource
from tests.unit.lwm2m.parts import plan

_BS = BootstrapServer("coap://[fd00::b5]")
_FLEET = {"fleet": Credentials(b"certificate", b"key", b"server")}
_SECURE = Account(7, "coaps://m2m.example.org", Security.CERTIFICATE, "fleet", 60, "UQ", storing=True)


def _client() -> BootstrapClient:
    """A client that was told of the service, and whose request was answered."""
    client = BootstrapClient("d1", 112, lambda: 0.0)
    client.told(_BS)
    client.answered(Answer("2.04", source="fd00::b5", port=5683), 0.0)
    return client


def _ask(
    client: BootstrapClient, method: Method, *path: str, body: bytes = b"", kind: str | None = None
) -> Response | tuple[ToldServer, ...]:
    return client.taken(Request(method, path, payload=body, content_type=kind), 1.0)


def _write(client: BootstrapClient, instance: Instance, kind: str = TLV) -> Response | tuple[ToldServer, ...]:
    place = instance.path.strip("/").split("/")
    return _ask(client, Method.PUT, *place, body=payload(instance, kind), kind=kind)


class ReadingTests(SynchronousTestCase):
    def test_as_written(self) -> None:
        """What our server writes, of an instance or of a whole object, is read back in each format."""
        for kind in FORMATS.values():
            for one in instances(replace(plan(), accounts=(*plan().accounts, _SECURE)), _FLEET):
                self.assertEqual(instances_in(payload(one, kind), kind, one.object, one.number), (one,))
                self.assertEqual(instances_in(payload_of_object([one], kind), kind, one.object), (one,))

    def test_passed_over(self) -> None:
        """Resources that are not known here, and instances of resources, are passed over."""
        data = build([Entry(Kind.RESOURCE, 0, b"coap://h"), Entry(Kind.RESOURCE, 99, b"x"), Entry(Kind.MULTIPLE_RESOURCE, 2, ())])
        self.assertEqual(instances_in(data, TLV, 0, 1), (Instance(0, 1, {0: "coap://h"}),))
        data = b'[{"bn":"/0/1/","n":"0","vs":"coap://h"},{"n":"99","v":1},{"n":"2/0","v":3},{"n":"10","v":1.0}]'
        self.assertEqual(instances_in(data, SENML_JSON, 0, 1), (Instance(0, 1, {0: "coap://h", 10: 1}),))

    def test_malformed(self) -> None:
        """Another instance than the path's, values of another type, what is cut, and formats that nobody knows are refused."""
        cases: tuple[tuple[bytes, str, type[Fault]], ...] = (
            (build([Entry(Kind.OBJECT_INSTANCE, 2, ())]), TLV, Malformed),
            (build([Entry(Kind.RESOURCE, 1, b"\x07")]), TLV, Malformed),
            (b"\xc8\x00\x11coap", TLV, Malformed),
            (b'[{"bn":"/0/2/","n":"0","vs":"x"}]', SENML_JSON, Malformed),
            (b'[{"bn":"/0/1/","n":"0","v":1}]', SENML_JSON, Malformed),
            (b'[{"bn":"/0/1/","n":"2","v":1.5}]', SENML_JSON, Malformed),
            (b'[{"bn":"/0/1/","n":"1","v":1}]', SENML_JSON, Malformed),
            (b'[{"n":"temp","v":1}]', SENML_JSON, Malformed),
            (b"\x9f", SENML_CBOR, Malformed),
            (b"", "text/plain", UnsupportedMediaType),
            (b"", "application/vnd.oma.lwm2m+json", UnsupportedMediaType),
        )
        for data, kind, fault in cases:
            with self.subTest(data=data, kind=kind):
                self.assertRaises(fault, instances_in, data, kind, 0, 1)

    @given(st.binary(max_size=60), st.sampled_from(sorted(FORMATS.values())), st.sampled_from((None, 1)))
    def test_any_bytes(self, data: bytes, kind: str, instance: int | None) -> None:
        """Any bytes are instances, or refused by name."""
        try:
            found = instances_in(data, kind, 0, instance)
        except Malformed:
            return
        self.assertTrue(all(one.object == 0 for one in found))


class HeldTests(SynchronousTestCase):
    def whole(self, *accounts: Account) -> Held:
        """What a client holds after a bootstrap with these servers."""
        return Held().written(instances(replace(plan(), accounts=accounts or plan().accounts), _FLEET))

    def test_servers(self) -> None:
        """The servers are those of the plan, with the certificate that they have to show."""
        first, second = self.whole(*plan().accounts, _SECURE).servers()
        self.assertEqual((first.short_id, first.uri.host, first.security, first.lifetime_s), (1, "::1", Security.NONE, 300))
        self.assertEqual((second.short_id, second.certificate, second.lifetime_s, second.binding), (7, b"server", 60, "UQ"))
        self.assertEqual((first.shown, second.shown), (None, Shown(b"certificate", b"key")))
        self.assertNotIn("key'", repr(second))

    def test_inconsistent(self) -> None:
        """What makes no sense is told: no server, an account without its other half, short identifiers twice, what cannot be used."""
        whole = self.whole()
        security, server = whole.security[1], whole.server[1]
        cases: dict[str, Held] = {
            "there is no server": Held(),
            "other servers": whole.without(1, 1),
            "stands twice": replace(whole, security={1: security, 2: security}),
            "short identifier": replace(whole, security={1: {**security, 10: 0}}),
            "the security mode 0": replace(whole, security={1: {**security, 2: 0}}),
            "no URI for the security mode 2": replace(whole, security={1: {**security, 2: 2}}),
            "the URI": replace(whole, security={1: {**security, 0: "nowhere"}}),
            "no URI for the security mode 3": replace(whole, security={1: {**security, 0: "coap://h/path"}}),
            "without its key": replace(whole, security={1: {**security, 3: b"certificate"}}),
            "the lifetime 1": replace(whole, server={1: {**server, 1: 1}}),
        }
        for why, held in cases.items():
            with self.subTest(why):
                fault = self.assertRaises(NotAcceptable, held.servers)
                self.assertIn(why.replace("the URI", "a URI"), fault.detail)

    def test_bootstrap_accounts(self) -> None:
        """An account of a bootstrap server is taken and counts for nothing: who that is was told by DHCPv6."""
        own = Instance(0, 0, {0: "coap://other", 1: True})
        self.assertEqual(Held().written([own, replace(own, number=3)]), Held())

    def test_bounded(self) -> None:
        """No more instances are held than a plan can have."""
        many = [Instance(0, number, {0: "coap://h"}) for number in range(1, MAX_SERVERS + 2)]
        self.assertRaises(TooLarge, Held().written, many)

    def test_discovery(self) -> None:
        """What it says of itself lets our server number its instances beside the bootstrap server's own."""
        text = self.whole().discovery("coap://[fd00::b5]").encode()
        self.assertEqual(security_numbers(text), {0, 1})
        self.assertIn(b"</1/1>;ssid=1", text)


class ExchangeTests(SynchronousTestCase):
    def test_usual(self) -> None:
        """Asked for, written, finished: the client holds the servers, and no more waits."""
        client = BootstrapClient("d1", 112, lambda: 0.0)
        client.told(_BS)
        self.assertEqual(client.request().uri, "coap://[fd00::b5]/bs?ep=d1&pct=112")
        client.answered(Answer("2.04", source="fd00::b5", port=5683), 0.0)
        self.assertEqual((client.phase, client.wake_at), (Phase.OPEN, SILENCE_S))
        self.assertEqual(_ask(client, Method.DELETE), Response(Status.DELETED))
        found = _ask(client, Method.GET)
        assert isinstance(found, Response)
        self.assertEqual((security_numbers(found.payload), found.content_type), ({0}, LINK_FORMAT))
        for one in instances(plan(), {}):
            self.assertEqual(_write(client, one), Response(Status.CHANGED))
        servers = _ask(client, Method.POST, "bs")
        assert not isinstance(servers, Response)
        self.assertEqual([one.uri.host for one in servers], ["::1"])
        client.finished()
        self.assertEqual((client.phase, client.wake_at), (Phase.DONE, None))

    def test_deletions(self) -> None:
        """An instance, an object, or all is deleted; the bootstrap server's own account is not among that."""
        for path, left in ((("0", "1"), (0, 1)), (("0",), (0, 1)), (("1",), (1, 0)), ((), (0, 0))):
            client = _client()
            for one in instances(plan(), {}):
                _write(client, one)
            _ask(client, Method.DELETE, *path)
            self.assertEqual((len(client.held.security), len(client.held.server)), left)

    def test_refused(self) -> None:
        """What is no object here, and methods that a bootstrap server has not, are refused, and the session goes on."""
        client = _client()
        self.assertRaises(NoSuchResource, _ask, client, Method.PUT, "2", "0")
        self.assertRaises(NoSuchResource, _ask, client, Method.PUT, "0", "65535")
        self.assertRaises(NoSuchResource, _ask, client, Method.DELETE, "0", "1", "2")
        self.assertRaises(MethodNotAllowed, _ask, client, Method.POST, "0")
        self.assertRaises(MethodNotAllowed, _ask, client, Method.PUT)
        self.assertEqual(client.phase, Phase.OPEN)

    def test_nothing_was_written(self) -> None:
        """A Finish of what makes no sense is 4.06, ends the session, and the client asks again after a pause that grows."""
        client = _client()
        self.assertRaises(NotAcceptable, _ask, client, Method.POST, "bs")
        self.assertEqual((client.phase, client.wake_at, client.why), (Phase.PAUSED, 1.0 + FIRST_PAUSE_S, "there is no server"))
        client.wake(1.0)
        self.assertEqual(client.phase, Phase.PAUSED)
        client.wake(3.0)
        client.failed("nobody", 3.0)
        self.assertEqual((client.phase, client.wake_at), (Phase.PAUSED, 3.0 + 2 * FIRST_PAUSE_S))

    def test_half_session(self) -> None:
        """A server that agrees and then is silent is given up; one that refuses says why."""
        client = _client()
        client.wake(SILENCE_S)
        self.assertEqual((client.phase, client.why), (Phase.PAUSED, f"the server was silent for {SILENCE_S:g} s"))
        client.wake(1000.0)
        client.answered(Answer("4.00", b"ep: no plan"), 1000.0)
        self.assertEqual((client.phase, client.why), (Phase.PAUSED, "4.00 ep: no plan"))

    def test_server_begins_first(self) -> None:
        """The server's first request comes before its answer, which was lost: it is taken, and the answer changes nothing later."""
        client = BootstrapClient("d1", 112, lambda: 0.0)
        client.told(_BS)
        self.assertTrue(client.comes_from_server(("fd00::b5", 5683)))
        self.assertFalse(client.comes_from_server(("fd00::b5", 5684)))
        self.assertFalse(client.comes_from_server(None))
        _ask(client, Method.DELETE)
        client.answered(Answer("2.04", source="fd00::b5", port=5683), 2.0)
        self.assertEqual(client.phase, Phase.OPEN)

    def test_where(self) -> None:
        """A path that the URI has is kept; what is no CoAP is not asked, nor plain CoAP where a certificate was told."""
        self.assertEqual(BootstrapServer("coaps://h/a").where().path, ("a", "bs"))
        self.assertEqual(BootstrapServer("coap://h:7/bs").where().path, ("bs",))
        for server in (BootstrapServer("http://h"), BootstrapServer("coap://"), BootstrapServer("coap://h", b"der")):
            self.assertRaises(Malformed, server.where)

    def test_no_server_has_it(self) -> None:
        """A client that no server registers asks the bootstrap service again after a while; each registration puts that off."""
        client = _client()
        client.finished()
        client.registered(0.0, 0.0)
        self.assertEqual(client.wake_at, UNREGISTERED_S)
        client.registered(10.0, 300.0)
        client.wake(UNREGISTERED_S)
        self.assertEqual(client.phase, Phase.DONE)
        client.wake(10.0 + 300.0 + UNREGISTERED_S)
        self.assertEqual(client.phase, Phase.ASKING)

    def test_table(self) -> None:
        """Every phase is reached and can be left; an event that cannot happen raises and changes nothing."""
        self.assertEqual(set(BOOTSTRAP.values()), set(Phase))
        self.assertTrue(all((phase, Event.TOLD) in BOOTSTRAP and (phase, Event.LOST) in BOOTSTRAP for phase in Phase))
        client = BootstrapClient("d1", 112, lambda: 0.0)
        self.assertRaises(KeyError, client.finished)
        self.assertRaises(LookupError, client.request)
        self.assertEqual(client.phase, Phase.IDLE)


class PageTests(SynchronousTestCase):
    def kept(self, *accounts: Account, server: BootstrapServer = _BS) -> tuple[Resource, tuple[ToldServer, ...]]:
        """What is kept of a bootstrap, and the servers."""
        servers = Held().written(instances(replace(plan(), accounts=accounts or plan().accounts), _FLEET)).servers()
        write = page_write("d1", server, servers, 1_000)
        return Resource(write.path, write.type, write.attributes, None, None, 0, 0, 1), servers

    def test_kept(self) -> None:
        """The servers are good after a restart for the same endpoint, service and certificate, and for no other."""
        resource, servers = self.kept()
        self.assertEqual(kept_servers(resource, "d1", _BS), servers)
        others: tuple[tuple[str, BootstrapServer], ...] = (
            ("d2", _BS),
            ("d1", BootstrapServer("coap://other")),
            ("d1", replace(_BS, certificate=b"c")),
        )
        self.assertEqual([kept_servers(resource, *other) for other in others], [()] * 3)
        self.assertEqual(kept_servers(None, "d1", _BS), ())

    def test_no_keys(self) -> None:
        """No key is kept: a server for which the client has one of its own is asked for anew."""
        resource, _ = self.kept(_SECURE)
        self.assertEqual(kept_servers(resource, "d1", _BS), ())
        self.assertNotIn(b"key", repr(resource).encode())
        shown: Mapping[str, object] = PAGE_TYPE.describe(resource, None)  # type: ignore[arg-type]  # it needs no tree
        self.assertNotIn("der", repr(shown))
