"""A gateway that notes how long the garbage collector stops it: `python -m tests.bench.watched FILE ARGUMENTS`, those of twistd.

The file has one line, written anew after each collection but those of the youngest generation: of each generation the collections, the
objects in cycles that were found and freed, and the longest pause in milliseconds of processor time, for on a shared machine the time
by the clock has the turns of others in it.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Pauses:
    """What the collector did, by generation."""

    collections: list[int] = field(default_factory=lambda: [0, 0, 0])
    collected: list[int] = field(default_factory=lambda: [0, 0, 0])
    longest_ms: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])


def watch(file: Path) -> None:
    """Note every collection from now on."""
    pauses = Pauses()
    began = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.thread_time()
            return
        took_ms, generation = (time.thread_time() - began) * 1000, info["generation"]
        pauses.collections[generation] += 1
        pauses.collected[generation] += info["collected"]
        pauses.longest_ms[generation] = max(took_ms, pauses.longest_ms[generation])
        if generation:
            file.write_text(json.dumps(asdict(pauses)), encoding="ascii")

    gc.callbacks.append(note)


if __name__ == "__main__":
    watch(Path(sys.argv.pop(1)))
    from twisted.scripts.twistd import run

    run()
