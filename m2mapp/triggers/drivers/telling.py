"""Answers what is asked of an operation's past: its runs, and its evaluations with all that they saw (spec section 7, "Explained").

Nothing here is written: `recording` does that.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from m2mapp.model.errors import MethodNotAllowed, NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method, Request, Response
from m2mapp.tree.representation import document_response, page_of
from m2mapp.tree.unit import RUNS, Document
from m2mapp.triggers.drivers.recording import Recorder

EVALUATIONS = "evaluations"
TOLD = frozenset({RUNS, EVALUATIONS})
"""The names below an operation at which this answers."""


def told(recorder: Recorder, operation: str, below: Path, request: Request) -> Deferred[Response]:
    """The answer to a GET of `runs`, `evaluations` or `evaluations/<id>` below an operation, the newest first, at most `?limit=`.

    Raises, or fails with, `NoSuchResource` where there is none, `MethodNotAllowed`, `Malformed`, or what keeps the store from being read.
    """
    if request.method is not Method.GET:
        raise MethodNotAllowed(request.method.value, path_text(request.path), ("GET",))
    kind, identifier = below[0], below[1:]
    if kind == EVALUATIONS and len(identifier) == 1:
        return recorder.evaluation(operation, identifier[0]).addCallback(_one, request)
    if identifier or kind not in TOLD:
        raise NoSuchResource(path_text(request.path))
    limit = page_of(request).limit
    read = recorder.runs if kind == RUNS else recorder.evaluations
    return read(operation).addCallback(lambda found: _response({kind: found[:limit]}, request))


def _one(found: Document | None, request: Request) -> Response:
    if found is None:
        raise NoSuchResource(path_text(request.path))
    return _response(found, request)


def _response(document: Document, request: Request) -> Response:
    """What stands in journals has no version: it is told without an ETag."""
    return document_response(document, request.accept, 0)._replace(etag=None)
