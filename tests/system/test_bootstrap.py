"""The bootstrap server with clients by others: npm coap-node over IPv6, a client made with aiocoap, libcoap's client over coaps."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import issue
from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.bootstrap_client import Client, bootstrap
from tests.system.libcoap import CoapReply, coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.node_modules import SCRIPTS, node_environment, skip_reason_of_npm
from tests.system.nodes import Gateway, Site

_SERVER, _CLIENT = "fd00:1::1", "fd00:1::c1"
_PLAN = {"servers": [{"shortId": 1, "uri": "coap://[::1]:5783", "lifetime": 300}]}
_SECURITY = b"\xc8\x00\x11coap://[::1]:5783\xc1\x01\x00\xc1\x0a\x01\xc1\x02\x03"
_SERVER_OBJECT = b"\xc1\x00\x01\xc2\x01\x01\x2c\xc1\x06\x00\xc1\x07U"


@dataclass(frozen=True)
class _Ground:
    """A bootstrap server, and a host on its link. The server has one plan in a file, for endpoints `dev-*`."""

    site: Site
    server: Gateway
    host: Host

    def device(self, endpoint: str) -> _Shown:
        """What the server shows of a device, once its session is over."""
        wait_until(lambda: self.server.metric("m2mapp_bootstrap_sessions") == 0, 30, "the end of the session")
        wait_until(lambda: self._shown(endpoint).state != "bootstrapping", 10, "the record")
        return self._shown(endpoint)

    def _shown(self, endpoint: str) -> _Shown:
        shown = self.server.get(f"/devices/{endpoint}").json()
        steps = shown["steps"]
        assert isinstance(steps, list)
        return _Shown(str(shown["state"]), [step["step"] for step in steps], str(shown.get("why", "")))


@dataclass(frozen=True)
class _Shown:
    state: str
    steps: list[str] = field(default_factory=list)
    why: str = ""


@contextlib.contextmanager
def _ground(coaps: bool = False) -> Iterator[_Ground]:
    with Site() as site:
        folder = site.folder
        (folder / "plans").mkdir()
        server = '[[servers]]\nshortId = 1\nuri = "coap://[::1]:5783"\nlifetime = 300\n'
        (folder / "plans" / "fleet.toml").write_text(f'pattern = "dev-*"\npack = true\n{server}')
        tables: dict[str, Mapping[str, object]] = {
            "coap": {"listen": [f"[{_SERVER}]:5683"], "interfaces": ["eth0"]},
            "bootstrap": {"plans": str(folder / "plans")},
        }
        if coaps:
            tables |= _secured(site)
        gateway = site.gateway("bs", [f"{_SERVER}/64"], tables)
        host = site.host("client", [f"{_CLIENT}/64"])
        site.ready()
        yield _Ground(site, gateway, host)


def _secured(site: Site) -> dict[str, dict[str, object]]:
    """Certificates as files, coaps with them, and a plan for endpoints that show theirs."""
    folder = site.folder
    authority = issue(authority=True)
    authority.write(folder, "ca")
    for name, names in (("bs", (_SERVER,)), ("one", ("safe-one",)), ("two", ("safe-two",))):
        issue(*names, by=authority).write(folder, name)
    (folder / "plans" / "safe.toml").write_text(
        'pattern = "safe-*"\nidentity = "certificate"\n'
        '[[servers]]\nshortId = 7\nuri = "coaps://m2m.example.org"\nsecurity = "certificate"\ncredentials = "fleet"\n'
    )
    files = {"certificate": "bs.pem", "key": "bs.key", "client_ca": "ca.pem", "server_ca": "ca.pem"}
    fleet = {"certificate": "one.pem", "key": "one.key", "server": "bs.pem"}
    return {
        "coap.coaps": {"listen": [f"[{_SERVER}]:5684"], **{key: str(folder / file) for key, file in files.items()}},
        "bootstrap.credentials.fleet": {key: str(folder / file) for key, file in fleet.items()},
    }


class CoapNodeTests(SynchronousTestCase):
    skip = skip_reason("node", "npm") or skip_reason_of_npm()

    def test_coap_node(self) -> None:
        """The npm package coap-node 0.2.5 bootstraps over IPv6 in TLV: it holds the account of the plan, and the server has each step."""
        with _ground() as ground:
            log = ground.site.folder / "coap-node.log"
            command = ["node", str(SCRIPTS / "bootstrap.js"), _SERVER, "5683", "dev-npm"]
            process = ground.host.popen(command, env=node_environment(), log=log)
            self.assertEqual(process.wait(90), 0, log.read_text())
            status, objects = map(json.loads, log.read_text().splitlines())
            self.assertEqual(status, {"status": "2.04"})
            security, server = objects["security"]["1"], objects["server"]["1"]
            self.assertEqual((security["lwm2mServerURI"], security["securityMode"], security["shortServerId"]), ("coap://[::1]:5783", 3, 1))
            self.assertEqual((server["shortServerId"], server["lifetime"], server["binding"]), (1, 300, "U"))
            steps = ["bootstrap requested", "DELETE /", "PUT /0/1", "PUT /1/1", "POST /bs", "bootstrapped"]
            self.assertEqual(ground.device("dev-npm"), _Shown("bootstrapped", steps))


class AiocoapTests(SynchronousTestCase):
    skip = skip_reason()

    def test_formats(self) -> None:
        """A client made with aiocoap is written to in what it prefers; in the next where it refuses that; nothing before is repeated."""
        json_pack = b'[{"bn":"/0/1/","n":"0","vs":"coap://[::1]:5783"},{"n":"1","vb":false},{"n":"10","v":1},{"n":"2","v":3}]'
        cbor_pack = b"\x84\xa3!e/0/1/\x00a0\x03qcoap://[::1]:5783\xa2\x00a1\x04\xf4\xa2\x00b10\x02\x01\xa2\x00a2\x02\x03"
        cases = (
            ("ep=dev-1", (11542, 110, 112), [(11542, _SECURITY), (11542, _SERVER_OBJECT)]),
            ("ep=dev-2&pct=110", (110,), [(110, json_pack)]),
            ("ep=dev-3&pct=112", (112,), [(112, cbor_pack)]),
            ("ep=dev-4&pct=60", (110,), [(11542, _SECURITY), (110, json_pack)]),
        )
        with _ground() as ground:
            for query, formats, writes in cases:
                with self.subTest(query):
                    code, asked = bootstrap(ground.host, Client(_CLIENT, _SERVER, query, formats))
                    self.assertEqual((code, asked[0].request, asked[-1].request), ("2.04", "DELETE /", "POST /bs"))
                    written = [(each.content_format, bytes.fromhex(each.payload)) for each in asked if each.request.startswith("PUT")]
                    self.assertEqual(written[: len(writes)], writes)
                    self.assertEqual(ground.device(query[3:8]).state, "bootstrapped")

    def test_refusals(self) -> None:
        """Endpoints without a plan, and clients that refuse: 4.00; DELETE by object; a write refused ends it, and is recorded."""
        with _ground() as ground:
            self.assertEqual(bootstrap(ground.host, Client(_CLIENT, _SERVER, "ep=stranger")), ("4.00", []))
            self.assertEqual(bootstrap(ground.host, Client(_CLIENT, _SERVER, "pct=110")), ("4.00", []))
            _, asked = bootstrap(ground.host, Client(_CLIENT, _SERVER, "ep=dev-1", refuses=("DELETE /", "POST /bs")))
            self.assertEqual([each.request for each in asked[:4]], ["DELETE /", "DELETE /0", "DELETE /1", "PUT /0/1"])
            shown = ground.device("dev-1")
            self.assertEqual((shown.state, shown.why), ("failed", "POST /bs was answered with 4.05"))
            self.assertEqual(ground.server.get("/devices/stranger").status, 404)

    def test_discover(self) -> None:
        """A plan written as a resource, with Discover: the number of the bootstrap server's own account is left alone."""
        with _ground() as ground:
            ground.server.put_document("/bs/one", {"endpoint": "one", "discover": True, **_PLAN})
            _, asked = bootstrap(ground.host, Client(_CLIENT, _SERVER, "ep=one"))
            self.assertEqual([each.request for each in asked], ["DELETE /", "GET /", "PUT /0/2", "PUT /1/1", "POST /bs"])

    def test_pack(self) -> None:
        """A Bootstrap-Pack in SenML CBOR where the plan has one; 4.04 where it has not, after which clients send `POST /bs`."""
        with _ground() as ground:
            ground.server.put_document("/bs/one", {"endpoint": "one", **_PLAN})
            calls = [Call("GET", f"coap://[{_SERVER}]/bspack?ep={endpoint}", accept=112) for endpoint in ("dev-1", "one", "stranger")]
            given, none, refused = call_aiocoap(ground.host, *calls)
            self.assertEqual((given.code, given.content_format, none.code, refused.code), ("2.05", 112, "4.04", "4.00"))
            self.assertIn(b"/0/1/0", given.payload)


class CoapsTests(SynchronousTestCase):
    skip = skip_reason("coap-client-openssl")

    def test_certificates(self) -> None:
        """Over coaps by libcoap: who shows the certificate of its name is bootstrapped by that session; others are refused."""
        with _ground(coaps=True) as ground:
            folder = ground.site.folder

            def ask(endpoint: str, shows: str = "") -> CoapReply:
                shown = ["-c", str(folder / f"{shows}.pem"), "-j", str(folder / f"{shows}.key")] if shows else []
                uri = f"coaps://[{_SERVER}]/bs?ep={endpoint}"
                return coap_client(ground.host, "post", uri, "-C", str(folder / "ca.pem"), *shown, program="coap-client-openssl")

            self.assertEqual(ask("safe-one").code, "4.03")
            self.assertEqual(ask("safe-one", "two").code, "4.00")
            plain = coap_client(ground.host, "post", f"coap://[{_SERVER}]/bs?ep=safe-one")
            self.assertEqual(plain.code, "4.03")
            self.assertEqual(ask("safe-one", "one").code, "2.04")
            shown = ground.device("safe-one")  # libcoap's client is no LwM2M client: it resets what it is asked, or is gone
            self.assertEqual((shown.state, shown.steps), ("failed", ["bootstrap requested", "DELETE /"]))
            self.assertIn("DELETE /", shown.why)
