"""A real gateway under a million messages, honest and mutated, over real sockets: nothing fails, memory stays, others are served."""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import socket
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation import seeds
from tests.system.flood import Flood, resident_bytes
from tests.system.nodes import SMOKE, Gateway, Site
from tests.unit.coap.allowed import Judge
from tests.unit.coap.fakes import vectors
from tests.unit.coap.mutations import Mutations

_SOAK = os.environ.get("M2MAPP_SOAK") == "1"
_MESSAGES = 1_000_000 if _SOAK else 20_000 if SMOKE else 200_000
_MUTATIONS = 100_000 if _SOAK else 3_000 if SMOKE else 20_000
_SOURCES = 1_000
_GROWTH_BYTES = 50_000_000
_GROUP = "224.0.1.187"
_BURST = 50
_QUIET_S = 0.01
_FAILURES = ("m2mapp_coap_failed_total", "m2mapp_net_receiver_errors_total", "m2mapp_net_datagrams_lost_total")


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))  # noqa: S104 - what the gateway is to have
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _gateway() -> Iterator[tuple[Gateway, int]]:
    """A gateway that whoever is on the loopback may use, and its CoAP port."""
    with Site(namespaces=False) as site:
        port = _free_udp_port()
        loopback = ["127.0.0.0/8"]
        access = dict.fromkeys(("read", "register", "advertise", "write"), loopback)
        coap = {"listen": [f"0.0.0.0:{port}"], "interfaces": ["lo"]}
        gateway = site.gateway_here("gw", {"coap": coap, "coap.access": access, "groups": {"deadline_s": 2}, "member": {}})
        gateway.start()
        gateway.put("/temperature", "21.5")
        gateway.put("/large", "x" * 5000)
        gateway.put_document("/mcGroups/all", {"mcAddress": _GROUP, "memberList": ["/"]})
        yield gateway, port


class HostileTests(SynchronousTestCase):
    """A whole process."""

    def test_mutations(self) -> None:
        """Mutations of real datagrams, also to a group: what comes back is allowed, nothing fails, and libcoap's client is served then."""
        if shutil.which("coap-client-notls") is None:
            self.skipTest("not installed: coap-client-notls")
        seed = next(iter(seeds(1)))
        mutations = Mutations(random.Random(seed), list(vectors().values()))
        with _gateway() as (gateway, port), _Hosts(port) as hosts:
            for _ in range(_MUTATIONS // _BURST):
                for number in range(_BURST):
                    hosts.send(mutations.next(), to_group=number % 5 == 0)
                hosts.hear()
            self.assertEqual(hosts.forbidden, [], f"M2MAPP_SEED={seed}")
            self.assertGreater(hosts.heard, _MUTATIONS // 10)
            self.check_well(gateway, port)

    def test_memory(self) -> None:
        """Requests of a thousand sources: all are answered, and the process is at most 50 MB larger afterwards."""
        with _gateway() as (gateway, port), Flood(("127.0.0.1", port), _SOURCES) as flood:
            flood.run(_SOURCES)
            before = resident_bytes(gateway.process.pid)
            flooded = flood.run(_MESSAGES)
            grown = resident_bytes(gateway.process.pid) - before
            print(f"{flooded}, {grown / 1e6:.1f} MB more than {before / 1e6:.1f}")
            self.assertEqual((flooded.answers, flooded.lost), (_MESSAGES, 0))
            self.assertLess(grown, _GROWTH_BYTES)
            self.check_well(gateway, port)

    def check_well(self, gateway: Gateway, port: int) -> None:
        """It counts no failure, has logged none, and serves."""
        self.assertEqual([gateway.metric(name) for name in _FAILURES], [0.0] * len(_FAILURES))
        self.assertNotIn("Traceback", gateway.log)
        gateway.put("/good", "served")
        answer = gateway.place.run(["coap-client-notls", "-B", "10", "-m", "get", f"coap://127.0.0.1:{port}/good"])
        self.assertEqual(answer.stdout.strip(), "served", answer.stderr)


class _Hosts:
    """Sockets of some loopback addresses that send what is hostile. Use it in a `with`."""

    def __init__(self, port: int) -> None:
        self.judge = Judge()
        self.forbidden: list[str] = []
        self.heard = 0
        self._port = port
        self._poller = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._rng = random.Random(1)

    def __enter__(self) -> _Hosts:
        for number in range(1, 17):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._sockets[one.fileno()] = one
            one.bind((f"127.0.9.{number}", 0))
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            self._poller.register(one, select.EPOLLIN)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._poller.close()
        for one in self._sockets.values():
            one.close()

    def send(self, data: bytes, *, to_group: bool) -> None:
        """Send from one of them."""
        number, one = self._rng.choice(list(self._sockets.items()))
        self.judge.sent(number, data, to_group=to_group)
        one.sendto(data, (_GROUP if to_group else "127.0.0.1", self._port))

    def hear(self) -> None:
        """Judge what has come, until nothing comes for a while. What comes later, from the leisure of groups, is heard then."""
        while ready := self._poller.poll(_QUIET_S):
            for number, _ in ready:
                data = self._sockets[number].recv(2048)
                self.heard += 1
                reason = self.judge.got(number, data)
                if reason:
                    self.forbidden.append(f"{data.hex()}: {reason}")
