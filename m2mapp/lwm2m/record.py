"""The record of a device's last bootstrap: the resource `/devices/<endpoint>`, with each step and its time.

Responsible for the document. Pure. A device that was never bootstrapped has none; a request that was refused leaves none, since
anybody may send one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from m2mapp.formats.documents import rfc3339
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Write

DEVICES: Path = ("devices",)
DEVICE: Final = "device"
STATE: Final = "state"
BOOTSTRAPPED_AT: Final = "bootstrappedAt"
REQUESTED: Final = "bootstrap requested"
FINISH: Final = "POST /bs"
"""The step's name, as `bootstrap.Ask.name` has it."""
BOOTSTRAPPING, BOOTSTRAPPED, FAILED = "bootstrapping", "bootstrapped", "failed"


def _not_written(name: str, _: Document) -> Document:
    raise MethodNotAllowed("PUT", path_text((*DEVICES, name)), ("DELETE", "GET"))


DEVICE_TYPE: Final = ResourceType(DEVICE, (*DEVICES, "*"), _not_written, methods=frozenset({Method.GET, Method.DELETE}))


@dataclass(slots=True)
class Record:
    """One bootstrap of one device while it goes on. `before` is the time of the last one that went well; times are in milliseconds."""

    endpoint: str
    address: str
    port: int
    principal: str
    plan: str
    before: object = None
    steps: list[Mapping[str, object]] = field(default_factory=list)

    def add(self, step: str, at_ms: int, **more: object) -> None:
        """One step was done; `more` says how it ended."""
        self.steps.append({"step": step, "at": rfc3339(at_ms), **more})

    def write(self, state: str, why: str = "") -> Write:
        """The resource as it is to be now. `why`: what went wrong."""
        document: dict[str, object] = {
            "endpoint": self.endpoint,
            "address": self.address,
            "port": self.port,
            "principal": self.principal,
            "plan": self.plan,
            STATE: state,
            "steps": list(self.steps),
        }
        at = self.steps[-1]["at"] if state == BOOTSTRAPPED else self.before
        document |= {BOOTSTRAPPED_AT: at} if at is not None else {}
        document |= {"why": why} if why else {}
        return Write((*DEVICES, self.endpoint), DEVICE, document)


def finish_was_lost(document: Mapping[str, object]) -> bool:
    """Whether a bootstrap failed only in that its Finish was not answered: the device may have had it, and be done."""
    steps = document.get("steps")
    last = steps[-1] if isinstance(steps, list) and steps else {}
    return document.get(STATE) == FAILED and last.get("step") == FINISH and "code" not in last


def interrupted(name: str, document: Document) -> Write:
    """The record of a bootstrap that was going on when this node stopped."""
    why = "the server was started again while it went on"
    return Write((*DEVICES, name), DEVICE, {**document, STATE: FAILED, "why": why})
