"""`?explain` with an edit of a group: the group as it would be, each member with its reason, and nothing is done.

Pure. Not responsible for the tree of groups that GET with the same key shows (`explain`).
"""

from __future__ import annotations

from collections.abc import Mapping

from m2mapp.groups.explain import EXPLAIN
from m2mapp.groups.group import FANOUT_SET, GROUP, GROUPS, SETS, expected_sets
from m2mapp.model.errors import Conflict, Malformed, NoSuchResource
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Request, Response
from m2mapp.tree.representation import document_response
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Remove, Unit, Write


def wants_preview(request: Request) -> bool:
    """Whether a request asks what an edit would do, and not that it be done. Raises `Malformed` for a value of the key."""
    given = request.query_value(EXPLAIN)
    if given:
        raise Malformed(EXPLAIN, given, "left empty: ?explain")
    return given is not None


def preview_response(tree: Tree, name: str, unit: Unit, request: Request) -> Response:
    """What the unit of an edit would make of a group: its document with all its fan-out sets, as GET would show it afterwards.

    Raises `Conflict` or `NoSuchResource` where the edit could not be done, `NotAcceptable`.
    """
    path = (*GROUPS, name)
    there = tree.expected(path)
    for requirement in unit.requires:
        if requirement.exists is not None and requirement.path == path and requirement.exists is not (there is not None):
            raise NoSuchResource(path_text(path)) if there is None else Conflict(f"{path_text(path)} is taken")
    group: Mapping[str, object] = there.attributes if there is not None else {}
    sets = {one.name: {"name": one.name, **one.document()} for one in expected_sets(tree, name)}
    for change in unit.changes:
        own = change.path[: len(path) + 1] == (*path, SETS)
        if isinstance(change, Remove) and own:
            sets.pop(change.path[-1], None)
        elif isinstance(change, Write) and change.type == FANOUT_SET and own:
            sets[change.path[-1]] = {"name": change.path[-1], **change.attributes}
        elif isinstance(change, Write) and change.type == GROUP and change.path == path:
            group = change.attributes
    document = {"name": name, **group, "fanoutSets": [sets[key] for key in sorted(sets, key=lambda key: (len(key), key))]}
    return document_response(document, request.accept, 0)._replace(etag=None, max_age_s=0)
