"""`/node`: what this node is and what peers may rely on (spec section 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zope.interface import implementer

from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Method, Request, Response
from m2mapp.tree.representation import document_response

NODE: Path = ("node",)
REPORTS: Path = (*NODE, "reports")
"""What this gateway reports of the devices that it gave addresses, by DUID, and whether that was confirmed (spec section 9)."""


@implementer(IHandle)
class NodePage:
    """Answers at `/node`. `describe` gives the document as it is now; `version` a number that changes with it."""

    def __init__(self, describe: Callable[[], Mapping[str, object]], version: Callable[[], int]) -> None:
        self._describe, self._version = describe, version

    def handle(self, request: Request) -> Response:
        """The node's document. Raises `MethodNotAllowed` for anything but GET."""
        if request.method is not Method.GET or request.path != NODE:
            raise MethodNotAllowed(request.method.value, path_text(request.path), ("GET",) if request.path == NODE else ())
        return document_response(self._describe(), request.accept, self._version())
