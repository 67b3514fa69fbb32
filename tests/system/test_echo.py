"""Echo (RFC 9175) with programs by others: clients beyond the link that know it and that do not, and a server that wants it of us."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.libcoap import coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import GROUP_SERVER, Gateway, Site
from tests.system.pcap import Wire
from tests.system.programs import ROOT, Tables

_GATEWAY, _FAR, _DEVICE = "fd00:1::1", "fd00:2::c1", "fd00:1::d1"
_AT = f"coap://[{_GATEWAY}]"
_LARGE = bytes(range(256)) * 20


@contextlib.contextmanager
def _far_host(unproven: str) -> Iterator[tuple[Site, Gateway, Host]]:
    """A gateway, and a host that reaches it from a prefix that is not on the gateway's link and may read."""
    tables: Tables = {
        "coap": {**GROUP_SERVER["coap"], "unproven": unproven},
        "coap.access": {"read": ["link", "fd00:2::/64"], "write": ["fd00:2::/64"]},
    }
    with Site() as site:
        gateway = site.gateway("gw", [f"{_GATEWAY}/64"], tables)
        far = site.host("far", [f"{_FAR}/64"])
        site.lab_host("gw").ip("-6", "route", "add", "fd00:2::/64", "dev", "eth0")
        far.ip("-6", "route", "add", "fd00:1::/64", "dev", "eth0")
        site.ready()
        gateway.put("/large", _LARGE, "application/octet-stream")
        yield site, gateway, far


class ClientTests(SynchronousTestCase):
    """Clients that are not on the gateway's link."""

    skip = skip_reason("coap-client-notls", "tcpdump")

    def test_asked_for_echo(self) -> None:
        """The client of libcoap repeats with the Echo and reads all; aiocoap's, which does not, is told 4.01 with the reason."""
        with _far_host("echo") as (_, gateway, far):
            with Wire(gateway.place) as wire:  # type: ignore[arg-type]
                read = coap_client(far, "get", _AT + "/large")
            self.assertEqual((read.code, read.payload), ("2.05", _LARGE))
            first = wire.from_(_GATEWAY)[0].payload
            self.assertEqual(first[1] >> 5, 4)
            self.assertLess(len(first) + 48, 3 * (len(wire.to(_GATEWAY)[0].payload) + 48))
            written = coap_client(far, "put", _AT + "/up", "-t", "42", "-b", "256", payload=_LARGE)
            self.assertEqual(written.code, "2.01")
            large, small = call_aiocoap(far, Call("GET", _AT + "/large"), Call("GET", _AT + "/.well-known/core?rt=none"))
            self.assertEqual((large.code, small.code), ("4.01", "2.05"))
            self.assertTrue(large.text.startswith("repeat this with the Echo"), large.text)

    def test_small_blocks(self) -> None:
        """With `unproven = "blocks"` aiocoap's client reads all of it too, and nothing that goes to it is three times what it sent."""
        with _far_host("blocks") as (_, gateway, far):
            with Wire(gateway.place) as wire:  # type: ignore[arg-type]
                (read,) = call_aiocoap(far, Call("GET", _AT + "/large"))
            self.assertEqual((read.code, read.payload), ("2.05", _LARGE))
            sent, received = wire.from_(_GATEWAY), wire.from_(_FAR)
            self.assertEqual(len(sent), len(received))
            self.assertLessEqual(max(len(one.payload) for one in sent) + 48, 3 * (min(len(one.payload) for one in received) + 48))
            self.assertEqual(coap_client(far, "get", _AT + "/large").payload, _LARGE)


class ServerTests(SynchronousTestCase):
    """A server that wants Echo of this program."""

    skip = skip_reason("tcpdump")

    def test_a_member_that_wants_echo(self) -> None:
        """A member of a group, served by aiocoap, answers the gateway, which repeats its request with the Echo."""
        with Site() as site:
            gateway = site.gateway("gw", [f"{_GATEWAY}/64"])
            device = site.host("device", [f"{_DEVICE}/64"])
            log = site.folder / "device.log"
            device.popen(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.system.echo_child", _DEVICE], log=log)
            site.ready()
            wait_until(lambda: log.exists() and "ready" in log.read_text(), 30, "aiocoap's server")
            uri = f"coap://[{_DEVICE}]/temperature"
            gateway.put_document("/groups/one", {"members": [uri]})
            wait_until(lambda: gateway.get("/groups/one").json()["state"] == "ready", 30, "the plan")
            results = json.loads(gateway.get("/groups/one/membersContent").body)
            found = results["members"][uri]
            self.assertEqual((found["status"], found["content"]), ("2.05", "21.5"))
            self.assertEqual(log.read_text().split(), ["ready", "none", b"shown".hex()])
