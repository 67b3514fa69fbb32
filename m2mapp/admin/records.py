"""What is kept of users, tokens and sessions: resources below `/admin`, in the tree like all else and shown without what is secret.

They are made by the pages alone: the types take GET and DELETE from others, and only from an administrator (`tree.access`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from m2mapp.formats.documents import rfc3339
from m2mapp.model.errors import Malformed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.model.principal import ROLE_RIGHTS, Principal, Role
from m2mapp.tree.paths import parse_path
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ANY, ResourceType
from m2mapp.tree.unit import Document, Resource, Write

ADMIN: Path = ("admin",)
USERS: Path = (*ADMIN, "users")
TOKENS: Path = (*ADMIN, "tokens")
SESSIONS: Path = (*ADMIN, "sessions")
MOST_RECORDS = 256
_USER, _TOKEN = "user ", "token "
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_MOST_SCOPES = 64
_METHODS = frozenset({Method.GET, Method.DELETE})


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a password. `password` is what `passwords.kept` gives."""

    name: str
    role: Role
    scopes: tuple[Path, ...]
    password: str

    @property
    def principal(self) -> Principal:
        """What the user may do. The name is not that of a token which the configuration happens to name alike."""
        return Principal(f"{_USER}{self.name}", ROLE_RIGHTS[self.role], self.scopes)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that was made on the pages. `digest` is the SHA-256 of it, in hexadecimal; `by` who made it."""

    name: str
    role: Role
    scopes: tuple[Path, ...]
    digest: str
    by: str

    @property
    def principal(self) -> Principal:
        """What who bears it may do."""
        return Principal(f"{_TOKEN}{self.name}", ROLE_RIGHTS[self.role], self.scopes)


def user_write(user: User) -> Write:
    """The write that keeps a user."""
    attributes = {"role": user.role.value, "scopes": [path_text(scope) for scope in user.scopes], "password": user.password}
    return Write((*USERS, user.name), "user", attributes)


def token_write(token: IssuedToken) -> Write:
    """The write that keeps a token."""
    scopes = [path_text(scope) for scope in token.scopes]
    return Write((*TOKENS, token.name), "token", {"role": token.role.value, "scopes": scopes, "digest": token.digest, "by": token.by})


def read_user(resource: Resource) -> User:
    """The user that is kept there."""
    kept = resource.attributes
    return User(resource.path[-1], Role(kept["role"]), _scopes(kept), str(kept["password"]))


def read_token(resource: Resource) -> IssuedToken:
    """The token that is kept there."""
    kept = resource.attributes
    return IssuedToken(resource.path[-1], Role(kept["role"]), _scopes(kept), str(kept["digest"]), str(kept["by"]))


def account_principal(tree: Tree, name: str) -> Principal | None:
    """Who the principal of this name is now, where it is a user or a token made on the pages; None where it is neither, or gone."""
    for prefix, collection, read in ((_USER, USERS, read_user), (_TOKEN, TOKENS, read_token)):
        resource = tree.find((*collection, name.removeprefix(prefix))) if name.startswith(prefix) else None
        if resource is not None:
            return read(resource).principal
    return None


def check_name(name: str, field: str = "name") -> str:
    """The name, if it may be one. Raises `Malformed`."""
    if not _NAME.fullmatch(name):
        raise Malformed(field, name, "a name of letters, digits and . _ @ -, at most 64 of them")
    return name


def check_role(text: str) -> Role:
    """The role of that name. Raises `Malformed`."""
    try:
        return Role(text)
    except ValueError:
        raise Malformed("role", text, f"one of {', '.join(role.value for role in Role)}") from None


def check_scopes(text: str) -> tuple[Path, ...]:
    """Paths as they are typed, separated by spaces or on lines of their own; none is the whole tree. Raises `Malformed`, `TooLarge`."""
    words = text.split()
    if len(words) > _MOST_SCOPES:
        raise Malformed("scopes", f"{len(words)} paths", f"at most {_MOST_SCOPES} paths")
    return tuple(parse_path(word, "scopes") for word in words) or ((),)


def _scopes(kept: Document) -> tuple[Path, ...]:
    scopes = kept["scopes"]
    return tuple(parse_path(str(scope)) for scope in scopes) if isinstance(scopes, list) else ()


def _without(*secret: str) -> Callable[[Resource, Tree], Document]:
    def describe(resource: Resource, tree: Tree) -> Document:
        shown = {key: value for key, value in resource.attributes.items() if key not in secret}
        return {"name": resource.path[-1], **shown, **tree.volatile(resource.path), "created": rfc3339(resource.created_ms)}

    return describe


def _not_from_outside(name: str, given: Document) -> Document:
    raise Malformed("body", name, "left out: users, tokens and sessions are made on the pages")


RECORD_TYPES = (
    ResourceType("user", (*USERS, ANY), _not_from_outside, _without("password"), methods=_METHODS),
    ResourceType("token", (*TOKENS, ANY), _not_from_outside, _without("digest"), methods=_METHODS),
    ResourceType("session", (*SESSIONS, ANY), _not_from_outside, _without("digest"), methods=_METHODS),
)
