"""Runs a test under many seeds, each with its own scheduler and in-memory network; a failure prints its seed and the last traffic.

    class LossTests(SynchronousTestCase):
        @seeded(20)
        def test_all_arrive(self, simulation: Simulation) -> None:
            gateway = simulation.network.attach("gw", {"lan": ["fd00::1/64"]})
            ...

`M2MAPP_SEED=17` runs the one seed 17 of each such test; `M2MAPP_SEEDS=500` runs so many in place of the number given.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import TypeVar
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.net.memory import Network
from m2mapp.net.scheduler import Scheduler

_Case = TypeVar("_Case", bound=SynchronousTestCase)


class Simulation:
    """The ground of one run: the scheduler and the network of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.scheduler = Scheduler(seed)
        self.network = Network(self.scheduler)


def seeds(count: int) -> Iterable[int]:
    """The seeds to run: 1 to `count`, unless the environment says otherwise."""
    if "M2MAPP_SEED" in os.environ:
        return [int(os.environ["M2MAPP_SEED"])]
    return range(1, int(os.environ.get("M2MAPP_SEEDS", count)) + 1)


def seeded(count: int = 5) -> Callable[[Callable[[_Case, Simulation], None]], Callable[[_Case], None]]:
    """Make a test of a function that takes a `Simulation`: it is run under `count` seeds and fails with the first that fails.

    An error that was logged, and that the function did not flush, is a failure of its seed too.
    """

    def decorate(function: Callable[[_Case, Simulation], None]) -> Callable[[_Case], None]:
        def run(case: _Case) -> None:
            for seed in seeds(count):
                _run_one(case, function, Simulation(seed))

        # Not all that functools.wraps does: pytest would look through it for the argument, as a fixture.
        functools.update_wrapper(run, function)
        del run.__wrapped__  # type: ignore[attr-defined]
        return run

    return decorate


def _run_one(case: _Case, function: Callable[[_Case, Simulation], None], simulation: Simulation) -> None:
    try:
        function(case, simulation)
        logged = case.flushLoggedErrors()
        if logged:
            raise AssertionError(f"an error was logged: {logged[0].getTraceback()}")
    except SkipTest:
        raise
    except Exception as error:
        case.flushLoggedErrors()
        traffic = simulation.network.trace.text(last=40) or "none"
        at_s = simulation.scheduler.seconds()
        raise AssertionError(
            f"seed {simulation.seed} (run it alone: M2MAPP_SEED={simulation.seed}) at {at_s:.6f} s: {error!r}\nthe last traffic:\n{traffic}"
        ) from error
