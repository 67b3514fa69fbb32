"""What system tests of operations share: the four nodes of CN 104662858's figure 7, targets that count, what operations tell of themselves.

Responsible for making these and for reading them. Not responsible for what is expected.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.system.namespaces import wait_until
from tests.system.nodes import Gateway, Site
from tests.system.programs import ROOT, START_S, Place, Tables, environment

NODES = {"gscl1": "fd00:1::1", "gscl2": "fd00:1::2", "gscl3": "fd00:1::3", "nscl": "fd00:1::4"}
TARGETS = "fd00:1::c1"


def node_tables(name: str, folder: Path) -> Tables:
    """A node of the house, which knows the others by name and has their tokens."""
    listen = NODES[name].replace(":", r"\:")
    tables: dict[str, Mapping[str, object]] = {
        "node": {"name": name, "state_dir": str(folder / f"{name}-state")},
        "http": {"listen": [f"tcp6:80:interface={listen}", "tcp:8080:interface=127.0.0.1"]},
        "coap": {"listen": [f"[{NODES[name]}]:5683"], "interfaces": ["eth0"]},
        "coap.access": {"write": ["link"]},
        "groups": {},
        "triggers": {},
    }
    for other, address in NODES.items():
        if other != name:
            tables[f"peers.{other}"] = {"uri": f"http://[{address}]", "token_file": str(folder / f"{other}-state" / "admin.token")}
    return tables


class House:
    """The four nodes, each a process in a host of its own, with the resources that the example names; and targets that count."""

    def __init__(self, site: Site) -> None:
        self.nodes = {name: site.gateway(name, [f"{address}/64"], node_tables(name, site.folder)) for name, address in NODES.items()}
        self.hosts = {name: site.lab_host(name) for name in NODES}
        self.targets = Targets(site.host("targets", [f"{TARGETS}/64"]), site.folder, TARGETS, 80, 5683)
        site.ready()
        self.targets.ready()
        for name, path, content in (
            ("gscl1", "/temperature", "20"),
            ("gscl1", "/bedroomWindowStatus", "Closed"),
            ("gscl1", "/livingroomWindowStatus", "Closed"),
            ("gscl2", "/airCondition", "OFF"),
            ("gscl2", "/allWindowStatus", "Closed"),
            ("gscl3", "/window", "ON"),
            ("gscl3", "/OFF", "OFF"),
            ("nscl", "/hostLocation", "away"),
        ):
            self.nodes[name].put(path, content)

    def __getitem__(self, name: str) -> Gateway:
        return self.nodes[name]

    def content(self, name: str, path: str) -> str:
        """What a resource of a node holds."""
        return self[name].get(path).body.decode()


@dataclass(frozen=True)
class Taken:
    """A request that a target got."""

    scheme: str
    method: str
    path: str
    trace: str
    payload: str


class Targets:
    """`targets_child` in a place, and what it was asked."""

    def __init__(self, place: Place, folder: Path, address: str, http_port: int, coap_port: int) -> None:
        host = f"[{address}]" if ":" in address else address
        self.http, self.coap = f"http://{host}:{http_port}", f"coap://{host}:{coap_port}/t"
        self._log = folder / "targets.log"
        command = [sys.executable, "-m", "tests.system.targets_child", address, str(http_port), str(coap_port)]
        place.popen(command, env=environment(), cwd=ROOT, log=self._log)

    def ready(self) -> None:
        """Wait until it serves."""
        wait_until(lambda: "serving" in self._log.read_text(), START_S, "the targets")

    def taken(self, path: str = "") -> list[Taken]:
        """The requests that came so far, in their order; of one path where it is named."""
        lines = [line.split(" ", 4) for line in self._log.read_text().splitlines() if line.startswith(("http ", "coap "))]
        return [one for one in (Taken(*(*line, "", "")[:5]) for line in lines if len(line) >= 4) if not path or one.path == path]


def operate(gateway: Gateway, subject: str, operation: Mapping[str, object], *dependencies: Mapping[str, object]) -> str:
    """Make an operation, and its dependencies one by one, as a program of others would; its path."""
    path = f"{subject}/Operations"
    made = gateway.request("POST", path, json.dumps(operation), "application/json")
    assert made.status == 201, made
    path = f"{path}/{operation['name']}"
    for one in dependencies:
        reply = gateway.request("POST", f"{path}/Dependencies", json.dumps(one), "application/json")
        assert reply.status == 201, reply
    return path


def runs(gateway: Gateway, path: str) -> list[dict[str, object]]:
    """The latest runs of an operation, the newest first."""
    found = gateway.get(f"{path}/runs?limit=200").json()["runs"]
    assert isinstance(found, list)
    return found


def last(gateway: Gateway, path: str) -> dict[str, object]:
    """The last evaluation of an operation; empty before the first."""
    found = gateway.get(path).json().get("lastEvaluation")
    return found if isinstance(found, dict) else {}


def settled(gateway: Gateway, timeout_s: float = 30.0) -> None:
    """Wait until no change waits for its operations."""
    wait_until(lambda: gateway.metric("m2mapp_operations_waiting") == 0, timeout_s, f"{gateway.name} to deal with its changes")


def lines(evaluation: Mapping[str, object]) -> list[tuple[object, ...]]:
    """The steps of an evaluation: which it is, its name or what was sent where, and whether its rule holds or what came back."""
    steps = evaluation["steps"]
    assert isinstance(steps, list)
    told: list[tuple[object, ...]] = []
    for step in steps:
        sent, got = step.get("sent") or {}, step.get("got") or {}
        if step["step"] in ("rule", "dependency"):
            told.append((step["step"], step.get("name", ""), step["holds"], got.get("content")))
        else:
            told.append((step["step"], sent.get("method"), sent.get("uri"), sent.get("content"), got.get("status")))
    return told
