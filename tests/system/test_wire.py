"""What a person sees who asks why a device is silent: `python -m m2mapp.coap` beside a gateway that talks with foreign programs."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.libcoap import coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import GROUP_SERVER, SMOKE, Device, Gateway, Site
from tests.system.programs import environment

_GATEWAY = "fd00:1::1"
_CLIENT = "fd00:1::c1"
_OFF = Device("off", "fd00:1::dead")
_FLOOD = 2_000 if SMOKE else 20_000


class Looking:
    """The command, running where the gateway runs."""

    def __init__(self, gateway: Gateway, folder: Path, *arguments: str) -> None:
        self._log = folder / "looking.log"
        self._log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "m2mapp.coap", "--config", str(gateway.config), *arguments]
        self.process = gateway.place.popen(command, env=environment(), cwd=folder, log=self._log)
        wait_until(lambda: self.lines, 20, "the first line")

    @property
    def lines(self) -> list[str]:
        """What it has printed."""
        return self._log.read_text().splitlines()

    def messages(self) -> list[str]:
        """The messages that it has printed, without their times."""
        return [line[13:] for line in self.lines if re.match(r"\d\d:\d\d:\d\d\.\d{3} ", line)]

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(20)


@contextlib.contextmanager
def _site() -> Iterator[tuple[Site, Gateway, Host]]:
    with Site() as site:
        gateway = site.gateway("gw", [f"{_GATEWAY}/64"], GROUP_SERVER)
        client = site.host("client", [f"{_CLIENT}/64"])
        site.ready()
        yield site, gateway, client


class CommandTests(SynchronousTestCase):
    skip = skip_reason("coap-client-notls", "curl")

    def test_what_libcoap_asks(self) -> None:
        """A request of libcoap's client and its answer stand there in words; after the messages that were asked for it ends."""
        with _site() as (site, gateway, client):
            gateway.put("/temperature", "21.5")
            looking = Looking(gateway, site.folder, "--peer", "fd00:1::/64", "--path", "/temperature", "--count", "2")
            coap_client(client, "get", f"coap://[{_GATEWAY}]/other")
            coap_client(client, "get", f"coap://[{_GATEWAY}]/temperature?unit=C", "-A", "0")
            self.assertEqual(looking.wait(), 0)
            asked, answered = looking.messages()
            self.assertRegex(
                asked,
                rf"^eth0 <- \[{_CLIENT}\]:\d+ to {_GATEWAY} CON GET mid=0x[0-9a-f]{{4}} token=[0-9a-f]+ /temperature\?unit=C "
                r"Accept:text/plain;charset=utf-8$",
            )
            self.assertRegex(
                answered, rf'^- -> \[{_CLIENT}\]:\d+ from {_GATEWAY} ACK 2\.05 mid=0x[0-9a-f]{{4}} .*Content-Format:text/plain;.* "21\.5"$'
            )

    def test_a_silent_device(self) -> None:
        """A device that is off: the request, its repetitions, nothing back; curl shows the same without the command."""
        with _site() as (site, gateway, _client):
            gateway.put_document(f"/scls/{_OFF.name}", _OFF.registration)
            gateway.put_document("/groups/all", {"members": [_OFF.uri("/temperature")]})
            looking = Looking(gateway, site.folder, "--peer", _OFF.address, "--seconds", "30")
            curl = gateway.place.popen(
                [
                    "curl",
                    "-sN",
                    "-m",
                    "10",
                    "-H",
                    f"Authorization: Bearer {gateway.token}",
                    "http://127.0.0.1:8080/node/wire?path=/temperature",
                ],
                log=site.folder / "curl.log",
            )
            wait_until(lambda: (site.folder / "curl.log").read_text(), 20, "curl's first line")
            gateway.get("/groups/all/membersContent", M2M_Deadline="6")
            first, *others = [line for line in looking.messages() if "/temperature" in line]
            self.assertRegex(first, rf"^- -> \[{_OFF.address}\]:5683 CON GET mid=0x[0-9a-f]{{4}} token=[0-9a-f]+ /temperature .*$")
            self.assertIn(f"{first} (again)", others)
            self.assertEqual([line for line in looking.messages() if " <- " in line], [])
            self.assertIn(first, (site.folder / "curl.log").read_text())
            curl.kill()
            looking.process.send_signal(signal.SIGINT)
            self.assertEqual(looking.wait(), 0)
            wait_until(lambda: gateway.metric("m2mapp_http_streams") == 0, 10, "the end of the streams")

    def test_a_group(self) -> None:
        """One datagram to the group, and the answers of its members beside it."""
        with _site() as (site, gateway, _client):
            devices = site.devices("devices", range(1, 4))
            devices.ready()
            for device in devices.devices:
                gateway.put_document(f"/scls/{device.name}", device.registration)
                coap_client(site.lab_host("gw"), "put", f"coap://[{device.address}]/temperature", "-t", "0", payload=device.name)
            gateway.put_document("/groups/all", {"members": [device.uri("/temperature") for device in devices.devices]})
            wait_until(lambda: gateway.get("/groups/all").json()["state"] == "ready", 60, "the joins")
            sets = gateway.get("/groups/all").json()["fanoutSets"]
            group = str(sets[0]["fanoutAddress"])  # type: ignore[index]
            looking = Looking(gateway, site.folder, "--group", group, "--count", "4")
            gateway.get("/groups/all/membersContent")
            self.assertEqual(looking.wait(), 0)
            request, *answers = looking.messages()
            self.assertTrue(request.startswith(f"eth0 -> group [{group}]:5683 NON GET "), request)
            for device in devices.devices:
                (line,) = [line for line in answers if device.address in line]
                self.assertTrue(line.startswith(f"eth0 <- [{device.address}]:5683 to {_GATEWAY} NON 2.05 "), line)
                self.assertTrue(line.endswith(f'"{device.name}" (asked through group {group})'), line)

    def test_what_keeps_it_from_looking(self) -> None:
        """A wrong filter, a gateway that is not there and a token that cannot be read are told in one line each."""
        with _site() as (site, gateway, _client):
            environ = ["env", f"PYTHONPATH={environment()['PYTHONPATH']}"]
            command = [*environ, sys.executable, "-m", "m2mapp.coap", "--config", str(gateway.config)]
            refused = gateway.place.run([*command, "--peer", "d1"])
            self.assertEqual((refused.returncode, refused.stdout), (1, ""))
            self.assertIn("peer", refused.stderr)
            self.assertIn("fd00::/64", refused.stderr)
            gateway.stop()
            gone = gateway.place.run(command)
            self.assertEqual(gone.returncode, 1)
            self.assertEqual(
                gone.stderr, "m2mapp.coap: no gateway answers at 127.0.0.1 port 8080: is it running, with this configuration?\n"
            )
            (gateway.state_dir / "admin.token").unlink()
            nothing = gateway.place.run(command)
            self.assertEqual(nothing.returncode, 1)
            self.assertIn("admin.token", nothing.stderr)
            site.folder.joinpath("bad.toml").write_text("[coap]\nlisten = 5\n")
            bad = gateway.place.run([*environ, sys.executable, "-m", "m2mapp.coap", "--config", str(site.folder / "bad.toml")])
            self.assertEqual(bad.returncode, 78)


class NeverReadsTests(SynchronousTestCase):
    skip = skip_reason("coap-client-notls")

    def test_the_gateway_goes_on(self) -> None:
        """Somebody looks and never reads, while datagrams pour in: the gateway answers, and forgets the viewer when it goes."""
        with _site() as (_, gateway, client):
            gateway.put("/temperature", "21.5")
            with gateway.place.entered():
                viewer = socket.socket()
                viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                viewer.connect(("127.0.0.1", gateway.port))
            with viewer:
                viewer.sendall(f"GET /node/wire HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {gateway.token}\r\n\r\n".encode())
                wait_until(lambda: gateway.metric("m2mapp_http_streams") == 1, 10, "the stream")
                with client.entered():
                    flood = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                with flood:
                    for number in range(_FLOOD):
                        flood.sendto(b"\x40\x01" + number.to_bytes(2, "big") + b"\xb6number\xff" + b"x" * 200, (_GATEWAY, 5683))
                answer = coap_client(client, "get", f"coap://[{_GATEWAY}]/temperature", "-B", "30")
                self.assertEqual(answer.text, "21.5")
                self.assertEqual(gateway.metric("m2mapp_http_streams"), 1)
            wait_until(lambda: gateway.metric("m2mapp_http_streams") == 0, 20, "the end of the stream")
