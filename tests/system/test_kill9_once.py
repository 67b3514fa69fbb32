"""`kill -9` while writes with identifiers are under way: asked again after the restart, each is done once and has the same answer."""

from __future__ import annotations

import http.client
import random
import threading

from twisted.trial.unittest import SynchronousTestCase

from tests.system.http_calls import Caller, Reply
from tests.system.nodes import SMOKE, Gateway, Site

_KILLS = 3 if SMOKE else 20
_LONGEST_S = 0.3
"""The latest instant of a kill after the writer began."""


class _Writer(threading.Thread):
    """One client that posts line after line to a log, each with an identifier of its own, until its connection breaks."""

    def __init__(self, gateway: Gateway, first: int) -> None:
        super().__init__()
        self.answers: dict[int, str | None] = {}
        self._gateway, self._next = gateway, first

    def run(self) -> None:
        """Post, as fast as answers come."""
        try:
            with self._gateway.caller() as caller:
                while True:
                    number, self._next = self._next, self._next + 1
                    self.answers[number] = None
                    self.answers[number] = _post(caller, number).headers["location"]
        except (OSError, http.client.HTTPException):
            pass  # It was killed.


def _post(caller: Caller, number: int) -> Reply:
    return caller.request("POST", "/log", str(number), "text/plain", {"M2M-Request-Id": f"{number:016x}"})


class KillTests(SynchronousTestCase):
    def test_asked_again(self) -> None:
        """Every write, answered or not, is asked for again after each kill: those answered get their answer, and none is there twice."""
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        asked = 0
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw", {"coap": {"listen": ["127.0.0.1:0"], "interfaces": ["lo"]}})
            gateway.start()
            self.assertEqual(gateway.put("/log/first", "begun").status, 201)
            for _ in range(_KILLS):
                writer = _Writer(gateway, asked)
                writer.start()
                threading.Event().wait(chance.uniform(0.05, _LONGEST_S))
                gateway.kill()
                writer.join(60)
                self.assertFalse(writer.is_alive(), "the writer did not notice the kill")
                gateway.start()
                asked += len(writer.answers)
                with gateway.caller() as caller:
                    for number, location in writer.answers.items():
                        again = _post(caller, number)
                        self.assertEqual(again.status, 201)
                        self.assertIn(location, (None, again.headers["location"]), f"seed {seed}")
            children: list[str] = []
            while True:
                after = f"&after={children[-1]}" if children else ""
                page = gateway.get(f"/log?limit=1000{after}").json()["children"]
                assert isinstance(page, list)
                if not page:
                    break
                children += [str(child["name"]) for child in page]
            self.assertEqual(len(children), asked + 1)
        self.assertGreater(asked, _KILLS)
