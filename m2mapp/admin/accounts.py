"""Who may sign in at the pages, what each may do, and the ways to change that.

An account is named `user anna`, or `token <name> <fingerprint>` where somebody signed in with a token. What is kept of accounts stands in
the tree (`records`); each change is one unit with its entry in the audit list. Not responsible for signing in (`signing`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore

from m2mapp.admin import passwords
from m2mapp.admin.audit import Deed
from m2mapp.admin.records import (
    MOST_RECORDS,
    TOKENS,
    USERS,
    IssuedToken,
    User,
    read_token,
    read_user,
    token_write,
    user_write,
)
from m2mapp.admin.sessions import Sessions
from m2mapp.admin.visit import AdminNode
from m2mapp.http.tokens import Tokens, fingerprint
from m2mapp.model.errors import Conflict, NoSuchResource, Overloaded, TooLarge
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.principal import Principal, Role
from m2mapp.tree.unit import Change, Remove, Unit, Write

_T = TypeVar("_T")

_TOKEN_BYTES = 32
_MOST_WAITING = 16


class Accounts:
    """The accounts of one node. Each change takes the `Deed` that it is entered as."""

    def __init__(self, node: AdminNode, tokens: Tokens, sessions: Sessions) -> None:
        self._node, self._tokens, self._sessions = node, tokens, sessions
        self._one_at_a_time = DeferredSemaphore(1)
        self._issued = {token.digest: token for token in self.tokens()}
        tokens.issued = lambda digest: found.principal if (found := self._issued.get(digest.hex())) is not None else None
        node.tree.watch(TOKENS, self._on_token, subtree=True)

    # Who there is.

    def principal(self, account: str) -> Principal | None:
        """Who an account is and what it may do now; None where there is no such account any more."""
        kind, _, rest = account.partition(" ")
        if kind == "user":
            user = self.user(rest)
            return user.principal if user is not None else None
        known_by = rest.rpartition(" ")[2]
        issued = next((token.principal for digest, token in self._issued.items() if fingerprint(digest) == known_by), None)
        return issued or self._tokens.by_fingerprint(known_by)

    def user(self, name: str) -> User | None:
        """The user of that name."""
        resource = self._node.tree.find((*USERS, name))
        return read_user(resource) if resource is not None else None

    def users(self) -> list[User]:
        """All users, by name."""
        return [read_user(resource) for resource in self._node.tree.children(USERS)]

    def tokens(self) -> list[IssuedToken]:
        """All tokens that were made on the pages, by name."""
        return [read_token(resource) for resource in self._node.tree.children(TOKENS)]

    # Changing who there is.

    async def make_user(self, user: User, password: str, deed: Deed) -> None:
        """Make a user, whose `password` is kept. Raises `Conflict`, `TooLarge`, `Malformed`."""
        if self.user(user.name) is not None:
            raise Conflict(f"there is a user {user.name} already")
        _check_room(len(self.users()), "users")
        passwords.check_new(password, user.name)
        kept = await self.in_thread(partial(passwords.kept, password))
        await self.commit((user_write(User(user.name, user.role, user.scopes, kept)),), deed)

    async def change_user(self, name: str, role: Role, scopes: tuple[Path, ...], deed: Deed) -> None:
        """Change what a user may do, from now on. Raises `NoSuchResource`."""
        await self.commit((user_write(User(name, role, scopes, self._expected(name).password)),), deed)

    async def set_password(self, name: str, password: str, deed: Deed, but: str = "") -> None:
        """Give a user a new password; all sessions of the user end, but for one. Raises `NoSuchResource`, `Malformed`."""
        user = self._expected(name)
        passwords.check_new(password, name)
        kept = await self.in_thread(partial(passwords.kept, password))
        await self.commit((user_write(User(name, user.role, user.scopes, kept)), *self._sessions.of(f"user {name}", but)), deed)

    async def remove_user(self, name: str, deed: Deed) -> None:
        """Remove a user, and end the user's sessions. Raises `NoSuchResource`."""
        self._expected(name)
        await self.commit((Remove((*USERS, name)), *self._sessions.of(f"user {name}")), deed)

    async def make_token(self, name: str, role: Role, scopes: tuple[Path, ...], deed: Deed) -> str:
        """Make a token, which is told here and never again. Raises `Conflict`, `TooLarge`."""
        if self._node.tree.find((*TOKENS, name)) is not None:
            raise Conflict(f"there is a token {name} already: take it back first")
        _check_room(len(self._issued), "tokens")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        digest = hashlib.sha256(token.encode()).hexdigest()
        await self.commit((token_write(IssuedToken(name, role, scopes, digest, deed.who)),), deed)
        return token

    async def remove_token(self, name: str, deed: Deed) -> None:
        """Take a token back: it is worth nothing from now on, nor are sessions that it opened. Raises `NoSuchResource`."""
        resource = self._node.tree.find((*TOKENS, name))
        if resource is None:
            raise NoSuchResource(path_text((*TOKENS, name)))
        account = token_account(name, read_token(resource).digest)
        await self.commit((Remove(resource.path), *self._sessions.of(account)), deed)

    # What signing in needs too.

    def commit(self, changes: tuple[Write | Remove, ...], deed: Deed) -> Deferred[tuple[Change, ...]]:
        """Commit changes with their entry in the audit list."""
        done: Deferred[tuple[Change, ...]] = self._node.committer.commit(Unit(changes, (deed.entry(),), trace=deed.trace))
        return done

    def in_thread(self, call: Callable[[], _T]) -> Deferred[_T]:
        """Run what is slow on purpose in a thread, one after another. Raises `Overloaded` where many wait."""
        if len(self._one_at_a_time.waiting) >= _MOST_WAITING:
            raise Overloaded("many are signing in", retry_after_s=5)
        done: Deferred[_T] = self._one_at_a_time.run(self._node.run_blocking, call)
        return done

    def _expected(self, name: str) -> User:
        user = self.user(name)
        if user is None:
            raise NoSuchResource(path_text((*USERS, name)))
        return user

    def _on_token(self, change: Change) -> None:
        if change.path[:-1] != TOKENS:
            return
        if change.before is not None:
            self._issued.pop(read_token(change.before).digest, None)
            self._tokens.generation += 1
        if change.after is not None:
            token = read_token(change.after)
            self._issued[token.digest] = token


def token_account(name: str, digest: str) -> str:
    """The account of who signs in with the token of this digest (hexadecimal); `name` is the token's, or its principal's."""
    return f"token {name.removeprefix('token ')} {fingerprint(digest)}"


def _check_room(there_are: int, what: str) -> None:
    if there_are >= MOST_RECORDS:
        raise TooLarge(what, MOST_RECORDS, "of them")
