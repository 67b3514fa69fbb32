"""`POST .../evaluate`: what an operation would do for a value, or for that of a past evaluation, without doing it (spec section 12)."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred

from m2mapp.formats.documents import content_bytes, load_document
from m2mapp.formats.shapes import Field, Shape, text
from m2mapp.model.errors import Malformed, NoSuchResource
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IClock
from m2mapp.model.messages import Request, Response
from m2mapp.tree.representation import document_response
from m2mapp.tree.tree import Tree
from m2mapp.triggers.changes import Content, SubjectChange
from m2mapp.triggers.drivers.engine import Engine
from m2mapp.triggers.drivers.recording import Recorder
from m2mapp.triggers.operation import Operation


class Trying:
    """Says what operations would do. Dependencies and inputs are fetched as they are now; the operation's request is not sent.

    The content before a given value is the one that the subject has now, or `before`.
    """

    def __init__(self, engine: Engine, recorder: Recorder, tree: Tree, clock: IClock) -> None:
        self._engine, self._recorder, self._tree, self._clock = engine, recorder, tree, clock

    def answer(self, request: Request, operation: Operation, subject: Path) -> Deferred[Response]:
        """The answer to a request to evaluate. Raises, or fails with, `Malformed` or `NoSuchResource`."""
        values = _SHAPE.check(load_document(request.payload, request.content_type))
        if (values["value"] is _NONE) is (values["evaluation"] is None):
            raise Malformed("value", "nothing" if values["evaluation"] is None else "both", "given, or evaluation in its place")
        return Deferred.fromCoroutine(self._answer(request, operation, subject, values))

    async def _answer(self, request: Request, operation: Operation, subject: Path, values: Mapping[str, object]) -> Response:
        identifier = values["evaluation"]
        if identifier is None:
            before = self._present(subject) if values["before"] is _NONE else _content(values["before"], values["contentType"])
            after = _content(values["value"], values["contentType"])
        else:
            past = await self._recorder.evaluation(operation.key, str(identifier))
            if past is None or "content" not in past:
                raise NoSuchResource(f"evaluation {identifier} of {operation.key}, with a content of at most some kilobytes")
            after = _content(past["content"], past.get("contentType"))
            before = _content(past["before"], past.get("beforeType")) if "before" in past else None
        change = SubjectChange(0, subject, before, after, self._clock.now_ms(), trace=request.trace, principal=request.principal.name)
        told = await self._engine.look(operation, change)
        return document_response(told, request.accept, 0)._replace(etag=None)

    def _present(self, subject: Path) -> Content | None:
        resource = self._tree.find(subject)
        return None if resource is None or resource.content is None else Content(resource.content, resource.media_type)


def _content(value: object, media_type: object) -> Content:
    return Content(*content_bytes(value, None if media_type is None else str(media_type), "value"))


class _None:
    """Stands for no value, where null is one."""


_NONE = _None()
_SHAPE = Shape(
    {
        "value": Field(lambda value: value, _NONE),
        "before": Field(lambda value: value, _NONE),
        "contentType": Field(text, None),
        "evaluation": Field(text, None),
    }
)
