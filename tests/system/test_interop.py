"""Each feature of CoAP between this program and those that others wrote, as server and as client. docs/interop.md has the table."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import aiocoap
from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.libcoap import CoapReply, coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import GROUP_SERVER, SMOKE, Gateway, Site
from tests.system.own_calls import OwnAnswer, OwnCall, call_own
from tests.system.pcap import Datagram, Wire
from tests.system.programs import ROOT, Tables

_SKIP = skip_reason("tcpdump", "coap-client-notls", "coap-server-notls")
_GATEWAY, _CLIENT = "fd00:1::1", "fd00:1::c1"
_AT = f"coap://[{_GATEWAY}]"
_TABLES: Tables = {**GROUP_SERVER, "coap.access": {"write": ["link"]}, "groups": {"deadline_s": 1}}
_GROUP = "ff15::4d32"
_EXPONENTS = (0, 3, 6) if SMOKE else tuple(range(7))
_JSON, _CBOR, _OCTETS = 50, 60, 42
_TOO_LARGE = b"x" * (1024 * 1024 + 1)


def _body(size: int) -> bytes:
    """So many bytes, no two blocks of which are alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def _sizes(exponent: int) -> tuple[int, ...]:
    """Sizes of bodies around the size of a block: none, one byte, one block less or more a byte, exact multiples."""
    block = 16 << exponent
    return (0, block + 1, 3 * block) if SMOKE else (0, 1, block - 1, block, block + 1, 2 * block, 3 * block, 3 * block + 7)


def _block_sizes(datagrams: list[Datagram], option: str) -> set[int]:
    """The sizes in an option of the datagrams, as another implementation reads it."""
    blocks = [getattr(aiocoap.Message.decode(datagram.payload).opt, option) for datagram in datagrams]
    return {int(block.size) for block in blocks if block is not None}


@dataclass(frozen=True)
class _Ground:
    """A gateway, and a host of foreign clients on its link."""

    site: Site
    gateway: Gateway
    host: Host

    def libcoap(self, method: str, path: str, *arguments: str, payload: bytes | str = b"") -> CoapReply:
        """One request by libcoap's client."""
        return coap_client(self.host, method, _AT + path, *arguments, payload=payload)


@contextlib.contextmanager
def _ground() -> Iterator[_Ground]:
    with Site() as site:
        gateway = site.gateway("gw", [f"{_GATEWAY}/64"], _TABLES)
        host = site.host("clients", [f"{_CLIENT}/64"])
        site.ready()
        yield _Ground(site, gateway, host)


class ServerTests(SynchronousTestCase):
    """Clients by others ask a gateway."""

    skip = _SKIP

    def test_blocks_libcoap(self) -> None:
        """Bodies of many sizes in blocks of each size, up and down, by libcoap's client; the sizes on the wire are those asked for."""
        with _ground() as ground, Wire(ground.host) as wire:
            for exponent in _EXPONENTS:
                block = str(16 << exponent)
                for size in _sizes(exponent):
                    body, path = _body(size), f"/blocks/b{block}-{size}"
                    put = ground.libcoap("put", path, "-b", block, "-t", str(_OCTETS), payload=body)
                    self.assertEqual(put.code, "2.01", path)
                    got = ground.libcoap("get", path, "-b", block)
                    self.assertEqual((got.code, got.payload), ("2.05", body), path)
        self.check_sizes(wire)

    def test_blocks_aiocoap(self) -> None:
        """The same by aiocoap's client."""
        cases = [(exponent, size) for exponent in _EXPONENTS for size in _sizes(exponent)]
        calls = []
        for exponent, size in cases:
            uri = f"{_AT}/blocks/b{exponent}-{size}"
            calls.append(Call("PUT", uri, _body(size), _OCTETS, size_exponent=exponent))
            calls.append(Call("GET", uri, size_exponent=exponent))
        with _ground() as ground, Wire(ground.host) as wire:
            answers = call_aiocoap(ground.host, *calls)
        for (exponent, size), put, got in zip(cases, answers[::2], answers[1::2], strict=True):
            self.assertEqual((put.code, got.code), ("2.01", "2.05"), (exponent, size))
            self.assertEqual(got.payload, _body(size), (exponent, size))
        self.check_sizes(wire)

    def check_sizes(self, wire: Wire) -> None:
        """Blocks of all the sizes went both ways."""
        wanted = {16 << exponent for exponent in _EXPONENTS}
        self.assertEqual(_block_sizes(wire.to(_GATEWAY), "block1"), wanted)
        self.assertEqual(_block_sizes(wire.from_(_GATEWAY), "block2"), wanted)

    def test_errors(self) -> None:
        """Each error that a client can bring about, by both; what was refused changed nothing."""
        with _ground() as ground:
            ground.gateway.put("/text", "21.5")
            etag = ground.gateway.get("/text").headers["etag"].strip('"')
            for code, method, path, *arguments in (
                ("4.00", "put", "/text", "-t", str(_JSON), "-e", "{"),
                ("4.02", "get", "/text", "-O", "2049,0x01"),
                ("4.04", "get", "/nothing"),
                ("4.05", "delete", "/node"),
                ("4.05", "fetch", "/text", "-t", str(_JSON), "-e", "[]"),
                ("4.06", "get", "/text", "-A", str(_CBOR)),
                ("4.06", "get", "/text", "-A", "9999"),
                ("4.12", "put", "/text", "-O", "1,0x0102030405", "-e", "x"),
                ("4.12", "put", "/text", "-O", "5,", "-e", "x"),
                ("4.15", "put", "/groups/g", "-t", "0", "-e", "x"),
                ("4.15", "put", "/text", "-t", "9999", "-e", "x"),
                ("5.05", "get", "/text", "-O", "35,coap://example.org/x"),
                ("2.03", "get", "/text", "-O", f"4,0x{etag}"),
            ):
                self.assertEqual(ground.libcoap(method, path, *arguments).code, code, (method, path, arguments))
            self.assertEqual(ground.libcoap("put", "/text", "-t", str(_OCTETS), "-b", "1024", payload=_TOO_LARGE).code, "4.13")
            # The others are in test_foreign_clients.
            answers = call_aiocoap(
                ground.host,
                Call("PUT", f"{_AT}/text", _TOO_LARGE, _OCTETS),
                Call("GET", f"{_AT}/text", proxy="coap://example.org/x"),
                Call("FETCH", f"{_AT}/text", b"[]", _JSON),
                Call("PUT", f"{_AT}/text", b"x", 9999),
            )
            self.assertEqual([answer.code for answer in answers], ["4.13", "5.05", "4.05", "4.15"])
            self.assertEqual(ground.gateway.get("/text").body, b"21.5")

    def test_separate_and_multicast(self) -> None:
        """A group with a silent member is answered separately, to both clients; a multicast discovery after some leisure."""
        with _ground() as ground:
            silent = {"hosts": ["off.example.org"], "addresses": ["fd00:1::dead"], "lifetime": 86_400}
            ground.gateway.put_document("/scls/off", silent)
            ground.gateway.put("/text", "21.5")
            ground.gateway.put_document("/groups/all", {"members": [f"coap://{name}.example.org/text" for name in ("off", "gw")]})
            # Libcoap's client waits for answers of a group all of its time: the others are asked meanwhile.
            got, group = ground.site.folder / "multicast", "coap://[ff02::fd%eth0]/.well-known/core?rt=core.rd"
            asking = ground.host.popen(["coap-client-notls", "-N", "-B", "6", "-m", "get", "-o", str(got), group])
            with Wire(ground.host) as wire:
                by_libcoap = ground.libcoap("get", "/groups/all/membersContent", "-A", str(_JSON))
                by_aiocoap = call_aiocoap(ground.host, Call("GET", f"{_AT}/groups/all/membersContent", accept=_JSON))[0]
            self.assertEqual((by_libcoap.code, by_aiocoap.code), ("2.05", "2.05"))
            for answer in (by_libcoap, by_aiocoap):
                self.assertEqual(json.loads(answer.payload)["silent"], ["coap://off.example.org/text"])
            messages = [aiocoap.Message.decode(datagram.payload) for datagram in wire.from_(_GATEWAY)]
            self.assertEqual([(message.mtype.name, message.code.dotted) for message in messages], [("ACK", "0.00"), ("CON", "2.05")] * 2)
            links = ground.gateway.curl("/.well-known/core?rt=core.rd").stdout
            called = call_aiocoap(ground.host, Call("GET", group))[0]
            self.assertEqual((called.code, called.text), ("2.05", links))
            asking.wait(60)
            self.assertEqual(got.read_text(), links)


class ClientTests(SynchronousTestCase):
    """This program's client asks servers by others."""

    skip = _SKIP

    def one_each(self, answers: list[list[OwnAnswer]]) -> list[OwnAnswer]:
        """The answers, of which there must be one to each request."""
        self.assertEqual([len(found) for found in answers], [1] * len(answers))
        return [found[0] for found in answers]

    def test_libcoap(self) -> None:
        """Blocks both ways, a separate answer, errors and filtered discovery of libcoap's server."""
        at, sizes = "coap://[fd00:1::5]", (0, 1, 1023, 1024, 1025, 2048, 5000)
        with Site() as site:
            host, servers = site.host("own", [f"{_CLIENT}/64"]), site.host("servers", ["fd00:1::5/64"])
            _coap_server(servers)
            calls = [OwnCall("PUT", f"{at}/b{size}", _body(size), "application/octet-stream") for size in sizes]
            calls += [OwnCall("GET", f"{at}/b{size}") for size in sizes]
            calls += [OwnCall("GET", f"{at}/async?1"), OwnCall("GET", f"{at}/nothing"), OwnCall("PUT", f"{at}/async", b"x")]
            calls += [OwnCall("GET", f"{at}/.well-known/core?rt=ticks"), OwnCall("DELETE", f"{at}/b1"), OwnCall("GET", f"{at}/b1")]
            with Wire(host) as wire:
                answers = self.one_each(call_own(host, *calls))
        self.assertEqual({answer.code for answer in answers[: len(sizes)]}, {"2.01"})
        self.assertEqual([(answer.code, answer.payload) for answer in answers[len(sizes) : -6]], [("2.05", _body(size)) for size in sizes])
        separate, absent, refused, links, deleted, gone = answers[-6:]
        self.assertEqual((separate.code, separate.payload), ("2.05", b"done"))
        self.assertEqual([one.code for one in (absent, refused, links, deleted, gone)], ["4.04", "4.05", "2.05", "2.02", "4.04"])
        self.assertIn(b"</time>", links.payload)
        self.assertNotIn(b"</async>", links.payload)
        self.assertEqual(_block_sizes(wire.from_(_CLIENT), "block1"), {1024})

    def test_aiocoap(self) -> None:
        """Blocks of each size, a separate answer, every error and filtered discovery of aiocoap's server."""
        at, cases = "coap://[fd00:1::6]", [(exponent, size) for exponent in _EXPONENTS for size in _sizes(exponent)]
        codes = (128, 129, 130, 131, 132, 133, 134, 136, 137, 140, 141, 143, 160, 161, 162, 163, 164, 165)
        with Site() as site:
            host, servers = site.host("own", [f"{_CLIENT}/64"]), site.host("servers", ["fd00:1::6/64"])
            _aiocoap_server(site, servers, "fd00:1::6")
            calls = []
            for exponent, size in cases:
                calls += [OwnCall("PUT", f"{at}/blob", _body(size)), OwnCall("GET", f"{at}/blob?szx={exponent}")]
            calls += [OwnCall("GET", f"{at}/error/{code}") for code in codes]
            calls += [OwnCall("GET", f"{at}/slow"), OwnCall("GET", f"{at}/.well-known/core?href=/slow")]
            with Wire(host) as wire:
                answers = self.one_each(call_own(host, *calls))
        blobs = answers[: 2 * len(cases)]
        self.assertEqual({answer.code for answer in blobs[::2]}, {"2.04"})
        self.assertEqual([(answer.code, answer.payload) for answer in blobs[1::2]], [("2.05", _body(size)) for _, size in cases])
        self.assertEqual([answer.code for answer in answers[len(blobs) : -2]], [f"{code >> 5}.{code & 31:02d}" for code in codes])
        self.assertEqual([answer.payload for answer in answers[-2:]], [b"done", b"</slow>"])
        self.assertEqual(_block_sizes(wire.to(_CLIENT), "block2"), {16 << exponent for exponent in _EXPONENTS})

    def test_multicast(self) -> None:
        """One request to a group of three servers of libcoap and one of aiocoap: the answers of all four, each from its own address."""
        with Site() as site:
            host = site.host("own", [f"{_CLIENT}/64"])
            for number in (5, 7, 8):
                _coap_server(site.host(f"libcoap{number}", [f"fd00:1::{number}/64"]))
            _aiocoap_server(site, site.host("aiocoap", ["fd00:1::6/64"]), "fd00:1::6", _GROUP)
            with Wire(host) as wire:
                found = call_own(host, OwnCall("GET", f"{_GROUP}/.well-known/core", gathered=4))[0]
        self.assertEqual({answer.source for answer in found}, {f"fd00:1::{number}" for number in (5, 6, 7, 8)})
        self.assertEqual(({answer.code for answer in found}, len(found)), ({"2.05"}, 4))
        self.assertEqual(len([one for one in wire.from_(_CLIENT) if one.destination == _GROUP]), 1)


def _coap_server(host: Host) -> None:
    """Start libcoap's server in a host, with room for resources that are PUT, as a member of the group."""
    host.popen(["coap-server-notls", "-d", "100", "-g", _GROUP, "-G", "eth0"])
    wait_until(lambda: "5683" in host.run(["ss", "-Hlun"]).stdout, what="coap-server-notls")


def _aiocoap_server(site: Site, host: Host, *arguments: str) -> None:
    """Start aiocoap's server in a host."""
    log = site.folder / "aiocoap-server.log"
    host.popen(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.system.aiocoap_server", *arguments], log=log)
    wait_until(lambda: log.exists() and "serving" in log.read_text(), 30, "aiocoap's server")
