"""Sign-in and sign-out. Open to all: nothing here says more than how one may sign in."""

from __future__ import annotations

from m2mapp.admin.pages import Answer, Page, Redirect, Shown
from m2mapp.admin.signing import Signing
from m2mapp.admin.visit import Visit
from m2mapp.model.errors import Fault, Malformed

SIGN_IN, SIGN_OUT = "sign-in", "sign-out"


class SignIn:
    """The two pages."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing

    def pages(self) -> tuple[Page, Page]:
        """Sign-in and sign-out."""
        acts = {"password": self._by_password, "token": self._by_token, "first": self._make_first}
        first = Page(SIGN_IN, "Sign in", self._show, acts, right=None, listed=False)
        return first, Page(SIGN_OUT, "Sign out", self._show_out, {"out": self._out}, right=None, listed=False)

    async def _show(self, visit: Visit) -> Answer:
        values = {"to": _target(visit.field("to") or visit.query("to")), "first": self._signing.first, "code_file": self._signing.code_file}
        return Shown("sign-in.html", values)

    async def _opened(self, visit: Visit, secret: str) -> Answer:
        """On, in the new session; the one before is over."""
        await self._end(visit)
        return Redirect(_target(visit.field("to")), secret)

    async def _by_password(self, visit: Visit) -> Answer:
        return await self._opened(visit, await self._signing.by_password(visit.field("name"), visit.field("password"), visit.asked))

    async def _by_token(self, visit: Visit) -> Answer:
        return await self._opened(visit, await self._signing.by_token(visit.field("token").strip(), visit.asked))

    async def _make_first(self, visit: Visit) -> Answer:
        password = repeated(visit)
        return await self._opened(visit, await self._signing.make_first(visit.field("code"), visit.field("name"), password, visit.asked))

    async def _show_out(self, visit: Visit) -> Answer:
        return Shown("sign-out.html")

    async def _out(self, visit: Visit) -> Answer:
        await self._end(visit)
        return Redirect(f"/admin/{SIGN_IN}", "")

    async def _end(self, visit: Visit) -> None:
        if visit.session is None:
            return
        visit.notices.forget(visit.session.id)
        try:
            await self._signing.end(visit.session.id, visit.deed("signed out"))
        except Fault:  # It was over meanwhile, or nothing can be written: the browser forgets it all the same.
            return


def repeated(visit: Visit) -> str:
    """The new password of a form, which has to be there twice. Raises `Malformed`."""
    password = visit.field("password")
    if password != visit.field("repeat"):
        raise Malformed("repeat", "this password", "the same as the one above")
    return password


def _target(text: str) -> str:
    """Where to go on: a page of this site, and no address elsewhere that only looks like one."""
    return text if text.startswith("/admin/") and "\\" not in text and "//" not in text and text.isprintable() else "/admin/"
