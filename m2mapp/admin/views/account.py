"""Account: what the visitor may do here, and the visitor's own password."""

from __future__ import annotations

from functools import partial

from m2mapp.admin import passwords
from m2mapp.admin.accounts import Accounts
from m2mapp.admin.pages import Answer, Page, Redirect, Shown
from m2mapp.admin.views.sign_in import repeated
from m2mapp.admin.visit import Visit
from m2mapp.model.errors import Forbidden


def account(accounts: Accounts) -> Page:
    """The page."""

    async def show(visit: Visit) -> Answer:
        return Shown("account.html", {"user": accounts.user(_name(visit))})

    async def set_password(visit: Visit) -> Answer:
        user = accounts.user(_name(visit))
        password = repeated(visit)
        if user is None or visit.session is None:
            raise Forbidden("only a user has a password: you signed in with a token")
        if not await accounts.in_thread(partial(passwords.is_right, visit.field("old"), user.password)):
            await accounts.commit((), visit.deed("gave a wrong old password"))
            raise Forbidden("the old password is another one")
        await accounts.set_password(user.name, password, visit.deed("set the own password"), but=visit.session.id)
        visit.done("you have a new password; your other sessions have ended")
        return Redirect("/admin/account")

    return Page("account", "Account", show, {"set-password": set_password}, listed=False)


def _name(visit: Visit) -> str:
    """The name of the user who visits; empty for who signed in with a token."""
    kind, _, name = visit.session.account.partition(" ") if visit.session is not None else ("", "", "")
    return name if kind == "user" else ""
