"""The seam between the HTTP edge and the pages for people (`admin`): what a request to a page is handed as, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred

from m2mapp.http.connection import WireRequest
from m2mapp.http.headers import Fields
from m2mapp.http.outlet import Outlets


class SiteAnswer(NamedTuple):
    """An answer of the site: its status, and all that comes after the fields that every answer has (`answers.start`)."""

    code: int
    rest: bytes


SiteAnswered = SiteAnswer | Deferred[SiteAnswer] | None
Site = Callable[[WireRequest, Fields, Outlets], SiteAnswered]
"""Answers a request below `SITE`; None: it has opened a stream of its own among the outlets. Raises `Fault`s."""

SITE = b"/admin"


def is_for_site(path: bytes) -> bool:
    """Whether a path, as it was sent, is one of the site."""
    return path.startswith(SITE) and path[len(SITE) : len(SITE) + 1] in (b"", b"/")
