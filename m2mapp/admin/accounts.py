"""Who may sign in at the pages, and what each may do."""

from __future__ import annotations

from m2mapp.http.tokens import Tokens
from m2mapp.model.principal import Principal


class Accounts:
    """The accounts: those of the tokens that the HTTP edge knows."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._known: dict[str, Principal] = {}

    def by_token(self, token: str, source: str) -> str:
        """The account of a token. Raises `Unauthenticated`, or `TooManyRequests` after many wrong ones."""
        principal = self._tokens.principal(b"Bearer " + token.encode(), source)
        account = f"token {principal.name}"
        self._known[account] = principal
        return account

    def principal(self, account: str) -> Principal | None:
        """Who an account is and what it may do now; None where there is no such account any more."""
        return self._known.get(account)
