"""Overview: what runs, what is wrong, what happened lately, and how much goes through the node; for who may read all of it."""

from __future__ import annotations

from m2mapp.admin.health import health
from m2mapp.admin.pages import Answer, Data, Page, Shown, View
from m2mapp.admin.samples import LATENCY, TRAFFIC, Samples
from m2mapp.admin.visit import Visit
from m2mapp.formats.documents import dump_json
from m2mapp.http.metrics import METRICS
from m2mapp.model.errors import NoSuchResource
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Method
from m2mapp.model.principal import Right
from m2mapp.tree.access import check_access
from m2mapp.tree.paths import parse_path
from m2mapp.tree.unit import CHANGES, Entry

_LATELY = 15
_PLOTS = {"traffic.json": TRAFFIC, "latency.json": LATENCY}


def overview(samples: Samples, started_s: float) -> tuple[Page, Page]:
    """The page, and the plots' points. `started_s`: since when the node runs, by its clock."""

    async def show(visit: Visit) -> Answer:
        node = visit.node
        if not visit.may(Right.READ):
            return Shown("overview-part.html")
        roles, problems = health(node)
        values = {
            "node": node.describe(),
            "up_s": node.reactor.seconds() - started_s,
            "roles": roles,
            "problems": problems,
            "changes": await _lately(visit),
            "figures": samples.last(),
        }
        return Shown("overview.html", values)

    return Page("", "Overview", show), Page("plots", "Plots", _points(samples), listed=False)


def _points(samples: Samples) -> View:
    async def points(visit: Visit) -> Answer:
        check_access(visit.principal, Method.GET, METRICS)
        series = _PLOTS.get(visit.rest[0] if visit.rest else "")
        if series is None:
            raise NoSuchResource("/admin/plots" + path_text(visit.rest))
        return Data(dump_json(samples.document(series)))

    return points


async def _lately(visit: Visit) -> list[Entry]:
    """The last changes of the tree that the visitor may see, the newest first."""
    found = await visit.journal(CHANGES, (), 4 * _LATELY)
    seen = [entry for entry in found if visit.may_read(parse_path(str(entry.body.get("path", "/"))))]
    return seen[: -_LATELY - 1 : -1]
