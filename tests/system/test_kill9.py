"""`kill -9` of the whole program at random instants under concurrent HTTP writes: nothing answered is lost, nothing is half there.

Each writer has a connection and resources of its own, and at most one write under way: what it may find after a kill is then known.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.trial.unittest import SynchronousTestCase

from tests.system.http_calls import Caller
from tests.system.nodes import SMOKE, Gateway, Site

_KILLS = 5 if SMOKE else 60
_WRITERS = 8
_LONGEST_S = 0.8
"""The latest instant of a kill after the writers began."""
_COUNTERS = 4
_SPARED = 20
"""So many of the latest composite writes are looked at after each kill; all of them at the end."""

_Check = Callable[[Caller], str | None]
"""Looks whether a write is whole, or wholly absent where it may be: what is wrong, or None."""


@dataclass
class _Writer:
    """One client. `run` writes until its connection breaks; `faults` compares what it was answered with what is there."""

    number: int
    seed: int
    counters: dict[str, int] = field(default_factory=dict)
    """The last value of each resource that is overwritten again and again, of those that were answered."""
    pending: tuple[str, int] | None = None
    composites: list[_Check] = field(default_factory=list)
    answered: int = 0
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed * 1000 + self.number)
        self._made = 0

    def run(self, gateway: Gateway) -> None:
        """Write, as fast as answers come."""
        try:
            with gateway.caller() as caller:
                while not self.trouble:
                    self._step(caller)
        except (OSError, http.client.HTTPException):
            pass  # It was killed.

    def _step(self, caller: Caller) -> None:
        kind = self._chance.random()
        if kind < 0.6:
            self._count(caller)
        elif kind < 0.8:
            self._make_deep(caller)
        elif kind < 0.9:
            self._make_group(caller)
        else:
            self._remove(caller)

    def _count(self, caller: Caller) -> None:
        """A content resource that is written again and again."""
        path = f"/w/{self.number}/counter{self._chance.randrange(_COUNTERS)}"
        value = max(self.counters.get(path, 0), self.pending[1] if self.pending and self.pending[0] == path else 0) + 1
        self.pending = (path, value)
        self._expect(caller.request("PUT", path, str(value), "text/plain").status, {201, 204}, path)
        self.counters[path] = value
        self.pending = None

    def _make_deep(self, caller: Caller) -> None:
        """One write that makes four resources: three collections and the content in them."""
        top = self._name("deep")
        outcome = self._begin(lambda caller, answered: _whole_or_absent(caller, answered, top, f"{top}/b/c/value", top))
        self._expect(caller.request("PUT", f"{top}/b/c/value", top, "text/plain").status, {201}, top)
        outcome.set()

    def _make_group(self, caller: Caller) -> None:
        """One write that makes a group and its fan-out sets, one for each member."""
        path = f"/groups/w{self.number}-{self._number()}"
        members = [f"coap://{name}.example.org{path}" for name in ("d1", "d2", "d3")]
        outcome = self._begin(lambda caller, answered: _group_fault(caller, answered, path, members))
        body = json.dumps({"members": members})
        self._expect(caller.request("PUT", path, body, "application/json").status, {201}, path)
        outcome.set()

    def _remove(self, caller: Caller) -> None:
        """One write that removes a collection with what is in it."""
        top = self._name("gone")
        inner = [f"{top}/{name}" for name in ("a", "b/c")]
        for path in inner:
            self._expect(caller.request("PUT", path, "x", "text/plain").status, {201}, path)
        outcome = self._begin(lambda caller, answered: _removal_fault(caller, answered, top, inner))
        self._expect(caller.request("DELETE", top).status, {204}, top)
        outcome.set()

    def _begin(self, check: Callable[[Caller, bool], str | None]) -> threading.Event:
        """A composite write begins; set what is returned once it is answered."""
        answered = threading.Event()
        self.composites.append(lambda caller: check(caller, answered.is_set()))
        return answered

    def _expect(self, status: int, wanted: set[int], path: str) -> None:
        if status not in wanted:
            self.trouble.append(f"{path}: {status}, not {wanted}")
        self.answered += 1

    def _number(self) -> int:
        self._made += 1
        return self._made

    def _name(self, kind: str) -> str:
        return f"/w/{self.number}/{kind}{self._number()}"

    def faults(self, caller: Caller, latest: int | None) -> list[str]:
        """What is not as it was answered. What was under way at the kill may be done or not, and is settled by this look."""
        found = [*self.trouble]
        for path in {*self.counters, *([self.pending[0]] if self.pending else [])}:
            reply = caller.request("GET", path)
            value = int(reply.body) if reply.status == 200 else 0
            allowed = {self.counters.get(path, 0)}
            if self.pending is not None and self.pending[0] == path:
                allowed.add(self.pending[1])
            if value not in allowed:
                found.append(f"{path} is {value}, not one of {allowed}")
            elif value:
                self.counters[path] = value
        self.pending = None
        found += [fault for check in (self.composites if latest is None else self.composites[-latest:]) if (fault := check(caller))]
        return found


def _whole_or_absent(caller: Caller, answered: bool, top: str, leaf: str, content: str) -> str | None:
    above, below = caller.request("GET", top), caller.request("GET", leaf)
    if (above.status, below.status) == (200, 200):
        return None if below.body.decode() == content else f"{leaf} is {below.body!r}"
    if (above.status, below.status) == (404, 404) and not answered:
        return None
    return f"{leaf}, answered {answered}: {top} gives {above.status}, {leaf} gives {below.status}"


def _group_fault(caller: Caller, answered: bool, path: str, members: list[str]) -> str | None:
    reply = caller.request("GET", path)
    if reply.status == 404:
        return f"{path} was answered and is not there" if answered else None
    document = reply.json()
    sets = document["fanoutSets"]
    assert isinstance(sets, list)
    planned = sorted(uri for one in sets for uri in one["memberList"])
    return None if document["members"] == members and planned == sorted(members) else f"{path} is half there: {document}"


def _removal_fault(caller: Caller, answered: bool, top: str, inner: list[str]) -> str | None:
    statuses = [caller.request("GET", path).status for path in (top, *inner)]
    if set(statuses) == {404} or (set(statuses) == {200} and not answered):
        return None
    return f"the removal of {top}, answered {answered}, left {statuses}"


class KillTests(SynchronousTestCase):
    def test_killed_under_writes(self) -> None:
        """After each of many kills every answered write is there, an unanswered one whole or not at all, and the tree takes writes."""
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        writers = [_Writer(number, seed) for number in range(_WRITERS)]
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw", {"coap": {"listen": ["127.0.0.1:0"], "interfaces": ["lo"]}, "groups": {}})
            for kill in range(_KILLS):
                gateway.start()
                self.check(gateway, writers, _SPARED, f"seed {seed}, after {kill} kills")
                threads = [threading.Thread(target=writer.run, args=(gateway,)) for writer in writers]
                for thread in threads:
                    thread.start()
                threading.Event().wait(chance.uniform(0.0, _LONGEST_S))
                gateway.kill()
                for thread in threads:
                    thread.join(60)
                    self.assertFalse(thread.is_alive(), "a writer did not notice the kill")
            gateway.start()
            self.check(gateway, writers, None, f"seed {seed}, at the end")
        answered = sum(writer.answered for writer in writers)
        print(f"{_KILLS} kills, {answered} writes answered")
        self.assertGreater(answered, 10 * _KILLS)

    def check(self, gateway: Gateway, writers: list[_Writer], latest: int | None, when: str) -> None:
        """Nothing is missing."""
        with gateway.caller() as caller:
            self.assertEqual([fault for writer in writers for fault in writer.faults(caller, latest)], [], when)
