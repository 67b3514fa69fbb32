"""`lwm2m.bootstrap`, `accounts` and `objects`: what a client is asked, in which order and format, and what its answers come to."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats import senml
from m2mapp.formats.documents import SENML_CBOR, SENML_JSON
from m2mapp.lwm2m.accounts import Credentials, instances, security_numbers
from m2mapp.lwm2m.bootstrap import EXCHANGE, Exchange, Outcome, Phase, advance, begin
from m2mapp.lwm2m.objects import TLV, Instance, formats, pack, payload
from m2mapp.lwm2m.plans import Account, Plan, Security
from m2mapp.lwm2m.tlv import parse
from m2mapp.model.errors import Malformed
from tests.unit.lwm2m.parts import plan

ALL = formats(None)
FLEET = {"fleet": Credentials(b"certificate", b"key", b"server")}
_SECOND = Account(7, "coaps://m2m.example.org", Security.CERTIFICATE, "fleet", 60, "UQ", storing=True)


def _two() -> Plan:
    """A plan with two servers, the second with certificates."""
    return replace(plan(), accounts=(*plan().accounts, _SECOND))


def _asked(exchange: Exchange, *codes: str) -> list[str]:
    """What is asked, when the answers are these, up to the end."""
    asked = []
    for code in codes:
        ask = exchange.ask()
        asked.append(ask.name if ask is not None else "nothing")
        if ask is not None:
            exchange = advance(exchange, code)
    return [*asked, exchange.phase.value]


class ExchangeTests(SynchronousTestCase):
    def test_usual(self) -> None:
        """Delete, the Security and the Server instance, Finish, each when the one before is answered; then nothing."""
        asked = _asked(begin(plan(), {}, ALL), "2.02", "2.04", "2.04", "2.04", "2.04")
        self.assertEqual(asked, ["DELETE /", "PUT /0/1", "PUT /1/1", "POST /bs", "nothing", "done"])

    def test_several_servers(self) -> None:
        """With several servers all Security instances are written before the Server instances."""
        asked = _asked(begin(_two(), FLEET, ALL), "2.02", "2.04", "2.04", "2.04", "2.04", "2.04")
        self.assertEqual(asked, ["DELETE /", "PUT /0/1", "PUT /0/2", "PUT /1/1", "PUT /1/2", "POST /bs", "done"])

    def test_delete_by_object(self) -> None:
        """A client that lets nothing go at once, and a plan that says so, delete by object; nothing there is as good."""
        self.assertEqual(
            _asked(begin(plan(), {}, ALL), "4.05", "4.04", "2.02", "2.04"), ["DELETE /", "DELETE /0", "DELETE /1", "PUT /0/1", "write"]
        )
        self.assertEqual(_asked(begin(plan(delete="accounts"), {}, ALL), "2.02", "4.05"), ["DELETE /0", "DELETE /1", "failed"])

    def test_discover(self) -> None:
        """After Discover the number of the bootstrap server's own account is left alone; without an answer to it all is as usual."""
        exchange = advance(begin(plan(discover=True), {}, ALL), "2.02")
        ask = exchange.ask()
        assert ask is not None
        self.assertEqual((ask.name, ask.accept), ("GET /", "application/link-format"))
        self.assertEqual(_asked(advance(exchange, "2.05", b"</>;lwm2m=1.1,</0/1>,</3/0>"), "2.04"), ["PUT /0/2", "write"])
        self.assertEqual(_asked(advance(exchange, "4.00"), "2.04"), ["PUT /0/1", "write"])

    def test_other_format(self) -> None:
        """A write that is refused for its format is tried in the next, and so are those after it; with none left it fails."""
        exchange = advance(advance(begin(plan(), {}, ALL), "2.02"), "4.15")
        self.assertEqual([each and each.content_type for each in (exchange.ask(), advance(exchange, "2.04").ask())], [SENML_JSON] * 2)
        self.assertEqual(_asked(exchange, "4.15", "4.15"), ["PUT /0/1", "PUT /0/1", "failed"])

    def test_refused(self) -> None:
        """Whatever else is refused ends the exchange."""
        self.assertEqual(_asked(begin(plan(), {}, ALL), "2.02", "4.00"), ["DELETE /", "PUT /0/1", "failed"])
        self.assertEqual(_asked(begin(plan(), {}, ALL), "2.02", "2.04", "2.04", "4.06")[-2:], ["POST /bs", "failed"])

    @given(st.lists(st.sampled_from(["2.02", "2.04", "2.05", "4.00", "4.04", "4.05", "4.15", "5.00"]), max_size=14), st.booleans())
    def test_ends(self, codes: list[str], discover: bool) -> None:
        """Whatever a client answers, the exchange is over in the end, and it is done only by Finish."""
        exchange = begin(plan(discover=discover), {}, ALL)
        last = ""
        for code in (*codes, *["4.00"] * 4):
            ask = exchange.ask()
            if ask is None:
                break
            last, exchange = ask.name, advance(exchange, code, b"\xff")
        self.assertIsNone(exchange.ask())
        self.assertEqual(exchange.phase is Phase.DONE, last == "POST /bs" and exchange.phase is not Phase.FAILED)

    def test_nothing_was_asked(self) -> None:
        """An answer when all is over is no step: the table has none."""
        with self.assertRaises(KeyError):
            advance(replace(begin(plan(), {}, ALL), phase=Phase.DONE), "2.04")
        self.assertEqual({phase for phase, _ in EXCHANGE} | {Phase.DONE, Phase.FAILED}, set(Phase))
        self.assertTrue(all(outcome in Outcome for _, outcome in EXCHANGE))


class AccountTests(SynchronousTestCase):
    def test_instances(self) -> None:
        """A server with certificates is written with the device's own, its key, and the server's; the numbers of others are left out."""
        security = instances(_two(), FLEET, taken=(1, 3))[:2]
        self.assertEqual([each.path for each in security], ["/0/2", "/0/4"])
        resources = {0: "coaps://m2m.example.org", 1: False, 10: 7, 2: 2, 3: b"certificate", 4: b"server", 5: b"key"}
        self.assertEqual(dict(security[1].resources), resources)
        self.assertEqual(dict(instances(_two(), FLEET)[3].resources), {0: 7, 1: 60, 6: True, 7: "UQ"})

    def test_nothing_secret(self) -> None:
        """Credentials do not show the key where they are printed."""
        self.assertNotIn("key", repr(FLEET["fleet"]))

    def test_discovered(self) -> None:
        """The Security instances in what Discover gives; what is no list of links gives none."""
        cases = {
            b"</>;lwm2m=1.1,</0/0>,</0/12>;ssid=101,</1/3>,</0>,</0/x>": {0, 12},
            b'lwm2m="1.0",</0/0>': {0},
            b"": set(),
            b"\xff": set(),
            b"nonsense": set(),
            b"</0/" + b"9" * 80 + b">": set(),
        }
        for text, numbers in cases.items():
            self.assertEqual(security_numbers(text), numbers, text)


class FormatTests(SynchronousTestCase):
    def test_preferred(self) -> None:
        """What the client prefers is tried first; without it, or with one that nobody knows, TLV; what is no number is refused."""
        self.assertEqual(formats("112"), (SENML_CBOR, TLV, SENML_JSON))
        self.assertEqual((formats(None), formats("60")), ((TLV, SENML_JSON, SENML_CBOR),) * 2)
        for text in ("", "x", "-1", "65536", "\u0663", "9" * 5000):
            with self.assertRaises(Malformed):
                formats(text)

    def test_same_in_all(self) -> None:
        """The three formats say the same."""
        instance = Instance(0, 3, {0: "coap://[::1]", 1: True, 2: 3, 5: b"\x00\xff"})
        told = {record.name: record.value for record in senml.parse(payload(instance, SENML_JSON), SENML_JSON)}
        self.assertEqual(told, {f"/0/3/{number}": value for number, value in instance.resources.items()})
        self.assertEqual(senml.parse(payload(instance, SENML_CBOR), SENML_CBOR), senml.parse(payload(instance, SENML_JSON), SENML_JSON))
        self.assertEqual([entry.identifier for entry in parse(payload(instance, TLV))], [0, 1, 2, 5])

    def test_pack(self) -> None:
        """A pack has the resources of all instances."""
        names = [record.name for record in senml.parse(pack(instances(plan(), {}), SENML_CBOR), SENML_CBOR)]
        self.assertEqual(names, ["/0/1/0", "/0/1/1", "/0/1/10", "/0/1/2", "/1/1/0", "/1/1/1", "/1/1/6", "/1/1/7"])
