"""Members that are killed in the middle of a group read: the read ends, says who is silent, has all the others, and the gateway lives."""

from __future__ import annotations

import contextlib
import http.client
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.http_calls import Reply
from tests.system.namespaces import skip_reason, wait_until
from tests.system.nodes import SMOKE, Device, Devices, Gateway, Site
from tests.system.programs import STOPPED

_SKIP = skip_reason()
_PATH = "/temperature"


@dataclass
class _Read:
    """A group read that another thread waits for."""

    gateway: Gateway
    deadline_s: float
    replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        # A connection that is closed without an answer: `replies` stays empty, and `result` says so.
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.replies.append(self.gateway.get("/groups/all/membersContent", M2M_Deadline=str(self.deadline_s)))

    def end(self) -> list[Reply]:
        """The answer, when it has come; nothing where the connection was closed instead."""
        self._thread.join(60)
        assert not self._thread.is_alive(), "the group read does not end"
        return self.replies

    def result(self) -> Reply:
        """The answer, when it has come."""
        (reply,) = self.end()
        return reply


@contextlib.contextmanager
def _two_hosts(leisure_s: float | None = None) -> Iterator[tuple[Gateway, Devices, Devices]]:
    """A gateway with a group of ten devices, which are two processes in two hosts; all have joined."""
    with Site() as site:
        gateway = site.gateway("gw", ["fd00:1::1/64"])
        stay = site.devices("stay", range(1, 6))
        go = site.devices("go", range(6, 11))
        devices = (*stay.devices, *go.devices)
        site.ready()
        for device in devices:
            gateway.put_document(f"/scls/{device.name}", device.registration)
        puts = [Call("PUT", f"coap://[{device.address}]{_PATH}", device.name.encode(), 0) for device in devices]
        assert {answer.code for answer in call_aiocoap(gateway.place, *puts)} == {"2.01"}
        leisure = {} if leisure_s is None else {"leisure": leisure_s}
        gateway.put_document("/groups/all", {"members": [device.uri(_PATH) for device in devices], **leisure})
        wait_until(lambda: gateway.get("/groups/all").json()["state"] == "ready", 60, "the joins")
        yield gateway, stay, go


def _uris(devices: tuple[Device, ...]) -> set[str]:
    return {device.uri(_PATH) for device in devices}


class MemberKilledTests(SynchronousTestCase):
    skip = _SKIP

    def check(self, reply: Reply, stay: Devices, go: Devices) -> set[str]:
        """The answer has those that stayed, with their values, and each of the others either with its value or as silent."""
        self.assertEqual(reply.status, 200, reply)
        document = reply.json()
        members, silent = dict(document["members"]), set(document["silent"])  # type: ignore[call-overload]
        values = {device.uri(_PATH): device.name for device in (*stay.devices, *go.devices)}
        self.assertEqual({uri: entry["content"] for uri, entry in members.items()}, {uri: values[uri] for uri in members})
        self.assertEqual(members.keys() | silent, values.keys())
        self.assertEqual(members.keys() & silent, set())
        self.assertLessEqual(silent, _uris(go.devices))
        self.assertEqual(document["complete"], not silent)
        return {str(uri) for uri in silent}

    def test_stopped_then_killed(self) -> None:
        """Devices that hang when the request comes, and are killed while it is under way, are silent; when all are dead it is a 504."""
        with _two_hosts() as (gateway, stay, go):
            go.signal(signal.SIGSTOP)
            read = _Read(gateway, 4.0)
            wait_until(lambda: gateway.metric("m2mapp_group_requests_under_way") == 1, what="the request to be under way")
            go.kill()
            self.assertEqual(self.check(read.result(), stay, go), _uris(go.devices))
            self.assertEqual(gateway.metric("m2mapp_group_requests_under_way"), 0)
            stay.kill()
            reply = gateway.get("/groups/all/membersContent", M2M_Deadline="2")
            self.assertEqual((reply.status, reply.json()["type"]), (504, "urn:m2mapp:problem:deadline-passed"))
            stay.start()
            go.start()
            self.assertEqual(self.check(gateway.get("/groups/all/membersContent", M2M_Deadline="20"), stay, go), set())

    def test_killed_while_answering(self) -> None:
        """Devices that are killed at a random instant of their leisure time: who had answered is there, the others are silent."""
        if SMOKE:
            self.skipTest("random instants are for the full run")
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        with _two_hosts(leisure_s=1.0) as (gateway, stay, go):
            for _ in range(10):
                read = _Read(gateway, 4.0)
                threading.Event().wait(chance.uniform(0.0, 1.5))
                go.kill()
                self.check(read.result(), stay, go)
                go.start()
                self.assertEqual(self.check(gateway.get("/groups/all/membersContent", M2M_Deadline="20"), stay, go), set())

    def test_gateway_stopped_meanwhile(self) -> None:
        """A gateway that is asked to end while a group read is under way does, and the caller gets what came so far."""
        with _two_hosts() as (gateway, stay, go):
            go.signal(signal.SIGSTOP)
            read = _Read(gateway, 120.0)
            wait_until(lambda: gateway.metric("m2mapp_group_requests_under_way") == 1, what="the request to be under way")
            self.assertIn(gateway.stop(), STOPPED, gateway.log)
            self.assertEqual(self.check(read.result(), stay, go), _uris(go.devices))
            go.signal(signal.SIGCONT)
            gateway.start()
            self.assertEqual(self.check(gateway.get("/groups/all/membersContent", M2M_Deadline="20"), stay, go), set())
