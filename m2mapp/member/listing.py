"""What a GET of `/mcGroups` shows: each `mcGroup` whole, so that a group server sees by one question what the device holds."""

from __future__ import annotations

from m2mapp.formats.documents import rfc3339
from m2mapp.member.mc_group import MC_GROUP, MC_GROUPS
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Request, Response
from m2mapp.tree.representation import document_response, page_of
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import COLLECTION


def listing(tree: Tree, request: Request) -> Response:
    """The page that is asked for. Raises `NotAcceptable` or `Malformed`."""
    page = page_of(request)
    children = tree.children(MC_GROUPS, page.after, page.limit + 1)
    more = len(children) > page.limit
    del children[page.limit :]
    document: dict[str, object] = {
        "path": path_text(MC_GROUPS),
        "type": COLLECTION,
        "children": [
            {"name": child.path[-1], "type": MC_GROUP, "modified": rfc3339(child.modified_ms), **child.attributes} for child in children
        ],
    }
    if not more:
        return document_response(document, request.accept, tree.latest(MC_GROUPS))
    last = children[-1].path[-1]
    response = document_response({**document, "next": last}, request.accept, tree.latest(MC_GROUPS))
    return response._replace(next_query=(("limit", str(page.limit)), ("after", last)))
