"""How the node and each of its roles stands: what is there, and what is wrong, in words that say what to do.

Reads the tree and the metrics; decides nothing for anybody but the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from m2mapp.admin.visit import AdminNode
from m2mapp.model.identifiers import Path
from m2mapp.model.metrics import Counter, Histogram, Metrics
from m2mapp.tree.tree import Tree

_LAG_WARNING_S = 0.1
_GROUPS = "/admin/groups"
_REGISTRATIONS = "registrations"
_MOST = 5000
"""So many resources are looked at for one figure at most."""


class Grade(Enum):
    """How it stands."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class RoleHealth:
    """One role: its name, its grade, what there is of it in one line, and the page or path where there is more."""

    name: str
    grade: Grade
    text: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: how bad, what, what to do, and where to look."""

    grade: Grade
    text: str
    advice: str
    at: str = ""


def health(node: AdminNode) -> tuple[list[RoleHealth], list[Problem]]:
    """Each role that is on, the registrations, and what is wrong, the worst first."""
    described = node.describe().get("roles")
    roles = [str(role) for role in described] if isinstance(described, list | tuple) else []
    problems = sorted(_problems(node), key=lambda problem: problem.grade is not Grade.BAD)
    bad = {problem.at: problem.grade for problem in reversed(problems) if problem.at}
    return [_role(name, node, bad) for name in (*roles, _REGISTRATIONS)], problems


def _role(name: str, node: AdminNode, bad: dict[str, Grade]) -> RoleHealth:
    text, at = _TEXTS.get(name, (_on, ""))
    return RoleHealth(name, bad.get(at, Grade.GOOD) if at else Grade.GOOD, text(node), at)


def _problems(node: AdminNode) -> Iterator[Problem]:
    for reason in node.unready():
        yield Problem(Grade.BAD, f"The node is not ready: {reason}", "see its log; no write is taken while the store takes none")
    for warning in node.warnings():
        yield Problem(Grade.WARNING, warning, "the page of this part of the node has more")
    lag = _mean(node.metrics, "m2mapp_reactor_lag_seconds")
    if lag > _LAG_WARNING_S:
        yield Problem(Grade.WARNING, f"The node is {1000 * lag:.0f} ms late on average", "it has more to do than this machine can")
    joining, failed = _joins(node.tree)
    if failed:
        advice = "these members are asked one by one meanwhile; see whether the devices are on"
        yield Problem(Grade.WARNING, f"{failed} members have not joined their group's address", advice, _GROUPS)
    elif joining:
        advice = "their members are asked one by one until they have joined"
        yield Problem(Grade.WARNING, f"{joining} members of groups are being told to join", advice, _GROUPS)


def _joins(tree: Tree) -> tuple[int, int]:
    """How many joins are awaited, and how many failed, over all fan-out sets."""
    pending = failed = 0
    for group in tree.children(("groups",), limit=_MOST):
        for one in tree.children((*group.path, "fanoutSets")):
            joins = one.attributes.get("joins")
            states = list(joins.values()) if isinstance(joins, dict) else []
            pending += states.count("pending")
            failed += states.count("failed")
    return pending, failed


def _on(_: AdminNode) -> str:
    return "on"


def _counted(path: Path, one: str, many: str) -> Callable[[AdminNode], str]:
    def text(node: AdminNode) -> str:
        found = len(node.tree.children(path, limit=_MOST))
        return f"{found} {one if found == 1 else many}" if found < _MOST else f"{_MOST} {many} or more"

    return text


def _summed(name: str, words: str) -> Callable[[AdminNode], str]:
    return lambda node: f"{total(node.metrics, name):,.0f} {words}"


_TEXTS: dict[str, tuple[Callable[[AdminNode], str], str]] = {
    _REGISTRATIONS: (_counted(("scls",), "device registered", "devices registered"), "/admin/devices"),
    "http": (_summed("m2mapp_http_requests_total", "requests answered"), ""),
    "coap": (_summed("m2mapp_coap_requests_total", "requests came in"), ""),
    "groups": (_counted(("groups",), "group", "groups"), _GROUPS),
    "member": (_counted(("mcGroups",), "multicast group joined", "multicast groups joined"), "/admin/tree/mcGroups"),
    "triggers": (_summed("m2mapp_operations_evaluations_total", "evaluations of operations"), "/admin/operations"),
    "bootstrap": (_counted(("devices",), "device seen", "devices seen"), "/admin/devices"),
    "dhcpv6.uplink": (_counted(("prefixes",), "prefix", "prefixes"), "/admin/addresses"),
    "dhcpv6.downlink": (_counted(("leases",), "device with a lease", "devices with a lease"), "/admin/addresses"),
    "dhcpv6.delegating": (_counted(("leases",), "router with a lease", "routers with a lease"), "/admin/addresses"),
}


def total(metrics: Metrics, name: str) -> float:
    """The sum of a counter or gauge over its labels; 0 where there is none."""
    found = 0.0
    for one in dict((key, value) for key, _, value in metrics.collect()).get(name, {}).values():
        if isinstance(one, Counter):
            found += one.value
        elif not isinstance(one, Histogram):
            found += one()
    return found


def _mean(metrics: Metrics, name: str) -> float:
    """The mean of a histogram's values since the start, in seconds; 0 where there is none."""
    for key, _, instruments in metrics.collect():
        if key == name:
            total_s = sum(one.total for one in instruments.values() if isinstance(one, Histogram))
            number = sum(sum(one.counts) for one in instruments.values() if isinstance(one, Histogram))
            return total_s / number if number else 0.0
    return 0.0
