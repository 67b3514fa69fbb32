"""What a page is: its name, what it shows, what can be done there; and the answers that a view gives.

Values only. `site` finds the page of a request, `visit` is what a view is given, `index` lists the pages there are.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from m2mapp.formats.documents import JSON
from m2mapp.model.identifiers import Path
from m2mapp.model.principal import Principal, Right

if TYPE_CHECKING:
    from m2mapp.admin.visit import Visit

NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Shown:
    """A page of HTML: the template, what it is given besides `visit`, the title where it is not that of the page, the status."""

    template: str
    values: Mapping[str, object] = field(default_factory=lambda: NOTHING)
    title: str = ""
    status: int = 200


@dataclass(frozen=True, slots=True)
class Redirect:
    """Go on there (303): what every action that was done answers, so that a reload does not do it again.

    `secret`: that of the session which the browser has from now on; empty: it has none any more; None: as it was.
    """

    to: str
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """What a page's own script fetches, such as the points of a plot."""

    body: bytes
    media_type: str = JSON


Answer = Shown | Redirect | Data
View = Callable[["Visit"], Coroutine[Deferred[object], object, Answer]]
"""Answers one visit. Raises `Fault`s: of a page the site shows an error page, of an action the page again with the fault at its top."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page, at `/admin/<name>`, and all below that.

    `show` answers GET; `acts` POST, by the form's field `do`. `right` is what a visitor needs to see the page at all (None: it is
    open to all), at `where`, or where that is None at some path: what is read and written on such a page is checked path by path.
    `listed`: it stands in the navigation.
    """

    name: str
    title: str
    show: View
    acts: Mapping[str, View] = field(default_factory=lambda: MappingProxyType({}))
    right: Right | None = Right.READ
    listed: bool = True
    where: Path | None = None

    def open_to(self, principal: Principal) -> bool:
        """Whether a visitor may see the page."""
        if self.right is None or self.where is None:
            return self.right is None or self.right in principal.rights
        return principal.may(self.right, self.where)

    @property
    def at(self) -> str:
        """Where it is."""
        return f"/admin/{self.name}"
