"""How the benchmarks' figures are told: rows with our figure, the peer's in the same run, and the ratio."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of ours beside a peer's."""

    what: str
    ours: float
    peer: str
    theirs: float | None
    ratio: float | None
    note: str = ""


def figure(value: float | None) -> str:
    """A number with three digits that count."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | ours | peer | the peer's | ratio | note |", "|---|---:|---|---:|---:|---|"]
    for row in rows:
        cells = (row.what, figure(row.ours), row.peer, figure(row.theirs), "" if row.ratio is None else f"{row.ratio:.2f}", row.note)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """The machine that the figures are of, in a line."""
    model, cores = "processor of an unknown model", 0
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        cores += name.strip() == "processor"
    memory = next(line for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines() if line.startswith("MemTotal"))
    gigabytes = int(memory.split()[1]) / (1 << 20)
    return f"{model}, {cores} cores, {gigabytes:.0f} GiB; Linux {platform.release()}; Python {platform.python_version()}"
