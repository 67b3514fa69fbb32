"""`lwm2m.drivers.reporting`: where the gateway's client registers, whom it lets read, and what becomes of what was read."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.objects import TLV
from m2mapp.lwm2m.report_settings import ReportSettings
from m2mapp.model.errors import MethodNotAllowed, StorageFull
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.model.principal import NOBODY
from m2mapp.tree.unit import Remove, Write
from tests.unit.fakes import RecordingRequester, ask
from tests.unit.lwm2m.reporting import Gateway, Server, duid, lease


def learned(uri: str | None, der: bytes | None = None) -> Write:
    """A prefix that the uplink has, with the bootstrap service that came with it."""
    return Write(("prefixes", "1"), "uplinkPrefix", {"prefix": "2001:db8::/56", "from": "00", "bootstrapURI": uri, "der": der})


def _agree(outgoing: Outgoing) -> Answer:
    return Answer("2.02") if outgoing.method is Method.DELETE else Answer("2.01", location="/rd/1", source="fd00::b5")


class Registered(Gateway):
    """A gateway whose client registers at servers that agree to everything."""

    def __init__(self, settings: ReportSettings, **more: object) -> None:
        self.client = RecordingRequester(_agree)
        super().__init__(Server(), settings, **more)  # type: ignore[arg-type]

    def prepare(self) -> None:
        self.service.client = self.client

    @property
    def said(self) -> list[str]:
        """What the client has sent."""
        return [f"{outgoing.method.value} {outgoing.uri.partition('?')[0]}" for outgoing in self.client.sent]


class ReportingTests(SynchronousTestCase):
    def test_where_it_registers(self) -> None:
        """At the service that devices are told: what the uplink learns, with its certificate; it moves with that."""
        gateway = Registered(ReportSettings())
        gateway.run(60)
        self.assertEqual(gateway.said, [])
        gateway.commit(learned("coaps://[fd00::b5]", b"der"))
        gateway.run(2)
        self.assertEqual(gateway.said, ["POST coaps://[fd00::b5]/rd"])
        self.assertEqual(gateway.client.sent[0].certificate, b"der")
        gateway.commit(learned("coaps://[fd00::b5]", b"der"))
        gateway.run(2)
        self.assertEqual(len(gateway.said), 1)
        gateway.commit(learned("coap://[fd00::b6]"))
        gateway.run(2)
        self.assertEqual(gateway.said[1:], ["DELETE coaps://[fd00::b5]/rd/1", "POST coap://[fd00::b6]/rd"])
        self.successResultOf(gateway.service.stopService())
        self.assertEqual((gateway.said[-1], gateway.clock.getDelayedCalls()), ("DELETE coap://[fd00::b6]/rd/1", []))

    def test_what_the_file_says(self) -> None:
        """The server of the settings comes before that of the downlink, and that before what was learned; each has its own certificate."""
        cases: list[tuple[ReportSettings, dict[str, object], tuple[str, bytes | None]]] = [
            (ReportSettings(), {"bootstrap_uri": "coaps://a", "certificate": b"file"}, ("coaps://a/rd", b"file")),
            (ReportSettings(), {"bootstrap_uri": "coaps://a"}, ("coaps://a/rd", None)),
            (ReportSettings(), {"bootstrap_uri": "coaps://b"}, ("coaps://b/rd", b"der")),
            (ReportSettings(server="coaps://c/"), {"bootstrap_uri": "coaps://a", "certificate": b"file"}, ("coaps://c/rd", None)),
            (ReportSettings(server="coaps://b/"), {}, ("coaps://b/rd", b"der")),
        ]
        for settings, told, (uri, certificate) in cases:
            with self.subTest(uri):
                gateway = Registered(settings, **told)
                gateway.commit(learned("coaps://b", b"der"))
                gateway.run(2)
                sent = gateway.client.sent[-1]
                self.assertEqual((sent.uri.partition("?")[0], sent.certificate), (uri, certificate))

    def test_none_to_register_at(self) -> None:
        """A service that is no CoAP server, or no URI, is not registered at; nothing raises."""
        gateway = Registered(ReportSettings())
        for uri in ("http://[fd00::b5]", "nonsense", "", None):
            gateway.commit(learned(uri))
            gateway.run(2)
        self.assertEqual(gateway.said, [])

    def test_rights(self) -> None:
        """Only the address of the server, once it is known, has any right at the client's endpoint; by coaps only its session."""
        gateway = Registered(ReportSettings(server="coap://bs.example.org/"))
        self.assertEqual(gateway.service.principal("fd00::b5", False), NOBODY)
        gateway.run(2)
        self.assertNotEqual(gateway.service.principal("fd00::b5", False), NOBODY)
        self.assertEqual([gateway.service.principal(host, True) for host in ("fd00::b6", "", "fd00::b5:1")], [NOBODY] * 3)
        gateway = Registered(ReportSettings(server="coaps://bs.example.org/"))
        gateway.run(2)
        self.assertEqual(gateway.service.principal("fd00::b5", False), NOBODY)
        self.assertNotEqual(gateway.service.principal("fd00::b5", True), NOBODY)

    def test_update(self) -> None:
        """Devices that come and go are told by updates, those of a second by one."""
        gateway = Registered(ReportSettings(server="coap://[fd00::b5]/"))
        gateway.run(2)
        gateway.commit(lease(1), lease(2))
        gateway.run(3)
        self.assertEqual(gateway.client.sent[-1].payload, b"</1/0>,</3/0>,</33050/0>,</33050/1>")
        self.assertEqual(len(gateway.said), 2)
        gateway.commit(Remove(("leases", duid(1))))
        gateway.run(3)
        self.assertEqual(gateway.client.sent[-1].payload, b"</1/0>,</3/0>,</33050/1>")
        gateway.service.objects.handle(ask(Method.POST, "/1/0/8"))
        gateway.run(1)
        self.assertEqual((len(gateway.said), gateway.client.sent[-1].payload), (4, b""))

    def test_read_is_reported(self) -> None:
        """Where nothing is pushed, what the server has read is reported; what it has not read is not; what is gone is forgotten then."""
        gateway = Registered(ReportSettings(server="coap://[fd00::b5]/"))
        gateway.commit(lease(1), lease(2))
        gateway.run(2)
        gateway.service.objects.handle(ask(Method.GET, "/33050/0"))
        self.assertEqual([gateway.report(number)["reportedAt"] is None for number in (1, 2)], [False, True])
        gateway.built.committer.fault = StorageFull()
        gateway.service.objects.handle(ask(Method.GET, "/33050", accept=(TLV,)))
        gateway.built.committer.fault = None
        self.assertIsNone(gateway.report(2)["reportedAt"])
        gateway.commit(Remove(("leases", duid(1))))
        gateway.run(2)
        gateway.service.objects.handle(ask(Method.GET, "/33050", accept=(TLV,)))
        self.assertEqual((gateway.report(1), gateway.report(2)["queued"]), ({}, None))

    def test_page(self) -> None:
        """`/node/reports` can be read, and not written."""
        gateway = Gateway(Server())
        gateway.commit(lease(1))
        gateway.run(2)
        for path in ("/node/reports", f"/node/reports/{duid(1)}"):
            self.assertIn(b"report", gateway.service.handle(ask(Method.GET, path)).payload)  # type: ignore[union-attr]
        for method in (Method.PUT, Method.DELETE):
            request = ask(method, f"/node/reports/{duid(1)}", b"{}", "application/json")
            self.assertRaises(MethodNotAllowed, gateway.service.handle, request)
