"""Captures the real datagrams that unit tests parse and change: `python -m tests.system.capture` (root). Writes tests/unit/coap/vectors.

Programs by others, and this one, do what is named in `_SCENES` on a network of their own; of each direction of a scene the first two
datagrams and the last are kept, each in a file that says where it comes from. Message IDs and tokens are as they came, so that another
run writes other bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.libcoap import coap_client
from tests.system.namespaces import Host, wait_until
from tests.system.nodes import GROUP_SERVER, Site
from tests.system.pcap import Datagram, Wire
from tests.system.programs import ROOT

VECTORS = ROOT / "tests" / "unit" / "coap" / "vectors"
_GATEWAY, _LIBCOAP, _CLIENTS = "fd00:1::1", "fd00:1::5", "fd00:1::c1"
_OWN, _THEIRS = f"coap://[{_GATEWAY}]", f"coap://[{_LIBCOAP}]"
_PORT = 5683
_LARGE = b"0123456789abcdef" * 40
_AIOCOAP_NAME, _OWN_NAME = f"aiocoap {version('aiocoap')}", "m2mapp"

_TXTHINGS = """
import sys, ipaddress
from twisted.internet import reactor
from txthings import coap, resource
client = coap.Coap(resource.Endpoint(None))
def ask():
    request = coap.Message(code=coap.PUT, payload=b"x" * 100)
    request.opt.uri_path = (b"txthings",)
    request.opt.content_format = 42
    request.remote = (ipaddress.ip_address(sys.argv[1]), 5683)
    client.request(request).addBoth(lambda _: reactor.stop())
reactor.listenUDP(0, client, interface="::")
reactor.callWhenRunning(ask)
reactor.callLater(10, reactor.stop)
reactor.run()
"""
"""A client of txThings: a confirmable PUT, in the blocks of 64 bytes that it makes."""


class _Scenes:
    """What the programs do, by name; each scene is a function that returns when all is on the wire."""

    def __init__(self, site: Site) -> None:
        self.gateway = site.gateway("gw", [f"{_GATEWAY}/64"], {**GROUP_SERVER, "coap.access": {"write": ["link"]}})
        self.clients = site.host("clients", [f"{_CLIENTS}/64"])
        self.servers = site.host("servers", [f"{_LIBCOAP}/64"])
        self.servers.popen(["coap-server-notls", "-d", "10", "-g", "ff02::fd", "-G", "eth0"])
        site.ready()
        wait_until(lambda: "5683" in self.servers.run(["ss", "-Hlun"]).stdout, what="coap-server-notls")
        self.gateway.put("/temperature", "21.5")
        self.gateway.put("/large", _LARGE.decode())
        registration = {"hosts": ["d1.example.org"], "addresses": [_LIBCOAP], "multicastEnabled": True, "lifetime": 86_400}
        self.gateway.put_document("/scls/d1", registration)

    def libcoap(self, method: str, uri: str, *arguments: str, payload: bytes | str = b"") -> Callable[[], object]:
        """A request by libcoap's client."""
        return lambda: coap_client(self.clients, method, uri, *arguments, payload=payload, wait_s=8)

    def aiocoap(self, *calls: Call) -> Callable[[], object]:
        """Requests by aiocoap's client."""
        return lambda: call_aiocoap(self.clients, *calls)

    def observe(self) -> None:
        """The client of libcoap observes for two seconds, in which the state changes twice."""
        watching = self.clients.popen(["coap-client-notls", "-s", "2", "-B", "3", "-m", "get", f"{_OWN}/temperature"])
        wait_until(lambda: self.gateway.metric("m2mapp_coap_observers") == 1, what="an observer")
        for value in ("22", "23"):
            self.gateway.put("/temperature", value)
        watching.wait(20)

    def group(self) -> None:
        """The gateway reads a group that has libcoap's server as its member, by multicast and by unicast."""
        document = {"members": ["coap://d1.example.org/time"]}
        self.gateway.put_document("/groups/times", document)
        self.gateway.get("/groups/times/membersContent", M2M_Deadline="3")

    def all(self) -> Iterable[tuple[str, str, str, Callable[[], object]]]:
        """Name, client, server, scene."""
        usage = self.clients.run(["coap-client-notls"])
        libcoap = "libcoap " + (usage.stdout + usage.stderr).partition(" -- ")[0].rpartition("v")[2]
        client, own, theirs = libcoap + " coap-client-notls", _OWN_NAME, libcoap + " coap-server-notls"
        yield "block2-64", client, own, self.libcoap("get", f"{_OWN}/large", "-b", "64")
        yield "block1-128", client, own, self.libcoap("put", f"{_OWN}/up", "-b", "128", "-t", "42", payload=_LARGE)
        yield "block2-server", client, theirs, self.libcoap("get", f"{_THEIRS}/example_data", "-b", "16")
        yield "block1-server", client, theirs, self.libcoap("put", f"{_THEIRS}/up", "-b", "256", payload=_LARGE)
        yield "observe", client, own, self.observe
        yield "separate", client, theirs, self.libcoap("get", f"{_THEIRS}/async?1")
        yield "discovery", client, own, self.libcoap("get", f"{_OWN}/.well-known/core?rt=core.rd", "-A", "40")
        yield "register", client, own, self.libcoap("post", f"{_OWN}/rd?ep=d2&lt=300", "-t", "40", payload="</temp>;rt=temperature")
        yield (
            "make-group",
            client,
            own,
            self.libcoap("put", f"{_OWN}/groups/g", "-t", "50", payload='{"members":["coap://d1.example.org/"]}'),
        )
        yield "read-group", client, own, self.libcoap("get", f"{_OWN}/groups/g/membersContent", "-A", "50")
        yield "no-method", client, own, self.libcoap("fetch", f"{_OWN}/temperature", "-t", "50", payload="[]")
        yield "multicast", client, own + " and " + theirs, self.libcoap("get", "coap://[ff02::fd%eth0]/.well-known/core", "-N")
        yield (
            "conditional",
            _AIOCOAP_NAME,
            own,
            self.aiocoap(
                Call("PUT", f"{_OWN}/mode", b"day", 0, if_none_match=True),
                Call("PUT", f"{_OWN}/mode", b"noon", 0, if_match=(b"\1\2",)),
                Call("DELETE", f"{_OWN}/mode"),
            ),
        )
        yield (
            "patch",
            _AIOCOAP_NAME,
            own,
            self.aiocoap(
                Call("PUT", f"{_OWN}/j", b'{"a":1}', 50),
                Call("PATCH", f"{_OWN}/j", b'{"b":2}', 52),
                Call("POST", f"{_OWN}/?name=posted", b"1", 0),
            ),
        )
        yield "aiocoap-blocks", _AIOCOAP_NAME, own, self.aiocoap(Call("PUT", f"{_OWN}/up2", b"y" * 2500, 42), Call("GET", f"{_OWN}/up2"))
        command = [sys.executable, "-c", _TXTHINGS, _GATEWAY]
        yield "txthings-put", f"txThings {version('txThings')}", own, lambda: self.clients.run(command, timeout_s=30)
        yield "group", own, theirs, self.group


def main() -> None:
    """Run all scenes, and write their datagrams."""
    with Site() as site:
        scenes = _Scenes(site)
        hosts: dict[str, Host] = {"clients": scenes.clients, "gw": site.lab_host("gw")}
        for name, client, server, scene in scenes.all():
            with Wire(hosts["gw" if client == _OWN_NAME else "clients"]) as wire:
                scene()
            sides: dict[bool, list[Datagram]] = {True: [], False: []}
            for one in wire.datagrams:
                sides[one.source == _GATEWAY if client == _OWN_NAME else one.port == _PORT].append(one)
            _write(name, f"{client} to {server}", sides[True])
            _write(name + "-answer", f"{server} to {client}", sides[False])


def _write(name: str, about: str, datagrams: list[Datagram]) -> None:
    """Keep the first two and the last of one direction, those to CoAP's port and those from it."""
    found = [one.payload for one in datagrams if _PORT in (one.port, one.source_port)]
    kept = list(dict.fromkeys([*found[:2], *found[-1:]]))
    for old in VECTORS.glob(f"{name}-[0-9].txt"):
        old.unlink()
    for number, payload in enumerate(kept, start=1):
        Path(VECTORS, f"{name}-{number}.txt").write_text(f"# {about}: {name}, captured by tests/system/capture.py\n{payload.hex()}\n")
    sys.stdout.write(f"{name}: {len(kept)} of {len(found)}\n")


if __name__ == "__main__":
    main()
