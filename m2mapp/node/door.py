"""Where requests come in before all parts are there, since the edges are made before those whom they ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from m2mapp.model.errors import Overloaded
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Request, Response
from m2mapp.tree.service import Dispatcher


class Claiming(Protocol):
    """Takes some requests before the tree is asked: an LwM2M client those of its servers, whose objects are not in the tree."""

    def claims(self, request: Request) -> bool:
        """Whether this request is for it."""

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """Its answer."""


@implementer(IHandle)
class Door:
    """Hands requests to the dispatcher, or to who claims them. Each of `heard` is told each source's address."""

    def __init__(self) -> None:
        self.dispatcher: Dispatcher | None = None
        self.claiming: Claiming | None = None
        self.heard: list[Callable[[str], None]] = []

    def handle(self, request: Request) -> Response | Deferred[Response] | None:
        """The answer of who is asked."""
        if self.dispatcher is None:
            raise Overloaded("the node is starting")
        if request.source is not None:
            for heard in self.heard:
                heard(request.source[0])
        if self.claiming is not None and self.claiming.claims(request):
            return self.claiming.handle(request)
        return self.dispatcher.handle(request)

    def handle_unicast(self, request: Request) -> Response | Deferred[Response]:
        """The dispatcher's answer to what is for this node alone."""
        if self.dispatcher is None:
            raise Overloaded("the node is starting")
        return self.dispatcher.handle_unicast(request)
