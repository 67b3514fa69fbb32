"""coaps with programs by others: clients of libcoap (OpenSSL, GnuTLS) and `openssl s_client` at a gateway; our client at libcoap's server.

aiocoap has no certificates over DTLS (its `tinydtls` transport has pre-shared keys only), so it is not among them.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Issued, issue
from tests.system.libcoap import CoapReply, NoAnswerError, coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import Gateway, Site
from tests.system.programs import ROOT, Tables

_GATEWAY, _SERVER = "fd00:1::1", "fd00:1::5"
_AT = f"coaps://[{_GATEWAY}]"
_PROGRAMS = ("coap-client-openssl", "coap-client-gnutls")
_LARGE = bytes(range(256)) * 40
_CLIENT_HELLOS = 30


@dataclass(frozen=True)
class _Ground:
    """A gateway that serves coaps, a host on its link, and certificates."""

    site: Site
    gateway: Gateway
    host: Host
    folder: Path

    def ask(self, program: str, method: str, path: str, *arguments: str, payload: bytes = b"", shows: str = "") -> CoapReply:
        """One request by libcoap's client, which knows the authority, and shows a certificate if that is said."""
        shown = ["-c", str(self.folder / f"{shows}.pem"), "-j", str(self.folder / f"{shows}.key")] if shows else []
        trusts = ["-C", str(self.folder / "ca.pem")]
        return coap_client(self.host, method, _AT + path, *trusts, *shown, *arguments, payload=payload, program=program)


def _certificates(folder: Path) -> Issued:
    """An authority, the gateway's certificate, a device's, a server's; as files. The authority."""
    authority = issue(authority=True)
    authority.write(folder, "ca")
    issue("gw.example.org", _GATEWAY, by=authority).write(folder, "gw")
    issue("dev-one", by=authority).write(folder, "dev")
    issue(_SERVER, by=authority).write(folder, "server")
    issue("other.example.org", by=authority).write(folder, "other")
    return authority


@contextlib.contextmanager
def _ground() -> Iterator[_Ground]:
    with Site() as site:
        folder = site.folder
        _certificates(folder)
        files = {"certificate": "gw.pem", "key": "gw.key", "client_ca": "ca.pem", "server_ca": "ca.pem"}
        coaps = {"listen": [f"[{_GATEWAY}]:5684"], **{key: str(folder / file) for key, file in files.items()}}
        tables: Tables = {
            "coap": {"listen": ["[::]:5683"], "interfaces": ["eth0"]},
            "coap.coaps": coaps,
            "coap.access": {"write": ["cert:dev-one"]},
        }
        gateway = site.gateway("gw", [f"{_GATEWAY}/64"], tables)
        host = site.host("clients", ["fd00:1::c1/64"])
        site.ready()
        gateway.put("/temperature", "20.0")
        yield _Ground(site, gateway, host, folder)


class ServedTests(SynchronousTestCase):
    skip = skip_reason(*_PROGRAMS, "openssl")

    def test_libcoap(self) -> None:
        """Clients of libcoap read, write by the right of their certificate, in blocks, and discover; one that shows none may not write."""
        with _ground() as ground:
            for program in _PROGRAMS:
                with self.subTest(program):
                    self.assertEqual(ground.ask(program, "get", "/temperature").text, "20.0")
                    self.assertEqual(ground.ask(program, "put", "/large", payload=_LARGE).code, "4.03")
                    written = ground.ask(program, "put", "/large", "-b", "1024", payload=_LARGE, shows="dev")
                    self.assertIn(written.code, {"2.01", "2.04"})
                    self.assertEqual(ground.ask(program, "get", "/large").payload, _LARGE)
                    self.assertIn("</temperature>", ground.ask(program, "get", "/.well-known/core").text)
            wait_until(lambda: ground.gateway.metric("m2mapp_coap_dtls_sessions") == 0, 10, "the end of all sessions")
            shown = json.loads(ground.gateway.get("/node").body)["coaps"]
            self.assertEqual((shown["uri"], shown["certificate"]["names"]), ("coaps://gw.example.org", ["gw.example.org"]))

    def test_observe(self) -> None:
        """A client of libcoap observes by a session and is told of a change; its session's end ends the observation."""
        with _ground() as ground:
            log = ground.folder / "observer.log"
            command = ["coap-client-openssl", "-v", "6", "-B", "30", "-s", "25", "-C", str(ground.folder / "ca.pem")]
            observer = ground.host.popen([*command, "-m", "get", _AT + "/temperature"], log=log)
            wait_until(lambda: "20.0" in log.read_text(errors="replace"), 20, "the first state")
            ground.gateway.put("/temperature", "30.5")
            wait_until(lambda: "30.5" in log.read_text(errors="replace"), 20, "the second state")
            self.assertEqual(ground.gateway.metric("m2mapp_coap_observers"), 1)
            observer.terminate()
            wait_until(lambda: ground.gateway.metric("m2mapp_coap_observers") == 0, 20, "the end of the observation")

    def test_s_client(self) -> None:
        """`openssl s_client` verifies chain and name, with the cipher that RFC 7252 makes mandatory too, and gets an answer."""
        get = "\\120\\001\\000\\007\\273temperature"
        for cipher in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"):
            with self.subTest(cipher), _ground() as ground:
                checks = f"-CAfile {ground.folder}/ca.pem -verify_return_error -verify_hostname gw.example.org -cipher '{cipher}'"
                command = f"(printf '{get}'; sleep 2) | openssl s_client -dtls1_2 -connect '[{_GATEWAY}]:5684' {checks}"
                done = ground.host.run(["sh", "-c", f"{command} | cat -v"])
                self.assertIn("Verify return code: 0 (ok)", done.stdout, done.stderr)
                self.assertIn(f"Cipher is {cipher.partition(':')[0]}", done.stdout)
                self.assertIn("20.0", done.stdout)

    def test_loss(self) -> None:
        """With one datagram in five lost, each way, flights are repeated and clients have their answers.

        libcoap's client gives a handshake up after five repeats at most, at this loss one time in fifteen: it is started again then.
        """
        with _ground() as ground:
            ground.site.lab_host("gw").lose(0.2, "eth0")
            ground.host.lose(0.2)
            answered = gave_up = 0
            while not (answered > 1 and ground.gateway.metric("m2mapp_coap_dtls_flights_repeated_total")):
                self.assertLess(answered, _CLIENT_HELLOS, "no flight was repeated")
                self.assertLess(gave_up, 5 + answered, "hardly any client had its answer")
                try:
                    self.assertEqual(ground.ask("coap-client-openssl", "get", "/temperature").text, "20.0")
                    answered += 1
                except NoAnswerError:
                    gave_up += 1


class AskingTests(SynchronousTestCase):
    skip = skip_reason("coap-server-openssl")

    def test_libcoap_server(self) -> None:
        """Our client reads, writes and observes at libcoap's server, whose certificate has to be right, by name or byte for byte."""
        with Site() as site:
            folder = site.folder
            _certificates(folder)
            servers, host = site.host("servers", [f"{_SERVER}/64"]), site.host("clients", ["fd00:1::c1/64"])
            files = ["-c", str(folder / "server.pem"), "-j", str(folder / "server.key"), "-C", str(folder / "ca.pem")]
            server = servers.popen(["coap-server-openssl", "-A", _SERVER, "-d", "10", *files], log=folder / "server.log")

            def ask(*calls: list[str], **how: object) -> list[dict[str, str]]:
                wanted = json.dumps({"shows": [str(folder / "dev.pem"), str(folder / "dev.key")], "calls": calls, **how})
                done = host.run(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.system.coaps_child", wanted], timeout_s=120)
                self.assertEqual(done.stderr, "")
                return [json.loads(line) for line in done.stdout.splitlines()]

            at, ca = f"coaps://[{_SERVER}]", str(folder / "ca.pem")
            text = "x" * 3000
            got = ask(["GET", at + "/", ""], ["PUT", at + "/mine", text], ["GET", at + "/mine", ""], ca=ca)
            self.assertEqual([answer.get("code") for answer in got], ["2.05", "2.01", "2.05"], got)
            self.assertIn("libcoap", got[0]["payload"])
            self.assertEqual(got[2]["payload"], text)
            observed = ask(["GET", at + "/time", ""], ca=ca, observe_s=4)
            self.assertGreaterEqual(len(observed), 3)
            self.assertTrue(all(re.search(r":\d\d$", state["payload"]) for state in observed), observed)
            right, wrong = str(folder / "server.pem"), str(folder / "other.pem")
            self.assertEqual(ask(["GET", at + "/", ""], pin=right)[0]["code"], "2.05")
            self.assertIn("it shows another certificate than the one that was given", ask(["GET", at + "/", ""], pin=wrong)[0]["fault"])
            self.assertIn("not among those that are trusted", ask(["GET", at + "/", ""], ca=wrong)[0]["fault"])
            self.assertIsNone(server.poll())

    def test_wrong_name(self) -> None:
        """A server whose certificate is trusted but names another host is not talked to."""
        with Site() as site:
            folder = site.folder
            _certificates(folder)
            servers, host = site.host("servers", [f"{_SERVER}/64"]), site.host("clients", ["fd00:1::c1/64"])
            files = ["-n", "-c", str(folder / "other.pem"), "-j", str(folder / "other.key")]
            servers.popen(["coap-server-openssl", "-A", _SERVER, *files], log=folder / "server.log")
            wanted = json.dumps({"ca": str(folder / "ca.pem"), "calls": [["GET", f"coaps://[{_SERVER}]/", ""]]})
            done = host.run(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.system.coaps_child", wanted])
            self.assertIn(f"its certificate is not for {_SERVER} but for other.example.org", done.stdout, done.stderr)
