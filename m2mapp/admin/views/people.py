"""People, for administrators: users with their roles, tokens that can be taken back, open sessions, and the audit list."""

from __future__ import annotations

from m2mapp.admin.accounts import Accounts
from m2mapp.admin.audit import AUDIT, AUDIT_REFUSED
from m2mapp.admin.pages import Answer, Page, Redirect, Shown
from m2mapp.admin.records import ADMIN, User, check_name, check_role, check_scopes
from m2mapp.admin.sessions import Sessions
from m2mapp.admin.signing import Signing
from m2mapp.admin.views.sign_in import repeated
from m2mapp.admin.visit import Visit
from m2mapp.model.principal import Right

_AT = "/admin/people"
_AUDIT_SHOWN = 200


class People:
    """The page of users, tokens and sessions, and that of the audit list."""

    def __init__(self, accounts: Accounts, sessions: Sessions, signing: Signing) -> None:
        self._accounts, self._sessions, self._signing = accounts, sessions, signing

    def pages(self) -> tuple[Page, Page]:
        """The two pages."""
        acts = {
            "make-user": self._make_user,
            "change-user": self._change_user,
            "set-password": self._set_password,
            "remove-user": self._remove_user,
            "make-token": self._make_token,
            "remove-token": self._remove_token,
            "end-session": self._end_session,
        }
        people = Page("people", "People", self._show, acts, Right.ADMIN, where=ADMIN)
        return people, Page("audit", "Audit", self._audit, right=Right.ADMIN, where=ADMIN)

    async def _show(self, visit: Visit) -> Answer:
        return await self._shown(visit, "")

    async def _shown(self, visit: Visit, token: str) -> Answer:
        now_s = visit.node.reactor.seconds()
        values = {
            "users": self._accounts.users(),
            "tokens": self._accounts.tokens(),
            "sessions": self._sessions.all(now_s),
            "now_s": now_s,
            "token": token,
        }
        return Shown("people.html", values)

    async def _make_user(self, visit: Visit) -> Answer:
        name = check_name(visit.field("name"))
        user = User(name, check_role(visit.field("role")), check_scopes(visit.field("scopes")), "")
        await self._accounts.make_user(user, repeated(visit), visit.deed("made a user", name))
        visit.done(f"the user {name} can sign in")
        return Redirect(_AT)

    async def _change_user(self, visit: Visit) -> Answer:
        name, role = visit.field("user"), check_role(visit.field("role"))
        await self._accounts.change_user(name, role, check_scopes(visit.field("scopes")), visit.deed(f"made {role.value}", name))
        visit.done(f"{name} is {role.value} from now on")
        return Redirect(_AT)

    async def _set_password(self, visit: Visit) -> Answer:
        name = visit.field("user")
        await self._accounts.set_password(name, repeated(visit), visit.deed("set the password of", name))
        visit.done(f"{name} has a new password, and is signed out everywhere")
        return Redirect(_AT)

    async def _remove_user(self, visit: Visit) -> Answer:
        name = visit.field("user")
        await self._accounts.remove_user(name, visit.deed("removed the user", name))
        visit.done(f"the user {name} is removed, and signed out everywhere")
        return Redirect(_AT)

    async def _make_token(self, visit: Visit) -> Answer:
        """The one answer to an action that is a page: the token is told here and never again, so it may not stand in an address."""
        name = check_name(visit.field("name"))
        role, scopes = check_role(visit.field("role")), check_scopes(visit.field("scopes"))
        token = await self._accounts.make_token(name, role, scopes, visit.deed("made a token", name))
        return await self._shown(visit, token)

    async def _remove_token(self, visit: Visit) -> Answer:
        name = visit.field("token")
        await self._accounts.remove_token(name, visit.deed("took back the token", name))
        visit.done(f"the token {name} is worth nothing any more")
        return Redirect(_AT)

    async def _end_session(self, visit: Visit) -> Answer:
        await self._signing.end(visit.field("session"), visit.deed("ended a session", visit.field("session")))
        visit.done("the session has ended")
        return Redirect(_AT)

    async def _audit(self, visit: Visit) -> Answer:
        """Both journals as one list, the newest first."""
        done, refused = [await visit.journal(name, ADMIN, _AUDIT_SHOWN) for name in (AUDIT, AUDIT_REFUSED)]
        entries = sorted((*done, *refused), key=lambda entry: entry.at_ms, reverse=True)
        return Shown("audit.html", {"entries": entries[:_AUDIT_SHOWN]})
