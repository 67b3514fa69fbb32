"""Sign-in and sign-out. Open to all: nothing here says more than who may sign in how."""

from __future__ import annotations

from m2mapp.admin.accounts import Accounts
from m2mapp.admin.pages import Answer, Page, Redirect, Shown
from m2mapp.admin.sessions import Sessions
from m2mapp.admin.visit import Visit

SIGN_IN, SIGN_OUT = "sign-in", "sign-out"


def sign_in(accounts: Accounts, sessions: Sessions) -> tuple[Page, Page]:
    """The two pages."""

    async def show(visit: Visit) -> Answer:
        return Shown("sign-in.html", {"to": _target(visit.field("to") or visit.query("to"))})

    async def by_token(visit: Visit) -> Answer:
        asked = visit.asked
        account = accounts.by_token(visit.field("token").strip(), asked.source)
        if visit.session is not None:
            sessions.end(visit.session.id)
        secret, _ = sessions.open(account, asked.source, asked.browser, visit.node.reactor.seconds())
        return Redirect(_target(visit.field("to")), secret)

    async def show_out(visit: Visit) -> Answer:
        return Shown("sign-out.html")

    async def out(visit: Visit) -> Answer:
        if visit.session is not None:
            sessions.end(visit.session.id)
            visit.notices.forget(visit.session.id)
        return Redirect(f"/admin/{SIGN_IN}", "")

    return (
        Page(SIGN_IN, "Sign in", show, {"token": by_token}, right=None, listed=False),
        Page(SIGN_OUT, "Sign out", show_out, {"out": out}, right=None, listed=False),
    )


def _target(text: str) -> str:
    """Where to go on: a page of this site, and no address elsewhere that only looks like one."""
    return text if text.startswith("/admin/") and "\\" not in text and "//" not in text else "/admin/"
