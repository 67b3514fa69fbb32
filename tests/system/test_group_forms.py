"""What a group's callers get, with clients that others wrote: blocks of CBOR, lines as they come, SenML, one figure or truth of all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import cbor2
from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, Called, call_aiocoap
from tests.system.libcoap import coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import GROUP_SERVER, Device, Gateway, Site
from tests.system.pcap import Wire

_GATEWAY = "fd00:1::1"
_OFF = Device("off", "fd00:1::dead")
_CONTENT = "/groups/all/membersContent"
_RESULTS_CBOR, _SENML_CBOR = 65013, 112


class _Ground:
    """A gateway with a group `all` of twelve thermometers, all joined, and a host for clients."""

    def __init__(self, site: Site, gateway: Gateway, client: Host, values: dict[str, float]) -> None:
        self.site, self.gateway, self.client, self.values = site, gateway, client, values

    def aiocoap(self, path: str, accept: int | None = None) -> Called:
        """A GET by aiocoap."""
        return call_aiocoap(self.client, Call("GET", f"coap://[{_GATEWAY}]{path}", accept=accept))[0]

    def curl(self, path: str, *arguments: str) -> str:
        """What curl prints."""
        return self.gateway.curl(path, *arguments).stdout


@contextlib.contextmanager
def _ground(*silent: Device) -> Iterator[_Ground]:
    with Site() as site:
        gateway = site.gateway("gw", [f"{_GATEWAY}/64"], GROUP_SERVER)
        devices = site.devices("devices", range(1, 13))
        client = site.host("client", ["fd00:1::c1/64"])
        site.ready()
        for device in (*devices.devices, *silent):
            gateway.put_document(f"/scls/{device.name}", device.registration)
        values = {device.uri("/temperature"): 20 + number / 4 for number, device in enumerate(devices.devices)}
        puts = [
            Call("PUT", f"coap://[{device.address}]/temperature", str(value).encode(), 0)
            for device, value in zip(devices.devices, values.values(), strict=True)
        ]
        assert {answer.code for answer in call_aiocoap(client, *puts)} == {"2.01"}
        members = [*values, *(device.uri("/temperature") for device in silent)]
        gateway.put_document("/groups/all", {"members": members})
        wait_until(lambda: _joined(gateway) >= set(values), 60, "the joins")
        yield _Ground(site, gateway, client, values)


def _joined(gateway: Gateway) -> set[str]:
    state = gateway.get("/groups/all/members?state").json()["state"]
    assert isinstance(state, dict)
    return {uri for uri, known in state.items() if known["join"] in ("joined", "proven")}


class FormTests(SynchronousTestCase):
    """Twelve thermometers."""

    skip = skip_reason("tcpdump", "curl", "coap-client-notls")

    def test_coap_callers(self) -> None:
        """A joined answer of several blocks, CBOR unasked, costs aiocoap and libcoap one request to the group; SenML and a figure."""
        with _ground() as ground:
            assert isinstance(ground.gateway.place, Host)
            with Wire(ground.gateway.place) as wire:
                by_aiocoap = ground.aiocoap(_CONTENT)
                by_libcoap = coap_client(ground.client, "get", f"coap://[{_GATEWAY}]{_CONTENT}")
            self.assertEqual((by_aiocoap.code, by_aiocoap.content_format, by_libcoap.code), ("2.05", _RESULTS_CBOR, "2.05"))
            for payload in (by_aiocoap.payload, by_libcoap.payload):
                self.assertGreater(len(payload), 1024, "the answer fits one block: the test shows nothing")
                members = cbor2.loads(payload)["members"]
                self.assertEqual({uri: float(entry["content"]) for uri, entry in members.items()}, ground.values)
            self.assertEqual(len([one for one in wire.from_(_GATEWAY) if one.destination.startswith("ff")]), 2)
            senml = ground.aiocoap(_CONTENT, _SENML_CBOR)
            self.assertEqual((senml.code, senml.content_format), ("2.05", _SENML_CBOR))
            self.assertEqual({record[0]: record[2] for record in cbor2.loads(senml.payload)}, ground.values)
            figure = coap_client(ground.client, "get", f"coap://[{_GATEWAY}]{_CONTENT}?aggregate=max", "-A", "50")
            self.assertEqual(json.loads(figure.payload)["aggregate"], {"function": "max", "value": 22.75, "of": 12, "without": []})
            asked = "aggregate=every&rule=value%20in%2020..22"
            truth = coap_client(ground.client, "get", f"coap://[{_GATEWAY}]{_CONTENT}?{asked}", "-A", "50")
            expected = {"function": "every", "rule": "value in 20..22", "value": False, "of": 12, "without": [], "why": {}}
            self.assertEqual(json.loads(truth.payload)["aggregate"], expected)
            refused = ground.aiocoap(f"{_CONTENT}?aggregate=any&rule=value%20%3D%203")
            self.assertEqual(refused.code, "4.00")
            self.assertIn(b"column 7: two signs compare", refused.payload)

    def test_lines(self) -> None:
        """`curl -N` shows each answer when it is there: all thermometers' while one that is off is still awaited, then the summary."""
        with _ground(_OFF) as ground:
            log = ground.site.folder / "lines"
            sign_in = ["-H", f"Authorization: Bearer {ground.gateway.token}", "-H", "Accept: application/x-ndjson", "-H", "M2M-Deadline: 5"]
            assert isinstance(ground.gateway.place, Host)
            ground.gateway.place.popen(["curl", "-sN", *sign_in, f"http://127.0.0.1:8080{_CONTENT}?aggregate=avg"], log=log)
            wait_until(lambda: len(log.read_text().splitlines()) >= len(ground.values), 30, "the lines")
            self.assertEqual(ground.gateway.metric("m2mapp_group_requests_under_way"), 1)
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            self.assertEqual({line["member"]: float(line["content"]) for line in lines}, ground.values)
            wait_until(lambda: len(log.read_text().splitlines()) > len(ground.values), 30, "the summary")
            summary = json.loads(log.read_text().splitlines()[-1])
            self.assertEqual((summary["silent"], summary["complete"]), ([_OFF.uri("/temperature")], False))
            self.assertEqual(summary["aggregate"], {"function": "avg", "value": 21.375, "of": 12, "without": [_OFF.uri("/temperature")]})

    def test_http_forms(self) -> None:
        """SenML by curl; where one is silent there is none, and curl is told who; state tells since when."""
        with _ground() as ground:
            records = json.loads(ground.curl(_CONTENT, "-H", "Accept: application/senml+json"))
            self.assertEqual({record["n"]: record["v"] for record in records}, ground.values)
            ground.gateway.put_document(f"/scls/{_OFF.name}", _OFF.registration)
            body = json.dumps({"members": [_OFF.uri("/temperature")]})
            self.assertIn(ground.gateway.request("POST", "/groups/all/members", body, "application/json").status, (200, 204))
            refused = json.loads(ground.curl(_CONTENT, "-H", "Accept: application/senml+json", "-H", "M2M-Deadline: 1"))
            self.assertEqual(refused["status"], 406)
            self.assertIn(f"{_OFF.uri('/temperature')} gave none", refused["detail"])
            for function, expected in (("every", None), ("any", True)):
                asked = f"{_CONTENT}?aggregate={function}&rule=value%20>=%2020"
                truth = json.loads(ground.curl(asked, "-H", "M2M-Deadline: 1"))["aggregate"]
                self.assertEqual((truth["value"], truth["of"], truth["without"]), (expected, 12, [_OFF.uri("/temperature")]))
            state = json.loads(ground.curl("/groups/all/members?state"))["state"]
            self.assertEqual({uri: float(known["value"]["content"]) for uri, known in state.items() if known["value"]}, ground.values)
            self.assertEqual({known["value"]["fresh"] for known in state.values() if known["value"]}, {True})
            self.assertEqual([uri for uri, known in state.items() if known["silentSince"]], [_OFF.uri("/temperature")])
