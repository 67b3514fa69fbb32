"""Bearer tokens (RFC 6750): who a request comes from, and the token of the administrator that the first start writes.

Not responsible for what a principal may do (`tree.access`). Tokens are kept as SHA-256 digests; nothing secret is logged.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from m2mapp.model.errors import TooManyRequests, Unauthenticated, shown
from m2mapp.model.identifiers import Path
from m2mapp.model.principal import NOBODY, ROLE_RIGHTS, Principal, Role
from m2mapp.store.kept import write_aside

_log = Logger()

ADMIN_TOKEN = "admin.token"  # noqa: S105 - the name of a file
ADMINISTRATOR = Principal("admin", ROLE_RIGHTS[Role.ADMIN])
"""Whom the token of that file names."""
_ADMIN_BYTES = 32
_MIN_CHARACTERS, _MAX_CHARACTERS = 16, 512
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_MINUTE_S = 60.0
_MAX_SOURCES = 1024
_FINGERPRINT_CHARACTERS = 16


class TokenFileError(Exception):
    """A token file cannot be used: says which file and why. For who starts the program, never for a client."""


@dataclass(frozen=True, slots=True)
class TokenSetting:
    """One configured token: a name for records, its role, the file that holds it, and the subtrees in which it is good."""

    name: str
    role: Role
    token_file: str
    scopes: tuple[Path, ...] = ((),)


class Tokens:
    """Finds the principal of a request. `anonymous` gives the principal of a request without a token by its source address.

    A source that tried `failures_per_minute` wrong tokens is refused, whatever it shows, until the minute is over. `issued` gives the
    principal of a token that was made while the node ran, by its digest; `generation` grows when one of these is taken back, so that
    nobody goes on with what was found before.
    """

    def __init__(
        self,
        known: Iterable[tuple[str, Principal]],
        reactor: IReactorTime,
        failures_per_minute: int,
        anonymous: Callable[[str], Principal] = lambda source: NOBODY,
    ) -> None:
        self._known = tuple((_digest(token.encode()), principal) for token, principal in known)
        self._reactor = reactor
        self._limit = failures_per_minute
        self._anonymous = anonymous
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.issued: Callable[[bytes], Principal | None] = lambda _: None
        self.generation = 0

    def principal(self, authorization: bytes | None, source: str) -> Principal:
        """Who an `Authorization` field names. Raises `Unauthenticated` for a wrong token, `TooManyRequests` after many of them."""
        if authorization is None:
            return self._anonymous(source)
        self._check_failures(source)
        match = _BEARER.fullmatch(authorization)
        found = self._find(match[1]) if match is not None else None
        if found is None:
            self._failed(source)
            raise Unauthenticated("the Authorization field names no token of this node")
        return replace(found, source=source)

    def _find(self, token: bytes) -> Principal | None:
        digest = _digest(token)
        found = None
        # All are compared, each in constant time, so that the time says nothing of which one matched.
        for known, principal in self._known:
            if hmac.compare_digest(known, digest):
                found = principal
        return found or self.issued(digest)

    def find(self, token: str) -> Principal | None:
        """The principal of a token, or None. Who asks slows down those that guess."""
        return self._find(token.encode()) if token.isascii() else None

    def by_fingerprint(self, fingerprint: str) -> Principal | None:
        """The principal of a configured token whose `fingerprint` this is; None where there is none."""
        return next((principal for known, principal in self._known if fingerprint == known.hex()[:_FINGERPRINT_CHARACTERS]), None)

    def _check_failures(self, source: str) -> None:
        count, ends = self._failures.get(source, (0, 0.0))
        now = self._reactor.seconds()
        if now >= ends:
            self._failures.pop(source, None)
        elif count >= self._limit:
            raise TooManyRequests("too many wrong tokens from this address", max(1, round(ends - now)))

    def _failed(self, source: str) -> None:
        count, ends = self._failures.get(source, (0, self._reactor.seconds() + _MINUTE_S))
        self._failures[source] = (count + 1, ends)
        if count + 1 == self._limit:
            _log.warn("{count} wrong tokens from {source} in a minute: it is refused for the rest of it", count=self._limit, source=source)
        while len(self._failures) > _MAX_SOURCES:
            self._failures.popitem(last=False)


def load_tokens(state_dir: str, settings: Iterable[TokenSetting]) -> list[tuple[str, Principal]]:
    """The tokens with their principals: the administrator's, made if this is the first start, and the configured ones.

    Raises `TokenFileError`, or `OSError` where the state directory cannot be written.
    """
    known = [(_admin_token(FilePath(state_dir)), ADMINISTRATOR)]
    for setting in settings:
        token = _read_token(FilePath(setting.token_file))
        known.append((token, Principal(setting.name, ROLE_RIGHTS[setting.role], setting.scopes)))
    return known


def _admin_token(state_dir: FilePath) -> str:
    file = state_dir / ADMIN_TOKEN
    if not file.exists():
        write_aside(file, secrets.token_urlsafe(_ADMIN_BYTES).encode() + b"\n")
    elif file.stat().st_mode & 0o077:
        file.chmod(0o600)
        _log.warn("{file} could be read by others: its mode is 0600 again; others may know the token", file=str(file))
    return _read_token(file)


def _read_token(file: FilePath) -> str:
    try:
        content = file.read_bytes()[: _MAX_CHARACTERS + 2].strip()
    except OSError as error:
        raise TokenFileError(f"{file}: {error.strerror or error}") from error
    if not _MIN_CHARACTERS <= len(content) <= _MAX_CHARACTERS or not _TOKEN.fullmatch(content):
        expected = f"{_MIN_CHARACTERS} to {_MAX_CHARACTERS} characters of A-Z a-z 0-9 . _ ~ + / -"
        raise TokenFileError(f"{shown(str(file))} does not hold a token: {expected} on one line")
    return content.decode("ascii")


def fingerprint(digest: str) -> str:
    """By what a token is known without being said: the beginning of its digest (hexadecimal)."""
    return digest[:_FINGERPRINT_CHARACTERS]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
