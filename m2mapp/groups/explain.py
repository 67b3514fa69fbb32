"""`GET /groups/<group>?explain`: the tree of groups as a request would go through it, as a page of text, with the circles marked.

Pure: it shows what is known. Who reads other servers before is `drivers.reading`. Bounded in depth and in lines.
"""

from __future__ import annotations

from collections.abc import Iterator

from m2mapp.formats.documents import TEXT, choose
from m2mapp.groups.nested import GroupGraph
from m2mapp.model.errors import Malformed
from m2mapp.model.messages import Request, Response, Status

EXPLAIN = "explain"
"""The key of the query; it has no value."""
EXPLAIN_S = 10.0
"""So long other servers are read for it at most; what is not known by then is said to be so."""
MOST_LINES, DEEPEST = 1_000, 16
"""So many lines there are, and so many groups within one another; what is left out is said."""
_STEP = "  "


def check_explain(request: Request) -> None:
    """Raises `Malformed` for a value of the key, `NotAcceptable` for a caller that does not take text."""
    given = request.query_value(EXPLAIN)
    if given:
        raise Malformed(EXPLAIN, given, "left empty: ?explain")
    choose(request.accept, (TEXT,))


def explain_response(graph: GroupGraph, node: str) -> Response:
    """The page of a group, by its URI."""
    lines: list[str] = []
    for line in _lines(graph, node):
        if len(lines) == MOST_LINES:
            lines.append(f"... and more: {MOST_LINES} lines are shown")
            break
        lines.append(line)
    return Response(Status.CONTENT, ("\n".join(lines) + "\n").encode(), f"{TEXT};charset=utf-8", max_age_s=0)


def _lines(graph: GroupGraph, top: str) -> Iterator[str]:
    """A line for each member, those of a group behind it. A group is gone through where the walk meets it first."""
    seen = {top}
    within = [top]
    stack: list[tuple[int, Iterator[str]]] = [(1, iter(graph.members(top)))]
    yield f"{top}{_remark(graph, top)}"
    while stack:
        depth, members = stack[-1]
        member = next(members, None)
        if member is None:
            stack.pop()
            within.pop()
            continue
        node = graph.node(member)
        if node is None:
            yield f"{_STEP * depth}{member}"
        elif node in seen:
            why = "a circle: the request is there already" if node in within else "asked once, above"
            yield f"{_STEP * depth}{node} ({why})"
        elif depth >= DEEPEST:
            yield f"{_STEP * depth}{node} (not shown: {DEEPEST} groups within one another are)"
        else:
            seen.add(node)
            within.append(node)
            stack.append((depth + 1, iter(graph.members(node))))
            yield f"{_STEP * depth}{node}{_remark(graph, node)}"


def _remark(graph: GroupGraph, node: str) -> str:
    """What is to be said of a group: whose it is, and why its members are not known."""
    if graph.name_here(node) is not None:
        return " (a group of this node)" if graph.is_here(node) else " (not there)"
    known = graph.known.of(node)
    why = known.why if known is not None else "not asked yet"
    if not why:
        return " (at another server)"
    return f" (at another server: {why}{'; its members as they were' if known is not None and known.members else ''})"
