"""`GET /groups/<group>/members?state`: of each member how it is reached, when it was last heard, its last value, and whether that is fresh.

In pages, as collections are. It has no ETag: what it tells changes without a write (spec section 2, volatile attributes). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from m2mapp.groups.group import FanoutSet, members_of
from m2mapp.groups.latest import Latest
from m2mapp.model.errors import Malformed
from m2mapp.model.messages import Request, Response
from m2mapp.tree.representation import document_response, page_of
from m2mapp.tree.unit import Resource

STATE = "state"
"""The key of the query; it has no value."""


def state_response(group: Resource, sets: Iterable[FanoutSet], latest: Latest, request: Request, now_s: float) -> Response:
    """The page of the members' state that is asked for. Raises `Malformed`, `NotAcceptable`."""
    given = request.query_value(STATE)
    if given:
        raise Malformed(STATE, given, "left empty: ?state")
    page = page_of(request)
    members = members_of(group)
    start = 0
    if page.after is not None:
        if page.after not in members:
            raise Malformed("after", page.after, "the URI of a member")
        start = members.index(page.after) + 1
    shown = members[start : start + page.limit]
    joins = {uri: join.value for one in sets if one.is_multicast for uri, join in one.joins.items()}
    document: dict[str, object] = {"state": {uri: {"join": joins.get(uri), **latest.of(uri).document(now_s)} for uri in shown}}
    following = None
    if start + page.limit < len(members):
        following = ((STATE, ""), ("limit", str(page.limit)), ("after", shown[-1]))
        document["next"] = shown[-1]
    whole = document_response(document, request.accept, 0)
    return Response(whole.status, whole.payload, whole.content_type, max_age_s=0, next_query=following)
