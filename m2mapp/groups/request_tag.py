"""`/groups/<group>/requestTag`: the identifiers of requests that the group has had (US 9,438,601, the attribute `requestTag`)."""

from __future__ import annotations

from itertools import islice

from m2mapp.groups.group import GROUPS, MEMBERS_CONTENT
from m2mapp.groups.identifying import Identifiers
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.seen import Seen, SeenRequests
from m2mapp.tree.representation import document_response

REQUEST_TAG = "requestTag"
MOST_SHOWN = 1_000


def request_tag_response(seen: SeenRequests, identifiers: Identifiers, request: Request, now: float, *, at_servers: bool) -> Response:
    """The answer to a GET of the resource: at most 1,000 requests, and which requests get an identifier here. Raises `MethodNotAllowed`."""
    if request.method is not Method.GET:
        raise MethodNotAllowed(request.method.value, path_text(request.path), ("GET",))
    group = request.path[1]
    read = identifiers.asked(Method.GET, group, at_servers=at_servers)
    found = islice(seen.below((*GROUPS, group, MEMBERS_CONTENT), now), MOST_SHOWN)
    document = {
        "policy": identifiers.policy,
        "reads": {"identified": read.needed, "why": read.why},
        "requests": [_shown(one, now) for one in found],
    }
    return document_response(document, request.accept, 0)._replace(etag=None)  # what it shows changes by itself


def _shown(one: Seen, now: float) -> dict[str, object]:
    """`keptFor`: seconds until it is forgotten, unless it is under way then."""
    identifier, method, path = one.key
    return {
        "requestId": identifier.hex(),
        "method": method.value,
        "path": path_text(path),
        "state": one.state.value,
        "from": one.owner,
        "keptFor": max(0, round(one.until_s - now)),
    }
