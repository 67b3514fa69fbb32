"""Observe (RFC 7641) with programs by others: their clients observe a gateway, and this program's client observes their servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import GROUP_SERVER, SMOKE, Gateway, Site
from tests.system.programs import ROOT, Tables

_GATEWAY, _CLIENT = "fd00:1::1", "fd00:1::c1"
_AT = f"coap://[{_GATEWAY}]"
_LONG_S = 30.0
_WRITABLE: Tables = {**GROUP_SERVER, "coap.access": {"write": ["link"]}}


class Watcher:
    """A program that observes: `log` is what it has printed, `lines` the JSON lines of it."""

    def __init__(self, host: Host, folder: Path, command: list[str]) -> None:
        self._file = folder / f"watcher-{len(list(folder.glob('watcher-*')))}.log"
        self._fifo = self._file.with_suffix(".stdin")
        os.mkfifo(self._fifo)
        # The program's standard input is a pipe that the test may write a line to.
        whole = ["sh", "-c", 'exec "$@" <>"$0"', str(self._fifo), "env", f"PYTHONPATH={ROOT}", *command]
        self.process: subprocess.Popen[str] = host.popen(whole, log=self._file)

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._file.read_text(errors="replace") if self._file.exists() else ""

    @property
    def lines(self) -> list[dict[str, object]]:
        """What it has said so far."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{") and line.endswith("}")]

    @property
    def payloads(self) -> list[str]:
        """The states that it was told, without the dots that make some of them large."""
        return [str(line["payload"]).rstrip(".") for line in self.lines if "payload" in line]

    def wait_for(self, text: str, timeout_s: float = _LONG_S) -> None:
        """Wait until that is in its log."""
        wait_until(lambda: text in self.log, timeout_s, f"{text!r} in the log of a watcher, which is:\n{self.log[-3000:]}")

    def wait_told(self, payload: str, timeout_s: float = _LONG_S) -> None:
        """Wait until it is told that state."""
        wait_until(lambda: payload in self.payloads, timeout_s, f"the state {payload}")

    def say(self) -> None:
        """Write a line to its standard input."""
        line: IO[str]
        with self._fifo.open("w") as line:
            line.write("\n")

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()


class _Ground:
    """A gateway, and a host on its link."""

    def __init__(self, site: Site, gateway: Gateway, host: Host) -> None:
        self.site, self.gateway, self.host = site, gateway, host

    def libcoap(self, path: str, seconds: int, *arguments: str) -> Watcher:
        """The client of libcoap observes for so many seconds."""
        command = ["coap-client-notls", "-v", "7", "-B", str(seconds + 5), "-s", str(seconds), *arguments, "-m", "get", _AT + path]
        return Watcher(self.host, self.site.folder, command)

    def child(self, *arguments: str) -> Watcher:
        """A watcher of `observe_child`."""
        return Watcher(self.host, self.site.folder, [sys.executable, "-m", "tests.system.observe_child", *arguments])

    def observers(self) -> int:
        """How many observers the gateway counts."""
        return int(self.gateway.metric("m2mapp_coap_observers"))

    def wait_observers(self, count: int, timeout_s: float = _LONG_S) -> None:
        """Wait until there are so many."""
        wait_until(lambda: self.observers() == count, timeout_s, f"{count} observers")

    def ended(self, reason: str) -> int:
        """How many observations ended for that reason."""
        return int(self.gateway.metric(f'm2mapp_coap_observations_ended_total{{reason="{reason}"}}'))


@contextlib.contextmanager
def _ground() -> Iterator[_Ground]:
    with Site() as site:
        gateway = site.gateway("gw", [f"{_GATEWAY}/64"], _WRITABLE)
        host = site.host("clients", [f"{_CLIENT}/64"])
        site.ready()
        gateway.put("/temperature", "20.0")
        yield _Ground(site, gateway, host)


class ForeignClientTests(SynchronousTestCase):
    """Clients by others observe the gateway."""

    skip = skip_reason("coap-client-notls")

    def test_libcoap(self) -> None:
        """The client of libcoap is told each of some changes made by HTTP, with rising numbers, and ends by Observe 1."""
        with _ground() as ground:
            watcher = ground.libcoap("/temperature", 8)
            watcher.wait_for("20.0")
            ground.wait_observers(1)
            for value in ("20.1", "20.2", "20.3"):
                ground.gateway.put("/temperature", value)
                watcher.wait_for(value)
            self.assertEqual(watcher.process.wait(40), 0)
            ground.wait_observers(0)
            self.assertEqual((ground.ended("cancelled"), ground.ended("reset")), (1, 0), watcher.log[-2000:])
            numbers = [int(found) for found in re.findall(r"c:2\.05 .*Observe:(\d+)", watcher.log)]
            self.assertEqual(numbers, sorted(numbers))
            self.assertGreaterEqual(len(numbers), 4)

    def test_libcoap_deleted(self) -> None:
        """When the resource is deleted libcoap's client is told 4.04, and is no observer any more."""
        with _ground() as ground:
            watcher = ground.libcoap("/temperature", 20)
            watcher.wait_for("20.0")
            self.assertEqual(ground.gateway.request("DELETE", "/temperature").status, 204)
            watcher.wait_for("4.04")
            ground.wait_observers(0)
            self.assertEqual(ground.ended("error"), 1)

    def test_libcoap_large(self) -> None:
        """A large state comes block-wise: the first block as the notification, the others fetched (RFC 7959, section 2.6)."""
        with _ground() as ground:
            ground.gateway.put("/large", "a" * 3000)
            watcher = ground.libcoap("/large", 20)
            watcher.wait_for("a" * 900)
            ground.gateway.put("/large", "b" * 3000)
            wait_until(lambda: watcher.log.count("b") >= 3000, _LONG_S, "the large state")

    def test_libcoap_reset(self) -> None:
        """The next client on the port of one that was killed resets its notification: the observation is over."""
        with _ground() as ground:
            watcher = ground.libcoap("/temperature", 60, "-p", "40000", "-T", "first")
            watcher.wait_for("20.0")
            ground.wait_observers(1)
            watcher.kill()
            ground.gateway.put("/other", "1")
            second = ground.libcoap("/other", 60, "-p", "40000", "-T", "second")
            second.wait_for("c:2.05")
            ground.gateway.put("/temperature", "20.1")
            wait_until(lambda: ground.ended("reset") == 1, _LONG_S, "the Reset")
            self.assertEqual(ground.observers(), 1)
            ground.gateway.put("/other", "22222")
            second.wait_for("22222")

    def test_libcoap_killed(self) -> None:
        """A client that was killed is noticed when nobody acknowledges: after five messages the observation is over."""
        if SMOKE:
            self.skipTest("it takes a minute and a half")
        with _ground() as ground:
            watcher = ground.libcoap("/temperature", 300)
            watcher.wait_for("20.0")
            watcher.kill()
            ground.gateway.put("/temperature", "20.1")
            ground.wait_observers(0, 120)
            self.assertEqual(ground.ended("given_up"), 1)

    def test_libcoap_collection(self) -> None:
        """A collection is observed: a child that comes is told."""
        with _ground() as ground:
            ground.gateway.put("/room/lamp", "on")
            watcher = ground.libcoap("/room", 20)
            watcher.wait_for("lamp")
            ground.gateway.put("/room/switch", "off")
            watcher.wait_for("switch")

    def test_aiocoap(self) -> None:
        """The client of aiocoap is told the newest of many changes made by CoAP, large ones whole; it cancels, and is told no more."""
        with _ground() as ground:
            watcher = ground.child("aiocoap", _AT + "/temperature")
            watcher.wait_told("20.0")
            self.assertTrue(watcher.lines[0]["observed"])
            ground.wait_observers(1)
            puts = [Call("PUT", _AT + "/temperature", b"%d" % value, 0) for value in range(50)]
            puts.append(Call("PUT", _AT + "/temperature", b"large" + b"." * 3000, 0))
            self.assertEqual({answer.code for answer in call_aiocoap(ground.host, *puts)}, {"2.04"})
            watcher.wait_told("large")
            numbers = [int(text) for text in watcher.payloads if text.isdecimal()]
            self.assertEqual(numbers, sorted(numbers))
            watcher.say()
            watcher.wait_for("cancelled")
            ground.gateway.put("/temperature", "unheard")
            ground.wait_observers(0)
            self.assertNotIn("unheard", watcher.payloads)
            self.assertEqual(ground.ended("cancelled") + ground.ended("reset"), 1)

    def test_restart(self) -> None:
        """After `kill -9` and a start a client that registers again gets numbers above those before."""
        with _ground() as ground:
            first = ground.libcoap("/temperature", 60)
            first.wait_for("20.0")
            ground.gateway.put("/temperature", "20.1")
            first.wait_for("20.1")
            ground.gateway.kill()
            ground.gateway.start()
            self.assertEqual(ground.observers(), 0)
            second = ground.libcoap("/temperature", 60)
            second.wait_for("20.1")
            ground.gateway.put("/temperature", "20.2")
            second.wait_for("20.2")
            numbers = [[int(found) for found in re.findall(r"c:2\.05 .*Observe:(\d+)", one.log)] for one in (first, second)]
            self.assertGreater(min(numbers[1][1:]), max(numbers[0]))


class OwnClientTests(SynchronousTestCase):
    """This program's client observes."""

    skip = skip_reason("coap-server-notls")

    def test_coap_server(self) -> None:
        """It follows `/time` of libcoap's server, also when that is killed and started again."""
        with _ground() as ground:
            servers = ground.site.host("servers", ["fd00:1::5/64"])
            server = servers.popen(["coap-server-notls", "-A", "fd00:1::5"])
            watcher = ground.child("ours", "coap://[fd00:1::5]/time")
            wait_until(lambda: len(watcher.payloads) >= 4, _LONG_S, "four states of /time")
            server.kill()
            server.wait()
            before = len(watcher.payloads)
            servers.popen(["coap-server-notls", "-A", "fd00:1::5"])
            wait_until(lambda: len(watcher.payloads) >= before + 3, 90, "states of /time after the restart")
            self.assertEqual(watcher.payloads, sorted(watcher.payloads))  # the time of one day
            self.assertNotIn('"end"', watcher.log)
            watcher.say()
            watcher.wait_for("cancelled")
            self.assertEqual(watcher.lines[-1], {"cancelled": True})

    def test_aiocoap_server(self) -> None:
        """It follows a count of aiocoap's server, in order, large states whole, until the server says 4.04."""
        with _ground() as ground:
            servers = ground.site.host("servers", ["fd00:1::5/64"])
            server = Watcher(servers, ground.site.folder, [sys.executable, "-m", "tests.system.observe_child", "serve", "fd00:1::5"])
            server.wait_for("serving")
            watcher = ground.child("ours", "coap://[fd00:1::5]/count")
            wait_until(lambda: len(watcher.payloads) >= 10, _LONG_S, "ten states")
            numbers = [int(text) for text in watcher.payloads]
            self.assertEqual(numbers, sorted(set(numbers)))
            self.assertIn(".", str([line["payload"] for line in watcher.lines if "payload" in line]))
            self.assertEqual(call_aiocoap(ground.host, Call("DELETE", "coap://[fd00:1::5]/count"))[0].code, "2.02")
            watcher.wait_for('"end": "4.04"')

    def test_own_gateway(self) -> None:
        """Of a gateway that is killed and started again it learns what has changed since, without being asked."""
        with _ground() as ground:
            watcher = ground.child("ours", _AT + "/temperature")
            watcher.wait_told("20.0")
            ground.gateway.put("/temperature", "20.1")
            watcher.wait_told("20.1")
            if SMOKE:
                return  # the other half takes Max-Age
            ground.gateway.kill()
            ground.gateway.start()
            ground.gateway.put("/temperature", "20.2")
            watcher.wait_told("20.2", 120)
            ground.gateway.put("/temperature", "20.3")
            watcher.wait_told("20.3", 5)
