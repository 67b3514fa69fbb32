"""Where requests come in while a node is built. Not responsible for what becomes of them: the dispatcher."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from m2mapp.model.errors import Overloaded
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Request, Response
from m2mapp.tree.service import Dispatcher


@implementer(IHandle)
class Door:
    """Where requests come in before all parts are there, since the edges are made before those whom they ask."""

    def __init__(self) -> None:
        self.dispatcher: Dispatcher | None = None
        self.heard: list[Callable[[str], None]] = []

    def handle(self, request: Request) -> Response | Deferred[Response] | None:
        """The dispatcher's answer."""
        if self.dispatcher is None:
            raise Overloaded("the node is starting")
        if request.source is not None:
            for heard in self.heard:
                heard(request.source[0])
        return self.dispatcher.handle(request)

    def handle_unicast(self, request: Request) -> Response | Deferred[Response]:
        """The dispatcher's answer to what is for this node alone."""
        if self.dispatcher is None:
            raise Overloaded("the node is starting")
        return self.dispatcher.handle_unicast(request)
