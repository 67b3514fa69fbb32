"""`kill -9` while operations run: what the targets were asked agrees with the records, and what must not be done twice is not."""

from __future__ import annotations

import http.client
import os
import random
import threading
from collections import Counter
from dataclasses import dataclass, field

from twisted.trial.unittest import SynchronousTestCase

from tests.system.namespaces import wait_until
from tests.system.nodes import Gateway, Site
from tests.system.operating import Targets, operate, runs
from tests.system.programs import free_port

_KILLS = 100 if os.environ.get("M2MAPP_SOAK") == "1" else 10
_LONGEST_S = 0.4
"""The latest instant of a kill after the writer began."""
_PAUSE_S = 0.04
"""Between two writes: what they set off takes somewhat longer, so that changes wait, but fewer than a node keeps records of."""
_SUBJECT = "/temperature"


class _Writer(threading.Thread):
    """One client that writes the subject again and again, each time with a trace of its own, until its connection breaks."""

    def __init__(self, gateway: Gateway, first: int) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.answered: list[str] = []
        self._gateway, self._next = gateway, first

    def run(self) -> None:
        """Write."""
        try:
            with self._gateway.caller() as caller:
                while True:
                    self._next += 1
                    trace = f"{self._next:032x}"
                    self.sent.append(trace)
                    headers = {"traceparent": f"00-{trace}-{trace[16:]}-01"}
                    assert caller.request("PUT", _SUBJECT, str(self._next), "text/plain", headers).status == 204
                    self.answered.append(trace)
                    threading.Event().wait(_PAUSE_S)
        except (OSError, http.client.HTTPException):
            pass  # It was killed.


@dataclass
class _Records:
    """What an operation tells of its runs, gathered over all restarts: outcomes by the trace of the change."""

    path: str
    by_number: dict[str, tuple[str, str]] = field(default_factory=dict)

    def gather(self, gateway: Gateway) -> None:
        """Take over what is told now. Raises `AssertionError` where something else was told of a change before."""
        for run in runs(gateway, self.path):
            told = (str(run["trace"]), str(run["outcome"]))
            assert self.by_number.setdefault(str(run["id"]), told) == told, (self.path, run, self.by_number[str(run["id"])])

    def outcomes(self) -> dict[str, list[str]]:
        """By trace."""
        found: dict[str, list[str]] = {}
        for trace, outcome in self.by_number.values():
            found.setdefault(trace, []).append(outcome)
        return found


class KillTests(SynchronousTestCase):
    def test_running_operations(self) -> None:
        """Each answered change is evaluated; an operation that must not be repeated acts once where its record says so, and never twice."""
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        sent: list[str] = []
        answered: list[str] = []
        with Site(namespaces=False) as site:
            targets = Targets(site.here, site.folder, "127.0.0.1", free_port(), free_port())
            gateway = site.gateway_here("gw", {"coap": {"listen": ["127.0.0.1:0"], "interfaces": ["lo"]}, "triggers": {}})
            gateway.start()
            targets.ready()
            gateway.put(_SUBJECT, "0")
            adds, sets, coaps = records = self.operations(gateway, targets)
            for _ in range(_KILLS):
                writer = _Writer(gateway, len(sent))
                writer.start()
                threading.Event().wait(chance.uniform(0.05, _LONGEST_S))
                gateway.kill()
                writer.join(60)
                self.assertFalse(writer.is_alive(), "the writer did not notice the kill")
                sent += writer.sent
                answered += writer.answered
                gateway.start()
                for one in records:
                    one.gather(gateway)
            wait_until(lambda: self.is_settled(gateway, records), 120, "all changes to be dealt with")
            taken = targets.taken()
        self.assertGreater(len(answered), _KILLS)
        added = Counter(one.trace for one in taken if one.path == "/slow" and one.method == "POST")
        self.assertEqual((max(added.values()), set(added) - set(sent)), (1, set()))
        self.check_once(adds, answered, added)
        done = {one.trace for one in taken if one.path == "/slow" and one.method == "PUT"}
        self.assertEqual((set(answered) - done, done - set(sent)), (set(), set()))
        outcomes = sets.outcomes()
        self.assertEqual([outcomes.get(trace) for trace in answered], [["ran"]] * len(answered))
        by_coap = Counter(outcomes[0] for outcomes in coaps.outcomes().values())
        arrived = sum(one.scheme == "coap" for one in taken)
        print(f"{len(answered)} changes answered; interrupted: {Counter(str(one) for one in adds.outcomes().values())}, by CoAP: {by_coap}")
        self.assertLessEqual(set(by_coap), {"ran", "interrupted"})
        self.assertTrue(by_coap["ran"] <= arrived <= by_coap["ran"] + by_coap["interrupted"], (by_coap, arrived))

    def operations(self, gateway: Gateway, targets: Targets) -> tuple[_Records, _Records, _Records]:
        """One by HTTP that must not be repeated, one that may be, one by CoAP that must not be."""
        given = {"rule": "value > 0", "input": "1"}
        slow = f"{targets.http}/slow"
        return (
            _Records(operate(gateway, _SUBJECT, {**given, "name": "Add", "priority": 3, "objectResource": slow, "method": "create"})),
            _Records(operate(gateway, _SUBJECT, {**given, "name": "Set", "priority": 2, "objectResource": slow, "method": "update"})),
            _Records(operate(gateway, _SUBJECT, {**given, "name": "Coap", "objectResource": f"{targets.coap}/add", "method": "create"})),
        )

    def is_settled(self, gateway: Gateway, records: tuple[_Records, ...]) -> bool:
        """Whether no change waits any more. The records are gathered meanwhile, as a node keeps the latest of them only."""
        is_settled = gateway.metric("m2mapp_operations_waiting") == 0
        for one in records:
            one.gather(gateway)
        return is_settled

    def check_once(self, adds: _Records, answered: list[str], added: Counter[str]) -> None:
        """Each answered change has one record: it ran, and acted; or it was interrupted, and acted once or not at all."""
        outcomes = adds.outcomes()
        for trace in answered:
            told = outcomes.get(trace)
            self.assertIn(told, (["ran"], ["interrupted"]), f"{trace}: {told}, acted {added[trace]} times")
        for trace, found in outcomes.items():
            if found == ["ran"]:
                self.assertEqual(added[trace], 1, trace)
        self.assertLessEqual(set(added), set(outcomes))
