"""What the tree costs in memory and time, by its size: `python -m tests.bench.tree`.

Measures `tree` alone, in this process: no disk, no network. Each figure is the best of several rounds, since other work on the
machine only ever adds to it. `measure` gives the figures to whoever puts a report together.
"""

from __future__ import annotations

import gc
import random
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

from m2mapp.model.messages import Method, Request
from m2mapp.model.principal import NODE
from m2mapp.tree.discovery import Discovery
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from m2mapp.tree.unit import COLLECTION, CONTENT, EMPTY, Resource, Unit, Write

SIZES = (1_000, 10_000, 100_000)
_ROUNDS = 7
_SAMPLE = 1_000
_PER_DEVICE = 20
_TEXT = "text/plain;charset=utf-8"


@dataclass(frozen=True, slots=True)
class Figures:
    """One size: bytes a resource in memory; seconds to load all; microseconds for each of the others."""

    resources: int
    bytes_each: float
    load_s: float
    find_us: float
    write_us: float
    page_us: float
    discover_us: float


def made(size: int) -> list[tuple[Resource, None]]:
    """So many resources, twenty to a device, which is a collection; each with a path, a content and times of its own."""
    resources = []
    for number in range(size):
        device, sensor = divmod(number, _PER_DEVICE)
        path = (f"device{device}", f"sensor{sensor}") if sensor else (f"device{device}",)
        kind, content, media_type = (CONTENT, b"%d.5" % (number % 100), _TEXT) if sensor else (COLLECTION, None, None)
        at_ms = 1_800_000_000_000 + number
        resources.append((Resource(path, kind, EMPTY, content, media_type, at_ms, at_ms + 1, number + 1), None))
    return resources


def build(resources: list[tuple[Resource, None]]) -> Tree:
    """A tree that has taken these over, as at a start."""
    tree = Tree(Types().derived, _raise)
    tree.load(resources, len(resources))
    return tree


def _raise(error: Exception) -> None:
    raise error


def _best_us(action: Callable[[], object], count: int) -> float:
    """Microseconds for each of the `count` things that the action does, in the best round."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - began)
    return best / count * 1e6


def _bytes_each(size: int) -> float:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tree = build(made(size))
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / len(tree)


def measure(size: int) -> Figures:
    """The figures of a tree with so many resources: the root has a twentieth of them as children, and is what pages are of."""
    resources = made(size)
    load_us = _best_us(lambda: build(resources), 1)
    tree = build(resources)
    discovery = Discovery(tree, ())
    rules = ResourceRules(tree, Types())
    contents = [resource.path for resource, _ in resources if resource.type == CONTENT]
    paths = random.Random(1).choices(contents, k=_SAMPLE)
    units = [Unit((Write(path, content=b"22.5", media_type=_TEXT),)) for path in paths]
    # Names between the first and the last: behind each there are at least as many as a page shows, but for the smallest tree.
    pages = [Request(Method.GET, (), (("limit", "25"), ("after", f"device{number}")), principal=NODE) for number in range(1, 30)]
    discover = Request(Method.GET, (".well-known", "core"), (("count", "100"),), principal=NODE)

    def find() -> None:
        for path in paths:
            tree.find(path)

    def write() -> None:
        for unit in units:
            staged = tree.stage(unit, 1_800_000_200_000)
            tree.apply(staged)
            tree.tell(staged)

    def page() -> None:
        for request in pages:
            rules.decide(request)

    page()  # The first listing of a large collection puts its names in order.
    return Figures(
        resources=size,
        bytes_each=_bytes_each(size),
        load_s=load_us / 1e6,
        find_us=_best_us(find, _SAMPLE),
        write_us=_best_us(write, _SAMPLE),
        page_us=_best_us(page, len(pages)),
        discover_us=_best_us(lambda: discovery.respond(discover), 1),
    )


def main() -> None:
    """Print one line for each size."""
    print("resources  bytes each   load s   find us  write us  page of 25 us  100 links us")
    for size in SIZES:
        one = measure(size)
        print(
            f"{one.resources:9}  {one.bytes_each:10.0f}  {one.load_s:7.3f}  {one.find_us:8.2f}  {one.write_us:8.1f}"
            f"  {one.page_us:14.0f}  {one.discover_us:12.0f}"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
