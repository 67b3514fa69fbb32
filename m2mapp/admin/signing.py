"""Signing in and out: with a password, with a token, and for the first time with the one-time code.

Wrong ones are answered ever more slowly (`guessing`) and stand in the audit list. A session is durable before its browser is told of it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from m2mapp.admin import passwords
from m2mapp.admin.accounts import Accounts, token_account
from m2mapp.admin.audit import REFUSED, Deed
from m2mapp.admin.guessing import Guessing
from m2mapp.admin.records import SESSIONS, User, check_name, user_write
from m2mapp.admin.sessions import Sessions
from m2mapp.admin.visit import AdminNode, Asked
from m2mapp.http.tokens import Tokens
from m2mapp.model.errors import NoSuchResource, Unauthenticated
from m2mapp.model.identifiers import path_text
from m2mapp.model.principal import Principal, Role
from m2mapp.store.kept import write_aside
from m2mapp.tree.unit import Remove

_log = Logger()

CODE_FILE = "admin.code"
_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without those that are taken for one another."""
_LENGTH, _GROUP = 16, 4


class Signing:
    """Signs people in. Each way gives the secret of a new session; that of the visit, where it has one, ends."""

    def __init__(self, node: AdminNode, tokens: Tokens, accounts: Accounts, sessions: Sessions) -> None:
        self._node, self._tokens, self._accounts, self._sessions = node, tokens, accounts, sessions
        self._guessing = Guessing()
        self._code_file = FilePath(node.state_dir) / CODE_FILE
        self._waiting: set[Deferred[None]] = set()

    @property
    def first(self) -> bool:
        """Whether nobody has a password yet, so that the one-time code makes the first user."""
        return not self._accounts.users() and self._code_file.exists()

    @property
    def code_file(self) -> str:
        """Where the one-time code stands."""
        return str(self._code_file)

    def prepare(self) -> None:
        """Where nobody has a password yet: write the one-time code, readable by its owner only, unless it is there. Raises `OSError`."""
        if self._accounts.users() or self._code_file.exists():
            return
        code = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
        write_aside(self._code_file, "-".join(code[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP)).encode() + b"\n")
        _log.info("nobody has a password yet: the code for the first sign-in at /admin/ is in {file}", file=self.code_file)

    def stop(self) -> None:
        """Nobody waits for an answer any more."""
        for waiting in tuple(self._waiting):
            waiting.cancel()

    async def by_password(self, name: str, password: str, asked: Asked) -> str:
        """Sign a user in. Raises `Unauthenticated`, or `TooManyRequests` after many failures."""

        async def attempt() -> str | None:
            user = self._accounts.user(name)
            known = user.password if user is not None else None
            right = await self._accounts.in_thread(partial(passwords.is_right, password, known))
            return f"user {name}" if right else None

        account = await self._tried(f"user {name}", asked, attempt, "there is no such user, or the password is another one")
        return await self._open(account, account, asked)

    async def by_token(self, token: str, asked: Asked) -> str:
        """Sign in who bears a token. Raises `Unauthenticated`, or `TooManyRequests` after many failures."""
        found: list[Principal] = []

        async def attempt() -> str | None:
            principal = self._tokens.find(token)
            if principal is None:
                return None
            found.append(principal)
            return token_account(principal.name, hashlib.sha256(token.encode()).hexdigest())

        account = await self._tried("token", asked, attempt, "this is no token of this node")
        return await self._open(account, found[0].name, asked)

    async def make_first(self, code: str, name: str, password: str, asked: Asked) -> str:
        """Make the first user, an administrator, for who has the one-time code, and sign in. Raises `Unauthenticated`, `Malformed`."""
        passwords.check_new(password, check_name(name))

        async def attempt() -> str | None:
            right = self.first and hmac.compare_digest(_plain(code), _plain(self._code_file.read_text("ascii")))
            return f"user {name}" if right else None

        account = await self._tried("first user", asked, attempt, f"this is not the code that stands in {CODE_FILE}")
        kept = await self._accounts.in_thread(partial(passwords.kept, password))
        deed = Deed(f"user {name}", "made the first user", name, source=asked.source, trace=asked.trace)
        await self._accounts.commit((user_write(User(name, Role.ADMIN, ((),), kept)),), deed)
        self._code_file.unlink(missing_ok=True)
        return await self._open(account, account, asked)

    async def end(self, session: str, deed: Deed) -> None:
        """End a session. Raises `NoSuchResource`."""
        path = (*SESSIONS, session)
        if self._node.tree.find(path) is None:
            raise NoSuchResource(path_text(path))
        await self._accounts.commit((Remove(path),), deed)

    async def _tried(self, account: str, asked: Asked, attempt: Callable[[], Awaitable[str | None]], wrong: str) -> str:
        """The account that an attempt gave, however long that took. Raises `Unauthenticated`, `TooManyRequests`."""
        reactor = self._node.reactor
        wait_s = self._guessing.begin(asked.source, account, reactor.seconds())
        found = None
        try:
            if wait_s:
                await self._wait(wait_s)
            found = await attempt()
        finally:
            self._guessing.end(asked.source, account, reactor.seconds(), right=found is not None)
        if found is None:
            deed = Deed(account, "tried to sign in", outcome=REFUSED, source=asked.source, trace=asked.trace)
            await self._accounts.commit((), deed)
            raise Unauthenticated(wrong)
        return found

    async def _wait(self, seconds: float) -> None:
        waiting: Deferred[None] = deferLater(self._node.reactor, seconds)
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    async def _open(self, account: str, who: str, asked: Asked) -> str:
        secret, changes = self._sessions.open(account, asked.source, asked.browser, self._node.reactor.seconds())
        deed = Deed(who, "signed in", source=asked.source, trace=asked.trace)
        await self._accounts.commit(changes, replace(deed, where=account.partition(" ")[0]))
        return secret


def _plain(code: str) -> bytes:
    """The letters and digits of a code, however it is typed."""
    return "".join(letter for letter in code.upper() if letter in _LETTERS).encode()
