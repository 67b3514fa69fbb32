"""Whose rights an operation has: who last wrote it is kept with it, and looked up again when it runs (spec section 7).

Pure. What a principal may do today is asked of the node around (`Current`): a token that was taken away leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from m2mapp.model.principal import NOBODY, Principal, Right
from m2mapp.tree.unit import Document

WRITTEN_BY = "writtenBy"
Current = Callable[[Principal], Principal]
"""From a principal as it was to the same with the rights that it has now."""


def kept_author(principal: Principal) -> Document:
    """A principal as it is kept."""
    return {
        "name": principal.name,
        "rights": sorted(right.value for right in principal.rights),
        "scopes": [list(scope) for scope in principal.scopes],
        "source": principal.source,
    }


def author_in(attributes: Document) -> Principal:
    """The principal that is kept in a resource's attributes; nobody where none is."""
    found = attributes.get(WRITTEN_BY)
    if not isinstance(found, Mapping):
        return NOBODY
    return Principal(
        str(found["name"]),
        frozenset(Right(one) for one in cast("list[str]", found["rights"])),
        tuple(tuple(scope) for scope in cast("list[list[str]]", found["scopes"])),
        str(found["source"]),
    )
