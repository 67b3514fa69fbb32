"""Group operations on a network that loses packets each way, for each member by itself: `python -m tests.bench.loss`.

Whole nodes on simulated time, network and disk, so that the figures are of the schedule of repairs and not of this machine. Half of the
operations are over after so many round trips beyond the leisure time; so many datagrams leave for each member.
"""

from __future__ import annotations

import json
import sys
from statistics import median

from m2mapp.groups.settings import GroupSettings
from m2mapp.model.messages import Method
from m2mapp.net.medium import Quality, What
from tests.bench.report import Row, table
from tests.simulation import Simulation
from tests.unit.simulation.world import build_site

ONE_WAY_S = (0.009, 0.011)
CASES = ((20, 0.0), (20, 0.2), (100, 0.2), (300, 0.2))
OPERATIONS = 40
_CONTENT = "/groups/temps/membersContent"


def main() -> list[Row]:
    """The rows of the report."""
    return [row for members, loss in CASES for method in (Method.GET, Method.PUT) for row in _measure(members, loss, method)]


def _measure(members: int, loss: float, method: Method) -> list[Row]:
    simulation = Simulation(1)
    simulation.network.set_quality(Quality(delay_s=ONE_WAY_S))
    site = build_site(simulation, members, GroupSettings())
    site.make_group()
    simulation.network.set_quality(Quality(loss=loss, delay_s=ONE_WAY_S))
    leisure_s = float(str(site.gateway.read("/groups/temps/fanoutSets/1")["leisure"]))
    took, answered, sent = [], 0, 0
    for number in range(OPERATIONS):
        began_s = simulation.scheduler.seconds()
        shown = json.loads(site.gateway.ask(method, _CONTENT, b"%d" % number if method is Method.PUT else None).payload)
        sent += _sent(site.gateway.name, simulation, began_s)
        took.append((shown["ms"] / 1000 - leisure_s) / sum(ONE_WAY_S))
        answered += len(shown["members"])
        site.run(0.2)
    what = f"{method.value} of {members} members, {loss:.0%} lost each way"
    note = (
        f"{answered} of {members * OPERATIONS} answers; {sent / members / OPERATIONS:.2f} datagrams a member; the slowest {max(took):.1f}"
    )
    return [Row(f"{what}: round trips beyond the leisure time, median", median(took), "", None, None, note)]


def _sent(name: str, simulation: Simulation, since_s: float) -> int:
    """How many datagrams the gateway has sent since then; the trace has all of one operation."""
    events = simulation.network.trace.events
    return sum(event.what is What.SENT and event.node == name and event.at_s >= since_s for event in events)


if __name__ == "__main__":
    sys.stdout.write(table(main()))
