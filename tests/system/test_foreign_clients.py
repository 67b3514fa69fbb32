"""Clients that others wrote, libcoap's and aiocoap's, on the tree that HTTP shows to curl: each reads what another wrote."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import cbor2
from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, Called, call_aiocoap
from tests.system.libcoap import CoapReply, coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import GROUP_SERVER, Gateway, Site
from tests.system.pcap import Wire
from tests.system.programs import Tables

_SKIP = skip_reason("curl", "coap-client-notls")
_GATEWAY = "fd00:1::1"
_AT = f"coap://[{_GATEWAY}]"
_WRITABLE: Tables = {**GROUP_SERVER, "coap.access": {"write": ["link"]}}
_JSON, _CBOR, _LINKS, _RESOURCE_JSON, _RESOURCE_CBOR, _RESULTS_CBOR = 50, 60, 40, 65010, 65011, 65013
_LARGE = bytes(range(256)) * 80
"""20 kB: twenty blocks of the largest size."""


@dataclass(frozen=True)
class _Clients:
    """A gateway, and a host on its link from which foreign clients speak with it."""

    site: Site
    gateway: Gateway
    host: Host

    def libcoap(self, method: str, path: str, *arguments: str, payload: bytes | str = b"") -> CoapReply:
        """One request by libcoap's client."""
        return coap_client(self.host, method, _AT + path, *arguments, payload=payload)

    def aiocoap(self, *calls: Call) -> list[Called]:
        """Requests by aiocoap's client."""
        return call_aiocoap(self.host, *calls)

    def curl(self, path: str, *arguments: str) -> tuple[int, dict[str, str], bytes]:
        """One request by curl: status, header fields, body."""
        body, head = self.site.folder / "body", self.site.folder / "head"
        body.write_bytes(b"")
        done = self.gateway.curl(path, "-o", str(body), "-D", str(head), "-w", "%{http_code}", *arguments)
        assert done.returncode == 0, done.stderr
        fields = [line.partition(":") for line in head.read_text().splitlines() if ":" in line]
        return int(done.stdout), {name.lower(): value.strip() for name, _, value in fields}, body.read_bytes()


@contextlib.contextmanager
def _clients(tables: Tables = _WRITABLE) -> Iterator[_Clients]:
    with Site() as site:
        gateway = site.gateway("gw", [f"{_GATEWAY}/64"], tables)
        host = site.host("clients", ["fd00:1::c1/64"])
        site.ready()
        yield _Clients(site, gateway, host)


def _put(path: str, payload: bytes | str, content_format: int | None = 0, **more: object) -> Call:
    data = payload.encode() if isinstance(payload, str) else payload
    return Call("PUT", _AT + path, data, content_format, **more)  # type: ignore[arg-type]


def _get(path: str, accept: int | None = None, **more: object) -> Call:
    return Call("GET", _AT + path, accept=accept, **more)  # type: ignore[arg-type]


class SameTreeTests(SynchronousTestCase):
    """Three clients, one tree."""

    skip = _SKIP

    def test_libcoap_and_curl(self) -> None:
        """The client of libcoap creates, reads, changes and deletes; curl sees each step, with the same ETag, and the other way round."""
        with _clients() as clients:
            self.assertEqual(clients.libcoap("put", "/room/temperature", "-t", "0", payload="21.5").code, "2.01")
            status, fields, body = clients.curl("/room/temperature")
            self.assertEqual((status, body), (200, b"21.5"))
            self.assertTrue(fields["content-type"].startswith("text/plain"))
            read = clients.libcoap("get", "/room/temperature")
            self.assertEqual((read.code, read.text), ("2.05", "21.5"))
            self.assertIn(f"ETag:0x{fields['etag'].strip(chr(34))}", read.options)
            self.assertEqual(clients.curl("/room/temperature", "-X", "PUT", "-H", "Content-Type: text/plain", "-d", "22")[0], 204)
            self.assertEqual(clients.libcoap("get", "/room/temperature").text, "22")
            self.assertEqual(clients.libcoap("put", "/room/temperature", "-t", "0", payload="23").code, "2.04")
            self.assertEqual(clients.curl("/room/temperature")[2], b"23")
            self.assertEqual(clients.libcoap("delete", "/room/temperature").code, "2.02")
            self.assertEqual(clients.curl("/room/temperature")[0], 404)

    def test_aiocoap_and_curl(self) -> None:
        """The client of aiocoap creates by PUT and by POST, with a Location, reads and deletes; curl sees each, and the other way round."""
        with _clients() as clients:
            made, posted = clients.aiocoap(
                _put("/room/lamp", "on"), Call("POST", _AT + "/room?name=switch", b"off", 0), _put("/room/lamp", "dimmed")
            )[:2]
            self.assertEqual((made.code, posted.code, posted.location), ("2.01", "2.01", "/room/switch"))
            self.assertEqual([clients.curl(path)[2] for path in ("/room/lamp", "/room/switch")], [b"dimmed", b"off"])
            status, fields, _ = clients.curl("/room", "-H", "Content-Type: text/plain", "-d", "7")
            self.assertEqual(status, 201)
            children, read = clients.aiocoap(_get("/room", _JSON), _get(fields["location"]))
            self.assertEqual((read.code, read.text), ("2.05", "7"))
            names = [child["name"] for child in json.loads(children.payload)["children"]]
            self.assertEqual(sorted(names), sorted(["lamp", "switch", fields["location"].rpartition("/")[2]]))
            gone, absent = clients.aiocoap(Call("DELETE", _AT + "/room"), _get("/room/lamp"))
            self.assertEqual((gone.code, absent.code), ("2.02", "4.04"))
            self.assertEqual(clients.curl("/room/switch")[0], 404)

    def test_conditional(self) -> None:
        """ETag, If-Match and If-None-Match mean the same over both protocols: a lost race is told, and changes nothing."""
        with _clients() as clients:
            made, again, first = clients.aiocoap(
                _put("/mode", "day", if_none_match=True), _put("/mode", "night", if_none_match=True), _get("/mode")
            )
            self.assertEqual((made.code, again.code, first.text), ("2.01", "4.12", "day"))
            assert first.etag is not None
            valid, changed, lost = clients.aiocoap(
                _get("/mode", etags=(first.etag,)),
                _put("/mode", "night", if_match=(first.etag,)),
                _put("/mode", "noon", if_match=(first.etag,)),
            )
            self.assertEqual((valid.code, valid.payload), ("2.03", b""))
            self.assertEqual((changed.code, lost.code), ("2.04", "4.12"))
            _, fields, body = clients.curl("/mode")
            self.assertEqual(body, b"night")
            self.assertEqual(clients.curl("/mode", "-H", f"If-None-Match: {fields['etag']}")[0], 304)
            stale = ["-X", "PUT", "-H", "Content-Type: text/plain", "-d", "dusk", "-H", f'If-Match: "{first.etag.hex()}"']
            status, fields, body = clients.curl("/mode", *stale)
            self.assertEqual((status, json.loads(body)["type"]), (412, "urn:m2mapp:problem:precondition-failed"))
            self.assertEqual(fields["content-type"], "application/problem+json")
            self.assertEqual(clients.libcoap("get", "/mode").text, "night")

    def test_content_formats(self) -> None:
        """JSON and CBOR content stay as they were written; whole representations come as JSON and CBOR by Accept, on each protocol."""
        with _clients() as clients:
            value = {"temp": 21.5, "mode": "auto"}
            written = clients.aiocoap(_put("/json", json.dumps(value), _JSON), _put("/cbor", cbor2.dumps(value), _CBOR))
            self.assertEqual([answer.code for answer in written], ["2.01", "2.01"])
            self.assertEqual(json.loads(clients.curl("/json")[2]), value)
            _, fields, body = clients.curl("/cbor")
            self.assertEqual((fields["content-type"], cbor2.loads(body)), ("application/cbor", value))
            as_json, as_cbor, node = clients.aiocoap(_get("/cbor", _RESOURCE_JSON), _get("/json", _RESOURCE_CBOR), _get("/node", _CBOR))
            self.assertEqual((as_json.content_format, json.loads(as_json.payload)["content"]), (_RESOURCE_JSON, value))
            self.assertEqual((as_cbor.content_format, cbor2.loads(as_cbor.payload)["content"]), (_RESOURCE_CBOR, value))
            self.assertEqual(node.content_format, _CBOR)
            self.assertEqual(cbor2.loads(node.payload), json.loads(clients.curl("/node")[2]))
            whole = clients.curl("/cbor", "-H", "Accept: application/vnd.m2m.resource+json")[2]
            self.assertEqual(json.loads(whole), json.loads(as_json.payload))

    def test_discovery(self) -> None:
        """`/.well-known/core`, filtered by its query, is the same for libcoap, aiocoap and curl."""
        with _clients() as clients:
            for name, kind in (("t1", "temperature"), ("t2", "temperature"), ("s1", "switch")):
                document = {"content": "1", "contentType": "text/plain", "attributes": {"rt": kind}}
                reply = clients.gateway.put(f"/room/{name}", json.dumps(document), "application/vnd.m2m.resource+json")
                self.assertEqual(reply.status, 201)
            for query, targets in (
                ("?rt=temperature", {"</room/t1>", "</room/t2>"}),
                ("?rt=sw*", {"</room/s1>"}),
                ("?href=/room/t2", {"</room/t2>"}),
                ("?rt=core.rd", {"</rd>"}),
                ("?rt=none", set()),
            ):
                texts = [
                    clients.libcoap("get", f"/.well-known/core{query}").text,
                    clients.aiocoap(_get(f"/.well-known/core{query}"))[0].text,
                    clients.curl(f"/.well-known/core{query}")[2].decode(),
                ]
                self.assertEqual(texts, texts[:1] * 3)
                self.assertEqual({link.partition(";")[0] for link in texts[0].split(",") if link}, targets)
            self.assertEqual(clients.aiocoap(_get("/.well-known/core"))[0].content_format, _LINKS)

    def test_large_content(self) -> None:
        """20 kB go block-wise in both directions, also in small blocks, and are byte for byte what HTTP has."""
        with _clients() as clients:
            clients.gateway.put("/large", _LARGE, "application/octet-stream")
            for size in ("1024", "64"):
                read = clients.libcoap("get", "/large", "-b", size)
                self.assertEqual((read.code, read.payload), ("2.05", _LARGE))
            self.assertEqual(clients.aiocoap(_get("/large"))[0].payload, _LARGE)
            self.assertEqual(clients.libcoap("put", "/up/libcoap", "-t", "42", "-b", "256", payload=_LARGE[::-1]).code, "2.01")
            self.assertEqual(clients.aiocoap(_put("/up/aiocoap", _LARGE[::-1], 42))[0].code, "2.01")
            for path in ("/up/libcoap", "/up/aiocoap"):
                status, fields, body = clients.curl(path)
                self.assertEqual((status, fields["content-type"], body), (200, "application/octet-stream", _LARGE[::-1]))


class ErrorTests(SynchronousTestCase):
    """What is refused."""

    skip = _SKIP

    def test_codes(self) -> None:
        """Each fault has its CoAP code and its HTTP status, a text that says why, and changes nothing."""
        with _clients() as clients:
            clients.gateway.put("/text", "21.5")
            number = clients.gateway.request("GET", "/text").headers["etag"]
            refused = (
                (_get("/nothing"), "4.04", "not-found"),
                (Call("DELETE", _AT + "/node"), "4.05", "method-not-allowed"),
                (_get("/text", _CBOR), "4.06", "not-acceptable"),
                (Call("PUT", _AT + "/groups/g", b"x", 0), "4.15", "unsupported-media-type"),
                (_put("/text", b"{", _JSON), "4.00", "malformed"),
                (Call("PUT", _AT + "/groups/g", b'{"members": []}', _JSON), "4.00", "malformed"),
                (_put("/text/../text", "x"), "4.00", "malformed"),
                (_put("/metrics/x", "x"), "4.09", "conflict"),
                (_put("/text", "x", if_match=(b"\1\0",)), "4.12", "precondition-failed"),
            )
            for (call, code, kind), answer in zip(refused, clients.aiocoap(*(call for call, _, _ in refused)), strict=True):
                self.assertEqual((answer.code, answer.text.partition(":")[0]), (code, kind), call)
                self.assertRegex(answer.text, r"\(trace [0-9a-f]{32}\)$")
            for arguments, status in (
                (["/nothing"], 404),
                (["-X", "DELETE", "/node"], 405),
                (["-H", "Accept: application/cbor", "/text"], 406),
                (["-X", "PUT", "-H", "Content-Type: text/plain", "-d", "x", "/groups/g"], 415),
                (["-X", "PUT", "-H", "Content-Type: application/json", "-d", "{", "/text"], 400),
            ):
                found, fields, body = clients.curl(arguments[-1], *arguments[:-1])
                self.assertEqual((found, fields["content-type"]), (status, "application/problem+json"))
                self.assertEqual((json.loads(body)["status"], json.loads(body)["trace"]), (status, fields["m2m-trace"]))
            after = clients.gateway.request("GET", "/text")
            self.assertEqual((after.body, after.headers["etag"]), (b"21.5", number))

    def test_no_right_to_write(self) -> None:
        """By default a neighbour may read and register over CoAP and not write; without a token HTTP shows nothing."""
        with _clients(GROUP_SERVER) as clients:
            clients.gateway.put("/text", "21.5")
            self.assertEqual(clients.libcoap("get", "/text").text, "21.5")
            self.assertEqual(clients.libcoap("put", "/text", payload="x").code, "4.03")
            self.assertEqual(clients.libcoap("delete", "/text").code, "4.03")
            registered = clients.libcoap("post", "/rd?ep=d1&lt=300", "-t", "40", payload="</temp>;rt=temperature")
            self.assertEqual(registered.code, "2.01")
            self.assertEqual(clients.gateway.get("/scls/d1").json()["addresses"], ["fd00:1::c1"])
            self.assertEqual(clients.gateway.get("/text").body, b"21.5")
            without = clients.gateway.curl("/text", "-o", "/dev/null", "-w", "%{http_code}", token=False)
            self.assertEqual(without.stdout, "401")


class GroupByCoapTests(SynchronousTestCase):
    """A group request that comes in by CoAP."""

    skip = skip_reason("tcpdump", "coap-client-notls")

    def test_blocks_of_one_operation(self) -> None:
        """A joined answer of several blocks: libcoap and aiocoap fetch it whole, each with one request to the group."""
        with _clients() as clients:
            devices = clients.site.devices("devices", range(1, 13))
            devices.ready()
            for device in devices.devices:
                clients.gateway.put_document(f"/scls/{device.name}", device.registration)
            puts = [Call("PUT", f"coap://[{device.address}]/temperature", device.name.encode(), 0) for device in devices.devices]
            self.assertEqual({answer.code for answer in clients.aiocoap(*puts)}, {"2.01"})
            members = [device.uri("/temperature") for device in devices.devices]
            clients.gateway.put_document("/groups/all", {"members": members})
            wait_until(lambda: clients.gateway.get("/groups/all").json()["state"] == "ready", 60, "the joins")
            expected = {device.uri("/temperature"): device.name for device in devices.devices}
            for client in ("libcoap", "aiocoap"):
                with Wire(clients.gateway.place) as wire:  # type: ignore[arg-type]
                    if client == "libcoap":
                        answer = clients.libcoap("get", "/groups/all/membersContent", "-A", "50").payload
                        found = json.loads(answer)
                    else:
                        called = clients.aiocoap(_get("/groups/all/membersContent", _RESULTS_CBOR))[0]
                        self.assertEqual((called.code, called.content_format), ("2.05", _RESULTS_CBOR))
                        answer = called.payload
                        found = cbor2.loads(answer)
                self.assertGreater(len(answer), 1024, "the answer fits one block: the test shows nothing")
                self.assertEqual({uri: entry["content"] for uri, entry in found["members"].items()}, expected)
                self.assertEqual(len([one for one in wire.from_(_GATEWAY) if one.destination.startswith("ff")]), 1, client)
