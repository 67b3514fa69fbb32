"""The site: from a request below `/admin` to the page that answers it.

Responsible for who visits, for rights to pages, for forms from elsewhere, and for faults as pages. Not responsible for what pages show.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.admin.accounts import Accounts
from m2mapp.admin.files import STATIC, Files
from m2mapp.admin.forms import check_origin, cookie, form_of, parse_pairs
from m2mapp.admin.live import SIGNED_OUT, Live
from m2mapp.admin.notices import Notices
from m2mapp.admin.pages import Answer, Data, Page, Redirect, Shown
from m2mapp.admin.rendering import Renderer
from m2mapp.admin.replies import HTML, NO_STORE, redirect, reply, set_cookie
from m2mapp.admin.sessions import LONGEST_S, Session, Sessions, same
from m2mapp.admin.signing import Signing
from m2mapp.admin.visit import AdminNode, Asked, Visit
from m2mapp.http.answers import one_line
from m2mapp.http.connection import WireRequest
from m2mapp.http.headers import Fields, parse_path, split_target
from m2mapp.http.outlet import EVENT_STREAM, Outlets
from m2mapp.http.problems import STATUS, problem
from m2mapp.http.site import SITE, SiteAnswer, SiteAnswered
from m2mapp.model.errors import (
    DeadlinePassed,
    Fault,
    Forbidden,
    InternalError,
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    Unauthenticated,
)
from m2mapp.model.principal import Principal

_log = Logger()

SIGN_IN = "sign-in"
EVENTS = "/admin/events"
_READS, _POST = (b"GET", b"HEAD"), b"POST"
_MAX_BROWSER = 200


@dataclass(frozen=True, slots=True)
class Doors:
    """What the site is joined to: who may sign in, who is, what they were told, what has changed."""

    accounts: Accounts
    signing: Signing
    sessions: Sessions
    notices: Notices
    live: Live


class Site:
    """Answers all below `/admin`. `pages` are those that there are."""

    def __init__(self, node: AdminNode, pages: Sequence[Page], doors: Doors) -> None:
        self._node, self.doors = node, doors
        self.pages = tuple(pages)
        self._named = {page.name: page for page in pages}
        self._files = Files()
        self._renderer = Renderer(self._files, pages, node.name)
        # Cookies know no port: two nodes on one host must not sign each other's visitors out.
        self._cookie = f"m2mapp-{zlib.crc32(node.name.encode()):08x}"

    def __call__(self, wire: WireRequest, fields: Fields, outlets: Outlets) -> SiteAnswered:
        """The answer to one request; None where a stream was opened. Every `Fault` is told as a page."""
        visit = Visit(self._node, self.doors.live, self.doors.notices, Asked(trace=wire.trace))
        try:
            raw_path, raw_query = split_target(wire.uri)
            visit.asked = Asked(
                query=parse_pairs(raw_query, "query"),
                source=wire.connection.host,
                browser=fields.get(b"User-Agent", b"").decode("latin-1")[:_MAX_BROWSER],
                secure=wire.isSecure(),
                trace=wire.trace,
            )
            return self._answer(wire, fields, outlets, visit, raw_path)
        except Fault as fault:
            return self._fault_page(visit, fault, head_only=wire.method == b"HEAD")

    def _answer(self, wire: WireRequest, fields: Fields, outlets: Outlets, visit: Visit, raw_path: bytes) -> SiteAnswered:
        reading = wire.method in _READS
        if not reading and wire.method != _POST:
            raise MethodNotAllowed(wire.method.decode("ascii", "replace"), raw_path.decode("ascii", "replace"), ("GET", "POST"))
        path = raw_path.decode("ascii", "replace")
        if path == SITE.decode():
            return redirect("/admin/")
        if reading and path.startswith(STATIC):
            name = path.removeprefix(STATIC)
            found = self._files.answer(name, visit.query("v") or None, fields, head_only=wire.method == b"HEAD")
            if found is None:
                raise NoSuchResource(path)
            return found
        self._recognise(visit, cookie(fields, self._cookie))
        if reading and path == EVENTS:
            return self._open_stream(wire, visit, outlets)
        page = self._page(visit, raw_path)
        if not self._allowed(visit, page):
            return self._turned_away(visit, page, wire, fields)
        return self._show(wire, page, visit) if reading else self._act(wire, fields, page, visit)

    def _recognise(self, visit: Visit, secret: str | None) -> None:
        if secret is None:
            return
        session = self.doors.sessions.find(secret, self._node.reactor.seconds())
        principal = self.doors.accounts.principal(session.account) if session is not None else None
        if principal is not None:
            visit.session, visit.principal = session, principal

    def _page(self, visit: Visit, raw_path: bytes) -> Page:
        segments = parse_path(raw_path[len(SITE) :].rstrip(b"/") or b"/")
        page = self._named.get(segments[0] if segments else "")
        if page is None:
            raise NoSuchResource(raw_path.decode("ascii", "replace"))
        visit.page, visit.rest = page.name, segments[1:]
        return page

    @staticmethod
    def _allowed(visit: Visit, page: Page) -> bool:
        return page.right is None or (visit.session is not None and page.open_to(visit.principal))

    def _turned_away(self, visit: Visit, page: Page, wire: WireRequest, fields: Fields) -> SiteAnswer:
        if visit.session is not None:
            raise Forbidden(f"{visit.principal.name} may not see this page: it needs the right to {page.right.value if page.right else ''}")
        if wire.method in _READS and b"M2m-Live" not in fields:
            return redirect(f"/admin/{SIGN_IN}?to={quote(wire.uri.decode('ascii', 'replace'), safe='')}")
        raise Unauthenticated("you are not signed in, or your session has ended")

    def _open_stream(self, wire: WireRequest, visit: Visit, outlets: Outlets) -> SiteAnswer | None:
        session = visit.session
        if session is None:
            # A stream that says so and ends: of an error's status a script learns nothing (WHATWG HTML, 9.2.3).
            return reply(200, EVENT_STREAM, SIGNED_OUT, head_only=wire.method == b"HEAD")
        self.doors.live.open(wire, lambda: self._still(session), outlets)
        return None

    def _still(self, session: Session) -> Principal | None:
        if not self.doors.sessions.is_open(session, self._node.reactor.seconds()):
            return None
        return self.doors.accounts.principal(session.account)

    # Pages and actions.

    def _show(self, wire: WireRequest, page: Page, visit: Visit) -> SiteAnswered:
        head_only = wire.method == b"HEAD"
        answer = Deferred.fromCoroutine(page.show(visit))
        return answer.addCallback(self._render, visit, head_only=head_only).addErrback(self._failed, visit, head_only=head_only)

    def _act(self, wire: WireRequest, fields: Fields, page: Page, visit: Visit) -> SiteAnswered:
        check_origin(fields)
        visit.form = form_of(fields, wire.body)
        if visit.session is not None and not same(visit.field("csrf"), visit.session):
            raise Forbidden("this form is not of a page that you opened in this session: open the page again")
        act = page.acts.get(visit.field("do"))
        if act is None:
            raise Malformed("do", visit.field("do"), f"one of {', '.join(page.acts) or 'nothing: this page takes no form'}")
        doing = Deferred.fromCoroutine(act(visit))
        # Who goes away ends the waiting and not what is done, nor its entry in the audit list.
        answer: Deferred[Answer] = Deferred()
        doing.addCallbacks(answer.callback, answer.errback)
        answer.addErrback(self._again, page, visit)
        return answer.addCallback(self._render, visit).addErrback(self._failed, visit)

    @staticmethod
    def _again(failure: Failure, page: Page, visit: Visit) -> Deferred[Answer]:
        """The page once more, with what could not be done at its top and the form as it was filled in."""
        failure.trap(Fault)
        if isinstance(failure.value, Fault):
            visit.fault = failure.value
        return Deferred.fromCoroutine(page.show(visit))

    def _render(self, answer: Answer, visit: Visit, *, head_only: bool = False) -> SiteAnswer:
        if isinstance(answer, Redirect):
            return redirect(answer.to, self._cookie_of(answer, visit))
        if isinstance(answer, Data):
            return reply(200, answer.media_type, answer.body, head_only=head_only)
        status = answer.status if visit.fault is None else STATUS[visit.fault.kind]
        return reply(status, HTML, self._renderer.render(answer, visit), head_only=head_only)

    def _cookie_of(self, answer: Redirect, visit: Visit) -> bytes | None:
        if answer.secret is None:
            return None
        return set_cookie(self._cookie, answer.secret, secure=visit.asked.secure, max_age_s=int(LONGEST_S) if answer.secret else 0)

    def _failed(self, failure: Failure, visit: Visit, *, head_only: bool = False) -> SiteAnswer:
        error = failure.value
        if isinstance(error, CancelledError):
            error = DeadlinePassed("no answer came in time; what was asked may still be done")
        elif not isinstance(error, Fault):
            _log.failure("{trace} the page {page} failed", failure, trace=visit.asked.trace, page=visit.page or "overview")
            error = InternalError()
        return self._fault_page(visit, error, head_only=head_only)

    def _fault_page(self, visit: Visit, fault: Fault, *, head_only: bool) -> SiteAnswer:
        values = {"fault": fault, "trace": visit.asked.trace}
        status = STATUS[fault.kind]
        body = self._renderer.render(Shown("error.html", values, fault.title, status), visit)
        own = (b"%s: %s\r\n" % (name, one_line(value)) for name, value in problem(fault, "", visit.asked.trace).fields)
        return reply(status, HTML, body, head_only=head_only, fields=(NO_STORE, *own))
