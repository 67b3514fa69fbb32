"""Who asks, and what they may do (spec section 10). A principal is found at the edge; the tree's access rules check it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from m2mapp.model.identifiers import Path


class Right(Enum):
    """What a principal may do."""

    DISCOVER = "discover"
    """To read `/.well-known/core`: all who are on the link."""
    READ = "read"
    REGISTER = "register"
    ADVERTISE = "advertise"
    WRITE = "write"
    ADMIN = "admin"

    __hash__ = object.__hash__  # each is one object; the hash of an Enum, written in Python, takes 0.2 us for each request


class Role(Enum):
    """The roles of tokens and users; each has the rights of `ROLE_RIGHTS`."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


ROLE_RIGHTS: dict[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.DISCOVER, Right.READ}),
    Role.OPERATOR: frozenset(Right) - {Right.ADMIN},
    Role.ADMIN: frozenset(Right),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: `name` as it stands in records, the rights, and the subtrees in which they hold.

    `source` is the address that the request came from, where there is one: what a device registered it may also write.
    """

    name: str
    rights: frozenset[Right] = frozenset()
    scopes: tuple[Path, ...] = ((),)
    source: str = ""

    def may(self, right: Right, path: Path) -> bool:
        """Whether this principal has the right at the path."""
        if right in self.rights:
            for scope in self.scopes:  # a loop, because `any` of a generator took 0.7 us more, for each request
                if path[: len(scope)] == scope:
                    return True
        return False


NOBODY = Principal("nobody")
NODE = Principal("node", frozenset(Right))
"""The node itself: what it does of its own accord, such as ending an expired registration."""
